"""The last layer of every model: an embedding in, outputs for the loss out.

Which head a model gets follows from the loss (`losses.Loss.head`): margins are
about angles and need cosines, cross-entropy takes logits.

Letters in names: B batch, D embedding, K outputs.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers

_SMALLEST = 1e-12  # norm that an embedding is divided by at least


class Cosine(nnx.Module):
  """Cosines of the angles between an embedding and one vector per output."""

  def __init__(
    self, features: int, outputs: int, *, param_dtype: str, rngs: nnx.Rngs
  ):
    """Draws the vectors `[outputs, features]`: Glorot's uniform."""
    deviation = math.sqrt(2 / (features + outputs))
    shape, dtype = (outputs, features), jnp.dtype(param_dtype)
    init = layers.uniform(math.sqrt(3) * deviation)
    self.weight = nnx.Param(init(rngs.params(), shape, dtype))

  def __call__(self, embedding_BxD: jax.Array) -> jax.Array:
    """Returns cosines `[B, K]` in [-1, 1]."""
    dtype = jnp.promote_types(embedding_BxD.dtype, self.weight.dtype)
    x_BxD, w_KxD = (
      unit(v.astype(dtype)) for v in (embedding_BxD, self.weight[...])
    )
    return jnp.matmul(x_BxD, w_KxD.T, precision=jax.lax.Precision.HIGHEST)


def unit(x: jax.Array) -> jax.Array:
  """Vectors along the last axis, scaled to length 1; zero stays zero."""
  square = jnp.sum(jnp.square(x), -1, keepdims=True)
  # The root's gradient at 0 is infinite.
  return x * jax.lax.rsqrt(jnp.maximum(square, _SMALLEST**2))


def _linear(features, outputs, *, param_dtype, rngs):
  return layers.linear(features, outputs, param_dtype=param_dtype, rngs=rngs)


# Kind of head: its layer, and its outputs for a number of classes.
HEADS = {
  'linear': (_linear, lambda classes: classes),
  'cosine': (Cosine, lambda classes: classes),
  'one_class': (Cosine, lambda classes: 1),
}


@dataclasses.dataclass(frozen=True)
class Head:
  """What defines a head; it follows from loss and task of a run.

  Attributes:
    kind: a key of `HEADS`: 'linear', 'cosine' or 'one_class', see `make`.
    classes: number of classes that it tells apart; bona fide is the last one.
  """

  kind: str = 'linear'
  classes: int = 2

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    check(self.kind, self.classes)

  def make(
    self, features: int, *, param_dtype: str = 'float32', rngs: nnx.Rngs
  ) -> nnx.Module:
    """The layer `(embedding [B, features]) -> outputs [B, K]`."""
    return make(
      self.kind, features, self.classes, param_dtype=param_dtype, rngs=rngs
    )


def make(
  kind: str,
  features: int,
  classes: int = 2,
  *,
  param_dtype: str = 'float32',
  rngs: nnx.Rngs,
) -> nnx.Module:
  """A head `(embedding [B, features]) -> outputs [B, K]`.

  Args:
    kind: 'linear' (K = classes logits), 'cosine' (K = classes cosines) or
      'one_class' (the cosine to the one vector of bona fide speech, K = 1).
    features: size of the embedding.
    classes: bona fide is the last one; two for detection: spoof, bona fide.
    param_dtype: dtype of the weights.
    rngs: random streams; weights are drawn from `params`.

  Raises:
    ValueError: `check` refuses kind or classes.
  """
  check(kind, classes)
  layer, outputs = HEADS[kind]
  return layer(features, outputs(classes), param_dtype=param_dtype, rngs=rngs)


def check(kind: str, classes: int) -> None:
  """Raises ValueError for a kind or a number of classes that cannot be."""
  if kind not in HEADS:
    raise ValueError(f'head={kind!r}: needs one of {", ".join(HEADS)}')
  if classes < 2:
    raise ValueError(f'classes={classes}: needs at least 2')
