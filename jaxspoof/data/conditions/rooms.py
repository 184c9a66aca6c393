"""Rooms: recorded impulse responses, or synthetic ones.

A synthetic room is a stochastic one: after the direct sound come reflections at
random times, as many as a room of its volume has by then (their density grows
with the square of the time), of random sign and size, which die away
exponentially. So its reverberation time is the one that was asked for, at all
frequencies; a real room is not so even.
"""

import numpy as np
import scipy

from jaxspoof.data.conditions import sounds, values

_RATE = 16_000
_SOUND = 343.0  # m/s
_VOLUME = 30.0, 200.0  # m3, drawn
_DIRECT = -3.0, 6.0  # dB of the direct sound over the reflections, drawn
_USUAL = values.Range(0.2, 0.8)  # s, of 'room' without recordings
_time = values.number(0.05, 5, 's')


def read(text: str) -> float | values.Range | None:
  """Reads a reverberation time in seconds; None where there is none."""
  return _time(text) if text else None


def room(
  wave: np.ndarray,
  seconds: float | None,
  rng: np.random.Generator,
  files: tuple[str, ...],
) -> np.ndarray:
  """Plays a wave in a room.

  The direct sound keeps its place in time, and the clip its power and its
  length: what rings on after its end is cut off.

  Args:
    wave: float32 [n].
    seconds: reverberation time RT60 of a synthetic room; None for a recorded
      one, or without recordings for one that is drawn.
    rng: source of all chance.
    files: recorded impulse responses; empty for a synthetic room.
  """
  if files:
    taps = sounds.impulse_response(files[rng.integers(len(files))])
  else:
    if seconds is None:
      seconds = values.drawn(_USUAL, rng)
    taps = synthetic(seconds, rng)
  direct = int(np.argmax(np.abs(taps)))
  found = scipy.signal.oaconvolve(wave, taps)[direct:][: len(wave)]
  found = np.pad(found, (0, len(wave) - len(found)))
  before, after = (np.mean(np.square(x, dtype=float)) for x in (wave, found))
  return found * np.float32(np.sqrt(before / after)) if after else wave


def synthetic(seconds: float, rng: np.random.Generator) -> np.ndarray:
  """The impulse response of a synthetic room.

  Args:
    seconds: reverberation time RT60.
    rng: draws volume, distance and reflections.

  Returns:
    float32 [taps], the direct sound first.
  """
  volume = rng.uniform(*_VOLUME)
  direct = values.ratio(rng.uniform(*_DIRECT))
  time = np.arange(1, int(seconds * _RATE)) / _RATE
  density = 4 * np.pi * _SOUND**3 * time**2 / volume / _RATE
  share = np.minimum(density, 1)
  there = rng.random(len(time)) < share
  tail = rng.standard_normal(len(time)) * there / np.sqrt(share)
  tail *= values.ratio(-60 * time / seconds)
  tail /= np.sqrt(np.sum(tail**2)) * direct
  return np.append(1.0, tail).astype(np.float32)
