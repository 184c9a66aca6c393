"""The table of a benchmark as data, from its cells alone.

The same cells give the same table, whoever made them and when.
"""

import functools
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxspoof.data.conditions import CLEAN
from jaxspoof.machine import files
from jaxspoof.metrics import calibration, clustered, multiple
from jaxspoof.metrics.rates import error_rates
from jaxspoof.runs import cells, names
from jaxspoof.runs.run import Run, aligned, load, speakers

CONFIDENCE = 0.95
# Of the scores as they are, from the cells.
RAW = ('eer', 'min_tdcf_legacy', 'min_tdcf_revised', 'min_dcf')
# Of what is carried over from dev.
CARRIED = ('act_dcf', 'cllr', 'miss', 'false_alarm')
_COMPARED = 'compared.json'

Place = tuple[str, str, str]  # system, test, condition


class Cell:
  """A cell that is there; its scores are read when they are asked for.

  Args:
    path: its folder.

  Attributes:
    metrics: what is known of it.
  """

  def __init__(self, path: pathlib.Path):
    self.path = path
    self.metrics = names.read_json(path / names.METRICS)

  @functools.cached_property
  def run(self) -> Run:
    """All of it, scores too."""
    return load(self.path)


def make(
  found: Mapping[Place, Sequence[pathlib.Path]],
  *,
  tests: Sequence[str],
  conditions: Sequence[str],
  dev: str | None,
  systems: Sequence[str],
  cache: pathlib.Path,
  resamples: int,
  seed: int,
) -> dict[str, Any]:
  """Makes the table.

  Args:
    found: cells by system, test and condition, one for each seed of a system.
    tests: in the order of the table.
    conditions: likewise.
    dev: test that systems are calibrated on which have no dev of their own.
    systems: likewise; the others are compared with the first.
    cache: folder that keeps what is compared.
    resamples: of the bootstrap.
    seed: of it.

  Returns:
    What JSON can hold; rates are fractions. `systems` by name: what is known of
    them and what they cost; `tests` by name: `trials`, `attacks`, `groups` and
    what was `resampled`; `rows`, one for each system, test and condition: for
    each name in `RAW` and `CARRIED` its mean over seeds or None, `deviation`
    (standard deviation of the EER over seeds, None of one), `eers`, `interval`,
    EERs `per_attack` and by `groups` of trials (see `scored.by_group`), `cells`
    and, but for the first system, `difference` (`value`, `interval`, `p`, and
    `holm`, corrected for all comparisons of the table); and `notes`,
    `conditions`, `resamples`, `confidence`, `seed`, `dev`.
  """
  runs = {place: [Cell(path) for path in found[place]] for place in found}
  known = {
    system: next(r for p, r in runs.items() if p[0] == system)
    for system in systems
    if any(place[0] == system for place in runs)
  }
  devs = {
    name: [
      _dev(cell, number, runs.get((name, dev or '', CLEAN)))
      for number, cell in enumerate(several)
    ]
    for name, several in known.items()
  }
  rows, described, notes = [], {}, []
  for test in tests:
    for condition in conditions:
      here = {
        system: runs[system, test, condition]
        for system in systems
        if (system, test, condition) in runs
      }
      for system in systems:
        if system not in here:
          notes.append(f'{system} has no scores of {test}, {condition}')
      if not here:
        continue
      compared = _compared(here, devs, cache, resamples, seed)
      first = next(iter(here.values()))[0]
      described.setdefault(test, _described(first))
      for system, several in here.items():
        rows.append(
          {
            'system': system,
            'test': test,
            'condition': condition,
            'trials': first.metrics['trials'],
            **_figures(several),
            **compared[system],
            'synthetic': first.metrics['synthetic'],
            'cells': [cell.path.name for cell in several],
          }
        )
        notes += [
          f'{system} on {test}: {words}'
          for cell in several
          for words in cell.metrics['used_before']
        ]
  differences = [row['difference'] for row in rows if 'difference' in row]
  corrected = multiple.holm([change['p'] for change in differences])
  for change, value in zip(differences, corrected, strict=True):
    change['holm'] = value
  return {
    'systems': {
      name: _system(several, devs[name], name, runs)
      for name, several in known.items()
    },
    'tests': described,
    'conditions': list(conditions),
    'rows': rows,
    'notes': list(dict.fromkeys(notes)),
    'dev': dev,
    'comparisons': len(differences),
    'resamples': resamples,
    'confidence': CONFIDENCE,
    'seed': seed,
  }


def _described(cell: Cell) -> dict[str, Any]:
  """What is known of a test."""
  found = cell.metrics
  return {
    'corpus': found['corpus'],
    'split': found['split'],
    'trials': found['trials'],
    'attacks': {n: a['trials'] for n, a in found['per_attack'].items()},
    'groups': {
      column: {name: one['trials'] for name, one in rows.items()}
      for column, rows in found['groups'].items()
    },
    'resampled': found['resampled'],
  }


def _dev(
  cell: Cell, number: int, others: Sequence[Cell] | None
) -> dict[str, Any] | None:
  """What is carried over from dev: the system's own, or that of the table."""
  own = cell.metrics['system'].get('dev')
  return others[number].metrics['carries'] if own is None and others else own


