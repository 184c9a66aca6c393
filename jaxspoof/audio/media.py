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
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from jaxspoof.audio.containers import AudioError

MEMORY = 3 << 30  # bytes that a process may address
LONGEST = 4 * 3600.0  # seconds of a file that are decoded at most
LARGEST = 1 << 30  # bytes of decoded samples at most
SLOWEST = 60.0  # seconds for a file, and one more for each of its megabytes

_CHUNK = 1 << 20
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
    answer, samples = worker.ask(data, demuxer, seconds, limit)
  except _Accident as error:
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
    answer, samples = worker.ask(data, demuxer, None, limit, stream=True)
    while 'error' not in answer and not answer.get('end'):
      for warning in answer['warnings']:
        heard(warning)
      wave = np.frombuffer(samples, np.float32)
      yield wave.reshape(-1, answer['channels']), answer['rate']
      answer, samples = worker.more(limit)
    whole = True
  except _Accident as error:
    raise AudioError(
      f'{name}: damaged {kind}, or made to do harm: its decoder {error}'
    ) from error
  finally:
    # Also where whoever asked has heard enough.
    _IDLE.put(worker) if whole else worker.end()
  if 'error' in answer:
    raise AudioError(f'{name}: {kind}: {answer["error"]}')


class _Accident(Exception):
  """The process of a decoder ended, or was ended."""


class _Worker:
  """A process that decodes one file after the other."""

  def __init__(self):
    self._process = subprocess.Popen(
      [sys.executable, '-c', _START],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      env={**os.environ, 'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'},
    )

  def ask(
    self,
    data,
    demuxer: str,
    seconds: float | None,
    limit: float,
    stream: bool = False,
  ):
    """The answer and the samples of a file, or of its first block.

    Raises:
      _Accident: there is no answer.
    """
    head = {'demuxer': demuxer, 'seconds': seconds, 'size': len(data)}
    head = json.dumps({**head, 'stream': stream}).encode() + b'\n'

    def send():
      self._process.stdin.write(head)
      view = memoryview(data)
      for start in range(0, len(view), _CHUNK):
        self._process.stdin.write(view[start : start + _CHUNK])
      view.release()
      self._process.stdin.flush()

    return self._answer(limit, send)

  def more(self, limit: float):
    """The next block; its answer has `end` behind the last one."""
    return self._answer(limit, lambda: None)

  def _answer(self, limit: float, send: Callable[[], None]):
    late = threading.Event()

    def end():
      late.set()
      self._process.kill()

    timer = threading.Timer(limit, end)
    timer.start()
    try:
      send()
      answer = json.loads(self._process.stdout.readline())
      samples = self._process.stdout.read(answer.get('size', 0))
      if len(samples) != answer.get('size', 0):
        raise ValueError('cut')
      return answer, samples
    except (OSError, ValueError) as error:
      why = f'took longer than {limit:.0f} s' if late.is_set() else 'crashed'
      raise _Accident(why) from error
    finally:
      timer.cancel()

  def end(self) -> None:
    """Ends the process."""
    self._process.kill()
    for stream in (self._process.stdin, self._process.stdout):
      with contextlib.suppress(OSError):
        stream.close()
    self._process.wait()


# Not as `-m`: the process shall import nothing else of this package.
_START = (
  'import importlib.util as u; '
  f's = u.spec_from_file_location("w", {os.path.dirname(__file__)!r} + '
  '"/media_worker.py"); m = u.module_from_spec(s); s.loader.exec_module(m); '
  f'm.main({MEMORY}, {LONGEST}, {LARGEST})'
)
_IDLE: queue.LifoQueue = queue.LifoQueue()


def _take() -> _Worker:
  """A process that has nothing to do, or a new one."""
  while True:
    try:
      worker = _IDLE.get_nowait()
    except queue.Empty:
      return _Worker()
    if worker._process.poll() is None:
      return worker
    worker.end()


@atexit.register
def close() -> None:
  """Ends the processes that wait for files."""
  with contextlib.suppress(queue.Empty):
    while True:
      _IDLE.get_nowait().end()
