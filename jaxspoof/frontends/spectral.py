"""Spectral front ends: spectrograms, mel energies, MFCC and LFCC in JAX.

Letters in names: B batch, T samples, N frames, W frequency bins, F features.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxspoof.frontends import filters, masked, stft
from jaxspoof.frontends.spectral_config import (
  CEPSTRA,
  PRESETS,
  SpectralConfig,
)

__all__ = ['PRESETS', 'Spectral', 'SpectralConfig']


class Spectral:
  """Features of a batch of clips, on the device, differentiable.

  A plain function of the wave without state or parameters, compiled once per
  config, shape and dtype; two of the same config are equal, so that models
  that hold one are too. It computes in the dtype of the waves, float32 at
  least.

  A clip in a padded batch gives on its frames what it gives alone, whatever
  the batch holds behind its end.
  """

  def __init__(self, config: SpectralConfig):
    """Makes the constants.

    Args:
      config: what to compute.
    """
    self.config = config
    self.features = config.features
    self.min_samples = config.min_samples
    self.window_K = filters.window(config.window, config.win_length)
    self.bank_WxF = _bank(config)
    self.dct_FxC = _cepstral_matrix(config)

  def __eq__(self, other):
    return isinstance(other, Spectral) and self.config == other.config

  def __hash__(self):
    return hash(self.config)

  def __repr__(self):
    return f'Spectral({self.config})'

  def frames(self, samples: int) -> int:
    """Frames of a clip; 0 for one shorter than `min_samples`."""
    return self.config.frames(samples)

  def __call__(
    self, wave_BxT: jax.Array, samples_B: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Computes the features.

    Args:
      wave_BxT: floating-point waves, T at least `min_samples`.
      samples_B: whole numbers: the samples of each clip from the start of its
        row, `min_samples` to T; None where each fills its row. In compiled
        code, where values cannot be checked, a shorter clip has no frames.

    Returns:
      Features `[B, N, features]`, 0 past a clip's end, and int32 `[B]`: the
      frames of each clip.

    Raises:
      TypeError: the waves or the lengths have another dtype.
      ValueError: shapes do not fit, or a clip is too short or too long.
    """
    self._check_wave(wave_BxT)
    if samples_B is not None:
      self._check_samples(wave_BxT, samples_B)
    return _features(self, wave_BxT, samples_B)

  def _check_wave(self, wave_BxT):
    if wave_BxT.ndim != 2:
      raise ValueError(
        f'waves of shape {wave_BxT.shape}: needs [batch, samples]'
      )
    if not jnp.issubdtype(wave_BxT.dtype, jnp.floating):
      raise TypeError(
        f'waves of dtype {wave_BxT.dtype}: needs floating point, full scale 1'
      )
    self._check_length('waves have', wave_BxT.shape[1])

  def _check_length(self, what: str, samples: int):
    if samples >= self.min_samples:
      return
    c = self.config
    why = f'one frame of n_fft={c.n_fft}'
    if c.center and c.pad_mode == 'reflect':
      why = f'{c.pad} samples mirrored at each end (n_fft={c.n_fft})'
    raise ValueError(
      f'{what} {samples} samples: needs at least {self.min_samples}, for {why}'
    )

  def _check_samples(self, wave_BxT, samples_B):
    batch, longest = wave_BxT.shape
    if samples_B.shape != (batch,):
      raise ValueError(
        f'samples_B of shape {samples_B.shape}: needs [{batch}], one per clip'
      )
    if not jnp.issubdtype(samples_B.dtype, jnp.integer):
      raise TypeError(
        f'samples_B of dtype {samples_B.dtype}: needs whole numbers'
      )
    if isinstance(samples_B, jax.core.Tracer) or not batch:
      return
    samples_B = np.asarray(samples_B)
    short = int(samples_B.argmin())
    self._check_length(f'clip {short} has', int(samples_B[short]))
    if samples_B.max() > longest:
      raise ValueError(
        f'clip {samples_B.argmax()} has {samples_B.max()} samples: the batch '
        f'holds {longest}'
      )


def _bank(config: SpectralConfig) -> np.ndarray | None:
  if config.kind.endswith('spectrogram'):
    return None
  band = config.fmin, config.top
  if config.kind == 'lfcc':
    edges_F = filters.linear_edges(config.filters, *band)
  else:
    edges_F = filters.mel_edges(config.filters, *band, config.htk)
  bank_WxF = filters.triangles(
    edges_F, config.n_fft, config.sample_rate, config.norm, config.symmetric
  )
  empty = np.flatnonzero(bank_WxF.max(0) == 0)
  if empty.size:
    raise ValueError(
      f'filters={config.filters}: {empty.size} of them, the first number '
      f'{empty[0]}, hold no bin of n_fft={config.n_fft}; needs fewer filters '
      'or a larger n_fft'
    )
  return bank_WxF


