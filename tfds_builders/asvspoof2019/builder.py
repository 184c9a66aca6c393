"""The TFDS builders of ASVspoof 2019: `asvspoof2019_la`, `asvspoof2019_pa`.

The archive is read where it lies, by its protocols: the folders of audio also
hold enrolment utterances that are trials of no countermeasure.
"""

import contextlib
import dataclasses
import functools
import io
import pathlib
import wave

import numpy as np
import tensorflow_datasets as tfds

from jaxspoof import audio
from tfds_builders import archive, download, records
from tfds_builders.asvspoof2019 import official, protocol
from tfds_builders.errors import BuildError, Problems


@dataclasses.dataclass
class AudioConfig(tfds.core.BuilderConfig):
  """How the audio is stored.

  Attributes:
    pcm: decoded, 16 bit, in a WAV file: twice the disk space, and several
      times faster to read. Else the published FLAC files.
  """

  pcm: bool = False


class _Asvspoof2019(records.RecordBuilder):
  """What LA and PA share."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}
  BUILDER_CONFIGS = [
    AudioConfig(name='flac', description='The published FLAC files.'),
    AudioConfig(name='int16', description='16-bit PCM (WAV).', pcm=True),
  ]
  BUILD_OPTIONS = ('--manual_dir=DIR',)
  ACCESS = ''  # LA or PA
  EXTRA: tuple[str, ...] = ()  # further text fields of a record

  def _info(self) -> tfds.core.DatasetInfo:
    """Returns the features; audio is FLAC or WAV, 16 kHz, mono, 16 bit."""
    return self.dataset_info_from_configs(
      description=f'ASVspoof 2019 {self.ACCESS}: bona fide and spoofed speech.',
      features=records.features(*self.EXTRA),
      homepage=official.PAGE,
    )

  def _download_and_prepare(self, dl_manager, download_config=None) -> None:
    with contextlib.ExitStack() as self._opened:
      super()._download_and_prepare(dl_manager, download_config)

  def _shard_iterators_per_split(self, dl_manager):
    path = self._archive_path()
    root = protocol.paths(self.ACCESS)['train']
    packed = self._opened.enter_context(archive.opened(path, root))
    self._keep_asv_scores(packed)
    read = functools.partial(_read, packed, self.builder_config.pcm)
    return self.shards(self._trials(packed), read, path)

  def _keep_asv_scores(self, packed: archive.Archive) -> None:
    """Copies the organisers' verification scores, which the t-DCF needs."""
    folder = pathlib.Path(self.data_dir, 'asv_scores')
    for split, path in protocol.asv_paths(self.ACCESS).items():
      if packed.size(path) is None:
        print(f'note: {packed.path} has no {path}: no t-DCF of {split}')
        continue
      folder.mkdir(exist_ok=True)
      (folder / f'{split}.txt').write_bytes(packed.read(path))

  def _archive_path(self) -> pathlib.Path:
    folder = self.inputs.manual_dir or pathlib.Path(
      self.data_dir_root, 'downloads', 'manual'
    )
    root = protocol.paths(self.ACCESS)['train']
    if path := archive.find(folder, self.ACCESS, root):
      return path
    name, published = f'{self.ACCESS}.zip', official.ARCHIVES[self.ACCESS]
    if not self.inputs.download:
      raise BuildError(
        f'{self.name} needs {name}, and there is neither {folder / name} nor '
        f'{folder / root}. Get {name} ({published.gigabytes} GB, ODC-By 1.0) '
        f'from {official.PAGE}, put it there, packed or unpacked, and say '
        f'--manual_dir={folder}; or say --download'
      )
    download.fetch(
      published.urls, folder / name, published.size, published.sha256
    )
    return folder / name

  def _trials(self, packed: archive.Archive) -> dict[str, list[records.Trial]]:
    lines = {}
    for split, path in protocol.paths(self.ACCESS).items():
      if packed.size(path) is None:
        raise BuildError(f'{packed.path}: expected a file {path}')
      name = f'{packed.path}: {path}'
      lines[split] = protocol.parse(packed.read(path), self.ACCESS, name)
    for note in protocol.check_counts(lines, self.ACCESS, packed.path):
      print(f'note: {note} (a number reported elsewhere)')
    problems = Problems(packed.path)
    splits = {
      split: [
        self._trial(position, line, split, packed, problems)
        for position, line in enumerate(lines[split])
      ]
      for split in lines
    }
    problems.raise_if_any()
    return splits

  def _trial(
    self,
    position: int,
    line: protocol.Line,
    split: str,
    packed: archive.Archive,
    problems: Problems,
  ) -> records.Trial:
    path = f'ASVspoof2019_{self.ACCESS}_{split}/flac/{line.utterance}.flac'
    size = packed.size(path)
    if size is None:
      problems.add(f'{split}: {line.utterance} has no audio, expected {path}')
      size = 0
    # FLAC takes about one byte for a sample.
    size *= 1 + self.builder_config.pcm
    extra = _environment(line.environment) if self.ACCESS == 'PA' else {}
    return records.Trial(
      line.utterance, line.speaker, line.attack, path, size, position, extra
    )


class Asvspoof2019La(_Asvspoof2019):
  """Logical access: synthesised and converted speech, attacks A01 to A19."""

  name = 'asvspoof2019_la'
  ACCESS = 'LA'


class Asvspoof2019Pa(_Asvspoof2019):
  """Physical access: replayed speech, 9 attacks in 27 environments."""

  name = 'asvspoof2019_pa'
  ACCESS = 'PA'
  EXTRA = ('environment',)


@functools.cache
def _environment(name: str) -> dict[str, str]:
  """One dictionary for all trials of an environment: there are 200,000."""
  return {'environment': name}


def _read(
  packed: archive.Archive, pcm: bool, trial: records.Trial
) -> tuple[bytes, float]:
  """Reads a clip and compares its samples with the MD5 in its header."""
  data = packed.read(trial.source)
  samples, rate = audio.decode(data, trial.source, verify=True)
  channels = 1 if samples.ndim == 1 else samples.shape[1]
  if (rate, channels) != (audio.SAMPLE_RATE, 1):
    raise BuildError(
      f'{trial.source}: {rate} Hz, {channels} channels; '
      f'expected {audio.SAMPLE_RATE} Hz, mono'
    )
  stored = _wav(samples) if pcm else data
  return stored, len(samples) / rate


def _wav(samples: np.ndarray) -> bytes:
  """Returns 16-bit samples, float32 [n] here, in a WAV file."""
  file = io.BytesIO()
  with wave.open(file, 'wb') as writer:
    writer.setparams((1, 2, audio.SAMPLE_RATE, 0, 'NONE', ''))
    writer.writeframes(np.rint(samples * 32768).astype('<i2').tobytes())
  return file.getvalue()
