"""Text files of columns, separated by blanks or tabs, checked line by line.

Everything that is wrong with a file is collected and said at once: the first
ten problems and how many there are.
"""

import gzip
import math
import pathlib
from collections.abc import Iterator

KEYS = {'spoof': 0, 'bonafide': 1}
LISTED = 10  # errors shown of a broken file


class ScoreFileError(ValueError):
  """A file of scores or trials, or what is to be one, breaks its format."""


class Problems:
  """Collects what is wrong with one file.

  Args:
    path: path of the file.
    expected: what the file should hold, in words.
    unit: what problems are counted in: 'line', or 'trial' for a file that is
      about to be written.
  """

  def __init__(self, path, expected: str, unit: str = 'line'):
    self.path, self._expected, self.unit = path, expected, unit
    self._found: list[str] = []

  def add(self, text: str) -> None:
    """Note one problem."""
    self._found.append(f'  {text}')

  def at_line(self, number: int, reason: str, fields: list[str]) -> None:
    """Note a problem of one line, or other unit."""
    shown = ' '.join(fields)
    shown = shown if len(shown) <= 60 else shown[:57] + '...'
    self.add(f'{self.unit} {number}: {reason}: {shown!r}')

  def raise_if_any(self) -> None:
    """Raise ScoreFileError that lists the first ten and counts all."""
    if not self._found:
      return
    listed, more = self._found[:LISTED], len(self._found) - LISTED
    tail = [f'  and {more} more'] if more > 0 else []
    head = (
      f'{self.path}: {len(self._found)} problem(s); expected {self._expected}'
    )
    raise ScoreFileError('\n'.join([head, *listed, *tail]))


def read_lines(path, expected: str = 'lines') -> Iterator[tuple[int, str]]:
  """Lines of a text file as (line number from 1, text); `.gz` is unpacked.

  Blank lines, a byte-order mark and the line ends of Windows are left out.

  Args:
    path: path of the file.
    expected: what the file should hold, in words, for error messages.

  Raises:
    ScoreFileError: the file is not text, or is empty.
    OSError: the file cannot be opened.
  """
  path, number = pathlib.Path(path), 0
  opened = gzip.open if path.suffix == '.gz' else open
  with opened(path, 'rt', encoding='utf-8-sig') as lines:
    try:
      for number, line in enumerate(lines, 1):
        if line := line.strip():
          yield number, line
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
      raise ScoreFileError(f'{path}: not a text file: {error}') from error
  if not number:
    raise ScoreFileError(f'{path}: empty; expected {expected}')


def read_rows(path) -> Iterator[tuple[int, list[str]]]:
  """Yields (line number, fields) of each line; see `read_lines`."""
  for number, line in read_lines(path):
    yield number, line.split()


# What headers call the columns.
_NAMES = {
  'utterance': 'filename file file_name path utterance utt trial',
  'score': 'cm-score cm_score score',
  'key': 'cm-label cm_label label key',
  'attack': 'attack system',
  'speaker': 'speaker',
}
_HEADERS = {
  word: name for name, text in _NAMES.items() for word in text.split()
}


def header(fields: list[str], needed: str) -> tuple[str, ...] | None:
  """Names of the columns, if a line is a header that has all those needed.

  Args:
    fields: the fields of the line.
    needed: names of columns, separated by blanks.

  Returns:
    The names, "-" for unknown ones; None if the line is no such header.
  """
  names = tuple(_HEADERS.get(field.lower(), '-') for field in fields)
  return names if set(needed.split()) <= set(names) else None


def parse_score(text: str) -> tuple[float, str | None]:
  """A score and what is wrong with it (None: nothing)."""
  try:
    value = float(text.replace('_', '?'))  # Python would read 1_0 as 10
  except ValueError:
    return 0.0, f'score {text!r} is not a number'
  if not math.isfinite(value):
    return 0.0, f'score {text} is not finite'
  return value, None


def parse_key(text: str) -> tuple[int, str | None]:
  """A label (spoof 0, bona fide 1) and what is wrong with it."""
  if text not in KEYS:
    return 0, f'key {text!r} is neither bonafide nor spoof'
  return KEYS[text], None
