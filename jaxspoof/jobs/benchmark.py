"""JOB: systems on corpora under conditions, as one table.

Read from top to bottom. A system is weights that are there (the workdir of a
run, a bundle, released weights), a folder of score files of others, or a config
file to train over several seeds; then each run is one of `train` in a workdir
of its own, `SYSTEM/seed_N`, and a finished one is reused. Each system, test and
condition is a cell: it is scored once, in a folder that is named by what its
scores follow from. What was interrupted goes on, and several processes share
the work. Then

  benchmark.json   the table as data
  benchmark.csv    the same, a line for each cell
  benchmark.md     the same to read
  benchmark.tex    the same for LaTeX
  report.html      the page

are written. Systems are compared with the first on the same resamples.
"""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from jaxspoof import config as config_lib
from jaxspoof import overrides, report
from jaxspoof.config import job_section, run_config
from jaxspoof.darts.network.light_darts import read_genotype
from jaxspoof.data import conditions
from jaxspoof.jobs import train, train_genotype
from jaxspoof.machine import files
from jaxspoof.report import sweep_texts as texts
from jaxspoof.runs import cells, names
from jaxspoof.runs import splits as splits_lib
from jaxspoof.sweep import scored, table
from jaxspoof.sweep import systems as systems_lib
from jaxspoof.training import setup
from jaxspoof.training import sharding as sharding_lib

FUSION = 'fusion'  # name of that system


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """How clips are read; fields mean what they do for training.

  Attributes:
    data_dir: where built corpora lie; None for the TFDS default.
    build: build a corpus first where it is missing.
    eval_batch: clips scored at once, over all devices and hosts.
    workers: processes that decode; 0 for threads of this one.
  """

  data_dir: str | None = None
  build: bool = False
  eval_batch: int = 16
  workers: int = 0


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
  """Which systems are compared, on what.

  Attributes:
    systems: by name a config file, as for `--config`, that is trained with each
      of the seeds; a checkpoint, as `configs/evaluate.py` takes it, or a list
      of them, one for each seed; or a folder of score files. The others are
      compared with the first.
    tests: what is scored, as CORPUS:SPLIT, such as 'quickstart:eval'; empty for
      what the first config file reports on.
    conditions: as `conditions.make` reads them.
    dev: CORPUS:SPLIT that systems are calibrated on which do not keep the
      scores of their own dev split, and that a fusion is fitted on.
    fusion: whether the weighted sum of all systems, of their first seeds, is
      one more.
    seeds: of the runs of each config file.
    resamples: of the bootstrap over speakers and attacks.
    seed: of what conditions draw, and of the bootstrap.
    changes: fields that replace those of all config files, by dotted name.
    noise_dir: folder of own recordings, see `jobs.evaluate`.
    room_dir: folder of recorded rooms, likewise.
    cells: folder of the cells, which benchmarks may share; None for `cells` in
      the workdir.
    data: how clips are read.
    mesh: devices.
  """

  systems: Mapping[str, Any]
  tests: tuple[str, ...] = ()
  conditions: tuple[str, ...] = (conditions.CLEAN,)
  dev: str | None = None
  fusion: bool = False
  seeds: tuple[int, ...] = (1, 2, 3)
  resamples: int = 1000
  seed: int = 1234
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  noise_dir: str | None = None
  room_dir: str | None = None
  cells: str | None = None
  data: DataConfig = DataConfig()
  mesh: config_lib.MeshConfig = config_lib.MeshConfig()

  def __post_init__(self):
    if not self.systems:
      raise ValueError('config.systems is empty: expected a system or more')
    for name, given in self.systems.items():
      several = isinstance(given, list | tuple) and given
      if not all(isinstance(x, str) for x in (given if several else [given])):
        raise ValueError(
          f'config.systems.{name}={given!r}: expected a config file, a '
          'checkpoint, a folder of score files, or a list of checkpoints'
        )
    if not self.seeds or len(set(self.seeds)) < len(self.seeds):
      raise ValueError(f'config.seeds={self.seeds}: needs different seeds')
    for field in ('tests', 'conditions'):
      values = getattr(self, field)
      if isinstance(values, str) or len(set(values)) < len(values):
        raise ValueError(f'config.{field}={values!r}: expected different names')
    if not self.conditions:
      raise ValueError(
        "config.conditions is empty: expected such as ('clean',)"
      )
    if not (self.tests or self.recipes):
      raise ValueError(
        'config.tests is empty: expected CORPUS:SPLIT, such as quickstart:eval'
      )
    for spelt in (*self.tests, *([self.dev] if self.dev else [])):
      systems_lib.Test.read(spelt)
    if self.fusion and (self.dev is None or FUSION in self.systems):
      raise ValueError(
        f'config.fusion is set: expected config.dev, CORPUS:SPLIT, and no '
        f'other system called {FUSION!r}'
      )

  @property
  def recipes(self) -> dict[str, str]:
    """Config files, by name of their system."""
    return {n: given for n, given in self.systems.items() if is_recipe(given)}


