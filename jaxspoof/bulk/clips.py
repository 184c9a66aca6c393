"""The recordings of a shard, one after the other."""

import os
import pathlib
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
from pyarrow import parquet

from jaxspoof import audio

_ROWS = 64  # of a parquet file that are held at once


class Item(NamedTuple):
  """One recording.

  Attributes:
    name: what results call it; unique in the plan.
    source: a path, or the encoded file; None where there is none.
    error: why not, as a sentence.
    left_out: no recording, but this many members of a tar that are none.
  """

  name: str
  source: str | bytes | None
  error: str | None = None
  left_out: int = 0


def read(content: Mapping[str, Any], root: str) -> Iterator[Item]:
  """Yields what is in a shard.

  Args:
    content: from `plan.list_of`.
    root: folder that names are relative to.
  """
  if 'files' in content:
    for name in content['files']:
      yield Item(name, os.path.join(root, name))
  elif 'tar' in content:
    yield from _tar(content['tar'], root)
  else:
    yield from _parquet(content['parquet'], content['group'], root)


def _tar(name: str, root: str) -> Iterator[Item]:
  """Members with the extension of a recording: `NAME.tar:MEMBER`."""
  left_out, times = 0, {}
  known = (*audio.EXTENSIONS, *audio.OTHER_EXTENSIONS)
  at = 'its beginning'
  try:
    with tarfile.open(os.path.join(root, name), 'r|*') as archive:
      for member in archive:
        if not member.isfile():
          continue
        path = pathlib.PurePosixPath(member.name)
        if path.name[0] == '.' or path.suffix.lower() not in known:
          left_out += 1
          continue
        data = archive.extractfile(member).read()
        at = member.name
        # A tar may hold a name twice.
        count = times[at] = times.get(at, 0) + 1
        shown = f'{name}:{at}' + (f' ({count})' if count > 1 else '')
        yield Item(shown, data)
  except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
    yield Item(name, None, f'{name}: damaged or cut behind {at} ({error})')
  if left_out:
    yield Item(name, None, left_out=left_out)


def _parquet(name: str, group: int, root: str) -> Iterator[Item]:
  """Rows of a group: `NAME.parquet:GROUP:ROW`, and the path that it holds."""
  row = 0
  try:
    with parquet.ParquetFile(os.path.join(root, name)) as file:
      column, inner = _audio(file, name)
      wanted = [f'{column}.{field}' for field in inner]
      for batch in file.iter_batches(_ROWS, row_groups=[group], columns=wanted):
        for value in batch.column(column).to_pylist():
          value = value or {}
          shown = ':'.join(
            filter(None, (name, str(group), str(row), value.get('path')))
          )
          error = f'{shown}: no audio in its row'
          data = value.get('bytes')
          yield Item(shown, data, None if data else error)
          row += 1
  except (pa.ArrowException, OSError, ValueError) as error:
    shown = f'{name}:{group}'
    yield Item(shown, None, f'{shown}: damaged from row {row} on ({error})')


def _audio(file: parquet.ParquetFile, name: str) -> tuple[str, list[str]]:
  """The column of audio, a struct with `bytes`, and what is taken of it."""
  for field in file.schema_arrow:
    if pa.types.is_struct(field.type):
      inner = [one.name for one in field.type]
      if 'bytes' in inner:
        return field.name, [x for x in ('bytes', 'path') if x in inner]
  raise ValueError(
    f'{name}: no column of embedded audio (a struct with `bytes`) in '
    f'{", ".join(file.schema_arrow.names)}'
  )
