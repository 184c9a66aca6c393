"""Scores of a speaker verification system in the official format.

  bonafide target 7.981530
  bonafide nontarget -3.100215
  A14 spoof 29.252830

`CM_KEY ASV_KEY SCORE`, separated by blanks, no header, no utterance: CM_KEY is
bonafide or the name of the attack, ASV_KEY is target, nontarget or spoof.
"""

from typing import NamedTuple

import numpy as np

from jaxspoof.metrics import tdcf
from jaxspoof.score_files import columns

FORMAT = 'CM_KEY ASV_KEY SCORE, ASV_KEY being target, nontarget or spoof'
KINDS = ('target', 'nontarget', 'spoof')


class AsvScores(NamedTuple):
  """Scores by kind of trial, float64, higher = more like the claimed speaker.

  Attributes:
    target: [T], the claimed person speaks.
    nontarget: [M], another person speaks.
    spoof: [S], a machine speaks.
    attack: str [S], what made each spoof.
  """

  target: np.ndarray
  nontarget: np.ndarray
  spoof: np.ndarray
  attack: np.ndarray


def read(path) -> AsvScores:
  """Read a file of verification scores; `.gz` is decompressed.

  Args:
    path: file of lines `CM_KEY ASV_KEY SCORE`.

  Returns:
    `AsvScores`, each kind in the order of the file.

  Raises:
    ScoreFileError (a ValueError): lines that break the format, the first ten
      and the count; no line of one kind.
    OSError: no such file.
  """
  problems = columns.Problems(path, f'lines {FORMAT}')
  scores, attacks = {kind: [] for kind in KINDS}, []
  for number, fields in columns.read_rows(path):
    if reason := _add(fields, scores, attacks):
      problems.at_line(number, reason, fields)
  for kind, found in scores.items():
    if not found:
      problems.add(f'no {kind} trial')
  problems.raise_if_any()
  arrays = [np.array(scores[kind], np.float64) for kind in KINDS]
  return AsvScores(*arrays, np.array(attacks))


def rates(path) -> tdcf.AsvRates | None:
  """Error rates of a verification system at its EER threshold.

  Args:
    path: file of its scores; None = there is none.
  """
  if path is None:
    return None
  kinds = read(path)
  return tdcf.asv_rates(kinds.target, kinds.nontarget, kinds.spoof)


def _add(fields, scores, attacks) -> str | None:
  """Put one line where it belongs; returns what is wrong with it."""
  if len(fields) != 3:
    return f'{len(fields)} columns'
  cm_key, kind, text = fields
  if kind not in scores:
    return f'ASV_KEY {kind!r}'
  if (kind == 'spoof') == (cm_key == 'bonafide'):
    return f'CM_KEY {cm_key!r} and ASV_KEY {kind!r} contradict each other'
  value, wrong = columns.parse_score(text)
  if wrong:
    return wrong
  scores[kind].append(value)
  if kind == 'spoof':
    attacks.append(cm_key)
  return None
