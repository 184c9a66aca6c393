"""How well it is told where in a recording speech is spoofed.

  range EER     shares of time: how much of the bona fide speech is rejected and
                how much of the spoofed speech is accepted, where both are
                closest (Zhang et al. 2023, "Range-Based Equal Error Rate for
                Spoof Localization", arXiv 2305.17739)
  segment EER   the recording is cut into segments of one length; one is a spoof
                if any part of it is, and has the lowest score of its moments
                (Zhang et al. 2023, "The PartialSpoof Database ...", TASLP 31)

All recordings count together. Everything is numpy. Scores: higher = more bona
fide. Shapes: N moments of a recording, M segments.

  python -m jaxspoof.metrics.localisation SCORES --ranges=REFERENCE.rttm
"""

import argparse
import sys
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxspoof.metrics import clustered, clusters, det
from jaxspoof.metrics.trials import Undefined
from jaxspoof.score_files import moments

RESOLUTIONS = (20, 40, 80, 160, 320, 640)  # milliseconds of a segment
POINTS = 4096  # thresholds of resamples
_TICKS = 10_000_000  # in a second: samples of 16 kHz are whole numbers of them


class Located(NamedTuple):
  """Scores of a recording over time, and where it is spoofed.

  Attributes:
    scores: float [N], of moments of one length, the first at the beginning.
      What follows the last has its score.
    seconds: length of a moment.
    spoofed: start and end in seconds of each spoofed range, in their order.
    duration: of what is known of the recording, in seconds; moments after it
      do not count.
  """

  scores: np.ndarray
  seconds: float
  spoofed: Sequence[tuple[float, float]]
  duration: float


def durations(one: Located) -> tuple[np.ndarray, np.ndarray]:
  """How much of each moment is bona fide and how much is spoofed.

  Returns:
    float64 [N] each: whole numbers of ticks, ten million in a second.
  """
  ends = _ticks(one.seconds * np.arange(len(one.scores) + 1))
  total = _ticks(one.duration)
  ends = np.minimum(ends, total)
  ends[-1] = total
  # How much is spoofed before a time: a line of slope 1 within the ranges.
  edges = _ticks(np.ravel(np.asarray(one.spoofed, np.float64)))
  before = np.cumsum(np.diff(edges, prepend=0) * (np.arange(len(edges)) % 2))
  at = ends
  if len(edges):
    at = np.interp(ends, edges, before, left=0.0)
  spoof = np.diff(at) if len(edges) else np.zeros(len(one.scores))
  return np.diff(ends) - spoof, spoof


def range_eer(located: Sequence[Located]) -> det.Eer:
  """Equal error rate of durations.

  At a threshold all moments up to it are rejected. The miss rate is the share
  of bona fide time that is rejected, the false-alarm rate that of spoofed time
  that is not; the thresholds are the scores that occur, and one below all. The
  EER is the mean of both rates where they are closest; nothing is interpolated.

  >>> one = Located([1.0, -1.0], 1.0, [(0.75, 2.0)], 2.0)
  >>> range_eer([one])  # a quarter of a second of 1.25 is accepted
  Eer(eer=0.1, threshold=-1.0)

  Raises:
    Undefined (a ValueError): no bona fide or no spoofed time.
    ValueError: scores that are not finite.
  """
  both = [durations(one) for one in located]
  scores = np.concatenate([np.asarray(one.scores) for one in located])
  if not np.isfinite(scores).all():
    raise ValueError('range EER: scores must be finite')
  bonafide, spoof = (np.concatenate(x) for x in zip(*both, strict=True))
  values, group = np.unique(scores, return_inverse=True)
  rejected = [np.cumsum(np.bincount(group, x)) for x in (bonafide, spoof)]
  totals = [x[-1] for x in rejected]
  if not min(totals) > 0:
    raise Undefined(
      f'range EER: needs bona fide and spoofed time; got '
      f'{totals[0] / _TICKS:g} s and {totals[1] / _TICKS:g} s'
    )
  miss = np.append(0.0, rejected[0] / totals[0])
  alarm = np.append(1.0, (totals[1] - rejected[1]) / totals[1])
  at = int(np.argmin(np.abs(miss - alarm)))
  threshold = values[at - 1] if at else values[0] - det.FIRST_STEP
  return det.Eer(float(miss[at] + alarm[at]) / 2, float(threshold))


