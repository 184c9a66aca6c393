"""Metrics of spoofing-aware speaker verification: a-DCF and t-EER.

Three classes of trials: the claimed person speaks (target), another person
does (nontarget), a machine does (spoof). Each trial is an operating point of
its own; of equal scores, targets are rejected first, then nontargets, then
spoofs, as in the official code. Everything runs on the host, in float64.

Shapes: N = verification trials, K = countermeasure trials.
"""

import dataclasses
from typing import NamedTuple

import numpy as np

from jaxspoof.metrics.dcf import Minimum
from jaxspoof.metrics.det import det_curve
from jaxspoof.metrics.tdcf import Priors
from jaxspoof.metrics.trials import Undefined

FIRST_STEP = 1e-8  # below the lowest score: the point that accepts all


@dataclasses.dataclass(frozen=True)
class ADcfCosts:
  """Costs and priors of ASVspoof 5.

  Attributes:
    miss: a target is rejected.
    false_alarm: a nontarget is accepted.
    spoof_false_alarm: a spoof is accepted.
    priors: who is speaking how often.

  Raises:
    ValueError: a cost that is not above 0.
  """

  miss: float = 1.0
  false_alarm: float = 10.0
  spoof_false_alarm: float = 10.0
  priors: Priors = Priors()

  def __post_init__(self):
    if not min(self.miss, self.false_alarm, self.spoof_false_alarm) > 0:
      raise ValueError(f'costs must be above 0; got {self}')


class TandemEer(NamedTuple):
  """Concurrent t-EER, a fraction, and the two thresholds it lies at."""

  eer: float
  cm_threshold: float
  asv_threshold: float


class _Curves(NamedTuple):
  """Error rates of a verification system at each threshold, [N + 1]."""

  miss: np.ndarray
  false_alarm: np.ndarray
  spoof_false_alarm: np.ndarray
  threshold: np.ndarray


OFFICIAL = ADcfCosts()


def a_dcf(target, nontarget, spoof, costs: ADcfCosts = OFFICIAL) -> Minimum:
  """Lowest normalised architecture-agnostic detection cost.

  Shim et al., "a-DCF: an architecture agnostic metric with application to
  spoofing-robust speaker verification", Odyssey 2024, equations 2 and 5: one
  score and one threshold decide against nontargets and spoofs at once.

  Args:
    target: float [T], scores, higher = more like the bona fide target.
    nontarget: float [M], scores.
    spoof: float [S], scores.
    costs: costs and priors.

  Returns:
    `Minimum`, its cost in [0, 1].

  Raises:
    ValueError: an empty list, a score that is not finite.
  """
  curves = _curves('a-DCF', target, nontarget, spoof)
  priors = costs.priors
  weights = np.array(
    [
      costs.miss * priors.target,
      costs.false_alarm * priors.nontarget,
      costs.spoof_false_alarm * priors.spoof,
    ]
  )
  default = min(weights[0], weights[1] + weights[2])
  if not default > 0:
    raise ValueError(f'a-DCF: the default cost must be above 0; got {costs}')
  cost_N = weights @ np.stack(curves[:3]) / default
  at = np.argmin(cost_N)
  return Minimum(float(cost_N[at]), float(curves.threshold[at]))


