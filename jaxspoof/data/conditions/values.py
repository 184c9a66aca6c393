"""Values of conditions: from what is spelt after the colon to numbers.

A reader takes this text, '' where there is no colon, and gives the value; what
means nothing is a ValueError that says what was expected.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np


@dataclasses.dataclass(frozen=True)
class Range:
  """A number that is drawn anew for each utterance, uniformly."""

  low: float
  high: float


def drawn(value, rng: np.random.Generator):
  """A value as it is for one utterance: of a range, a number in it."""
  if isinstance(value, Range):
    return float(rng.uniform(value.low, value.high))
  return value


def nothing(text: str) -> None:
  """Reads the value of a condition that has none."""
  if text:
    raise ValueError('takes no value')


def number(
  least: float,
  most: float,
  unit: str = '',
  default: float | Range | None = None,
) -> Callable[[str], float | Range]:
  """A reader of numbers, or of ranges spelt LOW..HIGH, between two limits.

  Args:
    least: the smallest number that makes sense.
    most: the largest.
    unit: of the number, for messages.
    default: what no text stands for; None where a number must be given.
  """
  unit = unit and f' {unit}'

  def read(text: str) -> float | Range:
    if not text and default is not None:
      return default
    low, dots, high = text.partition('..')
    try:
      found = [float(end) for end in ((low, high) if dots else (text,))]
    except ValueError:
      found = [math.nan]
    if not np.isfinite(found).all():
      raise ValueError(f'expected a number{unit}, or LOW..HIGH')
    for one in found:
      if not least <= one <= most:
        raise ValueError(f'{one:g}{unit}: expected {least:g} to {most:g}{unit}')
    if dots and found[0] > found[1]:
      raise ValueError(f'{text}: expected the lower number first')
    return Range(*found) if dots else found[0]

  return read


# float32 has about 150 dB between full scale and rounding.
decibels = number(-100, 100, 'dB')


def ratio(decibels: float) -> float:
  """Amplitude ratio of a level in dB."""
  return 10 ** (decibels / 20)
