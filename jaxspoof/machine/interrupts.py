"""Ctrl-C, or a package that is missing, ends a program with one line."""

import gc
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

STATUS = 130  # of a program that was interrupted, as shells have it
_OURS = ('jaxspoof', 'tfds_builders', 'configs')


def call(
  function: Callable[[], Any], say: Callable[[], str] = lambda: 'interrupted'
) -> Any:
  """Calls the main function of a program.

  Args:
    function: the program; its `finally` clauses run.
    say: gives the line for the person who interrupted it.

  Returns:
    What the function returns. After Ctrl-C the process ends at once, with
    `STATUS`: taking Python down under threads that compile or save ends in
    crashes and in pages of tracebacks.

  Raises:
    SystemExit: the program needs a package that is not installed, as where
      there is only what detection needs. The status is 2.
  """
  sys.unraisablehook = _deliver_again
  try:
    return function()
  except ModuleNotFoundError as error:
    package = (error.name or '').partition('.')[0]
    if not package or package in _OURS:
      raise
    print(
      f'error: this needs the package {package}, which is not installed: '
      'pip install -r requirements.txt',
      file=sys.stderr,
    )
    raise SystemExit(2) from error
  except KeyboardInterrupt:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # the next one is final
  # Here the traceback is gone, and with it what the program held on to.
  gc.collect()
  for child in multiprocessing.active_children():
    child.terminate()
  sys.stdout.flush()
  # Another line may be half written, or end in the ^C of the terminal.
  print(f'\n{say()}', file=sys.stderr, flush=True)
  os._exit(STATUS)


def _deliver_again(unraisable) -> None:
  """Sends Ctrl-C once more where it came at a moment that cannot pass it on.

  Python hands it to whatever it is running. That may be a finalizer or JAX's
  callback of the garbage collector, whose exceptions are reported and dropped:
  the program would go on.
  """
  if not issubclass(unraisable.exc_type, KeyboardInterrupt):
    sys.__unraisablehook__(unraisable)
    return
  soon = threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGINT])
  soon.daemon = True
  soon.start()
