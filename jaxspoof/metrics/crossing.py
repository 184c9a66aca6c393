"""The point where misses and false alarms cross: one rule for every metric.

All counts are int32 and therefore exact (a float32 sum stops counting at
2**24). Only the comparison of two rates is rounded, in float64 and in the
order in which the official script does it, so that an exact tie between two
operating points falls on the same side. JAX keeps float64 off by default; it
is switched on here for these elementwise operations alone.

Shapes: N = trials in ascending order of score.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

BLOCK = 256  # one coarse and one fine search instead of a full cumulative sum


class Crossing(NamedTuple):
  """An operating point, in counts. Each field is int32 [].

  Attributes:
    misses: bona fide trials rejected.
    false_alarms: spoof trials accepted.
    bonafide: all bona fide trials.
    spoof: all spoof trials.
    position: the last trial rejected, in ascending order; -1 for none.
  """

  misses: jax.Array
  false_alarms: jax.Array
  bonafide: jax.Array
  spoof: jax.Array
  position: jax.Array

  def eer(self) -> jax.Array:
    """Mean of the two error rates, float32 []; NaN if a class is empty."""
    with jax.enable_x64(True):
      total = lax.add(
        _rate(self.misses, self.bonafide), _rate(self.false_alarms, self.spoof)
      )
      half = lax.mul(total, lax.convert_element_type(0.5, np.float64))
      return lax.convert_element_type(half, np.float32)


def find_crossing(weight_N, bonafide_N) -> Crossing:
  """Find the operating point whose two error rates are closest.

  Rejecting the sorted trials one after the other raises the miss rate or
  lowers the false-alarm rate, never the reverse: their difference grows from
  -1 to 1, and the closest point lies at its change of sign. Of two equally
  close points the first counts.

  Args:
    weight_N: int32 [N], how many times each trial is there (0 = not at all:
      padding, or not drawn by a bootstrap). Each copy is a point of its own.
    bonafide_N: bool [N], in ascending order of score, bona fide before spoof
      where scores are equal.

  Returns:
    The crossing. If a class is empty its total is 0 and the rest means nothing.
  """
  weight_N, bonafide_N = _whole_blocks(weight_N), _whole_blocks(bonafide_N)
  targets_N = jnp.where(bonafide_N, weight_N, 0)
  targets_KxL = targets_N.reshape(-1, BLOCK)
  others_KxL = (weight_N - targets_N).reshape(-1, BLOCK)
  bonafide, spoof = _sum(targets_KxL), _sum(others_KxL)

  def search(targets, others, misses, rejected):
    """First entry after which misses prevail, and the counts before it."""
    misses_after = misses + jnp.cumsum(targets, dtype=jnp.int32)
    rejected_after = rejected + jnp.cumsum(others, dtype=jnp.int32)
    below = _misses_below(misses_after, spoof - rejected_after, bonafide, spoof)
    at = jnp.minimum(_sum(below), targets.shape[0] - 1)
    return at, misses_after[at] - targets[at], rejected_after[at] - others[at]

  zero = jnp.zeros((), jnp.int32)
  block, misses, rejected = search(
    _sum(targets_KxL, 1), _sum(others_KxL, 1), zero, zero
  )
  inside, misses, rejected = search(
    targets_KxL[block], others_KxL[block], misses, rejected
  )
  target = targets_KxL[block, inside] > 0
  before = Crossing(misses, spoof - rejected, bonafide, spoof, zero)
  copies = targets_KxL[block, inside] + others_KxL[block, inside]
  taken = _closest_copy(before, target, copies)
  position = block * BLOCK + inside - (taken == 0).astype(jnp.int32)
  return _reject(before, target, taken)._replace(position=position)


def _closest_copy(before: Crossing, target, copies):
  """How many of the equal copies of one trial to reject, int32 []."""
  with jax.enable_x64(True):
    wanted = lax.floor(
      lax.select(
        target,
        _rescaled(before.false_alarms, before.spoof, before.bonafide)
        - lax.convert_element_type(before.misses, np.float64),
        lax.convert_element_type(before.false_alarms, np.float64)
        - _rescaled(before.misses, before.bonafide, before.spoof),
      )
    )
    wanted = lax.convert_element_type(wanted, np.int32)
  best = jnp.clip(wanted - 1, 0, copies)
  for offset in (0, 1, 2):
    other = jnp.clip(wanted + offset, 0, copies)
    closer = _closer(
      _reject(before, target, other), _reject(before, target, best)
    )
    best = jnp.where(closer, other, best)
  return best


def _reject(point: Crossing, target, count) -> Crossing:
  """The operating point after rejecting `count` more copies of a trial."""
  return point._replace(
    misses=point.misses + jnp.where(target, count, 0),
    false_alarms=point.false_alarms - jnp.where(target, 0, count),
  )


def _rate(count, total):
  """Count over total in float64, rounded as numpy does; call under x64."""
  return lax.div(
    lax.convert_element_type(count, np.float64),
    lax.convert_element_type(total, np.float64),
  )


def _rescaled(count, total, other_total):
  """Count of another class with the same rate, float64; call under x64."""
  scale = lax.convert_element_type(other_total, np.float64)
  return lax.mul(_rate(count, total), scale)


def _closer(a: Crossing, b: Crossing):
  """Whether the error rates of a are strictly closer than those of b."""
  with jax.enable_x64(True):
    gap_a, gap_b = (
      lax.abs(
        lax.sub(_rate(c.misses, c.bonafide), _rate(c.false_alarms, c.spoof))
      )
      for c in (a, b)
    )
    return lax.lt(gap_a, gap_b)


def _misses_below(misses_N, false_alarms_N, bonafide, spoof):
  """Whether the miss rate is below the false-alarm rate, bool [N]."""
  bonafide_N = jnp.broadcast_to(bonafide, misses_N.shape)
  spoof_N = jnp.broadcast_to(spoof, misses_N.shape)
  with jax.enable_x64(True):
    return lax.lt(_rate(misses_N, bonafide_N), _rate(false_alarms_N, spoof_N))


def _whole_blocks(x_N):
  """Fill up with zeros to a multiple of BLOCK."""
  return jnp.pad(x_N, (0, -x_N.shape[0] % BLOCK))


def _sum(x, axis=None):
  return jnp.sum(x, axis=axis, dtype=jnp.int32)
