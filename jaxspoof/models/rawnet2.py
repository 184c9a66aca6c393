"""RawNet2 for anti-spoofing: waves to an embedding by a GRU.

Tak, Patino, Todisco, Nautsch, Evans, Larcher 2021, "End-to-End Anti-Spoofing
with RawNet2", arXiv 2011.01108, in the form of the baseline of ASVspoof 2021
LA: fixed mel-spaced sinc filters, six residual blocks each with a gate for
every channel, three layers of GRU.

Letters in names: B batch, T samples, N frames, C channels, D embedding.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.blocks.recurrent import Gru
from jaxspoof.frontends import WaveConfig, sinc
from jaxspoof.ops import conv1d, pool
from jaxspoof.system import WAVES, Encoded, System

POOL = 3  # of the filters' magnitudes and of each block
SLOPE = 0.3  # of the activation below 0


@dataclasses.dataclass(frozen=True)
class RawNet2Config:
  """What defines a RawNet2. The defaults are the baseline.

  Attributes:
    sinc_filters: number of filters in the fixed bank.
    sinc_taps: length of a filter in samples; an even one becomes odd.
    channels: output channels of each residual block.
    gru_nodes: hidden size of each GRU layer.
    gru_layers: number of GRU layers.
    embedding: size of the layer behind the GRU.
    sample_rate: sampling rate of the waves in Hz.
    param_dtype: dtype of parameters and running statistics.
  """

  sinc_filters: int = 20
  sinc_taps: int = 1024
  channels: tuple[int, ...] = (20, 20, 128, 128, 128, 128)
  gru_nodes: int = 1024
  gru_layers: int = 3
  embedding: int = 1024
  sample_rate: int = 16_000
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Makes a tuple of a list and refuses what cannot work."""
    object.__setattr__(self, 'channels', tuple(self.channels))
    for name in ('sinc_filters', 'sinc_taps', 'gru_nodes', 'gru_layers'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)}: needs at least 1')
    if not self.channels or min(*self.channels, self.embedding) < 1:
      raise ValueError(
        f'channels={self.channels}, embedding={self.embedding}: need sizes '
        'above 0'
      )

  @property
  def own_frontend(self) -> WaveConfig:
    """The wave itself: the sinc bank is a layer of the model."""
    return WaveConfig(self.sample_rate)

  def check_frontend(self, frontend: WaveConfig) -> None:
    """Accepts the one front end of waves, which has nothing to go wrong."""

  @property
  def min_frames(self) -> int:
    """Samples of the shortest wave that leaves one frame after all pooling."""
    frames = POOL ** len(self.channels)
    return sinc.samples_needed(self.sinc_taps, POOL, frames)


class Conv1d(nnx.Module):
  """A convolution of stride 1 that keeps the frames: zeros around."""

  def __init__(self, inputs, outputs, size, *, param_dtype, rngs):
    """Draws the kernel `[size, inputs, outputs]` and the bias."""
    init, dtype = (
      layers.uniform_of_fan_in(inputs * size),
      jnp.dtype(param_dtype),
    )
    shape = (size, inputs, outputs)
    self.kernel = nnx.Param(init(rngs.params(), shape, dtype))
    self.bias = nnx.Param(init(rngs.params(), (outputs,), dtype))

  def __call__(self, x_BxNxC: jax.Array) -> jax.Array:
    """Returns `[B, N, outputs]` in the dtype of `x`."""
    reach = self.kernel.shape[0] // 2
    x_BxNxC = jnp.pad(x_BxNxC, ((0, 0), (reach, reach), (0, 0)))
    kernel, bias = (
      v[...].astype(x_BxNxC.dtype) for v in (self.kernel, self.bias)
    )
    return conv1d.conv1d(x_BxNxC, kernel) + bias[None, None]


class ResidualBlock(nnx.Module):
  """Two convolutions, a shortcut, max-pooling and a gate per channel."""

  def __init__(self, inputs: int, outputs: int, first: bool, options: dict):
    """Draws the parameters.

    Args:
      inputs: channels in.
      outputs: channels out.
      first: whether it is the first block, which has one normalisation less.
      options: `param_dtype` and `rngs` of the layers.
    """
    dtype = options['param_dtype']
    if not first:
      # The original computes it and goes on with what came in.
      self.norm1 = layers.UnusedBatchNorm(inputs, param_dtype=dtype)
    self.conv1 = Conv1d(inputs, outputs, 3, **options)
    self.norm2 = layers.BatchNorm(outputs, param_dtype=dtype)
    self.conv2 = Conv1d(outputs, outputs, 3, **options)
    if inputs != outputs:
      self.shortcut = Conv1d(inputs, outputs, 1, **options)
    else:
      self.shortcut = None
    self.gate = layers.linear(outputs, outputs, **options)

  def __call__(self, x_BxNxC: jax.Array) -> jax.Array:
    """Returns `[B, N // 3, outputs]`."""
    h = jax.nn.leaky_relu(self.norm2(self.conv1(x_BxNxC)), SLOPE)
    h = self.conv2(h)
    h = max_pool(h + (self.shortcut(x_BxNxC) if self.shortcut else x_BxNxC))
    # Feature map scaling: the gate of a channel multiplies and is added.
    gate_Bx1xC = jax.nn.sigmoid(self.gate(h.mean(1)))[:, None]
    return h * gate_Bx1xC + gate_Bx1xC


class RawNet2(System):
  """Waves of one length in, outputs of the head out."""

  takes = WAVES

  def build(self, config: RawNet2Config, rngs: nnx.Rngs) -> int:
    """Makes the layers."""
    options = dict(param_dtype=config.param_dtype, rngs=rngs)
    dtype, channels = config.param_dtype, config.channels
    self.first_norm = layers.BatchNorm(config.sinc_filters, param_dtype=dtype)
    inputs = (config.sinc_filters, *channels[:-1])
    for i, (before, after) in enumerate(zip(inputs, channels, strict=True)):
      block = ResidualBlock(before, after, i == 0, options)
      setattr(self, f'block{i}', block)
    self.last_norm = layers.BatchNorm(channels[-1], param_dtype=dtype)
    for i in range(config.gru_layers):
      size = config.gru_nodes if i else channels[-1]
      setattr(self, f'gru{i}', Gru(size, config.gru_nodes, **options))
    self.dense = layers.linear(config.gru_nodes, config.embedding, **options)
    return config.embedding

  def encode(self, features, frames_B=None, rngs=None) -> Encoded:
    """The embedding of waves `[B, T]`: what the GRU knows at their end."""
    del frames_B, rngs  # clips have one length, nothing is drawn
    c = self.config
    with jax.named_scope('sinc'):
      bank = sinc.mel_bank(c.sinc_filters, c.sinc_taps, c.sample_rate)
      bank = jnp.asarray(bank, features.dtype)
      h = max_pool(jnp.abs(sinc.filter_wave(features, bank)))
    with jax.named_scope('blocks'):
      h = self.first_norm.then_selu(h)
      for i in range(len(c.channels)):
        h = getattr(self, f'block{i}')(h)
      h = self.last_norm.then_selu(h)
    with jax.named_scope('gru'):
      for i in range(c.gru_layers):
        h = getattr(self, f'gru{i}')(h)
      embedding_BxD = self.dense(h[:, -1])
    return Encoded(embedding_BxD, embedding_BxD)


def max_pool(x_BxNxC: jax.Array) -> jax.Array:
  """Maximum of three frames; those that fill no window are dropped."""
  return pool.max_pool_time(x_BxNxC[:, None], POOL)[:, 0]
