"""Voice conversion and concatenation: one recording made into another."""

import numpy as np
import scipy.fft

from tfds_builders.quickstart import dsp
from tfds_builders.quickstart.attacks import vocoders
from tfds_builders.quickstart.attacks.clip import Clip

_PITCH = (0.75, 0.85, 1.2, 1.35)
_FORMANTS = (0.88, 0.93, 1.08, 1.14)


def vocoder(clip: Clip, rng: np.random.Generator) -> np.ndarray:
  """Another pitch and vocal tract length through the A03 vocoder."""
  factor = rng.choice(_FORMANTS)
  speech = dsp.Speech(
    clip.speech.f0_T * rng.choice(_PITCH),
    dsp.warped(clip.speech.log_power_TxK, factor),
    dsp.warped(clip.speech.noise_TxK, factor),
  )
  return vocoders.from_parameters(speech, len(clip.wave), rng)


def filtering(clip: Clip, rng: np.random.Generator) -> np.ndarray:
  """The natural residual through a vocal tract of another length.

  After Matrouf, Bonastre and Fredouille (2006), "Effect of speech
  transformation on impostor acceptance": analysis filter of the source,
  synthesis filter of the target. Here the target has the source's formants,
  moved.
  """
  own = np.exp(clip.speech.log_power_TxK)
  theirs = np.exp(dsp.warped(clip.speech.log_power_TxK, rng.choice(_FORMANTS)))
  poly, _ = dsp.linear_prediction(own, 24)
  other, _ = dsp.linear_prediction(theirs, 24)
  return dsp.frame_all_pole(dsp.frame_fir(clip.wave, poly), other)


