"""Cells: made once by any number of processes, whole or not there."""

import contextlib
import functools
import threading
import time

import pytest

from jaxspoof.runs import cells


def test_the_name_follows_from_the_key():
  key = {'weights': 'ab', 'seed': 1}
  name = cells.name_of(key)
  assert name == cells.name_of(dict(reversed(key.items())))
  assert name != cells.name_of({**key, 'seed': 2}) and name.isalnum()


def test_processes_share_the_work(tmp_path):
  """Each task is done once, also the one that somebody was killed at."""
  done, killed, begun = [], [], threading.Barrier(3)

  def task(name):
    if name == '5' and not killed:
      killed.append(name)
      raise RuntimeError('killed')
    time.sleep(0.01)  # so that others come and wait
    with cells.writing(tmp_path / name):
      done.append(name)

  def work():
    tasks = {str(n): functools.partial(task, str(n)) for n in range(20)}
    begun.wait()
    with contextlib.suppress(RuntimeError):
      cells.share(
        tmp_path / 'locks', tasks, lambda name: (tmp_path / name).is_dir()
      )

  threads = [threading.Thread(target=work) for _ in range(3)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert killed == ['5']
  assert sorted(done, key=int) == [str(n) for n in range(20)]


def test_a_cell_is_whole_or_not_there(tmp_path):
  cell = tmp_path / 'cell'
  (tmp_path / 'cell.1.partial').mkdir()  # of a process that was killed
  with pytest.raises(OSError, match='disk full'), cells.writing(cell) as folder:
    (folder / 'half').touch()
    raise OSError('disk full')
  assert not list(tmp_path.iterdir())
  with cells.writing(cell) as slower:
    (slower / 'slower').touch()
    cell.mkdir()
    (cell / 'faster').touch()
  assert [path.name for path in tmp_path.rglob('*')] == ['cell', 'faster']
