"""JOB: trains several systems over several seeds and compares them.

Read from top to bottom. Each run is a run of `train` in a workdir of its own
below the benchmark's, `SYSTEM/seed_N`; a finished one is reused, one that was
stopped goes on. Then

  benchmark.json   the table as data, per split
  benchmark.md     the same to read
  compare.html     the first seed of all systems side by side

are written. Systems are compared on the same bootstrap resamples, by the mean
of their seeds' EERs.
"""

import dataclasses
import pathlib
import statistics
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxspoof import overrides
from jaxspoof.config import job_section, run_config
from jaxspoof.darts.network.light_darts import read_genotype
from jaxspoof.jobs import train, train_genotype
from jaxspoof.machine import files
from jaxspoof.metrics import clustered
from jaxspoof.report import comparison
from jaxspoof.runs import names
from jaxspoof.runs.run import aligned, load, speakers
from jaxspoof.training import setup
from jaxspoof.training import sharding as sharding_lib


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
  """Which systems are compared.

  Attributes:
    systems: config file, as for `--config`, by name of the system; the others
      are compared with the first.
    seeds: of the runs of each.
    resamples: of the bootstrap over speakers and attacks.
    changes: fields that replace those of all config files, by dotted name.
  """

  systems: Mapping[str, str]
  seeds: tuple[int, ...] = (1, 2, 3)
  resamples: int = 1000
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if len(self.systems) < 2:
      raise ValueError('config.systems: needs two systems or more')
    if not self.seeds or len(set(self.seeds)) < len(self.seeds):
      raise ValueError(f'config.seeds={self.seeds}: needs different seeds')


def benchmark(values: Mapping[str, Any], workdir: pathlib.Path) -> dict:
  """Trains or reuses every system and compares them.

  Args:
    values: the config as a dictionary, see `BenchmarkConfig`.
    workdir: folder of the benchmark; made if missing.

  Returns:
    The content of `benchmark.json`.

  Raises:
    ValueError: a config that cannot work, here or in a system's file.
  """
  config = job_section(BenchmarkConfig, values)

  check_systems(config)

  # ----------------------------------------------------------- training ---
  for system, path in config.systems.items():
    for seed in config.seeds:
      run_of(config.changes, path, seed, folder(workdir, system, seed))

  # ------------------------------------------------------------ results ---
  result = {}
  if jax.process_index() == 0:
    result = compare(config, workdir)
    files.write_json(workdir / names.BENCHMARK, result)
    text = markdown(result)
    files.write_atomically(workdir / 'benchmark.md', text)
    page = comparison.write(
      [folder(workdir, name, config.seeds[0]) for name in config.systems],
      workdir / 'compare.html',
    )
    print(f'\n{text}\ncomparison: {page}')
  sharding_lib.barrier('benchmark')
  return result


def folder(workdir: pathlib.Path, system: str, seed: int) -> pathlib.Path:
  """The workdir of one run."""
  return workdir / system / f'seed_{seed}'


def check_systems(config: BenchmarkConfig) -> None:
  """Refuses what would fail, or could not be compared, after hours.

  Raises:
    ValueError: a system's config that cannot work, or one of other trials than
      the first's.
  """
  made = {
    name: run_config(values_of(config.changes, path, config.seeds[0])).data
    for name, path in config.systems.items()
  }
  first, *others = made
  for name in others:
    for field in ('name', 'dev', 'eval'):
      ours, theirs = (getattr(made[n], field) for n in (name, first))
      if ours != theirs:
        raise ValueError(
          f'{config.systems[name]}: data.{field} is {ours!r}, but that of '
          f'{config.systems[first]} {theirs!r}: expected the same trials'
        )


def values_of(
  changes: Mapping[str, Any], path: str, seed: int
) -> dict[str, Any]:
  """The config of one run, as `train.train` takes it.

  Args:
    changes: fields that replace those of the file, by dotted name.
    path: config file, as for `--config`.
    seed: of the run.
  """
  made = overrides.load(path)
  made.seed = seed
  for old, value in changes.items():
    name = overrides.today(old)
    overrides.check_path(made, name)
    *parents, last = name.split('.')
    part = made
    for parent in parents:
      part = part[parent]
    part[last] = value
  values = made.to_dict()
  if 'genotype' in values:  # of job 'train_genotype'
    genotype = read_genotype(values.pop('genotype'))
    values = train_genotype.with_genotype(values, genotype)
  return values


def run_of(
  changes: Mapping[str, Any], path: str, seed: int, workdir: pathlib.Path
) -> None:
  """Trains one system with one seed, unless that is done."""
  values = values_of(changes, path, seed)
  if (workdir / names.METRICS).is_file():
    setup.claim(workdir, values)
    print(f'{workdir} is finished already')
    return
  print(f'{workdir}: {path}', flush=True)
  train.train(values, workdir)


