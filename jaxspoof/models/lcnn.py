"""LFCC-LCNN with two LSTMs: features to an embedding by a light CNN.

Lavrentyeva et al. 2019, "STC Antispoofing Systems for the ASVspoof2019
Challenge", arXiv 1904.05576, with the recurrent layers and the mean over time
of Wang and Yamagishi 2021, arXiv 2103.11326, in the form of the baseline of
ASVspoof 2021 LA.

Letters in names: B batch, N frames, F features, C channels, D embedding.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.blocks.recurrent import BiLstm
from jaxspoof.darts.network import units
from jaxspoof.frontends import PRESETS, SpectralConfig
from jaxspoof.ops import pool
from jaxspoof.system import Encoded, FrontendConfig, System

POOLS = 4  # that halve frames and features


class Layer(NamedTuple):
  """A convolution with Max-Feature-Map, and what follows it."""

  size: int
  channels: int  # after Max-Feature-Map, which halves them
  pool: bool = False
  norm: bool = False


LAYERS = (
  Layer(5, 32, pool=True),
  Layer(1, 32, norm=True),
  Layer(3, 48, pool=True, norm=True),
  Layer(1, 48, norm=True),
  Layer(3, 64, pool=True),
  Layer(1, 64, norm=True),
  Layer(3, 32, norm=True),
  Layer(1, 32, norm=True),
  Layer(3, 32, pool=True),
)


@dataclasses.dataclass(frozen=True)
class LcnnConfig:
  """What defines an LCNN. The defaults are the baseline.

  Attributes:
    width: factor on the channels of all convolutions.
    dropout: dropout rate after the convolutions.
    param_dtype: dtype of parameters and running statistics.
  """

  width: float = 1.0
  dropout: float = 0.7
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    if not min(round(self.width * layer.channels) for layer in LAYERS) > 0:
      raise ValueError(f'width={self.width}: leaves a layer without channels')
    if not 0 <= self.dropout < 1:
      raise ValueError(f'dropout={self.dropout}: needs a rate in [0, 1)')

  @property
  def layers(self) -> tuple[Layer, ...]:
    """The convolutions."""
    return tuple(
      layer._replace(channels=round(self.width * layer.channels))
      for layer in LAYERS
    )

  @property
  def own_frontend(self) -> SpectralConfig:
    """The LFCCs of the baseline."""
    return PRESETS['lfcc_asvspoof2021']

  @property
  def min_frames(self) -> int:
    """Shortest sequence that leaves one frame after all pooling."""
    return 2**POOLS

  def check_frontend(self, frontend: FrontendConfig) -> None:
    """Raises ValueError for so few features that pooling leaves nothing."""
    if self.size(frontend.features) < 2:
      raise ValueError(
        f'front end of {frontend.features} features: the LCNN halves them '
        f'{POOLS} times, expected at least {2**POOLS}'
      )

  def size(self, features: int) -> int:
    """Features of a frame after the convolutions, an even number."""
    size = features // 2**POOLS * self.layers[-1].channels
    return size - size % 2


class Lcnn(System):
  """Features of clips of one length in, outputs of the head out."""

  def build(self, config: LcnnConfig, rngs: nnx.Rngs) -> int:
    """Makes the layers."""
    options = dict(param_dtype=config.param_dtype, rngs=rngs)
    inputs = 1
    for i, layer in enumerate(config.layers):
      edge = (layer.size // 2,) * 2
      conv = layers.Conv2d(
        inputs,
        2 * layer.channels,
        (layer.size, layer.size),
        padding=(edge, edge),
        **options,
      )
      setattr(self, f'conv{i}', conv)
      inputs = layer.channels
      if layer.norm:
        norm = units.Norms(
          1, inputs, affine=False, param_dtype=config.param_dtype
        )
        setattr(self, f'norm{i}', norm)
    self.dropout = layers.Dropout(config.dropout)
    size = config.size(self.frontend.config.features)
    self.lstm0 = BiLstm(size, size, **options)
    self.lstm1 = BiLstm(size, size, **options)
    return size

  def encode(self, features, frames_B=None, rngs=None) -> Encoded:
    """The mean over time of what LSTMs add to the convolutions, `[B, D]`."""
    del frames_B  # None: clips have one length
    with jax.named_scope('convolutions'):
      h_BxNxFxC = self._convolve(features[..., None])
      noise = None
      if self.config.dropout and not self.dropout.deterministic:
        count = h_BxNxFxC[0].size
        noise = layers.Noise.draw(rngs, len(h_BxNxFxC), count)
      h_BxNxFxC = self.dropout(h_BxNxFxC, noise)
    with jax.named_scope('lstm'):
      size = self.config.size(features.shape[2])
      h_BxNxD = h_BxNxFxC.swapaxes(2, 3).reshape(*h_BxNxFxC.shape[:2], -1)
      h_BxNxD = h_BxNxD[..., :size]  # two LSTMs side by side: an even number
      added_BxNxD = self.lstm1(self.lstm0(h_BxNxD))
    embedding_BxD = (h_BxNxD + added_BxNxD).mean(1)
    return Encoded(embedding_BxD, embedding_BxD)

  def _convolve(self, h_BxNxFxC: jax.Array) -> jax.Array:
    for i, layer in enumerate(self.config.layers):
      # Max-Feature-Map: of each pair of channels the larger value goes on.
      first, second = jnp.split(getattr(self, f'conv{i}')(h_BxNxFxC), 2, -1)
      h_BxNxFxC = jnp.maximum(first, second)
      if layer.pool:
        h_BxNxFxC = pool.max_pool_image(h_BxNxFxC, 2)
      if layer.norm:
        h_BxNxFxC = units.normalise(h_BxNxFxC, getattr(self, f'norm{i}'))
    return h_BxNxFxC
