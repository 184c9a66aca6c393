"""Batch normalisation and SELU in one, with few passes over memory.

Letters in names: N positions (all axes but the last), C channels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxspoof.ops import platform

_ALPHA = 1.6732632423543772848170429916717
_SCALE = 1.0507009873554804934193349852946


def selu(x: jax.Array) -> jax.Array:
  """Scaled exponential linear unit (Klambauer et al. 2017, equation 2).

  `exp(x) - 1` instead of `expm1(x)` halves the time on CPU; the error, one
  rounding of 1, is absolute and far below that of the convolution before.
  """
  below = _ALPHA * (jnp.exp(jnp.minimum(x, 0)) - 1)
  return _SCALE * jnp.where(x > 0, x, below)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def batch_norm_selu(
  x: jax.Array,
  scale_C: jax.Array,
  bias_C: jax.Array,
  near_C: jax.Array,
  epsilon: float,
) -> tuple[jax.Array, jax.Array, jax.Array]:
  """Normalises with the statistics of the batch, then applies SELU.

  Ioffe & Szegedy 2015 (arXiv 1502.03167), algorithm 1. Arithmetic is float32
  or better whatever the dtype of `x`. The variance is taken in two passes on
  CPU and in one on accelerators, where memory is what the time goes to.

  Args:
    x: `[..., C]`, floating point.
    scale_C: gain of each channel, in the dtype of the arithmetic.
    bias_C: offset of each channel, in the dtype of the arithmetic.
    near_C: a guess of each channel's mean, such as the stored running mean, in
      the dtype of the arithmetic. Where the variance is taken in one pass,
      squares are summed around it; that is as exact as two passes, unless the
      guess is many standard deviations away.
    epsilon: added to the variance.

  Returns:
    `[..., C]` in the dtype of `x`; mean and biased variance `[C]`, through
    which no gradient flows.
  """
  return _forward(x, scale_C, bias_C, near_C, epsilon)[0]


def _forward(x, scale_C, bias_C, near_C, epsilon):
  (x,) = _once((x,))
  wide_NxC = _wide(x)
  mean_C, var_C = platform.choose(
    wide_NxC, near_C, cpu=_moments_in_two_passes, default=_moments_in_one_pass
  )
  inverse_C = jax.lax.rsqrt(var_C + epsilon)
  z_NxC = _normalised(wide_NxC, mean_C, inverse_C, scale_C, bias_C)
  y = selu(z_NxC).astype(x.dtype).reshape(x.shape)
  return (y, mean_C, var_C), (x, y, mean_C, inverse_C, scale_C, bias_C)


def _moments_in_two_passes(x_NxC, near_C):
  del near_C
  mean_C = x_NxC.mean(0)
  return mean_C, jnp.square(x_NxC - mean_C[None]).mean(0)


def _moments_in_one_pass(x_NxC, near_C):
  off_NxC = x_NxC - near_C[None]
  off_C = off_NxC.mean(0)
  var_C = jnp.square(off_NxC).mean(0) - jnp.square(off_C)
  return near_C + off_C, jnp.maximum(var_C, 0)


def _normalised(x_NxC, mean_C, inverse_C, scale_C, bias_C):
  gain_C = scale_C * inverse_C
  # Not (x - mean) * gain: XLA would keep the difference of the variance.
  return x_NxC * gain_C[None] + (bias_C - mean_C * gain_C)[None]


def _backward(epsilon, residuals, cotangents):
  del epsilon
  x, y, *how = residuals
  mean_C, inverse_C, scale_C, _ = how
  # dz is computed anew by both passes: to keep it costs accelerators more.
  x, y, dy = _once((x, y, cotangents[0]))
  x_NxC, dz_NxC = _wide(x), _slope_times(x, y, dy, how)
  dbias_C = dz_NxC.sum(0)
  # Centred almost, then put right: XLA would keep x - mean, which the
  # variance was made of, in memory from the forward pass to here.
  near_C = 0.999 * mean_C
  dscale_C = (dz_NxC * (x_NxC - near_C[None])).sum(0)
  dscale_C = (dscale_C - (mean_C - near_C) * dbias_C) * inverse_C
  # dx = gain * (dz - mean of dz - xhat * mean of (dz * xhat)), by powers of x.
  slant_C = inverse_C * dscale_C / x_NxC.shape[0]
  offset_C = mean_C * slant_C - dbias_C / x_NxC.shape[0]
  x, y, dy = _once((x, y, dy))
  x_NxC, dz_NxC = _wide(x), _slope_times(x, y, dy, how)
  dx_NxC = dz_NxC - x_NxC * slant_C[None] + offset_C[None]
  dx_NxC = dx_NxC * (scale_C * inverse_C)[None]
  dx = dx_NxC.astype(x.dtype).reshape(x.shape)
  return dx, dscale_C, dbias_C, jnp.zeros_like(mean_C)


def _once(arrays):
  """Arrays that XLA keeps as they are: accelerators share nothing else."""
  return platform.choose(
    arrays, cpu=lambda v: v, default=jax.lax.optimization_barrier
  )


def _slope_times(x, y, dy, how):
  """Gradient with respect to what went into SELU."""
  x_NxC, y_NxC = _wide(x), _wide(y)
  slope_NxC = platform.choose(
    x_NxC, y_NxC, *how, cpu=_slope_of_output, default=_slope_of_input
  )
  return _wide(dy) * slope_NxC


def _slope_of_output(x_NxC, y_NxC, *how):
  """Of SELU: without a second exponential, which takes a CPU long."""
  del x_NxC, how
  return jnp.where(y_NxC > 0, _SCALE, y_NxC + _SCALE * _ALPHA)


def _slope_of_input(x_NxC, y_NxC, *how):
  """Of SELU: without reading the output, which takes an accelerator long."""
  del y_NxC
  z_NxC = _normalised(x_NxC, *how)
  below_NxC = _ALPHA * jnp.exp(jnp.minimum(z_NxC, 0))
  return _SCALE * jnp.where(z_NxC > 0, 1, below_NxC)


batch_norm_selu.defvjp(_forward, _backward)


def _wide(x):
  dtype = np.promote_types(x.dtype, np.float32)
  return x.reshape(-1, x.shape[-1]).astype(dtype)
