"""Attacks on the spectrogram: phases thrown away, guessed or bent."""

import functools

import numpy as np

from tfds_builders.quickstart import dsp
from tfds_builders.quickstart.attacks.clip import Clip

_MEL_SIZE, _MEL_HOP, _MEL_BANDS = 1024, 256, 80


def mel_griffin_lim(clip: Clip, rng: np.random.Generator) -> np.ndarray:
  """80 mel bands to a magnitude spectrogram, phases by Griffin-Lim.

  Griffin and Lim (1984), "Signal estimation from modified short-time Fourier
  transform"; with the momentum of Perraudin, Balazs and Sondergaard (2013), "A
  fast Griffin-Lim algorithm".
  """
  magnitude = _through_mel(clip.wave)
  return _griffin_lim(magnitude, _MEL_HOP, len(clip.wave), 24, rng)


def mel_single_pass(clip: Clip, rng: np.random.Generator) -> np.ndarray:
  """80 mel bands, phases from the peaks' frequencies in one pass.

  Beauregard, Harish and Wyse (2015), "Single pass spectrogram inversion".
  """
  magnitude = _through_mel(clip.wave)
  phase = np.zeros(magnitude.shape)
  running = rng.uniform(0, 2 * np.pi, magnitude.shape[1])
  for t, row in enumerate(magnitude):
    running = running + 2 * np.pi * _MEL_HOP * _frequency(row)
    phase[t] = running = _locked(row, running)
  # Frames are centred, so a sinusoid turns by pi from one bin to the next.
  spectra = magnitude * dsp.unit(phase)
  return dsp.istft(spectra, _MEL_HOP, len(clip.wave))


def linear_griffin_lim(clip: Clip, rng: np.random.Generator) -> np.ndarray:
  """Full-resolution magnitudes with 75 % overlap, phases by Griffin-Lim.

  The magnitudes are exact: what is wrong is only the phase.
  """
  magnitude = np.abs(dsp.stft(clip.wave, 512, 128))
  return _griffin_lim(magnitude, 128, len(clip.wave), 8, rng)


def phase_vocoder(clip: Clip, rng: np.random.Generator) -> np.ndarray:
  """Time-stretched by 0.8 or 1.25, then back.

  Flanagan and Golden (1966), "Phase vocoder".
  """
  rate = rng.choice([0.8, 1.25])
  return _stretched(_stretched(clip.wave, rate), 1 / rate)


def half_phase(clip: Clip, rng: np.random.Generator) -> np.ndarray:
  """The short-time spectrum with every phase halved.

  Not a method of the trade, but a pure one: the magnitudes stay.
  """
  spectra = dsp.stft(clip.wave, 512, 128)
  bent = np.abs(spectra) * dsp.unit(0.5 * np.angle(spectra))
  return dsp.istft(bent, 128, len(clip.wave))


def _through_mel(wave: np.ndarray) -> np.ndarray:
  filters, inverse = _mel_pair()
  spectra = dsp.stft(wave, _MEL_SIZE, _MEL_HOP)
  return np.maximum(np.abs(spectra) @ filters.T @ inverse.T, 1e-6)


@functools.cache
def _mel_pair() -> tuple[np.ndarray, np.ndarray]:
  filters = dsp.mel_filters(_MEL_BANDS, _MEL_SIZE // 2 + 1)
  return filters, np.linalg.pinv(filters)


def _griffin_lim(magnitude, hop, samples, iterations, rng) -> np.ndarray:
  size, momentum = 2 * (magnitude.shape[1] - 1), 0.99
  turns = rng.random(magnitude.shape, np.float32)
  angles = dsp.unit(2 * np.pi * turns)
  before = np.float32(0)
  for _ in range(iterations):
    wave = dsp.istft(magnitude * angles, hop, samples)
    now = dsp.stft(wave, size, hop)
    angles = now + momentum * (now - before)
    angles /= np.abs(angles) + 1e-12  # python floats keep single precision
    before = now
  return dsp.istft(magnitude * angles, hop, samples)


def _frequency(row: np.ndarray) -> np.ndarray:
  """Returns each bin's frequency in cycles per sample: its peak's."""
  nearest, exact = _peaks(row)
  return exact[nearest] / (2 * (len(row) - 1))


def _locked(row: np.ndarray, running: np.ndarray) -> np.ndarray:
  """Gives the bins around a peak the peak's phase, turning by pi per bin."""
  nearest, exact = _peaks(row)
  peak = np.clip(np.round(exact).astype(int), 0, len(row) - 1)[nearest]
  return running[peak] + np.pi * (np.arange(len(row)) - peak)


def _peaks(row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns each bin's nearest peak (its number) and the peaks' bins."""
  inner = row[1:-1]
  at = np.flatnonzero((inner > row[:-2]) & (inner >= row[2:])) + 1
  if not len(at):
    return np.zeros(len(row), int), np.zeros(1)
  left, middle, right = row[at - 1], row[at], row[at + 1]
  bend = np.minimum(left - 2 * middle + right, -1e-12)
  exact = at + np.clip(0.5 * (left - right) / bend, -0.5, 0.5)
  edges = (at[1:] + at[:-1]) / 2
  return np.searchsorted(edges, np.arange(len(row))), exact


def _stretched(wave: np.ndarray, rate: float) -> np.ndarray:
  size, hop = 1024, 256
  spectra = dsp.stft(wave, size, hop)
  spectra = np.concatenate([spectra, np.zeros((2, spectra.shape[1]))])
  position = np.arange(0, len(spectra) - 2, rate)
  whole, part = position.astype(int), (position % 1)[:, None]
  magnitude = (1 - part) * np.abs(spectra[whole])
  magnitude += part * np.abs(spectra[whole + 1])
  expected = 2 * np.pi * hop * np.arange(spectra.shape[1]) / size
  turn = np.angle(spectra[whole + 1]) - np.angle(spectra[whole]) - expected
  turn = expected + (turn + np.pi) % (2 * np.pi) - np.pi
  phase = np.angle(spectra[0]) + np.cumsum(turn, axis=0) - turn[0]
  stretched = magnitude * dsp.unit(phase)
  return dsp.istft(stretched, hop, int(len(wave) / rate))
