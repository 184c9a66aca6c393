"""Constants of the spectral front ends: windows, filter banks, cosines.

All are float64 numpy arrays, made once on the host and rounded to the dtype
of the waves where they are used.

Letters in names: K window samples, W frequency bins, F filters, C cepstral
coefficients.
"""

import math

import numpy as np

# Weights of cos(2 pi k n / K) for k = 0, 1, 2.
_COSINES = {
  'hann': (0.5, -0.5),
  'hamming': (0.54, -0.46),
  'blackman': (0.42, -0.5, 0.08),
  'rectangular': (1.0,),
}
WINDOWS = tuple(_COSINES)

# Slaney's scale is linear below 1 kHz and has 27 steps per factor 6.4 above.
_SLANEY_HZ, _SLANEY_KNEE = 200 / 3, 1000.0
_SLANEY_STEP = math.log(6.4) / 27


def window(name: str, length: int) -> np.ndarray:
  """Samples of a periodic window, as spectral analysis wants it.

  Args:
    name: one of `WINDOWS`.
    length: in samples.

  Returns:
    `[length]`; one more sample would repeat the first.
  """
  phase_K = 2 * np.pi * np.arange(length) / length
  terms = [w * np.cos(k * phase_K) for k, w in enumerate(_COSINES[name])]
  return np.sum(terms, 0)


def hz_to_mel(hz, htk: bool = False) -> np.ndarray:
  """Frequencies on the mel scale of HTK or of Slaney's Auditory Toolbox."""
  hz = np.asarray(hz, float)
  if htk:
    return 2595 * np.log10(1 + hz / 700)
  above = np.log(np.maximum(hz, _SLANEY_KNEE) / _SLANEY_KNEE) / _SLANEY_STEP
  return np.minimum(hz, _SLANEY_KNEE) / _SLANEY_HZ + above


def mel_to_hz(mel, htk: bool = False) -> np.ndarray:
  """The inverse of `hz_to_mel`."""
  mel = np.asarray(mel, float)
  if htk:
    return 700 * (10 ** (mel / 2595) - 1)
  knee = _SLANEY_KNEE / _SLANEY_HZ
  above = np.exp(_SLANEY_STEP * np.maximum(mel - knee, 0))
  return np.minimum(mel, knee) * _SLANEY_HZ * above


def mel_edges(filters: int, fmin: float, fmax: float, htk: bool) -> np.ndarray:
  """Corners of mel triangles in Hz, `[filters + 2]`, rising.

  Triangle i begins at corner i, has its peak at i + 1 and ends at i + 2.
  """
  low, high = hz_to_mel([fmin, fmax], htk)
  return mel_to_hz(np.linspace(low, high, filters + 2), htk)


def linear_edges(filters: int, fmin: float, fmax: float) -> np.ndarray:
  """Corners of equally spaced triangles in Hz, `[filters + 2]`; see above."""
  return np.linspace(fmin, fmax, filters + 2)


def triangles(
  edges_F: np.ndarray,
  n_fft: int,
  rate: int,
  norm: str | None,
  symmetric: bool = False,
) -> np.ndarray:
  """Triangular filters on the bins of a spectrum.

  Filter i rises from 0 at edge i to its peak at edge i + 1 and falls to 0 at
  edge i + 2; lines in Hz, sampled at the bins.

  Args:
    edges_F: rising frequencies in Hz, two more than filters.
    n_fft: points of the Fourier transform.
    rate: sampling rate in Hz.
    norm: None for peaks of 1, 'slaney' for areas of 1 (in Hz).
    symmetric: let a filter fall as steeply as it rises instead.

  Returns:
    Weight of each bin in each filter, `[n_fft // 2 + 1, filters]`: power
    spectra times this are the energies of the bands.
  """
  bins_Wx1 = (np.arange(n_fft // 2 + 1) * rate / n_fft)[:, None]
  low_F, peak_F = edges_F[None, :-2], edges_F[None, 1:-1]
  high_F = 2 * peak_F - low_F if symmetric else edges_F[None, 2:]
  rise_WxF = (bins_Wx1 - low_F) / (peak_F - low_F)
  fall_WxF = (high_F - bins_Wx1) / (high_F - peak_F)
  bank_WxF = np.maximum(0, np.minimum(rise_WxF, fall_WxF))
  if norm == 'slaney':
    bank_WxF *= 2 / (high_F - low_F)
  return bank_WxF


def dct_matrix(
  filters: int, ceps: int, dct_type: int = 2, norm: str | None = 'ortho'
) -> np.ndarray:
  """The discrete cosine transform as a matrix, in scipy's conventions.

  Args:
    filters: values in.
    ceps: coefficients kept, the first ones.
    dct_type: 2 or 3.
    norm: 'ortho' makes the rows of the square matrix orthonormal; None is 2
      times the plain sum (type 3: with half the first value).

  Returns:
    `[filters, ceps]`: cepstra are log energies times this.
  """
  n_Fx1, k_1xC = np.arange(filters)[:, None], np.arange(ceps)[None]
  if dct_type == 2:
    matrix_FxC = 2 * np.cos(np.pi * k_1xC * (2 * n_Fx1 + 1) / (2 * filters))
    first = matrix_FxC[:, 0]
  else:
    matrix_FxC = 2 * np.cos(np.pi * n_Fx1 * (2 * k_1xC + 1) / (2 * filters))
    first = matrix_FxC[0]
  if norm == 'ortho':
    matrix_FxC /= np.sqrt(2 * filters)
    first /= np.sqrt(2)
  elif dct_type == 3:
    first /= 2
  return matrix_FxC


def lifter_weights(ceps: int, lifter: float) -> np.ndarray:
  """Weights of sinusoidal liftering, `[ceps]`; all 1 for `lifter` 0.

  Coefficient n (from 1) is multiplied by 1 + lifter / 2 sin(pi n / lifter)
  (HTK Book 3.4, equation 5.12, which counts from the second coefficient).
  """
  if not lifter:
    return np.ones(ceps)
  return 1 + lifter / 2 * np.sin(np.pi * np.arange(1, ceps + 1) / lifter)
