"""JOB: asks whether a search was worth it.

The cells that it found, random cells that cost as much and the hand-made
default are trained with the same budget and several seeds, and compared on the
same trials. What comes out is reported, also if the search does not win.
"""

import dataclasses
import json
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxspoof import models, report
from jaxspoof.config import DataConfig, job_section, run_config
from jaxspoof.darts import spaces
from jaxspoof.darts.network import light_darts_cost
from jaxspoof.darts.network.light_darts import read_genotype
from jaxspoof.darts.spaces.genotype import Genotype, random_genotype
from jaxspoof.data import pipeline
from jaxspoof.jobs import search, train, train_genotype
from jaxspoof.machine import files
from jaxspoof.metrics import clustered
from jaxspoof.metrics.eer import eer_of
from jaxspoof.runs import names
from jaxspoof.score_files import scores
from jaxspoof.training import setup
from jaxspoof.training import sharding as sharding_lib

FOUND, RANDOM, DEFAULT = 'found', 'random', 'default'
DRAWS = 3000  # random genotypes looked at, for some of the cost wanted


@dataclasses.dataclass(frozen=True)
class StudyConfig:
  """A comparison of cells.

  Attributes:
    train: config of the training of each cell, as of `configs/light_darts.py`;
      its genotype is the hand-made default.
    search: config of the search that finds the cells.
    genotype: file of cells that were found before, or the name of published
      ones; '' searches first.
    random: number of random cells.
    seeds: each cell is trained with each of them.
    tolerance: by which share the MACs of a random cell may differ.
    seed: of the random cells and of the bootstrap.
    resamples: of the bootstrap.
  """

  train: Mapping[str, Any]
  search: Mapping[str, Any]
  genotype: str = ''
  random: int = 3
  seeds: tuple[int, ...] = (0, 1, 2)
  tolerance: float = 0.05
  seed: int = 0
  resamples: int = 1000

  def __post_init__(self):
    if self.random < 1:
      raise ValueError(f'random={self.random}: expected 1 random cell or more')
    if len(set(self.seeds)) < 2:
      raise ValueError(
        f'seeds={self.seeds}: expected 2 different ones or more, for one run '
        'says nothing of the spread between runs'
      )
    if not 0 < self.tolerance < 1:
      raise ValueError(f'tolerance={self.tolerance}: expected a share, as 0.05')


def study(values: dict[str, Any], workdir: pathlib.Path) -> dict[str, Any]:
  """Searches, trains all cells and compares them; leaves `study.json`.

  Started again it goes on with what was not finished.

  Args:
    values: the config as a dictionary, see `StudyConfig`.
    workdir: folder of the study; the runs lie below it.

  Returns:
    The content of `study.json`.
  """
  # ------------------------------------------------------------- checks ---
  config = job_section(StudyConfig, values)
  training = dict(config.train)
  default = read_genotype(training.pop('genotype'))
  first = jax.process_index() == 0
  data = run_config(with_cells(training, default, 0)).data
  found = read_genotype(config.genotype)
  for genotype in (default, found):  # before hours of search
    setup.shortest_clip(run_config(with_cells(training, genotype, 0)))
  setup.claim(workdir, values)

  # --------------------------------------------------------------- cells ---
  if not config.genotype:
    search.search(dict(config.search), workdir / 'search')
    found = Genotype.load(workdir / 'search' / names.GENOTYPE)
  cells = {FOUND: found, DEFAULT: default}
  drawn = random_cells(config, training, found, data.eval_samples)
  cells |= {f'{RANDOM}_{n}': one for n, one in enumerate(drawn, 1)}

  # ---------------------------------------------------------------- runs ---
  for name, genotype in cells.items():
    for seed in config.seeds:
      folder = run_folder(workdir, name, seed)
      run = with_cells(training, genotype, seed)
      if (folder / names.METRICS).is_file():
        setup.claim(folder, run)  # refuses one of other cells
        continue
      if first:
        print(f'\n{name}, seed {seed}: {folder}', flush=True)
      train.train(run, folder)

  # ---------------------------------------------------------- comparison ---
  result = {}
  if first:
    result = compared(config, workdir, cells, training, data)
    files.write_json(workdir / names.STUDY, result)
    page = report.write(workdir)
    from jaxspoof.darts.pages import study as study_page

    print(f'{study_page.said(result)}\nreport: {page}')
  sharding_lib.barrier('study')
  return result


# ------------------------------------------------------------------ helpers ---
def compared(
  config: StudyConfig,
  workdir: pathlib.Path,
  cells: Mapping[str, Genotype],
  training: Mapping[str, Any],
  data: DataConfig,
) -> dict[str, Any]:
  """The content of `study.json`, from the finished runs."""
  splits = setup.Splits(data, 'each run by its own dev EER')
  return {
    'cells': {
      name: {
        'genotype': json.loads(genotype.to_json()),
        'macs': macs_of(training, genotype, data.eval_samples),
        'parameters': parameters_of(run_folder(workdir, name, config.seeds[0])),
      }
      for name, genotype in cells.items()
    },
    'splits': {
      split: compare(config, workdir, list(cells), splits.open(split), split)
      for split in (*data.eval, data.dev)
    },
    'seeds': list(config.seeds),
    'resamples': config.resamples,
  }


