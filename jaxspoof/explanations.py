"""Which times and bands carried the score of a recording.

Integrated gradients (Sundararajan, Taly and Yan 2017, arXiv 1703.01365) from a
baseline, faint white noise, to the wave. They are taken of samples, so that any
system has them, whatever its front end. Of samples nobody sees anything: the
mean gradient and the wave are therefore both written as sums of short sines,
by a short-time Fourier transform (STFT) and its dual window, and each of these
gets its product. Their sum is that over samples, which is the difference of the
score and that of the baseline.

Nothing here knows a model. Letters in names: T times, F bands, N samples.
"""

import bisect
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxspoof.audio import SAMPLE_RATE

TIME, BAND = 0.064, 250.0  # seconds and Hz of a tile
_SIZE, _HOP = 512, 128  # samples of a window of the STFT, and to the next
_BASELINE = 40.0  # dB that the noise is below the wave
# Where on the way from the baseline the first gradients are taken: more near
# it, where logarithms of energies are steep.
_FIRST = np.linspace(0, 1, 9) ** 3
TOLERANCE = 0.02  # of all ups and downs of the score on the way
MOST = 64  # gradients, and a few more
_NARROW = 1e-3  # of the way; where a score jumps no smaller step helps
REGIONS = 6
_DENSE = 2.0  # a region has so many times the mean of all tiles at least


@dataclasses.dataclass(frozen=True)
class Region:
  """A rectangle of time and frequency that speaks for one class.

  Attributes:
    start: in seconds.
    end: in seconds.
    low: in Hz.
    high: in Hz.
    amount: sum of its attributions, in the unit of the score; above 0 it speaks
      for bona fide speech.
    share: absolute value of `amount` in the sum of absolute values of all
      tiles, from 0 to 1.
  """

  start: float
  end: float
  low: float
  high: float
  amount: float
  share: float


@dataclasses.dataclass(frozen=True)
class Attribution:
  """How much each tile of time and frequency added to a score.

  Attributes:
    tiles_TxF: float64 [T, F], above 0 for bona fide speech. The first tile
      begins with the wave and at 0 Hz; each is `TIME` by `BAND`.
    score: of the wave.
    baseline: score of the baseline.
    error: `score - baseline` without the sum of all tiles. A model that picks
      some of its frames or nodes has jumps, which no gradient knows.
    steps: how many gradients were taken.
  """

  tiles_TxF: np.ndarray
  score: float
  baseline: float
  error: float
  steps: int

  def scaled(self, slope: float, intercept: float) -> 'Attribution':
    """The same of `slope x score + intercept`."""
    return Attribution(
      slope * self.tiles_TxF,
      slope * self.score + intercept,
      slope * self.baseline + intercept,
      slope * self.error,
      self.steps,
    )


# Of waves: the score of each, and its gradient by the samples.
Gradients = Callable[[Sequence[np.ndarray]], Iterator[tuple[float, np.ndarray]]]


def attribute(wave_N: np.ndarray, gradients: Gradients) -> Attribution:
  """Divides a score among tiles of time and frequency.

  The integral is one of trapezoids. Those are halved that miss most of the
  change of the score between their ends.

  Args:
    wave_N: float32, at `SAMPLE_RATE`, as the model is given it.
    gradients: of the model.
  """
  rng = np.random.default_rng(0)  # one recording has one explanation
  level = wave_N.std() * 10 ** (-_BASELINE / 20)
  faint_N = (level * rng.normal(size=len(wave_N))).astype(np.float32)
  way_N = wave_N - faint_N
  at, score, slope, gradient = [], [], [], []

  def take(places: Sequence[float]) -> None:
    waves = [faint_N + np.float32(place) * way_N for place in places]
    for place, (value, found_N) in zip(places, gradients(waves), strict=True):
      where = bisect.bisect(at, place)
      at.insert(where, place)
      score.insert(where, value)
      slope.insert(where, float(np.dot(found_N, way_N)))
      gradient.insert(where, found_N)

  take(_FIRST)
  while True:
    width = np.diff(at)
    missed = np.diff(score) - width * (np.add(slope[1:], slope[:-1]) / 2)
    allowed = TOLERANCE * np.abs(np.diff(score)).sum()
    able = np.flatnonzero(width > _NARROW)
    worst = able[np.argsort(-np.abs(missed[able]))][: len(_FIRST) - 1]
    if abs(missed.sum()) <= allowed or not len(worst) or len(at) >= MOST:
      break
    take([(at[i] + at[i + 1]) / 2 for i in worst])
  weights = np.append(width, 0) / 2 + np.append(0, width) / 2
  mean_N = sum(w * g for w, g in zip(weights, gradient, strict=True))
  tiles_TxF = in_tiles(products(way_N, mean_N), len(wave_N))
  error = score[-1] - score[0] - float(tiles_TxF.sum())
  return Attribution(tiles_TxF, score[-1], score[0], error, len(at))


