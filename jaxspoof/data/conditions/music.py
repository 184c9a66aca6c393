"""Music at a signal-to-noise ratio: recorded, or notes of a few chords."""

import numpy as np

from jaxspoof.data.conditions import noise, sounds

_RATE = 16_000
_CHORDS = ((0, 4, 7), (5, 9, 12), (7, 11, 14), (-3, 0, 4), (2, 5, 9))
_HARMONICS = np.arange(1.0, 9)


def music(
  wave: np.ndarray,
  decibels: float,
  rng: np.random.Generator,
  files: tuple[str, ...],
) -> np.ndarray:
  """Adds a part of a recording of music; without recordings, `synthetic`."""
  sound = (
    sounds.cut(files, len(wave), rng) if files else synthetic(len(wave), rng)
  )
  return noise.added(wave, sound, decibels)


def synthetic(samples: int, rng: np.random.Generator) -> np.ndarray:
  """Broken chords and a bass, of notes with harmonics that die away.

  Args:
    samples: at 16 kHz.
    rng: draws key, tempo, chords, timbre and rhythm.

  Returns:
    float64 [samples].
  """
  beat = int(_RATE * 60 / rng.uniform(70, 140))
  key = 220 * 2 ** (rng.integers(-5, 7) / 12)
  tilt = rng.uniform(0.8, 1.6)  # how fast harmonics become weaker
  decay = rng.uniform(0.2, 0.8)  # seconds
  first = int(rng.integers(beat))  # samples of the first beat that are over
  out = np.zeros(samples + first)
  for number, start in enumerate(range(0, len(out), beat)):
    if number % 4 == 0:
      chord = _CHORDS[rng.integers(len(_CHORDS))]
      _play(out, start, key * 2 ** (chord[0] / 12 - 1), 1.0, tilt, 2 * decay)
    for half in range(2):
      tone = chord[rng.integers(3)] + 12 * int(rng.integers(2))
      at = start + half * beat // 2
      loudness = rng.uniform(0.4, 1.0)
      _play(out, at, key * 2 ** (tone / 12), loudness, tilt, decay)
  return out[first:]


def _play(out, start, hertz, loudness, tilt, decay) -> None:
  """Adds a note to what is played already."""
  count = min(len(out) - start, int(4 * decay * _RATE))
  if count <= 0:
    return
  seconds = np.arange(count) / _RATE
  harmonics = _HARMONICS[_HARMONICS * hertz < 0.45 * _RATE]
  tone = _sines(2 * np.pi * hertz * seconds, harmonics**-tilt)
  attack = np.minimum(seconds / 0.005, 1)
  out[start : start + count] += (
    loudness * attack * np.exp(-seconds / decay) * tone
  )


def _sines(phase: np.ndarray, weights: np.ndarray) -> np.ndarray:
  """The sum of `weights[h - 1] * sin(h * phase)` over h = 1, 2, ...

  By Clenshaw's recurrence: two sines are computed instead of one for each h.
  """
  twice, one, two = 2 * np.cos(phase), 0.0, 0.0
  for weight in weights[::-1]:
    one, two = weight + twice * one - two, one
  return one * np.sin(phase)
