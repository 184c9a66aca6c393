"""JOB: trains a model that says where in a clip speech is spoofed.

Read from top to bottom. It learns from labels of each 20 ms, which its corpus
must have, is selected on dev by the range EER, and evaluated once; the eval
splits are opened after training, at the one place that says so. Besides what
`train` leaves there are

  moments/SPLIT.txt         scores over time, see `score_files.moments`
  moments/SPLIT.rttm        where the clips are spoofed
  moments/SPLIT.found.rttm  where the model says so

and in `metrics.json` the section `localisation`.
"""

import pathlib
import time
from typing import Any

import jax
import numpy as np

from jaxspoof import bundle, losses, models, optim, report
from jaxspoof.config import RunConfig, run_config
from jaxspoof.data import augment, pipeline, segments
from jaxspoof.jobs import train
from jaxspoof.machine import files
from jaxspoof.metrics import localisation as metrics_lib
from jaxspoof.runs import names, record, weights_file
from jaxspoof.runs import workdir as workdir_lib
from jaxspoof.runs.writer import Writer
from jaxspoof.training import checkpoint as checkpoint_lib
from jaxspoof.training import console, cost, scoring, setup, steps
from jaxspoof.training import localisation as localisation_lib
from jaxspoof.training import sharding as sharding_lib
from jaxspoof.training.clock import Clock


