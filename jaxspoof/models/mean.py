"""A layer and the mean over time: the back end of Hugging Face's classifiers.

Letters in names: B batch, N frames, F features, D size of the embedding.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.models.back_end import BackEndConfig
from jaxspoof.system import Encoded, System


@dataclasses.dataclass(frozen=True)
class MeanConfig(BackEndConfig):
  """What defines a `Mean`.

  Attributes:
    projection: size of the embedding; None: the features themselves are meant.
    param_dtype: dtype of the parameters, 'float32' or 'float64'.
  """

  projection: int | None = 256
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    if self.projection is not None and self.projection < 1:
      raise ValueError(f'projection={self.projection}: needs at least 1')


class Mean(System):
  """Projects each frame of the features, and takes the mean over frames."""

  variable_length = True

  def build(self, config: MeanConfig, rngs: nnx.Rngs) -> int:
    """Makes the projection."""
    if config.projection is None:
      return self.frontend.config.features
    self.projector = layers.linear(
      self.frontend.config.features,
      config.projection,
      param_dtype=config.param_dtype,
      rngs=rngs,
    )
    return config.projection

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Encoded:
    """The mean of the projected frames, `[B, projection]`."""
    del rngs
    h_BxNxD = features
    if self.config.projection is not None:
      with jax.named_scope('projector'):
        h_BxNxD = self.projector(features)
    where = None
    if frames_B is not None:
      index_1xN = jnp.arange(h_BxNxD.shape[1], dtype=frames_B.dtype)[None]
      where = (index_1xN < frames_B[:, None])[..., None]
    embedding_BxD = h_BxNxD.mean(1, where=where)
    return Encoded(embedding_BxD, embedding_BxD)
