"""Scores of a speaker verification system in the official format.

  bonafide target 7.981530
  bonafide nontarget -3.100215
  A14 spoof 29.252830

`CM_KEY ASV_KEY SCORE`, separated by blanks, no header, no utterance: CM_KEY is
bonafide or the name of the attack, ASV_KEY is target, nontarget or spoof. Those
of ASVspoof 2021 are `SPEAKER UTTERANCE SCORE`, and a protocol says the keys:

  LA_0007-alaw LA_E_5013670-alaw alaw ita_tx bonafide nontarget notrim eval
"""

from typing import NamedTuple

import numpy as np

from jaxspoof.score_files import columns

FORMAT = 'CM_KEY ASV_KEY SCORE, ASV_KEY being target, nontarget or spoof'
KINDS = ('target', 'nontarget', 'spoof')
PROTOCOL = (
  'lines SPEAKER UTTERANCE CODEC TRANSMISSION CM_KEY ASV_KEY TRIM PHASE'
)


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


def read(path, protocol=None, phase: str = 'eval') -> AsvScores:
  """Read a file of verification scores; `.gz` is decompressed.

  Args:
    path: file of lines `CM_KEY ASV_KEY SCORE`, or with a protocol `SPEAKER
      UTTERANCE SCORE`.
    protocol: file of the trials, as ASVspoof 2021 has it.
    phase: which trials of the protocol are read: 'progress', 'eval' or
      'hidden'.

  Returns:
    `AsvScores`, each kind in the order of the file.

  Raises:
    ScoreFileError (a ValueError): lines that break the format, the first ten
      and the count; no line of one kind.
    OSError: no such file.
  """
  form = FORMAT if protocol is None else 'SPEAKER UTTERANCE SCORE'
  problems = columns.Problems(path, f'lines {form}')
  scores, attacks = {kind: [] for kind in KINDS}, []
  keys = None if protocol is None else _keys(protocol)
  for number, fields in columns.read_rows(path):
    if keys is not None and len(fields) == 3:
      trial = ' '.join(fields[:2])
      if trial not in keys:
        problems.at_line(number, f'not a trial of {protocol}', fields)
        continue
      *found, of_phase = keys.pop(trial)
      if of_phase != phase:
        continue
      fields = [*found, fields[2]]
    if reason := _add(fields, scores, attacks):
      problems.at_line(number, reason, fields)
  missing = [k for k, (*_, which) in (keys or {}).items() if which == phase]
  for trial in missing:
    problems.add(f'no score of {trial}')
  for kind, found in scores.items():
    if not found:
      problems.add(f'no {kind} trial')
  problems.raise_if_any()
  arrays = [np.array(scores[kind], np.float64) for kind in KINDS]
  return AsvScores(*arrays, np.array(attacks))


def _keys(path) -> dict[str, tuple[str, str, str]]:
  """(CM_KEY, ASV_KEY, phase) by speaker and utterance."""
  problems, keys = columns.Problems(path, PROTOCOL), {}
  for number, fields in columns.read_rows(path):
    if len(fields) != 8:
      problems.at_line(number, f'{len(fields)} columns', fields)
      continue
    keys[' '.join(fields[:2])] = fields[4], fields[5], fields[7]
  problems.raise_if_any()
  return keys


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