def psola(clip: Clip, rng: np.random.Generator) -> np.ndarray:
  """Other pitch by overlapping pitch periods at other distances.

  Moulines and Charpentier (1990), "Pitch-synchronous waveform processing
  techniques for text-to-speech synthesis using diphones".
  """
  marks = _pitch_marks(clip.wave, clip.speech.f0_T)
  period = np.diff(marks, append=2 * marks[-1] - marks[-2])
  factor, last = rng.choice((0.8, 0.88, 1.14, 1.25)), len(marks) - 1
  out = np.zeros(len(clip.wave) + dsp.RATE)
  padded = np.pad(clip.wave, dsp.RATE // 2)
  at = float(marks[0])
  while at < len(clip.wave):
    i = min(int(np.searchsorted(marks, at)), last)
    i -= i > 0 and at - marks[i - 1] < marks[i] - at
    half = int(period[i])
    grain = _around(padded, int(marks[i]) + dsp.RATE // 2, half)
    start = int(round(at)) - half + dsp.RATE // 2
    out[start : start + 2 * half] += grain
    voiced = clip.speech.f0_T[
      min(marks[i] // dsp.HOP, len(clip.speech.f0_T) - 1)
    ]
    at += half / (factor if voiced else 1.0)
  return out[dsp.RATE // 2 :][: len(clip.wave)]


def _pitch_marks(wave: np.ndarray, f0_T: np.ndarray) -> np.ndarray:
  """Returns samples one period apart, on the wave's peaks where voiced."""
  marks, at = [], 0
  while at < len(wave):
    f0 = f0_T[min(at // dsp.HOP, len(f0_T) - 1)]
    period = int(dsp.RATE / f0) if f0 else dsp.RATE // 100
    if f0:
      reach = period // 4
      low = max(at - reach, marks[-1] + period // 2 if marks else 0)
      window = wave[low : at + reach]
      at = low + int(window.argmax()) if len(window) else at
    marks.append(at)
    at += period
  return np.array(marks if len(marks) > 1 else [0, len(wave)])


def _around(padded: np.ndarray, centre: int, half: int) -> np.ndarray:
  window = np.hanning(2 * half + 1)[:-1]
  return padded[centre - half : centre + half] * window


# ------------------------------------------------------------- concatenation

_UNIT = 320  # samples between units, 20 ms
_REACH = 160  # a unit may move so far to fit what is there already


def concatenation(clip: Clip, rng: np.random.Generator) -> np.ndarray:
  """The clip rebuilt from 20 ms pieces of the speaker's other clips."""
  return from_units(clip.wave, clip.others)


def from_units(target: np.ndarray, voice: tuple[np.ndarray, ...]) -> np.ndarray:
  """Says what `target` says with pieces cut from `voice`.

  Unit selection (Hunt and Black 1996, "Unit selection in a concatenative
  speech synthesis system using a large speech database") with frames as units:
  the best path through the nearest frames, target cost against the cost of a
  join, then overlap-add at the point where the waves agree best.

  Args:
    target: wave to imitate; its speaker does not matter.
    voice: waves to cut from.

  Raises:
    ValueError: `voice` is empty.
  """
  if not voice:
    raise ValueError('unit concatenation needs other clips of the speaker')
  pool = np.concatenate([wave[: len(wave) // _UNIT * _UNIT] for wave in voice])
  wanted, energy = _features(target)
  units, unit_energy = _features(pool)
  chosen = _select(wanted, units)
  # The voice's own loudness, in the target's order: a synthetic target has
  # digital silence in its pauses, the voice has not.
  rank = energy.argsort(kind='stable').argsort(kind='stable')
  wanted_energy = np.quantile(unit_energy, (rank + 0.5) / len(rank))
  gain = np.sqrt((wanted_energy + 1e-9) / (unit_energy[chosen] + 1e-9))
  gain = np.clip(gain, 0.03, 4.0)
  return _join(pool, chosen * _UNIT, gain, len(target))


def _features(wave: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns normalised cepstra [T, 16] and energies [T] every 20 ms."""
  power = np.abs(dsp.stft(wave, 640, _UNIT)) ** 2
  mel = np.log(power @ dsp.mel_filters(30, 321).T + 1e-6)
  cepstra = scipy.fft.dct(mel, axis=1)[:, :16]
  return (cepstra - cepstra.mean(0)) / (cepstra.std(0) + 1e-6), power.sum(1)


def _select(wanted: np.ndarray, units: np.ndarray, keep: int = 12):
  """Returns the unit of each frame: Viterbi over the nearest ones."""
  distance = (wanted**2).sum(1)[:, None] + (units**2).sum(1)
  distance -= 2 * wanted @ units.T
  near = np.argsort(distance, axis=1, kind='stable')[:, :keep]
  cost = np.take_along_axis(distance, near, axis=1)
  total, back = cost[0], []
  for t in range(1, len(near)):
    follows = near[t - 1][:, None] + 1 == near[t][None]
    options = total[:, None] + np.where(follows, 0.0, 6.0)
    back.append(options.argmin(axis=0))
    total = options.min(axis=0) + cost[t]
  path = [int(total.argmin())]
  for pointers in reversed(back):
    path.append(int(pointers[path[-1]]))
  return near[np.arange(len(near)), path[::-1]]


def _join(pool, starts, gain, samples) -> np.ndarray:
  """Overlap-adds the units, each moved to where it continues the wave."""
  window = np.hanning(2 * _UNIT + 1)[:-1]
  out = np.zeros(samples + 4 * _UNIT)
  padded = np.pad(pool, 2 * _UNIT)
  at = None
  for t, start in enumerate(starts):
    start = start + 2 * _UNIT
    here = slice(t * _UNIT, (t + 2) * _UNIT)
    if at is not None and start != at + _UNIT:
      start = _aligned(out[here], padded, start)
    grain = padded[start - _UNIT : start + _UNIT] * window * gain[t]
    out[here] += dsp.fit(grain, 2 * _UNIT)
    at = start
  return out[_UNIT:][:samples]


def _aligned(tail: np.ndarray, pool: np.ndarray, start: int) -> int:
  """Moves `start` to where the pool correlates best with what is written."""
  tail = tail[:_UNIT]
  low = start - _UNIT - _REACH
  window = pool[max(0, low) : start + _REACH]
  if len(window) < len(tail) + 2 * _REACH or low < 0:
    return start
  score = np.correlate(window, tail, 'valid')[: 2 * _REACH]
  return start - _REACH + int(score.argmax())
