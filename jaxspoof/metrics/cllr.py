"""Cost of log-likelihood ratios (Brummer & du Preez, 2006, equation 17).

Shapes: N = trials.
"""

import math

import numpy as np

from jaxspoof.metrics.trials import select_trials


def cllr(scores, labels) -> float:
  """How good scores are as log-likelihood ratios, in bits.

  >>> cllr([0.0, 0.0], [1, 0])
  1.0

  Args:
    scores: float [N], natural-log likelihood ratios, bona fide over spoof.
    labels: int or bool [N], spoof 0, bona fide 1.

  Returns:
    0 for perfect scores, 1 for scores that say nothing, more for misleading
    ones.

  Raises:
    ValueError: scores or labels are invalid, see `eer.eer`.
  """
  scores, labels, _ = select_trials(scores, labels, None, 'Cllr')
  bits = penalties(scores, labels)
  return float(np.mean(bits[labels == 1]) + np.mean(bits[labels == 0])) / 2


def penalties(scores, labels) -> np.ndarray:
  """What each trial costs, in bits.

  Args:
    scores: float [N].
    labels: int [N], spoof 0, bona fide 1.

  Returns:
    float64 [N]: log2(1 + exp(-score)) if bona fide, log2(1 + exp(score)) if
    spoof, finite for every finite score.
  """
  scores = np.asarray(scores, np.float64)
  wrong = np.where(np.asarray(labels) == 1, -scores, scores)
  return np.logaddexp(0.0, wrong) / math.log(2)