def range_eer_interval(
  located: Sequence[Located],
  labels,
  speaker,
  attack,
  *,
  resamples: int = 1000,
  seed: int = 0,
  confidence: float = 0.95,
) -> clustered.Interval:
  """Interval of the range EER over speakers and attacks; see `clustered`.

  A recording counts with all of its time: a bona fide one as often as its
  speaker was drawn, one with spoofs as often as its speaker times as often as
  its attack. Thresholds are as many of the scores as `POINTS`, evenly spread.

  Args:
    located: recordings.
    labels: int [len(located)], 0 where any part is spoofed, else 1.
    speaker: of each.
    attack: of each; not read of bona fide ones.
    resamples: how many are drawn.
    seed: of the draws.
    confidence: how often the interval is to hold the truth.

  Raises:
    Undefined (a ValueError): bona fide or spoofed time is in no resample.
  """
  cells = clusters.make_cells(labels, speaker, attack)
  scores = np.concatenate([np.asarray(one.scores) for one in located])
  points = np.unique(scores)
  if len(points) > POINTS:
    points = points[np.linspace(0, len(points) - 1, POINTS).astype(int)]
  # Time of each cell between one threshold and the next, of both classes.
  bins = np.searchsorted(points, scores)
  cell = np.repeat(cells.of_trial, [len(one.scores) for one in located])
  times = [
    np.bincount(
      cell * len(points) + bins,
      np.concatenate(each),
      len(cells.bonafide) * len(points),
    ).reshape(len(cells.bonafide), -1)
    for each in zip(*map(durations, located), strict=True)
  ]
  weight_BxC = clusters.weights(cells, seed, range(resamples))
  bonafide, spoof = (np.cumsum(weight_BxC @ each, axis=1) for each in times)
  kept = (bonafide[:, -1] > 0) & (spoof[:, -1] > 0)
  if not kept.any():
    raise Undefined('range EER: needs bona fide and spoofed time')
  miss = bonafide[kept] / bonafide[kept, -1:]
  alarm = 1 - spoof[kept] / spoof[kept, -1:]
  at = np.argmin(np.abs(miss - alarm), axis=1)[:, None]
  values = [np.take_along_axis(x, at, 1)[:, 0] for x in (miss, alarm)]
  count = clustered.clusters_of(labels, speaker, attack)
  return clustered.interval(
    np.mean(values, axis=0),
    confidence,
    clusters=count if count > 1 else None,
  )


def segments(one: Located, seconds: float) -> tuple[np.ndarray, np.ndarray]:
  """Scores and labels of a recording's segments of one length.

  The last segment may be shorter. A segment that is shorter than a moment has
  the score of the moment that its middle lies in.

  Returns:
    float [M], the lowest score of each; int [M], 0 where any part is spoofed.
  """
  count = max(1, int(np.ceil(one.duration / seconds - 1e-6)))
  scores = np.asarray(one.scores)
  if seconds > one.seconds:
    starts = np.round(np.arange(count) * seconds / one.seconds).astype(int)
    starts = np.minimum(starts, len(scores) - 1)
    known = max(1, int(np.ceil(one.duration / one.seconds - 1e-6)))
    found = np.minimum.reduceat(scores[:known], np.minimum(starts, known - 1))
  else:
    middles = (np.arange(count) + 0.5) * seconds / one.seconds
    found = scores[np.minimum(middles.astype(int), len(scores) - 1)]
  even = Located(found, seconds, one.spoofed, one.duration)
  return found, (durations(even)[1] == 0).astype(np.int32)


def segment_eer(located: Sequence[Located], seconds: float) -> det.Eer:
  """Equal error rate of segments, by the official convention; see `eer.eer`.

  Raises:
    ValueError: segments of one class alone, or scores that are not finite.
  """
  both = [segments(one, seconds) for one in located]
  scores, labels = (np.concatenate(x) for x in zip(*both, strict=True))
  return det.equal_error(scores, labels)


def at_threshold(located: Sequence[Located], threshold: float) -> dict:
  """Errors at a threshold that was chosen elsewhere, and where edges lie.

  Returns:
    `miss` and `false_alarm`, shares of time; and of the `edges` between bona
    fide and spoofed speech how far the nearest edge of the decisions is:
    `median_ms`, `p90_ms`, None where there are none, and the share
    `within_moment` that is no more than one moment away. These are worth
    something only where the decisions do not have many more edges (`found`)
    than there are (`count`): decisions at random have one near each.
  """
  bonafide = spoof = missed = alarms = 0.0
  away, inside, edges = [], [], 0
  for one in located:
    accepted = np.asarray(one.scores) > threshold
    both = durations(one)
    bonafide, spoof = bonafide + both[0].sum(), spoof + both[1].sum()
    missed += both[0][~accepted].sum()
    alarms += both[1][accepted].sum()
    found = (np.flatnonzero(np.diff(accepted)) + 1) * one.seconds
    edges += len(found)
    for edge in np.ravel(np.asarray(one.spoofed, np.float64)):
      if 0 < edge < one.duration - 1e-6:
        # Where none is found it is as far away as it could be.
        nearest = np.abs(found - edge).min(initial=one.duration)
        away.append(nearest)
        inside.append(nearest <= one.seconds + 1e-6)
  return {
    'threshold': float(threshold),
    'miss': float(missed / bonafide) if bonafide else None,
    'false_alarm': float(alarms / spoof) if spoof else None,
    'edges': {
      'count': len(away),
      'found': edges,
      'median_ms': 1000 * float(np.median(away)) if away else None,
      'p90_ms': 1000 * float(np.quantile(away, 0.9)) if away else None,
      'within_moment': float(np.mean(inside)) if away else None,
    },
  }


