"""Error rates at a threshold that is given, and the area under the ROC curve.

Scores: higher = more bona fide. Labels: spoof 0, bona fide 1. A trial is
accepted as bona fide if its score is at least the threshold, as in the
official `obtain_asv_error_rates`.

Shapes: N = trials.
"""

from typing import NamedTuple

import numpy as np

from jaxspoof.metrics.trials import select_trials


class Rates(NamedTuple):
  """Fractions in [0, 1].

  Attributes:
    miss: share of bona fide trials rejected.
    false_alarm: share of spoof trials accepted.
  """

  miss: float
  false_alarm: float


def error_rates(scores, labels, threshold, metric='error rates') -> Rates:
  """Miss and false-alarm rate of the decision `score >= threshold`.

  >>> error_rates([2.0, 0.5, 1.0], [1, 1, 0], 1.0)
  Rates(miss=0.5, false_alarm=1.0)

  Args:
    scores: float [N], higher = more bona fide.
    labels: int or bool [N], spoof 0, bona fide 1.
    threshold: lowest score that is accepted as bona fide.
    metric: what the rates are for; errors begin with it.

  Raises:
    ValueError: scores or labels are invalid, see `eer.eer`.
  """
  scores, labels, _ = select_trials(scores, labels, None, metric)
  accepted = scores.astype(np.float64) >= threshold
  return Rates(
    float(np.mean(~accepted[labels == 1])),
    float(np.mean(accepted[labels == 0])),
  )


def auc(scores, labels, mask=None) -> float:
  """Area under the ROC curve: how often bona fide scores above spoof.

  The share of all pairs of a bona fide and a spoof trial where the bona fide
  one scores higher; equal scores count half (Mann & Whitney, 1947). Unlike the
  EER it does not depend on an order among equals, and is counted in integers.

  >>> auc([2.0, 1.0, 1.0], [1, 1, 0])
  0.75

  Args:
    scores: float [N], higher = more bona fide.
    labels: int or bool [N], spoof 0, bona fide 1.
    mask: bool [N], False = leave out; None = all are trials.

  Returns:
    A fraction in [0, 1].

  Raises:
    ValueError: scores or labels are invalid, see `eer.eer`.
  """
  scores, labels, _ = select_trials(scores, labels, mask, 'auc')
  bonafide, spoof = scores[labels == 1], np.sort(scores[labels == 0])
  below = np.searchsorted(spoof, bonafide, 'left').sum(dtype=np.int64)
  not_above = np.searchsorted(spoof, bonafide, 'right').sum(dtype=np.int64)
  return float(below + not_above) / (2 * len(bonafide) * len(spoof))
