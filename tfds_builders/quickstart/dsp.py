"""Speech analysis and synthesis in numpy: what the attacks are made of.

Waves are float64 [samples] at 16 kHz. Frame sequences advance by `HOP` samples
(5 ms) and frame t is centred on sample t * HOP; T is the number of frames, K
the number of bins of a spectrum. Spectra are computed in single precision,
whose noise lies 40 dB below that of 16 bits, and for half the price.
"""

import dataclasses
import functools

import numpy as np
import scipy.fft
import scipy.signal

RATE = 16_000
HOP = 80
FFT = 1024  # of envelopes and impulse responses
_TINY = 1e-12


# ------------------------------------------------------------------- framing


def trim(wave: np.ndarray, below_peak_db: float = 35.0) -> np.ndarray:
  """Cuts silence at both ends, keeping a margin of 50 ms.

  Silence is what lies `below_peak_db` under the loudest 10 ms frame.
  """
  size = RATE // 100
  energy = frame_energy(wave, size)
  if not len(energy):
    return wave
  loud = np.flatnonzero(energy > energy.max() * 10 ** (-below_peak_db / 10))
  return wave[max(0, loud[0] - 5) * size : (loud[-1] + 6) * size]


def frame_energy(wave: np.ndarray, size: int) -> np.ndarray:
  """Returns the mean square of each whole frame of `size` samples."""
  count = len(wave) // size
  return np.mean(wave[: count * size].reshape(count, size) ** 2, axis=1)


