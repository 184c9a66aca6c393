"""ReLU and batch normalisation in one, with few passes over memory.

Letters in names: B batch, N positions (all axes but the last), C channels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np


@functools.partial(jax.custom_vjp, nondiff_argnums=(6,))
def relu_batch_norm(
  x: jax.Array,
  offset_C: jax.Array,
  scale_C: jax.Array,
  bias_C: jax.Array,
  near_C: jax.Array,
  mask: jax.Array | None,
  epsilon: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Normalises `relu(x + offset)` with the statistics of the batch.

  Ioffe & Szegedy 2015 (arXiv 1502.03167), algorithm 1, after the activation
  as in ECAPA-TDNN. Arithmetic is float32 or better whatever the dtype of `x`.

  Args:
    x: `[..., C]`, floating point.
    offset_C: the bias that `x` lacks, in the dtype of the arithmetic.
    scale_C: gain of each channel, in the dtype of the arithmetic.
    bias_C: offset of each channel after normalisation, in the same dtype.
    near_C: a guess of each channel's mean, such as the stored running mean, in
      the same dtype. Squares are summed around it, in one pass; that is as
      exact as two passes, unless the guess is many standard deviations away.
    mask: bool `[...]`, the positions that the statistics are taken over; None
      takes all. All positions are normalised.
    epsilon: added to the variance.

  Returns:
    `[..., C]` in the dtype of `x`; mean and biased variance `[C]`, through
    which no gradient flows.
  """
  return _forward(x, offset_C, scale_C, bias_C, near_C, mask, epsilon)[0]


def _forward(x, offset_C, scale_C, bias_C, near_C, mask, epsilon):
  r_NxC, weight_N = _relu(x, offset_C, near_C), _weight(mask, offset_C.dtype)
  mean_C = _mean(r_NxC, weight_N)
  var_C = _mean(jnp.square(r_NxC), weight_N) - jnp.square(mean_C)
  var_C = jnp.maximum(var_C, 0)
  inverse_C = jax.lax.rsqrt(var_C + epsilon)
  gain_C = scale_C * inverse_C
  y_NxC = r_NxC * gain_C[None] + (bias_C - mean_C * gain_C)[None]
  y = y_NxC.astype(x.dtype).reshape(x.shape)
  residuals = x, offset_C, near_C, mask, mean_C, inverse_C, scale_C
  return (y, mean_C + near_C, var_C), residuals


def _backward(epsilon, residuals, cotangents):
  del epsilon
  x, offset_C, near_C, mask, mean_C, inverse_C, scale_C = residuals
  # As in the forward pass: less the guess.
  r_NxC, weight_N = (
    _relu(x, offset_C, near_C),
    _weight(mask, offset_C.dtype),
  )
  dy_NxC = _flat(cotangents[0])
  dbias_C = dy_NxC.sum(0)
  dscale_C = (dy_NxC * r_NxC).sum(0)
  dscale_C = (dscale_C - mean_C * dbias_C) * inverse_C
  # The statistics move with the positions that they are of.
  count = len(r_NxC) if weight_N is None else weight_N.sum()
  slant_C = inverse_C * dscale_C / count
  shift_NxC = (mean_C * slant_C - dbias_C / count)[None] - r_NxC * slant_C[None]
  if weight_N is not None:
    shift_NxC = shift_NxC * weight_N[:, None]
  dr_NxC = (dy_NxC + shift_NxC) * (scale_C * inverse_C)[None]
  dx_NxC = jnp.where(_flat(x) + offset_C[None] > 0, dr_NxC, 0)
  dx = dx_NxC.astype(x.dtype).reshape(x.shape)
  return dx, dx_NxC.sum(0), dscale_C, dbias_C, jnp.zeros_like(near_C), None


relu_batch_norm.defvjp(_forward, _backward)


def _mean(x_NxC, weight_N):
  if weight_N is None:
    return x_NxC.mean(0)
  return (x_NxC * weight_N[:, None]).sum(0) / weight_N.sum()


def _relu(x, offset_C, near_C):
  return jnp.maximum(_flat(x) + offset_C[None], 0) - near_C[None]


def _weight(mask, dtype):
  return None if mask is None else mask.reshape(-1).astype(dtype)


def _flat(x):
  dtype = np.promote_types(x.dtype, np.float32)
  return x.reshape(-1, x.shape[-1]).astype(dtype)
