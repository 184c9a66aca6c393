"""The parts of the page that show the result.

Each is a function of a run that returns HTML, or None if the run has nothing to
show there.
"""

from jaxspoof.metrics.det import Eer
from jaxspoof.report import charts, tracing
from jaxspoof.report.markup import (
  Html,
  element,
  figure,
  interval,
  join,
  percent,
  section,
  table,
)
from jaxspoof.runs.run import Run
from jaxspoof.runs.splits import parts
from jaxspoof.score_files.scores import Scores


def header(run: Run) -> Html:
  """What came out, in one line and a few sentences."""
  name = run.setting('model', 'name', 'model not known')
  corpus = run.setting('data', 'name', 'corpus not known')
  if run.metrics is not None:
    corpus = run.metrics.get('corpus', corpus)
  return element(
    'header',
    element('h1', f'{name} on {corpus}'),
    _headline(run) if run.source_tracing is None else tracing.headline(run),
    *(element('p', note, class_='note') for note in run.notes),
  )


def _headline(run: Run) -> Html:
  found = run.metrics
  if found is None:
    return element('p', 'No result yet', class_='headline')
  confidence = found.get('confidence')
  range_name = f'{confidence:.0%} interval' if confidence else 'interval'
  trials, attacks = found['trials'], len(found['per_attack'])
  return join(
    [
      element(
        'p',
        f'EER {percent(found["eer"])} ',
        element('small', f'{range_name} {interval(found["eer_interval"])}'),
        class_='headline',
      ),
      element(
        'p',
        f'Measured on split “{found.get("name", found["split"])}”: '
        f'{trials["total"]:,} trials, '
        f'{trials["bonafide"]:,} bona fide (real speech) and '
        f'{trials["spoof"]:,} spoof, by {attacks} '
        f'{"attack" if attacks == 1 else "attacks"}. At the threshold '
        f'{found["eer_threshold"]:.4g} both errors are equally frequent: about '
        f'{_one_in(found["eer"])} of the bona fide recordings are taken for '
        'spoof, and as many of the spoof ones for bona fide.',
      ),
      element('p', f'The model was selected by: {found["selected_on"]}.'),
    ]
  )


def _one_in(rate: float) -> str:
  """A rate in words."""
  if rate <= 0:
    return percent(0, 0)
  return f'1 in {1 / rate:,.0f}' if rate < 0.1 else f'{100 * rate:.0f} in 100'


def splits(run: Run) -> Html | None:
  """Every split that was scored, the headline first."""
  rows = []
  selecting = {
    part.name
    for part in parts(
      run.setting('data', 'name', ''), run.setting('data', 'dev', 'dev')
    )
  }
  for split, found in run.summaries.items():
    role = ' (headline)' if found is run.metrics else ''
    if split in selecting:
      role = ' (selects the model)'
    rows.append(
      [
        split + role,
        percent(found['eer']),
        interval(found['eer_interval']),
        f'{found["eer_threshold"]:.4g}',
        f'{found["trials"]["bonafide"]:,}',
        f'{found["trials"]["spoof"]:,}',
      ]
    )
  for split, trials in run.scores.items():
    if split not in run.summaries:
      rows.append([split, *_from_scores(trials, run.rates[split])])
  if not rows:
    return None
  head = ['split', 'EER', 'interval', 'threshold', 'bona fide', 'spoof']
  return section(
    'Splits',
    element('p', _how(run)),
    table('All splits that were scored', head, rows, class_='numbers'),
  )


def _from_scores(trials: Scores, found: Eer) -> list[str]:
  bonafide = int(trials.label.sum())
  return [
    percent(found.eer),
    'not computed',
    f'{found.threshold:.4g}',
    f'{bonafide:,}',
    f'{len(trials.label) - bonafide:,}',
  ]


def _how(run: Run) -> str:
  """What the intervals are."""
  words = 'EER with the official ASVspoof threshold and tie convention'
  found = run.metrics or {}
  if 'resamples' in found:
    kind = found.get('intervals', 'percentile')  # as it was before
    words += (
      f'; intervals: {found.get("confidence", 0):.0%} {kind} bootstrap, '
      f'{found["resamples"]:,} resamples of '
      f'{found.get("resampled", "trials")}, seed {found.get("seed")}'
    )
  return f'{words}.'


def errors(run: Run) -> Html | None:
  """DET curve and score histograms."""
  if not run.scores:
    return section(
      'Errors', element('p', 'There are no score files yet.', class_='note')
    )
  order = [*run.summaries, *run.scores]
  splits = [s for s in dict.fromkeys(order) if s in run.scores]
  det = charts.det(
    {split: (run.scores[split], run.rates[split].eer) for split in splits}
  )
  pictures = [
    figure(
      det,
      'Detection error trade-off on probit axes: each point of a curve is one '
      'threshold, the dot is the EER. Lower left is better.',
    )
  ]
  for split in splits:
    trials = run.scores[split]
    pictures.append(
      figure(
        charts.histogram(
          split, trials.scores, trials.label, run.rates[split].threshold
        ),
        f'Scores of split “{split}”. Each class adds up to 100 %; the first '
        'and the last bar hold what lies beyond.',
      )
    )
  return section('Errors', element('div', *pictures, class_='grid'))


def attacks(run: Run) -> Html | None:
  """EER per attack, as bars and as a table, for each split."""
  parts = []
  for split, found in run.summaries.items():
    rows = [
      [name, percent(a['eer']), interval(a['interval']), f'{a["trials"]:,}']
      for name, a in found['per_attack'].items()
    ]
    if not rows:
      continue
    parts.append(
      join(
        [
          figure(
            charts.attacks(found),
            f'Split “{split}”: each attack against all '
            f'{found["trials"]["bonafide"]:,} bona fide trials; n = its '
            'trials, the dashed line is the pooled EER.',
          ),
          element(
            'details',
            element('summary', f'The attacks of split “{split}” in numbers'),
            table(
              f'EER per attack, split “{split}”',
              ['attack', 'EER', 'interval', 'trials'],
              rows,
              class_='numbers',
            ),
          ),
        ]
      )
    )
  if not parts:
    return None
  parts = [element('div', part) for part in parts]
  return section('Attacks', element('div', *parts, class_='grid'))
