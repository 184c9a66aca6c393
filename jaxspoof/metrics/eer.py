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

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxspoof.metrics.crossing import find_crossing, host_eer, traced_eer
from jaxspoof.metrics.det import FIRST_STEP, Eer
from jaxspoof.metrics.trials import bucket, pad, sort_trials


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
  """Equal error rate of numpy scores in their own precision; see `eer`."""
  trials = sort_trials(scores, labels, mask)
  count = len(trials.scores)
  weight = np.zeros(bucket(count), np.int32)
  weight[:count] = 1
  value, at = host_eer(_jitted_crossing(weight, pad(trials.bonafide)))
  lowest = float(trials.scores[0])
  threshold = float(trials.scores[at]) if at >= 0 else lowest - FIRST_STEP
  return Eer(float(value), threshold)


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
