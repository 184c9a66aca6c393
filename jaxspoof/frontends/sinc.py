"""Sinc filter banks: band-pass filters as the first layer of a raw-wave model.

Letters in names: B batch, T samples, K filter taps, F filters, N frames.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.ops import platform

_TINY_BAND = 1e-4  # of half the sampling rate: 0.8 Hz at 16 kHz
_BLOCK = 48  # samples of output for each segment of a wave
_ROUNDING = 1e-6  # above half the rate that passes, so that no edge sticks


def odd(taps: int) -> int:
  """The next odd number: symmetric filters need a middle tap."""
  return taps + 1 - taps % 2


def mel_edges(filters: int, rate: int = 16_000) -> np.ndarray:
  """Band edges equally spaced on the mel scale from 0 Hz to half the rate.

  Args:
    filters: number of adjacent bands.
    rate: sampling rate in Hz.

  Returns:
    float64 `[filters + 1]`, in Hz; band i lies between edges i and i + 1.
  """
  top = 2595 * np.log10(1 + (rate // 2) / 700)
  return 700 * (10 ** (np.linspace(0, top, filters + 1) / 2595) - 1)


def mel_bank(filters: int, taps: int, rate: int = 16_000) -> np.ndarray:
  """Hamming-windowed ideal band-pass filters between adjacent mel edges.

  Each filter is the difference of two low-pass impulse responses
  (Ravanelli & Bengio 2018, arXiv 1808.00158, equation 4) with the fixed edges
  that RawNet2, RawGAT-ST and AASIST use.

  Args:
    filters: number of filters.
    taps: filter length in samples; an even length becomes the next odd one.
    rate: sampling rate in Hz.

  Returns:
    float32 `[taps, filters]`, bit for bit the original's: the argument of the
    sinc is rounded to float32, as released weights have seen it.
  """
  taps = odd(taps)
  edges_F = mel_edges(filters, rate)
  time_Kx1 = np.arange(taps, dtype=np.float32)[:, None] - (taps // 2)
  phase_KxF = (2 * edges_F).astype(np.float32)[None] * time_Kx1
  low_pass_KxF = (2 * edges_F / rate)[None] * np.sinc(
    phase_KxF / np.float32(rate)
  )
  window_Kx1 = np.hamming(taps).astype(np.float32)[:, None]
  return window_Kx1 * np.diff(low_pass_KxF, axis=1).astype(np.float32)


def frequency_mask(key: jax.Array, filters: int, limit: int) -> jax.Array:
  """Chooses one band of neighbouring filters to silence for a whole batch.

  The width is uniform over 0 .. limit - 1 and then the first filter uniform
  over all positions where the band fits.

  Args:
    key: random key.
    filters: number of filters.
    limit: exclusive upper bound of the band's width, in filters.

  Returns:
    bool `[filters]`, False inside the band.
  """
  width_key, start_key = jax.random.split(key)
  width = jax.random.randint(width_key, (), 0, limit)
  start = jax.random.randint(start_key, (), 0, filters - width + 1)
  index_F = jnp.arange(filters)
  return (index_F < start) | (index_F >= start + width)


def filter_wave(wave_BxT: jax.Array, bank_KxF: jax.Array) -> jax.Array:
  """Correlates waves with a bank, without padding.

  Accelerators compute it in the full precision of the dtype too: bands are
  differences of neighbouring samples, and the weak ones of speech lie below
  what is lost where products are rounded to the 11 bits of TF32.

  Returns:
    `[B, T - K + 1, F]`.
  """
  return platform.choose(
    wave_BxT, bank_KxF, cpu=filter_by_convolution, default=filter_by_product
  )


def filter_by_convolution(wave_BxT: jax.Array, bank_KxF: jax.Array):
  """`filter_wave` as XLA's convolution."""
  return jax.lax.conv_general_dilated(
    wave_BxT[:, :, None],
    bank_KxF[:, None, :],
    window_strides=(1,),
    padding='VALID',
    dimension_numbers=('NWC', 'WIO', 'NWC'),
  )


