"""Trials on the host: checked, in the official order, padded to few lengths."""

from typing import NamedTuple

import numpy as np

SMALLEST_BUCKET = 4096  # so that small corpora share one compiled program


class Undefined(ValueError):
  """Valid scores for which a metric is not defined."""


class SortedTrials(NamedTuple):
  """Trials of both classes in the official order, on the host.

  Attributes:
    scores: [N] ascending, in the precision they came in.
    bonafide: bool [N].
    order: int [N], where each trial was before sorting.
  """

  scores: np.ndarray
  bonafide: np.ndarray
  order: np.ndarray


def sort_trials(scores, labels, mask=None, metric='eer') -> SortedTrials:
  """Check concrete trials and bring them into the official order.

  Args:
    scores: float [N].
    labels: int or bool [N], spoof 0, bona fide 1.
    mask: bool [N], True for the trials to keep; None keeps all.
    metric: what the trials are for; error messages begin with it.

  Returns:
    The trials that the mask keeps, ascending, bona fide first among equals.

  Raises:
    ValueError: scores or labels are invalid, see `eer.eer`.
  """
  scores, labels, index = select_trials(scores, labels, mask, metric)
  # Bona fide first, then a stable sort: that is the official order.
  first = np.argsort(labels == 0, kind='stable')
  order = first[np.argsort(scores[first], kind='stable')]
  return SortedTrials(scores[order], labels[order] == 1, index[order])


def select_trials(scores, labels, mask, metric):
  """Check concrete trials and keep what the mask keeps, in its order.

  Args:
    scores: float [N].
    labels: int or bool [N], spoof 0, bona fide 1.
    mask: bool [N], True for the trials to keep; None keeps all.
    metric: what the trials are for; error messages begin with it.

  Returns:
    (scores, labels, where each trial was), numpy arrays of one length.

  Raises:
    ValueError: scores or labels are invalid, see `eer.eer`.
  """
  scores, labels = np.asarray(scores), np.asarray(labels)
  kept = np.ones(scores.shape, bool) if mask is None else np.asarray(mask, bool)
  if scores.ndim != 1 or not scores.shape == labels.shape == kept.shape:
    raise ValueError(
      f'{metric}: scores, labels and mask must be vectors of one length; got '
      f'shapes {scores.shape}, {labels.shape}, {kept.shape}'
    )
  index = np.flatnonzero(kept)
  scores, labels = scores[index], labels[index]
  _check(scores, labels, metric)
  return scores, labels, index


class Ties(NamedTuple):
  """Equal scores of bona fide and spoof trials, whose order is arbitrary.

  The official convention rejects the bona fide trial of equal ones first, which
  gives the highest EER; the other order gives the lowest.

  Attributes:
    trials: number of trials with a score that trials of both classes have.
    score: the most frequent of these scores.
    most: number of trials that have it.
    optimistic: float [N], scores that sort the other way: of equal ones the
      spoof trial is rejected first.
  """

  trials: int
  score: float
  most: int
  optimistic: np.ndarray


def ties(scores, labels) -> Ties | None:
  """Finds ties between bona fide and spoof trials; None if there are none.

  Args:
    scores: float [N].
    labels: int [N], spoof 0, bona fide 1.
  """
  values, group = np.unique(scores, return_inverse=True)
  count = np.bincount(group)
  bonafide = np.bincount(group, np.asarray(labels) == 1)
  both = np.where((bonafide > 0) & (bonafide < count), count, 0)
  if not both.any():
    return None
  most = int(np.argmax(both))
  optimistic = 2.0 * group + labels
  return Ties(int(both.sum()), float(values[most]), int(both[most]), optimistic)


def bucket(count: int) -> int:
  """The padded length for `count` trials: a power of two, at least 4,096."""
  return max(SMALLEST_BUCKET, 1 << (count - 1).bit_length())


def pad(x_N: np.ndarray) -> np.ndarray:
  """Fill a vector with zeros up to the length of its bucket."""
  return np.pad(x_N, (0, bucket(len(x_N)) - len(x_N)))


def _check(scores, labels, metric):
  """Raise ValueError where no error rate is defined."""
  if not np.isin(labels, (0, 1)).all():
    raise ValueError(
      f'{metric}: labels must be 0 (spoof) or 1 (bona fide); got '
      f'{np.unique(labels)[:5].tolist()}'
    )
  bonafide = int(np.sum(labels == 1))
  if not 0 < bonafide < len(labels):
    raise ValueError(
      f'{metric}: needs bona fide and spoof trials; got '
      f'{bonafide} bona fide and {len(labels) - bonafide} spoof'
    )
  broken = np.flatnonzero(~np.isfinite(scores))
  if len(broken):
    raise ValueError(
      f'{metric}: scores must be finite; {len(broken)} of {len(scores)} are '
      f'not, the first at index {broken[0]}: {scores[broken[0]]}'
    )