def transform(dual: bool = False):
  """The `ShortTimeFFT` that tiles are made of, or that of the dual window."""
  # Slow to import, and few answers are to be explained.
  from scipy import signal

  window = np.sqrt(signal.windows.hann(_SIZE, sym=False))
  made = signal.ShortTimeFFT(window, _HOP, SAMPLE_RATE)
  if not dual:
    return made
  return signal.ShortTimeFFT(made.dual_win, _HOP, SAMPLE_RATE)


def products(wave_N: np.ndarray, gradient_N: np.ndarray) -> np.ndarray:
  """Products of wave and gradient, by frame and frequency.

  A wave is the sum, over frames and frequencies, of sines that its STFT is the
  amplitude of, each under the dual window. The product of one of them and the
  gradient is a product of two numbers: of the STFT of the wave, and of that of
  the gradient by the dual window.

  Returns:
    float64 [frames, frequencies], whose sum is `wave_N @ gradient_N`.
  """
  of_wave = transform().stft(wave_N)
  of_gradient = transform(dual=True).stft(gradient_N)
  found = np.real(of_wave * np.conj(of_gradient)) / _SIZE
  found[1:-1] *= 2  # negative frequencies
  return found.T


def in_tiles(values: np.ndarray, samples: int) -> np.ndarray:
  """Sums over tiles.

  Args:
    values: [frames, frequencies], as from `products`.
    samples: of the wave that they are of.

  Returns:
    float64 [T, F].
  """
  time, band = tile_of(samples)
  sums_TxF = np.zeros((time.max() + 1, band.max() + 1))
  np.add.at(sums_TxF, (time[:, None], band[None]), values)
  return sums_TxF


def tile_of(samples: int) -> tuple[np.ndarray, np.ndarray]:
  """Which tile each frame of a wave's STFT lies in, and each frequency."""
  sft = transform()
  centres = np.arange(*sft.p_range(samples)) * _HOP
  # Those before the first sample and behind the last reach into the wave.
  centres = np.clip(centres, 0, samples - 1)
  time = (centres / SAMPLE_RATE / TIME).astype(int)
  return time, (np.minimum(sft.f, sft.f[-2]) / BAND).astype(int)


def regions(tiles_TxF: np.ndarray, start: float = 0.0) -> tuple[Region, ...]:
  """The rectangles that carry most, at most `REGIONS`, strongest first.

  Each is the rectangle of the largest sum of what its tiles have beyond
  `_DENSE` times the mean of all; then it is taken out, and the next looked for.

  Args:
    tiles_TxF: from `attribute`.
    start: of the wave in the recording, in seconds.
  """
  left = tiles_TxF.copy()
  total = np.abs(left).sum()
  dense = _DENSE * total / left.size
  found = []
  while len(found) < REGIONS:
    tries = [(*_rectangle(sign * left - dense), sign) for sign in (1, -1)]
    gain, (t0, t1, f0, f1), _ = max(tries)
    if gain <= 0:
      break
    amount = float(left[t0:t1, f0:f1].sum())
    found.append(
      Region(
        start + t0 * TIME,
        start + t1 * TIME,
        f0 * BAND,
        f1 * BAND,
        amount,
        float(abs(amount) / total),
      )
    )
    left[t0:t1, f0:f1] = 0
  return tuple(sorted(found, key=lambda region: -region.share))


def _rectangle(values_TxF: np.ndarray) -> tuple[float, tuple[int, ...]]:
  """The largest sum of a rectangle, and its ends: t0, t1, f0, f1."""
  best, ends = -np.inf, (0, 0, 0, 0)
  below = np.pad(np.cumsum(values_TxF, axis=1), ((0, 0), (1, 0)))
  for f0 in range(values_TxF.shape[1]):
    sums = below[:, f0 + 1 :] - below[:, f0 : f0 + 1]  # [T, f1]
    before = np.pad(np.cumsum(sums, axis=0), ((1, 0), (0, 0)))
    lowest = np.minimum.accumulate(before[:-1], axis=0)
    gain = before[1:] - lowest
    t1, f1 = np.unravel_index(gain.argmax(), gain.shape)
    if gain[t1, f1] > best:
      t0 = int(before[: t1 + 1, f1].argmin())
      best = float(gain[t1, f1])
      ends = t0, int(t1) + 1, f0, f0 + int(f1) + 1
  return best, ends


def silenced(wave_N: np.ndarray, chosen_TxF: np.ndarray) -> np.ndarray:
  """The wave with some tiles at a thirtieth (-30 dB) of what they were.

  Args:
    wave_N: float32.
    chosen_TxF: bool, as many tiles as `attribute` gives.

  Returns:
    float32 [N].
  """
  amplitudes = transform().stft(wave_N)
  time, band = tile_of(len(wave_N))
  amplitudes[chosen_TxF[time[None], band[:, None]]] *= 10 ** (-30 / 20)
  return transform().istft(amplitudes, k1=len(wave_N)).astype(np.float32)
