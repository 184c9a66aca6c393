"""The page of an evaluation: one checkpoint under several conditions."""

import dataclasses
import pathlib

from jaxspoof.metrics.table import METRICS, Metric
from jaxspoof.report import background, decisions, results
from jaxspoof.report.markup import (
  Html,
  element,
  interval,
  join,
  percent,
  section,
  table,
)
from jaxspoof.report.page import document
from jaxspoof.runs.names import RunError
from jaxspoof.runs.run import Run, load


def page(workdir: pathlib.Path) -> str:
  """The page of an evaluation, from its files.

  Raises:
    RunError: the evaluation has not ended, or a file of it is broken.
  """
  run = load(workdir)
  if run.metrics is None:
    raise RunError(
      f'{workdir} holds no metrics.json yet: it is written when all splits '
      'are scored under all conditions'
    )
  return render(run)


def render(run: Run) -> str:
  """The page. The same files give the same text."""
  found = run.metrics
  model = found.get('checkpoint', {}).get('model', 'model not known')
  title = f'{model} on {found.get("corpus", "a corpus not known")}'
  body = element(
    'body',
    _header(title, run),
    element(
      'main',
      *(_split(one) for one in by_split(run)),
      decisions.costs(run),
      decisions.calibration(run),
      background.cost(run),
      background.again(run),
    ),
    element(
      'footer',
      'Made from the files of the evaluation’s folder; python -m '
      'jaxspoof.report makes it again.',
    ),
  )
  return document(title, body)


def by_split(run: Run) -> list[Run]:
  """A run for each split, which knows this split alone."""
  parts: dict[str, dict] = {}
  for name, found in run.summaries.items():
    parts.setdefault(found['split'], {})[name] = found
  return [
    dataclasses.replace(
      run,
      metrics={
        **next(iter(part.values())),
        'further': dict(list(part.items())[1:]),
      },
      scores={name: run.scores[name] for name in part if name in run.scores},
      rates={name: run.rates[name] for name in part if name in run.rates},
    )
    for part in parts.values()
  ]


def _header(title: str, run: Run) -> Html:
  found = run.metrics
  checkpoint = found.get('checkpoint', {})
  trials = found['trials']
  words = [
    f'Measured on split “{found["split"]}” under the condition '
    f'“{_condition(found)}”: {trials["total"]:,} trials, '
    f'{trials["bonafide"]:,} bona fide (real speech) and {trials["spoof"]:,} '
    f'spoof. {len(run.summaries)} results in all.',
    f'The weights, {checkpoint.get("path", "not named")}, were selected by: '
    f'{found["selected_on"]}.',
  ]
  notes = [f'Note: {words}.' for words in found.get('used_before', ())]
  return element(
    'header',
    element('h1', title),
    element(
      'p',
      f'EER {percent(found["eer"])} ',
      element('small', f'interval {interval(found["eer_interval"])}'),
      class_='headline',
    ),
    *(element('p', text) for text in words),
    *(element('p', text, class_='note') for text in (*notes, *run.notes)),
  )


def _split(run: Run) -> Html:
  """Conditions beside their figures, then errors and attacks of a split."""
  found = run.metrics
  shown = [
    metric
    for metric in METRICS.values()
    if metric.name != 'eer'
    and any(s.get(metric.name) is not None for s in run.summaries.values())
  ]
  head = ['condition', 'EER', 'interval', 'less the first', 'same sign']
  return join(
    [
      section(
        f'Conditions on split “{found["split"]}”',
        element(
          'p',
          'What was done to the recordings before they were scored; levels in '
          'dB, noise as signal-to-noise ratio. The same trials and the same '
          'resamples for all conditions, so that a difference from the first '
          'has an interval of its own, in percentage points; same sign: share '
          'of the resamples in which the difference points the same way. '
          'Synthetic is what was made by this program for want of recordings.',
        ),
        table(
          f'EER and costs on split “{found["split"]}”',
          [*head, *(metric.label for metric in shown)],
          [_row(summary, shown) for summary in run.summaries.values()],
          class_='numbers',
        ),
      ),
      results.errors(run),
      results.attacks(run),
    ]
  )


def _row(found: dict, shown: list[Metric]) -> list[str]:
  change = found.get('less_first')
  less, share = '', ''
  if change is not None:
    low, high = (100 * end for end in change['interval'])
    less = f'{100 * change["value"]:+.2f} ({low:+.2f} to {high:+.2f})'
    share = f'{change["share"]:.0%}'
  return [
    _condition(found),
    percent(found['eer']),
    interval(found['eer_interval']),
    less,
    share,
    *(_value(found, metric) for metric in shown),
  ]


def _value(found: dict, metric: Metric) -> str:
  value = found.get(metric.name)
  return '' if value is None else decisions.in_unit(metric, value)


def _condition(found: dict) -> str:
  name = found.get('condition', 'not known')
  made = ', '.join(found.get('synthetic', ()))
  return f'{name} (synthetic {made})' if made else name
