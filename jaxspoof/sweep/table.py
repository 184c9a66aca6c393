"""The table of a benchmark as data, from its cells alone.

The same cells give the same table, whoever made them and when.
"""

import json
import pathlib
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxspoof.data.conditions import CLEAN
from jaxspoof.machine import files
from jaxspoof.metrics import calibration, clustered, multiple
from jaxspoof.metrics.rates import error_rates
from jaxspoof.runs import cells
from jaxspoof.runs.run import Run, aligned, load, speakers
from jaxspoof.sweep.systems import carried

CONFIDENCE = 0.95
# Of the scores as they are, from the cells.
RAW = ('eer', 'min_tdcf_legacy', 'min_tdcf_revised', 'min_dcf')
# Of what is carried over from dev.
CARRIED = ('act_dcf', 'cllr', 'miss', 'false_alarm')
_COMPARED = 'compared.json'

Place = tuple[str, str, str]  # system, test, condition


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
    them and what they cost; `tests` by name: `trials`, `attacks` and what was
    `resampled`; `rows`, one for each system, test and condition: for each name
    in `RAW` and `CARRIED` its mean over seeds or None, `deviation` (standard
    deviation of the EER over seeds, None of one), `eers`, `interval`,
    `per_attack` EERs, `cells` and, but for the first system, `difference`
    (`value`, `interval`, `p`, and `holm`, corrected for all comparisons of the
    table); and `notes`, `conditions`, `resamples`, `confidence`, `seed`, `dev`.
  """
  runs = {place: [load(path) for path in found[place]] for place in found}
  known = {
    system: next(r for p, r in runs.items() if p[0] == system)
    for system in systems
    if any(place[0] == system for place in runs)
  }
  devs = {
    name: [
      _dev(run, number, dev and runs.get((name, dev, CLEAN)), dev)
      for number, run in enumerate(several)
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
      compared = _compared(here, found, test, condition, cache, resamples, seed)
      first = next(iter(here.values()))[0]
      described.setdefault(test, _described(first))
      for system, several in here.items():
        rows.append(
          {
            'system': system,
            'test': test,
            'condition': condition,
            'trials': first.metrics['trials'],
            **_figures(several, devs[system]),
            **compared[system],
            'synthetic': first.metrics['synthetic'],
            'cells': [path.name for path in found[system, test, condition]],
          }
        )
        for run in several:
          notes += [
            f'{system} on {test}: {words}'
            for words in run.metrics['used_before']
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


def _described(run: Run) -> dict[str, Any]:
  """What is known of a test."""
  found = run.metrics
  return {
    'corpus': found['corpus'],
    'split': found['split'],
    'trials': found['trials'],
    'attacks': {n: a['trials'] for n, a in found['per_attack'].items()},
    'resampled': found['resampled'],
  }


def _scores(run: Run):
  """The scores of a cell."""
  return run.scores[run.metrics['name']]


def _dev(
  run: Run, number: int, others: Sequence[Run] | None, dev: str | None
) -> dict[str, Any] | None:
  """What is carried over from dev: the system's own, or that of the table."""
  own = run.metrics['system'].get('dev')
  if own is None and others:
    trials = _scores(others[number])
    own = carried(trials.scores, trials.label, f'{dev} of this benchmark')
  return own


def _figures(
  several: Sequence[Run], devs: Sequence[dict | None]
) -> dict[str, Any]:
  """Means over seeds."""
  each = []
  for run, dev in zip(several, devs, strict=True):
    values = {name: run.metrics.get(name) for name in RAW}
    if dev is not None:
      trials = _scores(run)
      affine = calibration.Affine(dev['slope'], dev['intercept'])
      said = calibration.figures(affine(trials.scores), trials.label)
      values |= {name: said[name] for name in ('act_dcf', 'cllr')}
      rates = error_rates(trials.scores, trials.label, dev['threshold'])
      values |= rates._asdict()
    each.append(values)
  eers = [values['eer'] for values in each]
  attacks = [run.metrics['per_attack'] for run in several]
  return {
    **{name: _mean(v.get(name) for v in each) for name in (*RAW, *CARRIED)},
    'deviation': statistics.stdev(eers) if len(eers) > 1 else None,
    'eers': eers,
    'per_attack': {
      name: statistics.mean(found[name]['eer'] for found in attacks)
      for name in attacks[0]
    },
  }


def _mean(values) -> float | None:
  """None where any is missing."""
  values = list(values)
  return None if None in values else statistics.mean(values)


def _compared(
  here: Mapping[str, Sequence[Run]],
  found: Mapping[Place, Sequence[pathlib.Path]],
  test: str,
  condition: str,
  cache: pathlib.Path,
  resamples: int,
  seed: int,
) -> dict[str, dict]:
  """Intervals and differences of systems on the same trials, kept as a cell.

  Returns:
    By system `interval` of the mean over its seeds, and, but for the first,
    `difference`: of its mean EER less that of the first `value`, `interval` and
    the two-sided `p` (see `metrics.multiple`).
  """
  members = [[p.name for p in found[s, test, condition]] for s in here]
  key = {'compared': members, 'resamples': resamples, 'seed': seed}
  cell = cache / cells.name_of(key)
  if (cell / _COMPARED).is_file():
    values = list(json.loads((cell / _COMPARED).read_text()).values())
    return dict(zip(here, values, strict=True))
  named = {
    f'{name} {n}': run
    for name, runs in here.items()
    for n, run in enumerate(runs)
  }
  run = next(iter(named.values()))
  split = run.metrics['name']
  trials = aligned(split, named)
  first = next(iter(trials.values()))
  eers_KxR = clustered.resampled_metrics(
    np.stack([t.scores for t in trials.values()]),
    first.label,
    speaker=speakers(split, run, first.utterance),
    attack=first.attack,
    resamples=resamples,
    seed=seed,
  )['eer']
  ends = np.cumsum([0, *map(len, here.values())])
  means_SxR = np.stack(
    [eers_KxR[a:b].mean(0) for a, b in zip(ends[:-1], ends[1:], strict=True)]
  )
  means = [
    statistics.mean(run.metrics['eer'] for run in runs)
    for runs in here.values()
  ]
  result: dict[str, dict] = {}
  for row, name in enumerate(here):
    interval = clustered.interval(means_SxR[row], CONFIDENCE)
    result[name] = {'interval': list(interval)}
    if row:
      change = clustered.difference(
        means[row], means[0], means_SxR[[row, 0]], CONFIDENCE
      )
      result[name]['difference'] = {
        'value': change.value,
        'interval': list(change.interval),
        'p': multiple.sign_p(means_SxR[row] - means_SxR[0]),
      }
  with cells.writing(cell) as whole:
    files.write_json(whole / _COMPARED, result)
  return result


def _system(
  several: Sequence[Run],
  devs: Sequence[dict | None],
  name: str,
  runs: Mapping[Place, Sequence[Run]],
) -> dict[str, Any]:
  """What is known of a system; speed and time are medians."""
  about = [run.metrics['system'] for run in several]
  speeds = [
    run.metrics['system'].get('ms_per_clip')
    for place, found in runs.items()
    if place[0] == name
    for run in found
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
    'minutes': _median([one.get('minutes') for one in about]),
    'dev': devs[0] and {n: devs[0][n] for n in ('of', 'trials')},
  }


def _median(values: Sequence[float | None]) -> float | None:
  """Of those that are known."""
  known = [value for value in values if value is not None]
  return statistics.median(known) if known else None
