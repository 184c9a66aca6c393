"""Other lengths: without the silence at the ends, the beginning, faster."""

import math

import numpy as np
import soxr

from jaxspoof.data.conditions import active

_RATE = 16_000


def trim(wave: np.ndarray, value: None, rng: np.random.Generator) -> np.ndarray:
  """Leaves out what lies before the first active frame and after the last."""
  del value, rng
  return wave[active.span(wave)]


def lead(
  wave: np.ndarray, seconds: float, rng: np.random.Generator
) -> np.ndarray:
  """The first seconds of a wave; all of a shorter one."""
  del rng
  return wave[: lead_samples(len(wave), seconds)]


def lead_samples(samples: int, seconds: float) -> int:
  """How many samples of so many `lead` leaves."""
  return min(samples, max(1, round(seconds * _RATE)))


def speed(
  wave: np.ndarray, factor: float, rng: np.random.Generator
) -> np.ndarray:
  """Plays a wave faster: pitch and tempo change together, as on a tape."""
  del rng
  found = soxr.resample(wave, factor * _RATE, _RATE, quality='HQ')
  count = speed_samples(len(wave), factor)
  # The resampler may give a sample more or less than it says itself.
  return np.pad(found[:count], (0, max(0, count - len(found))))


def speed_samples(samples: int, factor: float) -> int:
  """How many samples `speed` makes of so many."""
  return max(1, math.floor(samples / factor))
