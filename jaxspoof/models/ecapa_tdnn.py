"""ECAPA-TDNN: a sequence of acoustic features to an embedding.

Desplanques, Thienpondt, Demuynck 2020, "ECAPA-TDNN: Emphasized Channel
Attention, Propagation and Aggregation in TDNN Based Speaker Verification",
arXiv 2005.07143. Structure, arguments and defaults are those of SpeechBrain,
so that its weights can be imported (`jaxspoof.weights.ecapa`).

In the order of the file: the config and the sizes that follow from it, the
blocks, the pooling, the network.

Letters in names: B batch, N frames, F features of a frame, C channels, I
channels in, O channels out, K taps, A attention channels, D size of the
embedding.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.ops import conv1d, time_stats

ACTIVATIONS = {
  'relu': jax.nn.relu,
  'leaky_relu': jax.nn.leaky_relu,
  'elu': jax.nn.elu,
  'gelu': functools.partial(jax.nn.gelu, approximate=False),
  'selu': jax.nn.selu,
  'silu': jax.nn.silu,
  'tanh': jnp.tanh,
}
PADDINGS = ('clip', 'batch')
DTYPES = ('float32', 'bfloat16', 'float64')


class Layer(NamedTuple):
  """One layer or block: its channels, taps, dilation and groups."""

  inputs: int
  outputs: int
  size: int
  dilation: int
  groups: int

  @property
  def reach(self) -> int:
    """Number of frames that the kernel looks ahead, and also back."""
    return (self.size - 1) * self.dilation // 2


@dataclasses.dataclass(frozen=True)
class TdnnSettings:
  """What defines an ECAPA-TDNN whatever features it is given.

  Defaults are those of SpeechBrain.

  Attributes:
    lin_neurons: size of the embedding.
    activation: activation function, or its name in `ACTIVATIONS`. Res2Net,
      squeeze and excitation, and pooling always use ReLU.
    channels: output channels of the first layer, of each SE-Res2Net block, and
      of the layer that aggregates the blocks.
    kernel_sizes: number of taps, one entry for each of `channels`.
    dilations: frames from tap to tap, one entry for each of `channels`.
    attention_channels: hidden size of the attentive pooling.
    res2net_scale: number of groups of channels in a Res2Net block.
    se_channels: hidden size of squeeze and excitation.
    global_context: whether the attention of a frame also depends on mean and
      deviation of the whole clip.
    groups: groups of the convolutions, one entry for each of `channels`; in a
      block, of its two layers of one tap.
    dropout: rate at which these layers lose whole channels in training.
    padding: 'clip' treats each clip of a batch as if it were alone; 'batch' is
      the original's way, in which convolutions and normalisation treat padding
      like sound.
    dtype: dtype of the layers before the pooling; sums are at least float32.
    param_dtype: dtype of parameters and running statistics.
  """

  lin_neurons: int = 192
  activation: str | Callable = 'relu'
  channels: tuple[int, ...] = (512, 512, 512, 512, 1536)
  kernel_sizes: tuple[int, ...] = (5, 3, 3, 3, 1)
  dilations: tuple[int, ...] = (1, 2, 3, 4, 1)
  attention_channels: int = 128
  res2net_scale: int = 8
  se_channels: int = 128
  global_context: bool = True
  groups: tuple[int, ...] = (1, 1, 1, 1, 1)
  dropout: float = 0.0
  padding: str = 'clip'
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Turns lists into tuples; raises ValueError for invalid values."""
    lists = ('channels', 'kernel_sizes', 'dilations', 'groups')
    for name in lists:
      object.__setattr__(self, name, tuple(getattr(self, name)))
    self._need('channels', len(self.channels) > 2, 'at least 3 values')
    for name in lists:
      values = getattr(self, name)
      self._need(name, min(values, default=0) > 0, 'numbers above 0')
      fits = len(values) == len(self.channels)
      self._need(name, fits, f'{len(self.channels)} values, as channels has')
    for name in ('lin_neurons', 'attention_channels', 'se_channels'):
      self._need(name, getattr(self, name) > 0, 'a number above 0')
    self._need('res2net_scale', self.res2net_scale > 1, 'a number above 1')
    self._need('dropout', 0 <= self.dropout < 1, 'a rate in [0, 1)')
    known = callable(self.activation) or self.activation in ACTIVATIONS
    wanted = f'a function or one of {tuple(ACTIVATIONS)}'
    self._need('activation', known, wanted)
    self._need('padding', self.padding in PADDINGS, f'one of {PADDINGS}')
    self._need('dtype', self.dtype in DTYPES, f'one of {DTYPES}')
    known = ('float32', 'float64')
    self._need('param_dtype', self.param_dtype in known, f'one of {known}')
    self.layers_of(self._features)

  @property
  def _features(self) -> int:
    """A number of features that fits, for what does not depend on it."""
    return self.groups[0]

  def layers_of(self, features: int) -> tuple[Layer, ...]:
    """The layers behind a front end with this many features.

    Returns:
      The first layer, the blocks, and the layer that aggregates the blocks.

    Raises:
      ValueError: sizes that do not fit each other.
    """
    *inner, _ = self.channels
    inputs = (features, *inner[:-1], sum(inner[1:]))
    others = (self.channels, self.kernel_sizes, self.dilations, self.groups)
    made = tuple(map(Layer._make, zip(inputs, *others, strict=True)))
    self._check_layers(made)
    return made

  @property
  def min_frames(self) -> int:
    """Frames of the shortest clip that can be reflected in every layer."""
    return 1 + max(layer.reach for layer in self.layers_of(self._features))

  @property
  def dropped(self) -> int:
    """How many random numbers dropout uses for each clip in training."""
    first, *blocks, last = self.channels
    return (first + 2 * sum(blocks) + last) * (self.dropout > 0)

  @property
  def function(self) -> Callable:
    """The activation."""
    if callable(self.activation):
      return self.activation
    return ACTIVATIONS[self.activation]

  def _check_layers(self, layers: tuple[Layer, ...]):
    blocks = layers[1:-1]
    for layer in layers:
      shared = (layer.inputs, layer.outputs)
      if layer in blocks:
        shared = (*shared, layer.outputs)
        fits = layer.outputs % self.res2net_scale == 0
        wanted = f'blocks divisible by res2net_scale={self.res2net_scale}'
        self._need('channels', fits, wanted)
      fits = all(c % layer.groups == 0 for c in shared)
      wanted = f'divisors of the channels in and out, {shared[:2]}'
      self._need('groups', fits, wanted)
      odd = (layer.size - 1) * layer.dilation % 2
      wanted = f'odd sizes where the dilation is odd ({self.dilations})'
      self._need('kernel_sizes', not odd, wanted)

  def _need(self, name: str, fulfilled: bool, wanted: str):
    if not fulfilled:
      raise ValueError(f'{name}={getattr(self, name)!r}: needs {wanted}')


