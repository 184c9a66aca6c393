"""The back end of Spectra-0: two layers and another ECAPA-TDNN.

huggingface.co/lab260/spectra_0. This ECAPA-TDNN is Tao Ruijie's, with a fourth
block, and not SpeechBrain's (`models.ecapa_tdnn`): each block is given the sum
of all before it, and its last part passes it untouched; convolutions see zeros
beyond the ends; the layer that joins the blocks has no norm; attention has one
before a tanh; deviations are kept above 0.01.

Letters in names: B batch, N frames, D features, C channels, W channels of a
part, J channels of all blocks together, A attention channels.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.models.back_end import BackEndConfig
from jaxspoof.ops import conv1d
from jaxspoof.system import Encoded, System

TAPS, FIRST_TAPS = 3, 5
DILATIONS = (2, 3, 4, 5)  # of the blocks
LEAST = 1e-4  # variance


@dataclasses.dataclass(frozen=True)
class SpectraConfig(BackEndConfig):
  """What defines the back end; the defaults are the published one.

  Attributes:
    hidden: size of the middle of the two layers.
    features: that they leave of a frame.
    channels: of each block; a multiple of `parts`.
    parts: that channels are divided into in a block.
    squeeze: size of the middle of squeeze and excitation.
    joined: channels that the outputs of all blocks become.
    attention: size of the middle of the attention over frames.
    param_dtype: dtype of parameters and running statistics.
  """

  hidden: int = 128
  features: int = 128
  channels: int = 128
  parts: int = 8
  squeeze: int = 128
  joined: int = 1536
  attention: int = 256
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    for field in dataclasses.fields(self):
      value = getattr(self, field.name)
      if isinstance(value, int) and value < 1:
        raise ValueError(f'{field.name}={value}: needs at least 1')
    if self.parts < 2 or self.channels % self.parts:
      raise ValueError(
        f'channels={self.channels}: needs a multiple of parts={self.parts}, '
        'which are two at least'
      )

  @property
  def min_frames(self) -> int:
    """Of two frames there is a deviation."""
    return 2


class Spectra(System):
  """The back end: a sequence of features in, statistics over time out.

  All clips of a batch have one length.
  """

  def build(self, config: SpectraConfig, rngs: nnx.Rngs) -> int:
    """Draws the parameters as the original does."""
    c, dtype = config, config.param_dtype
    options, norm = dict(param_dtype=dtype, rngs=rngs), dict(param_dtype=dtype)
    width = self.frontend.config.features
    self.bridge1 = layers.linear(width, c.hidden, **options)
    self.bridge2 = layers.linear(c.hidden, c.features, **options)
    self.first = Conv(c.features, c.channels, FIRST_TAPS, 1, dtype, rngs)
    self.first_norm = layers.BatchNorm(c.channels, **norm)
    # Named attributes: integer keys of nnx.List do not survive checkpoints.
    for i, dilation in enumerate(DILATIONS, 1):
      setattr(self, f'block{i}', Block(c, dilation, rngs))
    inputs = len(DILATIONS) * c.channels
    self.join = layers.linear(inputs, c.joined, **options)
    self.attend1 = layers.linear(3 * c.joined, c.attention, **options)
    self.attend_norm = layers.BatchNorm(c.attention, **norm)
    self.attend2 = layers.linear(c.attention, c.joined, **options)
    self.last_norm = layers.BatchNorm(2 * c.joined, **norm)
    return 2 * c.joined

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Encoded:
    """Weighted mean and deviation over time, normalised, `[B, 2 joined]`."""
    del frames_B, rngs  # None: clips have one length
    h_BxNxD = self.bridge2(jax.nn.selu(self.bridge1(features)))
    total_BxNxC = self.first_norm(jax.nn.relu(self.first(h_BxNxD)))
    found = []
    with jax.named_scope('blocks'):
      for i in range(1, len(DILATIONS) + 1):
        found.append(getattr(self, f'block{i}')(total_BxNxC))
        total_BxNxC = total_BxNxC + found[-1]
    h_BxNxJ = jax.nn.relu(self.join(jnp.concatenate(found, -1)))
    with jax.named_scope('attention'):
      share_BxNxJ = jax.nn.softmax(self._scores(h_BxNxJ), 1)
      mean_BxJ = (share_BxNxJ * h_BxNxJ).sum(1)
      square_BxJ = (share_BxNxJ * jnp.square(h_BxNxJ)).sum(1)
      deviation_BxJ = _root(square_BxJ - jnp.square(mean_BxJ))
    embedding = jnp.concatenate([mean_BxJ, deviation_BxJ], -1)
    embedding = self.last_norm(embedding)
    return Encoded(embedding, embedding)

  def _scores(self, h_BxNxJ: jax.Array) -> jax.Array:
    """How much each frame counts in each channel, before the softmax."""
    deviation_BxJ = _root(jnp.var(h_BxNxJ, 1, ddof=1))
    around_Bx2J = jnp.concatenate([h_BxNxJ.mean(1), deviation_BxJ], -1)
    around = jnp.broadcast_to(
      around_Bx2J[:, None], (*h_BxNxJ.shape[:2], around_Bx2J.shape[-1])
    )
    h = self.attend1(jnp.concatenate([h_BxNxJ, around], -1))
    return self.attend2(jnp.tanh(self.attend_norm(jax.nn.relu(h))))


class Conv(nnx.Module):
  """A convolution over time that keeps the frames; zeros beyond the ends."""

  def __init__(
    self,
    inputs: int,
    outputs: int,
    taps: int,
    dilation: int,
    dtype: str,
    rngs: nnx.Rngs,
  ):
    """Draws the kernel `[taps, inputs, outputs]` and the bias."""
    init = layers.uniform_of_fan_in(inputs * taps)
    shape, kind = (taps, inputs, outputs), jnp.dtype(dtype)
    self.kernel = nnx.Param(init(rngs.params(), shape, kind))
    self.bias = nnx.Param(init(rngs.params(), (outputs,), kind))
    self.dilation = dilation

  def __call__(self, x_BxNxI: jax.Array) -> jax.Array:
    """Returns `[B, N, outputs]`."""
    kernel = self.kernel[...].astype(x_BxNxI.dtype)
    reach = len(kernel) // 2 * self.dilation
    padded = jnp.pad(x_BxNxI, ((0, 0), (reach, reach), (0, 0)))
    made = conv1d.conv1d(padded, kernel, dilation=self.dilation)
    return made + self.bias[...].astype(made.dtype)[None, None]


class Block(nnx.Module):
  """A Res2Net block with squeeze and excitation."""

  def __init__(self, config: SpectraConfig, dilation: int, rngs: nnx.Rngs):
    """Draws the parameters."""
    c, dtype = config, config.param_dtype
    options, norm = dict(param_dtype=dtype, rngs=rngs), dict(param_dtype=dtype)
    self.parts = c.parts
    self.enter = layers.linear(c.channels, c.channels, **options)
    self.enter_norm = layers.BatchNorm(c.channels, **norm)
    width = c.channels // c.parts
    for i in range(c.parts - 1):
      setattr(self, f'conv{i}', Conv(width, width, TAPS, dilation, dtype, rngs))
      setattr(self, f'norm{i}', layers.BatchNorm(width, **norm))
    self.leave = layers.linear(c.channels, c.channels, **options)
    self.leave_norm = layers.BatchNorm(c.channels, **norm)
    self.squeeze = layers.linear(c.channels, c.squeeze, **options)
    self.excite = layers.linear(c.squeeze, c.channels, **options)

  def __call__(self, x_BxNxC: jax.Array) -> jax.Array:
    """Returns `[B, N, C]`."""
    h = self.enter_norm(jax.nn.relu(self.enter(x_BxNxC)))
    *parts, last = jnp.split(h, self.parts, -1)
    found, h_BxNxW = [], None
    for i, part in enumerate(parts):
      h_BxNxW = part if h_BxNxW is None else h_BxNxW + part
      h_BxNxW = jax.nn.relu(getattr(self, f'conv{i}')(h_BxNxW))
      h_BxNxW = getattr(self, f'norm{i}')(h_BxNxW)
      found.append(h_BxNxW)
    h = jax.nn.relu(self.leave(jnp.concatenate([*found, last], -1)))
    h = self.leave_norm(h)
    gate_BxC = self.excite(jax.nn.relu(self.squeeze(h.mean(1))))
    return h * jax.nn.sigmoid(gate_BxC)[:, None] + x_BxNxC


def _root(variance: jax.Array) -> jax.Array:
  return jnp.sqrt(jnp.maximum(variance, LEAST))
