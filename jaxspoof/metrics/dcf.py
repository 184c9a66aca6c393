"""Detection cost functions of a countermeasure: minDCF and actDCF.

The cost of a decision threshold is linear in its two error rates; so is that
of the tandem with speaker verification (`tdcf`). All of them are a `LinearCost`
that is minimised here, over the official operating points (`det.det_curve`).
The minimum does not depend on the order among equal scores: points inside a
tie cost at least as much as one of its ends.

Evaluation plan of ASVspoof 5 (2024), section 4. Scores: higher = more bona
fide. Labels: spoof 0, bona fide 1. Shapes: N = trials.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np

from jaxspoof.metrics.det import DetCurve, det_curve
from jaxspoof.metrics.rates import error_rates


class Minimum(NamedTuple):
  """The lowest normalised cost, and the first threshold that has it.

  A trial is accepted as bona fide if its score is above the threshold, as at
  the official operating points.
  """

  cost: float
  threshold: float


@dataclasses.dataclass(frozen=True)
class LinearCost:
  """(constant + miss * Pmiss + false_alarm * Pfa) / default.

  Attributes:
    constant: what even a perfect countermeasure costs.
    miss: weight of the miss rate.
    false_alarm: weight of the false-alarm rate.
    default: what it costs to accept everything or to reject everything,
      whichever is cheaper; costs are divided by it, so that 1 is worthless.
  """

  constant: float
  miss: float
  false_alarm: float
  default: float

  def __call__(self, miss, false_alarm):
    """Normalised cost at error rates, numbers or arrays of any shape."""
    cost = self.constant + self.miss * miss + self.false_alarm * false_alarm
    return cost / self.default


@dataclasses.dataclass(frozen=True)
class DcfCosts:
  """Costs and prior of ASVspoof 5.

  Attributes:
    spoof_prior: prior probability of a spoof trial.
    miss: cost of rejecting a bona fide trial.
    false_alarm: cost of accepting a spoof trial.

  Raises:
    ValueError: a prior outside (0, 1), a cost that is not above 0.
  """

  spoof_prior: float = 0.05
  miss: float = 1.0
  false_alarm: float = 10.0

  def __post_init__(self):
    if not 0 < self.spoof_prior < 1:
      raise ValueError(f'spoof_prior must lie in (0, 1); got {self}')
    if not (self.miss > 0 and self.false_alarm > 0):
      raise ValueError(f'costs must be above 0; got {self}')

  @property
  def linear(self) -> LinearCost:
    """The cost as a function of the error rates."""
    miss = self.miss * (1 - self.spoof_prior)
    false_alarm = self.false_alarm * self.spoof_prior
    return LinearCost(0.0, miss, false_alarm, min(miss, false_alarm))

  @property
  def threshold(self) -> float:
    """The threshold of least cost for calibrated LLRs (natural logarithm)."""
    return math.log(self.linear.false_alarm / self.linear.miss)


OFFICIAL = DcfCosts()


def min_dcf(scores, labels, costs: DcfCosts = OFFICIAL) -> Minimum:
  """Lowest normalised detection cost over all thresholds.

  >>> min_dcf([2.0, 0.5, 1.0, -1.0], [1, 1, 0, 0])
  Minimum(cost=0.5, threshold=-1.0)

  Args:
    scores: float [N], higher = more bona fide.
    labels: int or bool [N], spoof 0, bona fide 1.
    costs: costs and prior.

  Returns:
    `Minimum`, its cost in [0, 1]; scores that are all equal cost 1.

  Raises:
    ValueError: scores or labels are invalid, see `eer.eer`.
  """
  return minimum(det_curve(scores, labels, 'minDCF'), costs.linear)


def act_dcf(scores, labels, costs: DcfCosts = OFFICIAL) -> float:
  """Normalised detection cost at the Bayes threshold, -ln(0.95 / 0.5).

  This is what decisions cost if the scores are taken for log-likelihood ratios.
  It exceeds `min_dcf` by what is lost to bad calibration, and can exceed 1. For
  scores that are no log-likelihood ratios it means nothing.

  Args:
    scores: float [N], natural-log likelihood ratios, bona fide over spoof.
    labels: int or bool [N], spoof 0, bona fide 1.
    costs: costs and prior.

  Raises:
    ValueError: scores or labels are invalid, see `eer.eer`.
  """
  rates = error_rates(scores, labels, costs.threshold, 'actDCF')
  return costs.linear(*rates)


def minimum(curve: DetCurve, cost: LinearCost) -> Minimum:
  """The cheapest operating point of a curve, the first among equals.

  Args:
    curve: from `det_curve`.
    cost: what to minimise.
  """
  costs = cost(curve.miss, curve.false_alarm)
  at = np.argmin(costs)
  return Minimum(float(costs[at]), float(curve.threshold[at]))
