"""What a phone or a meeting program does to noise: spectral subtraction."""

import numpy as np
import scipy

_SIZE, _HOP = 512, 128  # 32 ms, 8 ms
_QUIET = 0.1  # of the frames, from whose spectra the noise is known
_SMOOTH = 0.98  # of the decision-directed estimate
_FLOOR = 0.1  # smallest gain, -20 dB: less sounds of water


def denoise(
  wave: np.ndarray, value: None, rng: np.random.Generator
) -> np.ndarray:
  """Takes steady noise away by Wiener's filter, as Ephraim and Malah (1984).

  The spectrum of the noise is the mean over the tenth of the frames with the
  least energy; the ratio of speech to noise follows in time by their
  decision-directed estimate, so that single bins do not ring.
  """
  del value, rng
  if not wave.any():
    return wave
  transform = scipy.signal.ShortTimeFFT(
    scipy.signal.windows.hann(_SIZE, sym=False), _HOP, fs=16_000
  )
  padded = np.pad(wave, (0, max(0, _SIZE - len(wave))))
  spectrum = transform.stft(padded)  # [bins, frames]
  power = np.abs(spectrum) ** 2
  # Frames that reach over the ends hold less, but are not quiet.
  inside = slice(transform.lower_border_end[1], None)
  inside = slice(inside.start, transform.upper_border_begin(len(padded))[1])
  within = power[:, inside] if power[:, inside].size else power
  order = np.argsort(within.sum(axis=0), kind='stable')
  quiet = order[: max(1, int(_QUIET * len(order)))]
  noise = np.maximum(within[:, quiet].mean(axis=1), 1e-12)
  spectrum *= _gains(power / noise[:, None])
  found = transform.istft(spectrum, k1=len(padded))
  return found[: len(wave)].astype(np.float32)


def _gains(ratio: np.ndarray) -> np.ndarray:
  """Gains of power ratios to the noise: float64 [bins, frames] of the same."""
  gains = np.empty_like(ratio)
  kept = np.ones(len(ratio))  # power over that of the noise, in the last frame
  for frame in range(ratio.shape[1]):
    now = np.maximum(ratio[:, frame] - 1, 0)
    prior = _SMOOTH * kept + (1 - _SMOOTH) * now
    gains[:, frame] = np.maximum(prior / (1 + prior), _FLOOR)
    kept = gains[:, frame] ** 2 * ratio[:, frame]
  return gains
