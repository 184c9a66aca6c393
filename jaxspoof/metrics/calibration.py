"""Scores made log-likelihood ratios, and thresholds chosen on them.

A calibration is affine: `llr = slope * score + intercept`, with natural
logarithms, positive for bona fide. It is fitted by logistic regression in which
both classes count by a prior and not by how many trials there are (Brummer & du
Preez, 2006), with Platt's targets (1999): where trials of both classes are
apart, a plain fit would be of no limit, and n trials cannot prove a likelihood
ratio much beyond n.

Everything here is numpy and scipy: no JAX. Scores: higher = more bona fide.
Labels: spoof 0, bona fide 1. Shapes: N = trials.
"""

import dataclasses
import math

import numpy as np
import scipy

from jaxspoof.metrics import dcf
from jaxspoof.metrics.cllr import cllr
from jaxspoof.metrics.det import det_curve
from jaxspoof.metrics.rates import error_rates
from jaxspoof.metrics.trials import select_trials

PRIOR = 0.5  # of bona fide, in the fit: what Cllr measures
FALSE_ALARMS = (0.01, 0.001)  # rates of the named operating points


@dataclasses.dataclass(frozen=True)
class Affine:
  """Scores to log-likelihood ratios.

  Attributes:
    slope: at least 0.
    intercept: in nats.
  """

  slope: float
  intercept: float

  def __call__(self, scores):
    """Log-likelihood ratios of bona fide over spoof, float64, in nats."""
    return self.slope * np.asarray(scores, np.float64) + self.intercept


@dataclasses.dataclass(frozen=True)
class Fusion:
  """Scores of several systems to one log-likelihood ratio.

  Attributes:
    weights: float64 [K], each at least 0.
    intercept: in nats.
  """

  weights: np.ndarray
  intercept: float

  def __call__(self, scores_NxK) -> np.ndarray:
    """Log-likelihood ratios of bona fide over spoof, float64 [N], in nats."""
    return np.asarray(scores_NxK, np.float64) @ self.weights + self.intercept


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
  """A threshold, and the errors at it on the trials that it was chosen on.

  Attributes:
    name: how it was chosen.
    threshold: a log-likelihood ratio in nats; from it on speech is accepted
      as bona fide.
    miss: share of bona fide trials rejected.
    false_alarm: share of spoof trials accepted.
    proven: whether there were enough spoof trials for the false-alarm rate that
      the point is named after; True for other points.
  """

  name: str
  threshold: float
  miss: float
  false_alarm: float
  proven: bool = True


def fit(scores, labels, prior: float = PRIOR) -> Affine:
  """Fits a calibration.

  Args:
    scores: float [N], of any scale.
    labels: int or bool [N], spoof 0, bona fide 1.
    prior: probability of bona fide at which errors count most.

  Returns:
    The calibration. Its slope is 0 where scores of bona fide trials are on the
    whole no higher than those of spoofs.

  Raises:
    ValueError: scores or labels are invalid, see `eer.eer`, or the prior is not
      in (0, 1).
  """
  fusion = fuse(np.asarray(scores)[:, None], labels, prior)
  return Affine(float(fusion.weights[0]), fusion.intercept)


