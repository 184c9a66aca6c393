"""Logarithms, deltas and normalisation that leave out a batch's padding.

Letters in names: B batch, N frames, F features. A mask `valid_BxNx1` is True
on the frames of a clip; it may be `[1, 1, 1]` where all frames are.
"""

import math

import jax
import jax.numpy as jnp

LOGS = {'ln': math.log(10), 'log10': 1.0, 'db': 10.0}  # of a factor of 10
_SMALL = 1e-10  # keeps the deviation of a constant feature from being 0


def valid_frames(frames_B: jax.Array, frames: int) -> jax.Array:
  """The mask of clips of `frames_B` frames in a batch: `[B, frames, 1]`."""
  index_1xN = jnp.arange(frames, dtype=frames_B.dtype)[None]
  return (index_1xN < frames_B[:, None])[:, :, None]


def logarithm(
  h_BxNxF: jax.Array, kind: str, floor: float, added: bool
) -> jax.Array:
  """Logarithm of energies.

  Args:
    h_BxNxF: energies, not below 0.
    kind: 'ln', 'log10' or 'db' (10 log10).
    floor: smallest energy told from silence.
    added: add the floor to the energies instead of raising them to it.
  """
  h_BxNxF = h_BxNxF + floor if added else jnp.maximum(h_BxNxF, floor)
  return jnp.log(h_BxNxF) * (LOGS[kind] / math.log(10))


def limit_range(
  h_BxNxF: jax.Array, valid_BxNx1: jax.Array, kind: str, top_db: float
) -> jax.Array:
  """Raises logarithms to `top_db` decibels below the clip's largest.

  Args:
    h_BxNxF: logarithms of energies.
    valid_BxNx1: frames that count.
    kind: of the logarithms.
    top_db: range in dB, whatever `kind`.
  """
  kept = jnp.where(valid_BxNx1, h_BxNxF, -jnp.inf)
  peak_Bx1x1 = kept.max((1, 2), keepdims=True)
  return jnp.maximum(h_BxNxF, peak_Bx1x1 - top_db / 10 * LOGS[kind])


def hold_last(h_BxNxF: jax.Array, frames_B: jax.Array) -> jax.Array:
  """Repeats each clip's last frame to the end of the batch."""
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
    frames_B: frames of each clip; None where each fills its row.
    order: 0, 1 or 2.
    width: see `delta`.
  """
  parts = [h_BxNxF]
  for _ in range(order):
    last = parts[-1] if frames_B is None else hold_last(parts[-1], frames_B)
    parts.append(delta(last, width))
  return jnp.concatenate(parts, -1)


def normalise(
  h_BxNxF: jax.Array, valid_BxNx1: jax.Array, variance: bool
) -> jax.Array:
  """Subtracts each feature's mean over a clip, and divides by its deviation.

  Args:
    h_BxNxF: features.
    valid_BxNx1: frames that count.
    variance: divide by the deviation (of the clip as a population).

  Returns:
    The same shape; frames that do not count have no meaning.
  """
  ones = jnp.where(valid_BxNx1, jnp.ones_like(h_BxNxF[:, :, :1]), 0)
  count_Bx1x1 = jnp.maximum(ones.sum(1, keepdims=True), 1)

  def mean(h):
    return jnp.where(valid_BxNx1, h, 0).sum(1, keepdims=True) / count_Bx1x1

  h_BxNxF = h_BxNxF - mean(h_BxNxF)
  if not variance:
    return h_BxNxF
  return h_BxNxF * jax.lax.rsqrt(mean(h_BxNxF**2) + _SMALL)
