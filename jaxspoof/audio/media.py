"""What other decoders refuse, through PyAV, in a process of its own.

M4A, AAC, AMR, WebM, WMA, the sound of videos and the like, where the package
`av` is installed (the extra `media`). FFmpeg's decoders are large, and a file
may be made to crash them or to keep them busy: they run in a process that has
limits of memory and time, and is another one after each accident. The demuxer
is the one that the first bytes ask for; none is guessed.
"""

import atexit
import contextlib
import importlib.util
import os
import queue
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from jaxspoof.audio import workers
from jaxspoof.audio.containers import AudioError

MEMORY = 3 << 30  # bytes that a process may address
LONGEST = 4 * 3600.0  # seconds of a file that are decoded at most
LARGEST = 1 << 30  # bytes of decoded samples at most
SLOWEST = 60.0  # seconds for a file, and one more for each of its megabytes

_MISSING = (
  'needs the package av (pip install "jaxspoof[media]"), or a conversion such '
  'as ffmpeg -i IN OUT.wav'
)


class Media(NamedTuple):
  """What was decoded.

  Attributes:
    wave: float32 [samples, channels].
    rate: in Hz.
    total: samples of the whole file, by its own account if it was not decoded
      to its end.
    warnings: what is odd about it.
  """

  wave: np.ndarray
  rate: int
  total: int
  warnings: tuple[str, ...]


def available() -> bool:
  """Whether there is a decoder."""
  return importlib.util.find_spec('av') is not None


def read(
  data, name: str, kind: str, demuxer: str, seconds: float | None
) -> Media:
  """Decodes the first audio stream of a file.

  Args:
    data: the encoded file, bytes or a map of it.
    name: what error messages call it.
    kind: of the file, in words.
    demuxer: FFmpeg's name of its format.
    seconds: how many are decoded, from the start; None for all.

  Raises:
    AudioError: no decoder is installed; the file is damaged or cut, has no
      sound, decodes to too much or takes too long, or crashes the decoder.
  """
  if not available():
    raise AudioError(f'{name}: {kind} {_MISSING}')
  limit = SLOWEST + len(data) / 1e6
  worker = _take()
  try:
    answer, samples = worker.ask(_request(demuxer, seconds), data, limit)
  except workers.Accident as error:
    worker.end()
    raise AudioError(
      f'{name}: damaged {kind}, or made to do harm: its decoder {error}'
    ) from error
  _IDLE.put(worker)
  if 'error' in answer:
    raise AudioError(f'{name}: {kind}: {answer["error"]}')
  wave = np.frombuffer(samples, np.float32).reshape(-1, answer['channels'])
  warnings = tuple(answer['warnings'])
  return Media(wave, answer['rate'], answer['total'], warnings)


def stream(
  data, name: str, kind: str, demuxer: str, heard: Callable[[str], None]
) -> Iterator[tuple[np.ndarray, int]]:
  """Decodes a file block by block, of any length.

  Args:
    data: the encoded file, bytes or a map of it.
    name: what error messages call it.
    kind: of the file, in words.
    demuxer: FFmpeg's name of its format.
    heard: is called with what is odd about it.

  Yields:
    float32 [n, channels], and the rate in Hz.

  Raises:
    AudioError: see `read`.
  """
  if not available():
    raise AudioError(f'{name}: {kind} {_MISSING}')
  limit = SLOWEST + len(data) / 1e6
  worker, whole = _take(), False
  try:
    asked = _request(demuxer, None, stream=True)
    answer, samples = worker.ask(asked, data, limit)
    while 'error' not in answer and not answer.get('end'):
      for warning in answer['warnings']:
        heard(warning)
      wave = np.frombuffer(samples, np.float32)
      yield wave.reshape(-1, answer['channels']), answer['rate']
      answer, samples = worker.more(limit)
    whole = True
  except workers.Accident as error:
    raise AudioError(
      f'{name}: damaged {kind}, or made to do harm: its decoder {error}'
    ) from error
  finally:
    # Also where whoever asked has heard enough.
    _IDLE.put(worker) if whole else worker.end()
  if 'error' in answer:
    raise AudioError(f'{name}: {kind}: {answer["error"]}')


def _request(demuxer: str, seconds: float | None, stream: bool = False):
  return {'demuxer': demuxer, 'seconds': seconds, 'stream': stream}


# Not as `-m`: the process shall import nothing else of this package.
_START = (
  'import importlib.util as u; '
  f's = u.spec_from_file_location("w", {os.path.dirname(__file__)!r} + '
  '"/media_worker.py"); m = u.module_from_spec(s); s.loader.exec_module(m); '
  f'm.main({MEMORY}, {LONGEST}, {LARGEST})'
)
_IDLE: queue.LifoQueue = queue.LifoQueue()


def _take() -> workers.Worker:
  """A process that has nothing to do, or a new one."""
  while True:
    try:
      worker = _IDLE.get_nowait()
    except queue.Empty:
      return workers.Worker(_START)
    if worker.alive():
      return worker
    worker.end()


@atexit.register
def close() -> None:
  """Ends the processes that wait for files."""
  with contextlib.suppress(queue.Empty):
    while True:
      _IDLE.get_nowait().end()
