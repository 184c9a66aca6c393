"""Divides recordings into train, dev and eval, and says what is doubtful."""

import collections
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from tfds_builders.errors import BuildError
from tfds_builders.records import generator
from tfds_builders.wav_folder.manifest import Row

SHARES = {'train': 0.6, 'dev': 0.2, 'eval': 0.2}
SEED = 'wav_folder 0'


def divide(
  rows: Sequence[Row], by_speaker: bool, of: object
) -> dict[str, list[Row]]:
  """Divides into 60 % train, 20 % dev and 20 % eval, each class about so.

  Args:
    rows: the recordings.
    by_speaker: all recordings of a speaker go into one split; else each goes
      where chance puts it.
    of: the table, for messages.

  Returns:
    Rows by split, the same for the same rows.

  Raises:
    BuildError: fewer speakers (or recordings) than splits.
  """
  groups = collections.defaultdict(list)
  for row in rows:
    groups[row.speaker if by_speaker else row.utterance].append(row)
  if len(groups) < len(SHARES):
    what = 'speakers' if by_speaker else 'recordings'
    raise BuildError(
      f'{of}: {len(groups)} {what} cannot be divided into {", ".join(SHARES)}; '
      'expected at least 3, or a column `split`'
    )
  return _fill(groups)


def _fill(groups: dict[str, list[Row]]) -> dict[str, list[Row]]:
  """Puts group after group, the large ones first, where most is lacking."""
  shares = np.array(list(SHARES.values()))
  counts = {name: _classes(group) for name, group in groups.items()}
  total = np.maximum(sum(counts.values()), 1)
  filled = np.zeros((len(SHARES), 2))  # of each class, as a share of all
  splits = {split: [] for split in SHARES}
  names = sorted(groups)
  generator(SEED).shuffle(names)
  names.sort(key=lambda name: -len(groups[name]))  # stable: ties by chance
  for left, name in zip(range(len(names), 0, -1), names, strict=True):
    share = counts[name] / total
    lacking = (shares[:, None] - filled) / shares[:, None]
    gain = lacking @ share
    empty = [not rows for rows in splits.values()]
    if sum(empty) >= left:  # the last ones go where nobody is
      gain = np.where(empty, gain, -np.inf)
    chosen = int(np.argmax(gain))
    filled[chosen] += share
    splits[list(SHARES)[chosen]] += groups[name]
  return splits


def _classes(rows: Sequence[Row]) -> np.ndarray:
  bona_fide = sum(row.bona_fide for row in rows)
  return np.array([len(rows) - bona_fide, bona_fide], float)


def warnings(splits: dict[str, list[Row]], speakers: bool) -> list[str]:
  """Says what makes results on these splits doubtful."""
  found = []
  for split, rows in splits.items():
    if missing := {True, False} - {row.bona_fide for row in rows}:
      name = 'bona fide' if True in missing else 'spoof'
      found.append(f'{split} has no {name} recordings: no EER there')
  if not speakers:
    return found
  where = collections.defaultdict(set)
  for split, rows in splits.items():
    for row in rows:
      where[row.speaker].add(split)
  shared = sorted(name for name, places in where.items() if len(places) > 1)
  if shared:
    some = ', '.join(shared[:5]) + (', ...' if len(shared) > 5 else '')
    found.append(
      f'{len(shared)} speakers are in several splits ({some}): a detector may '
      'learn who speaks'
    )
  return found


class Heard:
  """What was heard while the recordings were read: copies, and doubts.

  Recordings are the same if their samples at 16 kHz are, whatever the file is
  called and however it is encoded without loss.

  Args:
    divided: the recordings by split.
  """

  def __init__(self, divided: Mapping[str, Sequence[Row]]):
    self._rows = {
      row.number: (split, row)
      for split, rows in divided.items()
      for row in rows
    }
    self._copies = collections.defaultdict(list)
    self._doubts = collections.defaultdict(list)

  def add(self, number: int, wave: np.ndarray, doubts: Sequence[str]) -> None:
    """Notes one recording; called in threads.

    Args:
      number: number of its row in the table.
      wave: float32 [samples].
      doubts: what is odd about the recording, as sentences.
    """
    self._copies[hashlib.sha256(wave).digest()].append(number)
    for doubt in doubts:
      self._doubts[number].append(doubt)

  def warnings(self) -> list[str]:
    """Says what makes results on these recordings doubtful."""
    twice = [sorted(found) for found in self._copies.values() if found[1:]]
    leaks = [c for c in twice if len({self._rows[n][0] for n in c}) > 1]
    split_labels = [
      c for c in twice if len({self._rows[n][1].bona_fide for n in c}) > 1
    ]
    found = []
    if leaks:
      found.append(
        f'the same audio is in several splits, {len(leaks)} recordings '
        f'({self._named(leaks)}): results are better than the detector is'
      )
    if split_labels:
      found.append(
        f'the same audio is bona fide and spoof, {len(split_labels)} '
        f'recordings ({self._named(split_labels)}): one of the labels is wrong'
      )
    doubts = sorted(self._doubts.items())
    found += [f'row {n}: {"; ".join(said)}' for n, said in doubts[:10]]
    if more := len(doubts) - 10:
      found += [f'{more} more rows are doubtful'] if more > 0 else []
    return found

  def _named(self, copies: list[list[int]]) -> str:
    """The first copies by row and split."""
    shown = [
      ' and '.join(f'row {n} in {self._rows[n][0]}' for n in numbers[:3])
      for numbers in sorted(copies)[:3]
    ]
    return '; '.join(shown) + ('; ...' if len(copies) > 3 else '')
