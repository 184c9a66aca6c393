"""Narrower bands: a filter, or another sample rate on the way."""

import functools

import numpy as np
import scipy
import soxr

_RATE = 16_000
_NYQUIST = _RATE / 2
_EDGE = 100.0  # Hz from where a filter passes to where it stops
_STOP = 60.0  # dB of the stop band


def read_band(text: str) -> tuple[float, float]:
  """Reads LOW-HIGH in Hz, such as 300-3400."""
  low, dash, high = text.partition('-')
  try:
    edges = float(low), float(high)
  except ValueError:
    edges = (-1.0, -1.0)
  if not (dash and 0 <= edges[0] < edges[1] <= _NYQUIST):
    raise ValueError(
      f'expected two frequencies in order, LOW-HIGH, from 0 to {_NYQUIST:g} Hz'
    )
  return edges


def band(
  wave: np.ndarray, edges: tuple[float, float], rng: np.random.Generator
) -> np.ndarray:
  """Lets a band pass, by a filter of zero phase.

  At an edge the response is -6 dB, 50 Hz inside it is flat and 50 Hz outside
  it is below -55 dB. An edge at 0 or 8,000 Hz filters nothing there.
  """
  del rng
  taps = _filter(*edges)
  if taps is None:
    return wave
  found = scipy.signal.oaconvolve(wave, taps)
  return found[len(taps) // 2 :][: len(wave)]


@functools.cache
def _filter(low: float, high: float) -> np.ndarray | None:
  edges = [edge for edge in (low, high) if 0 < edge < _NYQUIST]
  if not edges:
    return None
  count, beta = scipy.signal.kaiserord(_STOP, _EDGE / _NYQUIST)
  kind = {2: 'bandpass', 1: 'highpass' if low > 0 else 'lowpass'}[len(edges)]
  return scipy.signal.firwin(
    count | 1, edges, window=('kaiser', beta), pass_zero=kind, fs=_RATE
  ).astype(np.float32)


def resample(
  wave: np.ndarray, rate: float, rng: np.random.Generator
) -> np.ndarray:
  """Converts a wave to another sample rate and back, by soxr.

  What is above half of the rate is gone; the pass band of soxr's 'HQ' reaches
  to 0.91 of that.
  """
  del rng
  return back(there(wave, rate), rate, len(wave))


def there(wave: np.ndarray, rate: float) -> np.ndarray:
  """A wave of 16 kHz at another rate: float32 [about n * rate / 16,000]."""
  if rate == _RATE:
    return wave
  return soxr.resample(wave, _RATE, rate, quality='HQ')


def back(wave: np.ndarray, rate: float, samples: int) -> np.ndarray:
  """A wave of another rate at 16 kHz: float32 [samples], cut or with zeros."""
  if rate != _RATE and len(wave):
    wave = soxr.resample(wave, rate, _RATE, quality='HQ')
  return np.pad(wave[:samples], (0, max(0, samples - len(wave))))
