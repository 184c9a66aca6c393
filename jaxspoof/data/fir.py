"""FIR filters of zero phase: random band stops in cascade, and fast filtering.

A filter that is symmetric about its middle has a real response, so a cascade
is a product of real numbers on a frequency grid: no polynomial is multiplied
out, and all filters of a clip are designed at once.
"""

import numpy as np
import scipy  # its parts are imported where they are first used

_GRID = (
  512  # frequencies below Nyquist among which a filter's peak is looked up
)
_BLOCK = 4096  # of the overlap-save convolution: fits the cache


def notch_cascades(
  low: np.ndarray,
  high: np.ndarray,
  reach: np.ndarray,
  gain: np.ndarray,
  unit_dc: bool = False,
) -> np.ndarray:
  """Designs filters that are cascades of band stops (window method, Hamming).

  Args:
    low: Lower edge of each stop band as a fraction of the Nyquist frequency,
      float [filters, notches], in (0, 1).
    high: Upper edge, the same, above `low`.
    reach: Taps on either side of the middle one, int [filters, notches], >= 1.
    gain: Largest magnitude of each filter's response, in dB, float [filters].
    unit_dc: Give each band stop a positive response at 0 Hz even where 0 Hz
      lies in its stop band and the window leaves it negative there. That turns
      the sign of the whole filter.

  Returns:
    float32 [filters, 2 * longest + 1], each symmetric about its middle;
    `longest` is the largest sum of a row of `reach`.
  """
  longest = int(reach.sum(axis=1).max())
  fold = -(-(longest + 1) // _GRID)
  points = fold * _GRID + 1  # 0 Hz to Nyquist; long filters do not wrap around
  response = scipy.fft.dct(_band_stops(low, high, reach), type=1, n=points)
  cascade = response.prod(axis=1)
  peak = np.abs(cascade[:, :-1:fold]).max(axis=1)
  scale = 10.0 ** (gain / 20) / np.maximum(peak, np.finfo(np.float64).tiny)
  if unit_dc:
    scale = np.where((response[..., 0] < 0).sum(axis=1) % 2, -scale, scale)
  half = scipy.fft.idct(cascade * scale[:, None], type=1)[:, : longest + 1]
  return np.concatenate([half[:, :0:-1], half], axis=1).astype(np.float32)


def _band_stops(low, high, reach) -> np.ndarray:
  """The middle tap and those after it, float64 [filters, notches, taps]."""
  low, high, reach = low[..., None], high[..., None], reach[..., None]
  n = np.arange(1, reach.max() + 1)
  ideal = (np.sin(np.pi * low * n) - np.sin(np.pi * high * n)) / (np.pi * n)
  window = 0.54 + 0.46 * np.cos(np.pi * n / reach)
  side = np.where(n <= reach, ideal * window, 0.0)
  return np.concatenate([1 + low - high, side], axis=-1)


def filtered_sum(
  signals: np.ndarray, filters: np.ndarray, early: int = 0
) -> np.ndarray:
  """Filters each signal with its filter and adds up the results.

  Silence is assumed before and after the signals.

  Args:
    signals: float32 [filters, n], n >= 1.
    filters: float32 [filters, 2 * m + 1], m >= 1; the tap in the middle is the
      one of delay zero.
    early: Samples by which the result is moved forward, at most m.

  Returns:
    float32 [n].
  """
  count, n = signals.shape
  overlap = filters.shape[1] - 1
  size = max(_BLOCK, scipy.fft.next_fast_len(4 * overlap, real=True))
  step = size - overlap
  blocks = -(-n // step)
  padded = np.zeros((count, blocks * step + overlap), np.float32)
  start = overlap // 2 - early
  padded[:, start : start + n] = signals
  views = np.lib.stride_tricks.sliding_window_view(padded, size, axis=1)
  spectrum = scipy.fft.rfft(views[:, ::step])
  spectrum *= scipy.fft.rfft(filters, size)[:, None]
  out = scipy.fft.irfft(spectrum.sum(axis=0), size)
  return out[:, overlap:].reshape(-1)[:n]
