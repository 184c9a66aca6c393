"""The blocks of ECAPA-TDNN: sequences of frames to sequences of frames.

Desplanques, Thienpondt, Demuynck 2020, "ECAPA-TDNN: Emphasized Channel
Attention, Propagation and Aggregation in TDNN Based Speaker Verification",
arXiv 2005.07143, in the form of SpeechBrain, whose weights fit.

Letters in names: B batch, N frames, C channels, I channels in, O channels
out, K taps.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.models import layers
from jaxspoof.ops import conv1d, time_stats


class Extent(NamedTuple):
  """Which frames of a padded batch are valid, and who is told.

  Attributes:
    mask_BxN: bool, the valid frames: what is pooled over time.
    frames_B: int32, how many they are, where convolutions and normalisation
      are to keep to them too; None: they take padding for sound.
  """

  mask_BxN: jax.Array
  frames_B: jax.Array | None

  @property
  def norm_mask_BxN(self) -> jax.Array | None:
    """The frames that statistics of the batch are of; None: all."""
    return None if self.frames_B is None else self.mask_BxN


class Conv1d(nnx.Module):
  """A convolution of stride 1 that keeps the frames: reflect padding."""

  def __init__(
    self,
    inputs: int,
    outputs: int,
    size: int = 1,
    *,
    dilation: int = 1,
    groups: int = 1,
    param_dtype: str = 'float32',
    rngs: nnx.Rngs,
  ):
    """Draws the kernel `[size, inputs / groups, outputs]` and the bias."""
    init = layers.uniform_of_fan_in(inputs // groups * size)
    shape, dtype = (size, inputs // groups, outputs), jnp.dtype(param_dtype)
    self.kernel = nnx.Param(init(rngs.params(), shape, dtype))
    self.bias = nnx.Param(init(rngs.params(), (outputs,), dtype))
    self.dilation, self.groups = dilation, groups

  @property
  def reach(self) -> int:
    """Frames that the kernel looks ahead, and back."""
    return (self.kernel.shape[0] - 1) * self.dilation // 2

  def __call__(
    self,
    x_BxNxI: jax.Array,
    extent: Extent | None = None,
    *,
    with_bias: bool = True,
  ) -> jax.Array:
    """Returns `[B, N, O]` in the dtype of `x`."""
    dtype = x_BxNxI.dtype
    frames_B = None if extent is None else extent.frames_B
    y_BxNxO = conv1d.conv1d(
      conv1d.reflect(x_BxNxI, self.reach, frames_B),
      self.kernel[...].astype(dtype),
      dilation=self.dilation,
      groups=self.groups,
    )
    if not with_bias:
      return y_BxNxO
    return y_BxNxO + self.bias[...].astype(dtype)[None, None]


class ChannelDropout(layers.Dropout):
  """Dropout of whole channels: one number for all frames of a channel."""

  def __call__(self, x_BxNxC: jax.Array, noise: layers.Noise | None):
    """Returns `x` without some of its channels, the others scaled up."""
    if self.deterministic or self.rate == 0:
      return x_BxNxC
    batch, _, channels = x_BxNxC.shape
    keep_Bx1xC = noise.take((batch, channels))[:, None] >= self.rate
    return jnp.where(keep_Bx1xC, x_BxNxC / (1 - self.rate), 0)


class Tdnn(nnx.Module):
  """Convolution, activation, normalisation, dropout: in this order."""

  def __init__(
    self,
    inputs: int,
    outputs: int,
    size: int = 1,
    *,
    dilation: int = 1,
    groups: int = 1,
    activation: Callable = jax.nn.relu,
    dropout: float = 0.0,
    param_dtype: str = 'float32',
    rngs: nnx.Rngs,
  ):
    """Draws the parameters."""
    self.conv = Conv1d(
      inputs,
      outputs,
      size,
      dilation=dilation,
      groups=groups,
      param_dtype=param_dtype,
      rngs=rngs,
    )
    self.norm = layers.BatchNorm(outputs, param_dtype=param_dtype)
    self.dropout = ChannelDropout(dropout)
    self.activation = activation

  def __call__(
    self,
    x_BxNxI: jax.Array,
    extent: Extent | None = None,
    noise: layers.Noise | None = None,
  ) -> jax.Array:
    """Returns `[B, N, O]`."""
    return self.finish(
      self.conv(x_BxNxI, extent, with_bias=False), extent, noise
    )

  def finish(
    self,
    h_BxNxO: jax.Array,
    extent: Extent | None = None,
    noise: layers.Noise | None = None,
  ) -> jax.Array:
    """What follows the convolution, its bias included."""
    mask_BxN = None if extent is None else extent.norm_mask_BxN
    bias_O = self.conv.bias[...]
    if self.activation is jax.nn.relu:
      h_BxNxO = self.norm.after_relu(h_BxNxO, bias_O, mask_BxN)
    else:
      bias_1x1xO = bias_O.astype(h_BxNxO.dtype)[None, None]
      h_BxNxO = self.norm(self.activation(h_BxNxO + bias_1x1xO), mask_BxN)
    return self.dropout(h_BxNxO, noise)


class Res2Net(nnx.Module):
  """Groups of channels in a row, each filtered with the result before it.

  Gao et al. 2019, "Res2Net", arXiv 1904.01169, equation 1: the first group
  is passed on, the second is filtered, every other is added to the result of
  the one before and filtered.
  """

  def __init__(self, channels: int, scale: int, size: int, **options):
    """Makes `scale - 1` filters of `channels / scale` channels."""
    self.scale, width = scale, channels // scale
    for i in range(scale - 1):
      setattr(self, f'block{i}', Tdnn(width, width, size, **options))

  def __call__(self, x_BxNxC: jax.Array, extent: Extent | None = None):
    """Returns `[B, N, C]`."""
    first, *others = jnp.split(x_BxNxC, self.scale, 2)
    made = [first]
    for i, part in enumerate(others):
      part = part + made[-1] if i else part
      made.append(getattr(self, f'block{i}')(part, extent))
    return jnp.concatenate(made, 2)


class SqueezeExcitation(nnx.Module):
  """Scales channels by what the whole clip says of them (section 3.2)."""

  def __init__(self, channels: int, hidden: int, **options):
    """Makes the two layers that map a mean over time to scales."""
    self.conv1 = Conv1d(channels, hidden, **options)
    self.conv2 = Conv1d(hidden, channels, **options)

  def __call__(self, x_BxNxC: jax.Array, extent: Extent | None = None):
    """Returns the scales, `[B, 1, C]` in the dtype of `x`."""
    mask_BxN = None if extent is None else extent.mask_BxN
    s_Bx1xC = time_stats.mean(
      x_BxNxC.astype(layers.wide(x_BxNxC.dtype)), mask_BxN
    )
    s_Bx1xC = self.conv2(jax.nn.relu(self.conv1(s_Bx1xC)))
    return jax.nn.sigmoid(s_Bx1xC).astype(x_BxNxC.dtype)


class SERes2Net(nnx.Module):
  """Res2Net between two layers of one tap, rescaled, with a shortcut."""

  def __init__(
    self,
    inputs: int,
    outputs: int,
    size: int,
    *,
    dilation: int,
    scale: int,
    hidden: int,
    activation: Callable,
    groups: int,
    dropout: float,
    **options,
  ):
    """Activation, groups and dropout are of the layers of one tap."""
    own = dict(activation=activation, groups=groups, dropout=dropout)
    self.tdnn1 = Tdnn(inputs, outputs, **own, **options)
    self.res2net = Res2Net(outputs, scale, size, dilation=dilation, **options)
    self.tdnn2 = Tdnn(outputs, outputs, **own, **options)
    self.se = SqueezeExcitation(outputs, hidden, **options)
    if inputs != outputs:
      self.shortcut = Conv1d(inputs, outputs, **options)
    else:
      self.shortcut = None

  def __call__(
    self,
    x_BxNxI: jax.Array,
    extent: Extent | None = None,
    noise: layers.Noise | None = None,
  ) -> jax.Array:
    """Returns `[B, N, O]`."""
    h = self.tdnn1(x_BxNxI, extent, noise)
    h = self.tdnn2(self.res2net(h, extent), extent, noise)
    shortcut = x_BxNxI if self.shortcut is None else self.shortcut(x_BxNxI)
    return self.se(h, extent) * h + shortcut
