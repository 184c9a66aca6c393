"""What is known of each clip of `demo_pages`; no audio is in the project."""

import collections
import csv
import gzip
import pathlib
from collections.abc import Iterator

FILE = pathlib.Path(__file__).with_name('clips.csv.gz')
FOLDS = 6


def read(only_open: bool) -> Iterator[dict[str, str]]:
  """Yields what is known of each clip, by the names of `clips.csv.gz`.

  Args:
    only_open: leave out repositories without an open licence.
  """
  with gzip.open(FILE, 'rt', newline='') as file:
    for row in csv.DictReader(file):
      if row['open'] == '1' or not only_open:
        yield row


def folds() -> dict[str, str]:
  """The fold of each repository that is in train or dev: fold1 to fold6.

  They are dealt out, the largest first, there and back, so that folds are
  alike in size; those with both classes and those with one apart. It is the
  same whatever licence is asked for.
  """
  clips, labels = collections.Counter(), collections.defaultdict(set)
  for row in read(only_open=False):
    if row['split'] in ('train', 'dev'):
      clips[row['repository']] += 1
      labels[row['repository']].add(row['label'])
  found = {}
  for both in (True, False):
    names = [name for name in sorted(clips) if (len(labels[name]) == 2) == both]
    names.sort(key=lambda name: -clips[name])
    for index, name in enumerate(names):
      turn, at = divmod(index, FOLDS)
      found[name] = f'fold{FOLDS - at if turn % 2 else at + 1}'
  return found
