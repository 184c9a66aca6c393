"""A page that compares runs on the splits that all of them scored."""

import pathlib

import numpy as np

from jaxspoof import config_changes
from jaxspoof.machine.files import write_atomically
from jaxspoof.metrics import clustered
from jaxspoof.metrics.table import METRICS, Metric, Scored, forms, scored
from jaxspoof.metrics.trials import Undefined
from jaxspoof.report import charts
from jaxspoof.report.decisions import in_unit
from jaxspoof.report.markup import (
  Html,
  element,
  figure,
  interval,
  percent,
  section,
  table,
)
from jaxspoof.report.page import document
from jaxspoof.runs import names
from jaxspoof.runs.names import RunError
from jaxspoof.runs.run import Run, aligned, load, speakers
from jaxspoof.score_files import asv_scores
from jaxspoof.score_files.asv_scores import AsvScores

RESAMPLES = 1000


def write(workdirs, out) -> pathlib.Path:
  """Writes the comparison of runs.

  Args:
    workdirs: folders of two or more runs; all others are compared with the
      first one.
    out: path of the page.

  Raises:
    RunError: fewer than two runs, a run twice, a broken folder, no split
      that all runs scored, or one whose trials differ between runs.
  """
  runs = _named([load(workdir) for workdir in workdirs])
  shared = [
    split
    for split in _order(next(iter(runs.values())))
    if all(split in run.scores for run in runs.values())
  ]
  if not shared:
    raise RunError(
      'no split was scored by all runs: '
      + '; '.join(f'{n}: {", ".join(r.scores)}' for n, r in runs.items())
    )
  parts = [_split(split, runs) for split in shared]
  title = f'{len(runs)} runs compared'
  body = element(
    'body',
    element(
      'header',
      element('h1', title),
      element('p', 'The other runs are compared with the first.'),
    ),
    element('main', *parts, _settings(runs)),
  )
  path = pathlib.Path(out)
  write_atomically(path, document(title, body))
  return path


def _named(runs: list[Run]) -> dict[str, Run]:
  """Runs by the names of their folders, longer where these are equal."""
  if len(runs) < 2:
    raise RunError('a comparison needs two runs or more')
  paths = [run.workdir.resolve() for run in runs]
  if len(set(paths)) < len(paths):
    raise RunError(f'a run is named twice: {", ".join(map(str, paths))}')
  depth = 1
  while len({path.parts[-depth:] for path in paths}) < len(paths):
    depth += 1
  names = ['/'.join(path.parts[-depth:]) for path in paths]
  return dict(zip(names, runs, strict=True))


def _order(run: Run) -> list[str]:
  """Splits of a run, the headline first."""
  return list(dict.fromkeys([*run.summaries, *run.scores]))


def _split(split: str, runs: dict[str, Run]) -> Html:
  """Table and DET curves of one split."""
  trials = aligned(split, runs)
  scores_KxN = np.stack([t.scores for t in trials.values()])
  first = next(iter(trials.values()))
  speaker = speakers(split, next(iter(runs.values())), first.utterance)
  rates = [run.rates[split].eer for run in runs.values()]
  asv = _asv(split, runs)
  systems = [scored(t.scores, t.label, asv) for t in trials.values()]
  values = {name: _values(METRICS[name], systems) for name in _others(systems)}
  values = {'eer': rates, **values}
  resampled = clustered.resampled_metrics(
    scores_KxN,
    first.label,
    speaker=speaker,
    attack=first.attack,
    metrics={
      name: form
      for name, form in forms(systems[0].asv_rates).items()
      if None not in values[name]
    },
    resamples=RESAMPLES,
  )
  drawn = clustered.resampled(first.label, speaker, first.attack)
  clusters = clustered.clusters_of(first.label, speaker, first.attack)
  rows = {
    name: _rows(METRICS[name], runs, found, resampled.get(name), clusters)
    for name, found in values.items()
  }
  head = ['run', 'model', 'value', 'interval', 'less the first', 'same sign']
  bonafide = int(first.label.sum())
  return section(
    f'Split “{split}”',
    element(
      'p',
      f'{len(first.label):,} trials, {bonafide:,} bona fide. Intervals: 95 % '
      f'{clustered.EXPANDED} bootstrap, {RESAMPLES:,} resamples of {drawn}, '
      'the same ones for all runs, so that a difference has an interval of its '
      'own, of rates in percentage points; same sign: share of the resamples '
      'in which the difference points the same way.',
    ),
    *_tables(split, head, rows),
    _attacks(split, runs),
    figure(
      charts.det(
        {
          name: (trials[name], rate)
          for name, rate in zip(runs, rates, strict=True)
        }
      ),
      'Detection error trade-off on probit axes. Lower left is better.',
    ),
  )


