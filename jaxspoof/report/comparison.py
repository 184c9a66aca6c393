"""A page that compares runs on the splits that all of them scored."""

import pathlib

import numpy as np

from jaxspoof.files import write_atomically
from jaxspoof.metrics import clustered, scorecard
from jaxspoof.report import charts
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
from jaxspoof.report.run import ReportError, Run, aligned, load, speakers
from jaxspoof.training import workdir as workdir_lib

RESAMPLES = 1000


def write(workdirs, out) -> pathlib.Path:
  """Writes the comparison of runs.

  Args:
    workdirs: folders of two or more runs, the first is the one that the
      others are compared with.
    out: path of the page.

  Raises:
    ReportError: fewer than two runs, a run twice, a broken folder, no split
      that all runs scored, or one whose trials differ between runs.
  """
  runs = _named([load(workdir) for workdir in workdirs])
  shared = [
    split
    for split in _order(next(iter(runs.values())))
    if all(split in run.scores for run in runs.values())
  ]
  if not shared:
    raise ReportError(
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
    raise ReportError('a comparison needs two runs or more')
  paths = [run.workdir.resolve() for run in runs]
  if len(set(paths)) < len(paths):
    raise ReportError(f'a run is named twice: {", ".join(map(str, paths))}')
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
  eers_KxR = clustered.resampled_metrics(
    scores_KxN,
    first.label,
    speaker=speaker,
    attack=first.attack,
    resamples=RESAMPLES,
  )['eer']
  drawn = scorecard.resampled(first.label, speaker, first.attack)
  rates = [run.rates[split].eer for run in runs.values()]
  rows = []
  for number, (name, run) in enumerate(runs.items()):
    low_high = clustered.interval(eers_KxR[number])
    row = [name, run.setting('model', 'name', ''), percent(rates[number])]
    row += [interval(low_high), '', '']
    if number:
      change = clustered.difference(
        rates[number], rates[0], eers_KxR[[number, 0]]
      )
      row[4:] = [_points(change), f'{change.share:.0%}']
    rows.append(row)
  head = ['run', 'model', 'EER', 'interval', 'less the first', 'same sign']
  bonafide = int(first.label.sum())
  return section(
    f'Split “{split}”',
    element(
      'p',
      f'{len(first.label):,} trials, {bonafide:,} bona fide. Intervals: 95 % '
      f'percentile bootstrap, {RESAMPLES:,} resamples of {drawn}, the same '
      'ones for all runs, so that a difference has an interval of its own, in '
      'percentage points; same sign: share of the resamples in which the '
      'difference points the same way.',
    ),
    table(f'EER on split “{split}”', head, rows, class_='numbers'),
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


def _points(change: clustered.Difference) -> str:
  low, high = (100 * end for end in change.interval)
  return f'{100 * change.value:+.2f} ({low:+.2f} to {high:+.2f})'


def _settings(runs: dict[str, Run]) -> Html:
  """Fields of the configs in which runs differ from the first."""
  (first_name, first), *others = runs.items()
  rows = []
  for name, run in others:
    found = workdir_lib.differences(first.config, run.config)
    rows += [[name, line.replace(', now ', '; here ')] for line in found]
  if not rows:
    return section('Settings', element('p', 'The configs are equal.'))
  return section(
    'Settings',
    table(f'What differs from {first_name}', ['run', 'field'], rows),
  )
