"""Error rates at a threshold that is given, and the area under the ROC curve.

Scores: higher = more bona fide. Labels: spoof 0, bona fide 1. A trial is
accepted as bona fide if its score is at least the threshold, as in the
official `obtain_asv_error_rates`.

Shapes: N = trials.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxspoof.metrics.trials import select_trials


class Rates(NamedTuple):
  """Fractions in [0, 1].

  Attributes:
    miss: share of bona fide trials rejected.
    false_alarm: share of spoof trials accepted.
  """

  miss: float | jax.Array
  false_alarm: float | jax.Array


def is_traced(*values) -> bool:
  """Whether any value is traced by JAX (under jit, vmap, scan)."""
  return any(isinstance(x, jax.core.Tracer) for x in values)


def error_rates(
  scores, labels, threshold, mask=None, metric='error rates'
) -> Rates:
  """Miss and false-alarm rate of the decision `score >= threshold`.

  >>> error_rates([2.0, 0.5, 1.0], [1, 1, 0], 1.0)
  Rates(miss=0.5, false_alarm=1.0)

  Args:
    scores: float [N], higher = more bona fide.
    labels: int or bool [N], spoof 0, bona fide 1.
    threshold: float [].
    mask: bool [N], False = leave out; None = all are trials.
    metric: what the rates are for; errors begin with it.

  Returns:
    `Rates`: Python floats for concrete input; float32 [] for traced input,
    NaN if a class is empty or a score that counts is not finite.

  Raises:
    ValueError: concrete input, as for `eer`.
  """
  if is_traced(scores, labels, threshold, mask):
    return _traced_rates(scores, labels, threshold, mask)
  scores, labels, _ = select_trials(scores, labels, mask, metric)
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
    scores: float [N], higher = more bona fide; concrete.
    labels: int or bool [N], spoof 0, bona fide 1.
    mask: bool [N], False = leave out; None = all are trials.

  Returns:
    A fraction in [0, 1].

  Raises:
    ValueError: as for `eer`.
  """
  scores, labels, _ = select_trials(scores, labels, mask, 'auc')
  bonafide, spoof = scores[labels == 1], np.sort(scores[labels == 0])
  below = np.searchsorted(spoof, bonafide, 'left').sum(dtype=np.int64)
  not_above = np.searchsorted(spoof, bonafide, 'right').sum(dtype=np.int64)
  return float(below + not_above) / (2 * len(bonafide) * len(spoof))


def class_means(values, flags, mask):
  """Means over the flagged and the other trials, traced.

  Args:
    values: float32 [N]; what the mask leaves out is not read.
    flags: bool [N].
    mask: bool [N].

  Returns:
    (mean where flagged, mean elsewhere), float32 []; NaN over no trial.
  """

  def mean(chosen):
    total = jnp.sum(jnp.where(chosen, values, 0))
    return total / jnp.sum(chosen).astype(jnp.float32)

  return mean(flags & mask), mean(~flags & mask)


def traced_trials(scores, labels, mask):
  """Traced trials as (scores float32 [N], bona fide flags, mask)."""
  scores = jnp.asarray(scores).astype(jnp.float32)
  bonafide = jnp.asarray(labels).astype(jnp.int32) == 1
  mask = jnp.ones(scores.shape, bool) if mask is None else jnp.asarray(mask)
  return jnp.where(mask, scores, 0), bonafide, mask


def _traced_rates(scores, labels, threshold, mask) -> Rates:
  scores, bonafide, mask = traced_trials(scores, labels, mask)
  accepted = scores >= jnp.asarray(threshold).astype(jnp.float32)
  # Counted in integers: a float32 sum stops counting at 2**24.
  wrong = accepted != bonafide
  good = jnp.all(jnp.isfinite(scores))

  def rate(chosen):
    count, total = jnp.sum(wrong & chosen), jnp.sum(chosen)
    share = count.astype(jnp.float32) / total.astype(jnp.float32)
    return jnp.where(good, share, jnp.nan)

  return Rates(rate(bonafide & mask), rate(~bonafide & mask))
