"""The table of metrics: whatever shows figures takes its rows from here.

The console, metrics.json, the command line, the report and comparisons go
through `METRICS`. A new metric is a function, a line of this table and a test.

Nothing here loads JAX before a metric is computed that needs it: pages read the
names and titles only.
"""

import dataclasses
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np

from jaxspoof.metrics.cllr import cllr
from jaxspoof.metrics.clustered import Form
from jaxspoof.metrics.dcf import OFFICIAL, act_dcf, min_dcf
from jaxspoof.metrics.det import equal_error
from jaxspoof.metrics.tandem import a_dcf, t_eer
from jaxspoof.metrics.tdcf import (
  AsvRates,
  asv_rates,
  legacy_cost,
  min_tdcf_legacy,
  min_tdcf_revised,
  revised_cost,
)
from jaxspoof.score_files.asv_scores import AsvScores


class Scored(NamedTuple):
  """What a metric is computed from.

  Attributes:
    scores: float [N], scores of the countermeasure, higher = more bona fide.
    label: int [N], spoof 0, bona fide 1.
    asv_rates: error rates of the speaker verification system (ASV) that the
      countermeasure protects; None if they are not known.
    asv_scores: scores of that system; None if they are not known.
  """

  scores: np.ndarray
  label: np.ndarray
  asv_rates: AsvRates | None = None
  asv_scores: AsvScores | None = None


@dataclasses.dataclass(frozen=True)
class Metric:
  """A line of the table.

  Attributes:
    name: its name in `metrics.json`.
    title: its name for a person, on the console and in pages.
    unit: '%' (values are fractions and shown times 100), 'bits', or '' for
      normalised costs.
    function: computes the value, a float, from a `Scored`.
    needs: the field of `Scored` that must not be None for the metric to have a
      value; '' if it needs none.
    resampled: makes what the bootstrap computes for the interval, from the
      error rates of the verification system; None if it has no interval.
    better: whether 'lower' or 'higher' values are better.
    note: a sentence for readers who do not know the metric.
  """

  name: str
  title: str
  unit: str
  function: Callable[[Scored], float]
  needs: Literal['', 'asv_rates', 'asv_scores'] = ''
  resampled: Callable[[AsvRates | None], Form] | None = None
  better: Literal['lower', 'higher'] = 'lower'
  note: str = ''

  @property
  def label(self) -> str:
    """Title and unit, for the head of a row."""
    gap = '' if not self.unit else ' ' if self.unit == '%' else ', '
    return f'{self.title}{gap}{self.unit}'

  @property
  def scale(self) -> float:
    """The factor by which values are multiplied before a person reads them."""
    return 100.0 if self.unit == '%' else 1.0

  def value(self, scored: Scored) -> float | None:
    """Computes the metric; None if something that it needs is not known.

    Raises:
      ValueError: scores or labels are invalid. `trials.Undefined`, a kind of
        ValueError: they are valid, but the metric has no value for them.
    """
    return self.function(scored) if self.can_measure(scored) else None

  def can_measure(self, scored: Scored) -> bool:
    """Whether everything that the metric needs is known."""
    return not self.needs or getattr(scored, self.needs) is not None


def _eer(scored: Scored) -> float:
  # The same number as the jitted `eer.eer`, by which training selects, without
  # loading JAX: this table serves reports and `verify` too.
  return equal_error(scored.scores, scored.label).eer


def _min_tdcf(function) -> Callable[[Scored], float]:
  return lambda x: function(x.scores, x.label, x.asv_rates).cost


def _t_eer(scored: Scored) -> float:
  bonafide, spoof = (scored.scores[scored.label == k] for k in (1, 0))
  return t_eer(bonafide, spoof, *scored.asv_scores[:3]).eer


METRICS = {
  metric.name: metric
  for metric in (
    Metric('eer', 'EER', '%', _eer, resampled=lambda _: 'eer'),
    Metric(
      'min_tdcf_legacy', 'min t-DCF, 2019', '', _min_tdcf(min_tdcf_legacy),
      'asv_rates', legacy_cost,
      note='t-DCF: with the verification scores of the organisers (ASV), at '
      'the EER threshold of that system.',
    ),
    Metric(
      'min_tdcf_revised', 'min t-DCF, 2021', '', _min_tdcf(min_tdcf_revised),
      'asv_rates', revised_cost,
    ),
    Metric(
      'min_dcf', 'minDCF', '', lambda x: min_dcf(x.scores, x.label).cost,
      resampled=lambda _: OFFICIAL.linear,
      note='minDCF and actDCF: a miss costs 1, a false alarm 10, 5 % of the '
      'trials are spoof (ASVspoof 5).',
    ),
    Metric(
      'act_dcf', 'actDCF (of LLRs)', '', lambda x: act_dcf(x.scores, x.label),
      resampled=lambda _: OFFICIAL,
      note='actDCF decides at the threshold that would be right if scores were '
      'log-likelihood ratios (LLRs), which Cllr judges too.',
    ),
    Metric(
      'cllr', 'Cllr (of LLRs)', 'bits', lambda x: cllr(x.scores, x.label),
      resampled=lambda _: 'cllr',
    ),
    Metric(
      't_eer', 't-EER with the ASV', '%', _t_eer, 'asv_scores',
      note='t-EER: how often detection and verification together miss, where '
      'they are deceived as often, by spoofs as by other people.',
    ),
    Metric(
      'a_dcf', 'a-DCF of the ASV alone', '',
      lambda x: a_dcf(*x.asv_scores[:3]).cost, 'asv_scores',
      note='a-DCF of the ASV alone: what verification costs without detection.',
    ),
  )
}  # fmt: skip


def scored(scores, label, asv: AsvScores | AsvRates | None = None) -> Scored:
  """Puts scores together with what is known of the verification system.

  Args:
    scores: float [N], higher = more bona fide.
    label: int [N], spoof 0, bona fide 1.
    asv: scores of the verification system; or its error rates, if no more is
      known; or None.

  Raises:
    ValueError: verification scores without a value, see `tdcf.asv_rates`.
  """
  if isinstance(asv, AsvScores):
    return Scored(scores, label, asv_rates(*asv[:3]), asv)
  return Scored(scores, label, asv)


def forms(rates: AsvRates | None) -> dict[str, Form]:
  """What the bootstrap has to compute, by the names of the metrics.

  Args:
    rates: error rates of the verification system; None leaves out the metrics
      that need them.
  """
  return {
    name: metric.resampled(rates)
    for name, metric in METRICS.items()
    if metric.resampled and (not metric.needs or rates is not None)
  }
