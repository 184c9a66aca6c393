"""The point where misses and false alarms cross, found on the device.

Counts are int32 and their products int64, so nothing is rounded on the way to
the crossing (a float32 sum stops counting at 2**24). Only the last choice,
between the two points beside it, compares float64 rates as the official script
does: an exact tie falls on the side where its rounding puts it. JAX keeps 64
bits off by default; they are switched on here for elementwise operations alone.

Shapes: N = trials in ascending order of score.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxspoof.metrics.det import closest

BLOCK = 256  # one coarse and one fine search instead of a full cumulative sum


class Crossing(NamedTuple):
  """Two neighbouring operating points, in counts; each field int32 [].

  Attributes:
    misses: bona fide trials rejected at the last point where the miss rate is
      below the false-alarm rate.
    false_alarms: spoof trials accepted there.
    next_misses: bona fide trials rejected at the following point.
    next_false_alarms: spoof trials accepted there.
    bonafide: all bona fide trials.
    spoof: all spoof trials.
    position: the last trial rejected at the first point; -1 for none.
    next_position: the trial that the second point rejects too.
  """

  misses: jax.Array
  false_alarms: jax.Array
  next_misses: jax.Array
  next_false_alarms: jax.Array
  bonafide: jax.Array
  spoof: jax.Array
  position: jax.Array
  next_position: jax.Array


def find_crossing(weight_N, bonafide_N) -> Crossing:
  """Find where the miss rate overtakes the false-alarm rate.

  Rejecting the sorted trials one after the other raises the miss rate or
  lowers the false-alarm rate, never the reverse: their difference grows from
  -1 to 1, and is smallest beside its change of sign.

  Args:
    weight_N: int32 [N], 1 for each trial, 0 for padding.
    bonafide_N: bool [N], in ascending order of score, bona fide before spoof
      where scores are equal.

  Returns:
    The points on both sides. If a class is empty its total is 0 and the rest
    means nothing.
  """
  weight_N, bonafide_N = _whole_blocks(weight_N), _whole_blocks(bonafide_N)
  targets_N = jnp.where(bonafide_N, weight_N, 0)
  # Bona fide and spoof trials in blocks.
  counts_2xKxL = jnp.stack([targets_N, weight_N - targets_N])
  counts_2xKxL = counts_2xKxL.reshape(2, -1, BLOCK)
  blocks_2xK = _sum(counts_2xKxL, 2)
  bonafide, spoof = _sum(blocks_2xK, 1)

  def lead(misses, rejected):
    """How far misses are behind, in units of 1 / (bonafide * spoof)."""
    return lax.sub(
      _product(spoof - rejected, bonafide), _product(misses, spoof)
    )

  def search(added_2xM, before_2):
    """First entry after which misses prevail, and what is rejected before."""
    after_2xM = before_2[:, None] + jnp.cumsum(added_2xM, 1, dtype=jnp.int32)
    with jax.enable_x64(True):
      behind_M = lax.ge(lead(*after_2xM), np.int64(1))
    at = jnp.minimum(_sum(behind_M), behind_M.shape[0] - 1)
    return at, after_2xM[:, at] - added_2xM[:, at]

  block, rejected_2 = search(blocks_2xK, jnp.zeros(2, jnp.int32))
  inside, (misses, rejected) = search(counts_2xKxL[:, block], rejected_2)
  trial = block * BLOCK + inside
  one = counts_2xKxL[0, block, inside]
  return Crossing(
    misses,
    spoof - rejected,
    misses + one,
    spoof - rejected - (1 - one),
    bonafide,
    spoof,
    trial - 1,
    trial,
  )


def host_eer(point: Crossing):
  """EER and position of crossings on the host.

  Args:
    point: fields of one shape, on any device.

  Returns:
    (EER float64, position int), numpy arrays of that shape.
  """
  point = Crossing(*map(np.asarray, point))
  counts = [np.asarray(x, np.float64) for x in point[:6]]
  closer, eer, next_eer = closest(*counts[:4], counts[4:])
  return (
    np.where(closer, next_eer, eer),
    np.where(closer, point.next_position, point.position),
  )


def traced_eer(point: Crossing):
  """EER and position of a crossing, for code under `jit`.

  Returns:
    EER, float32 [], NaN if a class is empty; position, int32 [].
  """
  with jax.enable_x64(True):
    counts = [lax.convert_element_type(x, np.float64) for x in point[:6]]
    closer, *eers = closest(*counts[:4], counts[4:])
    eer, next_eer = (lax.convert_element_type(x, np.float32) for x in eers)
  position = jnp.where(closer, point.next_position, point.position)
  return jnp.where(closer, next_eer, eer), position


def _product(count, total):
  """Exact product of two int32 counts, int64."""
  with jax.enable_x64(True):
    total = lax.convert_element_type(total, np.int64)
    count = lax.convert_element_type(count, np.int64)
    return lax.mul(count, lax.broadcast(total, count.shape))


def _whole_blocks(x_N):
  """Fill up with zeros to a multiple of BLOCK."""
  return jnp.pad(x_N, (0, -x_N.shape[0] % BLOCK))


def _sum(x, axis=None):
  return jnp.sum(x, axis=axis, dtype=jnp.int32)
