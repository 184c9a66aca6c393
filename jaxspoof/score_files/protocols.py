"""Countermeasure protocols and keys: what the trials are.

  LA_0039 LA_E_2834763 - A11 spoof                          ASVspoof 2019
  LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval    ASVspoof 2021

Lines of the layouts in `LAYOUTS`, told apart by the number of columns and
separated by blanks or tabs. A header, as the keys of ASVspoof 5 have it, may
name the columns instead.
"""

import collections
from typing import NamedTuple

import numpy as np

from jaxspoof.machine.files import write_atomically
from jaxspoof.score_files import columns
from jaxspoof.score_files.columns import KEYS

FORMAT = 'lines SPEAKER UTTERANCE ENVIRONMENT SYSTEM KEY'
# Columns by name; '-' are not used, and 'condition' may be there twice.
LAYOUTS = {
  name: tuple(layout.split())
  for name, layout in {
    'key file': 'utterance key',
    'ASVspoof 2019': 'speaker utterance - attack key',
    'ASVspoof 2021 LA': (
      'speaker utterance condition condition attack key - phase'
    ),
    'ASVspoof 2021 DF': (
      'speaker utterance condition - attack key - phase - - - - -'
    ),
    'ASVspoof 2021 PA': 'speaker utterance - - - - - - - key - phase',
    'ASVspoof 5': 'speaker utterance - condition - - - attack key -',
  }.items()
}
_BY_COUNT = {len(layout): layout for layout in LAYOUTS.values()}


class Protocol(NamedTuple):
  """Trials in the order of the file; each field [N].

  Attributes:
    utterance: str, unique.
    speaker: str; None where the layout does not tell, as all that follow.
    attack: str, '-' for bona fide.
    label: int32, spoof 0, bona fide 1.
    phase: str, part of the challenge that the trial belongs to.
    condition: str, what the audio went through, such as 'alaw/ita_tx'.
  """

  utterance: np.ndarray
  speaker: np.ndarray | None
  attack: np.ndarray | None
  label: np.ndarray
  phase: np.ndarray | None = None
  condition: np.ndarray | None = None

  def of(self, chosen: np.ndarray) -> 'Protocol':
    """The trials where a mask, bool [N], is true."""
    return Protocol(*(x if x is None else x[chosen] for x in self))


def read(path) -> Protocol:
  """Read a protocol in one of `LAYOUTS`; `.gz` is decompressed.

  Raises:
    ScoreFileError (a ValueError): lines that break the format or repeat an
      utterance, the first ten and the count.
    OSError: no such file.
  """
  problems = columns.Problems(path, FORMAT + ', or another layout of ASVspoof')
  layout, rows = (), {}
  for number, fields in columns.read_rows(path):
    if not layout:
      layout = columns.header(fields, needed='utterance key') or ()
      if layout:
        continue
      layout = _BY_COUNT.get(len(fields), ())
    if len(fields) != len(layout):
      problems.at_line(number, f'{len(fields)} columns', fields)
      continue
    row = collections.defaultdict(list)
    for name, field in zip(layout, fields, strict=True):
      row[name].append(field)
    utterance, label = row['utterance'][0], 0
    label, wrong = columns.parse_key(row['key'][0])
    if not wrong and utterance in rows:
      wrong = f'utterance {utterance} again'
    if wrong:
      problems.at_line(number, wrong, fields)
    if label:  # 'bonafide' is no name of an attack
      row['attack'] = ['-']
    rows[utterance] = label, row
  if not rows:
    problems.add('no trials')
  problems.raise_if_any()

  def column(name: str) -> np.ndarray | None:
    if name not in layout:
      return None
    return np.array(['/'.join(row[name]) for _, row in rows.values()])

  return Protocol(
    np.array(list(rows)),
    column('speaker'),
    column('attack'),
    np.array([label for label, _ in rows.values()], np.int32),
    column('phase'),
    column('condition'),
  )


def write(path, utterance, speaker, attack, label) -> None:
  """Write a protocol, its environments unknown ('-').

  Args:
    path: file to write; its folder is made.
    utterance: str [N], unique, without blanks.
    speaker: str [N], without blanks.
    attack: str [N], '-' for bona fide, without blanks.
    label: int [N], spoof 0, bona fide 1.
  """
  keys = {number: name for name, number in KEYS.items()}
  rows = zip(speaker, utterance, attack, label, strict=True)
  lines = [f'{s} {u} - {a} {keys[int(k)]}\n' for s, u, a, k in rows]
  write_atomically(path, ''.join(lines))