@dataclasses.dataclass(frozen=True)
class TdnnConfig(TdnnSettings):
  """What defines an ECAPA-TDNN.

  Attributes:
    input_size: features of a frame; the others are those of `TdnnSettings`.
  """

  input_size: int = dataclasses.field(kw_only=True)

  def __post_init__(self):
    """Refuses features that do not fit, too."""
    super().__post_init__()
    self._need('input_size', self.input_size > 0, 'a number above 0')

  @property
  def _features(self) -> int:
    return self.input_size


# ------------------------------------------------------------------ blocks ---
class Extent(NamedTuple):
  """Which frames of a padded batch are valid, and which layers know it.

  Attributes:
    mask_BxN: bool, True on valid frames; only these are pooled over time.
    frames_B: int32, the number of valid frames of each clip, for convolutions
      and normalisation. If None these treat padding like sound, as the original
      does.
  """

  mask_BxN: jax.Array
  frames_B: jax.Array | None

  @property
  def norm_mask_BxN(self) -> jax.Array | None:
    """Mask of the frames that batch statistics are taken over; None for all."""
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
    """Adds the bias, then does activation, normalisation and dropout."""
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
    """Draws the parameters.

    Args:
      inputs: channels in.
      outputs: channels out.
      size: taps of the convolutions in Res2Net.
      dilation: frames from tap to tap in Res2Net.
      scale: number of groups in Res2Net.
      hidden: hidden size of squeeze and excitation.
      activation: of the two layers of one tap around Res2Net.
      groups: of these two layers.
      dropout: of these two layers.
      **options: `param_dtype` and `rngs` of the layers.
    """
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


# ----------------------------------------------------------------- pooling ---
_LEAST = 1e-12  # of a variance, so that its root has a gradient


