"""Parts of the page: what decisions cost, and what the scores are worth."""

import numpy as np

from jaxspoof.metrics.table import METRICS, Metric
from jaxspoof.report import charts
from jaxspoof.report.markup import (
  Html,
  element,
  figure,
  join,
  section,
  table,
)
from jaxspoof.runs.run import Run


def costs(run: Run) -> Html | None:
  """Every metric but the EER of each split, with intervals."""
  rows = [
    [
      split,
      metric.label,
      in_unit(metric, found[metric.name]),
      _ends(metric, found),
      metric.better,
    ]
    for split, found in run.summaries.items()
    for metric in METRICS.values()
    if metric.name != 'eer' and found.get(metric.name) is not None
  ]
  if not rows:
    return None
  return section(
    'Costs of decisions',
    element('p', _words(run)),
    table(
      'Of costs, which are normalised, 0 is perfect, and 1 is no better than '
      'not listening',
      ['split', 'metric', 'value', 'interval', 'better'],
      rows,
      class_='numbers',
    ),
  )


def _ends(metric: Metric, found: dict) -> str:
  """The interval of a metric, or why there is none."""
  if metric.resampled is None:
    return 'not resampled'
  low_high = found.get(f'{metric.name}_interval')
  if low_high is None:
    return 'not computed'
  return ' to '.join(in_unit(metric, end) for end in low_high)


def in_unit(metric: Metric, number: float, sign: str = '') -> str:
  """A value, or with sign='+' a difference, as it is shown beside its unit."""
  digits = 2 if metric.unit == '%' else 4
  return f'{metric.scale * number:{sign}.{digits}f}'


def _words(run: Run) -> str:
  """What the metrics shown are, and why others are not there."""
  summaries = run.summaries
  words = [
    metric.note
    for name, metric in METRICS.items()
    if metric.note and any(f.get(name) is not None for f in summaries.values())
  ]
  if all(found.get('asv') is None for found in summaries.values()):
    words.append(
      'No t-DCF: the corpus came without scores of a speaker verification '
      'system.'
    )
  for split, found in summaries.items():
    for why in found.get('undefined', {}).values():
      words.append(f'Split “{split}”, {why}.')
  return ' '.join(words)


_CALIBRATED = (
  ' The calibration was fitted on dev, and on it the curve is better than on '
  'anything else.'
)


def _scores(run: Run, split: str) -> dict[str, np.ndarray]:
  """The scores of a split, and calibrated where the run's detector is."""
  scores = run.scores[split].scores
  found = {'scores as they are': scores}
  if run.calibration:
    slope, intercept = run.calibration
    found['calibrated'] = slope * scores + intercept
  return found


def calibration(run: Run) -> Html | None:
  """Reliability of the scores as probabilities, for each split."""
  order = [*run.summaries, *run.scores]
  splits = [s for s in dict.fromkeys(order) if s in run.scores]
  if not splits:
    return None
  pictures = [
    figure(
      charts.reliability(split, _scores(run, split), label),
      f'Split “{split}”: trials in groups of rising score. Below the diagonal '
      'they are less often bona fide than their scores say.',
    )
    for split, label in ((s, np.asarray(run.scores[s].label)) for s in splits)
  ]
  return section(
    'Calibration',
    element(
      'p',
      'Scores read as log-likelihood ratios, both classes equally likely '
      'beforehand: what they say against what is so. Calibrated scores lie on '
      'the diagonal; training does not promise that.'
      + (_CALIBRATED if run.calibration else ''),
    ),
    element('div', join(pictures), class_='grid'),
  )
