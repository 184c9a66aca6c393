"""Source tracing: closed-set figures, and open-set answers.

Labels: the known classes are 0 .. K - 1, in the order of a model's outputs; K
is `unknown`: in the truth an attack that training has not seen, as an answer
the refusal to name a known one.

Closed set: trials of known classes, answered by the largest output. Open set:
every trial; the answer becomes `unknown` where a score of being known is below
a threshold chosen on dev. There are two such scores, both higher = known:

- the largest output: a cosine, or a logit, which tells unknown classes apart
  better than the probability does (Vaze et al., ICLR 2022, arXiv 2110.06207);
- the cosine to the k-th nearest embedding of the train split (Sun et al., ICML
  2022, arXiv 2204.06507).

Letters in names: N trials, C classes (with `unknown` where it counts), D size
of an embedding.
"""

from typing import NamedTuple

import numpy as np

from jaxspoof.metrics.rates import auc

QUANTILE = 0.05  # of known dev trials answered `unknown`, where dev has none
NEIGHBOURS = 5
_BLOCK = 1 << 24  # cosines held at once, 64 MB


class Figures(NamedTuple):
  """How good answers are.

  Attributes:
    accuracy: share of trials answered right.
    macro_f1: mean F1 of the classes that have trials.
    precision: float64 [C], share of the answers of a class that are right; 0
      where there are none.
    recall: float64 [C], share of the trials of a class that are answered
      right; 0 where there are none.
    f1: float64 [C], harmonic mean of the two.
    confusion: int64 [C, C], trials by truth (row) and answer (column).
  """

  accuracy: float
  macro_f1: float
  precision: np.ndarray
  recall: np.ndarray
  f1: np.ndarray
  confusion: np.ndarray

  @property
  def trials(self) -> np.ndarray:
    """Trials of each class, int64 [C]."""
    return self.confusion.sum(axis=1)


class Threshold(NamedTuple):
  """The score below which an answer is `unknown`, and how it was chosen."""

  value: float
  chosen_by: str


def figures(truth, answers, classes: int) -> Figures:
  """Accuracy, precision, recall, F1, and what is taken for what.

  ADD 2023 ranks track 3 by a macro-F1 over its known classes and `unknown`,
  all of which have trials there. As we read its description, that is the mean
  of the F1 of each class, not the F1 of the mean precision and recall. A class
  without trials does not count, but answers that name it are wrong ones of the
  others.

  >>> figures([0, 0, 1], [0, 1, 1], 2).macro_f1
  0.6666666666666666

  Args:
    truth: int [N], 0 .. classes - 1.
    answers: int [N], 0 .. classes - 1.
    classes: number of classes, `unknown` included where it counts.

  Raises:
    ValueError: there is no trial, lengths differ, or a label is no class.
  """
  truth, answers = _labels(truth, answers, classes)
  confusion = np.zeros((classes, classes), np.int64)
  np.add.at(confusion, (truth, answers), 1)
  right, trials = np.diag(confusion), confusion.sum(axis=1)
  named = confusion.sum(axis=0)
  f1 = _ratio(2 * right, trials + named)
  return Figures(
    float(right.sum() / trials.sum()),
    float(f1[trials > 0].mean()),
    _ratio(right, named),
    _ratio(right, trials),
    f1,
    confusion,
  )


def majority(truth, train_labels, classes: int) -> Figures:
  """Figures of always naming the class that train has most clips of.

  Args:
    truth: int [N].
    train_labels: int [M], the label of each training clip.
    classes: number of classes, `unknown` included where it counts.
  """
  most = np.bincount(train_labels, minlength=classes).argmax()
  return figures(truth, np.full(len(truth), most), classes)


