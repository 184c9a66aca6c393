"""JOB: how a system does on corpora that it was not trained on.

Read from top to bottom. Of several corpora each is left out once: the system is
trained and selected on all the others, in `without_CORPUS`, and then evaluated
on the one that was left out, in `without_CORPUS/on_CORPUS`. Both are workdirs
of their jobs; finished ones are reused, and one that was stopped goes on. Then

  leave_one_out.json   the table as data
  leave_one_out.md     the same to read

are written.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax

from jaxspoof import overrides
from jaxspoof.config import job_section, run_config
from jaxspoof.jobs import benchmark, evaluate
from jaxspoof.machine import files
from jaxspoof.runs import names
from jaxspoof.training import setup
from jaxspoof.training import sharding as sharding_lib


@dataclasses.dataclass(frozen=True)
class LeaveOneOutConfig:
  """Which system is trained, on which corpora.

  Attributes:
    system: config file, as for `--config`, of a training run.
    corpora: as `data.name` calls them; each is left out once.
    eval: split of a corpus that was left out which is scored.
    seed: of the runs.
    resamples: of the bootstrap over speakers and attacks.
    changes: fields that replace those of the config file, by dotted name.
  """

  system: str
  corpora: tuple[str, ...]
  eval: str = 'eval'
  seed: int = 1
  resamples: int = 1000
  changes: Mapping[str, Any] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if len(self.corpora) < 2 or len(set(self.corpora)) < len(self.corpora):
      raise ValueError(
        f'config.corpora={self.corpora}: expected two different corpora or '
        'more, of which each is left out once'
      )
    if 'data.name' in self.changes:
      raise ValueError(
        'config.changes names data.name: expected it in config.corpora'
      )


def leave_one_out(values: Mapping[str, Any], workdir: pathlib.Path) -> dict:
  """Trains without each corpus, and evaluates on it.

  Args:
    values: the config as a dictionary, see `LeaveOneOutConfig`.
    workdir: folder of the job; made if missing.

  Returns:
    The content of `leave_one_out.json`.

  Raises:
    ValueError: a config that cannot work, here or in the system's file.
  """
  config = job_section(LeaveOneOutConfig, values)
  planned = {
    corpus: changes_without(config, corpus) for corpus in config.corpora
  }
  for changes in planned.values():
    run_config(benchmark.values_of(changes, config.system, config.seed))

  # --------------------------------------------- training and evaluation ---
  found = {}
  for corpus, changes in planned.items():
    called = corpus.replace('/', '_')
    folder = workdir / f'without_{called}'
    benchmark.run_of(changes, config.system, config.seed, folder)
    evaluation = evaluation_of(config, corpus, folder, changes)
    on = folder / f'on_{called}'
    if (on / names.METRICS).is_file():
      setup.claim(on, evaluation)
      print(f'{on} is finished already')
    else:
      evaluate.evaluate(evaluation, on)
    found[corpus] = folder, on

  # ------------------------------------------------------------- results ---
  result = {}
  if jax.process_index() == 0:
    result = {
      'system': config.system,
      'seed': config.seed,
      'left_out': {
        corpus: entry(*folders) for corpus, folders in found.items()
      },
    }
    files.write_json(workdir / names.LEAVE_ONE_OUT, result)
    text = markdown(result)
    files.write_atomically(workdir / 'leave_one_out.md', text)
    print(f'\n{text}')
  sharding_lib.barrier('leave_one_out')
  return result


# ------------------------------------------------------------------ helpers ---
def changes_without(config: LeaveOneOutConfig, corpus: str) -> dict[str, Any]:
  """The changes to the system's config that leave a corpus out."""
  others = [other for other in config.corpora if other != corpus]
  own = {'resamples': config.resamples, 'data.name': '+'.join(others)}
  return {**own, **config.changes}


def evaluation_of(
  config: LeaveOneOutConfig,
  corpus: str,
  folder: pathlib.Path,
  changes: Mapping[str, Any],
) -> dict[str, Any]:
  """The config of an evaluation on the corpus that was left out."""
  trained = benchmark.values_of(changes, config.system, config.seed)['data']
  values = overrides.load('configs/evaluate.py').to_dict()
  same = ('data_dir', 'build', 'eval_batch', 'workers')
  values['data'] |= {field: trained[field] for field in same}
  values['data'] |= {'name': corpus, 'eval': (config.eval,)}
  return values | {
    'checkpoint': str(folder),
    'resamples': config.resamples,
    'seed': config.seed,
  }


def entry(folder: pathlib.Path, on: pathlib.Path) -> dict:
  """What came out without one corpus: on it, and on those trained on."""
  trained = names.read_json(folder / names.METRICS)
  there = names.read_json(on / names.METRICS)
  kept = ('eer', 'eer_interval', 'trials', 'corpus', 'split')
  seen = [trained, *trained['further'].values()]
  return {
    **{field: there[field] for field in kept},
    'selected_on': trained['selected_on'],
    'seen': [{field: one[field] for field in kept} for one in seen],
  }


def markdown(result: dict) -> str:
  """The table to read."""
  lines = [
    f'{result["system"]}, seed {result["seed"]}: EER % on a corpus that was '
    'left out of training and selection, and on splits of those trained on.',
    '',
    '| left out | EER % on it | interval | trials | on the others |',
    '|---|---|---|---|---|',
  ]
  for corpus, found in result['left_out'].items():
    low, high = found['eer_interval']
    seen = ', '.join(
      f'{one["corpus"]} {one["split"]} {one["eer"]:.2%}'.rstrip('%')
      for one in found['seen']
    )
    lines.append(
      f'| {corpus} {found["split"]} | {100 * found["eer"]:.2f} | '
      f'{100 * low:.2f} to {100 * high:.2f} | {found["trials"]["total"]:,} | '
      f'{seen} |'
    )
  return '\n'.join(lines) + '\n'
