"""Decodes what strangers send, in processes with limits of memory and time."""

import queue
import sys
from typing import NamedTuple

import numpy as np

from jaxspoof import audio
from jaxspoof.audio import workers
from jaxspoof.audio.containers import AudioError

MEMORY = 2 << 30  # bytes that a process may address
SLOWEST = 30.0  # seconds for a recording


class TooLong(AudioError):
  """A recording is longer than the service takes."""


class Decoded(NamedTuple):
  """What was read of a recording.

  Attributes:
    clip: what is scored of it, as `signal_checks.read` gives it.
    whole: float32 [samples], all of it; empty unless it was asked for.
    heard: what is odd about it as a whole, as sentences.
  """

  clip: audio.Clip
  whole: np.ndarray
  heard: tuple[str, ...]


class Decoder:
  """As many processes as threads have asked at once.

  Args:
    longest: seconds that a recording may last.
    samples: how many samples of each are scored, at `audio.SAMPLE_RATE`.
  """

  def __init__(self, longest: float, samples: int):
    self.longest, self.samples = longest, samples
    self._idle: queue.LifoQueue = queue.LifoQueue()
    # The package as this process has found it, wherever that is.
    self._program = (
      f'import sys; sys.path[:] = {sys.path!r}\n'
      'from jaxspoof.detect.serve import decoding_worker\n'
      f'decoding_worker.main({MEMORY})'
    )

  def read(
    self,
    data: bytes | str,
    name: str,
    *,
    whole: bool = False,
    channel: int | None = None,
  ) -> Decoded:
    """Decodes a recording.

    Args:
      data: the encoded file, or the path of one.
      name: what messages call it.
      whole: whether all of it is decoded, for a timeline.
      channel: see `audio.read`.

    Raises:
      TooLong: it lasts longer than it may.
      AudioError: anything else that `signal_checks.read` raises; or the decoder
        crashes, takes too long or too much memory.
    """
    worker = self._take()
    asked = {
      'name': name,
      'samples': self.samples,
      'longest': self.longest,
      'whole': whole,
      'channel': channel,
    }
    if isinstance(data, str):
      asked['path'], data = data, b''
    try:
      answer, samples = worker.ask(asked, data, SLOWEST)
    except workers.Accident as error:
      worker.end()
      raise AudioError(
        f'{name}: damaged, or made to do harm: its decoder {error}'
      ) from error
    self._idle.put(worker)
    if 'error' in answer:
      raise (TooLong if 'too_long' in answer else AudioError)(answer['error'])
    waves = np.frombuffer(samples, np.float32)
    scored = answer['scored']
    clip = audio.Clip(
      waves[:scored], answer['seconds'], tuple(answer['warnings'])
    )
    return Decoded(clip, waves[scored:], tuple(answer['heard']))

  def close(self) -> None:
    """Ends the processes that wait."""
    while not self._idle.empty():
      self._idle.get_nowait().end()

  def _take(self) -> workers.Worker:
    while True:
      try:
        worker = self._idle.get_nowait()
      except queue.Empty:
        return workers.Worker(self._program)
      if worker.alive():
        return worker
      worker.end()
