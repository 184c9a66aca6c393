"""Operating points of a detector on the host: DET curve and equal error rate.

Everything here is numpy, so that pages and comparisons, which only read files,
need not load JAX. `eer` holds the same EER as a jitted function, which training
and evaluation use; tests hold that both agree to the last bit.

Scores: higher = more bona fide. Labels: spoof 0, bona fide 1. The official
convention is that of `eer`. Shapes: N = trials, G = runs of trials of one
class, B = bootstrap resamples.
"""

from typing import NamedTuple

import numpy as np

from jaxspoof.metrics.trials import sort_trials

FIRST_STEP = 0.001  # below the lowest score: the point that accepts all


class Eer(NamedTuple):
  """Equal error rate, a fraction in [0, 1], and the threshold it lies at.

  A trial is accepted as bona fide if its score is at least the threshold; the
  official rates at the EER point count the trial on the threshold as rejected.
  """

  eer: float
  threshold: float


class DetCurve(NamedTuple):
  """All operating points, by rising threshold; each field float64 [N + 1].

  Attributes:
    miss: share of bona fide trials rejected (official: frr).
    false_alarm: share of spoof trials accepted (official: far).
    threshold: score of the last trial rejected; the first entry lies 0.001
      below the lowest score.
  """

  miss: np.ndarray
  false_alarm: np.ndarray
  threshold: np.ndarray


def det_curve(scores, labels, metric='eer') -> DetCurve:
  """Miss and false-alarm rates at every threshold, in the official order.

  Args:
    scores: float [N], higher = more bona fide.
    labels: int or bool [N], spoof 0, bona fide 1.
    metric: what the curve is for; errors begin with it.

  Raises:
    ValueError: scores or labels are invalid, see `eer.eer`.
  """
  trials = sort_trials(scores, labels, metric=metric)
  misses = np.cumsum(trials.bonafide)
  rejected = np.cumsum(~trials.bonafide)
  scores = trials.scores.astype(np.float64)
  return DetCurve(
    np.append(0.0, misses / misses[-1]),
    np.append(1.0, (rejected[-1] - rejected) / rejected[-1]),
    np.append(scores[0] - FIRST_STEP, scores),
  )


def equal_error(scores, labels) -> Eer:
  """The EER as `eer.eer` gives it, without JAX.

  >>> equal_error([2.0, 3.0, 1.0], [1, 1, 0])
  Eer(eer=0.0, threshold=1.0)

  Args:
    scores: float [N], higher = more bona fide.
    labels: int or bool [N], spoof 0, bona fide 1.

  Raises:
    ValueError: scores or labels are invalid, see `eer.eer`.
  """
  trials = sort_trials(scores, labels)
  misses = np.cumsum(trials.bonafide, dtype=np.float64)
  rejected = np.cumsum(~trials.bonafide, dtype=np.float64)
  value, count = runs_eer(misses[None], rejected[None], trials.bonafide)
  lowest, count = float(trials.scores[0]), int(count[0])
  threshold = float(trials.scores[count - 1]) if count else lowest - FIRST_STEP
  return Eer(float(value[0]), threshold)


def runs_eer(misses, rejected, bonafide_G) -> tuple[np.ndarray, np.ndarray]:
  """Equal error rates of several counts of the same trials.

  Rejecting the sorted trials one after the other raises the miss rate or lowers
  the false-alarm rate: their difference grows from -1 to 1, and is smallest
  beside its change of sign. A run of trials of one class is passed in one step;
  where the sign changes within a run, only a part of its trials is rejected.

  Args:
    misses: float64 [B, G] without fractions, bona fide trials rejected after
      each run.
    rejected: float64 [B, G] without fractions, spoof trials rejected after each
      run.
    bonafide_G: bool [G], the class of each run.

  Returns:
    (EER, trials rejected at its point), float64 [B] each.
  """
  bonafide, spoof = misses[:, -1:], rejected[:, -1:]
  lead = (spoof - rejected) * bonafide - misses * spoof
  at = np.argmax(lead < 1, 1)  # the run after which misses prevail
  target = bonafide_G[at]
  rows, before = np.arange(len(at)), np.maximum(at - 1, 0)
  misses, rejected, lead = (
    np.where(at > 0, x[rows, before], first)
    for x, first in (
      (misses, 0),
      (rejected, 0),
      (lead, (bonafide * spoof)[:, 0]),
    )
  )
  bonafide, spoof = bonafide[:, 0], spoof[:, 0]
  copies = (lead - 1) // np.where(target, spoof, bonafide)
  misses, alarms = (
    misses + np.where(target, copies, 0),
    spoof - rejected - np.where(target, 0, copies),
  )
  following = misses + target, alarms - ~target
  closer, eer, next_eer = closest(misses, alarms, *following, (bonafide, spoof))
  return np.where(closer, next_eer, eer), misses + spoof - alarms + closer


def closest(misses, false_alarms, next_misses, next_false_alarms, totals):
  """Choose one of two operating points as the official script does.

  Args:
    misses: number of bona fide trials rejected at the first point, float64 as
      all counts here, numpy or JAX.
    false_alarms: number of spoof trials accepted at the first point.
    next_misses: number of bona fide trials rejected at the second point.
    next_false_alarms: number of spoof trials accepted at the second point.
    totals: number of all bona fide trials, and of all spoof trials.

  Returns:
    (whether the next point is strictly closer, EER at the first, EER at the
    next).
  """
  bonafide, spoof = totals
  miss, alarm = misses / bonafide, false_alarms / spoof
  next_miss, next_alarm = next_misses / bonafide, next_false_alarms / spoof
  closer = abs(next_miss - next_alarm) < abs(miss - alarm)
  return closer, (miss + alarm) / 2, (next_miss + next_alarm) / 2
