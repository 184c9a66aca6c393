"""Conditions that a detector is tested under: what is done to its recordings.

One more is a function `(wave, value, rng) -> wave` and an entry in `CONDITIONS`
here. Functions get the whole clip (float32 [n] at 16 kHz, n > 0), before it is
cut or repeated to the length that is scored, and must keep its length. They are
numpy and scipy only, because worker processes call them, and all chance comes
from `rng`. A value that means nothing is a ValueError.
"""

import dataclasses
import hashlib
import math

import numpy as np

CLEAN = 'clean'
_LARGEST = 100.0  # dB; float32 has about 150 between full scale and rounding


def gain(
  wave: np.ndarray, decibels: float, rng: np.random.Generator
) -> np.ndarray:
  """Multiplies a wave by 10^(decibels / 20). Nothing is clipped."""
  del rng
  return wave * np.float32(_ratio(decibels))


def white_noise(
  wave: np.ndarray, decibels: float, rng: np.random.Generator
) -> np.ndarray:
  """Adds Gaussian white noise at a signal-to-noise ratio.

  Power is the mean square over the whole clip, pauses included. That of the
  noise is made exact for each clip, so that short clips have no other ratio
  than long ones. To a clip of zeros nothing is added: whatever the ratio,
  noise below no signal is none.
  """
  noise = rng.standard_normal(len(wave))
  wanted = np.sqrt(np.mean(np.square(wave, dtype=np.float64)))
  wanted = wanted / _ratio(decibels)
  noise *= wanted / np.sqrt(np.mean(np.square(noise)))
  return wave + noise.astype(np.float32)


CONDITIONS = {'gain': gain, 'noise': white_noise}


@dataclasses.dataclass(frozen=True)
class Condition:
  """A condition with its value; may be pickled.

  Attributes:
    name: as it was spelt, such as 'noise:10'.
    steps: (entry of `CONDITIONS`, value), in order; empty for 'clean'.
    seed: seed of everything that is drawn at random.
  """

  name: str
  steps: tuple[tuple[str, float], ...]
  seed: int = 0

  def __call__(self, wave: np.ndarray, utterance: str) -> np.ndarray:
    """The wave of an utterance under this condition: float32 [n] of [n].

    What is drawn depends on the seed and on the name of the utterance alone:
    batch, order, split and worker processes change nothing. Conditions that
    differ in their values draw the same, so that they differ in these alone.
    """
    if not self.steps:
      return wave
    digest = hashlib.sha256(utterance.encode()).digest()
    rng = np.random.default_rng([self.seed, *np.frombuffer(digest, '<u4')])
    for name, value in self.steps:
      wave = np.asarray(CONDITIONS[name](wave, value, rng), np.float32)
    return wave


def make(spelt: str, seed: int = 0) -> Condition:
  """Reads a condition.

  Args:
    spelt: 'clean'; 'NAME:VALUE' of `CONDITIONS`, such as 'noise:10' or
      'gain:-20', both in dB; or several that follow each other, joined by '+'.
    seed: seed of everything that is drawn at random.

  Raises:
    ValueError: it is spelt otherwise, or its value means nothing.
  """
  if spelt == CLEAN:
    return Condition(spelt, (), seed)
  steps = tuple(_step(part, spelt) for part in spelt.split('+'))
  condition = Condition(spelt, steps, seed)
  try:
    condition(np.zeros(16, np.float32), '')
  except ValueError as error:
    raise ValueError(f'condition {spelt!r}: {error}') from error
  return condition


def _step(part: str, spelt: str) -> tuple[str, float]:
  name, _, value = part.partition(':')
  if name not in CONDITIONS:
    raise ValueError(
      f'condition {spelt!r}: {part!r} is unknown; expected {CLEAN!r}, or '
      f'NAME:VALUE, NAME being {" or ".join(CONDITIONS)}'
    )
  try:
    number = float(value)
  except ValueError:
    number = math.nan
  if not math.isfinite(number):
    raise ValueError(
      f'condition {spelt!r}: expected {name}:NUMBER, such as {name}:10'
    )
  return name, number


def _ratio(decibels: float) -> float:
  """Amplitude ratio of a level in dB."""
  if abs(decibels) > _LARGEST:
    raise ValueError(
      f'{decibels:g} dB: expected {-_LARGEST:g} to {_LARGEST:g} dB'
    )
  return 10 ** (decibels / 20)
