"""Logarithms, deltas and normalisation that leave out a batch's padding.

A clip in a padded batch has to get the features that it gets alone, so nothing
here may look at frames behind its end.

Letters in names: B batch, N frames, F features. A mask `valid_BxNx1` is True
on the frames that belong to a clip and False on padding; where no clip is
padded it may be a single True, `[1, 1, 1]`.
"""

import math

import jax
import jax.numpy as jnp

LOGS = {'ln': math.log(10), 'log10': 1.0, 'db': 10.0}  # of a factor of 10
_SMALL = 1e-10  # keeps the deviation of a constant feature from being 0


def valid_frames(frames_B: jax.Array, frames: int) -> jax.Array:
  """True on the first `frames_B[i]` frames of clip i: `[B, frames, 1]`."""
  index_1xN = jnp.arange(frames, dtype=frames_B.dtype)[None]
  return (index_1xN < frames_B[:, None])[:, :, None]


def logarithm(
  h_BxNxF: jax.Array, kind: str, floor: float, added: bool
) -> jax.Array:
  """Logarithm of energies.

  Args:
    h_BxNxF: energies, not below 0.
    kind: 'ln' (natural), 'log10', or 'db' (10 times log10).
    floor: a small energy that keeps the logarithm of silence finite.
    added: if True the floor is added to all energies; otherwise energies below
      it are replaced by it.
  """
  h_BxNxF = h_BxNxF + floor if added else jnp.maximum(h_BxNxF, floor)
  return jnp.log(h_BxNxF) * (LOGS[kind] / math.log(10))


def limit_range(
  h_BxNxF: jax.Array, valid_BxNx1: jax.Array, kind: str, top_db: float
) -> jax.Array:
  """Lifts values more than `top_db` decibels below the clip's largest to there.

  Args:
    h_BxNxF: logarithms of energies.
    valid_BxNx1: the mask of frames that belong to a clip; others are not
      searched for the largest value.
    kind: which logarithm it is: 'ln', 'log10' or 'db'.
    top_db: range that is kept, in decibels for any `kind`.
  """
  kept = jnp.where(valid_BxNx1, h_BxNxF, -jnp.inf)
  peak_Bx1x1 = kept.max((1, 2), keepdims=True)
  return jnp.maximum(h_BxNxF, peak_Bx1x1 - top_db / 10 * LOGS[kind])


def hold_last(h_BxNxF: jax.Array, frames_B: jax.Array) -> jax.Array:
  """Overwrites the padding behind each clip with its last frame."""
  last_Bx1 = jnp.maximum(frames_B, 1)[:, None] - 1
  index_1xN = jnp.arange(h_BxNxF.shape[1], dtype=frames_B.dtype)[None]
  source_BxN = jnp.minimum(index_1xN, last_Bx1)
  return jnp.take_along_axis(h_BxNxF, source_BxN[:, :, None], 1, mode='clip')


def delta(h_BxNxF: jax.Array, width: int) -> jax.Array:
  """Change of features over time; the outermost frames are repeated.

  Args:
    h_BxNxF: features.
    width: 0 for x[t + 1] - x[t - 1], as the baselines of the ASVspoof
      challenges have it; odd for the slope of the regression line over that
      many frames (HTK Book 3.4, equation 5.16).

  Returns:
    The same shape; width 3 is half of width 0.
  """
  frames, reach = h_BxNxF.shape[1], max(1, width // 2)
  h = jnp.pad(h_BxNxF, ((0, 0), (reach, reach), (0, 0)), mode='edge')
  slope = 0
  for k in range(1, reach + 1):
    later, earlier = h[:, reach + k :], h[:, reach - k :]
    slope = slope + k * (later[:, :frames] - earlier[:, :frames])
  return slope / (2 * sum(k**2 for k in range(reach + 1))) if width else slope


def with_deltas(
  h_BxNxF: jax.Array, frames_B: jax.Array | None, order: int, width: int
) -> jax.Array:
  """Appends deltas and, for order 2, their deltas: `[B, N, F (1 + order)]`.

  Args:
    h_BxNxF: features.
    frames_B: number of frames of each clip; None if no clip is padded.
    order: 0 appends nothing, 1 deltas, 2 also the deltas of the deltas.
    width: see `delta`.
  """
  parts = [h_BxNxF]
  for _ in range(order):
    # A clip alone repeats its last frame beyond its end (`delta`); in a padded
    # batch that frame has to be written there first.
    last = parts[-1] if frames_B is None else hold_last(parts[-1], frames_B)
    parts.append(delta(last, width))
  return jnp.concatenate(parts, -1)


def normalise(
  h_BxNxF: jax.Array, valid_BxNx1: jax.Array, variance: bool
) -> jax.Array:
  """Subtracts each feature's mean over a clip, and divides by its deviation.

  Args:
    h_BxNxF: features.
    valid_BxNx1: the mask of frames that belong to a clip; means and deviations
      are taken over these.
    variance: if True features are also divided by their standard deviation
      (with the number of frames as divisor, not one less).

  Returns:
    Features of the same shape; values on padding are meaningless.
  """
  ones = jnp.where(valid_BxNx1, jnp.ones_like(h_BxNxF[:, :, :1]), 0)
  count_Bx1x1 = jnp.maximum(ones.sum(1, keepdims=True), 1)

  def mean(h):
    return jnp.where(valid_BxNx1, h, 0).sum(1, keepdims=True) / count_Bx1x1

  h_BxNxF = h_BxNxF - mean(h_BxNxF)
  if not variance:
    return h_BxNxF
  return h_BxNxF * jax.lax.rsqrt(mean(h_BxNxF**2) + _SMALL)
