"""The residual encoder of AASIST: an image of frequency by time to features.

Letters in names: B batch, H frequency bands, W frames, C channels.
"""

import jax
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.models.aasist_config import POOL, AasistConfig
from jaxspoof.ops import pool


class ResidualBlock(nnx.Module):
  """Two convolutions, a shortcut and max-pooling over time."""

  def __init__(
    self, inputs: int, outputs: int, config, rngs: nnx.Rngs, pool: int = POOL
  ):
    """Draws the parameters.

    Args:
      inputs: channels in.
      outputs: channels out.
      config: an `AasistConfig` or an `SslAasistConfig`.
      rngs: random streams; weights are drawn from `params`.
      pool: frames that become one; 1 for no pooling.
    """
    self.pool = pool
    options = dict(param_dtype=config.param_dtype, rngs=rngs)
    # The first convolution adds a band and the second takes it away.
    self.conv1 = layers.Conv2d(
      inputs, outputs, (2, 3), padding=((1, 1), (1, 1)), **options
    )
    self.norm2 = layers.BatchNorm(outputs, param_dtype=config.param_dtype)
    self.conv2 = layers.Conv2d(
      outputs, outputs, (2, 3), padding=((0, 0), (1, 1)), **options
    )
    if inputs != outputs:
      self.shortcut = layers.Conv2d(
        inputs, outputs, (1, 3), padding=((0, 0), (1, 1)), **options
      )
    else:
      self.shortcut = None
    self.normalised = config.normalised and inputs != 1
    if inputs != 1:
      norm = layers.BatchNorm if self.normalised else layers.UnusedBatchNorm
      self.norm1 = norm(inputs, param_dtype=config.param_dtype)

  def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
    """Returns `[B, H, W // pool, outputs]`."""
    # Frames that the pooling would drop are not made.
    frames = x_BxHxWxC.shape[2] // self.pool * self.pool
    h = x_BxHxWxC
    if self.normalised:
      h = self.norm1.then_selu(h)
    h = self.conv1(h, with_bias=False)
    h = self.norm2.then_selu(h, offset_C=self.conv1.bias[...])
    h = self.conv2(h, frames=frames)
    if self.shortcut is None:
      h = h + x_BxHxWxC[:, :, :frames]
    else:
      h = h + self.shortcut(x_BxHxWxC, frames=frames)
    return h if self.pool == 1 else pool.max_pool_time(h, self.pool)


class Encoder(nnx.Module):
  """A chain of residual blocks, `block0` first."""

  def __init__(self, config: AasistConfig, rngs: nnx.Rngs, pool: int = POOL):
    """Makes one block per entry of `config.channels`; see `ResidualBlock`."""
    self.length, self.remat = len(config.channels), config.remat
    inputs = (1, *config.channels)
    for i, (c_in, c_out) in enumerate(
      zip(inputs, config.channels, strict=False)
    ):
      # Named attributes: integer keys of nnx.List do not survive checkpoints.
      block = ResidualBlock(c_in, c_out, config, rngs, pool)
      setattr(self, f'block{i}', block)

  def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
    """Returns `[B, H, W // pool**blocks, channels[-1]]`."""
    for i in range(self.length):
      block = getattr(self, f'block{i}')
      if self.remat:
        x_BxHxWxC = layers.transformed(jax.checkpoint, block, x_BxHxWxC)
      else:
        x_BxHxWxC = block(x_BxHxWxC)
    return x_BxHxWxC
