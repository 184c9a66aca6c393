"""Front ends without spectra: the wave itself, and a fixed sinc filter bank.

Letters in names: B batch, T samples, N frames, F features.
"""

import dataclasses

import jax
import jax.numpy as jnp

from jaxspoof.frontends import sinc

_ABOVE = 4  # filters more than used are spread over the scale


@dataclasses.dataclass(frozen=True)
class WaveConfig:
  """No front end: for models that take waves.

  Attributes:
    sample_rate: Hz of the waves.
  """

  sample_rate: int = 16_000

  @property
  def hop_length(self) -> int:
    """Samples from one frame to the next: 1, because frames are samples."""
    return 1

  def samples_needed(self, frames: int) -> int:
    """Length in samples of the shortest wave with so many frames."""
    return frames

  def frames(self, samples: int) -> int:
    """Number of frames of a clip: that of its samples."""
    return samples


@dataclasses.dataclass(frozen=True)
class SincConfig:
  """What defines a `SincBank`. Defaults are those of Raw PC-DARTS.

  Attributes:
    filters: number of filters, and so of features in a frame.
    taps: length of a filter in samples; an even one becomes the next odd one.
    pool: samples that are pooled into one frame: also the hop.
    zeros: number of zeros added at each end of a wave.
    sample_rate: sampling rate of the waves in Hz.
  """

  filters: int = 64
  taps: int = 128
  pool: int = 3
  zeros: int = 2
  sample_rate: int = 16_000

  def __post_init__(self):
    """Raises ValueError for values below 1."""
    for name in ('filters', 'taps', 'pool'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)}: needs at least 1')

  @property
  def features(self) -> int:
    """Number of features in a frame."""
    return self.filters

  @property
  def hop_length(self) -> int:
    """Samples from one frame to the next."""
    return self.pool

  def samples_needed(self, frames: int) -> int:
    """Length in samples of the shortest wave that gives so many frames."""
    return sinc.samples_needed(self.taps, self.pool, frames) - 2 * self.zeros

  def frames(self, samples: int) -> int:
    """Number of frames that a clip of so many samples gives."""
    return sinc.frames_made(samples + 2 * self.zeros, self.taps, self.pool)


@dataclasses.dataclass(frozen=True)
class SincBank:
  """Fixed mel-spaced sinc filters and max-pooling over time.

  As in Raw PC-DARTS (arXiv 2107.12212) the mel scale is divided into four more
  bands than there are filters, and the highest four are not used.
  """

  config: SincConfig

  def __call__(
    self, wave_BxT: jax.Array, samples_B: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Computes features `[B, N, F]`; `system.Frontend` is the contract."""
    c = self.config
    bank = sinc.mel_bank(c.filters + _ABOVE, c.taps, c.sample_rate)
    if samples_B is not None:
      index_1xT = jnp.arange(wave_BxT.shape[1], dtype=samples_B.dtype)[None]
      wave_BxT = jnp.where(index_1xT < samples_B[:, None], wave_BxT, 0)
    wave_BxT = jnp.pad(wave_BxT, ((0, 0), (c.zeros, c.zeros)))
    bank = jnp.asarray(bank[:, : c.filters], wave_BxT.dtype)
    h = sinc.filter_wave(wave_BxT, bank)
    frames = h.shape[1] // c.pool
    h = h[:, : frames * c.pool]
    h_BxNxF = h.reshape(len(h), frames, c.pool, c.filters).max(2)
    if samples_B is None:
      return h_BxNxF, jnp.full((len(h),), frames, jnp.int32)
    made_B = (samples_B + 2 * c.zeros - sinc.odd(c.taps) + 1) // c.pool
    return h_BxNxF, jnp.maximum(made_B, 0)
