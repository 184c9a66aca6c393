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
  if not 0 < prior < 1:
    raise ValueError(f'calibration: prior={prior}, expected in (0, 1)')
  scores, labels, _ = select_trials(scores, labels, None, 'calibration')
  scores, labels = scores.astype(np.float64), labels.astype(np.int64)
  # In units of their own spread, so that the search knows no scale.
  centre, spread = scores.mean(), scores.std()
  if not spread:
    return Affine(0.0, 0.0)
  x = (scores - centre) / spread
  bonafide = labels == 1
  count = np.array([np.sum(~bonafide), np.sum(bonafide)])
  target = np.where(bonafide, count[1] + 1, 1) / (count[labels] + 2)
  weight = np.array([1 - prior, prior])[labels] / count[labels]
  offset = math.log(prior / (1 - prior))

  def objective(values):
    slope, shift = values
    z = slope * x + shift + offset
    cost = np.logaddexp(0, z) - target * z
    slack = weight * (1 / (1 + np.exp(-np.clip(z, -700, 700))) - target)
    return float(weight @ cost), np.array([slack @ x, slack.sum()])

  found = scipy.optimize.minimize(
    objective,
    np.array([1.0, 0.0]),
    jac=True,
    method='L-BFGS-B',
    bounds=((0, None), (None, None)),
    options={'ftol': 1e-14, 'gtol': 1e-10, 'maxiter': 1000},
  )
  slope, shift = found.x
  return Affine(float(slope / spread), float(shift - slope * centre / spread))


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
