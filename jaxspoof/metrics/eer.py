"""Equal error rate and detection error trade-off as ASVspoof defines them.

Scores: higher = more bona fide. Labels: spoof 0, bona fide 1. The official
convention, which every figure of the challenges follows:

- each trial is an operating point of its own, before them one that accepts
  everything (its threshold is the lowest score minus 0.001);
- of equal scores the bona fide ones are rejected first (the pessimistic order:
  a constant score has an EER of 1, not of 1/2);
- the EER is the mean of the two rates where they are closest, the first such
  point counts, nothing is interpolated.

There are two roads to the order of the trials, and one code from there on.
Concrete input (`eer_of`, and `eer` outside jit) is checked and sorted on the
host in its own precision: float64 scores are never rounded to float32, which
would merge different scores and move decisions. It is padded to a power of
two, so many different lengths compile a few programs only. Traced input (`eer`
under jit, vmap, scan) is sorted on the device as float32; there bad input
cannot raise and gives NaN.

Shapes: N = trials.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxspoof.metrics.crossing import find_crossing, host_eer, traced_eer
from jaxspoof.metrics.trials import bucket, pad, sort_trials

FIRST_STEP = 0.001  # below the lowest score: the point that accepts all


class Eer(NamedTuple):
  """Equal error rate, a fraction in [0, 1], and the threshold it lies at.

  A trial is accepted as bona fide if its score is at least the threshold; the
  official rates at the EER point count the trial on the threshold as rejected.
  """

  eer: float | jax.Array
  threshold: float | jax.Array


class DetCurve(NamedTuple):
  """All operating points, by rising threshold; each field [N + 1].

  Attributes:
    miss: share of bona fide trials rejected (official: frr).
    false_alarm: share of spoof trials accepted (official: far).
    threshold: score of the last trial rejected; the first entry lies 0.001
      below the lowest score.
  """

  miss: np.ndarray | jax.Array
  false_alarm: np.ndarray | jax.Array
  threshold: np.ndarray | jax.Array


def eer(scores, labels, mask=None) -> Eer:
  """Equal error rate with the official threshold and tie convention.

  >>> eer([2.0, 3.0, 1.0], [1, 1, 0])
  Eer(eer=0.0, threshold=1.0)

  Args:
    scores: float [N], higher = more bona fide.
    labels: int or bool [N], spoof 0, bona fide 1.
    mask: bool [N], False = leave out; None = all are trials.

  Returns:
    `Eer`: Python floats for concrete input; float32 [] for traced input, NaN
    if a class is empty or a score that counts is not finite.

  Raises:
    ValueError: concrete input of unequal lengths, with one class only, no
      trial, a label other than 0 and 1, or a score that is not finite.
  """
  if any(isinstance(x, jax.core.Tracer) for x in (scores, labels, mask)):
    return _traced_eer(scores, labels, mask)
  return eer_of(scores, labels, mask)


def eer_of(scores, labels, mask=None) -> Eer:
  """`eer` of concrete scores, in float64; see there."""
  trials = sort_trials(scores, labels, mask)
  count = len(trials.scores)
  weight = np.zeros(bucket(count), np.int32)
  weight[:count] = 1
  value, at = host_eer(_jitted_crossing(weight, pad(trials.bonafide)))
  lowest = float(trials.scores[0])
  threshold = float(trials.scores[at]) if at >= 0 else lowest - FIRST_STEP
  return Eer(float(value), threshold)


def det_curve(scores, labels, mask=None, metric='eer') -> DetCurve:
  """Miss and false-alarm rates at every threshold, in the official order.

  Args:
    scores: float [N], higher = more bona fide.
    labels: int or bool [N], spoof 0, bona fide 1.
    mask: bool [N], False = leave out; None = all are trials.
    metric: what the curve is for; errors begin with it.

  Returns:
    `DetCurve` of [trials + 1] float64 arrays for concrete input; of [N + 1]
    float32 arrays for traced input, where the masked places follow at the end
    with miss 1, false alarm 0 and an infinite threshold.

  Raises:
    ValueError: as for `eer`.
  """
  if any(isinstance(x, jax.core.Tracer) for x in (scores, labels, mask)):
    return _traced_det_curve(scores, labels, mask)
  trials = sort_trials(scores, labels, mask, metric)
  misses = np.cumsum(trials.bonafide)
  rejected = np.cumsum(~trials.bonafide)
  scores = trials.scores.astype(np.float64)
  return DetCurve(
    np.append(0.0, misses / misses[-1]),
    np.append(1.0, (rejected[-1] - rejected) / rejected[-1]),
    np.append(scores[0] - FIRST_STEP, scores),
  )


_jitted_crossing = jax.jit(find_crossing)


def _traced_sort(scores, labels, mask):
  """Sort on the device: scores, bona fide flags and weights, all [N]."""
  scores = jnp.asarray(scores).astype(jnp.float32)
  labels = jnp.asarray(labels).astype(jnp.int32)
  mask = jnp.ones(scores.shape, bool) if mask is None else jnp.asarray(mask)
  # Bona fide 0, spoof 1, left out 2: ascending order among equal scores.
  rank = jnp.where(mask, jnp.where(labels == 1, 0, 1), 2)
  key = jnp.where(mask, scores, jnp.inf)
  finite = jnp.all(jnp.isfinite(scores) | ~mask)
  key, rank = lax.sort((key, rank), num_keys=2)
  return key, rank == 0, (rank < 2).astype(jnp.int32), finite


@functools.partial(jax.jit, inline=True)
def _traced_eer(scores, labels, mask) -> Eer:
  key, bonafide, weight, finite = _traced_sort(scores, labels, mask)
  point = find_crossing(weight, bonafide)
  value, position = traced_eer(point)
  at = jnp.clip(position, 0, key.shape[0] - 1)
  threshold = jnp.where(position < 0, key[0] - FIRST_STEP, key[at])
  good = finite & (point.bonafide > 0) & (point.spoof > 0)
  return Eer(
    jnp.where(good, value, jnp.nan), jnp.where(good, threshold, jnp.nan)
  )


@functools.partial(jax.jit, inline=True)
def _traced_det_curve(scores, labels, mask) -> DetCurve:
  key, bonafide, weight, finite = _traced_sort(scores, labels, mask)
  misses = jnp.cumsum(jnp.where(bonafide, weight, 0), dtype=jnp.int32)
  rejected = jnp.cumsum(jnp.where(bonafide, 0, weight), dtype=jnp.int32)
  good = finite & (misses[-1] > 0) & (rejected[-1] > 0)

  def rate(start, counts, total):
    counts = jnp.concatenate([start[None], counts])
    rates = counts.astype(jnp.float32) / total.astype(jnp.float32)
    return jnp.where(good, rates, jnp.nan)

  return DetCurve(
    rate(jnp.zeros((), jnp.int32), misses, misses[-1]),
    rate(rejected[-1], rejected[-1] - rejected, rejected[-1]),
    jnp.concatenate([key[:1] - FIRST_STEP, key]),
  )
