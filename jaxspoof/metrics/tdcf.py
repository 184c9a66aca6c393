"""Tandem detection cost of a countermeasure in front of speaker verification.

Two formulas are in use and give different numbers:

- legacy, ASVspoof 2019: Kinnunen et al., "t-DCF: a Detection Cost Function for
  the Tandem Assessment of Spoofing Countermeasures and Automatic Speaker
  Verification", Odyssey 2018, equation 10, normalised;
- revised, ASVspoof 2021: Kinnunen et al., "Tandem Assessment of Spoofing
  Countermeasures and Automatic Speaker Verification: Fundamentals", IEEE/ACM
  TASLP 2020, equations 10 to 12.

The verification system (ASV) is fixed: it enters by its error rates at its own
EER threshold. Shapes: N = countermeasure trials.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from jaxspoof.metrics.dcf import LinearCost, Minimum, minimum
from jaxspoof.metrics.det import det_curve, equal_error
from jaxspoof.metrics.trials import Undefined

FEWEST_SCORES = 3  # different ones: fewer are decisions


class AsvRates(NamedTuple):
  """Errors of the verification system at one threshold, fractions.

  Attributes:
    miss: share of target trials rejected.
    false_alarm: share of nontarget trials accepted.
    spoof_false_alarm: share of spoof trials accepted.
    eer: equal error rate of targets against nontargets.
    threshold: a trial is accepted if its score is at least that.
  """

  miss: float
  false_alarm: float
  spoof_false_alarm: float
  eer: float = float('nan')
  threshold: float = float('nan')


@dataclasses.dataclass(frozen=True)
class Priors:
  """Prior probabilities of who is speaking.

  Attributes:
    target: the speaker that is claimed.
    nontarget: another person.
    spoof: a machine.

  Raises:
    ValueError: one is negative, or their sum is not 1 (to 1e-10).
  """

  target: float = 0.95 * 0.99
  nontarget: float = 0.95 * 0.01
  spoof: float = 0.05

  def __post_init__(self):
    values = (self.target, self.nontarget, self.spoof)
    if min(values) < 0 or abs(sum(values) - 1) > 1e-10:
      raise ValueError(f'priors must be at least 0 and sum to 1; got {self}')


def _check_costs(costs):
  values = {k: v for k, v in vars(costs).items() if k != 'priors'}
  if not min(values.values()) >= 0:
    raise ValueError(f'costs must be at least 0; got {values}')


@dataclasses.dataclass(frozen=True)
class LegacyCosts:
  """Costs of ASVspoof 2019, for each of the two systems.

  Attributes:
    asv_miss: verification rejects a target.
    asv_false_alarm: verification accepts a nontarget.
    cm_miss: the countermeasure rejects bona fide speech.
    cm_false_alarm: the countermeasure accepts a spoof.
    priors: who is speaking how often.

  Raises:
    ValueError: a negative cost.
  """

  asv_miss: float = 1.0
  asv_false_alarm: float = 10.0
  cm_miss: float = 1.0
  cm_false_alarm: float = 10.0
  priors: Priors = Priors()

  def __post_init__(self):
    _check_costs(self)


@dataclasses.dataclass(frozen=True)
class RevisedCosts:
  """Costs of ASVspoof 2021, of the two systems together.

  Attributes:
    miss: a target is rejected.
    false_alarm: a nontarget is accepted.
    spoof_false_alarm: a spoof is accepted.
    priors: who is speaking how often.

  Raises:
    ValueError: a negative cost.
  """

  miss: float = 1.0
  false_alarm: float = 10.0
  spoof_false_alarm: float = 10.0
  priors: Priors = Priors()

  def __post_init__(self):
    _check_costs(self)


LEGACY, REVISED = LegacyCosts(), RevisedCosts()


def asv_rates(target, nontarget, spoof) -> AsvRates:
  """Errors of a verification system at its EER threshold.

  Args:
    target: float [T], scores of trials where the claimed person speaks.
    nontarget: float [M], scores of trials where another person speaks.
    spoof: float [S], scores of spoofed trials.

  Raises:
    ValueError: an empty list, a score that is not finite.
  """
  parts = [np.asarray(x, np.float64) for x in (target, nontarget, spoof)]
  for name, part in zip(('target', 'nontarget', 'spoof'), parts, strict=True):
    if part.ndim != 1 or not len(part) or not np.isfinite(part).all():
      raise ValueError(
        f'ASV: {name} scores must be a vector of finite numbers, not empty; '
        f'got shape {part.shape}, '
        f'{np.sum(~np.isfinite(part))} of them not finite'
      )
  target, nontarget, spoof = parts
  labels = np.repeat([1, 0], [len(target), len(nontarget)])
  value, threshold = equal_error(np.concatenate([target, nontarget]), labels)
  return AsvRates(
    float(np.mean(target < threshold)),
    float(np.mean(nontarget >= threshold)),
    float(np.mean(spoof >= threshold)),
    value,
    threshold,
  )


def legacy_cost(asv: AsvRates, costs: LegacyCosts = LEGACY) -> LinearCost:
  """The t-DCF of 2019 as a function of the countermeasure's error rates.

  Args:
    asv: errors of the verification system.
    costs: costs and priors.

  Raises:
    ValueError: a weight of an error rate is negative, or none is above 0: the
      verification system errs too much for this cost.
  """
  priors = costs.priors
  miss = priors.target * (costs.cm_miss - costs.asv_miss * asv.miss)
  miss -= priors.nontarget * costs.asv_false_alarm * asv.false_alarm
  spoof = costs.cm_false_alarm * priors.spoof * asv.spoof_false_alarm
  return _linear('legacy t-DCF', 0.0, miss, spoof, asv)


def revised_cost(asv: AsvRates, costs: RevisedCosts = REVISED) -> LinearCost:
  """The t-DCF of 2021 as a function of the countermeasure's error rates.

  Args:
    asv: errors of the verification system.
    costs: costs and priors.

  Raises:
    ValueError: a weight of an error rate is negative, or none is above 0: the
      verification system errs too much for this cost.
  """
  priors = costs.priors
  constant = priors.target * costs.miss * asv.miss
  constant += priors.nontarget * costs.false_alarm * asv.false_alarm
  miss = priors.target * costs.miss - constant
  spoof = priors.spoof * costs.spoof_false_alarm * asv.spoof_false_alarm
  return _linear('revised t-DCF', constant, miss, spoof, asv)


def min_tdcf_legacy(
  scores, labels, asv: AsvRates, costs: LegacyCosts = LEGACY
) -> Minimum:
  """Lowest normalised t-DCF, as published for ASVspoof 2019.

  Args:
    scores: float [N], higher = more bona fide.
    labels: int or bool [N], spoof 0, bona fide 1.
    asv: errors of the verification system.
    costs: costs and priors.

  Raises:
    ValueError: scores or labels are invalid, see `eer.eer`, or the verification
      system errs too much for this cost, see `legacy_cost`.
    Undefined: a kind of ValueError: there are fewer than three different
      scores, so that these are decisions, of which there is no lowest cost.
  """
  return _min_tdcf(scores, labels, legacy_cost(asv, costs))


def min_tdcf_revised(
  scores, labels, asv: AsvRates, costs: RevisedCosts = REVISED
) -> Minimum:
  """Lowest normalised t-DCF, as published for ASVspoof 2021.

  Args:
    scores: float [N], higher = more bona fide.
    labels: int or bool [N], spoof 0, bona fide 1.
    asv: errors of the verification system.
    costs: costs and priors.

  Returns:
    `Minimum`; its cost cannot fall below constant / default.

  Raises:
    ValueError: for the reasons that `min_tdcf_legacy` gives.
  """
  return _min_tdcf(scores, labels, revised_cost(asv, costs))


def _min_tdcf(scores, labels, cost: LinearCost) -> Minimum:
  curve = det_curve(scores, labels, 't-DCF')
  _check_soft(curve.threshold[1:])
  return minimum(curve, cost)


def _check_soft(scores):
  """Raise Undefined for scores that are decisions in truth."""
  if (different := len(np.unique(scores))) < FEWEST_SCORES:
    raise Undefined(
      f't-DCF: needs soft scores, at least {FEWEST_SCORES} different ones; got '
      f'{different}: are they decisions?'
    )


def _linear(name, constant, miss, spoof, asv: AsvRates) -> LinearCost:
  if not (miss >= 0 and spoof >= 0 and constant + min(miss, spoof) > 0):
    raise ValueError(
      f'{name}: the weights of misses and false alarms must not be negative, '
      f'and the default cost above 0; got {miss} and {spoof}, constant '
      f'{constant}, with {asv}'
    )
  return LinearCost(constant, miss, spoof, constant + min(miss, spoof))
