"""The TFDS builder of one's own recordings: `wav_folder/NAME`."""

import functools
import pathlib

import tensorflow_datasets as tfds

from jaxspoof import audio
from jaxspoof.audio import signal_checks
from tfds_builders import records
from tfds_builders.errors import BuildError
from tfds_builders.wav_folder import manifest, splits

_COPY = 'manifest_copy'  # of the table, in the folder of the records


class WavFolder(records.OwnRecordBuilder):
  """Recordings listed in a CSV or TSV file; one config per table."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}
  BUILD_OPTIONS = ('--manifest=FILE',)

  def _info(self) -> tfds.core.DatasetInfo:
    """Returns the features; audio is the file as it was."""
    return self.dataset_info_from_configs(
      description="One's own recordings, from a table.",
      features=records.features(),
    )

  def take(self, inputs: records.Inputs) -> None:
    """Takes the table; what was built from another one stays as it is."""
    super().take(inputs)
    copy = pathlib.Path(self.data_dir, _COPY)
    if inputs.manifest is None or not copy.exists():
      return
    if _bytes(inputs.manifest) != copy.read_bytes():
      raise BuildError(
        f'{self.info.full_name} was built from another version of '
        f'{inputs.manifest}; choose another --name, or remove {self.data_dir}'
      )

  def _shard_iterators_per_split(self, dl_manager):
    path = self.inputs.manifest
    if path is None:
      raise BuildError(
        f'{self.name}/{self.builder_config.name} is not built, and there is no '
        'table to build it from: say --manifest=FILE'
      )
    table = manifest.read(path)
    _check(table)
    pathlib.Path(self.data_dir, _COPY).write_bytes(_bytes(path))
    _say_how_read(table)
    divided = _divided(table, path)
    self._heard = splits.Heard(divided)
    return self.shards(
      {split: [_trial(row) for row in rows] for split, rows in divided.items()},
      functools.partial(_read, heard=self._heard),
      path,
    )

  def _download_and_prepare(self, dl_manager, download_config=None) -> None:
    super()._download_and_prepare(dl_manager, download_config)
    for warning in self._heard.warnings():
      print(f'warning: {warning}')


def _bytes(path: pathlib.Path) -> bytes:
  try:
    return path.read_bytes()
  except OSError as error:
    raise BuildError(f'{path}: cannot be read ({error.strerror})') from error


def _check(table: manifest.Manifest) -> None:
  """Raises what is wrong with the table, and then also with the audio.

  Where nothing is wrong with the table, the audio is checked as it is stored.
  """
  for trial in map(_trial, table.rows) if len(table.problems) else ():
    try:
      _read(trial)
    except ValueError as error:
      table.problems.add(str(error), trial.position)
  table.problems.raise_if_any()


def _say_how_read(table: manifest.Manifest) -> None:
  for label, count in sorted(table.labels.items()):
    kind = 'bona fide' if label.lower() in manifest.BONA_FIDE else 'spoof'
    print(f'label {label!r} is taken as {kind}: {count:,} rows')
  if table.ignored:
    print(f'note: columns not used: {", ".join(table.ignored)}')


def _divided(
  table: manifest.Manifest, path: pathlib.Path
) -> dict[str, list[manifest.Row]]:
  """Returns rows by split, and says how they came about."""
  speakers = 'speaker' in table.columns
  if 'split' in table.columns:
    divided = {}
    for row in table.rows:
      divided.setdefault(row.split, []).append(row)
  else:
    divided = splits.divide(table.rows, by_speaker=speakers, of=path)
    shares = ', '.join(f'{n} {s:.0%}' for n, s in splits.SHARES.items())
    how = 'no speaker in two splits' if speakers else 'at random'
    print(
      f'no column split: divided {how}, about {shares}; seed {splits.SEED!r}'
    )
    if not speakers:
      print(
        'warning: no column speaker: the same person may be in train and eval, '
        'which makes results look better than they are'
      )
  for warning in splits.warnings(divided, speakers):
    print(f'warning: {warning}')
  return divided


def _trial(row: manifest.Row) -> records.Trial:
  return records.Trial(
    row.utterance,
    row.speaker,
    row.attack,
    str(row.path),
    row.path.stat().st_size,
    row.number,
  )


def _read(
  trial: records.Trial, heard: splits.Heard | None = None
) -> tuple[bytes, float]:
  """Reads a file and decodes it, so that training need not fail on it."""
  name = f'row {trial.position}: {trial.source}'
  try:
    data = pathlib.Path(trial.source).read_bytes()
  except OSError as error:
    raise BuildError(f'{name}: cannot be read ({error.strerror})') from error
  clip = audio.read(data, name)
  if heard is not None:
    silent = not signal_checks.has_sound(clip.wave).any()
    doubts = (*clip.warnings, *(['holds no sound'] * silent))
    heard.add(trial.position, clip.wave, doubts)
  return data, len(clip.wave) / audio.SAMPLE_RATE
