"""Where somebody speaks in a clip, by level: what ratios and trims refer to.

A clip is seen in frames of 20 ms. Active are those whose mean square lies at
most 30 dB below that of the frame at the 95th percentile, so that one click
does not turn the rest into silence.
"""

import numpy as np

_FRAME = 320  # samples: 20 ms
_BELOW = 1e-3  # of the power of the loud frames: 30 dB
_LOUD = 95  # percentile of the frames that is called loud


def _frames(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Energy and samples of each frame, and whether it is active."""
  starts = np.arange(0, len(wave), _FRAME)
  energy = np.add.reduceat(np.square(wave, dtype=np.float64), starts)
  samples = np.diff(np.append(starts, len(wave)))
  power = energy / samples
  # Not interpolated: of a frame that exists. Of little sound in much silence
  # the loudest frame.
  loud = np.percentile(power, _LOUD, method='higher') or power.max()
  return energy, samples, (power >= loud * _BELOW) & (power > 0)


def power(wave: np.ndarray) -> float:
  """Mean square of a wave over its active frames; 0 for silence.

  Args:
    wave: float32 [n], n > 0.
  """
  energy, samples, active = _frames(wave)
  if not active.any():
    return 0.0
  return float(energy[active].sum() / samples[active].sum())


def span(wave: np.ndarray) -> slice:
  """From the first active frame to the last; all of a silent wave.

  Args:
    wave: float32 [n], n > 0.
  """
  _, samples, active = _frames(wave)
  if not active.any():
    return slice(0, len(wave))
  found = np.flatnonzero(active)
  stop = int(samples[: found[-1] + 1].sum())
  return slice(int(found[0]) * _FRAME, stop)
