"""Starts processes that score, and those that were killed once more."""

import math
import os
import pathlib
import signal
import subprocess
import sys
import time

from jaxspoof.bulk import cores, plan
from jaxspoof.machine.progress import Progress
from jaxspoof.runs import names

_PAUSE = 0.2  # seconds between looks at the folder


def score(
  folder: pathlib.Path, shards: int, workers: int, gpus: int = 0
) -> int:
  """Scores a folder by several processes; returns when they have ended.

  A process that was killed is started again, if anything was finished since the
  last one was: what kills every process that comes upon it is left at last.

  Args:
    folder: with a plan.
    shards: how many there are.
    workers: how many processes.
    gpus: how many GPUs they divide among themselves; 0 leaves devices to JAX.

  Returns:
    0, or 2 if a process has refused to work, after it has said why.
  """
  ours = cores.own()
  environments = [_environment(n, workers, gpus) for n in range(workers)]
  before = len(plan.done(folder))
  progress = Progress('shards', shards - before, out=sys.stderr)
  shown, accident = before, -1
  alive: dict[int, subprocess.Popen] = {}
  waiting = list(range(workers))
  try:
    while waiting or alive:
      # The first compiles what the others find compiled.
      if waiting and (not alive or (folder / plan.DETECTOR).exists()):
        number = waiting.pop(0)
        own = ours[number::workers] if workers <= len(ours) else ours
        alive[number] = _start(folder, own, environments[number])
      finished = len(plan.done(folder))
      for _ in range(shown, finished):
        progress.step()
      shown = finished
      for number, process in [*alive.items()]:
        status = process.poll()
        if status is None:
          continue
        del alive[number]
        if status == 2:
          return 2
        if status and finished > accident:
          said = f'a process {_end(status)}; another one starts'
          print(said, file=sys.stderr)
          accident = finished
          waiting.append(number)
        elif status:
          print(f'a process {_end(status)}', file=sys.stderr)
      time.sleep(_PAUSE if waiting or alive else 0)
    return 0
  finally:
    for process in alive.values():
      process.kill()
      process.wait()


def _start(
  folder: pathlib.Path, own: list[int], environment: dict[str, str]
) -> subprocess.Popen:
  """A process of `worker`; it ends when nobody holds its standard input."""
  program = (
    f'import sys; sys.path[:] = {sys.path!r}\n'
    # Before JAX counts its threads.
    f'from jaxspoof.bulk import cores; cores.keep_to({own!r})\n'
    f'from jaxspoof.bulk import worker; worker.main({os.fspath(folder)!r})'
  )
  return subprocess.Popen(
    [sys.executable, '-c', program], stdin=subprocess.PIPE, env=environment
  )


def _environment(number: int, workers: int, gpus: int) -> dict[str, str]:
  """Of a process: its GPU, and its share of the memory there."""
  found = dict(os.environ)
  if gpus:
    found['CUDA_VISIBLE_DEVICES'] = str(number % gpus)
    share = 0.9 / math.ceil(workers / gpus)
    found.setdefault('XLA_PYTHON_CLIENT_MEM_FRACTION', f'{share:.2f}')
  return found


def _end(status: int) -> str:
  if status < 0:
    return f'was killed ({signal.Signals(-status).name})'
  return f'ended with status {status}'


def totals(folder: pathlib.Path, shards: set[int]) -> dict[str, float]:
  """Sums of what is noted of shards that are done."""
  found = {}
  for shard in shards:
    noted = names.read_json(plan.statistics_of(folder, shard))
    for name, value in noted.items():
      found[name] = found.get(name, 0) + value
  return found
