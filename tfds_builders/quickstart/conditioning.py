"""The one chain every clip goes through, bona fide or spoof.

What a pair of clips shares is drawn from the pair's seed: level, noise, codec.
So length, silence, level, offset, bandwidth, codec and bit depth say nothing
about the class.
"""

import dataclasses
import functools
import io

import numpy as np
import scipy.signal
import soundfile

from tfds_builders.quickstart import dsp

CODECS = ('none', 'none', 'vorbis', 'alaw', 'mp3')
_LOW_CUT, _HIGH_CUT = 60.0, 7000.0  # Hz; G.722 ends at 7 kHz
_LEVEL_DB = (-29.0, -23.0)  # RMS of the active frames, dB full scale
_NOISE_DB = (30.0, 45.0)  # the noise lies so far under that level
# Peaks over the active level, dB: from the first on they are bent, none is
# over the second. Without it the crest factor alone tells half of the vocoders
# (a buzz of equal phases has higher peaks than a voice in a room).
_KNEE_DB, _PEAK_DB = 7.5, 11.5


@dataclasses.dataclass(frozen=True)
class Channel:
  """What the clips of one pair share.

  Attributes:
    level_db: active level, dB relative to full scale.
    snr_db: ratio of active level to added white noise.
    codec: one of `CODECS`.
  """

  level_db: float
  snr_db: float
  codec: str

  @classmethod
  def draw(cls, rng: np.random.Generator) -> 'Channel':
    """Draws a channel."""
    return cls(
      rng.uniform(*_LEVEL_DB), rng.uniform(*_NOISE_DB), str(rng.choice(CODECS))
    )


def condition(
  wave: np.ndarray, channel: Channel, samples: int, rng: np.random.Generator
) -> np.ndarray:
  """Puts a clip through the chain.

  Args:
    wave: float64, 16 kHz; cut or zero-padded to `samples`.
    channel: what the pair shares.
    samples: length of the pair's clips.
    rng: for the noise and the dither of this clip alone.

  Returns:
    int16 [samples].
  """
  wave = _band(dsp.fit(wave - wave.mean(), samples))
  level = 10 ** (channel.level_db / 20)
  wave = level * _limited(wave / dsp.active_level(wave))
  wave = wave * level / dsp.active_level(wave)
  noise = 10 ** ((channel.level_db - channel.snr_db) / 20)
  wave = wave + noise * rng.standard_normal(samples)
  wave = _coded(np.clip(wave, -0.99, 0.99), channel.codec)
  wave = wave - wave.mean()
  dither = rng.random(samples) - rng.random(samples)  # triangular
  pcm = np.round(wave * 32768 + dither)
  return np.clip(pcm, -32768, 32767).astype(np.int16)


def _limited(wave: np.ndarray) -> np.ndarray:
  """Bends the peaks of a wave of active level one."""
  knee, peak = 10 ** (_KNEE_DB / 20), 10 ** (_PEAK_DB / 20)
  over = np.maximum(np.abs(wave) - knee, 0) / (peak - knee)
  bent = knee + (peak - knee) * np.tanh(over)
  return np.where(over > 0, np.sign(wave) * bent, wave)


def flac(pcm: np.ndarray) -> bytes:
  """Encodes int16 [samples] as a 16 kHz mono FLAC file."""
  file = io.BytesIO()
  soundfile.write(file, pcm, dsp.RATE, format='FLAC', subtype='PCM_16')
  return file.getvalue()


def _band(wave: np.ndarray) -> np.ndarray:
  """60 Hz to 7 kHz."""
  return _low_passed(scipy.signal.sosfilt(_filters()[0], wave))


def _low_passed(wave: np.ndarray) -> np.ndarray:
  return scipy.signal.oaconvolve(wave, _filters()[1], 'same')


@functools.cache
def _filters() -> tuple[np.ndarray, np.ndarray]:
  rate = dsp.RATE
  high_pass = scipy.signal.butter(2, _LOW_CUT, 'high', fs=rate, output='sos')
  return high_pass, scipy.signal.firwin(255, _HIGH_CUT, fs=rate)


def _coded(wave: np.ndarray, codec: str) -> np.ndarray:
  if codec == 'none':
    return wave
  if codec == 'alaw':
    return _alaw(wave)
  kinds = {'vorbis': ('OGG', 'VORBIS'), 'mp3': ('MP3', 'MPEG_LAYER_III')}
  container, subtype = kinds[codec]
  file = io.BytesIO()
  soundfile.write(file, wave, dsp.RATE, format=container, subtype=subtype)
  file.seek(0)
  decoded, _ = soundfile.read(file)
  return _low_passed(_in_time(decoded, wave))


def _alaw(wave: np.ndarray, a: float = 87.6) -> np.ndarray:
  """Rounds to the 8 bits of A-law (ITU-T G.711), at 16 kHz."""
  size, knee = np.abs(wave), 1 + np.log(a)
  curved = 1 + np.log(np.maximum(a * size, 1))
  code = np.where(size < 1 / a, a * size, curved) / knee
  code = np.round(code * 127) / 127 * knee
  size = np.where(code < 1, code, np.exp(code - 1)) / a
  return np.sign(wave) * size


def _in_time(decoded: np.ndarray, wave: np.ndarray) -> np.ndarray:
  """Takes the codec's delay away; returns as many samples as `wave`."""
  score = scipy.signal.correlate(decoded, wave, 'full', method='fft')
  delay = int(np.abs(score).argmax()) - (len(wave) - 1)
  moved = decoded[delay:] if delay >= 0 else np.pad(decoded, (-delay, 0))
  return dsp.fit(moved, len(wave))
