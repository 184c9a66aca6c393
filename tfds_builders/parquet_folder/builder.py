"""The TFDS builder of parquet files that hold audio: `parquet_folder/NAME`."""

import functools
import pathlib
import threading

import pyarrow as pa
import tensorflow_datasets as tfds
from pyarrow import parquet

from jaxspoof import audio
from tfds_builders import records
from tfds_builders.errors import BuildError, Problems
from tfds_builders.parquet_folder import rows

_CACHED = 4  # row groups that readers keep; those of audio are some 10 MB


class ParquetFolder(records.OwnRecordBuilder):
  """A folder of parquet files, as public benchmarks mirror corpora.

  Rows stay in the order of the files: reading one means reading its group.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}
  BUILD_OPTIONS = ('--manual_dir=FOLDER',)
  ORDERED = True

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
      description='A corpus from parquet files that hold its audio.',
      features=records.features('notes'),
    )

  def _shard_iterators_per_split(self, dl_manager):
    folder = self.inputs.manual_dir
    if folder is None:
      raise BuildError(
        f'{self.name}/{self.builder_config.name} is not built, and there is no '
        'folder to build it from: say --manual_dir=FOLDER'
      )
    tables = rows.find(folder)
    problems, splits, labels = Problems(folder), {}, {}
    for split, paths in tables.items():
      splits[split] = [
        trial
        for path in paths
        for trial in rows.read(path, folder, problems, labels)
      ]
      records.check_each_once(split, splits[split], problems)
    problems.raise_if_any()
    for (column, label), count in sorted(labels.items()):
      kind = 'bona fide' if rows.is_bona_fide(label) else 'spoof'
      print(f'{column} {label!r} is taken as {kind}: {count:,} rows')
    return self.shards(splits, _Reader(folder), folder)

  def _finish(self, problems: Problems) -> None:
    self.leave_out(problems)


class _Reader:
  """Reads the audio of a row; threads share the groups that were read."""

  def __init__(self, folder: pathlib.Path):
    self._folder = folder
    self._lock = threading.Lock()
    self._group = functools.lru_cache(_CACHED)(self._read_group)

  def __call__(self, trial: records.Trial) -> tuple[bytes, float]:
    path, group, row = trial.source.rsplit(':', 2)
    with self._lock:
      data = self._group(path, int(group))[int(row)].as_py()
    name = f'{path}: {trial.utterance}'
    if not data:
      raise BuildError(f'{name}: no audio in its row')
    return data, len(audio.load(data, name)) / audio.SAMPLE_RATE

  def _read_group(self, path: str, group: int) -> pa.Array:
    with parquet.ParquetFile(self._folder / path) as file:
      column = rows.audio_column(file, path)
      table = file.read_row_group(group, columns=[f'{column}.bytes'])
    (chunk,) = table.column(column).combine_chunks().flatten()
    return chunk