def _cepstral_matrix(config: SpectralConfig) -> np.ndarray | None:
  if config.kind not in CEPSTRA:
    return None
  matrix_FxC = filters.dct_matrix(
    config.filters, config.ceps, config.dct_type, config.dct_norm
  )
  return matrix_FxC * filters.lifter_weights(config.ceps, config.lifter)[None]


@functools.partial(jax.jit, static_argnums=0)
def _features(spectral: Spectral, wave_BxT, samples_B):
  c = spectral.config
  dtype = wave_BxT.dtype if wave_BxT.dtype.itemsize >= 4 else jnp.float32
  batch, samples = wave_BxT.shape
  frames = c.frames(samples)
  if samples_B is None:
    # A mask that all clips share: nothing is padded, nothing has to be masked.
    frames_B, valid_BxNx1 = None, np.ones((1, 1, 1), bool)
  else:
    samples_B = samples_B.astype(jnp.int32)
    frames_B = _frames(c, samples_B)
    valid_BxNx1 = masked.valid_frames(frames_B, frames)
  power_BxNxW = _power(spectral, wave_BxT.astype(dtype), samples_B)
  h = _static(spectral, power_BxNxW, valid_BxNx1)
  h = masked.with_deltas(h, frames_B, c.deltas, c.delta_width)
  if c.normalise != 'none':
    h = masked.normalise(h, valid_BxNx1, c.normalise == 'mean_variance')
  if frames_B is None:
    return h, jnp.full((batch,), frames, jnp.int32)
  return jnp.where(valid_BxNx1, h, 0), frames_B


def _frames(c: SpectralConfig, samples_B: jax.Array) -> jax.Array:
  """Number of frames of each clip: `SpectralConfig.frames` on the device."""
  made_B = 1 + (samples_B + 2 * c.pad - c.n_fft) // c.hop_length
  return jnp.where(samples_B < c.min_samples, 0, made_B)


def _power(spectral: Spectral, wave_BxT, samples_B) -> jax.Array:
  c = spectral.config
  frames = c.frames(wave_BxT.shape[1])
  if c.pre_emphasis:
    wave_BxT = stft.pre_emphasise(wave_BxT, c.pre_emphasis)
  if samples_B is not None:
    # Padding may hold anything; pre-emphasis lets the last sample leak into it.
    index_1xT = jnp.arange(wave_BxT.shape[1], dtype=jnp.int32)[None]
    wave_BxT = jnp.where(index_1xT < samples_B[:, None], wave_BxT, 0)
  if c.pad:
    wave_BxT = stft.pad_ends(wave_BxT, samples_B, c.pad, c.pad_mode)
  return stft.power_spectrum(
    wave_BxT, spectral.window_K, c.n_fft, c.hop_length, frames
  )


def _static(spectral: Spectral, power_BxNxW, valid_BxNx1) -> jax.Array:
  """Features without deltas and normalisation."""
  c = spectral.config
  h = stft.raise_power(power_BxNxW, c.power)
  if spectral.bank_WxF is not None:
    h = stft.matmul(h, spectral.bank_WxF)
  if c.kind in ('spectrogram', 'mel'):
    return h
  h = masked.logarithm(h, c.log, c.floor, c.floor_added)
  if c.top_db is not None:
    h = masked.limit_range(h, valid_BxNx1, c.log, c.top_db)
  if c.kind not in CEPSTRA:
    return h
  h = stft.matmul(h, spectral.dct_FxC)
  if not c.energy:
    return h
  return jnp.concatenate([_log_energy(c, power_BxNxW), h[:, :, 1:]], -1)


def _log_energy(c: SpectralConfig, power_BxNxW) -> jax.Array:
  bins_W = np.arange(c.n_fft // 2 + 1) * c.sample_rate / c.n_fft
  inside_W = (bins_W >= c.fmin) & (bins_W <= c.top)
  low, high = np.flatnonzero(inside_W)[[0, -1]]
  energy = power_BxNxW[:, :, low : high + 1].sum(-1, keepdims=True) / c.n_fft
  return masked.logarithm(energy, c.log, c.floor, c.floor_added)
