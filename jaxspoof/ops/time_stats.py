"""Mean and variance over time, with gradients in one pass over memory.

The derivative of a variance through its mean vanishes, so that the gradient
of both is one line per value, without sums (`_spread`).

Letters in names: B batch, N frames, C channels.
"""

import jax
import jax.numpy as jnp


@jax.custom_vjp
def mean_and_variance(
  x_BxNxC: jax.Array, mask_BxN: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
  """Mean and biased variance of the valid frames.

  Args:
    x_BxNxC: sequences, float32 or wider.
    mask_BxN: bool, the valid frames; None: all.

  Returns:
    Both `[B, 1, C]`.
  """
  return _forward(x_BxNxC, mask_BxN)[0]


def _forward(x_BxNxC, mask_BxN):
  mean_Bx1xC = mean(x_BxNxC, mask_BxN)
  var_Bx1xC = mean(jnp.square(x_BxNxC - mean_Bx1xC), mask_BxN)
  return (mean_Bx1xC, var_Bx1xC), (x_BxNxC, mask_BxN, mean_Bx1xC)


def _backward(residuals, cotangents):
  x_BxNxC, mask_BxN, mean_Bx1xC = residuals
  share = 1 / x_BxNxC.shape[1]
  if mask_BxN is not None:
    share = 1 / _count(mask_BxN, x_BxNxC.dtype)
  slope_BxNxC = _spread(x_BxNxC, mean_Bx1xC, *(v * share for v in cotangents))
  if mask_BxN is not None:
    slope_BxNxC = jnp.where(mask_BxN[..., None], slope_BxNxC, 0)
  return slope_BxNxC, None


mean_and_variance.defvjp(_forward, _backward)


@jax.custom_vjp
def attentive_mean_and_variance(
  x_BxNxC: jax.Array,
  logits_BxNxC: jax.Array,
  mask_BxN: jax.Array | None = None,
) -> tuple[jax.Array, jax.Array]:
  """Mean and variance weighted by the softmax of logits over time.

  Okabe, Koshinaka, Shinoda 2018, "Attentive Statistics Pooling for Deep
  Speaker Embedding", arXiv 1803.10963, equations 5 and 6, with weights of
  their own for each channel.

  Args:
    x_BxNxC: sequences, float32 or wider.
    logits_BxNxC: logits of the weights, float32 or wider; their softmax is
      taken over time.
    mask_BxN: bool, the valid frames, one at least; None: all.

  Returns:
    Both `[B, 1, C]`.
  """
  return _attentive_forward(x_BxNxC, logits_BxNxC, mask_BxN)[0]


def _attentive_forward(x_BxNxC, logits_BxNxC, mask_BxN):
  if mask_BxN is not None:
    logits_BxNxC = jnp.where(mask_BxN[..., None], logits_BxNxC, -jnp.inf)
  top_Bx1xC = logits_BxNxC.max(1, keepdims=True)
  weight_BxNxC = jnp.exp(logits_BxNxC - top_Bx1xC)
  total_Bx1xC = weight_BxNxC.sum(1, keepdims=True)
  mean_Bx1xC = _dot(weight_BxNxC, x_BxNxC) / total_Bx1xC
  square_BxNxC = jnp.square(x_BxNxC - mean_Bx1xC)
  var_Bx1xC = _dot(weight_BxNxC, square_BxNxC) / total_Bx1xC
  norm_Bx1xC = top_Bx1xC + jnp.log(total_Bx1xC)
  residuals = x_BxNxC, logits_BxNxC, norm_Bx1xC, mean_Bx1xC, var_Bx1xC
  return (mean_Bx1xC, var_Bx1xC), residuals


def _attentive_backward(residuals, cotangents):
  x_BxNxC, logits_BxNxC, norm_Bx1xC, mean_Bx1xC, var_Bx1xC = residuals
  dmean_Bx1xC, dvar_Bx1xC = cotangents
  weight_BxNxC = jnp.exp(logits_BxNxC - norm_Bx1xC)
  centred_BxNxC = x_BxNxC - mean_Bx1xC
  # The gradient of the weights, less its own mean: that of the logits.
  of_mean_BxNxC = dmean_Bx1xC * centred_BxNxC
  of_var_BxNxC = dvar_Bx1xC * (jnp.square(centred_BxNxC) - var_Bx1xC)
  return (
    weight_BxNxC * _spread(x_BxNxC, mean_Bx1xC, dmean_Bx1xC, dvar_Bx1xC),
    weight_BxNxC * (of_mean_BxNxC + of_var_BxNxC),
    None,
  )


attentive_mean_and_variance.defvjp(_attentive_forward, _attentive_backward)


def _dot(a_BxNxC, b_BxNxC):
  """The sum over time of the products."""
  if a_BxNxC.shape[0] == 1:
    # On CPU XLA is forty times as fast when it does not see the batch's axis.
    return (a_BxNxC[0] * b_BxNxC[0]).sum(0)[None, None]
  return (a_BxNxC * b_BxNxC).sum(1, keepdims=True)


def _spread(x_BxNxC, mean_Bx1xC, dmean_Bx1xC, dvar_Bx1xC):
  """The gradient of a frame, but for the frame's weight."""
  return dmean_Bx1xC + 2 * dvar_Bx1xC * (x_BxNxC - mean_Bx1xC)


def mean(x_BxNxC: jax.Array, mask_BxN: jax.Array | None = None) -> jax.Array:
  """The mean of the valid frames, `[B, 1, C]`."""
  if mask_BxN is None:
    return x_BxNxC.mean(1, keepdims=True)
  total_Bx1xC = jnp.where(mask_BxN[..., None], x_BxNxC, 0).sum(1, keepdims=True)
  return total_Bx1xC / _count(mask_BxN, x_BxNxC.dtype)


def _count(mask_BxN, dtype):
  return mask_BxN.sum(1, dtype=dtype)[:, None, None]