def _figures(several: Sequence[Cell]) -> dict[str, Any]:
  """Means over seeds."""
  each = [cell.metrics for cell in several]
  eers = [values['eer'] for values in each]
  attacks = [values['per_attack'] for values in each]
  groups = [values['groups'] for values in each]
  return {
    **{name: _mean(values.get(name) for values in each) for name in RAW},
    'deviation': statistics.stdev(eers) if len(eers) > 1 else None,
    'eers': eers,
    'per_attack': {
      name: statistics.mean(found[name]['eer'] for found in attacks)
      for name in attacks[0]
    },
    'groups': {
      column: {
        name: _mean(found[column][name]['eer'] for found in groups)
        for name in rows
      }
      for column, rows in groups[0].items()
    },
  }


def _carried_over(
  several: Sequence[Cell], devs: Sequence[dict | None]
) -> dict[str, float | None]:
  """Figures in `CARRIED`, means over seeds."""
  each = []
  for cell, dev in zip(several, devs, strict=True):
    if dev is None:
      return dict.fromkeys(CARRIED)
    trials = cell.run.scores[cell.metrics['name']]
    affine = calibration.Affine(dev['slope'], dev['intercept'])
    said = calibration.figures(affine(trials.scores), trials.label)
    rates = error_rates(trials.scores, trials.label, dev['threshold'])
    each.append({**said, **rates._asdict()})
  return {name: statistics.mean(v[name] for v in each) for name in CARRIED}


def _mean(values) -> float | None:
  """None where any is missing."""
  values = list(values)
  return None if None in values else statistics.mean(values)


def _compared(
  here: Mapping[str, Sequence[Cell]],
  devs: Mapping[str, Sequence[dict | None]],
  cache: pathlib.Path,
  resamples: int,
  seed: int,
) -> dict[str, dict]:
  """What follows from the scores of all systems on the same trials.

  It is kept as a cell, so that a finished benchmark reads no scores.

  Returns:
    By system the figures in `CARRIED`, `interval` of the mean EER over seeds,
    and, but for the first, `difference`: of its mean EER less that of the first
    `value`, `interval` and the two-sided `p` (see `metrics.multiple`).
  """
  key = {
    'intervals': clustered.EXPANDED,
    'compared': [[c.path.name for c in several] for several in here.values()],
    'carried': [devs[name] for name in here],
    'resamples': resamples,
    'seed': seed,
  }
  cell = cache / cells.name_of(key)

  def make() -> None:
    found = _comparison(here, devs, resamples, seed)
    with cells.writing(cell) as whole:
      files.write_json(whole / _COMPARED, found)

  there = lambda name: (cache / name / _COMPARED).is_file()
  # Several processes may be at the same table.
  cells.share(cache / 'locks', {cell.name: make}, there)
  values = list(names.read_json(cell / _COMPARED).values())
  return dict(zip(here, values, strict=True))


def _comparison(
  here: Mapping[str, Sequence[Cell]],
  devs: Mapping[str, Sequence[dict | None]],
  resamples: int,
  seed: int,
) -> dict[str, dict]:
  """What `_compared` keeps."""
  named = {
    f'{name} {n}': one.run
    for name, several in here.items()
    for n, one in enumerate(several)
  }
  run = next(iter(named.values()))
  split = run.metrics['name']
  trials = aligned(split, named)
  first = next(iter(trials.values()))
  speaker = speakers(split, run, first.utterance)
  clusters = clustered.clusters_of(first.label, speaker, first.attack)
  eers_KxR = clustered.resampled_metrics(
    np.stack([t.scores for t in trials.values()]),
    first.label,
    speaker=speaker,
    attack=first.attack,
    resamples=resamples,
    seed=seed,
  )['eer']
  ends = np.cumsum([0, *map(len, here.values())])
  means_SxR = np.stack(
    [eers_KxR[a:b].mean(0) for a, b in zip(ends[:-1], ends[1:], strict=True)]
  )
  means = [
    statistics.mean(one.metrics['eer'] for one in several)
    for several in here.values()
  ]
  result: dict[str, dict] = {}
  for row, name in enumerate(here):
    interval = clustered.interval(means_SxR[row], CONFIDENCE, clusters=clusters)
    result[name] = {
      **_carried_over(here[name], devs[name]),
      'interval': list(interval),
    }
    if row:
      change = clustered.difference(
        means[row],
        means[0],
        means_SxR[[row, 0]],
        CONFIDENCE,
        clusters=clusters,
      )
      result[name]['difference'] = {
        'value': change.value,
        'interval': list(change.interval),
        'p': multiple.sign_p(means_SxR[row] - means_SxR[0], clusters=clusters),
      }
  return result


def _system(
  several: Sequence[Cell],
  devs: Sequence[dict | None],
  name: str,
  runs: Mapping[Place, Sequence[Cell]],
) -> dict[str, Any]:
  """What is known of a system; speed and time are medians."""
  about = [cell.metrics['system'] for cell in several]
  speeds = [
    cell.metrics['system'].get('ms_per_clip')
    for place, found in runs.items()
    if place[0] == name
    for cell in found
  ]
  first = about[0]
  return {
    'model': first['model'],
    'seeds': len(several),
    'weights': [one.get('sha256') for one in about],
    'selected_on': first['selected_on'],
    'trained_on': first.get('trained_on'),
    'parameters': first.get('parameters'),
    'macs': first.get('macs'),
    'seconds_scored': first.get('samples') and first['samples'] / 16_000,
    'ms_per_clip': _median(speeds),
    'batch': first.get('batch'),
    'device': first.get('device'),
    'memory': first.get('memory'),
    'minutes': _median([one.get('minutes') for one in about]),
    'dev': devs[0] and {n: devs[0][n] for n in ('of', 'trials')},
  }


def _median(values: Sequence[float | None]) -> float | None:
  """Of those that are known."""
  known = [value for value in values if value is not None]
  return statistics.median(known) if known else None
