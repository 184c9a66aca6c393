"""AASIST's graphs on a sequence of features, such as states of an encoder.

Tak, Todisco, Wang, Jung, Yamagishi, Evans 2022, "Automatic Speaker Verification
Spoofing and Deepfake Detection Using wav2vec 2.0 and Data Augmentation",
Odyssey, arXiv 2202.12233; github.com/TakHemlata/SSL_Anti-spoofing.

A layer makes bands of the features of each frame, and they are taken for the
image that AASIST makes of a wave. Its residual blocks keep the width; what one
node of a graph is given of the image is chosen by attention.

Letters in names: B batch, N frames, D features, H bands, W width, C channels.
"""

import dataclasses

import jax
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.models.aasist import Graphs
from jaxspoof.models.aasist_config import (
  POOL,
  GraphsConfig,
  check_graphs,
  dropped,
  need,
)
from jaxspoof.models.aasist_encoder import Encoder
from jaxspoof.models.back_end import BackEndConfig
from jaxspoof.ops import pool
from jaxspoof.system import Encoded


@dataclasses.dataclass(frozen=True)
class SslAasistConfig(GraphsConfig, BackEndConfig):
  """What defines the back end; the defaults are the published one.

  Attributes:
    projection: bands that a layer makes of the features of a frame; three make
      one row of the image.
    channels: output channels of each residual block.
    attention_channels: size of the middle of the attention over the image.
    gat_dims: node sizes of the first and of the second graph layers.
    pool_ratios: share of nodes kept in the spectral, temporal and
      heterogeneous graphs.
    temperatures: softmax temperatures in the same three graphs.
    input_dropout: dropout rate before each graph attention.
    pool_dropout: dropout rate before the scores of each graph pooling.
    way_dropout: dropout rate on the outputs of the two branches.
    output_dropout: dropout rate before the last layer.
    dtype: dtype of the residual encoder; graphs and statistics are at least
      float32.
    param_dtype: dtype of parameters and running statistics.
    remat: whether the residual blocks are computed again in the backward pass,
      which saves memory and costs time.
  """

  projection: int = 128
  channels: tuple[int, ...] = (32, 32, 64, 64, 64, 64)
  attention_channels: int = 128
  gat_dims: tuple[int, int] = (64, 32)
  pool_ratios: tuple[float, float, float] = (0.5, 0.5, 0.5)
  temperatures: tuple[float, float, float] = (2.0, 2.0, 100.0)
  input_dropout: float = 0.2
  pool_dropout: float = 0.3
  way_dropout: float = 0.2
  output_dropout: float = 0.5
  dtype: str = 'float32'
  param_dtype: str = 'float32'
  remat: bool = False

  def __post_init__(self):
    """Turns lists into tuples; raises ValueError for invalid values."""
    check_graphs(self)
    need(self, 'projection', self.bands > 1, 'at least 6 bands')
    positive = self.attention_channels > 0
    need(self, 'attention_channels', positive, 'a size above 0')

  @property
  def bands(self) -> int:
    """Height of the image."""
    return self.projection // POOL

  @property
  def min_frames(self) -> int:
    """Two columns of the image; more than one node is needed to attend."""
    return 2 * POOL

  def dropped(self, frames: int) -> tuple[int, int]:
    """How many values of a clip pass through dropout layers; see `dropped`."""
    return dropped(self, (self.bands, frames // POOL))


class SslAasist(Graphs):
  """The back end: a sequence of features in, all clips of one length."""

  def build(self, config: SslAasistConfig, rngs: nnx.Rngs) -> int:
    """Draws the parameters as the original does."""
    options = dict(param_dtype=config.param_dtype, rngs=rngs)
    norm = dict(param_dtype=config.param_dtype)
    channels = config.channels[-1]
    self.build_bands(config, rngs)
    self.first_norm = layers.BatchNorm(1, **norm)
    self.encoder = Encoder(config, rngs, pool=1)
    self.last_norm = layers.BatchNorm(channels, **norm)
    middle = config.attention_channels
    self.score1 = layers.linear(channels, middle, **options)
    self.score_norm = layers.BatchNorm(middle, **norm)
    self.score2 = layers.linear(middle, channels, **options)
    return self.build_graphs(config, config.bands, rngs)

  def build_bands(self, config: SslAasistConfig, rngs: nnx.Rngs) -> None:
    """Draws the parameters of `bands`."""
    self.projection = layers.linear(
      self.frontend.config.features,
      config.projection,
      param_dtype=config.param_dtype,
      rngs=rngs,
    )

  def bands(self, features: jax.Array) -> jax.Array:
    """What is taken for an image, `[B, N, projection]`."""
    return self.projection(features)

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Encoded:
    """The embedding of features `[B, N, D]`, see `join`."""
    del frames_B  # None: clips have one length
    batch, frames, _ = features.shape
    noise = self.noise(batch, frames, rngs)
    with jax.named_scope('encoder'):
      h_BxHxWxC = self.image(features)
    with jax.named_scope('graph'):
      nodes = self.attend(h_BxHxWxC, noise)
      return self.join(*nodes, frames, noise)

  def image(self, features: jax.Array) -> jax.Array:
    """The output of the residual encoder, `[B, bands, N // 3, channels]`."""
    c = self.config
    h_BxNxH = self.bands(features)
    h = pool.max_pool_image(h_BxNxH[..., : c.bands * POOL], POOL)
    h_BxHxWxC = self.first_norm.then_selu(h.mT[..., None])
    h_BxHxWxC = self.encoder(h_BxHxWxC.astype(c.dtype))
    h_BxHxWxC = h_BxHxWxC.astype(layers.wide(h_BxHxWxC.dtype))
    return self.last_norm.then_selu(h_BxHxWxC)

  def attend(
    self, h_BxHxWxC: jax.Array, noise: layers.Noise | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Spectral `[B, H, D]` and temporal `[B, W, D]` nodes before pooling."""
    score = self.score_norm(jax.nn.selu(self.score1(h_BxHxWxC)))
    score_BxHxWxC = self.score2(score)
    h_BxHxC, h_BxWxC = (
      (h_BxHxWxC * jax.nn.softmax(score_BxHxWxC, axis)).sum(axis)
      for axis in (2, 1)
    )
    spectral = self.attention_spectral(h_BxHxC + self.position[...], noise)
    return spectral, self.attention_temporal(h_BxWxC, noise)
