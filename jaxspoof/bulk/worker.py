"""A process with a detector, which scores one shard after the other."""

import collections
import csv
import functools
import io
import itertools
import os
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures

import numpy as np

from jaxspoof.audio import AudioError, Clip
from jaxspoof.bulk import clips, cores, plan
from jaxspoof.detect import outputs
from jaxspoof.detect.serve import decoding
from jaxspoof.detector import Detection, Detector, Failure
from jaxspoof.machine import files, programs
from jaxspoof.runs import cells, names

_AHEAD = 4  # recordings that are decoded before they are needed, per thread


def main(folder: str) -> None:
  """Works until all shards are done; ends with the process that began it."""
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
  threading.Thread(target=_end_with_parent, daemon=True).start()
  try:
    work(pathlib.Path(folder))
  except (ValueError, OSError) as error:
    print(f'bulk: error: {error}', file=sys.stderr)
    sys.exit(2)


def _end_with_parent() -> None:
  os.read(sys.stdin.fileno(), 1)  # until there is nobody who could write
  os._exit(1)


def work(folder: pathlib.Path) -> int:
  """Scores the shards of a folder that nobody has scored.

  Returns:
    How many this process has scored.

  Raises:
    ValueError: a checkpoint that cannot be used, or is another one than the
      folder was begun with.
  """
  programs.keep()
  planned = plan.read(folder)
  settings = dict(planned['settings'])
  channel = settings.pop('channel')
  checkpoint = settings.pop('checkpoint')
  if checkpoint is not None:
    checkpoint = os.path.join(planned['root'], checkpoint)
  detector = Detector.load(checkpoint, None, **settings)
  identity = detector.identity(channel=channel)
  detector.logits([np.zeros(detector.samples, np.float32)])  # compiles
  claim(folder, identity)
  decoder = decoding.Decoder(float('inf'), detector.samples)
  read = functools.partial(_decode, decoder, channel)
  try:
    return cells.share(
      folder / 'locks',
      {
        f'{shard:05}': functools.partial(
          _score, folder, shard, planned['root'], detector, identity, read
        )
        for shard in sorted(set(range(planned['shards'])) - plan.done(folder))
      },
      lambda name: plan.scores_of(folder, int(name)).exists(),
    )
  finally:
    decoder.close()


def claim(folder: pathlib.Path, identity: str) -> None:
  """Notes the detector of a folder, or refuses another one.

  Raises:
    ValueError: it is another one, or has other settings.
  """
  path = folder / plan.DETECTOR
  if not path.exists():
    files.write_json(path, {'detector': identity})
  elif (found := names.read_json(path)['detector']) != identity:
    raise ValueError(
      f'{path}: scores there are of another detector ({found}, not {identity}'
      '); name another folder'
    )


def _score(
  folder: pathlib.Path,
  shard: int,
  root: str,
  detector: Detector,
  identity: str,
  read: Callable[[clips.Item], Clip | Failure],
) -> None:
  """Scores a shard, and leaves its rows whole or not at all."""
  begin = time.perf_counter()
  left_out: list[int] = []
  results = _results(
    detector, clips.read(plan.list_of(folder, shard), root), read, left_out
  )
  count = failed = 0
  scored = heard = 0.0
  named = set()
  buffer = io.StringIO(newline='')
  rows = csv.writer(buffer, lineterminator='\n')
  rows.writerow(outputs.COLUMNS)
  for result in results:
    rows.writerow(outputs.row(result, identity))
    named.add(result.path)
    count += 1
    if isinstance(result, Failure):
      failed += 1
    else:
      scored, heard = scored + result.scored, heard + result.duration
  assert count == len(named), f'shard {shard}: a recording has two rows'
  found = {
    'clips': count,
    'failed': failed,
    'left_out': sum(left_out),
    'scored': scored,
    'duration': heard,
    'seconds': time.perf_counter() - begin,
  }
  files.write_json(plan.statistics_of(folder, shard), found)
  path = plan.scores_of(folder, shard)
  for left in path.parent.glob(f'{path.name}.*.partial'):  # by one that died
    left.unlink(missing_ok=True)
  with files.replacing(path) as file:
    file.write(buffer.getvalue().encode('utf-8', 'surrogateescape'))
    file.flush()
    os.fsync(file.fileno())  # else a power failure may leave an empty file


def _results(
  detector: Detector,
  items: Iterator[clips.Item],
  read: Callable[[clips.Item], Clip | Failure],
  left_out: list[int],
) -> Iterator[Detection | Failure]:
  """Scores what can be decoded; the others follow, with their errors."""
  failures: list[Failure] = []

  def decoded():
    for name, found in _ahead(items, read, left_out):
      if isinstance(found, Failure):
        failures.append(found)
      else:
        yield name, found

  named, heard = itertools.tee(decoded())
  yield from detector.score_many(
    (clip for _, clip in heard), names=(name for name, _ in named)
  )
  yield from failures


def _ahead(
  items: Iterator[clips.Item], read, left_out: list[int]
) -> Iterator[tuple[str, Clip | Failure]]:
  """Decodes in threads, each of which has a process, in the order of items."""
  threads = len(cores.own())
  waiting: collections.deque = collections.deque()
  with futures.ThreadPoolExecutor(threads) as pool:
    for item in items:
      if item.left_out:
        left_out.append(item.left_out)
        continue
      waiting.append((item.name, pool.submit(read, item)))
      if len(waiting) > _AHEAD * threads:
        name, future = waiting.popleft()
        yield name, future.result()
    for name, future in waiting:
      yield name, future.result()


def _decode(
  decoder: decoding.Decoder, channel: int | None, item: clips.Item
) -> Clip | Failure:
  """The part of a recording that is scored, or why there is none."""
  if item.source is None:
    return Failure(item.name, item.error)
  try:
    return decoder.read(item.source, item.name, channel=channel).clip
  except AudioError as error:
    return Failure(item.name, str(error))
