"""Noise at a signal-to-noise ratio: recorded, or white, pink and brown."""

import numpy as np
import scipy  # its parts are imported where they are first used

from jaxspoof.data.conditions import active, sounds, values


def added(wave: np.ndarray, sound: np.ndarray, decibels: float) -> np.ndarray:
  """A wave and another sound, at a signal-to-noise ratio.

  The signal is the mean square of the wave over its active frames
  (`active.power`), so that pauses do not count; the noise is the mean square
  of the sound over the whole clip, and made exact for each one. To a clip of
  zeros nothing is added: whatever the ratio, noise below no signal is none.

  Args:
    wave: float32 [n].
    sound: float [n], not silent.
    decibels: the ratio.
  """
  wanted = np.sqrt(active.power(wave)) / values.ratio(decibels)
  there = np.sqrt(np.mean(np.square(sound, dtype=np.float64)))
  return wave + (sound * (wanted / there)).astype(np.float32)


def white(
  wave: np.ndarray, decibels: float, rng: np.random.Generator
) -> np.ndarray:
  """Adds Gaussian white noise."""
  return added(wave, rng.standard_normal(len(wave)), decibels)


def pink(
  wave: np.ndarray, decibels: float, rng: np.random.Generator
) -> np.ndarray:
  """Adds noise whose power falls by 3 dB per octave."""
  return added(wave, _coloured(len(wave), 0.5, rng), decibels)


def brown(
  wave: np.ndarray, decibels: float, rng: np.random.Generator
) -> np.ndarray:
  """Adds noise whose power falls by 6 dB per octave, above 20 Hz."""
  return added(wave, _coloured(len(wave), 1.0, rng), decibels)


def noise(
  wave: np.ndarray,
  decibels: float,
  rng: np.random.Generator,
  files: tuple[str, ...],
) -> np.ndarray:
  """Adds a part of a recording of noise; without recordings, white noise."""
  if not files:
    return white(wave, decibels, rng)
  return added(wave, sounds.cut(files, len(wave), rng), decibels)


def _coloured(n: int, slope: float, rng: np.random.Generator) -> np.ndarray:
  """Noise whose amplitude goes with frequency^-slope, flat below 20 Hz."""
  size = scipy.fft.next_fast_len(max(n, 2), real=True)
  spectrum = scipy.fft.rfft(rng.standard_normal(size))
  hertz = scipy.fft.rfftfreq(size, 1 / 16_000)
  spectrum *= np.maximum(hertz, 20.0) ** -slope
  return scipy.fft.irfft(spectrum, size)[:n]
