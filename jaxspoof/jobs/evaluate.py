"""JOB: scores a checkpoint on splits of any corpus, under several conditions.

Read from top to bottom. A condition is something done to the recordings, such
as noise; see `data.conditions`. For each split and condition

  scores/NAME.txt       official format; NAME is the split for the condition
                        'clean', else SPLIT@CONDITION, such as eval@noise_10
  protocols/NAME.txt    who speaks in each trial

are written, and of all together

  metrics.json          the fields of a training run, for each split and
                        condition, and how it differs from the first condition
  report.html           the page of the evaluation

`python -m jaxspoof.verify` checks such a folder, and `python -m jaxspoof.report
A B --out=PAGE` compares two of the same trials, condition by condition.
"""

import dataclasses
import pathlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxspoof import checkpoints, report
from jaxspoof import config as config_lib
from jaxspoof.data import conditions, pipeline
from jaxspoof.machine import files
from jaxspoof.metrics import clustered
from jaxspoof.runs import names, record
from jaxspoof.training import cost, scoring, setup, tasks
from jaxspoof.training import sharding as sharding_lib


def _check_names(given, field: str, expected: str) -> None:
  """Refuses what is no list of different names; the classes below use it."""
  if not given or isinstance(given, str):
    raise ValueError(f'{field}={given!r}: expected {expected}')
  if twice := sorted({str(name) for name in given if given.count(name) > 1}):
    raise ValueError(f'{field}={given!r} names {", ".join(twice)} twice')
  if others := [name for name in given if not isinstance(name, str)]:
    raise ValueError(f'{field}={given!r}: {others[0]!r} is no name; {expected}')


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Which clips of which corpus; fields mean what they do for training.

  Attributes:
    name: corpus.
    data_dir: where built corpora lie; None for the TFDS default.
    build: build the corpus first where it is missing.
    eval: splits that are scored; the first gives the headline.
    eval_batch: clips scored at once, over all devices and hosts.
    workers: processes that decode; 0 for threads of this one.
  """

  name: str = 'quickstart'
  data_dir: str | None = None
  build: bool = False
  eval: tuple[str, ...] = ('eval',)
  eval_batch: int = 16
  workers: int = 0

  def __post_init__(self):
    _check_names(self.eval, 'data.eval', "names of splits, such as ('eval',)")


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
  """What is evaluated, on what and how.

  Attributes:
    checkpoint: a bundle, the workdir of a run, or a `.pth` of the original
      AASIST.
    model: name the checkpoint must have; None takes what it is.
    conditions: as `conditions.make` reads them; the others are compared with
      the first.
    noise_dir: folder of own recordings of noise, music and speech that
      conditions are made of; None for synthetic ones.
    room_dir: folder of recorded room impulse responses, likewise.
    data: corpus and splits.
    seconds: how much of each clip is scored, from its start; None for what the
      evaluation of the run took, 64,600 samples for released weights.
    seed: of what conditions draw, and of the bootstrap.
    resamples: of the bootstrap.
    mesh: devices.
  """

  checkpoint: str | None  # None, the default of the config, is refused
  model: str | None = None
  conditions: tuple[str, ...] = (conditions.CLEAN,)
  noise_dir: str | None = None
  room_dir: str | None = None
  data: DataConfig = DataConfig()
  seconds: float | None = None
  seed: int = 0
  resamples: int = 1000
  mesh: config_lib.MeshConfig = config_lib.MeshConfig()

  def __post_init__(self):
    if not self.checkpoint:
      raise ValueError(
        'checkpoint is not set; expected the workdir of a run or a .pth file '
        'of the original AASIST: --config.checkpoint=WORKDIR'
      )
    _check_names(
      self.conditions, 'conditions', "such as ('clean', 'noise:10', 'gain:-20')"
    )
    for field, least in (('seed', 0), ('resamples', 1)):
      if (value := getattr(self, field)) < least:
        raise ValueError(f'{field}={value}: expected at least {least}')


def evaluate(values: Mapping[str, Any], workdir: pathlib.Path) -> dict:
  """Evaluates the checkpoint that a config names.

  Args:
    values: the config as a dictionary, see `EvaluateConfig`.
    workdir: folder to write into; made if missing.

  Returns:
    The content of `metrics.json`.

  Raises:
    ValueError: a config that cannot work, said before anything is scored.
  """
  # ------------------------------------------------------------- checks ---
  started = time.time()
  config = config_lib.job_section(
    EvaluateConfig, {'checkpoint': None, **values}
  )
  data = config.data
  folders = config.noise_dir or '', config.room_dir or ''
  wanted = [
    conditions.make(name, config.seed, *folders) for name in config.conditions
  ]
  if len({names.under('', name) for name in config.conditions}) < len(wanted):
    raise ValueError(
      f'conditions={config.conditions}: the files of two of them would have '
      'the same name; expected paths that differ in more than a slash'
    )
  shardings = sharding_lib.make(config.mesh.devices)
  sharding_lib.check_batch(data.eval_batch, shardings, 'data.eval_batch')
  first = jax.process_index() == 0
  model, module, options = checkpoints.open_checkpoint(
    config.checkpoint, config.model, config.seconds
  )
  checkpoint = checkpoints.described(config.checkpoint, model)
  setup.claim(workdir, dict(values))

  # --------------------------------------------------------------- data ---
  setup.prepare_corpus(data)
  sources = {
    split: pipeline.open_source(data.name, split, data.data_dir)
    for split in data.eval
  }
  trials = {split: pipeline.trials(sources[split]) for split in sources}
  for split, source in sources.items():
    tasks.Detection().check(trials[split], pipeline.name_of(source))

  # -------------------------------------------------------------- model ---
  scorer = scoring.Scorer(
    module, options, shardings, batch=data.eval_batch, workers=data.workers
  )
  clips = len(wanted) * sum(map(len, sources.values()))
  if first:
    print(
      f'{model} of {config.checkpoint}: {clips:,} clips to score, '
      f'{len(wanted)} condition(s) on {data.name} {", ".join(sources)}',
      flush=True,
    )

  # ------------------------------------------------------------- scores ---
  results = {}
  for split, source in sources.items():
    called = [names.under(split, condition.name) for condition in wanted]
    scores = []
    for name, condition in zip(called, wanted, strict=True):
      scores_N = scorer(source, condition)
      result = scoring.evaluate(
        scores_N,
        source,
        trials[split],
        data_dir=data.data_dir,
        selected_on=checkpoint['selected_on'],
        seed=config.seed,
        resamples=config.resamples,
        workdir=workdir if first else None,
        name=name,
        # Nobody has verified the speakers of the changed recordings.
        asv=not condition.steps,
      )
      scores.append(scores_N)
      results[name] = {
        'name': name,
        'condition': condition.name,
        'synthetic': list(condition.synthetic),
        **result,
      }
      if first:
        print(line(results[name]), flush=True)
    eers = [results[name]['eer'] for name in called]
    found = changes(scores, eers, trials[split], config)
    for name, change in zip(called[1:], found, strict=True):
      results[name]['less_first'] = change

  # ------------------------------------------------------------- report ---
  headline, *others = results
  result = {
    **results[headline],
    'further': {name: results[name] for name in others},
    'conditions': list(config.conditions),
    'checkpoint': checkpoint,
    'used_before': checkpoints.used_before(
      config.checkpoint, data.name, data.eval
    ),
  }
  if first:
    seconds = time.time() - started
    files.write_json(
      workdir / names.COST,
      {
        'parameters': scorer.parameters,
        'eval_samples': options['samples'],
        'sample_rate': 16_000,
        **cost.surroundings(shardings, config.seed, started),
        'minutes': seconds / 60,
      },
    )
    result['sha256'] = record.fingerprint(workdir, results, [names.CONFIG])
    files.write_json(workdir / names.METRICS, result)
    page = report.write(workdir)
    for words in result['used_before']:
      print(f'note: {words}')
    print(f'report: {page}')
  sharding_lib.barrier('end')
  return result


# ------------------------------------------------------------------ helpers ---
def changes(
  scores: Sequence[np.ndarray],
  eers: Sequence[float],
  trials: pipeline.Trials,
  config: EvaluateConfig,
) -> list[dict]:
  """How the EER of each condition differs from that of the first.

  Args:
    scores: float [N] of each condition, on the same trials.
    eers: of these scores.
    trials: of the split.
    config: says seed and resamples.

  Returns:
    Of each condition but the first `value`, `interval` and `share` of the
    resamples that have its sign; they are the same for all conditions.
  """
  if len(scores) == 1:
    return []
  unknown = np.all(trials.speaker == '-')
  speaker = None if unknown else trials.speaker
  eers_KxR = clustered.resampled_metrics(
    np.stack(scores).astype(np.float64),
    trials.label,
    speaker=speaker,
    attack=trials.attack,
    resamples=config.resamples,
    seed=config.seed,
  )['eer']
  clusters = clustered.clusters_of(trials.label, speaker, trials.attack)
  found = [
    clustered.difference(eers[k], eers[0], eers_KxR[[k, 0]], clusters=clusters)
    for k in range(1, len(scores))
  ]
  return [{**c._asdict(), 'interval': list(c.interval)} for c in found]


def line(result: dict) -> str:
  """One result for the person who watches."""
  low, high = result['eer_interval']
  return (
    f'{result["name"]:>24}: EER {result["eer"]:6.2%}  [{low:.2%}, {high:.2%}]  '
    f'{result["trials"]["total"]:,} trials'
  )