def with_cells(
  training: Mapping[str, Any], genotype: Genotype, seed: int
) -> dict[str, Any]:
  """Config of the training of some cells."""
  return {**train_genotype.with_genotype(training, genotype), 'seed': seed}


def run_folder(workdir: pathlib.Path, name: str, seed: int) -> pathlib.Path:
  """Where one cell is trained with one seed."""
  return workdir / 'runs' / name / f'seed_{seed}'


def macs_of(training, genotype: Genotype, samples: int) -> int:
  """Multiply-accumulates of a clip by the network of some cells."""
  # Thousands are asked for: summed, not counted in a traced program.
  values = with_cells(training, genotype, 0)
  system = models.system(values['model'], values.get('frontend', ''))
  return light_darts_cost.macs(system, samples)


def parameters_of(folder: pathlib.Path) -> int:
  """Trained values, as the run has counted them."""
  return names.read_json(folder / names.COST)['parameters']


def random_cells(
  config: StudyConfig, training, found: Genotype, samples: int
) -> list[Genotype]:
  """Random cells that cost about as much as the found ones.

  Raises:
    ValueError: too few were met.
  """
  wanted = macs_of(training, found, samples)
  space = spaces.space(found.space)
  rng = np.random.default_rng(config.seed)
  taken: list[Genotype] = []
  nearest = np.inf
  for _ in range(DRAWS):
    one = random_genotype(space, found.nodes, rng)
    off = abs(macs_of(training, one, samples) / wanted - 1)
    nearest = min(nearest, off)
    if off <= config.tolerance and one not in (found, *taken):
      taken.append(one)
      if len(taken) == config.random:
        return taken
  raise ValueError(
    f'of {DRAWS} random cells {len(taken)} cost within {config.tolerance:.0%} '
    f'of the found ones ({wanted / 1e6:,.1f} million MACs), expected '
    f'{config.random}; the nearest is off by {nearest:.1%}: raise tolerance'
  )


def compare(
  config: StudyConfig, workdir: pathlib.Path, cells: list[str], source, split
) -> dict[str, Any]:
  """EERs of all runs on a split, and the differences between groups of cells.

  A resample draws speakers, attacks, the cells of each group and the seeds of
  each cell, all with replacement: a difference that another seed, another
  random cell or another test set could turn round has an interval that holds 0.
  """
  runs = [(name, seed) for name in cells for seed in config.seeds]
  known = pipeline.trials(source)
  rows = [
    scores.read(names.scores(run_folder(workdir, *run), split)) for run in runs
  ]
  for run, row in zip(runs, rows, strict=True):
    if not np.array_equal(row.utterance, known.utterance):
      raise ValueError(
        f'{run_folder(workdir, *run)} has scored other trials of split '
        f'{split!r} than the corpus holds now'
      )
  scores_KxN = np.stack([row.scores for row in rows])
  eers = [eer_of(row.scores, row.label).eer for row in rows]
  eers_KxR = clustered.resampled_metrics(
    scores_KxN,
    known.label,
    speaker=known.speaker,
    attack=known.attack,
    resamples=config.resamples,
    seed=config.seed,
  )['eer']
  clusters = clustered.clusters_of(known.label, known.speaker, known.attack)
  groups = {
    group: [k for k, (name, _) in enumerate(runs) if name.startswith(group)]
    for group in (FOUND, RANDOM, DEFAULT)
  }
  rng = np.random.default_rng(config.seed)
  means_R = {
    g: _means(eers_KxR[own], len(config.seeds), rng)
    for g, own in groups.items()
  }
  means = {
    g: float(np.mean([eers[k] for k in own])) for g, own in groups.items()
  }
  return {
    'runs': [
      {'cell': name, 'seed': seed, 'eer': eer}
      for (name, seed), eer in zip(runs, eers, strict=True)
    ],
    'groups': {
      group: {
        'eer': means[group],
        'deviation': float(np.std([eers[k] for k in own], ddof=1)),
        'interval': [
          float(x)
          for x in clustered.interval(means_R[group], clusters=clusters)
        ],
      }
      for group, own in groups.items()
    },
    'found_less': {
      group: _difference(means, means_R, group, clusters)
      for group in (RANDOM, DEFAULT)
    },
  }


def _means(
  eers_KxR: np.ndarray, seeds: int, rng: np.random.Generator
) -> np.ndarray:
  """Mean over runs that are drawn anew in each resample, [R].

  The runs of one cell are alike, so cells are drawn, and seeds within them.

  Args:
    eers_KxR: of runs, those of a cell beside each other, and resamples.
    seeds: runs of each cell.
    rng: what draws.
  """
  cells, resamples = len(eers_KxR) // seeds, eers_KxR.shape[1]
  cell = rng.integers(0, cells, (cells, 1, resamples))
  seed = rng.integers(0, seeds, (cells, seeds, resamples))
  drawn = (cell * seeds + seed).reshape(-1, resamples)
  return np.take_along_axis(eers_KxR, drawn, 0).mean(0)


def _difference(means, means_R, group: str, clusters: int) -> dict[str, Any]:
  """The found cells less a group: below 0 the search has won."""
  change = clustered.difference(
    means[FOUND] - means[group],
    0.0,
    np.stack([means_R[FOUND], means_R[group]]),
    clusters=clusters,
  )
  return {
    'value': change.value,
    'interval': [float(x) for x in change.interval],
    'same_sign': float(change.share),
  }
