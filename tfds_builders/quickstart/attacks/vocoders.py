"""Parametric vocoders: speech to parameters and back, without its phase."""

import functools

import numpy as np
import scipy.fft

from tfds_builders.quickstart import dsp
from tfds_builders.quickstart.attacks.clip import Clip


def lpc(clip: Clip, rng: np.random.Generator) -> np.ndarray:
  """All-pole filter of order 18 driven by pulses or noise.

  Atal and Hanauer (1971), "Speech analysis and synthesis by linear prediction
  of the speech wave".
  """
  size, hop, window = 400, 2 * dsp.HOP, dsp.hann(400)
  windowed = dsp.frames(clip.wave, size, hop) * window
  power = np.abs(scipy.fft.rfft(windowed, dsp.FFT, axis=1)) ** 2
  poly, error = dsp.linear_prediction(power / np.sum(window**2), 18)
  samples = len(clip.wave)
  source = dsp.excitation(clip.speech.f0_T, samples, rng)
  time = np.arange(samples) / hop
  gain = np.interp(time, np.arange(len(error)), np.sqrt(error))
  return dsp.frame_all_pole(source * gain, poly, hop)


def mixed_excitation(clip: Clip, rng: np.random.Generator) -> np.ndarray:
  """Minimum-phase pulses plus noise by band, in the manner of WORLD.

  Morise, Yokomori and Ozawa (2016), "WORLD: a vocoder-based high-quality
  speech synthesis system for real-time applications".
  """
  return from_parameters(clip.speech, len(clip.wave), rng)


def from_parameters(
  speech: dsp.Speech, samples: int, rng: np.random.Generator
) -> np.ndarray:
  """Synthesises pulses and noise, each with its share of the envelope."""
  noise = np.clip(speech.noise_TxK, 1e-6, 1)
  voiced = np.log(np.clip(1 - speech.noise_TxK, 1e-6, 1))
  return dsp.filtered_pulses(
    speech.log_power_TxK + voiced, speech.f0_T, samples
  ) + dsp.filtered_noise(speech.log_power_TxK + np.log(noise), samples, rng)


def harmonic_plus_noise(
  clip: Clip, rng: np.random.Generator, cutoff: float = 4000.0
) -> np.ndarray:
  """Sinusoids at the harmonics up to 4 kHz, shaped noise above.

  McAulay and Quatieri (1986), "Speech analysis/synthesis based on a
  sinusoidal representation"; Stylianou (2001), "Applying the harmonic plus
  noise model in concatenative speech synthesis".
  """
  speech, samples = clip.speech, len(clip.wave)
  axis = np.linspace(0, dsp.RATE / 2, speech.log_power_TxK.shape[1])
  share = np.where((speech.f0_T[:, None] > 0) & (axis < cutoff), 0.02, 1.0)
  noise = dsp.filtered_noise(speech.log_power_TxK + np.log(share), samples, rng)
  return _harmonics(speech, samples, cutoff, rng) + noise


