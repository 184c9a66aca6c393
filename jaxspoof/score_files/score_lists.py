"""Score files as people have them, audited against the protocol.

Lines of two, three or four columns, no header, `.gz` or not:

  UTTERANCE SCORE                 ASVspoof 2021; needs the protocol
  UTTERANCE SCORE KEY
  UTTERANCE SYSTEM KEY SCORE      ASVspoof 2019

With a protocol, every trial of it must have exactly one score, and what the
file says of a trial must agree with it.
"""

from typing import NamedTuple

import numpy as np

from jaxspoof.score_files import columns
from jaxspoof.score_files.protocols import Protocol
from jaxspoof.score_files.scores import ScoreFileError

LAYOUTS = {
  2: ('utterance', 'score'),
  3: ('utterance', 'score', 'key'),
  4: ('utterance', 'attack', 'key', 'score'),
}
FORMAT = ' or '.join(' '.join(names).upper() for names in LAYOUTS.values())


class Trials(NamedTuple):
  """Scored trials, in the order of the protocol or else of the file.

  Attributes:
    utterance: str [N], unique.
    speaker: str [N]; None where no protocol tells.
    attack: str [N], '-' for bona fide; None where nothing tells.
    label: int32 [N], spoof 0, bona fide 1.
    scores: float64 [N], as in the file.
  """

  utterance: np.ndarray
  speaker: np.ndarray | None
  attack: np.ndarray | None
  label: np.ndarray
  scores: np.ndarray


def read(path, protocol: Protocol | None = None) -> Trials:
  """Read a score file of two, three or four columns.

  Args:
    path: the file.
    protocol: what the trials are; a file of two columns needs it.

  Raises:
    ScoreFileError (a ValueError): lines that break the format, scores that are
      no finite number, utterances scored twice, unknown to the protocol or
      missing, labels and attacks that contradict it: the first ten and the
      count.
    OSError: no such file.
  """
  problems = columns.Problems(path, f'lines {FORMAT}')
  rows, layout = _read_rows(path, problems)
  if not layout:
    problems.raise_if_any()  # no line of any layout: nothing to audit
  if protocol is None and 'key' not in layout:
    raise ScoreFileError(
      f'{path}: two columns say nothing of bona fide and spoof; the protocol '
      'is needed'
    )
  if protocol is not None:
    _audit(rows, protocol, problems)
  problems.raise_if_any()
  if protocol is not None:
    scores = [rows[utterance]['score'] for utterance in protocol.utterance]
    return Trials(
      protocol.utterance,
      protocol.speaker,
      protocol.attack,
      protocol.label,
      np.array(scores, np.float64),
    )
  found = list(rows.values())
  attack = [row['attack'] for row in found] if 'attack' in layout else None
  return Trials(
    np.array(list(rows)),
    None,
    None if attack is None else np.array(attack),
    np.array([row['key'] for row in found], np.int32),
    np.array([row['score'] for row in found], np.float64),
  )


def paired_scores(first: Trials, second: Trials, path, other_path):
  """Scores of the second file in the order of the first.

  Returns:
    float64 [N].

  Raises:
    ScoreFileError: the files do not hold the same trials.
  """
  problems = columns.Problems(other_path, f'the trials of {path}')
  at = {name: n for n, name in enumerate(second.utterance.tolist())}
  trials = zip(first.utterance.tolist(), first.label.tolist(), strict=True)
  for name, label in trials:
    if name not in at:
      problems.add(f'no score of {name}')
    elif second.label[at[name]] != label:
      problems.add(f'another key of {name}')
  for name in sorted(at.keys() - set(first.utterance.tolist())):
    problems.add(f'unknown utterance {name}')
  problems.raise_if_any()
  return second.scores[[at[name] for name in first.utterance.tolist()]]


def _read_rows(path, problems: columns.Problems):
  """Lines by utterance, as far as they make sense, and their layout."""
  rows, layout = {}, ()
  for number, fields in columns.read_rows(path):
    layout = layout or LAYOUTS.get(len(fields), ())
    if len(fields) != len(layout):
      problems.at_line(number, f'{len(fields)} columns', fields)
      continue
    row, wrong = _parse(dict(zip(layout, fields, strict=True)))
    if not wrong and row['utterance'] in rows:
      again = rows[row['utterance']]['line']
      wrong = f'utterance {row["utterance"]} is on line {again} already'
    if wrong:
      problems.at_line(number, wrong, fields)
    rows.setdefault(row['utterance'], {**row, 'line': number})
  return rows, layout


def _parse(row: dict):
  """Text to values; returns (row, what is wrong or None)."""
  score, wrong = columns.parse_score(row['score'])
  row['score'] = score
  if 'key' in row:
    row['key'], wrong_key = columns.parse_key(row['key'])
    wrong = wrong_key or wrong
  return row, wrong


def _audit(rows, protocol: Protocol, problems: columns.Problems):
  """Note what does not agree with the protocol."""
  attacks, labels = protocol.attack.tolist(), protocol.label.tolist()
  trials = zip(attacks, labels, strict=True)
  known = dict(zip(protocol.utterance.tolist(), trials, strict=True))
  for utterance, row in rows.items():
    if utterance not in known:
      problems.add(
        f'line {row["line"]}: utterance {utterance} is not in the protocol'
      )
      continue
    attack, label = known[utterance]
    if row.get('key', label) != label or (
      label == 0 and row.get('attack', attack) != attack
    ):
      problems.add(
        f'line {row["line"]}: {utterance} has another key or attack in the '
        'protocol'
      )
  for utterance in known:
    if utterance not in rows:
      problems.add(f'no score of {utterance}')
