"""What searched networks see of a wave: the front end and its sizes.

Letters in names: B batch, T samples, N frames, F features.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.frontends import PRESETS, Spectral, SpectralConfig, sinc
from jaxspoof.models import layers
from jaxspoof.search_spaces import Space

SPECTRAL = {
  'log_mel': SpectralConfig(kind='log_mel'),
  'lfcc': PRESETS['lfcc_pc_darts'],
  'mfcc': PRESETS['ecapa_mfcc'],
}
SINC = 'sinc'
SINC_TAPS, SINC_POOL, SINC_PAD = 128, 3, 2


class RawFrontend(nnx.Module):
  """Fixed mel-spaced sinc filters and max-pooling over time.

  As in Raw PC-DARTS (arXiv 2107.12212) four more filters than used are
  spread over the scale and the highest four are dropped, and waves get two
  zeros at each end.
  """

  def __init__(self, filters: int, taps: int, pool: int):
    """Args are the number of filters, their length and the window."""
    self.filters, self.taps, self.pool = filters, taps, pool

  def __call__(self, wave_BxT: jax.Array) -> jax.Array:
    """Returns `[B, N, filters]`."""
    bank = sinc.mel_bank(self.filters + 4, self.taps)[:, : self.filters]
    wave_BxT = jnp.pad(wave_BxT, ((0, 0), (SINC_PAD, SINC_PAD)))
    h = sinc.filter_wave(wave_BxT, jnp.asarray(bank, wave_BxT.dtype))
    frames = h.shape[1] // self.pool
    h = h[:, : frames * self.pool]
    return h.reshape(len(h), frames, self.pool, self.filters).max(2)


def resolve(features, space: Space) -> str | SpectralConfig:
  """The front end of a config; '' means the default of the space.

  Args:
    features: a key of `SPECTRAL` or of `frontends.PRESETS`, a
      `SpectralConfig` or the mapping of its fields; for a space of one
      dimension 'sinc'.
    space: the search space.

  Returns:
    A `SpectralConfig`, or 'sinc'.

  Raises:
    ValueError: not known, or of other dimensions than the space.
  """
  if isinstance(features, Mapping):
    features = SpectralConfig(**features)
  if space.dims == 1:
    if features not in ('', SINC):
      raise ValueError(
        f'features={features!r}: space {space.name!r} takes {SINC!r}'
      )
    return SINC
  if isinstance(features, SpectralConfig):
    return features
  known = {**SPECTRAL, **PRESETS}
  features = features or 'log_mel'
  if features not in known:
    raise ValueError(
      f'features={features!r}: space {space.name!r} takes {", ".join(known)} '
      'or the fields of a SpectralConfig'
    )
  return known[features]


def make(features: str | SpectralConfig, filters: int):
  """The front end; `filters` are those of 'sinc'."""
  if features == SINC:
    return RawFrontend(filters, SINC_TAPS, SINC_POOL)
  return Spectral(features)


def compute(frontend, wave_BxT: jax.Array) -> jax.Array:
  """Features `[B, N, F]` of whole clips, in float32 or better."""
  wave_BxT = wave_BxT.astype(layers.wide(wave_BxT.dtype))
  if isinstance(frontend, Spectral):
    return frontend(wave_BxT)[0]
  return frontend(wave_BxT)


def size(
  features: str | SpectralConfig, samples: int, filters: int
) -> tuple[int, int]:
  """Frames and features of a clip."""
  if features == SINC:
    samples += 2 * SINC_PAD
    return sinc.frames_made(samples, SINC_TAPS, SINC_POOL), filters
  return features.frames(samples), features.features


def min_samples(features: str | SpectralConfig, num_cells: int) -> int:
  """Shortest wave of which something is left after the last cell."""
  if features == SINC:
    frames = 2 ** (num_cells + 1)
    return sinc.samples_needed(SINC_TAPS, SINC_POOL, frames) - 2 * SINC_PAD
  return features.min_samples


def check(wave_BxT: jax.Array, samples, least: int) -> None:
  """Raises ValueError for waves that a network cannot score."""
  if samples is not None:
    raise ValueError(
      'searched networks score clips of one length: samples must be None '
      '(crop or repeat clips, do not pad them)'
    )
  if wave_BxT.ndim != 2 or not jnp.issubdtype(wave_BxT.dtype, jnp.floating):
    raise ValueError(
      'expected floating-point waves [batch, samples], got '
      f'{wave_BxT.dtype}{list(wave_BxT.shape)}'
    )
  if wave_BxT.shape[1] < least:
    raise ValueError(
      f'waves of {wave_BxT.shape[1]} samples are too short: this model needs '
      f'at least {least} (repeat shorter clips)'
    )
