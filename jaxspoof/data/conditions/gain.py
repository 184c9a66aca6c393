"""Another level."""

import numpy as np

from jaxspoof.data.conditions import values


def gain(
  wave: np.ndarray, decibels: float, rng: np.random.Generator
) -> np.ndarray:
  """Multiplies a wave by 10^(decibels / 20). Nothing is clipped."""
  del rng
  return wave * np.float32(values.ratio(decibels))
