"""The recordings that a detector knows, and whether another is like them.

A detector trained on one corpus gives any input a score, and outside of what it
has learned from the score means nothing. What is known of that corpus is kept:
the usual range of each measure (`audio.measures`), and where embeddings lie.

The distance of an embedding is that to the nearest of the means of bona fide
and spoof clips, in units of the spread around them (Lee et al., 2018, arXiv
1807.03888), in the directions in which the clips differ most; what is left
beside these directions counts by its own spread.

Letters in names: N clips, E size of the embedding, C classes, R directions.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from jaxspoof.audio.measures import MEASURES

FEWEST = 20  # clips; of fewer nothing can be said
DIRECTIONS = 48
_SHARE = 0.005  # of the clips that may lie below, and above, a range
_WIDER = 0.15  # of the distance from the 5th to the 95th percentile
_FEW = 40  # clips; of so few the ends of a range are known half as well
_USUAL = 0.99  # share of the clips within the limit of the distance
_SLACK = 1.05  # on that limit


@dataclasses.dataclass(frozen=True)
class Space:
  """Where the embeddings of known clips lie.

  Attributes:
    centres: float32 [C, E].
    axes: float32 [R, E], orthonormal.
    scales: float32 [R + 1], deviations along the axes, and beside them.
  """

  centres: np.ndarray
  axes: np.ndarray
  scales: np.ndarray

  def check(self, where: object) -> None:
    """Raises ValueError where the arrays do not belong together."""
    (_, size), (count, width) = self.centres.shape, self.axes.shape
    if width != size or len(self.scales) != count + 1 or count > size:
      raise ValueError(
        f'{where}: domain: centres {self.centres.shape}, axes '
        f'{self.axes.shape} and scales {self.scales.shape} do not belong '
        'together'
      )
    if not (self.scales > 0).all():
      raise ValueError(f'{where}: domain/scales: expected numbers above 0')

  def distance(self, embedding_NxE: np.ndarray) -> np.ndarray:
    """Distances [N] to what is known, in deviations; about 1 is usual.

    Raises:
      ValueError: embeddings of another size.
    """
    if embedding_NxE.shape[1] != self.centres.shape[1]:
      raise ValueError(
        f'embeddings of {embedding_NxE.shape[1]} numbers, the training domain '
        f'was learned from {self.centres.shape[1]}: a bundle of another model?'
      )
    x = np.asarray(embedding_NxE, np.float64)[:, None] - self.centres[None]
    along = x @ self.axes.T
    beside = np.square(x).sum(-1) - np.square(along).sum(-1)
    left = max(x.shape[-1] - len(self.axes), 0)
    total = np.square(along / self.scales[:-1]).sum(-1)
    if left:
      total += np.maximum(beside, 0) / np.square(self.scales[-1])
    return np.sqrt(total.min(axis=1) / x.shape[-1])


@dataclasses.dataclass(frozen=True)
class Domain:
  """What is usual.

  Attributes:
    ranges: lowest and highest value by name of the measure.
    space: of the embeddings; None where it is not known.
    limit: the largest usual distance.
    clips: number of clips that this follows from.
  """

  ranges: Mapping[str, tuple[float, float]]
  space: Space | None
  limit: float
  clips: int

  def doubts(
    self, measured: Mapping[str, float], embedding_E: np.ndarray | None = None
  ) -> tuple[str, ...]:
    """Why a clip is not like those that are known; nothing if it is.

    Args:
      measured: by name of the measure.
      embedding_E: of the clip.

    Returns:
      Sentences.
    """
    found = []
    for name, (low, high) in self.ranges.items():
      value, known = measured[name], MEASURES[name]
      # A longer clip is cut, and so a clip can only be too short.
      above = value > high and name != 'duration'
      if value < low or above:
        found.append(
          f'{known.words} {_say(value)} {known.unit}'.rstrip()
          + f', outside {_say(low)} to {_say(high)} of the training domain'
        )
    if self.space is not None and embedding_E is not None:
      distance = float(self.space.distance(embedding_E[None])[0])
      if not distance <= self.limit:
        found.append(
          'sounds unlike the recordings of the training domain (distance '
          f'{distance:.2f}, usual up to {self.limit:.2f})'
        )
    return tuple(found)


def fit(
  measured: Sequence[Mapping[str, float]],
  embedding_NxE: np.ndarray | None = None,
  label_N: np.ndarray | None = None,
) -> Domain | None:
  """Learns what is usual.

  Args:
    measured: of each clip its measures.
    embedding_NxE: of any clips, not of those in `measured` alone.
    label_N: of the embeddings, spoof 0, bona fide 1.

  Returns:
    The domain; None where there are too few clips.
  """
  if len(measured) < FEWEST:
    return None
  ranges = {}
  for name, known in MEASURES.items():
    values = np.array([clip[name] for clip in measured])
    low, p5, p95, high = np.quantile(values, (_SHARE, 0.05, 0.95, 1 - _SHARE))
    share = _WIDER * (1 + _FEW / len(values))
    wider = max(known.margin, share * (p95 - p5))
    ranges[name] = float(low - wider), float(high + wider)
  if embedding_NxE is None or len(embedding_NxE) < FEWEST:
    return Domain(ranges, None, 0.0, len(measured))
  space = make_space(embedding_NxE, label_N)
  limit = _SLACK * float(np.quantile(apart(embedding_NxE, label_N), _USUAL))
  return Domain(ranges, space, limit, len(measured))


def make_space(embedding_NxE: np.ndarray, label_N: np.ndarray) -> Space:
  """Centres of the classes, and the spread around them."""
  x = np.asarray(embedding_NxE, np.float64)
  classes = np.unique(label_N)
  centres = np.stack([x[label_N == c].mean(axis=0) for c in classes])
  rest = x - centres[np.searchsorted(classes, label_N)]
  _, deviations, axes = np.linalg.svd(rest, full_matrices=False)
  variances = np.square(deviations) / max(len(x) - len(classes), 1)
  # No more directions than there are clips to tell their spread.
  count = min(DIRECTIONS, len(x) // 4, x.shape[1])
  beside = np.square(rest).sum() / max(len(x) - len(classes), 1)
  beside = (beside - variances[:count].sum()) / max(x.shape[1] - count, 1)
  smallest = 1e-6 * max(float(variances[0]), 1e-12)
  scales = np.sqrt(np.maximum([*variances[:count], beside], smallest))
  return Space(
    centres.astype(np.float32),
    axes[:count].astype(np.float32),
    scales.astype(np.float32),
  )


def apart(embedding_NxE: np.ndarray, label_N: np.ndarray) -> np.ndarray:
  """Distances of clips to the others: each half to a space of the other.

  A clip is nearer to what was made of itself than a new one would be.
  """
  x, label = np.asarray(embedding_NxE), np.asarray(label_N)
  half = np.empty(len(x), int)
  for name in np.unique(label):
    chosen = np.flatnonzero(label == name)
    half[chosen] = np.arange(len(chosen)) % 2
  found = np.empty(len(x))
  for this in (0, 1):
    others = half != this
    found[~others] = make_space(x[others], label[others]).distance(x[~others])
  return found


def _say(value: float) -> str:
  return f'{value:.3g}'
