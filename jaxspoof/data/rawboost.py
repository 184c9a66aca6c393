"""RawBoost: convolutive, impulsive and stationary noise (Tak et al., 2022).

"RawBoost: A Raw Data Boosting and Augmentation Method applied to Automatic
Speaker Verification Anti-Spoofing", ICASSP 2022, arXiv 2111.04433. Three kinds
of noise as a telephone call adds them, made from a clip and random numbers
alone: no recordings of noise or of rooms are needed.

The numbers follow the code that the authors released, from which the published
results come. Where it does something that one would not expect:

- All noise is made for the whole clip, before it is cropped. So it is here.
  The released recipes make it for the dev clips too; here dev is left alone,
  because a model is selected by it.
- Filters answer one sample early. It matters where filtered and unfiltered
  signal are added (`algo=8`): together they attenuate high frequencies and
  cancel at 8 kHz. `reference=False` leaves the sample out.
- A band stop that begins at 0 Hz is scaled to a response of +1 at 0 Hz, where
  it should be about 0. The scale cancels later but not its sign: such filters
  may turn the waveform upside down (1 filter in 18). `reference=False` keeps it
  upright.
- The gain of the nonlinear orders is drawn from (gain[0] - drop[0],
  gain[1] - drop[1]): once, not lower with each order.
- Filters have an odd number of taps below `taps[1]`: 11, 13 .. 99.
- Impulses and convolutive noise scale a clip down where it exceeds 1.0;
  stationary noise does not.
- A clip of silence stays silence, and nothing divides by zero: a stationary
  noise that is zero itself is left out, where the released code gives NaN.
"""

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from jaxspoof.audio import SAMPLE_RATE
from jaxspoof.data import fir

_NYQUIST = SAMPLE_RATE / 2
_EDGE = 1e-3  # Hz from 0 and Nyquist at which a stop band ends at the latest


@dataclasses.dataclass(frozen=True)
class RawBoostConfig:
  """Which noise, and the ranges that its parameters are drawn from.

  Ranges are (low, high) of a uniform distribution; the defaults are those of
  the paper.

  Attributes:
    algo: 1 convolutive, 2 impulsive, 3 stationary; in series 4 (1, 2, 3),
      5 (1, 2), 6 (1, 3) and 7 (2, 3); 8 the sum of 1 and 2; 0 nothing. The
      authors' XLS-R models took 5 for ASVspoof 2021 LA and 3 for DF.
    orders: powers of the signal that convolutive noise adds; 1 is linear.
    notches: band stops in each filter.
    center: their centre, in Hz.
    width: their width, in Hz.
    taps: taps of each of them, made odd.
    gain: gain of the linear part, in dB.
    drop: by how much the nonlinear parts lie below it, in dB.
    impulses: largest share of the samples that impulsive noise changes.
    impulse_gain: largest impulse, relative to the sample that it changes.
    snr: signal-to-noise ratio of stationary noise over the clip, in dB.
    reference: keep two faults of the released code, which the text at the top
      of this file describes.
  """

  algo: int = 5
  orders: int = 5
  notches: int = 5
  center: tuple[float, float] = (20.0, 8_000.0)
  width: tuple[float, float] = (100.0, 1_000.0)
  taps: tuple[int, int] = (10, 100)
  gain: tuple[float, float] = (0.0, 0.0)
  drop: tuple[float, float] = (5.0, 20.0)
  impulses: float = 0.1
  impulse_gain: float = 2.0
  snr: tuple[float, float] = (10.0, 40.0)
  reference: bool = True

  def __post_init__(self):
    problems = [
      f'rawboost.{name}={getattr(self, name)!r}: expected {expected}'
      for name, (holds, expected) in _rules().items()
      if not holds(getattr(self, name))
    ]
    if problems:
      raise ValueError('; '.join(problems))


def _rules():
  """What each field must satisfy, and how to say so."""
  count = _is_count, 'a whole number, at least 1'
  decibels = _is_range, 'two numbers in order, in dB'
  hertz = f'two frequencies in order, from {{}} to {_NYQUIST:g} Hz'
  return {
    'algo': (lambda v: v in range(9), 'a whole number from 0 to 8'),
    'orders': count,
    'notches': count,
    'center': (lambda v: _is_range(v, 0, _NYQUIST), hertz.format(0)),
    'width': (lambda v: _is_range(v, 1, _NYQUIST), hertz.format(1)),
    'taps': (
      lambda v: _is_range(v, 2, 4096),
      'two numbers in order, 2 to 4096',
    ),
    'gain': decibels,
    'drop': decibels,
    'impulses': (lambda v: _is_range((v, v), 0, 1), 'a share from 0 to 1'),
    'impulse_gain': (lambda v: _is_range((v, v), 0), 'a number, at least 0'),
    'snr': decibels,
  }


def _is_count(value) -> bool:
  return isinstance(value, int) and value >= 1


def _is_range(value, least=-math.inf, most=math.inf) -> bool:
  """Two finite numbers in order, neither outside of two limits."""
  try:
    low, high = map(float, value)
  except (TypeError, ValueError):
    return False
  finite = math.isfinite(low) and math.isfinite(high)
  return finite and least <= low <= high <= most


