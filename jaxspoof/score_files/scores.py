"""Score files in the official countermeasure format, `UTT SYSTEM KEY SCORE`.

  LA_E_2834763 A11 spoof -8.7505
  LA_E_5464494 - bonafide 4.3172

Separated by spaces, no header; SYSTEM is the attack, '-' for bona fide;
KEY is bonafide or spoof; a higher SCORE is more bona fide.
"""

import pathlib
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaxspoof.machine.files import write_atomically
from jaxspoof.score_files.columns import (
  KEYS,
  Problems,
  ScoreFileError,
  parse_key,
  parse_score,
  read_rows,
)

FORMAT = 'UTTERANCE SYSTEM KEY SCORE, KEY being bonafide or spoof'


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
  lines = [
    f'{utt} {system} {names.get(key, key)} {score!r}'
    for utt, system, key, score in zip(*columns, strict=True)
  ]
  problems = Problems(path, f'trials that fit {FORMAT}', 'trial')
  _parse(((n, x.split()) for n, x in enumerate(lines, 1)), problems, 'trial')
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
  expected = f'lines {FORMAT}'
  rows = _parse(read_rows(path, expected), Problems(path, expected), 'line')
  if not rows:
    raise ScoreFileError(f'{path}: empty; expected {expected}')
  utterance, attack, label, scores = zip(*rows, strict=True)
  return Scores(
    np.array(utterance),
    np.array(attack),
    np.array(label, np.int32),
    np.array(scores, np.float64),
  )


def _parse(rows: Iterable[tuple[int, list[str]]], problems: Problems, unit):
  """Trials as (utterance, attack, label, score); raises what is wrong."""
  found, first = [], {}
  for number, fields in rows:
    if len(fields) != 4:
      problems.at_line(number, f'{len(fields)} columns', fields)
      continue
    utterance, attack, key, text = fields
    label, wrong_key = parse_key(key)
    score, wrong_score = parse_score(text)
    wrong = wrong_key or wrong_score
    before = first.setdefault(utterance, number)
    if not wrong and before != number:
      wrong = f'utterance {utterance} is on {unit} {before} already'
    if wrong:
      problems.at_line(number, wrong, fields)
    found.append((utterance, attack, label, score))
  problems.raise_if_any()
  return found
