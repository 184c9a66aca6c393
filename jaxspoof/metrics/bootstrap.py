"""Bootstrap intervals of the EER (Efron & Tibshirani, 1993, chapter 13).

Each resample draws as many units as there are, with replacement, from the
bona fide and from the spoof ones separately. A unit is a trial, or a group of
trials that are not independent (a speaker, an attack): trials of one speaker
agree more than trials of several, and an interval from single trials is then
too narrow.

The trials are sorted once. A resample is a count per unit, so its EER takes
one pass over the sorted trials, and no sort. Resamples run in small chunks:
memory stays at a few vectors of the length of the data.

Shapes: N = trials, U = units, R = resamples.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxspoof.metrics.crossing import find_crossing, host_eer
from jaxspoof.metrics.trials import SortedTrials, bucket, sort_trials

CHUNK = 8  # resamples at a time


class Interval(NamedTuple):
  """Percentile interval of a rate, as fractions."""

  low: float
  high: float


def bootstrap_eer(
  scores, labels, *, key, resamples=1000, confidence=0.95, groups=None
) -> Interval:
  """Percentile interval of the EER.

  Args:
    scores: float [N], higher = more bona fide.
    labels: int or bool [N], spoof 0, bona fide 1.
    key: `jax.random.key`; the same key gives the same interval.
    resamples: R, how many.
    confidence: share of the resampled EERs inside the interval.
    groups: [N] of any sortable type: trials that are drawn together, such as
      'speaker/attack'; None = each trial by itself.

  Returns:
    `Interval`, fractions.

  Raises:
    ValueError: scores and labels as for `eer`; groups of another length;
      resamples below 1; confidence outside (0, 1).
  """
  if not 0 < confidence < 1:
    raise ValueError(f'confidence must lie in (0, 1); got {confidence}')
  eers_R = resampled_eers(
    scores, labels, key=key, resamples=resamples, groups=groups
  )
  tail = (1 - confidence) / 2
  low, high = np.quantile(eers_R, [tail, 1 - tail])
  return Interval(float(low), float(high))


def resampled_eers(
  scores, labels, *, key, resamples=1000, groups=None
) -> np.ndarray:
  """EERs of bootstrap resamples.

  Args:
    scores: float [N], higher = more bona fide.
    labels: int or bool [N], spoof 0, bona fide 1.
    key: `jax.random.key`.
    resamples: R, how many.
    groups: as for `bootstrap_eer`.

  Returns:
    float64 [R], each equal to `eer` of the trials drawn.

  Raises:
    ValueError: as for `bootstrap_eer`.
  """
  if resamples < 1:
    raise ValueError(f'resamples must be at least 1; got {resamples}')
  unit_N, *counts = _units(sort_trials(scores, labels), groups)
  keys = jax.random.split(key, resamples)
  # Whole chunks: a smaller one at the end would be compiled apart.
  whole = np.arange(-(-resamples // CHUNK) * CHUNK)
  points = _resample(
    keys[np.minimum(whole, resamples - 1)],
    unit_N,
    *map(np.uint32, counts),
    *map(bucket, counts),
  )
  eers_R, _ = host_eer(points)
  return eers_R[:resamples]


def draw_units(key, count, size: int):
  """Draw `count` of `count` units with replacement.

  Args:
    key: `jax.random.key`.
    count: uint32 [], units; a unit's chance is 1/count within count/2**32.
    size: static, at least `count`; does not change what is drawn.

  Returns:
    int32 [size] in [0, count); the first `count` entries are the draw.
  """
  bits = jax.random.bits(key, (size,), jnp.uint32)
  return lax.rem(bits, jnp.broadcast_to(count, (size,))).astype(jnp.int32)


def _units(trials: SortedTrials, groups):
  """Number the units: bona fide ones from 0, spoof ones from a bucket on.

  Returns:
    (unit of each sorted trial, padded with a unit that is never drawn; number
    of bona fide units; number of spoof units).
  """
  if groups is None:
    names = np.arange(len(trials.order))
  elif np.shape(groups) == trials.order.shape:
    names = np.asarray(groups)[trials.order]
  else:
    raise ValueError(
      f'groups must be a vector as long as the {len(trials.order)} scores; '
      f'got shape {np.shape(groups)}'
    )
  units = [
    np.unique(names[flags], return_inverse=True)
    for flags in (trials.bonafide, ~trials.bonafide)
  ]
  counts = [len(distinct) for distinct, _ in units]
  sizes = [bucket(len(inverse)) for _, inverse in units]
  unit_N = np.full(sum(sizes), sum(map(bucket, counts)), np.int32)
  filled = unit_N[: len(names)]
  filled[trials.bonafide] = units[0][1]
  filled[~trials.bonafide] = units[1][1] + bucket(counts[0])
  return unit_N, *counts


@functools.partial(jax.jit, static_argnums=(4, 5))
def _resample(keys_R, unit_N, targets, others, size, other_size):
  """Crossings of resamples, each field int32 [R]."""

  def one(key):
    target_key, other_key = jax.random.split(key)
    counts_U = jnp.concatenate(
      [
        _counts(target_key, targets, size),
        _counts(other_key, others, other_size),
        jnp.zeros(1, jnp.int32),  # the padding
      ]
    )
    return find_crossing(counts_U[unit_N], unit_N < size)

  return lax.map(one, keys_R, batch_size=CHUNK)


def _counts(key, count, size):
  """How often each unit is drawn, int32 [size]."""
  drawn = draw_units(key, count, size)
  counted = jnp.arange(size, dtype=jnp.uint32) < count
  return jnp.zeros(size, jnp.int32).at[drawn].add(counted.astype(jnp.int32))
