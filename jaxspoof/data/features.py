"""Features of clips on disk: computed once, read by every epoch.

Items of one number of features and any number of frames, in shards of
ArrayRecord, the format of built corpora. A shard is written whole or not at
all; which ones are missing is all that has to be known to go on.
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from jaxspoof.machine import files

DTYPE = np.dtype(ml_dtypes.bfloat16)
KEY = 'key.json'
_SUFFIX = '.array_record'


@dataclasses.dataclass(frozen=True)
class Store:
  """Features of clips, by their number.

  Attributes:
    directory: of the shards.
    items: number of clips.
    shard: number of clips in a shard; the last one may have fewer.
    features: number of features in a frame.
    frames: most frames of a clip.
    dtype: of the features.
  """

  directory: pathlib.Path
  items: int
  shard: int
  features: int
  frames: int
  dtype: np.dtype = DTYPE

  @property
  def shards(self) -> int:
    """Number of shards."""
    return -(-self.items // self.shard)

  def path(self, number: int) -> pathlib.Path:
    """Where a shard is, or will be."""
    name = f'{number:05d}-of-{self.shards:05d}{_SUFFIX}'
    return self.directory / name

  def size(self, number: int) -> int:
    """Number of clips in a shard."""
    return min(self.shard, self.items - number * self.shard)

  def missing(self) -> list[int]:
    """Numbers of the shards that are not there yet."""
    return [n for n in range(self.shards) if not self.path(n).is_file()]

  def write(self, number: int, clips: Iterable[np.ndarray]) -> None:
    """Writes a shard.

    Args:
      number: of the shard.
      clips: [frames, features] in `dtype`, in the order of their numbers.
    """
    from array_record.python import array_record_module

    path, count = self.path(number), 0
    partial = path.with_name(f'{path.name}.partial')
    # Compressed they would take nearly as much.
    writer = array_record_module.ArrayRecordWriter(
      str(partial), 'group_size:1,uncompressed'
    )
    for clip in clips:
      assert clip.dtype == self.dtype and clip.shape[1:] == (self.features,)
      writer.write(np.ascontiguousarray(clip).tobytes())
      count += 1
    writer.close()
    assert count == self.size(number)
    os.replace(partial, path)

  @contextlib.contextmanager
  def claimed(self):
    """Waits until no other process writes here."""
    self.directory.mkdir(parents=True, exist_ok=True)
    with (self.directory / 'lock').open('w') as file:
      fcntl.flock(file, fcntl.LOCK_EX)
      yield

  def read(self, number: int) -> np.ndarray:
    """The features of a clip, [frames, features] in `dtype`.

    Raises:
      ValueError: the shard is damaged, or was cut.
    """
    number, place = divmod(number, self.shard)
    path = self.path(number)
    try:
      data = _opened(path)[place]
      return np.frombuffer(data, self.dtype).reshape(-1, self.features)
    except (RuntimeError, IndexError, ValueError) as error:
      raise ValueError(
        f'{path}: damaged ({error}); delete it, and the same command computes '
        'it again'
      ) from error

  def batch(self, numbers: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Features of several clips, padded with zeros: one shape for all.

    Args:
      numbers: of the clips.

    Returns:
      [clips, frames, features] in `dtype`, and int32 [clips]: frames of each.
    """
    return _padded(self, [self.read(int(number)) for number in numbers])


@dataclasses.dataclass(frozen=True)
class Views:
  """Features of what training sees of a source, or of several in a row.

  Attributes:
    stores: of each source, that of epoch 0 and then that of the others.
    records: number of records of each source.
  """

  stores: tuple[Store, ...]
  records: tuple[int, ...]

  def batch(
    self, records: Sequence[int], epochs: Sequence[int]
  ) -> tuple[np.ndarray, np.ndarray]:
    """Features of several records; see `Store.batch`.

    Args:
      records: numbers of the records, those of all sources in a row.
      epochs: number of the epoch of each; of more than are kept, the first ones
        come again.
    """
    ends, found = np.cumsum(self.records), []
    for record, epoch in zip(records, epochs, strict=True):
      source = int(np.searchsorted(ends, record, side='right'))
      store, count = self.stores[source], self.records[source]
      place = int(record) - int(ends[source]) + count
      views = store.items // count
      found.append(store.read(int(epoch) % views * count + place))
    return _padded(self.stores[0], found)


def _padded(
  store: Store, clips: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
  """Clips side by side, followed by zeros, and the frames of each."""
  made = np.zeros((len(clips), store.frames, store.features), store.dtype)
  for row, clip in zip(made, clips, strict=True):
    row[: len(clip)] = clip
  return made, np.array([len(clip) for clip in clips], np.int32)


@functools.lru_cache(maxsize=1024)
def _opened(path: pathlib.Path):
  """The records of a shard; opened once in each process."""
  from array_record.python import array_record_data_source

  return array_record_data_source.ArrayRecordDataSource([str(path)])


def directory_of(
  root: str | os.PathLike, name: str, key: Mapping[str, Any]
) -> pathlib.Path:
  """The folder of the features that a key stands for; made, with the key.

  Args:
    root: of all features.
    name: what the folder's name begins with, for people.
    key: everything that the features depend on.

  Returns:
    The folder; another key has another one.
  """
  text = json.dumps(key, sort_keys=True)
  digest = hashlib.sha256(text.encode()).hexdigest()
  safe = ''.join(c if c.isalnum() else '-' for c in name)
  found = pathlib.Path(root) / f'{safe}-{digest[:16]}'
  if not (found / KEY).is_file():
    files.write_json(found / KEY, dict(key))
  return found