def figures(located: Sequence[Located]) -> dict:
  """What is said of the localisation in some recordings.

  Returns:
    `range_eer`, `range_threshold`, `segment_eer` by milliseconds, as fractions;
    None where one class is missing. `clips` and `seconds` of each class.
  """
  totals = np.sum([[x.sum() for x in durations(o)] for o in located], axis=0)
  defined = min(totals) > 0
  found = range_eer(located) if defined else det.Eer(None, None)
  by_length = {}
  for length in RESOLUTIONS:
    try:
      by_length[str(length)] = segment_eer(located, length / 1000).eer
    except ValueError:  # long segments may all be spoofed in a part
      by_length[str(length)] = None
  return {
    'range_eer': found.eer,
    'range_threshold': found.threshold,
    'segment_eer': by_length,
    'clips': len(located),
    'seconds': {
      'bonafide': float(totals[0]) / _TICKS,
      'spoof': float(totals[1]) / _TICKS,
    },
  }


def located_in(
  scores: dict[str, moments.Moments], ranges: dict[str, tuple]
) -> dict[str, Located]:
  """Scores and reference of each recording, by utterance.

  A recording is as long as its ranges say.

  Raises:
    ValueError: a recording of one of the two alone.
  """
  for some, others, words in (
    (scores, ranges, 'a range of'),
    (ranges, scores, 'scores of'),
  ):
    if lacking := sorted(set(some) - set(others)):
      raise ValueError(
        f'there are no {words.removeprefix("a ")} {lacking[0]}'
        + (f' and {len(lacking) - 1} more' if len(lacking) > 1 else '')
      )
  return {
    utterance: Located(
      values.scores,
      values.seconds,
      [(r.start, r.end) for r in ranges[utterance] if r.label == 0],
      max(r.end for r in ranges[utterance]),
    )
    for utterance, values in scores.items()
  }


def _ticks(seconds):
  """Times as whole numbers, float64, which is exact up to 28 years."""
  return np.rint(np.asarray(seconds, np.float64) * _TICKS)


def lines(found: dict) -> list[str]:
  """Figures for a person."""

  def percent(value):
    return 'undefined' if value is None else f'{value:.2%}'

  seconds = found['seconds']
  between = ''
  if interval := found.get('range_eer_interval'):
    between = ' [{:.2%}, {:.2%}]'.format(*interval)
  return [
    f'range EER          {percent(found["range_eer"])}{between}',
    *(
      f'segment EER {length:>3} ms {percent(value)}'
      for length, value in found['segment_eer'].items()
    ),
    f'{found["clips"]:,} recordings, {seconds["bonafide"]:,.1f} s bona fide, '
    f'{seconds["spoof"]:,.1f} s spoofed',
  ]


def main(argv: list[str] | None = None) -> int:
  """Measures what the command line names; returns the exit status."""
  parser = argparse.ArgumentParser(
    prog='python -m jaxspoof.metrics.localisation',
    description='Range EER and segment EERs of scores over time.',
    epilog=moments.__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  parser.add_argument('scores', help='lines UTTERANCE SECONDS SCORE SCORE ...')
  parser.add_argument(
    '--ranges',
    required=True,
    metavar='FILE.rttm',
    help='which times of each recording are bonafide and which are spoof',
  )
  parser.add_argument(
    '--negate',
    action='store_true',
    help='use this if higher scores mean spoof',
  )
  options = parser.parse_args(argv)
  try:
    scores = moments.read_scores(options.scores)
    if options.negate:
      scores = {
        utterance: one._replace(scores=-one.scores)
        for utterance, one in scores.items()
      }
    ranges = moments.read_ranges(options.ranges)
    found = figures(list(located_in(scores, ranges).values()))
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  print('\n'.join(lines(found)))
  return 0


if __name__ == '__main__':
  sys.exit(main())