def compare(config: BenchmarkConfig, workdir: pathlib.Path) -> dict:
  """Figures of all systems on the splits that they report on.

  Returns:
    What JSON can hold: `seeds`, `resamples`, `confidence`; `systems` by name:
    `parameters`, `macs_per_clip`, `clips_per_s`, `minutes` (medians over
    seeds); `splits` by name: `trials`, `resampled` and `systems` by name:
    `eer` (mean over seeds), `deviation` (standard deviation over seeds, None
    of one), `eers`, `interval` and, but for the first system, `difference`
    (`value`, `interval`, `share` of resamples of the same sign).
  """
  runs = {
    name: [load(folder(workdir, name, seed)) for seed in config.seeds]
    for name in config.systems
  }
  first = next(iter(runs.values()))[0]
  return {
    'seeds': list(config.seeds),
    'resamples': config.resamples,
    'confidence': 0.95,
    'systems': {name: _cost(found) for name, found in runs.items()},
    'splits': {
      split: _split(split, runs, config.resamples) for split in first.summaries
    },
  }


def _cost(runs) -> dict:
  """Size, work and speed of a system: medians over its seeds."""
  costs = [run.cost for run in runs]
  return {
    'parameters': costs[0]['parameters'],
    'macs_per_clip': costs[0]['macs_per_clip']['total'],
    'clips_per_s': statistics.median(c['clips_per_s'] for c in costs),
    'minutes': statistics.median(c['minutes'] for c in costs),
    'device': costs[0]['device'],
  }


def _split(split: str, runs: Mapping[str, list], resamples: int) -> dict:
  """The entry of `splits`; see `compare`."""
  named = {
    f'{name} {n}': run
    for name, found in runs.items()
    for n, run in enumerate(found)
  }
  trials = aligned(split, named)
  first = next(iter(trials.values()))
  speaker = speakers(split, next(iter(named.values())), first.utterance)
  eers_KxR = clustered.resampled_metrics(
    np.stack([t.scores for t in trials.values()]),
    first.label,
    speaker=speaker,
    attack=first.attack,
    resamples=resamples,
  )['eer']
  seeds = len(named) // len(runs)
  means_SxR = eers_KxR.reshape(len(runs), seeds, -1).mean(1)
  systems: dict[str, dict] = {}
  for row, (name, found) in enumerate(runs.items()):
    eers = [run.rates[split].eer for run in found]
    systems[name] = {
      'eer': statistics.mean(eers),
      'deviation': statistics.stdev(eers) if seeds > 1 else None,
      'eers': eers,
      'interval': list(clustered.interval(means_SxR[row])),
    }
    if row:
      reference = next(iter(systems.values()))['eer']
      change = clustered.difference(
        systems[name]['eer'], reference, means_SxR[[row, 0]]
      )
      systems[name]['difference'] = {
        **change._asdict(), 'interval': list(change.interval)
      }  # fmt: skip
  return {
    'trials': len(first.label),
    'resampled': clustered.resampled(first.label, speaker, first.attack),
    'systems': systems,
  }


def markdown(result: dict) -> str:
  """The table of a benchmark to read."""
  costs = result['systems']
  lines = [
    '| system | parameters | MACs per clip | clips/s | minutes |',
    '|---|---|---|---|---|',
  ]
  for name, cost in costs.items():
    lines.append(
      f'| {name} | {cost["parameters"]:,} | {cost["macs_per_clip"] / 1e6:,.0f} '
      f'M | {cost["clips_per_s"]:.1f} | {cost["minutes"]:.1f} |'
    )
  seeds = len(result['seeds'])
  for split, found in result['splits'].items():
    lines += [
      '',
      f'Split {split}, {found["trials"]:,} trials; 95 % intervals over '
      f'{found["resampled"]}, {result["resamples"]:,} resamples:',
      '',
      f'| system | EER %, mean of {seeds} | deviation | interval | '
      'less the first, points |',
      '|---|---|---|---|---|',
      *(_row(name, values) for name, values in found['systems'].items()),
    ]
  return '\n'.join(lines) + '\n'


def _row(name: str, values: dict) -> str:
  deviation, change = values['deviation'], values.get('difference')
  cells = [
    name,
    f'{100 * values["eer"]:.2f}',
    '' if deviation is None else f'{100 * deviation:.2f}',
    _points(values['interval'], '.2f'),
    '',
  ]
  if change is not None:
    interval = _points(change['interval'], '+.2f')
    cells[-1] = f'{100 * change["value"]:+.2f} {interval}'
  return f'| {" | ".join(cells)} |'


def _points(interval, form: str) -> str:
  low, high = (format(100 * end, form) for end in interval)
  return f'[{low}, {high}]'
