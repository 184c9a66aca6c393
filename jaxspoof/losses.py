"""Losses: pure functions of logits and labels."""

import jax
import jax.numpy as jnp


def weighted_cross_entropy(
  logits: jax.Array, labels: jax.Array, weights: tuple[float, ...]
) -> jax.Array:
  """Class-weighted cross-entropy of the batch.

  The weighted mean `sum_i w[y_i] nll_i / sum_i w[y_i]`, as
  `torch.nn.CrossEntropyLoss(weight=w)` defines it: the sum of the weights that
  occur is the divisor, not the batch size.

  Args:
    logits: [B, classes].
    labels: int32 [B].
    weights: one positive number per class; AASIST uses (0.1, 0.9) for
      (spoof, bona fide).

  Returns:
    Scalar.
  """
  log_p = jax.nn.log_softmax(logits, axis=-1)
  nll = -jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]
  weight = jnp.asarray(weights, logits.dtype)[labels]
  return jnp.sum(weight * nll) / jnp.sum(weight)


LOSSES = {'weighted_cross_entropy': weighted_cross_entropy}
