"""The separator of Conv-TasNet as the encoder of a detector.

The network that makes masks in Conv-TasNet (Luo and Mesgarani 2019, arXiv
1809.07454), `blocks.tcn`, on a sequence of features; mean and deviation over
time of what comes out, and a layer. The combination is ours: a survey lists
self-supervised features, Conv-TasNet and AAM-softmax for Ito and Horiguchi 2023
(arXiv 2305.15518), whose network is not described there, and nothing of it is
reproduced.

Letters in names: B batch, N frames, C channels, E size of the embedding.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers, tcn
from jaxspoof.frontends.spectral import PRESETS, SpectralConfig
from jaxspoof.ops import time_stats
from jaxspoof.system import Encoded, System


@dataclasses.dataclass(frozen=True)
class ConvTasNetEncoderConfig(tcn.TcnConfig):
  """What defines the encoder: half the network of the paper, by default.

  Attributes:
    embedding: size of the embedding.
  """

  hidden: int = 256
  blocks: int = 6
  stacks: int = 2
  embedding: int = 192

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    super().__post_init__()
    if self.embedding < 1:
      raise ValueError(f'embedding={self.embedding}: needs at least 1')

  @property
  def own_frontend(self) -> SpectralConfig:
    """80 log mel energies, where a run names no front end."""
    return PRESETS['fbank80']

  @property
  def min_frames(self) -> int:
    """Of two frames there is a deviation."""
    return 2

  def check_frontend(self, frontend) -> None:
    """Takes any sequence of features."""


class ConvTasNetEncoder(System):
  """Runs the network over features, and takes statistics over time."""

  variable_length = True

  def build(self, config: ConvTasNetEncoderConfig, rngs: nnx.Rngs) -> int:
    """Draws the parameters as PyTorch does."""
    self.tcn = tcn.Tcn(config, self.frontend.config.features, rngs)
    self.slope = tcn.slope(config.param_dtype)
    self.out = layers.linear(
      2 * config.outputs,
      config.embedding,
      param_dtype=config.param_dtype,
      rngs=rngs,
    )
    return config.embedding

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Encoded:
    """The embedding of features, `[B, embedding]`."""
    del rngs
    where_BxN = None
    if frames_B is not None:
      index_1xN = jnp.arange(features.shape[1], dtype=frames_B.dtype)[None]
      where_BxN = index_1xN < frames_B[:, None]
    where_BxNx1 = None if where_BxN is None else where_BxN[..., None]
    dtype = jnp.promote_types(features.dtype, self.config.param_dtype)
    with jax.named_scope('tcn'):
      h_BxNxC = self.tcn(features.astype(dtype), where_BxNx1)
      h_BxNxC = tcn.prelu(h_BxNxC, self.slope[...])
    with jax.named_scope('pooling'):
      mean, var = time_stats.mean_and_variance(h_BxNxC, where_BxN)
      # A channel that does not move must not have an infinite gradient.
      deviation = jnp.sqrt(jnp.maximum(var, 1e-6))
      pooled_BxC = jnp.concatenate([mean, deviation], 2)[:, 0]
      embedding_BxE = self.out(pooled_BxC)
    return Encoded(embedding_BxE, embedding_BxE)
