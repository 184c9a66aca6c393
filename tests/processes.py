"""Jobs as processes: started, ended and killed as their users do it."""

import json
import os
import pathlib
import signal
import subprocess
import time

from tests import warm

ROOT = pathlib.Path(__file__).parents[1]
_WITHOUT_PAGE = """
import runpy, sys
from tests import pages
del sys.argv[0]
with pages.none():
  runpy.run_path(sys.argv[0], run_name='__main__')
"""


def without_page(arguments):
  """The same job, but it draws no page: for tests that read none."""
  return [arguments[0], '-c', _WITHOUT_PAGE, *arguments[1:]]


def start(arguments, environment, popen=warm.Popen):
  """Starts a command in the root of the repository, in a group of its own."""
  return popen(
    arguments,
    cwd=ROOT,
    env=environment,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    start_new_session=True,
  )


def finish(process, expected=0):
  """What a process printed, once it has ended with the expected status."""
  try:
    output, _ = process.communicate(timeout=240)
  finally:
    if process.poll() is None:
      os.killpg(process.pid, signal.SIGKILL)
  assert process.returncode == expected, output
  return output


def kill_after_step(process, workdir, target, pause=0.0):
  """SIGKILL once a run has logged step `target`, or has ended."""
  wait_for_step(process, workdir, target)
  time.sleep(pause)
  os.killpg(process.pid, signal.SIGKILL)
  process.communicate()


def wait_for_step(process, workdir, target):
  """Returns once a run has logged step `target`, or has ended."""
  deadline = time.time() + 120
  while process.poll() is None and time.time() < deadline:
    path = workdir / 'metrics.jsonl'
    if path.exists() and path.read_text().count('\n') >= target:
      return
    time.sleep(0.02)


def lines_of(workdir):
  """The log of a run, line by line."""
  path = workdir / 'metrics.jsonl'
  return [json.loads(line) for line in path.read_text().splitlines()]
