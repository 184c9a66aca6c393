"""What can be measured of a recording without asking who or what speaks.

A detector has learned from recordings of one kind. Whether another recording is
of that kind is asked of these numbers, one of each `Measure` a clip: how loud,
how wide, how noisy it is, and whether it moves as speech does.

Letters in names: F frames, K frequencies.
"""

from typing import NamedTuple

import numpy as np

from jaxspoof.audio import SAMPLE_RATE


class Measure(NamedTuple):
  """One number that is measured of each clip.

  Attributes:
    words: what it is, for a person.
    unit: of its values; '' for none.
    margin: how far beyond what was seen a value may lie at least, because such
      a difference cannot be heard or means nothing.
  """

  words: str
  unit: str
  margin: float


MEASURES = {
  'duration': Measure('length of what is scored', 's', 0.25),
  'level': Measure('level of its sound', 'dBFS', 1.0),
  'clipping': Measure('share of samples at full deflection', '%', 0.3),
  'bandwidth': Measure('bandwidth', 'kHz', 0.15),
  'high_band': Measure('sound above 4 kHz against below', 'dB', 3.0),
  'snr': Measure('distance from its loud to its quiet parts', 'dB', 2.0),
  'speech_share': Measure('share of the time with sound', '%', 3.0),
  'voiced_share': Measure('share of the sound with a pitch', '%', 5.0),
  'flatness': Measure('flatness of the spectrum (noise 0, tones low)', 'dB', 1),
  'change': Measure('change of the spectrum within 64 ms', 'dB', 0.3),
}

_SIZE, _HOP = 512, 256  # samples of a frame, and from one to the next
_ACTIVE = 30.0  # dB below the loud frames; what is louder is sound, not a pause
_FLOOR = 1e-10  # power; -100 dB
_BANDWIDTH = 55.0  # dB below the strongest frequency; what is lower is nothing
_CLIPPED = 0.999  # of the peak
_PITCHES = 60, 400  # Hz
_VOICED = 0.5  # correlation with what was one period before
_TIME = 4  # frames in 64 ms


def measure(wave: np.ndarray) -> dict[str, float]:
  """Measures a clip, in about 5 ms for 4 seconds.

  Args:
    wave: float32 [samples], at least one, at `audio.SAMPLE_RATE`; what a model
      is given of a recording, before it is repeated or padded.

  Returns:
    One finite number for each key of `MEASURES`.
  """
  wave = np.asarray(wave, np.float32)
  duration = len(wave) / SAMPLE_RATE
  peak = float(np.abs(wave).max())
  clipped = np.abs(wave) >= _CLIPPED * peak if peak else np.zeros(1)
  if len(wave) < _SIZE:
    wave = np.pad(wave, (0, _SIZE - len(wave)))
  frames = np.lib.stride_tricks.sliding_window_view(wave, _SIZE)[::_HOP]
  power_F = np.square(frames).mean(axis=1) + _FLOOR
  level_F = 10 * np.log10(power_F)
  quiet, loud = np.quantile(level_F, (0.1, 0.95))
  active = level_F >= loud - _ACTIVE
  window = np.hanning(_SIZE).astype(np.float32)
  spectrum_FxK = np.square(np.abs(np.fft.rfft(frames * window, axis=1)))
  spectrum_FxK += _FLOOR
  hertz = np.fft.rfftfreq(_SIZE, 1 / SAMPLE_RATE)
  found = {
    'duration': duration,
    'level': 10 * np.log10(power_F[active].mean()),
    'clipping': 100 * clipped.mean(),
    **_spectral(spectrum_FxK[active], hertz),
    'snr': loud - quiet,
    'speech_share': 100 * active.mean(),
    'voiced_share': 100 * _voiced(frames[active]),
    'change': _change(spectrum_FxK, active),
  }
  return {name: float(found[name]) for name in MEASURES}


def _spectral(spectrum_FxK: np.ndarray, hertz: np.ndarray) -> dict:
  """Measures of the spectra of frames that hold sound."""
  # Of each frequency the loudest moments: of speech, vowels and fricatives.
  loudest_K = np.quantile(spectrum_FxK, 0.95, axis=0)
  smooth_K = np.convolve(loudest_K, np.ones(5) / 5, 'same')
  decibel_K = 10 * np.log10(smooth_K)
  there = np.flatnonzero(decibel_K >= decibel_K.max() - _BANDWIDTH)
  below = loudest_K[(hertz >= 300) & (hertz < 3_400)].sum()
  above = loudest_K[hertz >= 4_200].sum()
  middle = spectrum_FxK[:, (hertz >= 200) & (hertz <= 3_400)]
  flatness_F = 10 * (
    np.log10(middle).mean(axis=1) - np.log10(middle.mean(axis=1))
  )
  return {
    'bandwidth': hertz[there[-1]] / 1000,
    'high_band': 10 * np.log10(above / below),
    'flatness': np.median(flatness_F),
  }


def _voiced(frames: np.ndarray) -> float:
  """Share of frames that repeat themselves at the rate of a voice."""
  spectrum = np.fft.rfft(frames - frames.mean(axis=1, keepdims=True), 2 * _SIZE)
  lags = np.fft.irfft(np.square(np.abs(spectrum)), axis=1)
  first, last = SAMPLE_RATE // _PITCHES[1], SAMPLE_RATE // _PITCHES[0]
  # With fewer samples left to compare at longer lags.
  left = 1 - np.arange(first, last) / _SIZE
  peaks = (lags[:, first:last] / left).max(axis=1)
  return float(np.mean(peaks >= _VOICED * (lags[:, 0] + _FLOOR)))


def _change(spectrum_FxK: np.ndarray, active: np.ndarray) -> float:
  """Mean change of the shape of the spectrum, over 16 bands."""
  usable = spectrum_FxK[:, 1:225]  # to 7 kHz
  bands = np.log10(usable.reshape(len(usable), 16, -1).mean(axis=2))
  bands = 10 * (bands - bands.mean(axis=1, keepdims=True))
  both = active[_TIME:] & active[:-_TIME]
  if not both.any():
    return 0.0
  return float(np.abs(bands[_TIME:] - bands[:-_TIME])[both].mean())
