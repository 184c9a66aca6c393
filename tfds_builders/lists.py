"""Reads lists of trials: columns between blanks, or CSV."""

import csv
import io
import re
import sys
from collections.abc import Callable, Mapping, Sequence

from tfds_builders.archive import Archive
from tfds_builders.errors import BuildError, Problems

# A row, by the names of its columns.
Row = Mapping[str, str]


def columns(
  files: Archive,
  path: str,
  patterns: Mapping[str, str],
  key: str | None = None,
  wrong: Callable[[Sequence[str]], str] = lambda fields: '',
) -> list[tuple[str, ...]]:
  """Reads a list of columns between blanks, with no header.

  Args:
    files: where the list is.
    path: path of the list.
    patterns: for the name of each column, in order, a regular expression that
      matches all of its content.
    key: the column that is different in each line; None if only whole lines
      are.
    wrong: says what else is wrong with the columns of a line; '' if nothing.

  Returns:
    The columns of each line.

  Raises:
    BuildError: lines that are no trial, or a key listed twice; all of them, by
      number.
  """
  problems, seen, rows = Problems(f'{files.path}: {path}'), {}, []
  line = re.compile(
    r'[ \t]*' + r'[ \t]+'.join(f'({p})' for p in patterns.values()) + r'\s*',
    re.ASCII,
  )
  at = None if key is None else list(patterns).index(key)
  text = files.read(path).decode('utf-8', errors='backslashreplace')
  for number, row in enumerate(text.splitlines(), 1):
    fields = row.split()
    found = wrong(fields) if line.fullmatch(row) else _wrong(fields, patterns)
    if found:
      problems.add(f'line {number}: {row[:80]!r}: {found}')
      continue
    name = ' '.join(fields) if at is None else fields[at]
    first = seen.setdefault(name, number)
    if first != number:
      problems.add(f'line {number}: {name} is on line {first} already')
    # Interned: a name that returns on each line is kept once.
    rows.append(tuple(map(sys.intern, fields)))
  if not text.strip():
    problems.add('no lines; expected one for each trial')
  problems.raise_if_any()
  return rows


def _wrong(fields: Sequence[str], patterns: Mapping[str, str]) -> str:
  """Says what is wrong with a line that does not match."""
  names = ' '.join(patterns)
  if len(fields) != len(patterns):
    return f'{len(fields)} columns, expected {len(patterns)}: {names}'
  for value, (name, pattern) in zip(fields, patterns.items(), strict=True):
    if not re.fullmatch(pattern, value, re.ASCII):
      return f'{name} {value!r}, expected {pattern}'
  return f'expected blanks between {names}'


def table(
  files: Archive,
  path: str,
  patterns: Mapping[str, str],
  delimiter: str = ',',
) -> list[Row]:
  """Reads a CSV file with a header.

  Args:
    files: where the table is.
    path: path of the table.
    patterns: for the name of each column that is needed, a regular expression
      that matches its content. There may be other columns.
    delimiter: what stands between columns.

  Raises:
    BuildError: a column is not there, or rows have other content.
  """
  name = f'{files.path}: {path}'
  try:
    text = files.read(path).decode('utf-8-sig')
  except UnicodeDecodeError as error:
    raise BuildError(f'{name}: expected UTF-8 text ({error})') from error
  # Where a bar is between columns, quotes are those of the text.
  quoting = csv.QUOTE_NONE if delimiter == '|' else csv.QUOTE_MINIMAL
  reader = csv.DictReader(
    io.StringIO(text, newline=''), delimiter=delimiter, quoting=quoting
  )
  header = reader.fieldnames or []
  if missing := [column for column in patterns if column not in header]:
    raise BuildError(
      f'{name}: no column {", ".join(missing)}; expected a header with '
      f'{delimiter.join(patterns)}, got {delimiter.join(header)[:80]!r}'
    )
  problems, rows = Problems(name), []
  for row in reader:
    for column, pattern in patterns.items():
      if not re.fullmatch(pattern, row[column] or ''):
        problems.add(
          f'line {reader.line_num}: {column} {row[column]!r}, '
          f'expected {pattern}'
        )
    rows.append(row)
  if not rows:
    problems.add('no rows below the header')
  problems.raise_if_any()
  return rows
