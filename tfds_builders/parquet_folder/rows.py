"""What the columns of a parquet file of audio mean, without its audio."""

import json
import pathlib
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from jaxspoof.classes import BONA_FIDE, UNKNOWN
from tfds_builders import records
from tfds_builders.errors import BuildError, Problems
from tfds_builders.wav_folder import manifest

# Columns of public sets, or keys of `notes`; the first that is there counts.
_LABEL = ('label', 'key', 'class')
_UTTERANCE = ('utterance', 'utterance_id', 'id', 'file_name', 'path')
_SPEAKER = ('speaker', 'speaker_id')
# Numbers mean the opposite in some sets: only words are taken.
_WORDS = [w for w in manifest.BONA_FIDE + manifest.SPOOF if not w.isdigit()]
_ATTACK = ('attack', 'attack_id', 'system_id', 'codec_name')


def find(folder: pathlib.Path) -> dict[str, list[pathlib.Path]]:
  """Returns the parquet files below a folder by their split.

  `data/train-00000-of-00005-0a1b.parquet`, `default/train/0000.parquet` and
  `train.parquet` are all of train.

  Raises:
    BuildError: no such files, or names that say no split.
  """
  splits, problems = {}, Problems(folder)
  for path in sorted(folder.rglob('*.parquet')):
    name = path.stem
    if re.fullmatch(r'\d+', name):
      name = path.parent.name
    split = re.sub(r'-\d+-of-\d+.*', '', name)
    if re.fullmatch(r'[A-Za-z]\w*', split, re.ASCII) and split != 'all':
      splits.setdefault(split, []).append(path)
    else:
      problems.add(
        f'{path.relative_to(folder)}: names no split, expected for example '
        'train-00000-of-00001.parquet'
      )
  problems.raise_if_any()
  if not splits:
    raise BuildError(f'{folder}: expected a folder that holds .parquet files')
  return splits


def read(
  path: pathlib.Path,
  folder: pathlib.Path,
  problems: Problems,
  labels: dict[tuple[str, str], int],
) -> Iterator[records.Trial]:
  """Yields the trials of a file; `source` is file, row group and row.

  Args:
    path: the file.
    folder: what messages and sources name it below.
    problems: gets what is wrong with rows.
    labels: counts rows by column and label, as the file has it.

  Raises:
    BuildError: no parquet file, or not the columns that are needed.
  """
  name = path.relative_to(folder).as_posix()
  try:
    file = parquet.ParquetFile(path)
  except (pa.ArrowInvalid, OSError) as error:
    raise BuildError(f'{path}: no whole parquet file ({error})') from error
  with file:
    held = audio_column(file, path)
    label, names = _label(file, path)
    text = [field.name for field in file.schema_arrow if field.name != held]
    inner = [f.name for f in file.schema_arrow.field(held).type]
    wanted = text + [f'{held}.path'] * ('path' in inner)
    size = path.stat().st_size // max(1, file.metadata.num_rows)
    row = 0
    for group in range(file.num_row_groups):
      for at, cells in enumerate(
        file.read_row_group(group, columns=wanted).to_pylist()
      ):
        row += 1
        embedded = cells.pop(held, None) or {}
        value = cells[label]
        value = names[value] if names and value is not None else value
        where = f'{name}: row {row}'
        if not _known(value):
          problems.add(
            f'{where}: {label} {value!r}, expected one of {", ".join(_WORDS)}'
          )
          continue
        count = labels.get((label, value), 0)
        labels[label, value] = count + 1
        cells[label] = value
        cells.setdefault('path', embedded.get('path'))
        yield _trial(cells, value, f'{name}:{group}:{at}', where, size)


def audio_column(file: parquet.ParquetFile, path: object) -> str:
  """Returns the column that holds audio: the one with `bytes` inside.

  Raises:
    BuildError: none, or several.
  """
  found = [
    field.name
    for field in file.schema_arrow
    if pa.types.is_struct(field.type)
    and field.type.get_field_index('bytes') >= 0
  ]
  if len(found) != 1:
    raise BuildError(
      f'{path}: {len(found)} columns of embedded audio in '
      f'{", ".join(file.schema_arrow.names)}; expected one, a struct with '
      '`bytes`, such as `audio`'
    )
  return found[0]


def is_bona_fide(label: str) -> bool:
  """Whether a label that was accepted means bona fide."""
  return label.lower() in manifest.BONA_FIDE


def _known(value: Any) -> bool:
  return isinstance(value, str) and value.lower() in _WORDS


def _label(
  file: parquet.ParquetFile, path: pathlib.Path
) -> tuple[str, list[str] | None]:
  """Returns the column of labels, and the names of its numbers."""
  schema = file.schema_arrow
  column = next((name for name in _LABEL if name in schema.names), None)
  if column is None:
    raise BuildError(
      f'{path}: no column {" or ".join(_LABEL)} in {", ".join(schema.names)}'
    )
  if not pa.types.is_integer(schema.field(column).type):
    return column, None
  stored = json.loads((schema.metadata or {}).get(b'huggingface', b'{}'))
  features = stored.get('info', {}).get('features', {})
  names = features.get(column, {}).get('names')
  if not names:
    raise BuildError(
      f'{path}: {column} holds numbers without names, and 1 is bona fide in '
      'some sets and spoof in others; expected a ClassLabel with names, or text'
    )
  return column, names


def _trial(
  cells: Mapping[str, Any], label: str, source: str, where: str, size: int
) -> records.Trial:
  known = dict(cells)
  notes = known.get('notes')
  if isinstance(notes, str) and notes.startswith('{'):
    known = json.loads(notes) | known

  def first(names: tuple[str, ...], default: str) -> str:
    found = (known.get(name) for name in names)
    return records.word(next((str(v) for v in found if v), default))

  attack = first(_ATTACK, UNKNOWN)
  if is_bona_fide(label):
    attack = BONA_FIDE
  elif attack.lower() in (BONA_FIDE, *manifest.BONA_FIDE):
    attack = UNKNOWN
  return records.Trial(
    first(_UTTERANCE, where.replace(': row ', ':')),
    first(_SPEAKER, '-'),
    attack,
    source,
    size,
    extra={'notes': json.dumps(known, default=str, sort_keys=True)},
  )
