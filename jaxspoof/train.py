"""JOB: trains a countermeasure, selects it on dev, evaluates it once.

Read from top to bottom. The eval splits are opened after training, at the one
place that says so; nothing before it can see them.
"""

import dataclasses
import functools
import math
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof import (
  asv_scores,
  console,
  cost,
  evaluate,
  losses,
  models,
  optim,
  report,
  steps,
  verify,
)
from jaxspoof import checkpoint as checkpoint_lib
from jaxspoof import sharding as sharding_lib
from jaxspoof import state as state_lib
from jaxspoof import workdir as workdir_lib
from jaxspoof.clock import Clock
from jaxspoof.config import (
  DataConfig,
  RunConfig,
  near,
  run_config,
  shared_splits,
)
from jaxspoof.data import augment, pipeline
from jaxspoof.metrics import eer as eer_lib
from jaxspoof.metrics import summary
from jaxspoof.writer import Writer


def train(values: dict[str, Any], workdir: pathlib.Path) -> dict:
  """Trains, selects and evaluates the system that a config describes.

  A run that was stopped goes on from its last checkpoint when it is started
  again with the same config and workdir.

  Args:
    values: the config as a dictionary, see `config.RunConfig`.
    workdir: folder of the run; made if missing.

  Returns:
    The content of `metrics.json`.

  Raises:
    ValueError: a config that cannot work, said before anything is computed.
    FloatingPointError: the loss or gradient stopped being finite.
  """
  # ------------------------------------------------------------- checks ---
  started = time.time()
  config = run_config(values)
  shardings = sharding_lib.make(config.mesh.devices)
  sharding_lib.check_batch(config.data.batch, shardings, 'data.batch')
  sharding_lib.check_batch(config.data.eval_batch, shardings, 'data.eval_batch')
  first = jax.process_index() == 0
  workdir_lib.claim(workdir, values, first)

  # --------------------------------------------------------------- data ---
  prepare_corpus(config, first)
  splits = Splits(config.data)
  train_source = splits.open(config.data.train)
  dev_source = splits.open(config.data.dev)
  epoch_steps = len(train_source) // config.data.batch
  if not epoch_steps:
    raise ValueError(
      f'data.batch={config.data.batch} is larger than the '
      f'{len(train_source)} clips of split {config.data.train!r}'
    )
  last_step = config.epochs * epoch_steps
  batches = iter(train_batches(config, train_source, config.seed))

  # ---------------------------------------- model, optimiser, functions ---
  tx = optim.make(config.optim, last_step)
  learning_rate = optim.schedule(config.optim, last_step)
  graphdef, state = make_state(config, tx, shardings)
  loss = functools.partial(
    find(losses.LOSSES, config.loss.name, 'loss.name'),
    weights=config.loss.weights,
  )
  train_step = steps.make_train_step(graphdef, tx, loss, config.seed, shardings)
  eval_step = steps.make_eval_step(graphdef, shardings)
  add_to_average = jax.jit(steps.add_to_average, donate_argnums=0)

  def score(params, batch_stats, source):
    return evaluate.score_split(
      eval_step, params, batch_stats, source, config.data, shardings
    )

  # -------------------------------------------------------------- resume ---
  checkpoints = checkpoint_lib.Checkpoints(workdir)
  resumed = checkpoints.latest() or 0
  if resumed:
    state = checkpoints.restore(resumed, state, batches)
  best = checkpoints.best()
  best_eer = math.inf if best is None else best[1]
  writer = Writer(workdir, resumed, enabled=first)
  writer.say(
    console.opening(config, state, shardings, len(train_source), resumed)
  )

  # ---------------------------------------------------------------- loop ---
  dev_labels = pipeline.trials(dev_source).label
  clock = Clock(config.data.batch, resumed, last_step, writer.kept)
  pending = None
  for step in range(resumed + 1, last_step + 1):
    with clock.waiting_for_data(pending):
      batch = next(batches)
    batch = {name: batch[name] for name in ('wave', 'label')}
    batch = sharding_lib.put_batch(batch, shardings)
    with jax.transfer_guard('disallow'):
      state, metrics = train_step(state, batch)
    # The metrics of the step before: the device is never waited for.
    check_finite(pending, checkpoints)
    pending = step, metrics
    if step == resumed + 1:
      jax.block_until_ready(metrics)
      clock.started(step)
    ends_epoch = step % epoch_steps == 0
    saves = ends_epoch or step % config.checkpoint_every == 0
    if not saves and step % config.log_every:
      continue
    check_finite(pending, checkpoints)
    values = {
      'epoch': -(-step // epoch_steps),
      'train/loss': float(jax.device_get(metrics['loss'])),
      'train/grad_norm': float(jax.device_get(metrics['grad_norm'])),
      'train/lr': float(learning_rate(step - 1)),
      **clock.lap(step),
    }
    dev_eer = None
    if ends_epoch:
      with clock.pause():
        dev_scores = score(state.params, state.batch_stats, dev_source)
      dev_eer = float(eer_lib.eer_of(dev_scores, dev_labels).eer)
      values['dev/eer'] = dev_eer
      if dev_eer <= best_eer:
        best_eer = dev_eer
        if config.average == 'swa':
          state = add_to_average(state)
        if first:
          checkpoint_lib.save_weights(workdir, state.params, state.batch_stats)
    writer.write(step, values)
    writer.say(console.progress(config, step, last_step, values, clock))
    if saves:
      checkpoints.save(step, state, batches, dev_eer)

  # -------------------------------------------- which weights, by dev only ---
  checkpoints.wait()
  final_hash = checkpoint_lib.state_hash(state)
  best_step, best_eer = checkpoints.best()
  averaged = state
  state = checkpoints.restore(best_step, state)
  params, batch_stats = state.params, state.batch_stats
  selected_on = (
    f'lowest EER on split {config.data.dev!r}: {best_eer:.4%}, the latest of '
    f'equals: step {best_step}'
  )
  if config.average == 'swa':
    stats_step = steps.make_stats_step(graphdef, config.seed, shardings)
    stats = estimate_stats(
      config, averaged, stats_step, train_source, epoch_steps, shardings
    )
    swa_scores = score(averaged.average, stats, dev_source)
    swa_eer = float(eer_lib.eer_of(swa_scores, dev_labels).eer)
    writer.say(
      f'average of {int(averaged.averaged)} weight sets: dev EER '
      f'{swa_eer:.2%}; best single: {best_eer:.2%}'
    )
    if swa_eer <= best_eer:
      params, batch_stats = averaged.average, stats
      selected_on = (
        f'average of {int(averaged.averaged)} weight sets, taken because its '
        f'EER on split {config.data.dev!r} ({swa_eer:.4%}) is not above that '
        f'of the best single one ({best_eer:.4%})'
      )
  if first:
    checkpoint_lib.save_weights(workdir, params, batch_stats)

  # ------------------------------- the eval splits, opened here, and once ---
  results = {}
  splits = Splits(config.data, selected_on)
  for split in (config.data.dev, *config.data.eval):
    source = splits.open(split)
    trials = pipeline.trials(source)
    split_scores = score(params, batch_stats, source)
    asv_file = pipeline.asv_scores(
      config.data.name, split, config.data.data_dir
    )
    results[split] = summary.summarise(
      trials.utterance,
      trials.attack,
      trials.label,
      split_scores,
      split=split,
      selected_on=selected_on,
      corpus=config.data.name,
      speaker=trials.speaker,
      asv=asv_scores.rates(asv_file),
      seed=config.seed,
      resamples=config.resamples,
    )
    if first:
      workdir_lib.keep_scores(workdir, split, trials, split_scores, asv_file)
      workdir_lib.keep_examples(workdir, source, trials)

  # -------------------------------------------------------------- report ---
  headline, *others = config.data.eval
  result = {
    **results[headline],
    'further': {s: results[s] for s in (*others, config.data.dev)},
    'state_sha256': final_hash,
  }
  checkpoints.close()
  writer.close()
  if first:
    workdir_lib.write_json(
      workdir / 'cost.json',
      cost.of_run(config, params, shardings, clock.summary(), started),
    )
    result['sha256'] = verify.fingerprint(workdir, results)
    workdir_lib.write_json(workdir / 'metrics.json', result)
    page = report.write(workdir)
    print(console.closing(results, config, workdir, page))
  sharding_lib.barrier('end')
  return result


# ------------------------------------------------------------------ helpers ---
def prepare_corpus(config: RunConfig, first: bool) -> None:
  """Builds the corpus where the config says so and it is missing."""
  if config.data.build and first:
    from tfds_builders import build

    build.build(config.data.name, data_dir=config.data.data_dir)
  sharding_lib.barrier('corpus')


@dataclasses.dataclass(frozen=True)
class Splits:
  """The corpus of a run; its eval splits open after the selection alone.

  Attributes:
    data: says the corpus and the role of each split.
    selected_on: how the weights were selected; None before that.
  """

  data: DataConfig
  selected_on: str | None = None

  def open(self, split: str):
    """Records of one split.

    Raises:
      PermissionError: a split that results are reported on, before the
        weights are selected.
    """
    closed = any(shared_splits(split, name) for name in self.data.eval)
    if self.selected_on is None and closed:
      raise PermissionError(
        f'split {split!r} is for evaluation (data.eval={self.data.eval}): '
        'nothing may read it before the weights are selected'
      )
    return pipeline.open_source(self.data.name, split, self.data.data_dir)


def train_batches(config: RunConfig, source, seed: int):
  """This host's endless stream of training batches."""
  return pipeline.train_batches(
    source,
    batch=config.data.batch,
    samples=config.data.samples,
    seed=seed,
    workers=config.data.workers,
    balanced=config.data.balanced,
    transforms=augment.transforms(config.data),
    process=(jax.process_index(), jax.process_count()),
  )


def find(table: dict, name: str, field: str):
  """An entry of a table by its name in the config."""
  if name not in table:
    raise ValueError(f'{field}={name!r} is unknown: {near(name, table)}')
  return table[name]


def make_state(config: RunConfig, tx, shardings: sharding_lib.Shardings):
  """Static description of the model, and the state of step 0.

  Every host draws the same weights; jit places them on all devices at once.
  """
  fields = dict(config.model)
  model_config, kind = models.variant(fields.pop('name'), **fields)
  model = kind(model_config, rngs=nnx.Rngs(config.seed))
  graphdef, *weights = state_lib.split(model)
  create = functools.partial(
    state_lib.create, tx=tx, average=config.average == 'swa'
  )
  create = jax.jit(create, out_shardings=shardings.replicated)
  return graphdef, create(*jax.device_get(weights))


def check_finite(pending, checkpoints: checkpoint_lib.Checkpoints) -> None:
  """Stops the run where a step's loss or gradient is not finite."""
  if pending is None:
    return
  step, metrics = pending
  values = jax.device_get(metrics)
  bad = [n for n in sorted(values) if not np.isfinite(values[n])]
  if bad:
    checkpoints.wait()
    raise FloatingPointError(
      f'{" and ".join(bad)} of step {step} not finite; the last good '
      f'checkpoint, of step {checkpoints.latest()}, is kept in '
      f'{checkpoints.directory}. '
      'A lower optim.learning_rate or optim.clip_norm=1 helps'
    )


def estimate_stats(config, state, stats_step, source, count, shardings):
  """BatchNorm statistics of the averaged weights, over one pass of train."""
  batches = iter(train_batches(config, source, config.seed + 1))
  stats = state.batch_stats
  for n in range(count):
    batch = next(batches)
    batch = {name: batch[name] for name in ('wave', 'label')}
    batch = sharding_lib.put_batch(batch, shardings)
    stats = stats_step(state.average, stats, jnp.asarray(n, jnp.int32), batch)
  return stats