def nearest(
  train_MxD: np.ndarray, embeddings_NxD: np.ndarray, k: int = NEIGHBOURS
) -> np.ndarray:
  """Cosine to the k-th nearest embedding of the train split.

  Args:
    train_MxD: float [M, D], of known classes.
    embeddings_NxD: float [N, D], not of the train split: a clip would be its
      own neighbour.
    k: 1 for the nearest; M where that is fewer.

  Returns:
    float32 [N] in [-1, 1], higher = known.

  Raises:
    ValueError: k below 1, no training clip, or other sizes of embeddings.
  """
  train_MxD, embeddings_NxD = map(_unit, (train_MxD, embeddings_NxD))
  if k < 1 or not len(train_MxD):
    raise ValueError(
      f'nearest: k={k} neighbours among {len(train_MxD)} training clips; '
      'expected at least 1 of both'
    )
  if train_MxD.shape[1] != embeddings_NxD.shape[1]:
    raise ValueError(
      f'nearest: embeddings of {train_MxD.shape[1]} and of '
      f'{embeddings_NxD.shape[1]} numbers; expected those of one model'
    )
  k = min(k, len(train_MxD))
  rows = max(1, _BLOCK // len(train_MxD))
  found = [np.zeros(0, np.float32)]
  for start in range(0, len(embeddings_NxD), rows):
    cosine = embeddings_NxD[start : start + rows] @ train_MxD.T
    found.append(np.partition(cosine, -k, axis=1)[:, -k])
  return np.clip(np.concatenate(found), -1, 1)


def choose_threshold(
  scores, truth, answers, classes: int, quantile: float = QUANTILE
) -> Threshold:
  """Chooses on dev below which score an answer becomes `unknown`.

  Where dev has unknown trials, the threshold with the highest macro-F1 over
  the known classes and `unknown`, the lowest of equals: it lies halfway
  between two scores, or at infinity. Where it has none, the largest threshold
  that refuses no more than the share `quantile` of the dev trials.

  Args:
    scores: float [N], higher = known.
    truth: int [N]; `classes` is unknown.
    answers: int [N], the known class that would be named.
    classes: number K of known classes.
    quantile: in [0, 1).

  Raises:
    ValueError: no trial, scores that are not finite, or labels that do not
      fit.
  """
  truth, answers = _labels(truth, answers, classes + 1)
  scores = np.asarray(scores, np.float64)
  if scores.shape != truth.shape or not np.isfinite(scores).all():
    raise ValueError(
      f'choose_threshold: expected {len(truth)} finite scores, got '
      f'shape {scores.shape}, {np.sum(~np.isfinite(scores))} not finite'
    )
  if not 0 <= quantile < 1:
    raise ValueError(f'quantile={quantile}: expected a share, 0 to below 1')
  if not (truth == classes).any():
    refused = int(quantile * len(scores))
    return Threshold(
      float(np.sort(scores)[refused]),
      f'{quantile:.0%} of the dev trials are refused: dev has no unknown ones',
    )
  order = np.argsort(scores, kind='stable')
  scores = scores[order]
  macro_f1 = _macro_f1_by_refused(truth[order], answers[order], classes)
  # Equal scores are refused together.
  possible = np.append(True, np.append(np.diff(scores) > 0, True))
  best = int(np.argmax(np.where(possible, macro_f1, -1)))
  edges = np.concatenate([[-np.inf], scores, [np.inf]])
  return Threshold(
    float(edges[best] / 2 + edges[best + 1] / 2),
    f'highest macro-F1 on dev, {macro_f1[best]:.4f}, with its unknown trials',
  )


def decide(answers, scores, threshold: float, unknown: int) -> np.ndarray:
  """Open-set answers, int [N]: `unknown` where the score is below."""
  # Thresholds lie between scores: at float32 they would fall on one.
  below = np.asarray(scores, np.float64) < threshold
  return np.where(below, unknown, answers)


def auroc(scores, truth, unknown: int) -> float | None:
  """How often a known trial scores above an unknown one; equal ones half.

  Args:
    scores: float [N], higher = known.
    truth: int [N].
    unknown: label of what is not known.

  Returns:
    Area under the ROC curve in [0, 1]; None where there are known trials only,
    or unknown ones only.
  """
  known = np.asarray(truth) != unknown
  if known.all() or not known.any():
    return None
  return auc(scores, known)


def _macro_f1_by_refused(truth, answers, classes: int) -> np.ndarray:
  """Macro-F1, float64 [N + 1], where the first n trials are refused."""
  every = np.arange(classes + 1)
  named_NxC = answers[:, None] == every
  is_NxC = truth[:, None] == every
  # Of each class: right answers, and answers, that refusing takes away.
  right_NxC = _before(named_NxC & is_NxC)
  named_NxC = _before(named_NxC)
  right_NxC = right_NxC[-1] - right_NxC
  named_NxC = named_NxC[-1] - named_NxC
  right_NxC[:, classes] += _before(truth == classes)
  named_NxC[:, classes] += np.arange(len(truth) + 1)
  trials_C = is_NxC.sum(axis=0)
  f1_NxC = _ratio(2 * right_NxC, trials_C + named_NxC)
  return f1_NxC[:, trials_C > 0].mean(axis=1)


def _before(flags: np.ndarray) -> np.ndarray:
  """How many are true among the first n, n = 0 .. N."""
  counts = np.cumsum(flags, axis=0, dtype=np.int64)
  return np.concatenate([np.zeros_like(counts[:1]), counts])


def _ratio(part, whole) -> np.ndarray:
  """`part / whole`, and 0 where `whole` is 0."""
  return part / np.maximum(whole, 1)


def _unit(x_NxD) -> np.ndarray:
  x_NxD = np.asarray(x_NxD, np.float32)
  norm = np.linalg.norm(x_NxD, axis=1, keepdims=True)
  return x_NxD / np.maximum(norm, np.finfo(np.float32).tiny)


def _labels(truth, answers, classes: int) -> tuple[np.ndarray, np.ndarray]:
  truth, answers = np.asarray(truth), np.asarray(answers)
  if truth.ndim != 1 or truth.shape != answers.shape or not truth.size:
    raise ValueError(
      'source tracing: truth and answers must be vectors of one length, at '
      f'least 1; got shapes {truth.shape} and {answers.shape}'
    )
  for name, labels in (('truth', truth), ('answers', answers)):
    if labels.dtype.kind not in 'iu' or not (
      0 <= labels.min() and labels.max() < classes
    ):
      raise ValueError(
        f'source tracing: {name} must be integers 0 to {classes - 1}; got '
        f'{np.unique(labels)[:10].tolist()}'
      )
  return truth, answers