def localise(values: dict[str, Any], workdir: pathlib.Path) -> dict:
  """Trains, selects and evaluates the system that a config describes.

  A run that was stopped goes on from its last checkpoint when it is started
  again with the same config and workdir.

  Args:
    values: the config as a dictionary, see `config.RunConfig`.
    workdir: folder of the run; made if missing.

  Returns:
    The content of `metrics.json`.

  Raises:
    ValueError: a config that cannot work, or a corpus without labels of
      segments, said before anything is computed.
    FloatingPointError: the loss or gradient stopped being finite.
  """
  # ------------------------------------------------------------- checks ---
  started = time.time()
  config = run_config(values)
  check(config)
  data = config.data
  shortest = setup.shortest_clip(config)
  shardings = sharding_lib.make(config.mesh.devices)
  sharding_lib.check_batch(data.batch, shardings, 'data.batch')
  sharding_lib.check_batch(data.eval_batch, shardings, 'data.eval_batch')
  first = jax.process_index() == 0
  setup.claim(workdir, values)

  # --------------------------------------------------------------- data ---
  setup.prepare_corpus(data)
  splits = setup.Splits(data)
  train_source = splits.train()
  trained_on = set(pipeline.trials(train_source).attack) - {'-'}
  dev_sources = splits.open_each(data.dev)
  for source in (train_source, *dev_sources.values()):
    check_labels(source)
  setup.check_eval_splits(data)
  epoch_steps = len(train_source) // data.batch
  if not epoch_steps:
    raise ValueError(
      f'data.batch={data.batch} is larger than the {len(train_source)} clips '
      f'of split {data.train!r}'
    )
  last_step = config.epochs * epoch_steps
  batches = iter(
    pipeline.train_batches(
      train_source,
      batch=data.batch,
      samples=data.samples,
      seed=config.seed,
      workers=data.workers,
      balanced=data.balanced,
      transforms=augment.transforms(data),
      shortest=shortest,
      process=(jax.process_index(), jax.process_count()),
      segments=True,
    )
  )

  # ---------------------------------------- model, optimiser, functions ---
  loss = losses.make(config.loss)
  tx = optim.make(config.optim, last_step)
  learning_rate = jax.jit(optim.schedule(config.optim, last_step))
  system = models.system(config.model, config.frontend, head=loss.head)
  if first:
    workdir_lib.keep_classes(workdir, workdir_lib.DETECTION)
  graphdef, state = train.make_state(config, system, tx, shardings)
  train_step = steps.make_train_step(
    graphdef,
    tx,
    loss,
    config.seed,
    shardings,
    total=localisation_lib.total_loss(config.loss.weights),
  )
  eval_step = localisation_lib.make_eval_step(graphdef, shardings)

  def hear(state, source):
    heard = localisation_lib.hear(
      eval_step,
      state.whole(),
      state.batch_stats,
      source,
      loss=loss,
      data=data,
      shortest=shortest,
      shardings=shardings,
    )
    return heard, localisation_lib.locate(source, heard)

  def dev_errors(state):
    return {
      name: metrics_lib.range_eer(hear(state, source)[1]).eer
      for name, source in dev_sources.items()
    }

  # -------------------------------------------------------------- resume ---
  checkpoints = checkpoint_lib.Checkpoints(workdir)
  resumed = checkpoints.latest() or 0
  if resumed:
    state = checkpoints.restore(resumed, state, batches)
  last = data.select == 'last'
  best = checkpoints.best()
  best_error = np.inf if best is None else best[1]
  writer = Writer(workdir, resumed, enabled=first)
  writer.say(
    console.opening(config, state, shardings, len(train_source), resumed)
  )

  # ---------------------------------------------------------------- loop ---
  clock = Clock(data.batch, resumed, last_step, writer.kept)
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
    found = {
      'epoch': -(-step // epoch_steps),
      'train/loss': float(jax.device_get(metrics['loss'])),
      'train/grad_norm': float(jax.device_get(metrics['grad_norm'])),
      'train/lr': float(learning_rate(step - 1)),
      **clock.lap(step),
    }
    dev_error = None
    if ends_epoch:
      with clock.pause():
        errors = dev_errors(state)
      dev_error = setup.selecting_error(errors, data)
      found[f'dev/{Selection.metric}'] = dev_error
      if len(errors) > 1:
        for name, error in errors.items():
          found[f'dev/{Selection.metric}/{name}'] = error
      if last or dev_error <= best_error:
        best_error = dev_error
        if first:
          weights_file.save(workdir, state.whole(), state.batch_stats)
    writer.write(step, found)
    writer.say(
      console.progress(config, Selection, step, last_step, found, clock)
    )
    if saves:
      checkpoints.save(step, state, batches, dev_error)

  # -------------------------------------------- which weights, by dev only ---
  checkpoints.wait()
  final_hash = checkpoint_lib.state_hash(state)
  best_step, best_error = checkpoints.best(last)
  state = checkpoints.restore(best_step, state)
  if first:
    weights_file.save(workdir, state.whole(), state.batch_stats)
  selected_on = setup.selection(
    Selection.criterion, data, best_step, best_error
  )

  # ------------------------------------- dev: a threshold for all splits ---
  dev = {name: hear(state, source) for name, source in dev_sources.items()}
  dev_located = [one for _, located in dev.values() for one in located]
  threshold = metrics_lib.range_eer(dev_located).threshold

  # ------------------------------- the eval splits, opened here, and once ---
  results, over_time = {}, {}
  splits = setup.Splits(data, selected_on)
  for part in train.parts_of(config, data.dev, *data.eval):
    source = splits.open_part(part)
    trials = pipeline.trials(source)
    heard, located = dev.get(part.name) or hear(state, source)
    # Where there are several corpora, the split alone does not name it.
    named = {} if part.name == part.split else {'name': part.name}
    results[part.name] = named | scoring.evaluate(
      np.asarray(loss.score(heard.outputs)),
      source,
      trials,
      data_dir=data.data_dir,
      selected_on=selected_on,
      seed=config.seed,
      resamples=config.resamples,
      workdir=workdir if first else None,
      name=part.name,
    )
    over_time[part.name] = localisation_lib.figures(
      located,
      trials,
      trained_on,
      threshold,
      resamples=config.resamples,
      seed=config.seed,
    )
    if first:
      localisation_lib.keep(
        workdir, part.name, trials.utterance, located, threshold
      )
      workdir_lib.keep_examples(workdir, source, trials)

  # -------------------------------------------------- the detector bundle ---
  if first:
    heard = [found for found, _ in dev.values()]
    labels = [pipeline.trials(source).label for source in dev_sources.values()]
    bundle.of_run(
      workdir,
      bundle.Heard(
        f'{data.name}, split {data.dev}',
        np.concatenate([np.asarray(loss.score(one.outputs)) for one in heard]),
        np.concatenate(labels),
        np.concatenate([one.embeddings for one in heard]),
        [
          clip
          for source in dev_sources.values()
          for clip in bundle.measure_source(source, data.eval_samples)
        ],
        localisation_lib.labelled(dev_located),
      ),
      results,
      selected_on,
    )

  # -------------------------------------------------------------- result ---
  headline, *others = train.parts_of(config, *data.eval, data.dev)
  result = {
    **results[headline.name],
    'further': {part.name: results[part.name] for part in others},
    'localisation': over_time,
    'state_sha256': final_hash,
  }
  checkpoints.close()
  writer.close()
  if first:
    files.write_json(
      workdir / names.COST,
      cost.of_run(
        config,
        state.whole(),
        shardings,
        clock.summary(),
        started,
        system.macs(data.eval_samples),
      ),
    )
    result['sha256'] = record.fingerprint(workdir, results, hashed(over_time))
    files.write_json(workdir / names.METRICS, result)
    page = report.write(workdir)
    print(closing(over_time, selected_on, workdir, page))
  sharding_lib.barrier('end')
  return result


# ------------------------------------------------------------------ helpers ---
class Selection:
  """What weights are selected by, as `console.progress` takes it."""

  criterion = 'range EER'
  metric = 'range_eer'


def check(config: RunConfig) -> None:
  """Raises ValueError for what this job cannot do."""
  system = models.system(config.model, config.frontend)
  if not system.kind.localises:
    known = [
      name for name, (_, kind) in models.MODELS.items() if kind.localises
    ]
    raise ValueError(
      f'model.name={config.model["name"]!r} has no outputs over time; expected '
      f'one that localises: {", ".join(known)}'
    )
  for field, value, wanted in (
    ('task', config.task, 'detection'),
    ('average', config.average, 'none'),
    ('data.padded', config.data.padded, True),
    ('data.features_cache', config.data.features_cache, None),
  ):
    if value != wanted:
      raise ValueError(f'{field}={value!r}: this job expects {wanted!r}')


def check_labels(source: pipeline.Source | pipeline.Mixture) -> None:
  """Raises ValueError for a corpus without labels over time."""
  mixed = isinstance(source, pipeline.Mixture)
  for one in source.sources if mixed else (source,):
    segments.text_of(one[0], pipeline.name_of(one))


def hashed(over_time) -> list[str]:
  """Files of the run that its record names, besides scores of clips."""
  workdir = pathlib.Path()
  kept = [*record.HASHED, *bundle.FILES]
  for name in over_time:
    for path in (names.moments(workdir, name), names.ranges(workdir, name)):
      kept.append(path.as_posix())
  return kept


def closing(
  over_time: dict, selected_on: str, workdir: pathlib.Path, page: pathlib.Path
) -> str:
  """The result in a few lines, and what to try next."""
  lines = ['']
  for split, found in over_time.items():
    said = metrics_lib.lines(found)
    lines.append(f'{split:>12}: {said[0]}; {said[-1]}')
    lines += [f'{"":>14}{line}' for line in said[1:-1]]
    if (unseen := found.get('unseen')) is not None:
      lines.append(f'{"":>14}unseen attacks: {metrics_lib.lines(unseen)[0]}')
  return '\n'.join(
    [
      *lines,
      f'selected on {selected_on}',
      f'report: {page}',
      f'try next: python detect.py --checkpoint {workdir} --timeline --input '
      f'{workdir / "examples"}',
    ]
  )
