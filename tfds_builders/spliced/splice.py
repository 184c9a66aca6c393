"""Where a clip is spoofed, and how the stretches get into it.

Waves are float64 [samples] at 16 kHz. All chance comes from names.
"""

import numpy as np

from jaxspoof import audio
from jaxspoof.audio import MOMENT
from tfds_builders.quickstart import dsp

FADE = 80  # samples, 5 ms: the cross-fade at a joint, within the stretch
SHORTEST, LONGEST = 0.2, 1.0  # seconds of a stretch
_ROOM = 0.6  # seconds of a clip for each stretch, at least
_PLACES = 5  # of which the loudest is taken: pauses tell nothing
_LOUDER = 4.0  # largest factor, and its inverse the smallest, on a level

Range = tuple[int, int]  # first sample, and the one after the last


def middle(samples: int) -> tuple[Range, ...]:
  """The middle third."""
  return ((samples // 3, 2 * samples // 3),)


def stretches(wave: np.ndarray, rng: np.random.Generator) -> tuple[Range, ...]:
  """One to three stretches, each in its own part of the clip.

  Args:
    wave: the clip.
    rng: draws how many, how long and where.
  """
  rate = audio.SAMPLE_RATE
  count = min(int(rng.integers(1, 4)), int(len(wave) / (_ROOM * rate)))
  ends = np.linspace(0, len(wave), max(1, count) + 1).astype(int)
  found = []
  for first, last in zip(ends[:-1], ends[1:], strict=True):
    longest = min(LONGEST * rate, 0.8 * (last - first))
    shortest = min(SHORTEST * rate, longest)
    length = int(rng.uniform(shortest, longest))
    starts = rng.integers(first, last - length + 1, _PLACES)
    start = max(starts, key=lambda s: np.sum(wave[s : s + length] ** 2))
    found.append((int(start), int(start) + length))
  return tuple(found)


def splice(
  host: np.ndarray,
  donor: np.ndarray,
  ranges: tuple[Range, ...],
  aligned: bool,
  rng: np.random.Generator,
) -> tuple[np.ndarray, tuple[Range, ...]]:
  """Replaces stretches of a clip.

  Outside of the ranges the clip keeps every sample. Within, the donor has the
  level of the clip, and fades in and out over `FADE` samples.

  Args:
    host: the clip.
    donor: what the stretches are taken from.
    ranges: where, in their order.
    aligned: whether the donor says the same at the same time: then stretches
      come from the same place, else from anywhere.
    rng: draws from where.

  Returns:
    The clip; and the ranges, which are shorter where the donor is.
  """
  gain = dsp.active_level(host) / max(dsp.active_level(donor), 1e-6)
  donor = donor * np.clip(gain, 1 / _LOUDER, _LOUDER)
  made, done = host.copy(), []
  for first, last in ranges:
    at = first
    if not aligned:
      last = min(last, first + len(donor))
      at = int(rng.integers(len(donor) - (last - first) + 1))
    last = min(last, first + len(donor) - at)
    length = last - first
    if length <= 2 * FADE:
      continue
    share = np.minimum(np.arange(1, length + 1), np.arange(length, 0, -1))
    share = np.minimum(share / FADE, 1)
    taken = donor[at : at + length]
    made[first:last] += share * (taken - host[first:last])
    done.append((first, last))
  return made, tuple(done)


def labels(ranges: tuple[Range, ...], samples: int) -> str:
  """One character for each 20 ms: '0' where any part is spoofed, else '1'.

  >>> labels(((330, 600),), 1000)
  '1011'
  """
  spoofed = np.zeros(-(-samples // MOMENT) * MOMENT, bool)
  for first, last in ranges:
    spoofed[first:last] = True
  return ''.join('10'[any_] for any_ in spoofed.reshape(-1, MOMENT).any(1) * 1)


def text(ranges: tuple[Range, ...]) -> str:
  """Ranges as a record has them: '5333-10666 12000-14000', in samples."""
  return ' '.join(f'{first}-{last}' for first, last in ranges)
