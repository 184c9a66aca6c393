"""What defines an ECAPA-TDNN, and the sizes that follow from it."""

import dataclasses
import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

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
    """Frames that the kernel looks ahead, and back."""
    return (self.size - 1) * self.dilation // 2


@dataclasses.dataclass(frozen=True)
class TdnnConfig:
  """What defines an ECAPA-TDNN. Defaults are those of SpeechBrain.

  Attributes:
    input_size: features of a frame.
    lin_neurons: size of the embedding.
    activation: of the layers outside Res2Net, squeeze and excitation and
      pooling, which keep ReLU: a function or one of `ACTIVATIONS`.
    channels: of the first layer, the SE-Res2Net blocks and the layer that
      aggregates the blocks.
    kernel_sizes: taps, for each of these.
    dilations: frames from tap to tap, for each of these.
    attention_channels: hidden size of the pooling.
    res2net_scale: groups of channels in a Res2Net block.
    se_channels: hidden size of squeeze and excitation.
    global_context: the pooling sees mean and deviation of the clip.
    groups: of the convolutions, for each of `channels`; in a block, of its
      layers of one tap.
    dropout: rate at which the same layers lose channels in training.
    padding: 'clip' (each clip as if it were alone) or 'batch' (the original:
      convolutions and normalisation take padding for sound).
    dtype: of the layers before the pooling; sums are at least float32.
    param_dtype: of parameters and statistics.
  """

  input_size: int
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
    """Makes tuples of lists and refuses what cannot work."""
    lists = ('channels', 'kernel_sizes', 'dilations', 'groups')
    for name in lists:
      object.__setattr__(self, name, tuple(getattr(self, name)))
    self._need('channels', len(self.channels) > 2, 'at least 3 values')
    for name in lists:
      values = getattr(self, name)
      self._need(name, min(values, default=0) > 0, 'numbers above 0')
      fits = len(values) == len(self.channels)
      self._need(name, fits, f'{len(self.channels)} values, as channels has')
    for name in ('input_size', 'lin_neurons', 'attention_channels'):
      self._need(name, getattr(self, name) > 0, 'a number above 0')
    self._need('se_channels', self.se_channels > 0, 'a number above 0')
    self._need('res2net_scale', self.res2net_scale > 1, 'a number above 1')
    self._need('dropout', 0 <= self.dropout < 1, 'a rate in [0, 1)')
    known = callable(self.activation) or self.activation in ACTIVATIONS
    wanted = f'a function or one of {tuple(ACTIVATIONS)}'
    self._need('activation', known, wanted)
    self._need('padding', self.padding in PADDINGS, f'one of {PADDINGS}')
    self._need('dtype', self.dtype in DTYPES, f'one of {DTYPES}')
    known = ('float32', 'float64')
    self._need('param_dtype', self.param_dtype in known, f'one of {known}')
    self._check_layers()

  @property
  def layers(self) -> tuple[Layer, ...]:
    """First layer, blocks, and the layer that aggregates the blocks."""
    *inner, _ = self.channels
    inputs = (self.input_size, *inner[:-1], sum(inner[1:]))
    return tuple(
      Layer(*values)
      for values in zip(
        inputs,
        self.channels,
        self.kernel_sizes,
        self.dilations,
        self.groups,
        strict=True,
      )
    )

  @property
  def min_frames(self) -> int:
    """Shortest clip that every reflection fits into."""
    return 1 + max(layer.reach for layer in self.layers)

  @property
  def dropped(self) -> int:
    """How many numbers for dropout a clip needs in training."""
    first, *blocks, last = self.channels
    return (first + 2 * sum(blocks) + last) * (self.dropout > 0)

  @property
  def function(self) -> Callable:
    """The activation."""
    if callable(self.activation):
      return self.activation
    return ACTIVATIONS[self.activation]

  def _check_layers(self):
    blocks = self.layers[1:-1]
    for layer in self.layers:
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
