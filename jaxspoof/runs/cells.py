"""Results that are kept by what they follow from, and made only once.

A cell is a folder that is called by a hash of everything that its content
follows from. It is written beside its place and renamed when it is whole, so
that a process that is killed leaves no half of one. Processes that share a
folder divide the cells among themselves: each holds the lock of the one that it
makes, which the system lets go of with the process.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from typing import Any


def name_of(key: Mapping[str, Any]) -> str:
  """The name of the cell that follows from `key`, which JSON can hold."""
  text = json.dumps(key, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()[:32]


def share(
  locks: pathlib.Path,
  tasks: Mapping[str, Callable[[], None]],
  done: Callable[[str], bool],
) -> int:
  """Does each task that is not done; returns when all are, whoever did them.

  What another process is at is left to it, and waited for in the end; where
  that process was killed meanwhile, it is done here.

  Args:
    locks: folder of the locks.
    tasks: what to do, by name.
    done: whether a task has been done, by this process or another.

  Returns:
    How many this process has done.
  """
  count = 0
  for wait in (False, True):
    for name, task in tasks.items():
      if done(name):
        continue
      with _claimed(locks / f'{name}.lock', wait) as ours:
        if ours and not done(name):
          task()
          count += 1
  return count


@contextlib.contextmanager
def _claimed(path: pathlib.Path, wait: bool) -> Iterator[bool]:
  """Whether this process holds a lock; True where there can be no locks."""
  path.parent.mkdir(parents=True, exist_ok=True)
  with path.open('a') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
      yield False
      return
    except OSError:  # a file system without: the work is done twice at worst
      pass
    yield True


@contextlib.contextmanager
def writing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """A folder to write into, which takes the place `path` once it is whole.

  Who writes holds the lock of the cell: what lies beside it is removed.
  Where another process has put one there meanwhile, that one stays: it follows
  from the same. What a process that was killed has left of it is removed.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  for left in path.parent.glob(f'{path.name}.*.partial'):
    shutil.rmtree(left, ignore_errors=True)
  partial = path.with_name(f'{path.name}.{os.getpid()}.partial')
  partial.mkdir()
  try:
    yield partial
    try:
      os.rename(partial, path)
    except OSError:
      if not path.is_dir():
        raise
  finally:
    shutil.rmtree(partial, ignore_errors=True)
