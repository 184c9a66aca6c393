"""Conv-TasNet (Luo and Mesgarani 2019, arXiv 1809.07454): masks on a wave.

A learned filterbank, a mask for each source on what it gives, and a filterbank
back. The masks come from a temporal convolutional network, `blocks.tcn`. With
one source it is an enhancer: a noisy wave in, a clean one out.

Letters in names: B batch, T samples, N frames, F filters, S sources, L samples
of a frame.
"""

import dataclasses

import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers, tcn
from jaxspoof.blocks.tcn import Array, library

MASKS = ('sigmoid', 'relu', 'linear')
ENCODER_ACTIVATIONS = ('linear', 'relu')


@dataclasses.dataclass(frozen=True)
class ConvTasNetConfig(tcn.TcnConfig):
  """What defines a Conv-TasNet; the defaults are those of the paper.

  Attributes:
    sources: how many waves come out.
    filters: of the filterbank, N in the paper.
    kernel: samples of a frame, L.
    stride: samples from one frame to the next.
    mask: what the last layer goes through: 'sigmoid', 'relu' or 'linear'.
    encoder_activation: what the output of the filterbank goes through, 'linear'
      or 'relu'.
    padded: whether `stride` zeros stand before and behind the wave, so that its
      ends lie in as many frames as its middle (torchaudio), or none (asteroid).
    sample_rate: in Hz, that the waves must have.
  """

  sources: int = 1
  filters: int = 512
  kernel: int = 16
  stride: int = 8
  mask: str = 'sigmoid'
  encoder_activation: str = 'linear'
  padded: bool = True
  sample_rate: int = 16_000

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    super().__post_init__()
    for name in ('sources', 'filters', 'kernel', 'stride', 'sample_rate'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)!r}: needs at least 1')
    if self.stride > self.kernel:
      raise ValueError(
        f'stride={self.stride}: expected at most kernel={self.kernel}, or '
        'samples between frames are lost'
      )
    for name, known in (
      ('mask', MASKS),
      ('encoder_activation', ENCODER_ACTIVATIONS),
    ):
      if (value := getattr(self, name)) not in known:
        raise ValueError(
          f'{name}={value!r}: expected one of {", ".join(known)}'
        )

  def frames(self, samples: int) -> int:
    """How many frames a wave has; one that is too short is filled up."""
    if self.padded:
      odd = self.kernel % 2
      samples = -((odd - samples) // self.stride) * self.stride + odd
      samples += 2 * self.stride
    return max(1, (samples - self.kernel) // self.stride + 1)


class ConvTasNet(nnx.Module):
  """The network; with arrays of numpy it computes without JAX."""

  def __init__(self, config: ConvTasNetConfig, rngs: nnx.Rngs):
    """Draws the parameters."""
    self.config = c = config
    dtype = jnp.dtype(c.param_dtype)
    init = layers.uniform_of_fan_in(c.kernel)
    self.encoder = nnx.Param(init(rngs.params(), (c.kernel, c.filters), dtype))
    self.tcn = tcn.Tcn(c, c.filters, rngs)
    self.slope = tcn.slope(c.param_dtype)
    self.mask = tcn.Pointwise(
      c.outputs, c.sources * c.filters, c.param_dtype, rngs
    )
    self.decoder = nnx.Param(init(rngs.params(), (c.filters, c.kernel), dtype))

  def __call__(self, wave_BxT: Array) -> Array:
    """Takes waves apart.

    Args:
      wave_BxT: waves at `config.sample_rate`, of numpy or of JAX as the
        parameters are.

    Returns:
      `[B, sources, T]`.
    """
    c = self.config
    h_BxNxF = self._encoded(wave_BxT)
    mask = self.mask(tcn.prelu(self.tcn(h_BxNxF), self.slope[...]))
    mask = _activated(mask, c.mask)
    batch, frames, _ = h_BxNxF.shape
    mask_BxNxSxF = mask.reshape(batch, frames, c.sources, c.filters)
    masked_BxSxNxF = (mask_BxNxSxF * h_BxNxF[:, :, None]).swapaxes(1, 2)
    return self._decoded(masked_BxSxNxF, wave_BxT.shape[1])

  def _encoded(self, wave_BxT: Array) -> Array:
    """What the filterbank gives, `[B, N, F]`."""
    c, xp = self.config, library(wave_BxT)
    batch, samples = wave_BxT.shape
    frames, steps = c.frames(samples), self._steps
    front = c.stride if c.padded else 0
    need = (frames - 1 + steps) * c.stride
    behind = max(0, need - front - samples)
    padded = xp.pad(wave_BxT, ((0, 0), (front, behind)))[:, :need]
    parts = padded.reshape(batch, -1, c.stride)
    # A frame is some whole steps and the beginning of one.
    framed_BxNxL = xp.concatenate(
      [parts[:, i : i + frames] for i in range(steps)], 2
    )[..., : c.kernel]
    h_BxNxF = tcn.product(framed_BxNxL, self.encoder[...])
    return _activated(h_BxNxF, c.encoder_activation)

  def _decoded(self, h_BxSxNxF: Array, samples: int) -> Array:
    """The waves of frames that are added where they overlap, `[B, S, T]`."""
    c, xp = self.config, library(h_BxSxNxF)
    batch, sources, frames, _ = h_BxSxNxF.shape
    h = h_BxSxNxF.reshape(batch * sources, frames, -1)
    steps, rest = self._steps, self._steps * c.stride - c.kernel
    framed = tcn.product(h, self.decoder[...])
    framed = xp.pad(framed, ((0, 0), (0, 0), (0, rest)))
    total = 0
    for i in range(steps):
      part = framed[..., i * c.stride : (i + 1) * c.stride]
      total = total + xp.pad(part, ((0, 0), (i, steps - 1 - i), (0, 0)))
    wave = total.reshape(batch, sources, -1)
    wave = wave[..., c.stride if c.padded else 0 :][..., :samples]
    missing = samples - wave.shape[-1]
    return xp.pad(wave, ((0, 0), (0, 0), (0, missing)))

  @property
  def _steps(self) -> int:
    """Strides that a frame reaches over."""
    return -(-self.config.kernel // self.config.stride)


def si_snr(found_BxT: Array, clean_BxT: Array) -> Array:
  """The scale-invariant signal-to-noise ratio of waves to clean ones, in dB.

  The signal is what of a wave is a multiple of the clean one, the noise is the
  rest; means are taken away before (Le Roux et al. 2019, arXiv 1811.02508).

  Args:
    found_BxT: waves.
    clean_BxT: what they should be.

  Returns:
    `[B]`.
  """
  xp = library(found_BxT)
  found, clean = (x - x.mean(1, keepdims=True) for x in (found_BxT, clean_BxT))
  energy = (clean**2).sum(1, keepdims=True) + tcn.EPSILON
  signal = (found * clean).sum(1, keepdims=True) / energy * clean
  ratio = (signal**2).sum(1) / (((found - signal) ** 2).sum(1) + tcn.EPSILON)
  return 10 * xp.log10(ratio + tcn.EPSILON)


def _activated(x: Array, name: str) -> Array:
  xp = library(x)
  if name == 'linear':
    return x
  if name == 'relu':
    return xp.maximum(x, 0)
  # By tanh: the exponential of a large number would be infinite.
  return 0.5 * (1 + xp.tanh(0.5 * x))