def fuse(scores_NxK, labels, prior: float = PRIOR) -> Fusion:
  """Fits a weighted sum of the scores of systems as a log-likelihood ratio.

  Args:
    scores_NxK: float, of any scale, a column for each system.
    labels: int or bool [N], spoof 0, bona fide 1.
    prior: probability of bona fide at which errors count most.

  Returns:
    The fusion. No weight is below 0: higher scores are never worse.

  Raises:
    ValueError: as `fit`.
  """
  if not 0 < prior < 1:
    raise ValueError(f'calibration: prior={prior}, expected in (0, 1)')
  scores_KxN = np.asarray(scores_NxK).T
  for scores in scores_KxN:
    _, labels, _ = select_trials(scores, labels, None, 'calibration')
  labels = labels.astype(np.int64)
  # In units of their own spread, so that the search knows no scale.
  x_NxK = scores_KxN.T.astype(np.float64)
  centre_K, spread_K = x_NxK.mean(0), x_NxK.std(0)
  told_K = spread_K > 0  # a system that says the same of all says nothing
  if not told_K.any():
    return Fusion(np.zeros(len(told_K)), 0.0)
  spread_K = np.where(told_K, spread_K, 1.0)
  x_NxK = (x_NxK - centre_K) / spread_K
  bonafide = labels == 1
  count = np.array([np.sum(~bonafide), np.sum(bonafide)])
  target = np.where(bonafide, count[1] + 1, 1) / (count[labels] + 2)
  weight = np.array([1 - prior, prior])[labels] / count[labels]
  offset = math.log(prior / (1 - prior))

  def objective(values):
    z = x_NxK @ values[:-1] + values[-1] + offset
    cost = np.logaddexp(0, z) - target * z
    slack = weight * (1 / (1 + np.exp(-np.clip(z, -700, 700))) - target)
    return float(weight @ cost), np.append(slack @ x_NxK, slack.sum())

  found = scipy.optimize.minimize(
    objective,
    np.append(told_K.astype(np.float64), 0.0),
    jac=True,
    method='L-BFGS-B',
    bounds=(*((0, None) for _ in told_K), (None, None)),
    options={'ftol': 1e-14, 'gtol': 1e-10, 'maxiter': 1000},
  )
  weights = found.x[:-1] * told_K / spread_K
  return Fusion(weights, float(found.x[-1] - weights @ centre_K))


def figures(scores, labels) -> dict[str, float]:
  """Cllr, actDCF and minDCF of scores taken as log-likelihood ratios."""
  return {
    'cllr': cllr(scores, labels),
    'act_dcf': dcf.act_dcf(scores, labels),
    'min_dcf': dcf.min_dcf(scores, labels).cost,
  }


def threshold_of(llr, labels, false_alarm: float) -> OperatingPoint:
  """The lowest threshold at which no more spoofs pass than asked for.

  Args:
    llr: float [N], log-likelihood ratios.
    labels: int or bool [N], spoof 0, bona fide 1.
    false_alarm: highest share of spoof trials that may be accepted, (0, 1).

  Returns:
    The point. With fewer than 1 / `false_alarm` spoof trials, none may pass,
    and `proven` is False.

  Raises:
    ValueError: scores or labels are invalid, see `eer.eer`, or the rate is not
      in (0, 1).
  """
  if not 0 < false_alarm < 1:
    raise ValueError(f'false-alarm rate {false_alarm}: expected in (0, 1)')
  llr, labels, _ = select_trials(llr, labels, None, 'operating point')
  llr = llr.astype(np.float64)
  spoof = np.sort(llr[labels == 0])
  allowed = math.floor(false_alarm * len(spoof) + 1e-9)
  # Above the highest of those that must not pass.
  threshold = float(np.nextafter(spoof[len(spoof) - allowed - 1], np.inf))
  rates = error_rates(llr, labels, threshold)
  name = f'{100 * false_alarm:g} % false alarm'
  return OperatingPoint(name, threshold, *rates, proven=allowed > 0)


def operating_points(llr, labels) -> list[OperatingPoint]:
  """The points that people ask for.

  Args:
    llr: float [N], log-likelihood ratios.
    labels: int or bool [N], spoof 0, bona fide 1.

  Returns:
    'EER', where both errors are closest; 'minDCF', of least cost at the costs
    and the prior of ASVspoof 5; and one for each of `FALSE_ALARMS`.

  Raises:
    ValueError: scores or labels are invalid, see `eer.eer`.
  """
  curve = det_curve(llr, labels, 'operating points')
  closest = int(np.argmin(np.abs(curve.miss - curve.false_alarm)))
  chosen = {
    'EER': float(curve.threshold[closest]),
    'minDCF': dcf.minimum(curve, dcf.OFFICIAL.linear).threshold,
  }
  found = []
  for name, value in chosen.items():
    # Official points accept above the threshold, decisions from it on.
    threshold = float(np.nextafter(value, np.inf))
    rates = error_rates(llr, labels, threshold)
    found.append(OperatingPoint(name, threshold, *rates))
  return found + [threshold_of(llr, labels, rate) for rate in FALSE_ALARMS]
