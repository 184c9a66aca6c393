"""The page of a study: found, random and hand-made cells compared."""

import json
import pathlib
from typing import Any

from jaxspoof.darts.pages import cells
from jaxspoof.darts.spaces.genotype import KINDS, Genotype
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

NAMES = {
  'found': 'found by the search',
  'random': 'random cells of equal cost',
  'default': 'hand-made default',
}


def page(workdir: pathlib.Path) -> str:
  """The page of a study, from its `study.json`.

  Raises:
    RunError: there is none.
  """
  result = names.json_or_none(workdir / names.STUDY)
  if result is None:
    raise RunError(
      f'{workdir} holds no study.json yet: it is written when all runs of the '
      'study have ended'
    )
  return render(result)


def render(result: dict[str, Any]) -> str:
  """The page. The same result gives the same text."""
  sentences = said(result).splitlines()
  title = 'Was the search worth it?'
  body = element(
    'body',
    element(
      'header',
      element('h1', title),
      element('p', sentences[0], class_='headline'),
      *(element('p', words) for words in sentences[1:]),
    ),
    element(
      'main',
      *(_split(name, found) for name, found in result['splits'].items()),
      _cells(result),
    ),
  )
  return document(title, body)


def said(result: dict[str, Any]) -> str:
  """What came out, a line for each comparison on each split."""
  return '\n'.join(
    sentence(split, group, change)
    for split, found in result['splits'].items()
    for group, change in found['found_less'].items()
  )


def sentence(split: str, group: str, change: dict[str, Any]) -> str:
  """One comparison in words; no winner where the interval holds 0."""
  low, high = change['interval']
  value = 100 * change['value']
  numbers = (
    f'{value:+.2f} points of EER, 95 % interval {100 * low:+.2f} to '
    f'{100 * high:+.2f}'
  )
  verdict = 'cannot be told from'
  if high < 0:
    verdict = 'is better than'
  elif low > 0:
    verdict = 'is worse than'
  return (
    f'On {split} the found cell {verdict} {_with_article(group)}: {numbers}.'
  )


def _with_article(group: str) -> str:
  return NAMES[group] if group == 'random' else f'the {NAMES[group]}'


def _split(split: str, found: dict[str, Any]) -> Html:
  """EER of each group, of each run, and the differences."""
  groups = [
    [
      NAMES[group],
      percent(row['eer']),
      percent(row['deviation']),
      interval(row['interval']),
    ]
    for group, row in found['groups'].items()
  ]
  differences = [
    [
      f'found less {NAMES[group]}',
      f'{100 * row["value"]:+.2f}',
      f'{100 * row["interval"][0]:+.2f} to {100 * row["interval"][1]:+.2f}',
      f'{row["same_sign"]:.0%}',
    ]
    for group, row in found['found_less'].items()
  ]
  runs = [
    [run['cell'], str(run['seed']), percent(run['eer'])]
    for run in found['runs']
  ]
  return section(
    f'Split “{split}”',
    element(
      'p',
      'Means over runs. Intervals: 95 % expanded percentile bootstrap that '
      'draws speakers, attacks, the cells of each group and the seeds of each '
      'cell, the same trials for all.',
    ),
    table(
      'EER',
      ['cells', 'mean', 'deviation of runs', 'interval'],
      groups,
      class_='numbers',
    ),
    table(
      'Differences, percentage points; below 0 the search is better',
      ['', 'difference', 'interval', 'same sign'],
      differences,
      class_='numbers',
    ),
    element(
      'details',
      element('summary', 'All runs'),
      table('EER of each run', ['cell', 'seed', 'EER'], runs, class_='numbers'),
    ),
  )


def _cells(result: dict[str, Any]) -> Html:
  """Cost of all cells, and pictures of those that were found."""
  rows = [
    [
      name,
      f'{cell["parameters"]:,}',
      f'{cell["macs"] / 1e6:,.1f}',
      element('code', cell['genotype']['hash']),
    ]
    for name, cell in result['cells'].items()
  ]
  found = Genotype.from_json(json.dumps(result['cells']['found']['genotype']))
  drawn = [
    figure(cells.cell(kind, found), f'The {kind} cell that was found.')
    for kind in KINDS
  ]
  return section(
    'The cells',
    table(
      'Cost',
      ['cells', 'parameters', 'million MACs', 'genotype'],
      rows,
      class_='numbers',
    ),
    element('div', *drawn, class_='wide'),
  )