def t_eer(bonafide, cm_spoof, target, nontarget, spoof, rho=0.5) -> TandemEer:
  """Concurrent tandem equal error rate.

  Kinnunen et al., "t-EER: Parameter-Free Tandem Evaluation of Countermeasures
  and Biometric Comparators", IEEE TPAMI 2024. At each verification threshold
  the countermeasure threshold is chosen where misses and false alarms of the
  tandem are closest; of these pairs, the one counts at which nontargets and
  spoofs pass equally often. No threshold is left out, unlike in the official
  accelerated code, which decimates first.

  Args:
    bonafide: float [B], countermeasure scores, higher = more bona fide.
    cm_spoof: float [K - B], countermeasure scores of spoofs.
    target: float [T], verification scores.
    nontarget: float [M], verification scores.
    spoof: float [S], verification scores of spoofs.
    rho: share of spoofs among the trials to be rejected, in (0, 1).

  Returns:
    `TandemEer`; the rate is a fraction (the official code gives percent).

  Raises:
    ValueError: an empty list, a score that is not finite, rho outside (0, 1).
    Undefined: a ValueError: no pair of thresholds where both rates balance.
  """
  if not 0 < rho < 1:
    raise ValueError(f't-EER: rho must lie in (0, 1); got {rho}')
  asv = _curves('t-EER', target, nontarget, spoof)
  cm = det_curve(*_labelled(bonafide, cm_spoof), metric='t-EER')
  accepted = (1 - rho) * asv.false_alarm + rho * asv.spoof_false_alarm
  asv = _Curves(*(x[asv.miss < accepted] for x in asv))
  at_N = _balance(cm, asv, rho)
  passed = 1 - cm.miss[at_N]
  with np.errstate(divide='ignore', invalid='ignore'):
    gap_N = np.abs(
      asv.false_alarm / asv.spoof_false_alarm - cm.false_alarm[at_N] / passed
    )
  gap_N[np.isnan(gap_N)] = np.inf
  if not np.isfinite(gap_N).any():
    raise Undefined(
      't-EER: nontargets and spoofs balance at no pair of thresholds'
    )
  best = np.argmin(gap_N)
  at = at_N[best]
  return TandemEer(
    float(asv.spoof_false_alarm[best] * cm.false_alarm[at]),
    float(cm.threshold[at]),
    float(asv.threshold[best]),
  )


def _balance(cm, asv: _Curves, rho) -> np.ndarray:
  """The countermeasure's point where tandem errors are closest, int [N].

  Their difference rises along the curve of the countermeasure, so it is found
  by bisection, for all thresholds of the verification system at once.
  """

  def ahead(at, rows):
    """Tandem misses less tandem false alarms."""
    passed = 1 - cm.miss[at]
    misses = cm.miss[at] + passed * asv.miss[rows]
    alarms = (1 - rho) * passed * asv.false_alarm[rows]
    alarms += rho * cm.false_alarm[at] * asv.spoof_false_alarm[rows]
    return misses - alarms

  rows = np.arange(len(asv.miss))
  low, high = np.zeros_like(rows), np.full_like(rows, len(cm.miss) - 1)
  while (high - low > 1).any():
    middle = (low + high) // 2
    negative = ahead(middle, rows) < 0
    low, high = (
      np.where(negative, middle, low),
      np.where(negative, high, middle),
    )
  # The first of equals, as argmin chooses.
  return np.where(
    np.abs(ahead(high, rows)) < np.abs(ahead(low, rows)), high, low
  )


def _curves(metric, *classes) -> _Curves:
  classes = [np.asarray(x, np.float64) for x in classes]
  for name, part in zip(('target', 'nontarget', 'spoof'), classes, strict=True):
    if part.ndim != 1 or not len(part) or not np.isfinite(part).all():
      raise ValueError(
        f'{metric}: {name} scores must be a vector of finite numbers, not '
        f'empty; got shape {part.shape}'
      )
  scores = np.concatenate(classes)
  order = np.argsort(scores, kind='stable')  # targets first among equals
  counts = [len(part) for part in classes]
  kind = np.repeat(np.arange(3), counts)[order]
  rejected = [np.append(0, np.cumsum(kind == k)) for k in range(3)]
  return _Curves(
    rejected[0] / counts[0],
    (counts[1] - rejected[1]) / counts[1],
    (counts[2] - rejected[2]) / counts[2],
    np.append(scores[order[0]] - FIRST_STEP, scores[order]),
  )


def _labelled(bonafide, spoof):
  bonafide, spoof = np.asarray(bonafide), np.asarray(spoof)
  scores = np.concatenate([bonafide, spoof]).astype(np.float64)
  return scores, np.repeat([1, 0], [len(bonafide), len(spoof)])
