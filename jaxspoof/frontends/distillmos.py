"""The convolutions of DistillMOS as a front end.

DistillMOS is a small network that rates the quality of speech as a network on
wav2vec 2.0 XLS-R does, from which it was distilled: Stahl, Gamper 2025,
"Distillation and Pruning for Scalable Self-Supervised Representation-Based
Speech Quality Assessment". Its first part are six convolutions over the
complex spectrum, and what they listen to, the flaws of recordings, is part of
what gives machines away. Where one of Whisper knows what is said, this one
sees the phase.

Letters in names: B batch, T samples, N frames, W frequency bins, C channels, I
inputs, O outputs, G bands.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.frontends import filters, masked, stft
from jaxspoof.ops import minimal_conv
from jaxspoof.tensors import files, fit, packages
from jaxspoof.tensors.unpickler import CheckpointError

WINDOW, HOP = 320, 160  # of the spectrum, in samples
PAIR = 2  # frames of the spectrum in one of the features
TAPS = 3  # of convolutions, over frequency and over time
COMPRESSION, LEAST = 0.3, 1e-12
SLOPE = 0.1  # of the leaky ReLU
CHANNELS = (64, 64, 128, 256, 256, 256)
PACKAGE = 'distillmos'
# Weights whose sizes are known before they are read; the random ones are for
# tests of what is around them.
KNOWN = {
  f'package:{PACKAGE}': CHANNELS,
  'random:distillmos': CHANNELS,
  'random:miniature': (2, 2, 4, 4, 4, 4),
}


@dataclasses.dataclass(frozen=True)
class DistillMosConfig:
  """What defines a front end that is the first part of DistillMOS.

  Attributes:
    weights: 'package:distillmos', a file with the weights of the package, or
      'random:distillmos' or 'random:miniature' for values that are drawn.
    layer: the convolution whose outputs are the features, 1 to 6. What comes
      after it is not computed. The sixth takes every other frame of 10 ms;
      of the others pairs of frames are averaged.
    bands: each channel's outputs are averaged over so many bands of frequency,
      as alike in width as can be; they overlap by a bin where need be.
    channels: outputs of each convolution; () takes what the weights say.
    param_dtype: dtype of the weights, 'float32', 'bfloat16' or 'float64'.
    sample_rate: sampling rate of the waves in Hz; it was trained at 16,000.
  """

  weights: str = ''
  layer: int = 4
  bands: int = 4
  channels: tuple[int, ...] = ()
  param_dtype: str = 'float32'
  sample_rate: int = 16_000

  hop_length: ClassVar[int] = PAIR * HOP
  lora: ClassVar[None] = None  # as front ends have that can be given some

  def __post_init__(self):
    """Asks the weights for what is not given; raises ValueError if invalid."""
    # A run's JSON has lists.
    channels = tuple(self.channels) or KNOWN.get(self.weights, ())
    if self.weights and not channels:
      channels = tuple(len(bias) for _, bias in _read(self.weights))
    object.__setattr__(self, 'channels', channels)
    known = ('float32', 'bfloat16', 'float64')
    if self.param_dtype not in known:
      raise ValueError(
        f'param_dtype={self.param_dtype!r}: needs one of {known}'
      )
    if not 1 <= self.layer <= len(CHANNELS):
      raise ValueError(f'layer={self.layer!r}: needs 1 to {len(CHANNELS)}')
    if channels and len(channels) != len(CHANNELS):
      raise ValueError(f'channels={channels}: needs {len(CHANNELS)} numbers')
    if not 1 <= self.bands <= self.bins:
      raise ValueError(
        f'bands={self.bands!r}: convolution {self.layer} has {self.bins} bins '
        f'of frequency, so it needs 1 to {self.bins}'
      )

  @property
  def is_random(self) -> bool:
    """Whether its values are drawn and not read."""
    return self.weights.startswith('random:')

  @property
  def bins(self) -> int:
    """Frequency bins of what the last computed convolution makes."""
    bins = WINDOW // 2 + 1
    for number in range(1, self.layer + 1):
      bins = (bins - TAPS) // _strides(number)[1] + 1
    return bins

  @property
  def features(self) -> int:
    """Number of features in a frame."""
    if not self.channels:
      raise ValueError(
        "front end 'distillmos' needs config.frontend.weights: package:"
        f'{PACKAGE} ({packages.PACKAGES[PACKAGE].install}), or a file of the '
        'same weights. For tests: random:miniature'
      )
    return self.channels[self.layer - 1] * self.bands

  @property
  def kept_features(self) -> int:
    """Number of values in a frame of what can be computed once."""
    return self.features

  def frames(self, samples: int) -> int:
    """Number of frames of a clip; 0 for one of less than 20 ms."""
    return samples // HOP // PAIR

  def samples_needed(self, frames: int) -> int:
    """Length in samples of the shortest clip that gives this many frames."""
    return frames * PAIR * HOP


class DistillMos(nnx.Module):
  """The front end: waves to outputs of a convolution of DistillMOS.

  Its weights are trained like all others, unless `optim.groups` freezes them:
  `('frontend/encoder/.*', {'frozen': True})`. A clip has the same features in
  a padded batch as alone.
  """

  def __init__(self, config: DistillMosConfig, rngs: nnx.Rngs):
    """Reads the weights, or draws them.

    Args:
      config: the config, whose field `weights` is set.
      rngs: random streams; drawn weights come from `params`.

    Raises:
      CheckpointError (a ValueError): weights that cannot be read or used.
    """
    self.config = config
    self.features = config.features  # raises where no weights are named
    # Where only shapes are wanted there is nothing to read.
    abstract = isinstance(rngs.params(), jax.core.Tracer)
    if config.is_random or abstract:
      self.encoder = Convolutions(config, rngs)
    else:
      self.encoder = load(config)

  def __call__(
    self, wave_BxT: jax.Array, samples_B: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Computes the features; the contract is `system.Frontend`."""
    batch, samples = wave_BxT.shape
    frames = self.config.frames(samples)
    if samples_B is not None:
      index_1xT = jnp.arange(samples, dtype=jnp.int32)[None]
      wave_BxT = jnp.where(index_1xT < samples_B[:, None], wave_BxT, 0)
    loudest_Bx1 = jnp.abs(wave_BxT).max(1, keepdims=True)
    with jax.named_scope('spectrum'):
      x_BxNxWxC, frames_B = compressed(
        wave_BxT / (loudest_Bx1 + 1e-8), samples_B
      )
    with jax.named_scope('convolutions'):
      h_BxNxWxC = self.encoder(x_BxNxWxC, frames_B)
    bands_WxG = _bands(self.config.bins, self.config.bands)
    with jax.named_scope('bands'):
      if self.config.layer < len(CHANNELS):
        # Pairs before bands: it is the same, of half as many frames.
        h = h_BxNxWxC[:, : frames * PAIR]
        h_BxNxWxC = h.reshape(batch, frames, PAIR, *h.shape[2:]).mean(2)
      h = jnp.einsum(
        'bnwc,wg->bncg', h_BxNxWxC, jnp.asarray(bands_WxG, h_BxNxWxC.dtype)
      )
      h = h.reshape(batch, h.shape[1], -1)
      h = h[:, :frames]
    if samples_B is None:
      return h, jnp.full((batch,), frames, jnp.int32)
    frames_B = frames_B // PAIR
    return jnp.where(masked.valid_frames(frames_B, frames), h, 0), frames_B

  def kept(
    self, wave_BxT: jax.Array, samples_B: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """What can be computed once where it is frozen: the features."""
    return self(wave_BxT, samples_B)

  def of_kept(self, kept_BxNxF: jax.Array) -> jax.Array:
    """The features, of what `kept` gave."""
    return kept_BxNxF


class Convolutions(nnx.Module):
  """The convolutions, up to the one that the features are of."""

  def __init__(self, config: DistillMosConfig, rngs: nnx.Rngs):
    """Draws weights."""
    inputs = 2  # real and imaginary part
    for number in range(1, config.layer + 1):
      outputs = config.channels[number - 1]
      made = Convolution(inputs, outputs, number, config.param_dtype, rngs)
      setattr(self, f'conv{number}', made)
      inputs = outputs
    self.count = config.layer

  def __call__(
    self, x_BxNxWxC: jax.Array, frames_B: jax.Array | None
  ) -> jax.Array:
    """Returns the outputs of the last one, `[B, N', W', C']`.

    Args:
      x_BxNxWxC: compressed spectra.
      frames_B: valid frames of each clip; None if all are.
    """
    for number in range(1, self.count + 1):
      if frames_B is not None:  # behind its end a clip has zeros, as alone
        valid_BxNx1 = masked.valid_frames(frames_B, x_BxNxWxC.shape[1])
        x_BxNxWxC = jnp.where(valid_BxNx1[..., None], x_BxNxWxC, 0)
      x_BxNxWxC = getattr(self, f'conv{number}')(x_BxNxWxC)
    return x_BxNxWxC


class Convolution(nnx.Module):
  """A convolution over time and frequency, and a leaky ReLU."""

  def __init__(
    self, inputs: int, outputs: int, number: int, param_dtype: str, rngs
  ):
    """Draws the kernel, of frames, bins, inputs and outputs, and the bias."""
    draw = layers.uniform_of_fan_in(TAPS * TAPS * inputs)
    dtype = jnp.dtype(param_dtype)
    shape = (TAPS, TAPS, inputs, outputs)
    self.kernel = nnx.Param(draw(rngs.params(), shape, dtype))
    self.bias = nnx.Param(draw(rngs.params(), (outputs,), dtype))
    self.strides = _strides(number)

  def __call__(self, x_BxNxWxI: jax.Array) -> jax.Array:
    """Returns `[B, N', W', outputs]` in the dtype of `x`."""
    dtype = x_BxNxWxI.dtype
    kernel = self.kernel[...].astype(dtype)
    h = minimal_conv.conv2d(x_BxNxWxI, kernel, self.strides)
    h = h + self.bias[...].astype(dtype)[None, None, None]
    return jnp.where(h > 0, h, SLOPE * h)


def compressed(
  wave_BxT: jax.Array, samples_B: jax.Array | None
) -> tuple[jax.Array, jax.Array | None]:
  """Spectra whose magnitudes are raised to 0.3 and whose phases stay.

  Args:
    wave_BxT: waves at 16 kHz, 0 behind each clip's end.
    samples_B: number of valid samples of each clip; None if all are.

  Returns:
    Real and imaginary parts of windows of 20 ms every 10 ms, `[B, N, 161, 2]`;
    and the number of valid frames of each clip, None if all are.
  """
  padded = stft.pad_ends(wave_BxT, samples_B, (WINDOW - HOP) // 2, 'reflect')
  h_BxNxK = stft.frame(padded, WINDOW, HOP, wave_BxT.shape[1] // HOP)
  window_K = filters.window('hann', WINDOW)
  h_BxNxK = h_BxNxK * jnp.asarray(window_K, h_BxNxK.dtype)[None, None]
  cosines, sines = jnp.split(stft.by_product(h_BxNxK, WINDOW), 2, -1)
  x_BxNxWx2 = jnp.stack([cosines, -sines], -1)
  power_BxNxWx1 = jnp.square(x_BxNxWx2).sum(-1, keepdims=True)
  # The magnitude to 0.3, divided by the magnitude. At silence, where that is
  # infinite, the spectrum is 0, and so is the gradient.
  silent = power_BxNxWx1 <= LEAST**2
  factor = jnp.where(silent, 1, power_BxNxWx1) ** ((COMPRESSION - 1) / 2)
  factor = jnp.where(silent, LEAST ** (COMPRESSION - 1), factor)
  return x_BxNxWx2 * factor, None if samples_B is None else samples_B // HOP


def load(config: DistillMosConfig) -> Convolutions:
  """Reads the convolutions of a config.

  Raises:
    CheckpointError: damaged, unsafe, or weights that do not fit.
  """
  given = {}
  made = _read(config.weights)[: config.layer]
  for number, (kernel, bias) in enumerate(made, 1):
    # Outputs, inputs, bins, frames: the module has them the other way around.
    at, kernel = _name(number), kernel.transpose(3, 2, 1, 0)
    given[f'conv{number}.kernel'] = [(f'{at}.weight', kernel)]
    given[f'conv{number}.bias'] = [(f'{at}.bias', bias)]
  return fit.fill(
    lambda: Convolutions(config, nnx.Rngs(0)), given, config.weights
  )


def is_distillmos(tensors: Mapping[str, np.ndarray]) -> bool:
  """Whether the convolutions of DistillMOS are among tensors."""
  return f'{_name(1)}.weight' in tensors


def _read(weights: str) -> list[tuple[np.ndarray, np.ndarray]]:
  """Kernel and bias of each convolution, as the file has them."""
  tensors = files.open_weights(packages.find(weights, (PACKAGE,))).tensors
  found = []
  for number in range(1, len(CHANNELS) + 1):
    names = {f'{_name(number)}.weight': 4, f'{_name(number)}.bias': 1}
    for name, axes in names.items():
      if name not in tensors or tensors[name].ndim != axes:
        raise CheckpointError(
          f'{weights}: no DistillMOS: it has no {name} of {axes} axes'
        )
    found.append(tuple(tensors[name] for name in names))
  return found


def _name(number: int) -> str:
  """The name of a convolution in the package's file."""
  return f'cnn.cnn.{2 * (number - 1)}'


def _strides(number: int) -> tuple[int, int]:
  """Strides of a convolution over time and over frequency."""
  return 2 if number == len(CHANNELS) else 1, 1 if number == 1 else 2


def _bands(bins: int, bands: int) -> np.ndarray:
  """What averages bins over bands, `[bins, bands]`."""
  matrix_WxG = np.zeros((bins, bands))
  for band in range(bands):
    first, last = band * bins // bands, math.ceil((band + 1) * bins / bands)
    matrix_WxG[first:last, band] = 1 / (last - first)
  return matrix_WxG