def is_recipe(given: Any) -> bool:
  """Whether a system is a config file, with a variant or none."""
  return isinstance(given, str) and given.partition(':')[0].endswith('.py')


def benchmark(values: Mapping[str, Any], workdir: pathlib.Path) -> dict:
  """Trains or reuses every system, scores what was not scored, compares.

  Args:
    values: the config as a dictionary, see `BenchmarkConfig`.
    workdir: folder of the benchmark; made if missing.

  Returns:
    The content of `benchmark.json`.

  Raises:
    ValueError: a config that cannot work, here or in a system's file.
  """
  # ------------------------------------------------------------- checks ---
  config = job_section(BenchmarkConfig, values)
  folders = config.noise_dir or '', config.room_dir or ''
  wanted = [
    conditions.make(name, config.seed, *folders) for name in config.conditions
  ]
  clean = conditions.make(conditions.CLEAN, config.seed)
  changes = config.changes
  if config.data.data_dir is not None:
    changes = {'data.data_dir': config.data.data_dir, **changes}
  check_systems(config, changes)
  shardings = sharding_lib.make(config.mesh.devices)
  batch = config.data.eval_batch
  sharding_lib.check_batch(batch, shardings, 'data.eval_batch')
  first = jax.process_index() == 0

  # ----------------------------------------------------------- training ---
  trainings = {
    f'{system}.seed_{seed}': (path, seed, folder(workdir, system, seed))
    for system, path in config.recipes.items()
    for seed in config.seeds
  }
  share(
    workdir / 'locks',
    {
      name: functools.partial(run_of, changes, *task)
      for name, task in trainings.items()
    },
    lambda name: (trainings[name][-1] / names.METRICS).is_file(),
  )
  for path, seed, where in trainings.values():
    setup.claim(where, values_of(changes, path, seed), writes=False)

  # ------------------------------------------------------------- corpora ---
  tests = tests_of(config, changes)
  dev = config.dev and systems_lib.Test.read(config.dev, config.data.data_dir)
  corpora = {test.corpus: None for test in (*tests, *([dev] if dev else []))}
  setup.prepare_corpus(
    config_lib.DataConfig(
      '+'.join(corpora), config.data.data_dir, config.data.build
    )
  )
  wanted_cells = [(test, c) for test in tests for c in wanted]
  if dev and (dev, clean) not in wanted_cells:
    wanted_cells.append((dev, clean))

  # --------------------------------------------------------------- cells ---
  cache = scored.Cells(
    pathlib.Path(config.cells or workdir / names.CELLS),
    config.seed,
    config.resamples,
  )
  members = members_of(config, workdir, shardings, cache)
  found: dict[tuple[str, str, str], list[pathlib.Path]] = {}
  for system, several in members.items():
    count = compiled = 0
    for member in several:
      tasks = {}
      for test, condition in wanted_cells:
        path = cache.path(member, test, condition)
        if path is None:  # no such score file
          continue
        place = system, test.name, condition.name
        found.setdefault(place, []).append(path)
        tasks[path.name] = functools.partial(
          cache.fill, system, member, test, condition
        )
      count += share(cache.folder / 'locks', tasks, cache.holds)
      compiled += member.release()
    if count and first:
      print(f'{system}: {count} cells scored, {compiled} programs compiled')

  # ------------------------------------------------------------- results ---
  sharding_lib.barrier('cells')
  result = {}
  if first:
    result = table.make(
      found,
      tests=[test.name for test in tests],
      conditions=config.conditions,
      dev=config.dev,
      systems=list(members),
      cache=cache.folder,
      resamples=config.resamples,
      seed=config.seed,
    )
    files.write_json(workdir / names.CONFIG, dict(values))
    files.write_json(workdir / names.BENCHMARK, result)
    text = texts.markdown(result)
    files.write_atomically(workdir / 'benchmark.md', text)
    files.write_atomically(workdir / 'benchmark.csv', texts.csv(result))
    files.write_atomically(workdir / 'benchmark.tex', texts.latex(result))
    page = report.write(workdir)
    print(f'\n{text}\ntable: {page}')
  sharding_lib.barrier('benchmark')
  return result


