"""Which times and bands carried the score of a recording.

Tiles of time and frequency are divided at random into groups, and each group is
silenced in turn. Integrated gradients (Sundararajan, Taly and Yan 2017, arXiv
1703.01365) on the way from the recording to the one without the group divide
the fall of the score among its tiles. So a tile has what the score owes it
beside all the others that are heard. (On the way from noise to the recording a
front end that divides by the level, or a network that knows nothing between
noise and speech, tells what sets speech apart from noise.)

Gradients are of samples, so that any system has them, whatever its front end.
Of samples nobody sees anything: the mean gradient and the way are therefore
both written as sums of short sines, by a short-time Fourier transform (STFT)
and its dual window, and each of these gets its product. Their sum is that over
samples, which is the fall of the score.

An attribution may be true of a network or not. `deletion` silences what it
marks, and as much that it does not mark.

Nothing here knows a model. Letters in names: T times, F bands, N samples.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from jaxspoof.audio import SAMPLE_RATE

TIME, BAND = 0.064, 250.0  # seconds and Hz of a tile
_SIZE, _HOP = 512, 128  # samples of a window of the STFT, and to the next
_QUIET = 10 ** (-30 / 20)  # what is silenced has this share of its amplitude
GROUPS = 10
NODES = 3  # gradients on the way to each group's silence
_SHARE = 20  # one tile of so many is silenced to see whether that matters
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
    measured: by how much the score falls when just this is silenced; None if
      that was not tried.
  """

  start: float
  end: float
  low: float
  high: float
  amount: float
  share: float
  measured: float | None = None


@dataclasses.dataclass(frozen=True)
class Deletion:
  """What becomes of a score when a twentieth of the tiles is silenced.

  Each number is by how much it moves against the decision, which is bona fide
  where the score is above 0, and spoof else.

  Attributes:
    marked: where those are silenced that speak most for the decision.
    as_loud: where as many others are, of the same energies.
    random: where as many others are, at random.
  """

  marked: float
  as_loud: float
  random: float

  @property
  def holds(self) -> bool:
    """Whether what is marked carries the decision more than what is not."""
    return self.marked > max(0.0, self.as_loud, self.random)


@dataclasses.dataclass(frozen=True)
class Attribution:
  """How much each tile of time and frequency added to a score.

  Attributes:
    tiles_TxF: float64 [T, F], above 0 for bona fide speech. The first tile
      begins with the wave and at 0 Hz; each is `TIME` by `BAND`.
    score: of the wave.
    error: how much of the falls of the score, one for each group, the tiles do
      not sum to. A model that picks some of its frames or nodes has jumps,
      which no gradient knows.
    steps: how many gradients were taken.
  """

  tiles_TxF: np.ndarray
  score: float
  error: float
  steps: int


# Of waves: the gradient of each score by the samples; and the scores, [B].
Gradients = Callable[[Sequence[np.ndarray]], Iterator[np.ndarray]]
Scores = Callable[[Sequence[np.ndarray]], np.ndarray]


def attribute(
  wave_N: np.ndarray, gradients: Gradients, scores: Scores
) -> Attribution:
  """Divides a score among tiles of time and frequency.

  Args:
    wave_N: float32, at `SAMPLE_RATE`, as the model is given it.
    gradients: of the model.
    scores: of the model.
  """
  rng = np.random.default_rng(0)  # one recording has one explanation
  shape = tiles_of(len(wave_N))
  group_TxF = rng.permutation(np.arange(np.prod(shape)) % GROUPS).reshape(shape)
  ways = [silenced(wave_N, group_TxF == n) - wave_N for n in range(GROUPS)]
  # Gauss and Legendre's nodes, from -1 to 1; on the way there are more near the
  # silence, where logarithms of energies are steep.
  nodes, weights = np.polynomial.legendre.leggauss(NODES)
  left = (1 - nodes) / 2
  at, weights = (1 - left**3).astype(np.float32), 1.5 * left**2 * weights
  found = iter(gradients([wave_N + x * way_N for way_N in ways for x in at]))
  tiles_TxF = np.zeros(shape)
  for way_N in ways:
    some = itertools.islice(found, NODES)
    mean_N = sum(w * g for w, g in zip(weights, some, strict=True))
    tiles_TxF -= in_tiles(products(way_N, mean_N), len(wave_N))
  score, *without = scores([wave_N, *(wave_N + way_N for way_N in ways)])
  fall = float(np.sum(score - np.array(without)))
  error = fall - float(tiles_TxF.sum())
  return Attribution(tiles_TxF, float(score), error, GROUPS * NODES)


def deletion(
  wave_N: np.ndarray, given: Attribution, scores: Scores
) -> Deletion:
  """Silences what is marked, and as much of what is not.

  Args:
    wave_N: that the attribution is of.
    given: from `attribute`.
    scores: of the model.
  """
  sign = 1.0 if given.score > 0 else -1.0
  order = np.argsort(-sign * given.tiles_TxF, axis=None)
  count = max(order.size // _SHARE, 1)
  marked, others = order[:count], order[count:]
  power = np.square(np.abs(transform().stft(wave_N)))
  level = np.log(in_tiles(power.T, len(wave_N)).ravel() + 1e-12)
  rng = np.random.default_rng(0)
  chosen = (
    marked,
    _alike(level, marked, others),
    rng.choice(others, count, replace=False),
  )
  masks = np.zeros((len(chosen), order.size), bool)
  for mask, some in zip(masks, chosen, strict=True):
    mask[some] = True
  masks = masks.reshape(len(chosen), *given.tiles_TxF.shape)
  left = scores([silenced(wave_N, mask_TxF) for mask_TxF in masks])
  return Deletion(*(float(x) for x in sign * (given.score - left)))


def _alike(level, marked, others) -> np.ndarray:
  """For each of some tiles another one, of the nearest level."""
  left, found = list(others), []
  for tile in marked:
    nearest = int(np.argmin(np.abs(level[left] - level[tile])))
    found.append(left.pop(nearest))
  return np.array(found, int)


def measured(
  wave_N: np.ndarray,
  given: Attribution,
  some: Sequence[Region],
  scores: Scores,
  start: float = 0.0,
) -> tuple[Region, ...]:
  """Regions with what silencing each does to the score.

  Args:
    wave_N: that they are of.
    given: from `attribute`.
    some: from `regions`.
    scores: of the model.
    start: of the wave in the recording, in seconds.
  """
  waves = []
  for one in some:
    mask_TxF = np.zeros(given.tiles_TxF.shape, bool)
    times = (round((x - start) / TIME) for x in (one.start, one.end))
    bands = (round(x / BAND) for x in (one.low, one.high))
    mask_TxF[slice(*times), slice(*bands)] = True
    waves.append(silenced(wave_N, mask_TxF))
  return tuple(
    dataclasses.replace(one, measured=given.score - float(left))
    for one, left in zip(some, scores(waves) if waves else (), strict=True)
  )


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
  sums_TxF = np.zeros(tiles_of(samples))
  np.add.at(sums_TxF, (time[:, None], band[None]), values)
  return sums_TxF


def tiles_of(samples: int) -> tuple[int, int]:
  """How many tiles of time and of frequency a wave has."""
  time, band = tile_of(samples)
  return int(time.max()) + 1, int(band.max()) + 1


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
  amplitudes[chosen_TxF[time[None], band[:, None]]] *= _QUIET
  return transform().istft(amplitudes, k1=len(wave_N)).astype(np.float32)