def active_level(wave: np.ndarray) -> float:
  """Returns the RMS over 20 ms frames less than 35 dB below the loudest."""
  energy = frame_energy(wave, RATE // 50)
  if not len(energy):
    energy = np.mean(wave**2, keepdims=True)
  return float(np.sqrt(np.mean(energy[energy >= energy.max() * 10**-3.5])))


def fit(wave: np.ndarray, samples: int) -> np.ndarray:
  """Cuts or zero-pads `wave` at its end to `samples`."""
  if len(wave) >= samples:
    return wave[:samples]
  return np.pad(wave, (0, max(0, samples - len(wave))))[:samples]


def frames(wave: np.ndarray, size: int, hop: int) -> np.ndarray:
  """Returns float32 [T, size] frames centred on multiples of `hop`."""
  padded = np.pad(wave.astype(np.float32), (size // 2, size))
  count = len(wave) // hop + 1
  view = np.lib.stride_tricks.sliding_window_view(padded, size)
  return view[::hop][:count]


def overlap_add(blocks: np.ndarray, hop: int, samples: int) -> np.ndarray:
  """Sums [T, size] blocks, block t starting at t * hop - size // 2."""
  count, size = blocks.shape
  steps = -(-size // hop)
  blocks = np.pad(blocks, ((0, 0), (0, steps * hop - size)))
  out = np.zeros((count + steps, hop), blocks.dtype)
  for step in range(steps):
    out[step : step + count] += blocks[:, step * hop : (step + 1) * hop]
  return fit(out.ravel()[size // 2 :], samples)


@functools.cache
def hann(size: int) -> np.ndarray:
  """Returns a periodic Hann window, float32; do not write to it."""
  return scipy.signal.get_window('hann', size).astype(np.float32)


def stft(wave: np.ndarray, size: int, hop: int) -> np.ndarray:
  """Returns complex64 [T, size // 2 + 1]; Hann window."""
  return scipy.fft.rfft(frames(wave, size, hop) * hann(size), axis=1)


def istft(spectra: np.ndarray, hop: int, samples: int) -> np.ndarray:
  """Least-squares inverse of `stft` (Griffin and Lim 1984, equation 6)."""
  count, size = spectra.shape[0], 2 * (spectra.shape[1] - 1)
  blocks = scipy.fft.irfft(spectra, size, axis=1) * hann(size)
  return overlap_add(blocks, hop, samples) / _overlap(size, hop, count, samples)


@functools.lru_cache(maxsize=8)
def _overlap(size: int, hop: int, count: int, samples: int) -> np.ndarray:
  weight = np.broadcast_to(hann(size) ** 2, (count, size))
  return np.maximum(overlap_add(weight, hop, samples), 1e-3)


@functools.cache
def mel_filters(bands: int, bins: int, low: float = 0.0) -> np.ndarray:
  """Returns float32 [bands, bins] triangles, equally spaced in mel."""
  mel = lambda hertz: 2595 * np.log10(1 + hertz / 700)
  edges = np.linspace(mel(low), mel(RATE / 2), bands + 2)
  hertz = 700 * (10 ** (edges / 2595) - 1)
  axis = np.linspace(0, RATE / 2, bins)
  rise = (axis - hertz[:-2, None]) / np.diff(hertz)[:-1, None]
  fall = (hertz[2:, None] - axis) / np.diff(hertz)[1:, None]
  return np.maximum(0, np.minimum(rise, fall)).astype(np.float32)


# --------------------------------------------------------------------- pitch


def pitch(
  wave: np.ndarray, low: float = 65.0, high: float = 400.0
) -> np.ndarray:
  """Tracks the fundamental frequency.

  Boersma (1993), "Accurate short-term analysis of the fundamental frequency":
  autocorrelation divided by the window's own, the best path over the frames'
  strongest peaks and "unvoiced".

  Returns:
    Hertz [T], 0 where unvoiced.
  """
  energy, strength, lags = _periodicity(wave, int(RATE / high), int(RATE / low))
  loud = np.sqrt(energy / max(energy.max(), _TINY))
  unvoiced = 0.45 + np.maximum(0, 1.5 - loud / 0.02)
  score = np.concatenate([unvoiced[:, None], strength], axis=1)
  octave = np.log2(RATE / np.maximum(lags, 1))
  octave = np.concatenate([np.zeros((len(lags), 1)), octave], axis=1)
  path = _best_path(score, octave)
  chosen = np.take_along_axis(octave, path[:, None], axis=1)[:, 0]
  return np.where(path > 0, 2**chosen, 0.0)


def _periodicity(wave, shortest: int, longest: int, peaks: int = 5):
  """Returns energy [T], strength and lag [T, peaks] of the best peaks."""
  size, window = 800, hann(800)
  spectra = scipy.fft.rfft(frames(wave, size, HOP) * window, 2048, axis=1)
  own = scipy.fft.irfft(np.abs(scipy.fft.rfft(window, 2048)) ** 2)
  auto = scipy.fft.irfft(np.abs(spectra) ** 2, axis=1)
  energy = auto[:, 0]
  auto = auto / np.maximum(auto[:, :1], _TINY) / (own / own[0] + _TINY)
  auto = auto[:, shortest - 1 : longest + 2]
  left, middle, right = auto[:, :-2], auto[:, 1:-1], auto[:, 2:]
  peak = np.where((middle > left) & (middle >= right), middle, -1.0)
  # Short lags a little better: guards against octave errors downwards.
  peak -= 0.03 * np.log2(np.arange(shortest, longest + 1) / shortest)
  best = np.argsort(-peak, axis=1, kind='stable')[:, :peaks]
  take = lambda x: np.take_along_axis(x, best, axis=1)
  bend = take(left - 2 * middle + right)
  shift = 0.5 * take(left - right) / np.minimum(bend, -_TINY)
  return energy, take(peak), best + shortest + np.clip(shift, -0.5, 0.5)


def _best_path(score: np.ndarray, octave: np.ndarray) -> np.ndarray:
  """Viterbi; candidate 0 is unvoiced. Returns chosen candidates [T]."""
  total, back = score[0], []
  for now, before, gain in zip(octave[1:], octave[:-1], score[1:], strict=True):
    cost = 0.35 * np.abs(now[None] - before[:, None])
    cost[0, 1:] = cost[1:, 0] = 0.14
    options = total[:, None] - cost
    back.append(options.argmax(axis=0))
    total = options.max(axis=0) + gain
  path = [int(total.argmax())]
  for pointers in reversed(back):
    path.append(int(pointers[path[-1]]))
  return np.array(path[::-1])


# --------------------------------------------- spectral envelope and the rest


@dataclasses.dataclass(frozen=True)
class Speech:
  """Parameters of a source-filter vocoder.

  Attributes:
    f0_T: hertz, 0 where unvoiced.
    log_power_TxK: envelope, natural logarithm of power (white noise of
      variance one has 0), K = FFT // 2 + 1.
    noise_TxK: share of noise in the power, 0 to 1.
  """

  f0_T: np.ndarray
  log_power_TxK: np.ndarray
  noise_TxK: np.ndarray


def analyse(wave: np.ndarray) -> Speech:
  """Splits speech into fundamental, envelope and aperiodicity."""
  f0 = pitch(wave)
  return Speech(f0, envelope(wave, f0), aperiodicity(wave, f0))


def envelope(wave: np.ndarray, f0_T: np.ndarray) -> np.ndarray:
  """Estimates a spectral envelope free of harmonics; returns log power TxK.

  CheapTrick (Morise 2015, "CheapTrick, a spectral envelope estimator for
  high-quality speech synthesis"): window of three periods, smoothing over two
  thirds of the fundamental, then a lifter that restores the peaks.
  """
  f0 = np.where(f0_T > 0, f0_T, 250.0)[:, None].astype(np.float32)
  time = np.arange(FFT, dtype=np.float32) - FFT // 2
  phase = time * (f0 / (1.5 * RATE))
  window = np.where(np.abs(phase) < 1, 0.5 + 0.5 * np.cos(np.pi * phase), 0.0)
  window /= np.sqrt(np.sum(window**2, axis=1, keepdims=True))
  spectra = scipy.fft.rfft(frames(wave, FFT, HOP) * window, axis=1)
  power = np.abs(spectra) ** 2 + _TINY
  smooth = _box_smoothed(power, f0 * FFT / RATE / 3)
  # A real, even sequence: its cosine transform of type 1 is the Fourier one.
  cepstra = scipy.fft.idct(np.log(smooth), type=1, axis=1)
  angle = np.pi * f0 * (np.arange(FFT // 2 + 1, dtype=np.float32) / RATE)
  lifter = np.sin(angle[:, 1:]) / angle[:, 1:]
  lifter *= 1.18 - 0.18 * np.cos(2 * angle[:, 1:])
  cepstra[:, 1:] *= lifter
  return scipy.fft.dct(cepstra, type=1, axis=1)


def _box_smoothed(power_TxK: np.ndarray, half_width: np.ndarray) -> np.ndarray:
  """Averages over +- half_width [T, 1] bins; mirrored at both ends."""
  edge = power_TxK.shape[1] - 1
  mirrored = np.pad(power_TxK, ((0, 0), (edge, edge)), mode='reflect')
  total = np.cumsum(mirrored, axis=1, dtype=np.float64)
  centre = np.arange(edge, 2 * edge + 1) + 0.0
  upper = _interpolated(total, centre + half_width)
  lower = _interpolated(total, centre - half_width)
  mean = np.maximum(upper - lower, _TINY) / (2 * half_width)
  return mean.astype(np.float32)


def _interpolated(rows: np.ndarray, position: np.ndarray) -> np.ndarray:
  """Linear interpolation of each row at fractional positions."""
  position = np.clip(position, 0, rows.shape[1] - 1.001)
  whole = position.astype(int)
  part = (position - whole).astype(np.float32)
  take = lambda index: np.take_along_axis(rows, index, axis=1)
  return take(whole) * (1 - part) + take(whole + 1) * part


def aperiodicity(
  wave: np.ndarray, f0_T: np.ndarray, edges=(0, 1000, 2000, 4000, 8000)
) -> np.ndarray:
  """Estimates the share of noise per frame and bin, 1 where unvoiced.

  The normalised autocorrelation of a band at the pitch period is the share
  of its power that repeats.
  """
  size, window = 512, hann(512)
  power = np.abs(scipy.fft.rfft(frames(wave, size, HOP) * window, FFT)) ** 2
  own = scipy.fft.irfft(np.abs(scipy.fft.rfft(window, FFT)) ** 2)
  period = RATE / np.where(f0_T > 0, f0_T, RATE / 2)
  omega = 2 * np.pi * np.arange(FFT // 2 + 1, dtype=np.float32) / FFT
  cosine = np.cos(omega * period[:, None].astype(np.float32))
  expected = np.interp(period, np.arange(FFT // 2), own[: FFT // 2] / own[0])
  bands = []
  for low, high in zip(edges[:-1], edges[1:], strict=True):
    bins = slice(low * FFT // RATE, high * FFT // RATE + 1)
    repeats = np.sum((power * cosine)[:, bins], axis=1)
    share = repeats / (np.sum(power[:, bins], axis=1) + _TINY)
    bands.append(1 - np.clip(share / np.maximum(expected, 0.1), 0, 1))
  centres = (np.array(edges[:-1]) + np.array(edges[1:])) / 2
  axis = np.linspace(0, RATE / 2, FFT // 2 + 1)
  noise = _interpolated(
    np.stack(bands, axis=1).astype(np.float32),
    np.broadcast_to(
      np.interp(axis, centres, np.arange(len(centres))), power.shape
    ),
  )
  return np.where(f0_T[:, None] > 0, noise, np.float32(1))


def warped(rows_TxK: np.ndarray, factor: float) -> np.ndarray:
  """Moves every formant from frequency f to f * factor."""
  bins = rows_TxK.shape[1]
  position = np.minimum(np.arange(bins) / factor, bins - 1.001)
  return _interpolated(rows_TxK, np.broadcast_to(position, rows_TxK.shape))


# ------------------------------------------------------- excitation, synthesis


def pulse_times(f0_T: np.ndarray, samples: int) -> np.ndarray:
  """Returns the samples (fractional) at which voiced pitch pulses fall."""
  time = np.arange(samples) / HOP
  voiced = np.interp(time, np.arange(len(f0_T)), f0_T > 0) > 0.5
  steps = np.arange(len(f0_T))
  filled = np.interp(steps, steps[f0_T > 0], f0_T[f0_T > 0]) if any(f0_T) else 0
  hertz = np.interp(time, steps, np.broadcast_to(filled, f0_T.shape))
  phase = np.cumsum(np.where(voiced, hertz, 0.0)) / RATE
  crossings = np.flatnonzero(np.diff(np.floor(phase)) > 0)
  rest = 1 - phase[crossings] % 1
  return crossings + rest * RATE / np.maximum(hertz[crossings], 1.0)


def excitation(
  f0_T: np.ndarray, samples: int, rng: np.random.Generator
) -> np.ndarray:
  """Pulses where voiced, white noise elsewhere; power one throughout."""
  time = np.arange(samples) / HOP
  voiced = np.interp(time, np.arange(len(f0_T)), f0_T > 0) > 0.5
  out = np.where(voiced, 0.0, rng.standard_normal(samples))
  at = pulse_times(f0_T, samples).astype(int)
  at = at[at < samples]
  period = RATE / np.maximum(f0_T[np.minimum(at // HOP, len(f0_T) - 1)], 65.0)
  out[at] = np.sqrt(period)
  return out


def minimum_phase(log_power_TxK: np.ndarray) -> np.ndarray:
  """Returns complex spectra TxK of minimum phase with the given power."""
  cepstra = scipy.fft.idct(0.5 * log_power_TxK, type=1, axis=1)
  cepstra[:, 1:-1] *= 2
  spectra = scipy.fft.rfft(cepstra.astype(np.float32), FFT, axis=1)
  return np.exp(spectra.real) * unit(spectra.imag)


def unit(angle: np.ndarray) -> np.ndarray:
  """Returns exp(1j * angle), several times as fast as numpy does."""
  out = np.empty(angle.shape, np.result_type(angle.dtype, np.complex64))
  np.cos(angle, out=out.real)
  np.sin(angle, out=out.imag)
  return out


def filtered_noise(
  log_power_TxK: np.ndarray, samples: int, rng: np.random.Generator
) -> np.ndarray:
  """Returns noise whose spectrum follows the envelope, frame by frame."""
  noise = frames(rng.standard_normal(samples), 2 * HOP, HOP) * hann(2 * HOP)
  spectra = scipy.fft.rfft(noise, FFT, axis=1) * minimum_phase(log_power_TxK)
  blocks = scipy.fft.irfft(spectra, axis=1)
  # Responses start at the frame's first sample, HOP before its centre. The
  # frames are cut from one noise, so the windows add up to one.
  blocks = np.pad(blocks, ((0, 0), (FFT - 2 * HOP, 0)))
  return overlap_add(blocks, HOP, samples)


def filtered_pulses(
  log_power_TxK: np.ndarray, f0_T: np.ndarray, samples: int
) -> np.ndarray:
  """Returns one minimum-phase response of the envelope per pitch period."""
  at = pulse_times(f0_T, samples)
  out = np.zeros(samples + FFT)
  if not len(at):
    return out[:samples]
  frame = np.minimum(np.round(at / HOP).astype(int), len(f0_T) - 1)
  omega = 2 * np.pi * np.arange(FFT // 2 + 1, dtype=np.float32) / FFT
  delay = unit(-omega * (at % 1)[:, None].astype(np.float32))
  spectra = minimum_phase(log_power_TxK[frame]) * delay
  gain = np.sqrt(RATE / np.where(f0_T[frame] > 0, f0_T[frame], 150.0))
  for start, response in zip(
    at.astype(int),
    scipy.fft.irfft(spectra, axis=1) * gain[:, None],
    strict=True,
  ):
    if start < samples:
      out[start : start + FFT] += response
  return out[:samples]


# ------------------------------------------------------------ linear prediction


def linear_prediction(
  power_TxK: np.ndarray, order: int
) -> tuple[np.ndarray, np.ndarray]:
  """Fits all-pole models to power spectra by Levinson's recursion.

  Returns:
    Prediction polynomials [T, order + 1] (first coefficient one), prediction
    error power [T], reflection coefficients are those of a stable filter.
  """
  auto = scipy.fft.irfft(power_TxK, axis=1)[:, : order + 1]
  error = auto[:, 0] * (1 + 1e-5) + _TINY
  poly = np.zeros((len(auto), order + 1))
  poly[:, 0] = 1
  for i in range(1, order + 1):
    acc = np.sum(poly[:, :i] * auto[:, i:0:-1], axis=1)
    reflection = np.clip(-acc / error, -0.9995, 0.9995)
    poly[:, : i + 1] += reflection[:, None] * poly[:, i::-1]
    error = error * (1 - reflection**2)
  return poly, error


def frame_fir(wave: np.ndarray, rows: np.ndarray, hop: int = HOP) -> np.ndarray:
  """Filters with coefficients [T, order + 1] that change every `hop`."""
  row = np.minimum(np.arange(len(wave)) // hop, len(rows) - 1)
  out = rows[row, 0] * wave
  for lag in range(1, rows.shape[1]):
    out[lag:] += rows[row[lag:], lag] * wave[:-lag]
  return out


def frame_all_pole(
  wave: np.ndarray, rows: np.ndarray, hop: int = HOP
) -> np.ndarray:
  """Undoes `frame_fir`: filters with the inverse of each row."""
  order, one = rows.shape[1] - 1, np.ones(1)
  # scipy's state m (direct form II, transposed) is the part of the outputs to
  # come that past outputs y make: -sum over j of a[m + 1 + j] * y[-1 - j].
  shift = np.add.outer(np.arange(order), np.arange(order)) + 1
  padded = np.pad(rows, ((0, 0), (0, order)))
  out = np.zeros(order + len(wave))  # starts with silence
  for start in range(0, len(wave), hop):
    row = min(start // hop, len(rows) - 1)
    state = -padded[row][shift] @ out[start : start + order][::-1]
    out[order + start : order + start + hop], _ = scipy.signal.lfilter(
      one, rows[row], wave[start : start + hop], zi=state
    )
  return out[order:]


# ------------------------------------------------------------------ equaliser


def equalised(
  wave: np.ndarray, wanted: np.ndarray, limit_db: float = 18.0
) -> np.ndarray:
  """Gives `wave` another average log spectrum.

  One fixed linear-phase filter: it takes away colour, not artefacts.

  Args:
    wave: what to equalise.
    wanted: the `colour` it is to have.
    limit_db: no band is changed by more.
  """
  limit = limit_db / 4.343
  gain = np.clip(wanted - colour(wave), -limit, limit)
  centres = _colour_bands().argmax(axis=1)
  log_gain = np.interp(np.arange(FFT // 2 + 1), centres, gain) / 2
  taps = np.fft.fftshift(scipy.fft.irfft(np.exp(log_gain)))
  taps *= hann(FFT)
  return scipy.signal.oaconvolve(wave, taps, 'full')[FFT // 2 :][: len(wave)]


def colour(wave: np.ndarray) -> np.ndarray:
  """Returns the average log power of the active frames in mel bands."""
  power = np.abs(stft(wave / (active_level(wave) + _TINY), FFT, 240)) ** 2
  active = power.sum(axis=1) > power.sum(axis=1).max() * 10**-3.5
  return np.log(power[active] @ _colour_bands().T + 2e-2).mean(axis=0)


def _colour_bands() -> np.ndarray:
  return mel_filters(36, FFT // 2 + 1, 30.0)
