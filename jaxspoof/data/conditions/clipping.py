"""A microphone or an amplifier that is driven too hard."""

import numpy as np


def clip(
  wave: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
  """Cuts a wave off at a share of its highest peak: 0.3 is heard clearly."""
  del rng
  top = np.float32(share * np.max(np.abs(wave)))
  return np.clip(wave, -top, top)
