"""The back end of Spectra-AASIST: two layers, positions and other graphs.

huggingface.co/lab260/Spectra-AASIST. Beside SSL-AASIST (`models.ssl_aasist`)
frames have learned positions, the image is of absolute values, residual blocks
use the norm before them, and there are four branches, without a SELU.

Letters in names: B batch, N frames, H bands before three make a row.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.models.aasist_config import need
from jaxspoof.models.ssl_aasist import SslAasist, SslAasistConfig


@dataclasses.dataclass(frozen=True)
class SpectraAasistConfig(SslAasistConfig):
  """What defines the back end; the defaults are the published one.

  Attributes:
    hidden: size of the middle of the two layers in front.
    positions: number of frames that there are learned positions for; those of
      a longer clip begin anew, where the original has no answer.
  """

  hidden: int = 128
  positions: int = 400

  branches: ClassVar[int] = 4
  activated: ClassVar[bool] = False
  normalised: ClassVar[bool] = True

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    super().__post_init__()
    need(self, 'hidden', self.hidden > 0, 'a size above 0')
    need(self, 'positions', self.positions > 0, 'a number above 0')


class SpectraAasist(SslAasist):
  """The back end: a sequence of features in, all clips of one length."""

  def build_bands(self, config: SpectraAasistConfig, rngs: nnx.Rngs) -> None:
    """Draws the parameters of `bands`."""
    options = dict(param_dtype=config.param_dtype, rngs=rngs)
    width = self.frontend.config.features
    self.bridge1 = layers.linear(width, config.hidden, **options)
    self.bridge2 = layers.linear(config.hidden, config.projection, **options)
    shape = (config.positions, config.projection)
    self.time_position = nnx.Param(
      layers.normal()(rngs.params(), shape, jnp.dtype(config.param_dtype))
    )

  def bands(self, features: jax.Array) -> jax.Array:
    """What is taken for an image, `[B, N, H]`."""
    h_BxNxH = self.bridge2(jax.nn.selu(self.bridge1(features)))
    index_N = np.arange(h_BxNxH.shape[1]) % self.config.positions
    return jnp.abs(h_BxNxH + self.time_position[...][index_N][None])
