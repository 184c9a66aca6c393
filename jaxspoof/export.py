"""Writes a detector for programs that do not have this package.

  python -m jaxspoof.export runs/aasist_quickstart --out=exported
  python -m jaxspoof.export mine.zip --out=exported --input=recordings/

What is written computes the log-likelihood ratios of waves: the network with
its weights, the score and the calibration. Beside it lie its description and a
consumer of a few lines. Before any of it is there, it is read back and compared
with the detector on real clips; where they differ nothing is left.
"""

import argparse
import hashlib
import json
import os
import pathlib
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import export as jax_export

from jaxspoof import audio
from jaxspoof.audio import signal_checks
from jaxspoof.detector import Detector
from jaxspoof.machine import programs
from tfds_builders.quickstart import pack

CLOSE = 1e-4  # by which outputs and scores may differ
CLIPS = 6  # of the embedded speech, for the comparison
PLATFORMS = ('cpu', 'cuda', 'tpu')
DESCRIPTION, CONSUMER = 'export.json', 'consumer.py'

Arrays = Mapping[str, np.ndarray]


class ExportError(ValueError):
  """A detector that cannot be exported, or whose export is wrong."""


def main(argv: Sequence[str] | None = None) -> int:
  """Exports what the command line names; returns the exit status."""
  options = parser().parse_args(argv)
  programs.keep()
  try:
    found = export(options.bundle, options.out, options.format, options.input)
  except (ValueError, OSError) as error:
    print(f'export: error: {error}', file=sys.stderr)
    return 2
  print(
    f'{options.out}: {found["format"]} of {found["model"]}, '
    f'{found["bytes"] / 1e6:.2f} MB; differs from the detector by at most '
    f'{found["parity"]["largest"]["score"]:.1e} in the score of '
    f'{found["parity"]["clips"]} clips, alone and together. Try: python '
    f'{options.out}/{CONSUMER} a.wav'
  )
  return 0


def parser() -> argparse.ArgumentParser:
  """The command line."""
  made = argparse.ArgumentParser(
    prog='python -m jaxspoof.export',
    description=__doc__.split('\n')[0],
  )
  made.add_argument(
    'bundle', help='a bundle, or any other checkpoint that detect.py takes'
  )
  made.add_argument(
    '--format', choices=list(FORMATS), default='stablehlo', help='what to write'
  )
  made.add_argument(
    '--out',
    required=True,
    metavar='FOLDER',
    help='where to; a folder that is not there yet, or an earlier export',
  )
  made.add_argument(
    '--input',
    nargs='+',
    default=[],
    metavar='PATH',
    help='recordings, or folders of them, to compare on; by default speech that'
    ' comes with the package',
  )
  return made


def export(
  checkpoint: str | os.PathLike,
  out: str | os.PathLike,
  form: str = 'stablehlo',
  inputs: Sequence[str] = (),
) -> dict:
  """Writes a detector, if what is written computes the same.

  Args:
    checkpoint: as for `Detector.load`.
    out: a folder that is made, or an earlier export, which is replaced.
    form: a key of `FORMATS`.
    inputs: recordings, or folders of them, to compare on; by default speech of
      the embedded corpus.

  Returns:
    The description, as it is in `export.json`.

  Raises:
    ExportError: the folder holds something else, no recording can be read, or
      numbers differ by more than they may.
    ValueError: the checkpoint cannot be loaded.
  """
  out = pathlib.Path(out)
  if out.exists() and not (out / DESCRIPTION).is_file():
    raise ExportError(f'{out}: is there, and is no earlier export')
  detector = Detector.load(checkpoint)
  waves = clips(detector, inputs)
  name, write = FORMATS[form]
  out.parent.mkdir(parents=True, exist_ok=True)
  # Beside it, so that the folder is moved to its place whole.
  with tempfile.TemporaryDirectory(dir=out.parent, prefix=out.name) as folder:
    made = pathlib.Path(folder) / 'made'
    made.mkdir()
    call, description = write(detector, made / name)
    parity = compared(detector, call, waves)
    data = (made / name).read_bytes()
    description = {
      'format': form,
      'file': name,
      'bytes': len(data),
      'sha256': hashlib.sha256(data).hexdigest(),
      'model': detector.model,
      'detector': detector.identity(),
      'sample_rate': detector.sample_rate,
      'samples': detector.samples,
      'shorter_clips': 'repeated' if detector.bucket is None else 'padded',
      'shortest': detector.shortest,
      'classes': list(detector.classes),
      'calibrated': detector.calibrated,
      **description,
      'parity': parity,
    }
    text = json.dumps(description, indent=2) + '\n'
    (made / DESCRIPTION).write_text(text)
    (made / CONSUMER).write_text(consumer(detector, form, name))
    if out.exists():
      shutil.rmtree(out)
    made.rename(out)
  return description


