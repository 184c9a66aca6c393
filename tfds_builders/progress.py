"""One line that says how far a long job is."""

import sys
import time
from typing import TextIO


class Progress:
  """Counts items; rewrites one line on a terminal, prints now and then else.

  Args:
    what: the job, in a few words.
    total: number of items.
    every: seconds between lines where the output is no terminal.
  """

  def __init__(
    self, what: str, total: int, every: float = 10.0, out: TextIO | None = None
  ):
    self._what, self._total, self._every = what, total, every
    self._out = out or sys.stdout
    self._start = self._last = time.monotonic()
    self._done = 0
    self._terminal = self._out.isatty()

  def step(self) -> None:
    """Counts one item more."""
    self._done += 1
    now = time.monotonic()
    wait = 0.2 if self._terminal else self._every
    if self._done == self._total or now - self._last >= wait:
      self._last = now
      self._print(now - self._start)

  def _print(self, seconds: float) -> None:
    left = seconds / self._done * (self._total - self._done)
    finished = self._done == self._total
    end = '\n' if finished or not self._terminal else ''
    time_note = f'{seconds:.0f} s' if finished else f'{left:.0f} s left'
    self._out.write(
      f'{chr(13) if self._terminal else ""}{self._what}: {self._done} of '
      f'{self._total}, {time_note}   {end}'
    )
    self._out.flush()
