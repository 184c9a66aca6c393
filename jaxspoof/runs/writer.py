"""What a run says while it trains: console, `metrics.jsonl`, TensorBoard.

`metrics.jsonl` is the truth that tables and pictures are made from; one JSON
object a line with at least `step`. Only process 0 writes.
"""

import json
import os
import pathlib
from typing import Any

import tensorboardX

from jaxspoof.machine import files
from jaxspoof.runs import names


class Writer:
  """Appends the metrics of one run.

  Args:
    workdir: folder of the run.
    resume_step: lines after this step are of work that was lost in a crash
      and is done again; they are dropped.
    enabled: False on all hosts but the first.
  """

  def __init__(
    self, workdir: str | os.PathLike, resume_step: int, enabled: bool = True
  ):
    self._enabled = enabled
    self.path = pathlib.Path(workdir) / names.PROGRESS
    self.kept = keep_until(self.path, resume_step) if enabled else []
    if enabled:
      self.path.touch()
      self._board = tensorboardX.SummaryWriter(
        str(self.path.parent / 'tb'), purge_step=resume_step + 1
      )

  def write(self, step: int, values: dict[str, Any]) -> None:
    """Adds one line for `step`.

    Args:
      step: number of finished steps.
      values: numbers by name, and whatever else JSON can hold; TensorBoard
        gets the numbers.
    """
    if not self._enabled:
      return
    # Opened anew each time: a run that fails leaves nothing open.
    with self.path.open('a') as file:
      file.write(json.dumps({'step': step, **values}) + '\n')
    for name, value in values.items():
      if isinstance(value, int | float):
        self._board.add_scalar(name, value, step)

  def say(self, text: str) -> None:
    """Prints one line for the person who watches."""
    if self._enabled:
      print(text, flush=True)

  def close(self) -> None:
    """Writes what TensorBoard's file still waits for."""
    if self._enabled:
      self._board.close()


def keep_until(path: pathlib.Path, step: int) -> list[dict]:
  """Cuts a metrics file after `step` and returns the lines that stay.

  A last line that a crash cut short counts as lost.
  """
  if not path.exists():
    return []
  kept = []
  for line in path.read_text().splitlines():
    try:
      values = json.loads(line)
    except json.JSONDecodeError:
      break
    if values['step'] <= step:
      kept.append(values)
  lines = (json.dumps(values) + '\n' for values in kept)
  files.write_atomically(path, ''.join(lines))
  return kept
