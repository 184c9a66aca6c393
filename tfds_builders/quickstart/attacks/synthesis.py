"""Text-to-speech: eSpeak NG, as it is and as a guide for a real voice."""

import numpy as np

from tfds_builders.quickstart.attacks import conversion
from tfds_builders.quickstart.attacks.clip import Clip


def formant(clip: Clip, rng: np.random.Generator) -> np.ndarray:
  """A formant synthesiser reads the text (eSpeak NG)."""
  return clip.spoken


def units(clip: Clip, rng: np.random.Generator) -> np.ndarray:
  """Text-to-speech in the speaker's voice, by unit selection.

  The formant synthesiser gives sounds and timing, the pieces come from other
  clips of the speaker: synthesis followed by conversion.
  """
  return conversion.from_units(clip.spoken, clip.others)
