"""Time of a run: speed, share of waiting for data, time left."""

import contextlib
import statistics
import time


class Clock:
  """Measures the training part of a run.

  The first step is slow because it compiles, so the speed leaves it out, and it
  leaves out evaluation.

  Args:
    batch: clips in a batch.
    step: steps done before this process started.
    last_step: steps of the whole run.
    lines: metrics lines of the parts of the run before this one.
  """

  def __init__(self, batch: int, step: int, last_step: int, lines: list[dict]):
    self._batch, self._first, self._last = batch, step, last_step
    self._before = lines[-1]['seconds'] if lines else 0.0
    self._lines = [line for line in lines if 'clips_per_s' in line]
    self._begin = self._mark = time.perf_counter()
    self._marked_step = step
    self._waited = self._paused = 0.0

  @contextlib.contextmanager
  def waiting_for_data(self, pending):
    """A context in which the next batch is fetched; measures waiting for it.

    The time counts as waiting if the device had finished its step when the
    batch came. If it was still busy, nothing was lost.

    Args:
      pending: (step, metrics) of the step under way, or None.
    """
    begin = time.perf_counter()
    yield
    if pending is None or pending[1]['loss'].is_ready():
      self._waited += time.perf_counter() - begin

  @contextlib.contextmanager
  def pause(self):
    """A context for evaluation: its time is left out of the training speed."""
    begin = time.perf_counter()
    yield
    self._paused += time.perf_counter() - begin

  def started(self, step: int) -> None:
    """Called after the first step of this process, the one that compiles."""
    self._mark, self._marked_step = time.perf_counter(), step
    self._waited = self._paused = 0.0

  def lap(self, step: int) -> dict[str, float]:
    """Speed and waiting since the last lap, and seconds of the whole run."""
    now = time.perf_counter()
    busy = max(now - self._mark - self._paused, 1e-9)
    line = {'seconds': self._before + now - self._begin}
    if step > self._marked_step:
      line['clips_per_s'] = (step - self._marked_step) * self._batch / busy
      line['data_wait'] = self._waited / busy
      self._lines.append(line)
    self._mark, self._marked_step = now, step
    self._waited = self._paused = 0.0
    return line

  def left(self, step: int) -> float:
    """Seconds to the last step, at the pace of this process so far."""
    pace = (time.perf_counter() - self._begin) / max(step - self._first, 1)
    return (self._last - step) * pace

  def summary(self) -> dict[str, float]:
    """Median speed and waiting of the run, and its minutes."""
    now = time.perf_counter()
    return {
      'clips_per_s': _median([x['clips_per_s'] for x in self._lines]),
      'data_wait': _median([x['data_wait'] for x in self._lines]),
      'minutes': (self._before + now - self._begin) / 60,
    }


def _median(values: list[float]) -> float:
  return statistics.median(values) if values else 0.0
