"""Processes that decode for others: files in, samples out.

A decoder in C may crash or never end, whatever the file is; here it takes a
process with it that can be spared. A request is a line of JSON and the bytes of
a file; an answer a line of JSON and float32 samples.
"""

import contextlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable

_CHUNK = 1 << 20


class Accident(Exception):
  """The process of a decoder ended, or was ended."""


class Worker:
  """A process that decodes one file after the other.

  Args:
    program: Python code that answers requests from standard input on standard
      output; its process has one thread for linear algebra.
  """

  def __init__(self, program: str):
    self._process = subprocess.Popen(
      [sys.executable, '-c', program],
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      stderr=subprocess.DEVNULL,
      env={**os.environ, 'OMP_NUM_THREADS': '1', 'OPENBLAS_NUM_THREADS': '1'},
    )

  def alive(self) -> bool:
    """Whether the process has not ended."""
    return self._process.poll() is None

  def ask(self, request: dict, data, limit: float) -> tuple[dict, bytes]:
    """The answer and the samples of a file, or of its first block.

    Args:
      request: what is asked, for JSON.
      data: the encoded file, bytes or a map of it.
      limit: seconds until the process is ended.

    Raises:
      Accident: there is no answer.
    """
    head = json.dumps({**request, 'size': len(data)}).encode() + b'\n'

    def send():
      self._process.stdin.write(head)
      view = memoryview(data)
      for start in range(0, len(view), _CHUNK):
        self._process.stdin.write(view[start : start + _CHUNK])
      view.release()
      self._process.stdin.flush()

    return self._answer(limit, send)

  def more(self, limit: float) -> tuple[dict, bytes]:
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
      raise Accident(why) from error
    finally:
      timer.cancel()

  def end(self) -> None:
    """Ends the process."""
    self._process.kill()
    for stream in (self._process.stdin, self._process.stdout):
      with contextlib.suppress(OSError):
        stream.close()
    self._process.wait()
