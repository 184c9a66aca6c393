"""The lists of countermeasure trials of ASVspoof 2019.

Five columns, separated by blanks, no header:

  LA_0079 LA_T_1138215 - - bonafide
  PA_0079 PA_T_0005401 aaa AA spoof

speaker, utterance, environment (PA: room size, T60 and distance, each a to c),
attack (LA: A01 to A19; PA: distance and device of the attacker, each A to C),
key. The official README.LA.txt and README.PA.txt define them.
"""

import collections
import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence

from tfds_builders.asvspoof2019 import official
from tfds_builders.errors import Problems

FIELDS = ('SPEAKER', 'UTTERANCE', 'ENVIRONMENT', 'SYSTEM', 'KEY')
_PATTERNS = {
  'LA': (r'LA_\d{4}', r'LA_[TDE]_\d{7}', '-', r'-|A\d\d', 'bonafide|spoof'),
  'PA': (
    r'PA_\d{4}', r'PA_[TDE]_\d{7}', '[abc]{3}', '-|[ABC]{2}', 'bonafide|spoof'
  ),
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
  """One trial of a protocol; `attack` is '-' for bona fide speech."""

  speaker: str
  utterance: str
  environment: str
  attack: str


def paths(access: str) -> dict[str, str]:
  """Returns the protocol's path in the archive, by split.

  Args:
    access: 'LA' or 'PA'.
  """
  folder = f'ASVspoof2019_{access}_cm_protocols'
  # Only the list for training is called 'trn'.
  kinds = {'train': 'trn', 'dev': 'trl', 'eval': 'trl'}
  return {
    split: f'{folder}/ASVspoof2019.{access}.cm.{split}.{kind}.txt'
    for split, kind in kinds.items()
  }


def asv_paths(access: str) -> dict[str, str]:
  """Returns the path of the verification scores in the archive, by split.

  Args:
    access: 'LA' or 'PA'.
  """
  folder = f'ASVspoof2019_{access}_asv_scores'
  return {
    split: f'{folder}/ASVspoof2019.{access}.asv.{split}.gi.trl.scores.txt'
    for split in ('dev', 'eval')
  }


def parse(data: bytes, access: str, name: str) -> list[Line]:
  """Reads a protocol.

  Args:
    data: the file.
    access: 'LA' or 'PA'.
    name: what messages call it.

  Raises:
    BuildError: lines that are no trial, or an utterance listed twice; all of
      them, by number.
  """
  problems, seen, lines = Problems(name), {}, []
  text = data.decode('utf-8', errors='backslashreplace')
  for number, row in enumerate(text.splitlines(), 1):
    fields = row.split()
    if wrong := _wrong(fields, access):
      problems.add(f'line {number}: {row[:80]!r}: {wrong}')
      continue
    # Interned: a name that returns on each line is kept once.
    speaker, utterance, environment, attack, _ = map(sys.intern, fields)
    first = seen.setdefault(utterance, number)
    if first != number:
      problems.add(f'line {number}: {utterance} is on line {first} already')
    lines.append(Line(speaker, utterance, environment, attack))
  if not text.strip():
    problems.add('no lines; expected one for each trial')
  problems.raise_if_any()
  return lines


def _wrong(fields: Sequence[str], access: str) -> str:
  """Says what is wrong with a line, if anything."""
  if len(fields) != len(FIELDS):
    return f'{len(fields)} columns, expected 5: {" ".join(FIELDS)}'
  for field, value, pattern in zip(
    FIELDS, fields, _PATTERNS[access], strict=True
  ):
    if not re.fullmatch(pattern, value):
      return f'{field} {value!r}, expected {pattern}'
  if (fields[3] == '-') != (fields[4] == 'bonafide'):
    return f"KEY {fields[4]!r}, expected SYSTEM '-' for bonafide trials only"
  return ''


def check_counts(
  found: Mapping[str, Sequence[Line]], access: str, of: object
) -> list[str]:
  """Compares protocols with what was published.

  Args:
    found: lines by split.
    access: 'LA' or 'PA'.
    of: the archive, for messages.

  Returns:
    Differences from numbers that are not certain, as sentences.

  Raises:
    BuildError: differences from those that are.
  """
  problems, notes = Problems(of), []
  for split, counts in official.ARCHIVES[access].counts.items():
    attacks = collections.Counter(line.attack for line in found[split])
    bona_fide = attacks.pop('-', 0)
    here = official.Counts(bona_fide, attacks.total())
    what = f'{split} lists {here}, expected {counts}'
    if (here.bona_fide, here.spoof) == (counts.bona_fide, counts.spoof):
      if counts.attacks in (None, dict(attacks)):
        continue
      what = f'{split} lists attacks {dict(attacks)}, expected {counts.attacks}'
    if counts.certain:
      problems.add(what)
    else:
      notes.append(what)
  problems.raise_if_any()
  return notes
