"""eSpeak NG through ctypes; the `espeakng-loader` wheel brings the library."""

import ctypes
import functools
from collections.abc import Callable

import numpy as np
import soxr

from tfds_builders.quickstart import dsp

_SYNCHRONOUS, _DONT_EXIT, _UTF8 = 2, 0x8000, 1
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_CALLBACK = ctypes.CFUNCTYPE(
  ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p
)
LANGUAGES = {
  'de': 'de', 'en': 'en-us', 'es': 'es', 'fa': 'fa', 'fr': 'fr', 'it': 'it',
  'la': 'la', 'ru': 'ru',
}  # fmt: skip


@functools.cache
def _library() -> tuple[ctypes.CDLL, int]:
  """Returns the initialised library and its sample rate."""
  import espeakng_loader

  library = ctypes.CDLL(espeakng_loader.get_library_path())
  data = espeakng_loader.get_data_path().encode()
  rate = library.espeak_Initialize(_SYNCHRONOUS, 0, data, _DONT_EXIT)
  if rate <= 0:
    raise RuntimeError(f'eSpeak NG does not start with the data in {data!r}')
  return library, rate


def _checked(status: int, what: str) -> None:
  if status:
    raise RuntimeError(f'eSpeak NG: {what}: error {status}')


def speak(
  text: str, language: str, *, rate: int, pitch: int, intonation: int
) -> np.ndarray:
  """Reads `text`.

  The library keeps some state, so the exact samples depend on what was read
  before: read in a fixed order to get the same waves again.

  Args:
    text: what to read, in Unicode.
    language: a key of `LANGUAGES`.
    rate: words per minute, 80 to 450.
    pitch: 0 to 99, 50 is the voice's own.
    intonation: 0 (flat) to 99.

  Returns:
    float64 [samples] at 16 kHz.

  Raises:
    ValueError: there is no voice for the language.
  """
  if language not in LANGUAGES:
    raise ValueError(f'no voice for {language!r}; known: {list(LANGUAGES)}')
  library, native = _library()
  pieces = []

  def collect(samples, count, events):
    if samples and count > 0:
      pieces.append(np.ctypeslib.as_array(samples, (count,)).copy())
    return 0

  callback = _CALLBACK(collect)
  library.espeak_SetSynthCallback(callback)
  voice = LANGUAGES[language].encode()
  _checked(library.espeak_SetVoiceByName(voice), f'voice {language}')
  for name, value in ((_RATE, rate), (_PITCH, pitch), (_RANGE, intonation)):
    _checked(library.espeak_SetParameter(name, int(value), 0), 'parameter')
  data = text.encode() + b'\0'
  _checked(
    library.espeak_Synth(
      data, ctypes.c_size_t(len(data)), 0, 1, 0, _UTF8, None, None
    ),
    f'reading {text!r}',
  )
  library.espeak_SetSynthCallback(_CALLBACK())
  wave = np.concatenate(pieces or [np.zeros(0, np.int16)]) / 32768.0
  return soxr.resample(wave, native, dsp.RATE, quality='VHQ')


def speak_for(
  text: str, language: str, seconds: float, rng: np.random.Generator
) -> np.ndarray:
  """Reads `text` at the rate that takes about `seconds`; silence trimmed.

  The duration would give the class away if every clip were read at one rate.
  """
  style = dict(pitch=rng.integers(25, 75), intonation=rng.integers(30, 80))
  say: Callable = lambda rate: dsp.trim(
    speak(text, language, rate=rate, **style)
  )
  first = say(165)
  rate = 165 * len(first) / dsp.RATE / seconds
  return say(int(np.clip(rate, 120, 230)))
