"""The temporal convolutional network of Conv-TasNet, and what it is made of.

Luo, Mesgarani 2019, "Conv-TasNet: Surpassing Ideal Time-Frequency Magnitude
Masking for Speech Separation", arXiv 1809.07454.

Everything here computes in the library of its arrays: a module that holds
arrays of JAX trains and runs on any device, and the same module with arrays of
numpy runs where there is no JAX to wait for, as in processes that read data.

Letters in names: B batch, N frames, C channels, I channels in, O channels out,
K taps.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof import arithmetic
from jaxspoof.blocks import layers
from jaxspoof.ops import conv1d

Array = Any  # of numpy or of JAX
NORMS = ('global', 'cumulative', 'frame')
EPSILON = 1e-8


@dataclasses.dataclass(frozen=True)
class TcnConfig:
  """What defines the network; the defaults are those of the paper.

  Attributes:
    bottleneck: channels between blocks, B in the paper.
    hidden: channels within a block, H.
    skip: channels of what all blocks add up to, Sc; 0: there is no such sum,
      and what the last block leaves is the output.
    taps: of the convolution over time, P.
    blocks: in a stack, X; from each to the next the dilation doubles.
    stacks: how often they are repeated, R.
    norm: over what values are brought to mean 0 and variance 1: 'global',
      channels and time; 'cumulative', channels and the time so far (cLN in the
      paper, cgLN in asteroid); 'frame', the channels of each frame (cLN in
      asteroid).
    causal: whether a frame depends on no later one.
    param_dtype: dtype of the parameters, 'float32' or 'float64'.
  """

  bottleneck: int = 128
  hidden: int = 512
  skip: int = 128
  taps: int = 3
  blocks: int = 8
  stacks: int = 3
  norm: str = 'global'
  causal: bool = False
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    for name in ('bottleneck', 'hidden', 'taps', 'blocks', 'stacks'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)!r}: needs at least 1')
    if self.skip < 0:
      raise ValueError(f'skip={self.skip}: needs at least 0')
    if self.norm not in NORMS:
      raise ValueError(
        f'norm={self.norm!r}: expected one of {", ".join(NORMS)}'
      )
    if self.causal and self.norm == 'global':
      raise ValueError(
        "causal=True with norm='global', which looks at all frames: expected "
        "norm='cumulative' or norm='frame'"
      )
    if not self.causal and not self.taps % 2:
      raise ValueError(
        f'taps={self.taps}: expected an odd number, or causal=True'
      )

  @property
  def outputs(self) -> int:
    """Channels that come out."""
    return self.skip or self.bottleneck


class Pointwise(nnx.Module):
  """The same dense layer for each frame: a convolution of one tap."""

  def __init__(self, inputs: int, outputs: int, dtype: str, rngs: nnx.Rngs):
    """Draws the kernel `[inputs, outputs]` and the bias, as PyTorch."""
    init = layers.uniform_of_fan_in(inputs)
    dtype = jnp.dtype(dtype)
    self.kernel = nnx.Param(init(rngs.params(), (inputs, outputs), dtype))
    self.bias = nnx.Param(init(rngs.params(), (outputs,), dtype))

  def __call__(self, x_BxNxI: Array) -> Array:
    """Returns `[B, N, outputs]`."""
    return product(x_BxNxI, self.kernel[...]) + self.bias[...][None, None]


class Depthwise(nnx.Module):
  """A convolution over time of each channel for itself."""

  def __init__(self, channels: int, taps: int, dtype: str, rngs: nnx.Rngs):
    """Draws the kernel `[taps, 1, channels]` and the bias, as PyTorch."""
    init = layers.uniform_of_fan_in(taps)
    dtype = jnp.dtype(dtype)
    self.kernel = nnx.Param(init(rngs.params(), (taps, 1, channels), dtype))
    self.bias = nnx.Param(init(rngs.params(), (channels,), dtype))

  def __call__(self, x_BxNxC: Array, dilation: int, causal: bool) -> Array:
    """Returns `[B, N, C]`; around the sequence there are zeros."""
    kernel_Kx1xC, frames = self.kernel[...], x_BxNxC.shape[1]
    reach = (len(kernel_Kx1xC) - 1) * dilation
    before = reach if causal else reach // 2
    padded = library(x_BxNxC).pad(
      x_BxNxC, ((0, 0), (before, reach - before), (0, 0))
    )
    total = self.bias[...][None, None]
    with arithmetic.sums_of_products():
      for tap, row_1xC in enumerate(kernel_Kx1xC):
        shifted = padded[:, tap * dilation : tap * dilation + frames]
        total = total + shifted * row_1xC[None]
    return total


class Norm(nnx.Module):
  """Layer normalisation of sequences, over what its kind says."""

  def __init__(self, channels: int, kind: str, dtype: str):
    """Starts at scale 1 and bias 0."""
    self.kind = kind
    self.scale = nnx.Param(layers.filled(1, (channels,), dtype))
    self.bias = nnx.Param(layers.filled(0, (channels,), dtype))

  def __call__(self, x_BxNxC: Array, where_BxNx1: Array | None) -> Array:
    """Normalises `[B, N, C]`; frames that are not valid do not count."""
    mean, var = self._moments(x_BxNxC, where_BxNx1)
    normal = (x_BxNxC - mean) / library(var).sqrt(var + EPSILON)
    return normal * self.scale[...][None, None] + self.bias[...][None, None]

  def _moments(self, x_BxNxC: Array, where_BxNx1: Array | None):
    if self.kind == 'cumulative':
      # Frames that are not valid come last: no valid one sees them.
      frames, channels = x_BxNxC.shape[1:]
      xp = library(x_BxNxC)
      count_N = xp.arange(1, frames + 1, dtype=np.int32) * channels
      count_1xNx1 = count_N.astype(x_BxNxC.dtype)[None, :, None]
      sums = x_BxNxC.sum(2, keepdims=True), (x_BxNxC**2).sum(2, keepdims=True)
      mean, square = (xp.cumsum(s, 1) / count_1xNx1 for s in sums)
      return mean, xp.maximum(square - mean**2, 0)
    axes = (1, 2) if self.kind == 'global' else 2
    options = {} if self.kind == 'frame' else {'where': where_BxNx1}
    if where_BxNx1 is None:
      options = {}
    mean = x_BxNxC.mean(axes, keepdims=True, **options)
    var = ((x_BxNxC - mean) ** 2).mean(axes, keepdims=True, **options)
    return mean, var


class Block(nnx.Module):
  """A block: wider, over time, and back, twice with PReLU and norm."""

  def __init__(
    self, config: TcnConfig, dilation: int, last: bool, rngs: nnx.Rngs
  ):
    """Draws the parameters.

    Args:
      config: of the network.
      dilation: frames from one tap to the next.
      last: whether no block follows: then nothing needs its residual, unless
        that is the output.
      rngs: random streams.
    """
    c, dtype = config, config.param_dtype
    self.dilation, self.causal = dilation, c.causal
    self.enter = Pointwise(c.bottleneck, c.hidden, dtype, rngs)
    self.slope1, self.norm1 = slope(dtype), Norm(c.hidden, c.norm, dtype)
    self.depthwise = Depthwise(c.hidden, c.taps, dtype, rngs)
    self.slope2, self.norm2 = slope(dtype), Norm(c.hidden, c.norm, dtype)
    if not (last and c.skip):
      self.residual = Pointwise(c.hidden, c.bottleneck, dtype, rngs)
    if c.skip:
      self.skip = Pointwise(c.hidden, c.skip, dtype, rngs)

  def __call__(
    self, x_BxNxC: Array, where_BxNx1: Array | None
  ) -> tuple[Array | None, Array | None]:
    """What is to be added to the sequence, and to the sum of all blocks."""
    h = prelu(self.enter(x_BxNxC), self.slope1[...])
    h = self.norm1(h, where_BxNx1)
    if where_BxNx1 is not None:  # as the zeros behind a clip that is alone
      h = library(h).where(where_BxNx1, h, 0)
    h = self.depthwise(h, self.dilation, self.causal)
    h = self.norm2(prelu(h, self.slope2[...]), where_BxNx1)
    residual, skip = (
      getattr(self, 'residual', None),
      getattr(self, 'skip', None),
    )
    return residual and residual(h), skip and skip(h)


class Tcn(nnx.Module):
  """The network: stacks of blocks whose dilations double."""

  def __init__(self, config: TcnConfig, inputs: int, rngs: nnx.Rngs):
    """Draws the parameters for sequences of `inputs` channels."""
    self.config = config
    self.norm = Norm(inputs, config.norm, config.param_dtype)
    self.enter = Pointwise(inputs, config.bottleneck, config.param_dtype, rngs)
    count = config.stacks * config.blocks
    for i in range(count):
      dilation = 2 ** (i % config.blocks)
      block = Block(config, dilation, i == count - 1, rngs)
      setattr(self, f'block{i}', block)

  def __call__(self, x_BxNxI: Array, where_BxNx1: Array | None = None) -> Array:
    """Runs the network.

    Args:
      x_BxNxI: sequences.
      where_BxNx1: bool, which frames are valid, the first ones of each clip;
        None: all.

    Returns:
      `[B, N, outputs]`.
    """
    h = self.enter(self.norm(x_BxNxI, where_BxNx1))
    total = None
    for i in range(self.config.stacks * self.config.blocks):
      residual, skip = getattr(self, f'block{i}')(h, where_BxNx1)
      h = h if residual is None else h + residual
      total = skip if total is None or skip is None else total + skip
    return h if total is None else total


def slope(dtype: str) -> nnx.Param:
  """The one value of a PReLU, which starts at 0.25."""
  return nnx.Param(jnp.full((1,), 0.25, jnp.dtype(dtype)))


def prelu(x_BxNxC: Array, slope_1: Array) -> Array:
  """Lets what is above 0 pass, and scales what is below."""
  xp = library(x_BxNxC)
  below = slope_1[None, None] * xp.minimum(x_BxNxC, 0)
  return xp.maximum(x_BxNxC, 0) + below


def product(x_BxNxI: Array, kernel_IxO: Array) -> Array:
  """`[B, N, O]`, the product of each frame with a kernel."""
  if isinstance(x_BxNxI, jax.Array):  # with gradients that are fast on CPUs
    return conv1d.conv1d(x_BxNxI, kernel_IxO[None])
  return x_BxNxI @ kernel_IxO


def library(x: Array):
  """`jax.numpy` for arrays of JAX, traced ones too, else numpy."""
  return jnp if isinstance(x, jax.Array) else np