def filter_by_product(wave_BxT: jax.Array, bank_KxF: jax.Array):
  """`filter_wave` as one large matrix product.

  Libraries for convolutions are slow with one channel. Here overlapping
  segments of the wave meet a matrix that holds the bank once for each of the
  `_BLOCK` outputs of a segment, a third of it zeros.
  """
  (batch, samples), (taps, filters) = wave_BxT.shape, bank_KxF.shape
  frames = samples - taps + 1
  segments, span = -(-frames // _BLOCK), _BLOCK + taps - 1
  parts = -(-span // _BLOCK)
  rest = (segments + parts - 1) * _BLOCK - samples
  blocks = jnp.pad(wave_BxT, ((0, 0), (0, rest))).reshape(batch, -1, _BLOCK)
  segment_BxSxL = jnp.concatenate(
    [blocks[:, i : i + segments] for i in range(parts)], 2
  )[:, :, :span]
  shifted = [
    jnp.pad(bank_KxF, ((i, _BLOCK - 1 - i), (0, 0))) for i in range(_BLOCK)
  ]
  h_BxSxM = jnp.matmul(
    segment_BxSxL,
    jnp.concatenate(shifted, 1),
    precision=jax.lax.Precision.HIGHEST,
  )
  return h_BxSxM.reshape(batch, segments * _BLOCK, filters)[:, :frames]


def rectify_and_pool(h_BxNxF: jax.Array, size: int) -> jax.Array:
  """Maximum of magnitudes over `size` samples by `size` filters.

  Returns:
    `[B, N // size, F // size]`; what does not fill a window is dropped.
  """
  batch, frames, filters = h_BxNxF.shape
  frames, filters = frames // size, filters // size
  h = jnp.abs(h_BxNxF[:, : frames * size, : filters * size])
  return h.reshape(batch, frames, size, filters, size).max((2, 4))


class SincFrontend(nnx.Module):
  """Band-pass bank, magnitude and max-pooling: the front end of AASIST.

  The fixed bank is a constant, so a training step pays for no gradient of it;
  nor does it pay for the gradient of the wave unless somebody asks for it.

  The learnable bank (SincNet, arXiv 1808.00158, section 2) starts at the fixed
  one and trains the lower edge and the width of each band, in units of half
  the sampling rate: the usual Adam step of 1e-4 then moves an edge by 0.8 Hz
  at 16 kHz. Edges stay between 0 and half the rate, widths above 0.8 Hz.

  Frequency masking (training only) silences one band of filters per batch and
  draws from the stream `mask` of the rngs given to the call.
  """

  def __init__(
    self,
    filters: int = 70,
    taps: int = 128,
    *,
    rate: int = 16_000,
    pool: int = 3,
    learnable: bool = False,
    mask_limit: int = 0,
    param_dtype: str = 'float32',
  ):
    """Builds the bank.

    Args:
      filters: number of filters.
      taps: filter length in samples, made odd.
      rate: sampling rate in Hz.
      pool: side of the square max-pooling window.
      learnable: train the band edges.
      mask_limit: widest masked band plus one; 0 switches masking off.
      param_dtype: dtype of the trained edges.
    """
    self.filters, self.taps, self.rate = filters, odd(taps), rate
    self.pool, self.mask_limit, self.learnable = pool, mask_limit, learnable
    self.deterministic = False
    if learnable:
      edges_F = mel_edges(filters, rate) * 2 / rate
      self.low = nnx.Param(jnp.asarray(edges_F[:-1], param_dtype))
      self.band = nnx.Param(
        jnp.asarray(np.diff(edges_F) - _TINY_BAND, param_dtype)
      )

  def set_view(self, deterministic: bool | None = None):
    """Sets the mode; `nnx.view` calls it on every layer of a model.

    Args:
      deterministic: True for evaluation: no frequency band is masked.
    """
    if deterministic is not None:
      self.deterministic = deterministic

  def __call__(
    self, wave_BxT: jax.Array, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """Filters, rectifies and pools.

    Args:
      wave_BxT: floating-point waves `[B, T]`, T at least `taps + pool - 1`.
      rngs: needed where masking is on and the module is in training mode.

    Returns:
      `[B, (T - taps + 1) // pool, filters // pool]`, in the waves' dtype.
    """
    # Filters that fill no pooling window would be computed for nothing.
    used = self.filters // self.pool * self.pool
    bank_KxF = self.bank(wave_BxT.dtype)[:, :used]
    if self.mask_limit and not self.deterministic:
      keep_F = frequency_mask(_mask_key(rngs), self.filters, self.mask_limit)
      bank_KxF = bank_KxF * keep_F[None, :used].astype(bank_KxF.dtype)
    return rectify_and_pool(filter_wave(wave_BxT, bank_KxF), self.pool)

  def bank(self, dtype=np.float32) -> jax.Array:
    """The filters now in use, `[taps, filters]`."""
    if not self.learnable:
      return jnp.asarray(mel_bank(self.filters, self.taps, self.rate), dtype)
    low_F = _below_one(_magnitude(self.low[...]))
    high_F = _below_one(low_F + _TINY_BAND + _magnitude(self.band[...]))
    time_Kx1 = jnp.arange(self.taps)[:, None] - (self.taps - 1) // 2
    time_Kx1 = time_Kx1.astype(low_F.dtype)
    window_Kx1 = jnp.asarray(np.hamming(self.taps)[:, None], low_F.dtype)
    high_KxF = high_F[None] * jnp.sinc(high_F[None] * time_Kx1)
    low_KxF = low_F[None] * jnp.sinc(low_F[None] * time_Kx1)
    return (window_Kx1 * (high_KxF - low_KxF)).astype(dtype)


def samples_needed(taps: int, pool: int, frames: int) -> int:
  """Shortest wave from which the front end makes `frames` frames."""
  return odd(taps) - 1 + pool * frames


def frames_made(samples: int, taps: int, pool: int) -> int:
  """Number of frames the front end makes of a wave."""
  return max(0, math.floor((samples - odd(taps) + 1) / pool))


def _magnitude(x: jax.Array) -> jax.Array:
  """Absolute value with slope 1 at 0: a first band starting at 0 Hz moves."""
  return jnp.where(x >= 0, x, -x)


def _below_one(x: jax.Array) -> jax.Array:
  return jnp.where(x <= 1 + _ROUNDING, x, 1)


def _mask_key(rngs: nnx.Rngs | None) -> jax.Array:
  if rngs is None:
    raise ValueError(
      'frequency masking draws a random band in training mode: call the model '
      'with rngs=nnx.Rngs(mask=key, ...), or take its evaluation view'
    )
  return rngs.mask()
