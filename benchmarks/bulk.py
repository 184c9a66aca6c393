"""Scores many clips by processes that are killed, and counts what came of it.

  python benchmarks/bulk.py FOLDER                # 5,000 clips, two processes
  python benchmarks/bulk.py FOLDER --kills=0      # how fast it is
  python benchmarks/bulk.py FOLDER --plan=1000000 # names alone, of no files

Clips of four seconds are made in FOLDER, one in a thousand of them damaged.
When a third of the shards is done, one process is killed (SIGKILL), and at two
thirds all of them, with the one that watches; then the same command is given
again. In the end each clip must have one row.
"""

import argparse
import collections
import csv
import os
import pathlib
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import soundfile

from jaxspoof.bulk import plan

RATE = 16_000
DAMAGED = 1000  # one clip in so many


def main(argv: list[str] | None = None) -> None:
  """Prints what happened; ends with status 1 where a clip is not there once."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('folder', type=pathlib.Path)
  parser.add_argument('--clips', type=int, default=5_000)
  parser.add_argument('--seconds', type=float, default=4.0, help='of a clip')
  parser.add_argument('--shard', type=int, default=100)
  parser.add_argument('--workers', type=int, default=2)
  parser.add_argument('--kills', type=int, default=2, help='0 to 2')
  parser.add_argument('--plan', type=int, help='only plan so many names')
  parser.add_argument('--checkpoint')
  options = parser.parse_args(argv)
  if options.plan:
    return time_plan(options.folder, options.plan)
  clips = options.folder / 'clips'
  made = write(clips, options.clips, options.seconds)
  out = options.folder / 'scored'
  command = [sys.executable, '-m', 'jaxspoof.bulk', '--input', str(clips)]
  command += ['--out', str(out), '--shard', str(options.shard)]
  command += ['--workers', str(options.workers)]
  if options.checkpoint:
    command += ['--checkpoint', options.checkpoint]
  shards = -(-len(made) // options.shard)
  run = start(command)
  if options.kills > 0:
    wait(run, out, shards // 3)
    one = children(run.pid)[-1]
    print(f'{len(plan.done(out))} of {shards} shards: one process is killed')
    os.kill(one, signal.SIGKILL)
  if options.kills > 1:
    wait(run, out, 2 * shards // 3)
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    before = kept(out)
    print(f'{len(before)} of {shards} shards: all are killed; the same again')
    run = start(command)
  status = run.wait()
  if options.kills > 1:
    same = sum(kept(out)[name] == when for name, when in before.items())
    print(f'{same} of {len(before)} shards were left as they were')
    if same < len(before):
      sys.exit('a shard was scored twice')
  rows = collections.Counter(x['path'] for x in rows_of(out))
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  cpu = used.ru_utime + used.ru_stime
  if not options.kills:  # else not all of it is known
    print(
      f'{cpu:,.0f} s of CPU time in all, {1000 * cpu / len(made):.0f} ms a '
      f'clip; {used.ru_maxrss / 2**20:.2f} GiB at most in a process'
    )
  wrong = {n for n, count in rows.items() if count > 1} | (made ^ rows.keys())
  print(
    f'{len(made):,} clips: {len(rows):,} of them have a row, '
    f'{len(wrong):,} not exactly one; exit status {status}'
  )
  if wrong:
    sys.exit(1)


def write(folder: pathlib.Path, count: int, seconds: float) -> set[str]:
  """Clips of a buzz, in folders of a hundred; returns their names."""
  size = round(seconds * RATE)
  random = np.random.default_rng(0)
  steps = 2 * np.pi * (120 + 20 * random.normal(size=size).cumsum() / 90) / RATE
  wave = 0.2 * np.sign(np.sin(np.cumsum(steps))) * random.random(size)
  names = set()
  for number in range(count):
    path = folder / f'{number // 100:04}' / f'{number:06}.flac'
    names.add(str(path))
    if path.exists():
      continue
    path.parent.mkdir(parents=True, exist_ok=True)
    if number % DAMAGED == DAMAGED // 2:
      path.write_bytes(b'fLaC is how a FLAC begins')
    else:
      soundfile.write(path, np.roll(wave, 37 * number), RATE)
  return names


def start(command: list[str]) -> subprocess.Popen:
  """A command in a group of its own, so that all of it can be killed."""
  return subprocess.Popen(command, start_new_session=True)


def wait(run: subprocess.Popen, out: pathlib.Path, shards: int) -> None:
  """Until so many shards are done."""
  while len(plan.done(out)) < shards:
    if run.poll() is not None:
      sys.exit(f'ended with status {run.returncode}, too soon')
    time.sleep(0.01)


def children(pid: int) -> list[int]:
  """Processes that a process has started."""
  path = pathlib.Path(f'/proc/{pid}/task/{pid}/children')
  return [int(one) for one in path.read_text().split()]


def kept(out: pathlib.Path) -> dict[str, int]:
  """When each file of scores was written."""
  return {p.name: p.stat().st_mtime_ns for p in out.glob('scores/*.csv')}


def rows_of(out: pathlib.Path):
  """All rows of all shards."""
  for path in sorted(out.glob('scores/*.csv')):
    with path.open(newline='') as file:
      yield from csv.DictReader(file)


def time_plan(folder: pathlib.Path, count: int) -> None:
  """Time and memory of a plan of files that are not there."""
  folder.mkdir(parents=True, exist_ok=True)
  table = folder / 'names.csv'
  with table.open('w') as file:
    file.write('path\n')
    file.writelines(
      f'archive/{n // 1000:05}/recording_{n:09}.flac\n' for n in range(count)
    )
  begin = time.process_time()
  found = plan.claim(folder / f'plan_{count}', [str(table)], 1000, {})
  seconds = time.process_time() - begin
  most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  print(
    f'{count:,} names, {found["shards"]:,} shards: {seconds:.1f} s of CPU '
    f'time, {most:.2f} GiB at most'
  )


if __name__ == '__main__':
  main()
