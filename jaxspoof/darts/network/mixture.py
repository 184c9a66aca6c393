"""A weighted sum of batch-normalised images, with few passes over memory.

Letters in names: N positions (all axes but the last), C channels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

Arrays = tuple[jax.Array, ...]


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def normalised_sum(
  images: Arrays, gains: Arrays, epsilon: float
) -> tuple[jax.Array, Arrays, Arrays]:
  """Sum of gain times (image - mean) / sqrt(variance + epsilon).

  Mean and biased variance are those of the batch, for each image and channel.
  Arithmetic is float32 or better whatever the dtype of the images.

  Args:
    images: each `[..., C]`, all of one shape.
    gains: one `[C]` for each image, in the dtype of the arithmetic.
    epsilon: added to the variance.

  Returns:
    `[..., C]` in the dtype of the images; means and variances, a `[C]` for
    each image, through which no gradient flows.
  """
  return _forward(images, gains, epsilon)[0]


@functools.partial(jax.jit, static_argnums=2)
def _forward(images: Arrays, gains: Arrays, epsilon: float):
  means, variances, inverses, total = [], [], [], 0
  for x, gain_C in zip(images, gains, strict=True):
    x_NxC = _wide(x)
    mean_C = x_NxC.mean(0)
    var_C = jnp.square(x_NxC - mean_C[None]).mean(0)
    inverse_C = jax.lax.rsqrt(var_C + epsilon)
    slope_C = gain_C * inverse_C
    total += x_NxC * slope_C[None] - (mean_C * slope_C)[None]
    means.append(mean_C)
    variances.append(var_C)
    inverses.append(inverse_C)
  y = total.astype(images[0].dtype).reshape(images[0].shape)
  statistics = tuple(means), tuple(variances)
  return (y, *statistics), (images, gains, statistics[0], tuple(inverses))


@functools.partial(jax.jit, static_argnums=0)
def _backward(epsilon, residuals, cotangents):
  del epsilon
  images, gains, means, inverses = residuals
  dy_NxC = _wide(cotangents[0])
  count = dy_NxC.shape[0]
  mean_dy_C = dy_NxC.sum(0) / count
  d_images, d_gains = [], []
  for x, gain_C, mean_C, inverse_C in zip(
    images, gains, means, inverses, strict=True
  ):
    x_NxC = _wide(x)
    product_C = (dy_NxC * (x_NxC - mean_C[None])).sum(0)
    d_gain_C = product_C * inverse_C
    # dx = slope * (dy - mean of dy - xhat * mean of dy * xhat).
    slope_C = gain_C * inverse_C
    slant_C = inverse_C * d_gain_C / count
    offset_C = mean_C * slant_C - mean_dy_C
    dx_NxC = (dy_NxC - x_NxC * slant_C[None] + offset_C[None]) * slope_C[None]
    d_images.append(dx_NxC.astype(x.dtype).reshape(x.shape))
    d_gains.append(d_gain_C)
  return tuple(d_images), tuple(d_gains)


normalised_sum.defvjp(_forward, _backward)


def _wide(x):
  dtype = np.promote_types(x.dtype, np.float32)
  return x.reshape(-1, x.shape[-1]).astype(dtype)