def _asv(split: str, runs: dict[str, Run]) -> AsvScores | None:
  """Verification scores, where all runs keep the same ones."""
  files = [names.asv_scores(run.workdir, split) for run in runs.values()]
  if not all(path.is_file() for path in files):
    return None
  if len({path.read_bytes() for path in files}) > 1:
    return None
  return asv_scores.read(files[0])


def _others(systems: list[Scored]) -> list[str]:
  """Metrics but the EER for which there is what they need."""
  return [
    name
    for name, metric in METRICS.items()
    if name != 'eer' and metric.can_measure(systems[0])
  ]


def _values(metric: Metric, systems: list[Scored]) -> list[float | None]:
  """A metric of each system; None where it has no value of its scores."""
  values = []
  for system in systems:
    try:
      values.append(metric.value(system))
    except Undefined:
      values.append(None)
  return values


def _rows(
  metric: Metric, runs, values, values_KxR, clusters: int
) -> list[list[str]]:
  """A metric of all runs: value, interval, difference to the first."""
  rows = []
  for number, (name, run) in enumerate(runs.items()):
    value, first = values[number], values[0]
    row = [name, run.setting('model', 'name', '')]
    row += ['not defined' if value is None else in_unit(metric, value)]
    row += ['not resampled', '', '']
    if number and None not in (value, first):
      row[4] = in_unit(metric, value - first, '+')
    if values_KxR is not None:
      ends = clustered.interval(values_KxR[number], clusters=clusters)
      row[3] = ' to '.join(in_unit(metric, end) for end in ends)
    if number and values_KxR is not None:
      change = clustered.difference(
        value, first, values_KxR[[number, 0]], clusters=clusters
      )
      low, high = (in_unit(metric, end, '+') for end in change.interval)
      row[4:] = [f'{row[4]} ({low} to {high})', f'{change.share:.0%}']
    rows.append(row)
  return rows


def _tables(split: str, head: list[str], rows: dict[str, list]) -> list[Html]:
  """The EER, and folded up below it the other metrics."""

  def made(name):
    metric = METRICS[name]
    caption = f'{metric.label} on split “{split}”, {metric.better} is better'
    return table(caption, head, rows[name], class_='numbers')

  return [
    made('eer'),
    element(
      'details',
      element('summary', f'Other metrics of split “{split}”'),
      *(made(name) for name in rows if name != 'eer'),
    ),
  ]


def _attacks(split: str, runs: dict[str, Run]) -> Html | None:
  """EER of each attack with its interval, a column for each run."""
  summaries = [run.summaries.get(split, {}) for run in runs.values()]
  found = [summary.get('per_attack') for summary in summaries]
  if not all(found):
    return None
  cells = {
    name: [
      f'{percent(row[name]["eer"])} ({interval(row[name]["interval"])})'
      if name in row
      else ''
      for row in found
    ]
    for name in dict.fromkeys(name for row in found for name in row)
  }
  return element(
    'details',
    element('summary', f'The attacks of split “{split}” in numbers'),
    table(
      f'EER per attack, split “{split}”',
      ['attack', *runs],
      [[name, *row] for name, row in cells.items()],
      class_='numbers',
    ),
  )


def _settings(runs: dict[str, Run]) -> Html:
  """Fields of the configs in which runs differ from the first."""
  (first_name, first), *others = runs.items()
  rows = []
  for name, run in others:
    found = config_changes.differences(first.config, run.config)
    rows += [[name, line.replace(', now ', '; here ')] for line in found]
  if not rows:
    return section('Settings', element('p', 'The configs are equal.'))
  return section(
    'Settings',
    table(f'What differs from {first_name}', ['run', 'field'], rows),
  )
