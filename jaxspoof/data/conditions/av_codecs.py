"""Coders of PyAV (FFmpeg), which comes with the extra 'media'.

PyAV is imported where a clip is coded: nobody else needs it.
"""

import importlib
import io
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

INSTALL = "pip install -e '.[media]'"


class Coder(NamedTuple):
  """A codec of FFmpeg.

  Attributes:
    encoder: as FFmpeg calls it.
    container: the format of the file that it is written to.
    rate: sample rate in Hz that it is made for.
    delay: samples by which what is decoded comes late.
    values: bit rates that it takes, in kb/s; None if it has one only.
    default: bit rate where none is given.
  """

  encoder: str
  container: str
  rate: int
  delay: int
  values: tuple[float, float] | None = None
  default: float | None = None

  @property
  def code(self) -> Callable[[np.ndarray, int, float | None], np.ndarray]:
    """As `codecs.Codec` has it."""
    return self._code

  def _code(
    self, wave: np.ndarray, rate: int, value: float | None
  ) -> np.ndarray:
    return _coded(self, wave, rate, value)[self.delay :]


CODERS = {
  # Matroska says the delay of AAC, which differs between versions of FFmpeg.
  'aac': Coder('aac', 'matroska', 16_000, 0, (8, 96), 32),
  'g722': Coder('g722', 'wav', 16_000, 22),
  'amr': Coder('libopencore_amrnb', 'amr', 8_000, 40, (4.75, 12.2), 12.2),
}


def check(name: str) -> None:
  """Raises ValueError if a coder cannot be used on this machine."""
  try:
    av = importlib.import_module('av')
  except ImportError as error:
    raise ValueError(
      f"codec {name!r} needs PyAV, which the extra 'media' brings: {INSTALL}"
    ) from error
  try:
    av.codec.Codec(CODERS[name].encoder, 'w')
  except ValueError as error:  # what PyAV raises for a codec it lacks is one
    raise ValueError(
      f'codec {name!r}: PyAV {av.__version__} was built without the encoder '
      f'{CODERS[name].encoder!r}'
    ) from error


def _coded(
  coder: Coder, wave: np.ndarray, rate: int, value: float | None
) -> np.ndarray:
  """Writes a file in memory and reads it again: float32 [samples]."""
  import av

  file = io.BytesIO()
  with av.open(file, 'w', format=coder.container) as out:
    stream = out.add_stream(coder.encoder, rate=rate, layout='mono')
    if value is not None:
      stream.bit_rate = round(1000 * value)
    frame = av.AudioFrame.from_ndarray(wave[None], format='flt', layout='mono')
    frame.sample_rate = rate
    resampler = av.AudioResampler(stream.format.name, 'mono', rate)
    for part in [*resampler.resample(frame), *resampler.resample(None), None]:
      for packet in stream.encode(part):
        out.mux(packet)
  file.seek(0)
  with av.open(file) as source:
    resampler = av.AudioResampler('flt', 'mono', rate)
    frames = [
      part
      for frame in source.decode(audio=0)
      for part in resampler.resample(frame)
    ]
    frames += resampler.resample(None)
  return np.concatenate([part.to_ndarray()[0] for part in frames])
