"""Runs a benchmark in processes that are killed at random moments.

  python -m tests.sweep_kills TASK.json

Started anew each time, a process would import for longer than it works: this
one imports once, and forks before JAX has started any thread.
"""

import json
import os
import pathlib
import random
import signal
import sys
import time
import traceback

from jaxspoof.jobs import benchmark


def main():
  """Some kills, then as many processes at once as the task asks for."""
  task = json.loads(pathlib.Path(sys.argv[1]).read_text())
  draw = random.Random(task['seed'])
  for _ in range(task['kills']):
    kill_once(task, draw)
  last = [begin(task) for _ in range(task['processes'])]
  for pid in last:
    assert os.waitpid(pid, 0)[1] == 0


def kill_once(task, draw: random.Random) -> None:
  """Kills a process some cells and a moment after its start."""
  cells = pathlib.Path(task['workdir'], 'cells')
  target = count(cells) + draw.randint(1, 2)
  pid = begin(task)
  while count(cells) < target:
    if os.waitpid(pid, os.WNOHANG)[0]:
      return  # it has ended by itself
    time.sleep(0.005)
  time.sleep(draw.uniform(0, 0.3))
  os.kill(pid, signal.SIGKILL)
  os.waitpid(pid, 0)


def count(cells: pathlib.Path) -> int:
  """Cells that are there."""
  return sum(1 for _ in cells.glob('*/metrics.json'))


def begin(task) -> int:
  """A process that makes the benchmark; its lines go to a file."""
  pid = os.fork()
  if pid:
    return pid
  log = os.open(task['log'], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
  os.dup2(log, 1)
  try:
    benchmark.benchmark(task['config'], pathlib.Path(task['workdir']))
  except BaseException as error:
    traceback.print_exception(error)
    os._exit(1)
  sys.stdout.flush()
  os._exit(0)


if __name__ == '__main__':
  main()
