"""Score files in the official countermeasure format, `UTT SYSTEM KEY SCORE`.

  LA_E_2834763 A11 spoof -8.7505
  LA_E_5464494 - bonafide 4.3172

Separated by spaces, no header; SYSTEM is the attack, '-' for bona fide;
KEY is bonafide or spoof; a higher SCORE is more bona fide.
"""

import gzip
import math
import pathlib
from typing import NamedTuple

import numpy as np

from jaxspoof.files import write_atomically

FORMAT = 'UTTERANCE SYSTEM KEY SCORE, KEY being bonafide or spoof'
KEYS = {'spoof': 0, 'bonafide': 1}
LISTED = 10  # errors shown of a broken file


class ScoreFileError(ValueError):
  """A score file, or what should become one, breaks the format."""


class Scores(NamedTuple):
  """Scored trials, in the order of the file; each field [N].

  Attributes:
    utterance: str.
    attack: str, '-' for bona fide.
    label: int32, spoof 0, bona fide 1.
    scores: float64, higher = more bona fide.
  """

  utterance: np.ndarray
  attack: np.ndarray
  label: np.ndarray
  scores: np.ndarray


def write(path, utterance, attack, label, scores) -> None:
  """Write a score file, whole or not at all; a name in .gz is compressed.

  Scores keep every bit: reading gives back the same float64 (or float32)
  values, and so the same order and the same ties.

  Args:
    path: file to write; its folder is made.
    utterance: str [N], unique, without blanks.
    attack: str [N], '-' for bona fide, without blanks.
    label: int [N], spoof 0, bona fide 1.
    scores: float [N], higher = more bona fide.

  Raises:
    ScoreFileError: a value that the format cannot hold, or unequal lengths.
  """
  path = pathlib.Path(path)
  columns = [list(map(str, utterance)), list(map(str, attack))]
  columns.append(np.asarray(label).tolist())
  columns.append(np.asarray(scores, np.float64).tolist())
  if len(lengths := {len(column) for column in columns}) > 1:
    raise ScoreFileError(f'{path}: columns of different lengths {lengths}')
  names = {number: name for name, number in KEYS.items()}
  lines, errors = [], Errors(path, 'trial')
  for number, (utt, system, key, score) in enumerate(
    zip(*columns, strict=True), 1
  ):
    line = f'{utt} {system} {names.get(key, key)} {score!r}'
    errors.check(number, line)
    lines.append(line)
  errors.raise_if_any()
  write_atomically(path, ''.join(line + '\n' for line in lines))


def read(path) -> Scores:
  """Read a score file; `.gz` is decompressed.

  Args:
    path: file of lines `UTTERANCE SYSTEM KEY SCORE`.

  Returns:
    `Scores` in the order of the file.

  Raises:
    ScoreFileError: names the file and, of all lines that break the format
      (columns, key, score not a finite number, utterance seen before), the
      first ten and the count.
    OSError: no such file.
  """
  path = pathlib.Path(path)
  errors, rows = Errors(path, 'line'), []
  with _open(path) as lines:
    try:
      for number, line in enumerate(lines, 1):
        if line.strip():
          rows.append(errors.check(number, line))
    except (UnicodeDecodeError, gzip.BadGzipFile, EOFError) as error:
      raise ScoreFileError(f'{path}: not a text file: {error}') from error
  errors.raise_if_any()
  if not rows:
    raise ScoreFileError(f'{path}: empty; expected lines {FORMAT}')
  utterance, attack, label, scores = zip(*rows, strict=True)
  return Scores(
    np.array(utterance),
    np.array(attack),
    np.array(label, np.int32),
    np.array(scores, np.float64),
  )


class Errors:
  """Checks lines one by one and collects what is wrong with them."""

  def __init__(self, path: pathlib.Path, unit: str):
    self._path, self._unit = path, unit
    self._seen: dict[str, int] = {}
    self._found: list[str] = []

  def check(self, number: int, line: str):
    """Parse one line; returns (utterance, attack, label, score) or None."""
    fields = line.split()
    if len(fields) != 4:
      return self._add(number, f'{len(fields)} columns', line)
    utterance, attack, key, score = fields
    if key not in KEYS:
      return self._add(number, f'key {key!r}', line)
    try:
      value = float(score.replace('_', '?'))  # Python would read 1_0 as 10
    except ValueError:
      return self._add(number, f'score {score!r} is not a number', line)
    if not math.isfinite(value):
      return self._add(number, f'score {score} is not finite', line)
    first = self._seen.setdefault(utterance, number)
    if first != number:
      again = f'utterance {utterance} is on {self._unit} {first} already'
      return self._add(number, again, line)
    return utterance, attack, KEYS[key], value

  def _add(self, number, reason, line):
    shown = line.strip()
    shown = shown if len(shown) <= 60 else shown[:57] + '...'
    self._found.append(f'  {self._unit} {number}: {reason}: {shown!r}')

  def raise_if_any(self):
    """Raise ScoreFileError that lists what was found."""
    if not self._found:
      return
    listed = self._found[:LISTED]
    more = len(self._found) - len(listed)
    tail = [f'  and {more} more'] if more else []
    raise ScoreFileError(
      '\n'.join(
        [
          f'{self._path}: {len(self._found)} {self._unit}s not in the format '
          f'{FORMAT}:',
          *listed,
          *tail,
        ]
      )
    )


def _open(path: pathlib.Path):
  if path.suffix == '.gz':
    return gzip.open(path, 'rt', encoding='utf-8-sig')
  return path.open(encoding='utf-8-sig')
