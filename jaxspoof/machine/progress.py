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
    self._start = self._first = self._last = time.monotonic()
    self._done = 0
    self._terminal = self._out.isatty()

  def step(self) -> None:
    """Counts one item more."""
    self._done += 1
    now = time.monotonic()
    if self._done == 1:
      self._first = now  # starting up says nothing about the speed
    wait = 0.2 if self._terminal else self._every
    if self._done == self._total or now - self._last >= wait:
      self._last = now
      self._print(now)

  def _print(self, now: float) -> None:
    finished = self._done == self._total
    if finished:
      note = f', {now - self._start:.0f} s'
    elif self._done == 1:
      note = ''
    else:
      speed = (self._done - 1) / max(now - self._first, 1e-9)
      note = f', {(self._total - self._done) / speed:.0f} s left'
    line = f'{self._what}: {self._done} of {self._total}{note}'
    if self._terminal:
      self._out.write(f'\r{line:<60}' + ('\n' if finished else ''))
    else:
      self._out.write(f'{line}\n')
    self._out.flush()
