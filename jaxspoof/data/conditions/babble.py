"""Babble at a signal-to-noise ratio: several people who speak at once."""

import numpy as np
import scipy

from jaxspoof.data.conditions import noise, sounds

_RATE = 16_000
_VOICES = (3, 7)  # the fewest and the most, as recipes with MUSAN have them
# First three formants of some vowels in Hz.
_VOWELS = (
  (730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480),
  (570, 840, 2410), (660, 1720, 2410), (490, 1350, 1690),
)  # fmt: skip
_WIDTHS = (80, 100, 140)  # of the formants in Hz


def babble(
  wave: np.ndarray,
  decibels: float,
  rng: np.random.Generator,
  files: tuple[str, ...],
) -> np.ndarray:
  """Adds 3 to 7 voices of one level, from recordings or else synthetic.

  Synthetic voices are used rather than clips of the corpus: those would put
  traces of its attacks into bona fide clips.
  """
  voices = int(rng.integers(_VOICES[0], _VOICES[1] + 1))
  total = np.zeros(len(wave))
  for _ in range(voices):
    voice = (
      sounds.cut(files, len(wave), rng) if files else synthetic(len(wave), rng)
    )
    total += voice / np.sqrt(np.mean(np.square(voice, dtype=np.float64)))
  return noise.added(wave, total, decibels)


def synthetic(samples: int, rng: np.random.Generator) -> np.ndarray:
  """A voice without words: pulses and hiss through resonances that move.

  Syllables of a vowel each, some with a hiss before it, a melody, and pauses;
  it sounds like speech through a wall.

  Args:
    samples: at 16 kHz.
    rng: source of all chance.

  Returns:
    float64 [samples], not silent.
  """
  pitch = rng.uniform(85, 240)  # Hz
  size = rng.uniform(0.9, 1.15)  # of the head: scales all formants
  late = int(rng.integers(_RATE // 10))  # of the first syllable that is over
  out = np.zeros(samples + late)
  at = 0
  while at < len(out):
    length = int(rng.uniform(0.1, 0.28) * _RATE)
    part = out[at : at + length]
    part += _syllable(length, pitch, size, rng)[: len(part)]
    at += length
    # A pause now and then; never before something was said.
    at += int(rng.uniform(0.15, 0.5) * _RATE) if rng.random() < 0.15 else 0
  return out[late:]


def _syllable(length: int, pitch: float, size: float, rng) -> np.ndarray:
  bend = rng.uniform(0.85, 1.2, 2)
  hertz = pitch * np.linspace(*bend, length)
  turns = np.cumsum(hertz / _RATE) + rng.random()
  pulses = np.diff(np.floor(turns), prepend=0.0)
  source = pulses + 0.01 * rng.standard_normal(length)
  if rng.random() < 0.4:  # a consonant
    hiss = length // 4
    source[:hiss] = 0.1 * rng.standard_normal(hiss)
  voice = source
  formants = np.asarray(_VOWELS[rng.integers(len(_VOWELS))]) * size
  for hertz, width in zip(formants, _WIDTHS, strict=True):
    radius = np.exp(-np.pi * width / _RATE)
    poles = [1, -2 * radius * np.cos(2 * np.pi * hertz / _RATE), radius**2]
    voice = scipy.signal.lfilter([sum(poles)], poles, voice)
  voice /= np.sqrt(np.mean(voice**2)) + 1e-12  # of vowels at about one level
  return voice * np.hanning(length + 2)[1:-1] * rng.uniform(0.5, 1)
