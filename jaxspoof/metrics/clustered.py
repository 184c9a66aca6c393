"""Bootstrap over speakers and attacks, of several systems and metrics at once.

Trials of one speaker agree, and so do trials of one attack. What a new test
would bring is other speakers and other attacks, so both are drawn, each with
replacement: a spoof trial counts as often as its speaker times as often as its
attack was drawn, a bona fide trial as often as its speaker (the pigeonhole
bootstrap: Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2),
2007). All systems are measured on the same draws, so that their difference has
an interval of its own.

Percentiles of few speakers or attacks do not reach far enough: a sample of n
varies sqrt((n - 1) / n) times as much as it should, and says little of how much
that is. Intervals therefore reach as much further as Student's interval of a
mean of n values does ("expanded percentile interval": Hesterberg, "What
Teachers Should Know About the Bootstrap", The American Statistician 69(4),
2015), n being the number of attacks or speakers, whichever is lower.
benchmarks/bootstrap.py measures how often they hold the truth.

Two facts make it fast. A weight depends on the speaker and the attack alone,
so trials of one pair form a cell and only cells are weighted. And neither the
EER nor a minimal cost asks for the order within a run of trials of one class:
the points inside a run are its weight taken away one by one. One sparse product
of cells with runs therefore replaces a pass over all trials.

Shapes: K = systems, N = trials, C = cells, G = runs, R = resamples, B = of them
at a time.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

import numpy as np
from scipy import sparse, special

from jaxspoof.metrics.cllr import penalties
from jaxspoof.metrics.clusters import Cells, make_cells, weights
from jaxspoof.metrics.dcf import DcfCosts, LinearCost
from jaxspoof.metrics.det import runs_eer
from jaxspoof.metrics.trials import sort_trials

EXPANDED = 'expanded percentile'  # what `interval` gives, in words
ELEMENTS = 2**20  # of the largest array: what fits a cache is fast

# What can be resampled: the EER, Cllr, the least of a cost over all thresholds,
# and a cost at its own threshold.
Form = Literal['eer', 'cllr'] | LinearCost | DcfCosts


class Interval(NamedTuple):
  """Interval of a metric, see `interval`."""

  low: float
  high: float


class Difference(NamedTuple):
  """How two systems differ on the same trials.

  Attributes:
    value: metric of the first less metric of the second.
    interval: of it.
    share: of the resamples, how many have the sign of `value`.
  """

  value: float
  interval: Interval
  share: float


def resampled_metrics(
  scores_KxN,
  labels,
  *,
  speaker=None,
  attack=None,
  metrics: Mapping[str, Form] = MappingProxyType({'eer': 'eer'}),
  resamples: int = 1000,
  seed: int = 0,
) -> dict[str, np.ndarray]:
  """Metrics of bootstrap resamples, the same ones for all systems.

  Args:
    scores_KxN: float, one row per system, higher = more bona fide.
    labels: int or bool [N], spoof 0, bona fide 1.
    speaker: [N] of any sortable type; None = each trial by itself.
    attack: [N] of any sortable type, not read for bona fide trials; None =
      attacks are kept as they are.
    metrics: what is wanted, by name.
    resamples: R. One without a trial of some class is drawn anew.
    seed: at least 0; the same seed draws the same resamples.

  Returns:
    By name float64 [K, R]. Each value equals the metric of the trials drawn.

  Raises:
    ValueError: scores and labels as for `eer`; columns of another length;
      resamples below 1.
  """
  if resamples < 1:
    raise ValueError(f'resamples must be at least 1; got {resamples}')
  cells = make_cells(labels, speaker, attack)
  forms = list(metrics.values())
  systems = [_System(scores, labels, cells, forms) for scores in scores_KxN]
  largest = max([len(cells.bonafide), *(s.matrix.shape[0] for s in systems)])
  size = int(np.clip(ELEMENTS // largest, 8, 64))
  # Bona fide speakers are always drawn; drawn speakers may lack the drawn
  # attacks, at worst in one of eight resamples (two pairs of their own).
  classes_Cx2 = np.stack([cells.bonafide, ~cells.bonafide], 1).astype(float)
  found, kept, drawn = [], 0, 0
  while kept < resamples:
    weight_BxC = weights(cells, seed, np.arange(drawn, drawn + size))
    drawn += size
    weight_BxC = weight_BxC[(weight_BxC @ classes_Cx2 > 0).all(1)]
    if not len(weight_BxC):
      continue
    values = np.stack([s.measure(weight_BxC) for s in systems])
    found.append(values)
    kept += len(weight_BxC)
  values = np.concatenate(found, -1)[..., :resamples]
  return {name: values[:, row] for row, name in enumerate(metrics)}


def drawn_metrics(
  scores,
  labels,
  cells: Cells,
  weight_BxC,
  metrics: Mapping[str, Form] = MappingProxyType({'eer': 'eer'}),
) -> dict[str, np.ndarray]:
  """Metrics of one system on resamples that were drawn before.

  Args:
    scores: float [N], higher = more bona fide.
    labels: int or bool [N], spoof 0, bona fide 1.
    cells: of these trials, from `clusters.make_cells`.
    weight_BxC: from `clusters.weights`; each row with trials of both classes.
    metrics: see `resampled_metrics`.

  Returns:
    By name float64 [B].
  """
  system = _System(scores, labels, cells, list(metrics.values()))
  return dict(zip(metrics, system.measure(weight_BxC), strict=True))


def resampled(label, speaker=None, attack=None) -> str:
  """What is drawn of trials, in words; see `resampled_metrics`."""
  drawn = 'trials one by one'
  if speaker is not None:
    count = len(np.unique(speaker))
    drawn = f'{count} speaker{"s" * (count > 1)}'
  if attack is not None:
    count = len(np.unique(np.asarray(attack)[np.asarray(label) == 0]))
    drawn += f' and {count} attack{"s" * (count > 1)}'
  return drawn


def clusters_of(label, speaker=None, attack=None) -> int:
  """How many there are of what is rarest among all that is drawn.

  Args:
    label: int or bool [N], spoof 0, bona fide 1.
    speaker: [N]; None makes each trial a speaker.
    attack: [N], not read for bona fide trials; None where attacks are kept.

  Returns:
    The lowest of the numbers of bona fide speakers, spoofed speakers and
    attacks. What there is one of does not vary, and is not counted.
  """
  bonafide = np.asarray(label) == 1
  speaker = np.arange(len(bonafide)) if speaker is None else np.asarray(speaker)
  drawn = [speaker[bonafide], speaker[~bonafide]]
  if attack is not None:
    drawn.append(np.asarray(attack)[~bonafide])
  counts = [len(np.unique(names)) for names in drawn]
  return min([n for n in counts if n > 1], default=len(bonafide))


def interval(
  values_R, confidence: float = 0.95, *, clusters: int | None
) -> Interval:
  """Expanded percentile interval of resampled values.

  Args:
    values_R: of `resampled_metrics`.
    confidence: how often it is to hold the truth.
    clusters: from `clusters_of`, at least 2; None for plain percentiles, as
      they were given before.

  Raises:
    ValueError: confidence outside (0, 1).
  """
  if not 0 < confidence < 1:
    raise ValueError(f'confidence must lie in (0, 1); got {confidence}')
  tail = (1 - confidence) / 2
  if clusters is not None:
    reach = special.stdtrit(clusters - 1, 1 - tail)
    tail = special.ndtr(-reach * np.sqrt(clusters / (clusters - 1)))
  low, high = np.quantile(values_R, [tail, 1 - tail])
  return Interval(float(low), float(high))


def difference(
  first: float,
  second: float,
  values_2xR,
  confidence: float = 0.95,
  *,
  clusters: int | None,
) -> Difference:
  """Compare two systems by a metric.

  Args:
    first: metric of the first system on all trials.
    second: metric of the second.
    values_2xR: from `resampled_metrics`.
    confidence: how often the interval is to hold the truth.
    clusters: see `interval`.
  """
  difference_R = values_2xR[0] - values_2xR[1]
  value = first - second
  agrees = np.sign(difference_R) == np.sign(value)
  reach = interval(difference_R, confidence, clusters=clusters)
  return Difference(float(value), reach, float(agrees.mean()))


class _System:
  """One system's trials, in a form that turns weights into metrics."""

  def __init__(self, scores, labels, cells: Cells, forms: list[Form]):
    trials = sort_trials(scores, labels, metric='bootstrap')
    flags = trials.bonafide
    starts = np.append(True, flags[1:] != flags[:-1])
    shape = (int(starts.sum()), len(cells.bonafide))
    run_N = np.cumsum(starts) - 1
    where = (run_N, cells.of_trial[trials.order])
    self.matrix = sparse.csr_array((np.ones(len(flags)), where), shape)
    self._bonafide_G = flags[starts]
    self._forms = forms
    self._sums_CxS = self._cell_sums(
      np.asarray(scores), np.asarray(labels), cells
    )

  def _cell_sums(self, scores, labels, cells: Cells) -> np.ndarray:
    """Of each cell: trials, then bits or errors of the forms that are means.

    Returns:
      float64 [C, 2 * rows], of each row bona fide beside spoof.
    """
    rows = [np.ones(len(scores))]
    for form in self._forms:
      if form == 'cllr':
        rows.append(penalties(scores, labels))
      elif isinstance(form, DcfCosts):
        accepted = scores.astype(np.float64) >= form.threshold
        rows.append(accepted != (labels == 1))
    columns = []
    for row in rows:
      sums = np.bincount(cells.of_trial, row, len(cells.bonafide))
      columns += [sums * cells.bonafide, sums * ~cells.bonafide]
    return np.stack(columns, 1)

  def measure(self, weight_BxC) -> np.ndarray:
    """Metrics of resamples that hold both classes, float64 [metrics, B]."""
    runs_BxG = np.stack([self.matrix @ weight_C for weight_C in weight_BxC])
    misses = np.cumsum(runs_BxG * self._bonafide_G, 1)
    rejected = np.cumsum(runs_BxG * ~self._bonafide_G, 1)
    miss = misses / misses[:, -1:]
    alarm = (rejected[:, -1:] - rejected) / rejected[:, -1:]
    means, found = iter(self._means(weight_BxC)), []
    for form in self._forms:
      if form == 'eer':
        found.append(runs_eer(misses, rejected, self._bonafide_G)[0])
      elif form == 'cllr':
        bits = next(means)
        found.append((bits[0] + bits[1]) / 2)
      elif isinstance(form, DcfCosts):
        found.append(form.linear(*next(means)))
      else:  # the lowest of linear costs lies at the end of a run
        found.append(np.minimum(form(miss, alarm).min(1), form(0.0, 1.0)))
    return np.stack(found)

  def _means(self, weight_BxC):
    """Means of the cell sums per class: [rows, (bona fide, spoof), B]."""
    sums_BxS = weight_BxC @ self._sums_CxS
    sums = sums_BxS.T.reshape(-1, 2, len(weight_BxC))
    return sums[1:] / sums[0]