class AttentivePooling(nnx.Module):
  """Mean and deviation over time, each channel with weights of its own.

  Section 3.1 of the paper: the weights of a frame are made of the frame and,
  with global context, of the mean and deviation of the clip.
  """

  def __init__(
    self, channels: int, attention: int, *, context: bool, **options
  ):
    """Makes the two layers that map frames to weights."""
    self.context = context
    self.tdnn = Tdnn(channels * (3 if context else 1), attention, **options)
    self.conv = Conv1d(attention, channels, **options)

  def __call__(self, x_BxNxC: jax.Array, extent: Extent | None = None):
    """Returns mean and deviation of the valid frames, `[B, 1, 2 * C]`."""
    x_BxNxC = x_BxNxC.astype(layers.wide(x_BxNxC.dtype))
    h_BxNxA = jnp.tanh(self.tdnn.finish(self._mix(x_BxNxC, extent), extent))
    # A bias would be the same for all frames: softmax takes it away again.
    logits_BxNxC = self.conv(h_BxNxA, with_bias=False)
    mask_BxN = None if extent is None else extent.mask_BxN
    mean_Bx1xC, var_Bx1xC = time_stats.attentive_mean_and_variance(
      x_BxNxC, logits_BxNxC, mask_BxN
    )
    return jnp.concatenate([mean_Bx1xC, _root(var_Bx1xC)], 2)

  def _mix(self, x_BxNxC: jax.Array, extent: Extent | None):
    """The first layer's product with frame, mean and deviation of the clip.

    Mean and deviation are the same for all frames: multiplied once for each
    clip, they cost nothing.
    """
    kernel_1xIxA = self.tdnn.conv.kernel[...].astype(x_BxNxC.dtype)
    if not self.context:
      return conv1d.conv1d(x_BxNxC, kernel_1xIxA)
    frame, clip = jnp.split(kernel_1xIxA, [x_BxNxC.shape[2]], 1)
    mask_BxN = None if extent is None else extent.mask_BxN
    mean_Bx1xC, var_Bx1xC = time_stats.mean_and_variance(x_BxNxC, mask_BxN)
    stats_Bx1xI = jnp.concatenate([mean_Bx1xC, _root(var_Bx1xC)], 2)
    return conv1d.conv1d(x_BxNxC, frame) + conv1d.conv1d(stats_Bx1xI, clip)


def _root(var: jax.Array) -> jax.Array:
  return jnp.sqrt(jnp.maximum(var, _LEAST))


