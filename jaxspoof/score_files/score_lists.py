"""Score files as people have them, audited against the protocol.

Lines of two, three or four columns, `.gz` or not:

  UTTERANCE SCORE                 ASVspoof 2021; needs the protocol
  UTTERANCE SCORE KEY
  UTTERANCE SYSTEM KEY SCORE      ASVspoof 2019
  {"path": ..., "score": ...}     detect.py --json; needs the protocol

A header may name the columns, as in ASVspoof 5 (`filename cm-score`). With a
protocol, every trial of it must have exactly one score, and what the file says
of a trial must agree with it. Where names agree with those of the protocol
without their suffix or folder only, they are taken so, and a note says it.
"""

import json
import pathlib
import re
from collections.abc import Callable, Collection, Iterable
from typing import NamedTuple

import numpy as np

from jaxspoof.score_files import columns
from jaxspoof.score_files.columns import ScoreFileError
from jaxspoof.score_files.protocols import Protocol

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
    notes: what a reader of the figures should know of the file.
  """

  utterance: np.ndarray
  speaker: np.ndarray | None
  attack: np.ndarray | None
  label: np.ndarray
  scores: np.ndarray
  notes: tuple[str, ...] = ()


def read(
  path, protocol: Protocol | None = None, others: Collection[str] = ()
) -> Trials:
  """Read a score file in one of the layouts above.

  Args:
    path: the file.
    protocol: what the trials are; a file without keys needs it.
    others: utterances that the file may have scores of, but that are left out.

  Raises:
    ScoreFileError (a ValueError): lines that break the format, scores that are
      no finite number, utterances scored twice, unknown to the protocol or
      missing, labels and attacks that contradict it: the first ten and the
      count.
    OSError: no such file.
  """
  problems = columns.Problems(path, f'lines {FORMAT}')
  rows, layout = parse(columns.read_lines(path), problems)
  if not layout:
    problems.raise_if_any()  # no line of any layout: nothing to audit
  if protocol is None and 'key' not in layout:
    raise ScoreFileError(
      f'{path}: {len(layout)} columns say nothing of bona fide and spoof; the '
      'protocol is needed'
    )
  notes = ()
  if protocol is not None:
    known = [*protocol.utterance.tolist(), *others]
    rows, notes = _named_as(known, rows)
    _audit(rows, protocol, others, problems)
  problems.raise_if_any()
  if protocol is not None:
    scores = [rows[utterance]['score'] for utterance in protocol.utterance]
    return Trials(
      protocol.utterance,
      protocol.speaker,
      protocol.attack,
      protocol.label,
      np.array(scores, np.float64),
      notes,
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


def parse(
  lines: Iterable[tuple[int, str]],
  problems: columns.Problems,
  layout: tuple[str, ...] = (),
) -> tuple[dict[str, dict], tuple[str, ...]]:
  """Makes sense of lines as far as possible.

  Args:
    lines: their numbers and texts.
    problems: takes what is wrong with them.
    layout: names of the columns; () = as the first line tells.

  Returns:
    (rows by utterance: 'score', 'line', and 'key' and 'attack' where the
    layout has them; the layout).
  """
  rows, asked = {}, layout
  for number, line in lines:
    if line[0] == '{' and not asked:
      fields, layout = _json_fields(line), LAYOUTS[2]
    else:
      fields = line.split()
    if not layout:
      layout = columns.header(fields, needed='utterance score') or ()
      if layout:
        continue
      layout = LAYOUTS.get(len(fields), ())
    if len(fields) != len(layout):
      problems.at_line(number, f'{len(fields)} columns', fields)
      continue
    row, wrong = _parse(dict(zip(layout, fields, strict=True)))
    if not wrong and row['utterance'] in rows:
      again = f'{problems.unit} {rows[row["utterance"]]["line"]}'
      wrong = f'utterance {row["utterance"]} is on {again} already'
    if wrong:
      problems.at_line(number, wrong, fields)
    rows.setdefault(row['utterance'], {**row, 'line': number})
  return rows, layout


def _json_fields(line: str) -> list[str]:
  """Path and score of a line of `detect.py --json`."""
  try:
    values = json.loads(line)
    score = values.get('score', values.get('error', 'nothing'))
    # There are no blanks in the names of a protocol.
    return [re.sub(r'\s+', '_', values['path']), str(score)]
  except (ValueError, KeyError, TypeError):
    return ['a line that is no output of detect.py --json:', *line.split()]


def _without_suffix(name: str) -> str:
  return re.sub(r'\.[A-Za-z]\w{1,4}$', '', name)


def _without_folder_and_suffix(name: str) -> str:
  return _without_suffix(pathlib.PurePath(name.replace('\\', '/')).name)


_NAMINGS: dict[str, Callable[[str], str]] = {
  'as they are': lambda name: name,
  'without their suffix': _without_suffix,
  'without folder and suffix': _without_folder_and_suffix,
}


def _named_as(known: list[str], rows: dict) -> tuple[dict, tuple[str, ...]]:
  """Rows under the names of the protocol, as most of them agree.

  A way of naming that makes two names one is none.
  """
  best, most, how = {}, -1, ''
  for words, naming in _NAMINGS.items():
    theirs = {naming(name): name for name in known}
    ours = {naming(name): name for name in rows}
    agree = len(theirs.keys() & ours.keys())
    unique = len(theirs) == len(known) and len(ours) == len(rows)
    if words == 'as they are' or (unique and agree > most):
      best = {theirs.get(n, ours[n]): rows[ours[n]] for n in ours}
      most, how = agree, words
  if how == 'as they are':
    return best, ()
  return best, (f'names agree with those of the protocol {how} only',)


def _parse(row: dict):
  """Text to values; returns (row, what is wrong or None)."""
  score, wrong = columns.parse_score(row['score'])
  row['score'] = score
  if 'key' in row:
    row['key'], wrong_key = columns.parse_key(row['key'])
    wrong = wrong_key or wrong
  return row, wrong


def _audit(rows, protocol: Protocol, others, problems: columns.Problems):
  """Note what does not agree with the protocol."""
  labels = protocol.label.tolist()
  attacks = [None] * len(labels)
  if protocol.attack is not None:
    attacks = protocol.attack.tolist()
  trials = zip(attacks, labels, strict=True)
  known = dict(zip(protocol.utterance.tolist(), trials, strict=True))
  others = frozenset(others)
  for utterance, row in rows.items():
    if utterance in others:
      continue
    if utterance not in known:
      problems.add(
        f'line {row["line"]}: utterance {utterance} is not in the protocol'
      )
      continue
    attack, label = known[utterance]
    if row.get('key', label) != label or (
      label == 0 and attack not in (None, row.get('attack', attack))
    ):
      problems.add(
        f'line {row["line"]}: {utterance} has another key or attack in the '
        'protocol'
      )
  for utterance in known:
    if utterance not in rows:
      problems.add(f'no score of {utterance}')
