"""JOB: trains a countermeasure, selects it on dev, evaluates it once.

Read from top to bottom. The eval splits are opened after training, at the one
place that says so; nothing before it can see them.
"""

import functools
import math
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof import bundle, frontends, losses, models, optim, report
from jaxspoof.config import (
  RunConfig,
  near,
  run_config,
)
from jaxspoof.data import pipeline
from jaxspoof.machine import files
from jaxspoof.runs import names, record, weights_file
from jaxspoof.runs import splits as splits_lib
from jaxspoof.runs import workdir as workdir_lib
from jaxspoof.runs.writer import Writer
from jaxspoof.training import checkpoint as checkpoint_lib
from jaxspoof.training import console, cost, scoring, setup, steps, tasks
from jaxspoof.training import features as features_lib
from jaxspoof.training import sharding as sharding_lib
from jaxspoof.training import state as state_lib
from jaxspoof.training.clock import Clock
from jaxspoof.weights import frozen, start

NEEDED_BY_CACHE = "(('frontend/(.*/)?encoder/.*', {'frozen': True}),)"


def train(
  values: dict[str, Any], workdir: pathlib.Path, page: bool = True
) -> dict:
  """Trains, selects and evaluates the system that a config describes.

  A run that was stopped goes on from its last checkpoint when it is started
  again with the same config and workdir.

  Args:
    values: the config as a dictionary, see `config.RunConfig`.
    workdir: folder of the run; made if missing.
    page: whether to write `report.html`, which takes seconds; a job that goes
      on in the same folder writes its own.

  Returns:
    The content of `metrics.json`.

  Raises:
    ValueError: a config that cannot work, said before anything is computed.
    FloatingPointError: the loss or gradient stopped being finite.
  """
  # ------------------------------------------------------------- checks ---
  started = time.time()
  config = run_config(values)
  shortest = setup.shortest_clip(config)
  shardings = sharding_lib.make(config.mesh.devices)
  sharding_lib.check_batch(config.data.batch, shardings, 'data.batch')
  sharding_lib.check_batch(config.data.eval_batch, shardings, 'data.eval_batch')
  first = jax.process_index() == 0
  setup.claim(workdir, values)

  # --------------------------------------------------------------- data ---
  setup.prepare_corpus(config.data)
  splits = setup.Splits(config.data)
  train_source = splits.train()
  dev_sources = splits.open_each(config.data.dev)
  dev_trials = {n: pipeline.trials(dev_sources[n]) for n in dev_sources}
  setup.check_eval_splits(config.data)
  task = make_task(config, train_source)
  for name, source in dev_sources.items():
    task.check(dev_trials[name], pipeline.name_of(source))
  loss = losses.make(config.loss, len(task.classes))
  if first:
    workdir_lib.keep_classes(workdir, task.classes)
  epoch_steps = len(train_source) // config.data.batch
  if not epoch_steps:
    raise ValueError(
      f'data.batch={config.data.batch} is larger than the '
      f'{len(train_source)} clips of split {config.data.train!r}'
    )
  last_step = config.epochs * epoch_steps

  # ---------------------------------------- model, optimiser, functions ---
  tx = optim.make(config.optim, last_step)
  learning_rate = jax.jit(optim.schedule(config.optim, last_step))
  system = models.system(
    config.model, config.frontend, head=loss.head, classes=len(task.classes)
  )
  graphdef, state = make_state(config, system, tx, shardings)
  # A frozen encoder is read again wherever it is needed, and never copied.
  encoder, source, left_out = None, config.init, ()
  if source is None:
    left_out = frozen.from_files(system.frontend, state.frozen)
  if left_out:
    encoder = frozen.fingerprint(state.frozen, left_out)
    source = frozen.sources(system.frontend, left_out)
  from_file = source is not None and state.frozen
  if from_file:
    digest = state_lib.tree_hash(state.frozen)
    workdir_lib.keep_frozen(workdir, source, digest, first, encoder)
  train_step = steps.make_train_step(graphdef, tx, loss, config.seed, shardings)
  eval_step = steps.make_eval_step(graphdef, shardings)
  add_to_average = jax.jit(steps.add_to_average, donate_argnums=0)

  # ------------------------------------- features of a frozen encoder ---
  cache, train_features = None, None
  if config.data.features_cache is not None:
    if not frozen.is_fixed(system.frontend, state.frozen):
      raise ValueError(
        'data.features_cache is set: expected a front end with an encoder that '
        f'is frozen whole, optim.groups={NEEDED_BY_CACHE}'
      )
    cache = features_lib.Cache(
      config,
      system,
      graphdef,
      shardings,
      shortest,
      frozen.fingerprint(state.frozen, frontends.encoders(system.frontend)),
    )
    train_features = cache.train(train_source, state.whole(), state.batch_stats)
  batches_of = functools.partial(
    setup.train_batches,
    config,
    train_source,
    task,
    shortest,
    features=train_features,
  )
  batches = iter(batches_of(seed=config.seed))

  def answers_of(params, batch_stats, source):
    return scoring.answers(
      eval_step,
      params,
      batch_stats,
      source,
      config.data,
      shortest,
      shardings,
      features=cache and cache.evaluation(source, params, batch_stats),
      embeddings=True,
    )

  def outputs_of(params, batch_stats, source):
    return answers_of(params, batch_stats, source)[0]

  def dev_errors(params, batch_stats):
    return {
      name: task.error(
        loss, outputs_of(params, batch_stats, source), dev_trials[name]
      )
      for name, source in dev_sources.items()
    }

  # -------------------------------------------------------------- resume ---
  checkpoints = checkpoint_lib.Checkpoints(workdir)
  resumed = checkpoints.latest() or 0
  if resumed:
    state = restored(checkpoints, resumed, state, from_file, batches)
  last = config.data.select == 'last'
  best = checkpoints.best()
  best_error = math.inf if best is None else best[1]
  writer = Writer(workdir, resumed, enabled=first)
  writer.say(
    console.opening(config, state, shardings, len(train_source), resumed)
  )

  # ---------------------------------------------------------------- loop ---
  clock = Clock(config.data.batch, resumed, last_step, writer.kept)
  pending = None
  for step in range(resumed + 1, last_step + 1):
    with clock.waiting_for_data(pending):
      batch = next(batches)
    batch = sharding_lib.put_batch(batch, shardings)
    with jax.transfer_guard('disallow'):
      state, metrics = train_step(state, batch)
    # The metrics of the step before: the device is never waited for.
    setup.check_finite(pending, checkpoints)
    pending = step, metrics
    if step == resumed + 1:
      jax.block_until_ready(metrics)
      clock.started(step)
    ends_epoch = step % epoch_steps == 0
    saves = ends_epoch or step % config.checkpoint_every == 0
    if not saves and step % config.log_every:
      continue
    setup.check_finite(pending, checkpoints)
    values = {
      'epoch': -(-step // epoch_steps),
      'train/loss': float(jax.device_get(metrics['loss'])),
      'train/grad_norm': float(jax.device_get(metrics['grad_norm'])),
      'train/lr': float(learning_rate(step - 1)),
      **clock.lap(step),
    }
    dev_error = None
    if ends_epoch:
      with clock.pause():
        errors = dev_errors(state.whole(), state.batch_stats)
      dev_error = setup.selecting_error(errors, config.data)
      values[f'dev/{task.metric}'] = dev_error
      if len(errors) > 1:
        for name, error in errors.items():
          values[f'dev/{task.metric}/{name}'] = error
      best = last or dev_error <= best_error
      if is_averaged(config.average, best, step / last_step):
        state = add_to_average(state)
      if best:
        best_error = dev_error
        if first:
          kept = frozen.without(state.whole(), left_out)
          weights_file.save(workdir, kept, state.batch_stats)
    writer.write(step, values)
    writer.say(console.progress(config, task, step, last_step, values, clock))
    if saves:
      kept = state.replace(frozen={}) if from_file else state
      checkpoints.save(step, kept, batches, dev_error)

  # -------------------------------------------- which weights, by dev only ---
  checkpoints.wait()
  final_hash = checkpoint_lib.state_hash(state)
  best_step, best_error = checkpoints.best(last)
  averaged = state
  state = restored(checkpoints, best_step, state, from_file)
  params, batch_stats = state.whole(), state.batch_stats
  selected_on = setup.selection(
    task.criterion, config.data, best_step, best_error
  )
  if config.average != 'none':
    stats_step = steps.make_stats_step(graphdef, config.seed, shardings)
    stats = estimate_stats(
      iter(batches_of(seed=config.seed + 1)),
      averaged,
      stats_step,
      epoch_steps,
      shardings,
    )
    average = averaged.whole(averaged.average)
    errors = dev_errors(average, stats)
    swa_error = setup.selecting_error(errors, config.data)
    writer.say(
      f'average of {int(averaged.averaged)} weight sets: dev {task.criterion} '
      f'{swa_error:.2%}; best single: {best_error:.2%}'
    )
    if swa_error <= best_error:
      params, batch_stats = average, stats
      selected_on = (
        f'average of {int(averaged.averaged)} weight sets, taken because its '
        f'{setup.selected_by(task.criterion, config.data)} ({swa_error:.4%}) '
        f'is not above that of the best single one ({best_error:.4%})'
      )
  if first:
    kept = frozen.without(params, left_out)
    weights_file.save(workdir, kept, batch_stats)

  # ------------------------- what the detector says of dev, to calibrate it ---
  dev_answers = {
    name: answers_of(params, batch_stats, source)
    for name, source in dev_sources.items()
  }

  # ------------------------------- the eval splits, opened here, and once ---
  results = {}
  splits = setup.Splits(config.data, selected_on)
  for part in parts_of(config, config.data.dev, *config.data.eval):
    source = splits.open_part(part)
    trials = pipeline.trials(source)
    compute = functools.partial(outputs_of, params, batch_stats)
    if part.name in dev_answers:
      outputs = dev_answers[part.name][0]
      compute = lambda source, outputs=outputs: outputs
    found = scoring.evaluate(
      np.asarray(loss.score(compute(source))),
      source,
      trials,
      data_dir=config.data.data_dir,
      selected_on=selected_on,
      seed=config.seed,
      resamples=config.resamples,
      workdir=workdir if first else None,
      name=part.name,
    )
    # Where there are several corpora, the split alone does not name it.
    named = {} if part.name == part.split else {'name': part.name}
    results[part.name] = {**named, **found}
    if first:
      workdir_lib.keep_examples(workdir, source, trials)

  # -------------------------------------------------- the detector bundle ---
  if first:
    outputs, found = map(
      np.concatenate, zip(*dev_answers.values(), strict=True)
    )
    heard = bundle.Heard(
      f'{config.data.name}, split {config.data.dev}',
      np.asarray(loss.score(outputs)),
      np.concatenate([trials.label for trials in dev_trials.values()]),
      found,
      [
        clip
        for source in dev_sources.values()
        for clip in bundle.measure_source(source, config.data.eval_samples)
      ],
    )
    bundle.of_run(workdir, heard, results, selected_on)

  # -------------------------------------------------------------- report ---
  headline, *others = parts_of(config, *config.data.eval, config.data.dev)
  result = {
    **results[headline.name],
    'further': {part.name: results[part.name] for part in others},
    'state_sha256': final_hash,
  }
  checkpoints.close()
  writer.close()
  if first:
    files.write_json(
      workdir / names.COST,
      cost.of_run(
        config,
        params,
        shardings,
        clock.summary(),
        started,
        system.macs(config.data.eval_samples),
      ),
    )
    hashed = (*record.HASHED, *bundle.FILES)
    result['sha256'] = record.fingerprint(workdir, results, hashed)
    files.write_json(workdir / names.METRICS, result)
    written = report.write(workdir) if page else None
    print(console.closing(results, config, workdir, written))
  sharding_lib.barrier('end')
  return result


# ------------------------------------------------------------------ helpers ---
def parts_of(config: RunConfig, *splits: str) -> list[splits_lib.Part]:
  """Splits of all corpora, those of one role after those of another."""
  return [p for s in splits for p in splits_lib.parts(config.data.name, s)]


def make_task(config: RunConfig, train_source):
  """The task that a config asks for; classes are those of the train split."""
  if config.task != 'detection' and isinstance(train_source, pipeline.Mixture):
    raise ValueError(
      f'task={config.task!r} with data.name={config.data.name!r}: expected one '
      'corpus, as attacks of different corpora may share their names'
    )
  return find(tasks.TASKS, config.task, 'task').taught_by(train_source)


def find(table: dict, name: str, field: str):
  """An entry of a table by its name in the config."""
  if name not in table:
    raise ValueError(f'{field}={name!r} is unknown: {near(name, table)}')
  return table[name]


def make_state(config: RunConfig, system: models.SystemConfig, tx, shardings):
  """Static description of the model, and the state of step 0.

  Every host draws the same weights; jit places them on all devices at once.
  """
  module = system.make(nnx.Rngs(config.seed))
  if config.init is not None:
    module = start.start_from(module, config.init)
  graphdef, *weights = state_lib.split(module)
  optim.check_groups(config.optim, weights[0])
  create = functools.partial(
    state_lib.create,
    tx=tx,
    average=config.average != 'none',
    frozen=config.optim.frozen,
  )
  create = jax.jit(create, out_shardings=shardings.replicated)
  return graphdef, create(*jax.device_get(weights))


def restored(checkpoints, step: int, state, from_file: bool, iterator=None):
  """The state of a checkpoint, with frozen arrays that it does not hold.

  Args:
    checkpoints: of the run.
    step: of the checkpoint.
    state: of the run, for its shapes and its frozen arrays.
    from_file: whether a file gives these, so that checkpoints need not.
    iterator: see `Checkpoints.restore`.
  """
  if not from_file:
    return checkpoints.restore(step, state, iterator)
  found = checkpoints.restore(step, state.replace(frozen={}), iterator)
  return found.replace(frozen=state.frozen)


def is_averaged(how: str, best: bool, progress: float) -> bool:
  """Whether the weights at the end of an epoch join the average.

  Args:
    how: `RunConfig.average`.
    best: no epoch before had a lower error on dev.
    progress: share of the training that is over.
  """
  return {'none': False, 'swa': best, 'late': progress > 0.5}[how]


def estimate_stats(batches, state, stats_step, count: int, shardings):
  """BatchNorm statistics of the averaged weights, over `count` batches."""
  stats, average = state.batch_stats, state.whole(state.average)
  for n in range(count):
    batch = sharding_lib.put_batch(next(batches), shardings)
    count_so_far = jnp.asarray(n, jnp.int32)
    stats = stats_step(average, stats, count_so_far, batch)
  return stats
