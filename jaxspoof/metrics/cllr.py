"""Cost of log-likelihood ratios (Brummer & du Preez, 2006, equation 17).

Shapes: N = trials.
"""

import math

import jax.numpy as jnp
import numpy as np

from jaxspoof.metrics.rates import class_means, is_traced, traced_trials
from jaxspoof.metrics.trials import select_trials


def cllr(scores, labels, mask=None):
  """How good scores are as log-likelihood ratios, in bits.

  >>> cllr([0.0, 0.0], [1, 0])
  1.0

  Args:
    scores: float [N], natural-log likelihood ratios, bona fide over spoof.
    labels: int or bool [N], spoof 0, bona fide 1.
    mask: bool [N], False = leave out; None = all are trials.

  Returns:
    0 for perfect scores, 1 for scores that say nothing, more for misleading
    ones. float; float32 [] for traced input, NaN if a class is empty or a
    score that counts is not finite.

  Raises:
    ValueError: concrete input, as for `eer`.
  """
  if is_traced(scores, labels, mask):
    return _traced_cllr(scores, labels, mask)
  scores, labels, _ = select_trials(scores, labels, mask, 'Cllr')
  bits = penalties(scores, labels)
  return float(np.mean(bits[labels == 1]) + np.mean(bits[labels == 0])) / 2


def penalties(scores, labels) -> np.ndarray:
  """What each trial costs, in bits.

  Args:
    scores: float [N], concrete.
    labels: int [N], spoof 0, bona fide 1.

  Returns:
    float64 [N]: log2(1 + exp(-score)) if bona fide, log2(1 + exp(score)) if
    spoof, finite for every finite score.
  """
  scores = np.asarray(scores, np.float64)
  wrong = np.where(np.asarray(labels) == 1, -scores, scores)
  return np.logaddexp(0.0, wrong) / math.log(2)


def _traced_cllr(scores, labels, mask):
  scores, bonafide, mask = traced_trials(scores, labels, mask)
  bits = jnp.logaddexp(jnp.zeros((), jnp.float32), _signed(scores, bonafide))
  target, other = class_means(bits / math.log(2), bonafide, mask)
  good = jnp.all(jnp.isfinite(scores))
  return jnp.where(good, (target + other) / 2, jnp.nan)


def _signed(scores, bonafide):
  return jnp.where(bonafide, -scores, scores)
