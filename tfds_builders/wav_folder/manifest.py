"""The table that lists one's own recordings.

A CSV or TSV file with a header. Columns: `path` (relative to the table) and
`label`; `speaker`, `attack`, `split`, `utterance` and `transcript`, which only
`make_spoofs` reads, if there are any. Public sets call the path `file` and the
like, and put | between columns.
"""

import csv
import dataclasses
import io
import os
import pathlib
import re
from collections.abc import Mapping

from tfds_builders.errors import BuildError, Problems
from tfds_builders.names import word

REQUIRED = ('path', 'label')
OPTIONAL = ('speaker', 'attack', 'split', 'utterance', 'transcript')
ALIASES = dict.fromkeys(
  ('file', 'filename', 'file_name', 'filepath', 'file_path', 'audio', 'wav'),
  'path',
)
BONA_FIDE = ('bonafide', 'bona-fide', 'real', 'genuine', 'human', '1')
SPOOF = ('spoof', 'fake', 'synthetic', '0')
UNKNOWN = 'unknown'  # attack of spoofs where the table does not say


@dataclasses.dataclass(frozen=True)
class Row:
  """One recording.

  Attributes:
    number: line of the table, the header being 1.
    path: the file.
    bona_fide: whether it is bona fide speech; otherwise it is a spoof.
    speaker: '-' where the table has no such column.
    attack: '-' for bona fide.
    split: '' where the table has no such column.
    utterance: unique in the table, without blanks.
    transcript: what is said; '' where the table does not tell.
  """

  number: int
  path: pathlib.Path
  bona_fide: bool
  speaker: str
  attack: str
  split: str
  utterance: str
  transcript: str = ''


@dataclasses.dataclass(frozen=True)
class Manifest:
  """A table that was read.

  Attributes:
    rows: the recordings, in the table's order.
    columns: the columns of the table that are used.
    ignored: the columns of the table that are not used.
    labels: number of rows by label, spelt as in the table.
    problems: what is wrong with the rows that are not in `rows`.
  """

  rows: tuple[Row, ...]
  columns: tuple[str, ...]
  ignored: tuple[str, ...]
  labels: Mapping[str, int]
  problems: Problems


def read(path: pathlib.Path) -> Manifest:
  """Reads a table and looks whether its files are there.

  Returns:
    The rows, and `problems` with those that cannot be used.

  Raises:
    BuildError: no such file, or no table with the columns required.
  """
  reader = _reader(path)
  header = _header(reader, path)
  problems, labels, rows = Problems(path), {}, []
  for fields in reader:
    if not any(field.strip() for field in fields):
      continue  # an empty line
    where = f'row {reader.line_num}'
    if len(fields) != len(header):
      problems.add(
        f'{where}: {len(fields)} columns, expected {len(header)}: '
        f'{", ".join(header)}',
        reader.line_num,
      )
      continue
    cells = dict(zip(header, (field.strip() for field in fields), strict=True))
    cells['path'] = _native(cells['path'], path.parent)
    labels[cells['label']] = labels.get(cells['label'], 0) + 1
    wrong = _wrong(cells, path.parent)
    for problem in wrong:
      problems.add(f'{where}: {problem}', reader.line_num)
    if not wrong:
      rows.append(_row(reader.line_num, cells, path.parent))
  _check_twice(rows, problems)
  if not rows and not problems:
    problems.add('no rows below the header')
  known = (*REQUIRED, *OPTIONAL)
  return Manifest(
    tuple(rows),
    tuple(name for name in header if name in known),
    tuple(name for name in header if name not in known),
    labels,
    problems,
  )


def _reader(path: pathlib.Path):
  try:
    text = path.read_text(encoding='utf-8-sig')
  except OSError as error:
    raise BuildError(
      f'{path}: cannot be read ({error.strerror}); expected a CSV or TSV file'
    ) from error
  except UnicodeDecodeError as error:
    raise BuildError(f'{path}: expected UTF-8 text ({error})') from error
  first = text.partition('\n')[0]
  delimiter = max('\t,;|', key=first.count)
  return csv.reader(io.StringIO(text, newline=''), delimiter=delimiter)


def _header(reader, path: pathlib.Path) -> list[str]:
  header = [name.strip().lower() for name in next(reader, [])]
  if 'path' not in header:
    header = [ALIASES.get(name, name) for name in header]
  if missing := [name for name in REQUIRED if name not in header]:
    raise BuildError(
      f'{path}: row 1: no column {" and no column ".join(missing)} in '
      f'{", ".join(header) or "an empty file"}; expected a header with '
      f'{", ".join(REQUIRED)} and, if known, {", ".join(OPTIONAL)}'
    )
  if twice := sorted({name for name in header if header.count(name) > 1}):
    raise BuildError(f'{path}: row 1: column {", ".join(twice)} is there twice')
  return header


def _native(text: str, folder: pathlib.Path) -> str:
  """A path with the backslashes of Windows, where that is a file here."""
  turned = text.replace('\\', '/')
  return turned if (folder / turned).is_file() else text


def _wrong(cells: Mapping[str, str], folder: pathlib.Path) -> list[str]:
  """Says what is wrong with a row."""
  found = []
  label = cells['label'].lower()
  if label not in BONA_FIDE + SPOOF:
    found.append(
      f'label {cells["label"]!r}, expected one of {", ".join(BONA_FIDE)} '
      f'(bona fide) or {", ".join(SPOOF)} (spoof)'
    )
  attack = cells.get('attack', '')
  if label in BONA_FIDE and attack.lower() not in ('', '-', 'bonafide'):
    found.append(f"attack {attack!r} of a bona fide row, expected '-' or none")
  if not cells['path']:
    found.append('no path')
  elif not (folder / cells['path']).is_file():
    hint = ''
    if '\\' in cells['path']:
      hint = ' (with backslashes: a path of another machine?)'
    found.append(f'no such file: {cells["path"]}{hint}')
  if cells.get('speaker') == '':
    found.append('no speaker, though there is a column for it')
  split = cells.get('split', 'train')
  if not re.fullmatch(r'[A-Za-z]\w*', split, re.ASCII) or split == 'all':
    found.append(f'split {split!r}, expected a word such as train, dev or eval')
  return found


def _row(number: int, cells: Mapping[str, str], folder: pathlib.Path) -> Row:
  bona_fide = cells['label'].lower() in BONA_FIDE
  attack = cells.get('attack', '')
  if attack in ('', '-') or bona_fide:
    attack = '-' if bona_fide else UNKNOWN
  return Row(
    number,
    folder / cells['path'],
    bona_fide,
    word(cells.get('speaker', '-')),
    word(attack),
    cells.get('split', ''),
    word(cells.get('utterance') or cells['path']),
    cells.get('transcript', ''),
  )


def _check_twice(rows: list[Row], problems: Problems) -> None:
  paths, utterances = {}, {}
  for row in rows:
    file = os.path.realpath(row.path)
    first = paths.setdefault(file, row.number)
    if first != row.number:
      problems.add(
        f'row {row.number}: {row.path} is in row {first} already', row.number
      )
      continue
    first = utterances.setdefault(row.utterance, row.number)
    if first != row.number:
      problems.add(
        f'row {row.number}: utterance {row.utterance!r} is in row {first} '
        'already; a column `utterance` may name each',
        row.number,
      )
