"""Score files in the official countermeasure format, `UTT SYSTEM KEY SCORE`.

  LA_E_2834763 A11 spoof -8.7505
  LA_E_5464494 - bonafide 4.3172

Separated by spaces, no header; SYSTEM is the attack, '-' for bona fide;
KEY is bonafide or spoof; a higher SCORE is more bona fide.
"""

import pathlib
from typing import NamedTuple

import numpy as np

from jaxspoof.machine.files import write_atomically
from jaxspoof.score_files import score_lists
from jaxspoof.score_files.columns import (
  KEYS,
  Problems,
  ScoreFileError,
  read_lines,
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
  score_lists.parse(enumerate(lines, 1), problems, score_lists.LAYOUTS[4])
  problems.raise_if_any()
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
  problems = Problems(path, expected)
  lines = read_lines(path, expected)
  rows, _ = score_lists.parse(lines, problems, score_lists.LAYOUTS[4])
  problems.raise_if_any()
  if not rows:
    raise ScoreFileError(f'{path}: empty; expected {expected}')
  found = rows.values()
  return Scores(
    np.array(list(rows)),
    np.array([row['attack'] for row in found]),
    np.array([row['key'] for row in found], np.int32),
    np.array([row['score'] for row in found], np.float64),
  )
