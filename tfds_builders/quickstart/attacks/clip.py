"""What an attack gets to work with."""

import dataclasses
import functools

import numpy as np

from tfds_builders.quickstart import dsp


@dataclasses.dataclass(frozen=True)
class Clip:
  """One clip of human speech and what is known about it.

  Attributes:
    wave: float64 [samples] at 16 kHz.
    spoken: a synthetic voice reading the clip's text, or None.
    others: clips of the same speaker and split, for methods that learn or
      cut from a voice.
  """

  wave: np.ndarray
  spoken: np.ndarray | None = None
  others: tuple[np.ndarray, ...] = ()

  @functools.cached_property
  def speech(self) -> dsp.Speech:
    """Source-filter parameters; shared by the vocoders."""
    return dsp.analyse(self.wave)

  @functools.cached_property
  def colour(self) -> np.ndarray:
    """Average log spectrum, which every spoof of the clip is given."""
    return dsp.colour(self.wave)