# ------------------------------------------------------------------ helpers ---
def share(locks: pathlib.Path, tasks, done) -> int:
  """Does what is not done, and counts it; hosts of one job all together."""
  if jax.process_count() == 1:
    return cells.share(locks, tasks, done)
  missing = [name for name in tasks if not done(name)]
  sharding_lib.barrier('missing')
  for name in missing:
    tasks[name]()
  sharding_lib.barrier('shared')
  return len(missing)


def tests_of(
  config: BenchmarkConfig, changes: Mapping[str, Any]
) -> list[systems_lib.Test]:
  """What is scored: what the config says, or what the first recipe reports."""
  spelt = config.tests
  if not spelt:
    path = next(iter(config.recipes.values()))
    data = run_config(values_of(changes, path, config.seeds[0])).data
    spelt = [
      f'{part.corpus}:{part.split}'
      for split in data.eval
      for part in splits_lib.parts(data.name, split)
    ]
  return [systems_lib.Test.read(s, config.data.data_dir) for s in spelt]


def members_of(
  config: BenchmarkConfig,
  workdir: pathlib.Path,
  shardings: sharding_lib.Shardings,
  cache: scored.Cells,
) -> dict[str, list]:
  """What gives scores, by system: one for each seed."""
  found: dict[str, list] = {}
  for system, given in config.systems.items():
    paths = [given] if isinstance(given, str) else list(given)
    if system in config.recipes:
      paths = [str(folder(workdir, system, seed)) for seed in config.seeds]
    found[system] = [
      systems_lib.ScoreFiles(path)
      if systems_lib.is_score_files(path)
      else systems_lib.Checkpoint(
        path, shardings, config.data.eval_batch, config.data.workers
      )
      for path in paths
    ]
  if config.fusion:
    found[FUSION] = [
      systems_lib.Fusion(
        {
          name: functools.partial(cache.path, several[0])
          for name, several in found.items()
        },
        systems_lib.Test.read(config.dev, config.data.data_dir),
        conditions.make(conditions.CLEAN, config.seed),
      )
    ]
  return found


def folder(workdir: pathlib.Path, system: str, seed: int) -> pathlib.Path:
  """The workdir of one run."""
  return workdir / system / f'seed_{seed}'


def check_systems(config: BenchmarkConfig, changes: Mapping[str, Any]) -> None:
  """Refuses what would fail, or could not be compared, after hours.

  Raises:
    ValueError: a system's config that cannot work, or, where the tests are
      those of the config files, one of other trials than the first's; a path
      where there is nothing.
  """
  for name, given in config.systems.items():
    for path in [given] if isinstance(given, str) else given:
      if name not in config.recipes:
        systems_lib.check(path, f'config.systems.{name}')
  made = {
    name: run_config(values_of(changes, path, config.seeds[0])).data
    for name, path in config.recipes.items()
  }
  if config.tests:
    return
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
    setup.claim(workdir, values, writes=False)
    print(f'{workdir} is finished already')
    return
  print(f'{workdir}: {path}', flush=True)
  train.train(values, workdir)