# ------------------------------------------------------------- comparison ---
def clips(detector: Detector, inputs: Sequence[str]) -> list[np.ndarray]:
  """Waves to compare on, as `detector` scores them: float32 [n] each."""
  if not inputs:
    entries = pack.manifest()
    chosen = entries[:: max(1, len(entries) // CLIPS)][:CLIPS]
    return [
      pack.wave(one).astype(np.float32)[: detector.samples] for one in chosen
    ]
  paths: list[str] = []
  for one in inputs:
    paths += audio.find(one).files if os.path.isdir(one) else [one]
  found = []
  for path in paths:
    try:
      found.append(signal_checks.read(path, samples=detector.samples).wave)
    except audio.AudioError as error:
      print(f'export: not compared on {error}', file=sys.stderr)
  if not found:
    raise ExportError('none of the recordings to compare on can be read')
  return found


def batch_of(detector: Detector, waves: Sequence[np.ndarray]) -> Arrays:
  """Waves as the exported program takes them: all of one length."""
  batch = {'wave': np.zeros((len(waves), detector.samples), np.float32)}
  if detector.bucket is None:
    for row, wave in zip(batch['wave'], waves, strict=True):
      audio.fill(row, wave)
    return batch
  batch['samples'] = np.array(
    [
      audio.pad(row, wave, detector.shortest)
      for row, wave in zip(batch['wave'], waves, strict=True)
    ],
    np.int32,
  )
  return batch


def compared(
  detector: Detector,
  call: Callable[[Arrays], Arrays],
  waves: Sequence[np.ndarray],
) -> dict:
  """How far an export is from its detector, clips alone and together.

  Raises:
    ExportError: by more than `CLOSE`; LLRs by more than that times the slope
      of the calibration, if it is above 1.
  """
  _, outputs = detector.embed(waves)
  expected = {
    'outputs': outputs,
    'score': np.asarray(detector.loss.score(outputs)),
  }
  allowed = dict.fromkeys(('outputs', 'score', 'llr'), CLOSE)
  if detector.calibrated:
    expected['llr'] = detector.known.calibration(expected['score'])
    # A steep calibration makes more of a small difference.
    allowed['llr'] *= max(1.0, detector.known.calibration.slope)
  alone = [call(batch_of(detector, [wave])) for wave in waves]
  together = call(batch_of(detector, waves))
  largest = {}
  for name, wanted in expected.items():
    for found in (np.concatenate([a[name] for a in alone]), together[name]):
      if found.shape != wanted.shape:
        raise ExportError(
          f'the export gives {name} of shape {found.shape}, expected '
          f'{wanted.shape}'
        )
      far = float(np.abs(found - wanted).max())
      # Also where it is no number.
      if not far <= allowed[name]:
        raise ExportError(
          f'the export is wrong: {name} differs from the detector by {far:.3g},'
          f' expected at most {allowed[name]:.3g}; nothing is written'
        )
      largest[name] = max(far, largest.get(name, 0.0))
  return {
    'clips': len(waves),
    'largest': largest,
  }


# ---------------------------------------------------------------- formats ---
def answers(detector: Detector) -> Callable[..., dict[str, jax.Array]]:
  """The function that is exported: of a batch, to a dictionary of results."""

  def answer(**batch):
    _, outputs = detector.program(**batch)
    found = {'outputs': outputs, 'score': detector.loss.score(outputs)}
    if detector.calibrated:
      affine = detector.known.calibration
      found['llr'] = affine.slope * found['score'] + affine.intercept
    return found

  return answer


def specs(detector: Detector, size) -> dict[str, jax.ShapeDtypeStruct]:
  """Shapes of a batch of a size, which may be a symbol."""
  shapes = {'wave': jax.ShapeDtypeStruct((size, detector.samples), jnp.float32)}
  if detector.bucket is not None:
    shapes['samples'] = jax.ShapeDtypeStruct((size,), jnp.int32)
  return shapes


def stablehlo(detector: Detector, path: pathlib.Path):
  """Writes `jax.export`'s form; returns its call and its description."""
  (size,) = jax_export.symbolic_shape('batch')
  made = jax_export.export(
    jax.jit(answers(detector)), platforms=list(PLATFORMS)
  )(**specs(detector, size))
  path.write_bytes(made.serialize())
  read = jax_export.deserialize(bytearray(path.read_bytes()))

  def call(batch: Arrays) -> Arrays:
    return jax.tree.map(np.asarray, read.call(**batch))

  return call, {
    'batch': 'any',
    'platforms': list(read.platforms),
    'made_with': {'jax': jax.__version__},
    'calling_convention': read.calling_convention_version,
  }


# Name: the file that is written, and what writes it.
FORMATS = {'stablehlo': ('detector.stablehlo', stablehlo)}

_READ = '''"""{words} of mono WAV files of {rate} Hz and 16 bits."""
import pathlib, sys, wave
import numpy as np
{imports}

def read(path):
  with wave.open(path) as file:
    assert (file.getframerate(), file.getnchannels()) == ({rate}, 1), path
    return np.frombuffer(file.readframes(-1), '<i2') / np.float32(32768)

waves = [read(path) for path in sys.argv[1:]]
{batch}
found = {call}
for path, value in zip(sys.argv[1:], np.asarray(found['{name}'])):
  print(path, float(value))
'''
_REPEATED = """batch = {{
  'wave': np.stack([np.resize(wave, {samples}) for wave in waves])
}}"""
_PADDED = """def pad(wave):
  wave = np.resize(wave, max(len(wave), {shortest}))[:{samples}]
  return np.pad(wave, (0, {samples} - len(wave))), len(wave)

padded, samples = zip(*map(pad, waves))
batch = {{'wave': np.stack(padded), 'samples': np.array(samples, np.int32)}}"""
_CONSUMERS = {
  'stablehlo': (
    'from jax import export\n\n'
    'path = pathlib.Path(__file__).with_name({file!r})\n'
    'detector = export.deserialize(bytearray(path.read_bytes()))',
    'detector.call(**batch)',
  ),
}


def consumer(detector: Detector, form: str, file: str) -> str:
  """A program of a few lines that uses an export, without this package."""
  imports, call = _CONSUMERS[form]
  batch = _REPEATED if detector.bucket is None else _PADDED
  sizes = {'samples': detector.samples, 'shortest': detector.shortest}
  return _READ.format(
    words='LLRs' if detector.calibrated else 'Scores',
    rate=detector.sample_rate,
    imports=imports.format(file=file),
    batch=batch.format(**sizes),
    call=call,
    name='llr' if detector.calibrated else 'score',
  )


if __name__ == '__main__':
  sys.exit(main())
