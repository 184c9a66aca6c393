"""A split in two halves that share no speaker.

An architecture search trains weights on one half and the architecture on the
other. Trials of one speaker agree, and a spoof is often made of a bona fide
clip of its speaker, so whole speakers go to one side.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxspoof.data.source import Source, Trials, trials

CLASSES = {1: 'bona fide', 0: 'spoof'}


@dataclasses.dataclass(frozen=True)
class Chosen:
  """Some records of a sequence, in the order of `indices`."""

  records: Sequence[Mapping[str, Any]]
  indices: np.ndarray

  def __len__(self) -> int:
    return len(self.indices)

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    return self.records[int(self.indices[index])]


def halve(source: Sequence[Mapping[str, Any]], seed: int = 0):
  """Divides the records of a source into two halves by speaker.

  Args:
    source: records, from `open_source` or any sequence of such dictionaries.
    seed: which of many divisions of like size is taken.

  Returns:
    Two `Source`s: every record is in one of them, no speaker in both, and
    both hold both classes.

  Raises:
    ValueError: there is only one class, or a class has fewer than two speakers.
  """
  name = getattr(source, 'name', 'the source')
  split = getattr(source, 'split', 'train')
  parts = halves(trials(source), seed, f'{name} {split}')
  return tuple(
    Source(Chosen(source, indices), name, f'{split}, half {number}')
    for number, indices in enumerate(parts, 1)
  )


def halves(
  known: Trials, seed: int = 0, name: str = 'the source'
) -> tuple[np.ndarray, np.ndarray]:
  """Record numbers of two halves that share no speaker.

  Two speakers of each class are kept apart first, so that both halves hold
  both classes whenever that is possible. The others follow by falling number
  of records, each to where it leaves the shares of both classes closer to one
  half.

  Args:
    known: speaker and label of each record.
    seed: decides between equals, and which half is the first.
    name: what error messages call the source.

  Returns:
    Two int arrays, rising.

  Raises:
    ValueError: one class only, or a class with fewer than two speakers.
  """
  speakers, which = np.unique(known.speaker, return_inverse=True)
  counts = [
    np.bincount(which[known.label == k], minlength=len(speakers))
    for k in (0, 1)
  ]
  counts_SxK = np.stack(counts, axis=1)
  _check(counts_SxK, name)
  rng = np.random.default_rng(seed)
  order = rng.permutation(len(speakers))
  order = order[np.argsort(-counts_SxK[order].sum(1), kind='stable')]
  side = np.zeros(len(speakers), int)  # -1 and 1: the halves; 0: not placed
  for label in CLASSES:
    _keep_apart([s for s in order if counts_SxK[s, label]][:2], side)
  shares_SxK = counts_SxK / counts_SxK.sum(0)
  for speaker in order:
    if not side[speaker]:
      lead_K = side @ shares_SxK
      ways = [
        np.square(lead_K + way * shares_SxK[speaker]).sum() for way in (1, -1)
      ]
      side[speaker] = 1 if ways[0] <= ways[1] else -1
  side *= rng.choice([-1, 1])
  return tuple(np.flatnonzero(side[which] == way) for way in (1, -1))


def _keep_apart(pair: list[int], side: np.ndarray) -> None:
  """Puts two speakers on different sides; one of them may have one already."""
  first, second = pair
  if side[first]:
    side[second] = -side[first]
  elif side[second]:
    side[first] = -side[second]
  else:
    side[first], side[second] = 1, -1


def _check(counts_SxK: np.ndarray, name: str) -> None:
  for label, words in CLASSES.items():
    if not counts_SxK[:, label].sum():
      raise ValueError(
        f'{name} holds {counts_SxK.sum():,} records, none of them {words}: '
        'expected both classes, bona fide and spoof'
      )
  for label, words in CLASSES.items():
    found = int((counts_SxK[:, label] > 0).sum())
    if found < 2:
      raise ValueError(
        f'{name} is too small to halve: its {words} records are of {found} '
        'speaker, expected 2 or more, for no speaker may be in both halves'
      )
