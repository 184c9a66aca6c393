"""The TFDS builders of ADD 2023: `add2023_track1_2`, `add2023_track3`.

The folders are read where they lie, by their lists. Train and evaluation data
are published apart: a corpus is built of the splits that are there.
"""

import contextlib
import functools
import pathlib

import tensorflow_datasets as tfds

from jaxspoof import audio
from tfds_builders import archive, records
from tfds_builders.add2023 import official, protocol
from tfds_builders.errors import BuildError, Problems


class _Add2023(records.RecordBuilder):
  """What the tracks share."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}
  BUILD_OPTIONS = ('--manual_dir=DIR',)
  TRACK = ''  # key of official.TRACKS, and name of the folder

  def _info(self) -> tfds.core.DatasetInfo:
    """Returns the features; audio is the published WAV file."""
    return self.dataset_info_from_configs(
      description=f'ADD 2023 {self.TRACK}: genuine and fake speech.',
      features=records.features(),
      homepage=official.PAGE,
    )

  def _download_and_prepare(self, dl_manager, download_config=None) -> None:
    with contextlib.ExitStack() as self._opened:
      super()._download_and_prepare(dl_manager, download_config)

  def _shard_iterators_per_split(self, dl_manager):
    folder = self.inputs.manual_dir or pathlib.Path(
      self.data_dir_root, 'downloads', 'manual'
    )
    if self.inputs.download:
      raise BuildError(
        f'{self.name} is published in parts that must be unpacked by hand: '
        f'leave out --download. {self._how(folder)}'
      )
    packed = self._opened.enter_context(self._open(folder))
    splits = self._trials(packed)
    for split, part in official.TRACKS[self.TRACK].items():
      if split not in splits:
        print(
          f'note: no split {split}: {packed.path} has no '
          f'{_labels(part.folders[0])} ({part.record}). To add it later, '
          f'remove {pathlib.Path(self.data_dir_root, self.name)} and build '
          'again'
        )
    return self.shards(splits, functools.partial(_read, packed), packed.path)

  def _open(self, folder: pathlib.Path):
    """Opens the folder (or a zip of it) that has the list of any split."""
    for root in self._roots():
      if path := archive.find(folder, self.TRACK, root):
        return archive.opened(path, root)
    raise BuildError(self._missing(folder))

  def _roots(self) -> list[str]:
    """Returns the lists of all splits, in every place they may have."""
    parts = official.TRACKS[self.TRACK].values()
    return [_labels(folder) for part in parts for folder in part.folders]

  def _missing(self, folder: pathlib.Path) -> str:
    expected = ', '.join(f'{self.TRACK}/{root}' for root in self._roots())
    return (
      f'{self.name}: none of the lists of its splits is in {folder}; expected '
      f'{expected}, each with its clips in a folder wav beside it. '
      f'{self._how(folder)}'
    )

  def _how(self, folder: pathlib.Path) -> str:
    """Says how to get what is expected."""
    parts = official.TRACKS[self.TRACK].values()
    pages = dict.fromkeys(part.record for part in parts)
    packed = sorted(folder.glob('*.tar.gz*')) if folder.is_dir() else []
    said = f'{packed[0].name} is still packed. ' if packed else ''
    return (
      f'{said}Get the parts (CC BY-NC-ND 4.0) from {", ".join(pages)}, unpack '
      f'each archive there (cat NAME.tar.gz.* | tar -xz), and say '
      f'--manual_dir={folder}'
    )

  def _trials(self, packed: archive.Archive) -> dict[str, list[records.Trial]]:
    """Returns the trials of the splits that are there."""
    problems, splits = Problems(packed.path), {}
    for split, part in official.TRACKS[self.TRACK].items():
      folder = next(
        (f for f in part.folders if packed.size(_labels(f)) is not None), None
      )
      if folder is None:
        continue
      path = _labels(folder)
      lines = protocol.parse(
        packed.read(path), part.attacks, f'{packed.path}: {path}'
      )
      if part.clips not in (None, len(lines)):
        print(
          f'note: {split} lists {len(lines):,} clips, expected '
          f'{part.clips:,} (a number reported elsewhere)'
        )
      splits[split] = [
        _trial(position, line, split, folder, packed, problems)
        for position, line in enumerate(lines)
      ]
    problems.raise_if_any()
    return splits


class Add2023Track12(_Add2023):
  """Detection: the defending side of the fake game, two rounds of evaluation.

  No attack is named: fake clips are 'unknown'.
  """

  name = 'add2023_track1_2'
  TRACK = 'Track1.2'


class Add2023Track3(_Add2023):
  """Algorithm recognition: 6 algorithms, and unknown ones in evaluation."""

  name = 'add2023_track3'
  TRACK = 'Track3'


def _labels(folder: str) -> str:
  return f'{folder}/label.txt'


def _trial(
  position: int,
  line: protocol.Line,
  split: str,
  folder: str,
  packed: archive.Archive,
  problems: Problems,
) -> records.Trial:
  path = f'{folder}/wav/{line.file}'
  size = packed.size(path)
  if size is None:
    problems.add(f'{split}: {line.file} has no audio, expected {path}')
    size = 0
  return records.Trial(line.utterance, '-', line.attack, path, size, position)


def _read(packed: archive.Archive, trial: records.Trial) -> tuple[bytes, float]:
  """Reads a clip and decodes it, so that training need not fail on it."""
  data = packed.read(trial.source)
  samples = audio.load(data, trial.source)
  return data, len(samples) / audio.SAMPLE_RATE