def _harmonics(speech, samples, cutoff, rng) -> np.ndarray:
  frames, time = np.arange(len(speech.f0_T)), np.arange(samples) / dsp.HOP
  steps = frames[speech.f0_T > 0]
  out = np.zeros(samples)
  if not len(steps):
    return out
  f0_T = np.interp(frames, steps, speech.f0_T[steps])
  phase = 2 * np.pi * np.cumsum(np.interp(time, frames, f0_T)) / dsp.RATE
  turning = running = dsp.unit(phase)
  for number in range(1, int(cutoff / f0_T.min()) + 1):
    hertz = f0_T * number
    bins = np.minimum(hertz * dsp.FFT / dsp.RATE, dsp.FFT // 2).astype(int)
    amplitude = np.exp(0.5 * speech.log_power_TxK[frames, bins])
    amplitude *= np.sqrt(4 * f0_T / dsp.RATE)
    amplitude[(speech.f0_T == 0) | (hertz > cutoff)] = 0
    turn = np.exp(1j * rng.uniform(0, 2 * np.pi))
    out += np.interp(time, frames, amplitude) * (running * turn).real
    running = running * turning  # the next harmonic
  return out


def channel(
  clip: Clip, rng: np.random.Generator, bands: int = 24
) -> np.ndarray:
  """Band energies of the speech imposed on a buzz or hiss.

  Dudley (1939), "Remaking speech".
  """
  size, hop = 512, 128
  filters = dsp.mel_filters(bands, size // 2 + 1)
  carrier = dsp.stft(
    dsp.excitation(clip.speech.f0_T, len(clip.wave), rng), size, hop
  )
  wanted = np.abs(dsp.stft(clip.wave, size, hop)) ** 2 @ filters.T
  given = np.abs(carrier) ** 2 @ filters.T
  gain = np.sqrt(wanted / (given + 1e-9))
  weight = filters / (filters.sum(axis=0) + 1e-9)
  return dsp.istft(carrier * (gain @ weight), hop, len(clip.wave))


def mel_cepstral(
  clip: Clip, rng: np.random.Generator, order: int = 24, warp: float = 0.42
) -> np.ndarray:
  """Envelope of 25 mel-cepstral coefficients, pulses or noise.

  Tokuda, Kobayashi, Masuko and Imai (1994), "Mel-generalized cepstral
  analysis"; Imai (1983), "Cepstral analysis synthesis on the mel frequency
  scale".
  """
  speech, samples = clip.speech, len(clip.wave)
  back = speech.log_power_TxK @ _mel_cepstral_map(order, warp)
  hard = np.where(speech.f0_T > 0, 0.0, 1.0)[:, None]
  noise = np.broadcast_to(hard, back.shape)
  return from_parameters(dsp.Speech(speech.f0_T, back, noise), samples, rng)


@functools.cache
def _mel_cepstral_map(order: int, warp: float) -> np.ndarray:
  """Returns the matrix from a log spectrum to its smooth version."""
  bins = dsp.FFT // 2 + 1
  omega = np.linspace(0, np.pi, bins)
  bent = lambda a: (
    omega + 2 * np.arctan(a * np.sin(omega) / (1 - a * np.cos(omega)))
  )
  at = lambda w: np.array([np.interp(w, omega, row) for row in np.eye(bins)])
  cepstra = scipy.fft.dct(at(bent(-warp)), type=1, axis=1)
  cepstra[:, order + 1 :] = 0
  smooth = scipy.fft.idct(cepstra, type=1, axis=1)
  return (smooth @ at(bent(warp))).astype(np.float32)


def low_rate(clip: Clip, rng: np.random.Generator) -> np.ndarray:
  """Coarsely quantised mixed-excitation linear prediction, 20 ms frames.

  After McCree and Barnwell (1995), "A mixed excitation LPC vocoder model for
  low bit rate speech coding": pitch in 128 steps, gain in steps of 2 dB, four
  bands voiced or not, and reflection coefficients rounded on the log-area
  scale.
  """
  speech, samples, every = clip.speech, len(clip.wave), 4
  keep = np.arange(0, len(speech.f0_T), every)
  poly, error = dsp.linear_prediction(np.exp(speech.log_power_TxK[keep]), 20)
  error = 10 ** (np.round(10 * np.log10(error) / 2) * 0.2)
  denominator = scipy.fft.rfft(_coarse(poly), dsp.FFT, axis=1)
  log_power = np.log(error)[:, None] - 2 * np.log(np.abs(denominator) + 1e-9)
  f0 = speech.f0_T[keep]
  voiced = f0 > 0
  step = np.log(400 / 65) / 127
  f0 = np.where(voiced, 65 * np.exp(step * np.round(
    np.log(np.maximum(f0, 65) / 65) / step)), 0)  # fmt: skip
  noise = np.where(speech.noise_TxK[keep] > 0.4, 0.9, 0.1)
  noise = np.where(voiced[:, None], noise, 1.0)
  spread = np.minimum(np.arange(len(speech.f0_T)) // every, len(keep) - 1)
  coded = dsp.Speech(f0[spread], log_power[spread], noise[spread])
  return from_parameters(coded, samples, rng)


def _coarse(poly: np.ndarray, step: float = 0.25) -> np.ndarray:
  """Rounds the log area ratios of prediction polynomials [T, order + 1]."""
  rest, order = poly.copy(), poly.shape[1] - 1
  reflections = np.zeros((len(poly), order))
  for i in range(order, 0, -1):
    k = np.clip(rest[:, i], -0.999, 0.999)
    reflections[:, i - 1] = k
    flipped = rest[:, i::-1].copy()
    rest[:, : i + 1] = (rest[:, : i + 1] - k[:, None] * flipped) / (
      1 - k[:, None] ** 2
    )
  areas = np.round(2 * np.arctanh(reflections) / step) * step
  out = np.zeros_like(poly)
  out[:, 0] = 1
  for i in range(1, order + 1):
    out[:, : i + 1] += np.tanh(areas[:, i - 1] / 2)[:, None] * out[:, i::-1]
  return out