def rawboost(
  wave: np.ndarray, rng: np.random.Generator, config: RawBoostConfig
) -> np.ndarray:
  """Adds the noise that `config.algo` names to a clip.

  With `np.random.RandomState(seed)` for `rng` the numbers are drawn as the
  released code draws them after `np.random.seed(seed)`, and the result is its
  own to single precision.

  Args:
    wave: float32 [n] at 16 kHz, n >= 1, full scale 1.0; it is not changed.
    rng: Source of all random numbers.
    config: Which noise, and its ranges.

  Returns:
    float32 [n].

  Raises:
    ValueError: A wave that is not float32 [n], n >= 1.
  """
  wave = np.asarray(wave)
  if wave.ndim != 1 or wave.dtype != np.float32 or not len(wave):
    raise ValueError(
      f'rawboost: got {wave.dtype} {list(wave.shape)}, expected float32 [n]'
      ' with at least one sample'
    )
  if config.algo == 8:
    parts = convolutive(wave, rng, config) + impulsive(wave, rng, config)
    return _limited(parts)
  for noise in _SERIES[config.algo]:
    wave = noise(wave, rng, config)
  return wave


def convolutive(
  wave: np.ndarray, rng: np.random.Generator, config: RawBoostConfig
) -> np.ndarray:
  """Linear and nonlinear convolutive noise: sum of filtered powers of a clip.

  y = sum over j of h_j * x^j, with filters h_j of random notches, the
  nonlinear ones (j > 1) weaker than the linear one; the mean is taken away.
  """
  powers = np.empty((config.orders, len(wave)), np.float32)
  powers[0] = wave
  for j in range(1, config.orders):
    np.multiply(powers[j - 1], wave, out=powers[j])
  low, high = (np.repeat(bound, config.orders) for bound in config.gain)
  low[1:] -= config.drop[0]
  high[1:] -= config.drop[1]
  filters = _filters(rng, config, low, high)
  out = fir.filtered_sum(powers, filters, early=int(config.reference))
  return _limited(out - out.mean(dtype=np.float64).astype(np.float32))


def impulsive(
  wave: np.ndarray, rng: np.random.Generator, config: RawBoostConfig
) -> np.ndarray:
  """Impulsive noise that depends on the signal, at scattered samples.

  y[n] = x[n] + g x[n] u v at a random share of the samples, u and v uniform
  on (-1, 1).
  """
  share = config.impulses * rng.random()
  count = int(len(wave) * share)
  where = rng.choice(len(wave), count, replace=False)
  u, v = 2 * rng.random((2, count)) - 1
  out = wave.copy()
  out[where] *= (1 + config.impulse_gain * u * v).astype(np.float32)
  return _limited(out)


def stationary(
  wave: np.ndarray, rng: np.random.Generator, config: RawBoostConfig
) -> np.ndarray:
  """Stationary coloured noise that does not depend on the signal.

  y = x + g z, z white noise through one filter of random notches, and g such
  that the ratio of the energies of x and g z over the clip is the drawn SNR.
  """
  white = rng.standard_normal(len(wave)).astype(np.float32)
  low, high = (np.full(1, bound) for bound in config.gain)
  filters = _filters(rng, config, low, high)
  noise = fir.filtered_sum(white[None], filters, early=int(config.reference))
  snr = _uniform(rng.random(), *config.snr)
  energy = _energy(noise)
  if not energy:
    return wave
  gain = math.sqrt(_energy(wave) / energy) * 10 ** (-snr / 20)
  return wave + np.float32(gain) * noise


Noise = Callable[[np.ndarray, np.random.Generator, RawBoostConfig], np.ndarray]
_SERIES: dict[int, tuple[Noise, ...]] = {
  0: (),
  1: (convolutive,),
  2: (impulsive,),
  3: (stationary,),
  4: (convolutive, impulsive, stationary),
  5: (convolutive, impulsive),
  6: (convolutive, stationary),
  7: (impulsive, stationary),
}


def _filters(rng, config: RawBoostConfig, low, high) -> np.ndarray:
  """One filter for each pair of gain limits in dB: float32 [filters, taps]."""
  # The order of the released code: centre, width and taps of each notch, then
  # the gain; one filter after the other.
  drawn = rng.random((len(low), 3 * config.notches + 1))
  notch = drawn[:, :-1].reshape(len(low), config.notches, 3)
  center = _uniform(notch[..., 0], *config.center)
  width = _uniform(notch[..., 1], *config.width)
  taps = _uniform(notch[..., 2], *config.taps).astype(int)
  start, stop = center - width / 2, center + width / 2
  start = np.where(start <= 0, _EDGE, start)
  stop = np.where(stop >= _NYQUIST, _NYQUIST - _EDGE, stop)
  return fir.notch_cascades(
    start / _NYQUIST,
    stop / _NYQUIST,
    taps // 2,  # an even number becomes the odd one above
    _uniform(drawn[:, -1], low, high),
    unit_dc=config.reference,
  )


def _uniform(drawn, low, high):
  return low + (high - low) * drawn


def _limited(wave: np.ndarray) -> np.ndarray:
  """Scales a clip to a peak of 1.0 if it exceeds that."""
  peak = max(float(wave.max()), -float(wave.min()))
  return wave / np.float32(peak) if peak > 1 else wave


def _energy(wave: np.ndarray) -> float:
  # Not a BLAS product: its order of addition may depend on threads.
  return float(np.square(wave, dtype=np.float64).sum())