# ----------------------------------------------------------------- network ---
class ECAPA_TDNN(nnx.Module):  # noqa: N801 (the name of the original)
  """Features in, an embedding out.

  ```python
  model = ECAPA_TDNN(80, lin_neurons=192, rngs=nnx.Rngs(0))
  model(jnp.zeros((5, 120, 80))).shape  # (5, 1, 192)
  ```

  Padded batches. The original tells the lengths of clips to squeeze and
  excitation and to the pooling alone: convolutions reflect at the end of the
  batch and run over the padding, and normalisation in training counts it, so
  that an embedding depends on what a clip was batched with. With
  padding='clip', the default, each clip is reflected at its own end and
  statistics are of valid frames alone: a clip has the embedding that it has
  alone. padding='batch' is the original's way, number by number. Without
  lengths both are the same.

  A new module is in training mode: dropout, batch statistics. For evaluation
  take `nnx.view(model, deterministic=True, use_running_average=True)`.
  """

  def __init__(self, input_size: int, *settings, rngs: nnx.Rngs, **named):
    """Draws the parameters as the original does.

    Args:
      input_size: number of features in a frame.
      *settings: attributes of `TdnnSettings`, in their order.
      rngs: random streams; weights are drawn from `params`.
      **named: attributes of `TdnnSettings` by name.

    Raises:
      ValueError: arguments do not fit together; the message names them.
    """
    config = TdnnConfig(*settings, input_size=input_size, **named)
    self.config = config
    options = dict(param_dtype=config.param_dtype, rngs=rngs)
    outer = dict(activation=config.function, dropout=config.dropout, **options)
    first, *blocks, last = config.layers_of(input_size)
    self.block0 = Tdnn(*first[:3], **_spread(first), **outer)
    for i, layer in enumerate(blocks, 1):
      block = SERes2Net(
        *layer[:3],
        scale=config.res2net_scale,
        hidden=config.se_channels,
        **_spread(layer),
        **outer,
      )
      # Named attributes: integer keys of nnx.List do not survive checkpoints.
      setattr(self, f'block{i}', block)
    self.mfa = Tdnn(*last[:3], **_spread(last), **outer)
    self.asp = AttentivePooling(
      last.outputs,
      config.attention_channels,
      context=config.global_context,
      **options,
    )
    self.asp_bn = layers.BatchNorm(
      2 * last.outputs, param_dtype=config.param_dtype
    )
    self.fc = Conv1d(2 * last.outputs, config.lin_neurons, **options)

  def __call__(
    self,
    x_BxNxF: jax.Array,
    lengths_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> jax.Array:
    """Embeds clips.

    Args:
      x_BxNxF: floating-point features, `config.input_size` for each frame.
      lengths_B: valid part of each clip relative to the batch's frames, in
        (0, 1]; None: all of it. Frame i is valid where i < length * N.
      rngs: stream `dropout`; needed in training mode with dropout only.

    Returns:
      float32 embeddings `[B, 1, lin_neurons]` (float64 where the parameters
      are).

    Raises:
      ValueError: not `[B, N, input_size]`, not floating point, clips that are
        too short to be reflected, lengths outside (0, 1]. Values are looked
        at where they are known, not under `jit`.
    """
    if lengths_B is None:
      return self.embed(x_BxNxF, None, rngs)
    frames_B = frames_of(lengths_B, x_BxNxF.shape)
    return self.embed(x_BxNxF, frames_B, rngs)

  def embed(
    self,
    x_BxNxF: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> jax.Array:
    """Embeds clips as a call does, but takes lengths as numbers of frames.

    Args:
      x_BxNxF: floating-point features.
      frames_B: int32, number of valid frames of each clip; None if all are.
      rngs: random streams, as for `__call__`.
    """
    self._check(x_BxNxF, frames_B)
    extent, noise = self._extent(x_BxNxF, frames_B), None
    if self.config.dropped and not self.mfa.dropout.deterministic:
      noise = layers.Noise.draw(rngs, len(x_BxNxF), self.config.dropped)
    h = x_BxNxF.astype(jnp.dtype(self.config.dtype))
    if extent is not None and self.config.padding == 'clip':
      # Whatever the padding holds, it is not to come near the clip.
      h = jnp.where(extent.mask_BxN[..., None], h, 0)
    with jax.named_scope('blocks'):
      h = self.block0(h, extent, noise)
      made = []
      for i in range(1, len(self.config.channels) - 1):
        h = getattr(self, f'block{i}')(h, extent, noise)
        made.append(h)
    with jax.named_scope('mfa'):
      h = self.mfa(jnp.concatenate(made, 2), extent, noise)
    assert noise is None or not noise.left, 'more numbers drawn than used'
    with jax.named_scope('pooling'):
      return self.fc(self.asp_bn(self.asp(h, extent)))

  def _extent(self, x_BxNxF, frames_B) -> Extent | None:
    if frames_B is None:
      return None
    # Rows that only fill a batch have no frames: they are not to make NaN.
    frames_B = jnp.maximum(frames_B, 1)
    frame_N = jnp.arange(x_BxNxF.shape[1], dtype=frames_B.dtype)
    mask_BxN = frame_N[None] < frames_B[:, None]
    return Extent(mask_BxN, frames_B if self.config.padding == 'clip' else None)

  def _check(self, x_BxNxF, frames_B):
    config = self.config
    if x_BxNxF.ndim != 3 or not jnp.issubdtype(x_BxNxF.dtype, jnp.floating):
      raise ValueError(
        'expected floating-point features [batch, frames, features], got '
        f'{x_BxNxF.dtype}{list(x_BxNxF.shape)}'
      )
    if x_BxNxF.shape[2] != config.input_size:
      raise ValueError(
        f'got {x_BxNxF.shape[2]} features for each frame, this model takes '
        f'input_size={config.input_size}'
      )
    shortest = x_BxNxF.shape[1]
    if config.padding == 'clip' and known(frames_B):
      shortest = min(shortest, int(np.min(frames_B)))
    if shortest < config.min_frames:
      raise ValueError(
        f'clips of {shortest} frames are too short: this model reflects '
        f'{config.min_frames - 1} at each end, so it needs at least '
        f'{config.min_frames}'
      )


def frames_of(lengths_B: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Valid frames, int32, of relative lengths in a batch of this shape."""
  lengths_B = jnp.asarray(lengths_B)
  if lengths_B.shape != shape[:1] or not jnp.issubdtype(
    lengths_B.dtype, jnp.floating
  ):
    raise ValueError(
      f'expected floating-point lengths [{shape[0]}], relative to the '
      f'frames of the batch, got {lengths_B.dtype}{list(lengths_B.shape)}'
    )
  if known(lengths_B):
    values = np.asarray(lengths_B)
    wrong = [float(v) for v in values if not 0 < v <= 1]
    if wrong:
      raise ValueError(
        f'lengths={wrong[:5]}: need values in (0, 1], relative to the frames '
        'of the batch'
      )
  # n / N * N in float32 can be a little more than n, which is no frame.
  frames_B = jnp.ceil(lengths_B * shape[1] - 1e-3).astype(jnp.int32)
  return jnp.maximum(frames_B, 1)


def known(array: jax.Array | None) -> bool:
  """Whether this process can look at the values."""
  return (
    array is not None
    and not isinstance(array, jax.core.Tracer)
    and getattr(array, 'is_fully_addressable', True)
  )


def _spread(layer) -> dict[str, int]:
  return dict(dilation=layer.dilation, groups=layer.groups)
