"""Parts of the page: what decisions cost, and what the scores are worth."""

import numpy as np

from jaxspoof.report import charts
from jaxspoof.report.markup import (
  Html,
  element,
  figure,
  join,
  section,
  table,
)
from jaxspoof.report.run import Run

COSTS = {
  'min_tdcf_legacy': 'min t-DCF, 2019',
  'min_tdcf_revised': 'min t-DCF, 2021',
  'min_dcf': 'minDCF',
  'act_dcf': 'actDCF',
  'cllr': 'Cllr, bits',
}


def costs(run: Run) -> Html | None:
  """Detection costs of each split with their intervals."""
  rows = [
    [split, COSTS[name], f'{found[name]:.4f}', _ends(found, name)]
    for split, found in run.summaries.items()
    for name in COSTS
    if found.get(name) is not None
  ]
  if not rows:
    return None
  return section(
    'Costs of decisions',
    element('p', _words(run)),
    table(
      'Normalised costs: 0 is perfect, 1 is no better than not listening',
      ['split', 'cost', 'value', 'interval'],
      rows,
      class_='numbers',
    ),
  )


def _ends(found: dict, name: str) -> str:
  ends = found.get(f'{name}_interval')
  return 'not computed' if ends is None else '{:.4f} to {:.4f}'.format(*ends)


def _words(run: Run) -> str:
  words = (
    'minDCF and actDCF: a miss costs 1, a false alarm 10, 5 % of the trials '
    'are spoof (ASVspoof 5); actDCF decides at the threshold that would be '
    'right if scores were log-likelihood ratios, which Cllr judges too. '
  )
  if all(f.get('asv') is None for f in run.summaries.values()):
    return words + (
      'No t-DCF: the corpus came without scores of a speaker verification '
      'system.'
    )
  return words + (
    't-DCF: with the verification scores of the organisers, at the EER '
    'threshold of that system.'
  )


def calibration(run: Run) -> Html | None:
  """Reliability of the scores as probabilities, for each split."""
  order = [*run.summaries, *run.scores]
  splits = [s for s in dict.fromkeys(order) if s in run.scores]
  if not splits:
    return None
  pictures = [
    figure(
      charts.reliability(split, run.scores[split].scores, label),
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
      'the diagonal; training does not promise that.',
    ),
    element('div', join(pictures), class_='grid'),
  )
