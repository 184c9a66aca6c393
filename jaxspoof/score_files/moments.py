"""Files of localisation: scores over time, and ranges of both classes.

Scores, a line for each recording, `UTTERANCE SECONDS SCORE SCORE ...`: SECONDS
from one score to the next, the first being that of the beginning; higher = more
bona fide.

  june_fr_003_middle_A07 0.02 5.128 4.97 -2.25 -3.5

Ranges, as Rich Transcription Time Marked (RTTM), `SPEAKER UTTERANCE CHANNEL
START SECONDS <NA> <NA> LABEL ...`, as PartialSpoof publishes its own:

  SPEAKER june_fr_003_middle_A07 1 0 1.16 <NA> <NA> bonafide <NA> <NA>
  SPEAKER june_fr_003_middle_A07 1 1.16 1.17 <NA> <NA> spoof <NA> <NA>
"""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from jaxspoof.machine.files import write_atomically
from jaxspoof.score_files import columns
from jaxspoof.score_files.columns import Problems, ScoreFileError

SCORES = 'lines UTTERANCE SECONDS SCORE SCORE ...'
RANGES = (
  'lines SPEAKER UTTERANCE CHANNEL START SECONDS <NA> <NA> LABEL, LABEL being '
  'bonafide or spoof'
)
# What others write for bona fide; `detect.py --segments` is among them.
LABELS = {'spoof': 0, **dict.fromkeys(('bonafide', 'bona_fide', 'genuine'), 1)}
_OVERLAP = 1e-6  # seconds; less is rounding


class Moments(NamedTuple):
  """Scores of a recording over time.

  Attributes:
    seconds: from one score to the next.
    scores: float64 [N], higher = more bona fide.
  """

  seconds: float
  scores: np.ndarray


class Range(NamedTuple):
  """A part of a recording, in seconds; label 0 is spoof, 1 bona fide."""

  start: float
  end: float
  label: int


def write_scores(path, found: Mapping[str, Moments]) -> None:
  """Writes scores over time, with every bit; a name in .gz is compressed.

  Raises:
    ScoreFileError: a name with blanks, or a score that is not finite.
  """
  lines = []
  for utterance, (seconds, scores) in found.items():
    if len(utterance.split()) != 1 or not np.isfinite(scores).all():
      raise ScoreFileError(
        f'{path}: {utterance!r}: expected a name without blanks and finite '
        'scores'
      )
    said = ' '.join(map(repr, np.asarray(scores, np.float64).tolist()))
    lines.append(f'{utterance} {seconds:.7g} {said}\n')
  write_atomically(path, ''.join(lines))


def read_scores(path) -> dict[str, Moments]:
  """Reads scores over time, by utterance; `.gz` is decompressed.

  Raises:
    ScoreFileError: names the file and, of all lines that break the format, the
      first ten and the count.
    OSError: no such file.
  """
  problems, found = Problems(path, SCORES), {}
  for number, fields in columns.read_rows(path):
    reason = None
    if len(fields) < 3:
      reason = f'{len(fields)} columns, at least 3 expected'
    elif fields[0] in found:
      reason = 'utterance seen before'
    else:
      values = [columns.parse_score(field) for field in fields[1:]]
      reason = next((why for _, why in values if why), None)
      seconds, *scores = (value for value, _ in values)
      if reason is None and seconds <= 0:
        reason = f'{seconds:g} seconds from one score to the next'
    if reason:
      problems.at_line(number, reason, fields)
    else:
      found[fields[0]] = Moments(seconds, np.array(scores))
  problems.raise_if_any()
  return found


def write_ranges(path, found: Mapping[str, Iterable[Range]]) -> None:
  """Writes ranges as RTTM; times are exact for samples of 16 kHz.

  Raises:
    ScoreFileError: a name with blanks.
  """
  names = {number: name for name, number in columns.KEYS.items()}
  lines = []
  for utterance, ranges in found.items():
    if len(utterance.split()) != 1:
      raise ScoreFileError(f'{path}: {utterance!r}: a name without blanks')
    lines += [
      f'SPEAKER {utterance} 1 {_said(start)} {_said(end - start)} <NA> <NA> '
      f'{names[label]} <NA> <NA>\n'
      for start, end, label in ranges
    ]
  write_atomically(path, ''.join(lines))


def read_ranges(path) -> dict[str, tuple[Range, ...]]:
  """Reads the ranges of an RTTM file, by utterance, in the order of time.

  Raises:
    ScoreFileError: names the file and, of all lines that break the format, the
      first ten and the count; ranges of a recording that overlap are named too.
    OSError: no such file.
  """
  problems, found = Problems(path, RANGES), {}
  for number, fields in columns.read_rows(path):
    if reason := _reason(fields):
      problems.at_line(number, reason, fields)
      continue
    start, seconds = float(fields[3]), float(fields[4])
    one = Range(start, round(start + seconds, 7), LABELS[fields[7]])
    found.setdefault(fields[1], []).append(one)
  for utterance, ranges in found.items():
    ranges.sort()
    for one, other in itertools.pairwise(ranges):
      if other.start < one.end - _OVERLAP:
        problems.add(
          f'{utterance}: a range from {other.start:g} s begins before the one '
          f'from {one.start:g} s has ended'
        )
  problems.raise_if_any()
  return {utterance: tuple(ranges) for utterance, ranges in found.items()}


def whole(spoofed: Sequence[tuple[float, float]], duration: float):
  """All ranges of a recording, of those that are spoofed.

  >>> [tuple(r) for r in whole([(1.0, 2.0)], 3.0)]
  [(0.0, 1.0, 1), (1.0, 2.0, 0), (2.0, 3.0, 1)]

  Args:
    spoofed: start and end in seconds, in their order.
    duration: of the recording in seconds.

  Returns:
    A list of `Range`.
  """
  edges = [0.0, *itertools.chain(*spoofed), duration]
  return [
    Range(start, end, 1 - number % 2)
    for number, (start, end) in enumerate(itertools.pairwise(edges))
    if end > start
  ]


def _reason(fields: list[str]) -> str | None:
  """What is wrong with a line of an RTTM file; None: nothing."""
  if len(fields) < 8:
    return f'{len(fields)} columns, at least 8 expected'
  if fields[0] != 'SPEAKER':
    return f'{fields[0]!r} in place of SPEAKER'
  for name, text in (('start', fields[3]), ('seconds', fields[4])):
    value, why = columns.parse_score(text)
    if why or value < 0:
      return f'{name} {text!r} is no time'
  if fields[7] not in LABELS:
    return f'label {fields[7]!r} is neither bonafide nor spoof'
  return None


def _said(seconds: float) -> str:
  """A time; 1 / 16,000 s has seven digits behind the point."""
  return f'{seconds:.7f}'.rstrip('0').rstrip('.')
