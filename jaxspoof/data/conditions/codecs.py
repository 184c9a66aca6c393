"""Codecs: a clip is encoded and decoded again, at its length and in its place.

Speech codecs of the telephone run at 8 kHz, for which the clip is converted
and converted back. Each codec has its delay taken away, so that what happens in
a clip happens at the same time after it. What exceeds full scale is clipped
before and after, as it is in integers. All of this is deterministic; files of
Opus and Vorbis hold a random serial number, but their samples are the same.

Coders of soundfile are here; those of PyAV, which need the extra 'media', are
in `av_codecs.py`.
"""

import io
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import soundfile

from jaxspoof.audio import decoders
from jaxspoof.data.conditions import av_codecs, bands

_TAIL = 0.1  # seconds of silence after a clip: no codec loses its end
_MP3_DELAY = 1105  # samples of encoder and decoder


class Codec(NamedTuple):
  """How a clip is encoded and decoded.

  Attributes:
    rate: sample rate in Hz that it is made for.
    code: `(wave, rate, value) -> wave` of that rate; at least as long.
    values: the values that it takes: bit rates in kb/s, or qualities; None if
      it has one only.
    default: value where none is given.
    unit: of the values, as they are spelt: 'k' after a bit rate, 'q' before a
      quality.
  """

  rate: int
  code: Callable[[np.ndarray, int, Any], np.ndarray]
  values: tuple[float, float] | None = None
  default: float | None = None
  unit: str = 'k'


class Coding(NamedTuple):
  """A codec by its name, with its bit rate or quality."""

  codec: str
  value: float | None


def _by_soundfile(container: str, encoding: str, level=None, **options):
  """A coder: a file in memory that is written and read.

  Args:
    container: as soundfile calls it.
    encoding: likewise.
    level: gives soundfile's compression level, from 0 to 1, of a value.
    **options: of `soundfile.write`.
  """

  def code(wave: np.ndarray, rate: int, value: float | None) -> np.ndarray:
    chosen = options
    if level is not None:
      least = min(1.0, max(0.0, level(value)))
      chosen = options | {'compression_level': least}
    file = io.BytesIO()
    soundfile.write(file, wave, rate, encoding, format=container, **chosen)
    return decoders.read(file.getvalue(), encoding, verify=False).wave[:, 0]

  return code


def _mp3(wave: np.ndarray, rate: int, value: float) -> np.ndarray:
  found = _MP3_FILE(wave, rate, value)
  # Frames of low bit rates have no room for the note that says the delay; of
  # the others the decoder takes it away, and the length is right.
  return found if len(found) == len(wave) else found[_MP3_DELAY:]


# LAME takes the rate at or above the one that it is asked for, from 8 to 160.
_MP3_FILE = _by_soundfile(
  'MP3',
  'MPEG_LAYER_III',
  lambda value: (159.75 - value) / 152,
  bitrate_mode='CONSTANT',
)

CODECS = {
  'mp3': Codec(16_000, _mp3, (8, 160), 64),
  'vorbis': Codec(
    16_000,
    _by_soundfile('OGG', 'VORBIS', lambda value: 1 - value / 10),
    (0, 10),
    3,
    'q',
  ),
  'opus': Codec(
    16_000,
    _by_soundfile('OGG', 'OPUS', lambda value: (256 - value) / 250),
    (6, 256),
    16,
  ),
  'alaw': Codec(8_000, _by_soundfile('WAV', 'ALAW')),
  'ulaw': Codec(8_000, _by_soundfile('WAV', 'ULAW')),
  'gsm': Codec(8_000, _by_soundfile('WAV', 'GSM610')),
  'g721': Codec(8_000, _by_soundfile('AU', 'G721_32')),
  'g723_24': Codec(8_000, _by_soundfile('AU', 'G723_24')),
}
CODECS |= {
  name: Codec(one.rate, one.code, one.values, one.default)
  for name, one in av_codecs.CODERS.items()
}


def read(text: str) -> Coding:
  """Reads a codec: 'alaw', 'mp3:32k' (kb/s), 'vorbis:q5' (quality).

  Raises:
    ValueError: no such codec, no such rate, or one whose library is missing.
  """
  name, colon, value = text.partition(':')
  if name not in CODECS:
    raise ValueError(f'codec {name!r} is unknown; known: {", ".join(CODECS)}')
  codec = CODECS[name]
  if name in av_codecs.CODERS:
    av_codecs.check(name)
  if not colon:
    return Coding(name, codec.default)
  if codec.values is None:
    raise ValueError(
      f'codec {name!r} has no bit rates: expected {name!r} alone'
    )
  low, high = codec.values
  spelt = ('q{:g}' if codec.unit == 'q' else '{:g}k').format
  digits = (
    value.removeprefix('q') if codec.unit == 'q' else value.removesuffix('k')
  )
  if digits == value or not digits.replace('.', '', 1).isdigit():
    raise ValueError(f'expected such as {name}:{spelt(codec.default)}')
  if not low <= float(digits) <= high:
    raise ValueError(
      f'codec {name!r} has {spelt(low)} to {spelt(high)}, not {value}'
    )
  return Coding(name, float(digits))


def codec(
  wave: np.ndarray, coding: Coding, rng: np.random.Generator
) -> np.ndarray:
  """Encodes and decodes a wave: float32 [n] of [n]."""
  del rng
  with_tail = np.pad(np.clip(wave, -1, 1), (0, int(_TAIL * 16_000)))
  one = CODECS[coding.codec]
  sent = np.clip(bands.there(with_tail, one.rate), -1, 1)
  received = one.code(sent, one.rate, coding.value)
  return bands.back(np.clip(received, -1, 1), one.rate, len(wave))
