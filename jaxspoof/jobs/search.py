"""JOB: searches the cells of a network, Light-DARTS, by gradient descent.

Read from top to bottom. The train split is divided into two halves that share
no speaker: the weights of the supernet learn from one, its architecture from
the other. The dev split is watched and decides nothing; eval splits stay shut.
"""

import functools
import json
import pathlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof import losses, report
from jaxspoof.darts.network import light_darts_cost
from jaxspoof.darts.network.light_darts import derived
from jaxspoof.darts.search import architecture, collapse, console, halves, steps
from jaxspoof.darts.search import state as state_lib
from jaxspoof.darts.search.config import (
  SearchConfig,
  arch_optimiser,
  search_config,
  supernet_config,
  weights_optimiser,
  weights_schedule,
)
from jaxspoof.darts.spaces import space
from jaxspoof.darts.spaces.genotype import Genotype, discretise
from jaxspoof.data import pipeline
from jaxspoof.machine import files
from jaxspoof.metrics import eer as eer_lib
from jaxspoof.runs import names
from jaxspoof.runs.writer import Writer
from jaxspoof.system import SystemConfig
from jaxspoof.training import checkpoint as checkpoint_lib
from jaxspoof.training import cost, scoring, setup, tasks
from jaxspoof.training import sharding as sharding_lib
from jaxspoof.training.clock import Clock

SLOWER = 'A lower weights.learning_rate or arch.learning_rate helps'
DETECTION = tasks.Detection()


def search(
  values: dict[str, Any], workdir: pathlib.Path, splits=None
) -> dict[str, Any]:
  """Searches the cells that a config describes; leaves `genotype.json`.

  A search that was stopped goes on from its last checkpoint when it is started
  again with the same config and workdir, to the same genotype and state.

  Args:
    values: the config as a dictionary, see `darts.search.config.SearchConfig`.
    workdir: folder of the run; made if missing.
    splits: whose `open(split)` gives the records; None for the corpus that the
      config names.

  Returns:
    The content of `metrics.json`.

  Raises:
    ValueError: a config or corpus that cannot work, said before anything is
      computed.
    FloatingPointError: a loss or gradient stopped being finite.
  """
  # ------------------------------------------------------------- checks ---
  started = time.time()
  config = search_config(values)
  supernet = supernet_config(config)
  shardings = sharding_lib.make(config.mesh.devices)
  sharding_lib.check_batch(config.data.batch, shardings, 'data.batch')
  sharding_lib.check_batch(config.data.eval_batch, shardings, 'data.eval_batch')
  for name in ('samples', 'eval_samples'):
    if (value := getattr(config.data, name)) < supernet.min_samples:
      raise ValueError(
        f'data.{name}={value}: this supernet needs at least '
        f'{supernet.min_samples} samples'
      )
  first = jax.process_index() == 0
  setup.claim(workdir, values)

  # --------------------------------------------------------------- data ---
  by_name = splits is None
  if by_name:
    setup.prepare_corpus(config.data)
    splits = setup.Splits(config.data)
  source = splits.open(config.data.train)
  weight_half, arch_half = halves.halve(source, config.seed)
  watched = {'valid': arch_half}
  if config.data.dev:
    watched['dev'] = splits.open(config.data.dev)
  labels = {}
  for name, records in watched.items():
    known = pipeline.trials(records)
    DETECTION.check(known, pipeline.name_of(records))
    labels[name] = known.label
  epoch_steps = len(weight_half) // config.data.batch
  if not epoch_steps:
    raise ValueError(
      f'data.batch={config.data.batch} is larger than the '
      f'{len(weight_half)} clips of a half of split {config.data.train!r}'
    )
  last_step = config.epochs * epoch_steps
  warm_step = config.arch.warmup_epochs * epoch_steps
  iterators = {
    name: iter(
      setup.train_batches(config, half, DETECTION, None, config.seed + n)
    )
    for n, (name, half) in enumerate(
      (('weights', weight_half), ('arch', arch_half))
    )
  }

  # ------------------------------------- supernet, optimisers, functions ---
  levels, state = make_levels(config, supernet, warm_step, last_step, shardings)
  learning_rate = jax.jit(weights_schedule(config.weights, last_step))
  arch_step = steps.make_arch_step(levels, shardings)
  weight_step = steps.make_weight_step(levels, shardings)
  eval_step = steps.make_eval_step(levels, shardings)
  describe = steps.make_describe(levels, shardings)

  # -------------------------------------------------------------- resume ---
  checkpoints = checkpoint_lib.Checkpoints(workdir)
  resumed = checkpoints.latest() or 0
  if resumed:
    state = checkpoints.restore(resumed, state, iterators)
  writer = Writer(workdir, resumed, enabled=first)
  writer.say(
    console.opening(
      config, state, shardings, (len(weight_half), len(arch_half)), resumed
    )
  )

  # ---------------------------------------------------------------- loop ---
  clock = Clock(config.data.batch, resumed, last_step, writer.kept)
  history = list(writer.kept)
  pending = None
  for step in range(resumed + 1, last_step + 1):
    moves_arch = step > warm_step
    with clock.waiting_for_data(pending):
      train_batch = next(iterators['weights'])
      val_batch = next(iterators['arch']) if moves_arch else None
    train_batch = sharding_lib.put_batch(train_batch, shardings)
    found = {}
    if moves_arch:
      val_batch = sharding_lib.put_batch(val_batch, shardings)
      with jax.transfer_guard('disallow'):
        state, found = arch_step(state, train_batch, val_batch)
    with jax.transfer_guard('disallow'):
      state, metrics = weight_step(state, train_batch)
    metrics |= {f'arch/{name}': value for name, value in found.items()}
    # The metrics of the step before: the device is never waited for.
    setup.check_finite(pending, checkpoints, SLOWER)
    pending = step, metrics
    if step in (resumed + 1, warm_step + 1):  # a program was compiled
      jax.block_until_ready(metrics)
      clock.started(step)
    ends_epoch = step % epoch_steps == 0
    saves = ends_epoch or step % config.checkpoint_every == 0
    if not saves and step % config.log_every:
      continue
    setup.check_finite(pending, checkpoints, SLOWER)
    fetched = jax.device_get(metrics)
    values = {
      'epoch': -(-step // epoch_steps),
      'train/loss': float(fetched['loss']),
      'train/grad_norm': float(fetched['grad_norm']),
      'train/lr': float(learning_rate(step - 1)),
      **{n: float(v) for n, v in fetched.items() if n.startswith('arch/')},
      **clock.lap(step),
    }
    if ends_epoch:
      trained = (state.weights, state.arch, state.step)
      for name, records in watched.items():
        with clock.pause():
          outputs = scoring.outputs_of(
            eval_step, trained, state.batch_stats, records, config.data,
            None, shardings,
          )  # fmt: skip
        values |= measured(
          name, outputs, labels[name], levels, config.data.balanced
        )
      described = jax.device_get(describe(state.arch, state.step))
      values |= {name: float(value) for name, value in described.items()}
      arch = arch_at(levels, state.arch, step)
      values['arch'] = architecture.as_lists(arch)
      if first:
        chosen(config, arch).save(workdir / names.GENOTYPE)
    writer.write(step, values)
    history.append({'step': step, **values})
    writer.say(console.progress(config, step, last_step, values, clock))
    if ends_epoch:
      operations = space(supernet.model.space).operations
      writer.say(console.leading(arch, operations))
    if saves:
      checkpoints.save(step, state, iterators)

  # -------------------------------------------------------------- result ---
  checkpoints.wait()
  for iterator in iterators.values():
    iterator.close()
  checkpoints.close()
  writer.close()
  final_hash = checkpoint_lib.state_hash(state)
  result = {}
  if first:
    epochs = [line for line in history if 'valid/loss' in line]
    arch = arch_at(levels, state.arch, last_step)
    genotype = chosen(config, arch)
    size = size_of(config, genotype)
    result = {
      'genotype': json.loads(genotype.to_json()),
      'first_epoch': ends_of(epochs[0]),
      'last_epoch': ends_of(epochs[-1]),
      'derived': size,
      'failures': collapse.failures(genotype, arch, epochs),
      'state_sha256': final_hash,
    }
    costs = cost.of_run(
      config,
      state.weights,
      shardings,
      clock.summary(),
      started,
      size['macs'],
    )
    costs['supernet_parameters'] = costs['parameters']
    costs['parameters'] = size['parameters']  # as the MACs
    files.write_json(workdir / names.COST, costs)
    files.write_json(workdir / names.METRICS, result)
    page = report.write(workdir)
    print(console.closing(result, page))
    if by_name:
      print(f'try next: {console.training(config, workdir / names.GENOTYPE)}')
  sharding_lib.barrier('end')
  return result


# ------------------------------------------------------------------ helpers ---
def make_levels(
  config: SearchConfig,
  supernet: SystemConfig,
  warm_step: int,
  last_step: int,
  shardings: sharding_lib.Shardings,
):
  """Both levels of the problem, and the state of step 0."""
  w_tx = weights_optimiser(config.weights, last_step)
  a_tx = arch_optimiser(config.arch)
  graphdef, state = state_lib.make(
    supernet.make(nnx.Rngs(config.seed)),
    shardings,
    w_tx=w_tx,
    a_tx=a_tx,
  )
  levels = steps.Levels(
    graphdef=graphdef,
    loss=losses.make(config.loss),
    cost=lambda arch: light_darts_cost.normalised(
      supernet, arch, config.data.samples
    )[config.cost],
    temperature=functools.partial(
      architecture.temperature_at,
      begin=warm_step,
      end=last_step,
      first=config.arch.temperature,
      last=config.arch.temperature_min,
    ),
    w_tx=w_tx,
    a_tx=a_tx,
    order=config.arch.order,
    cost_weight=config.cost_weight,
    entropy_weight=config.arch.entropy_weight,
    gumbel=config.arch.gumbel,
    seed=config.seed,
  )
  return levels, state


def arch_at(levels: steps.Levels, arch, step: int) -> architecture.Arch:
  """The logits that the supernet uses after a step, on the host."""
  temperature = float(levels.temperature(step))
  return architecture.sharpened(jax.device_get(arch), temperature)


def measured(
  name: str, outputs: np.ndarray, labels: np.ndarray, levels, balanced: bool
) -> dict[str, float]:
  """Loss and EER of a split, from the logits [N, 2] of its trials.

  Where batches are balanced, so is the loss: the mean of those of the two
  classes, or it would tell the share of spoofs instead of the fit.
  """
  parts = [labels == 0, labels == 1] if balanced else [labels >= 0]
  loss = [
    float(levels.loss(jnp.asarray(outputs[part]), jnp.asarray(labels[part])))
    for part in parts
  ]
  scores = np.asarray(levels.loss.score(jnp.asarray(outputs)))
  return {
    f'{name}/loss': float(np.mean(loss)),
    f'{name}/eer': float(eer_lib.eer_of(scores, labels).eer),
  }


def chosen(config: SearchConfig, arch) -> Genotype:
  """The genotype that an architecture stands for now."""
  found = space(supernet_config(config).model.space)
  return discretise(found, arch)


def ends_of(line: dict[str, Any]) -> dict[str, float]:
  """What is told of the first and of the last epoch."""
  told = ('valid/loss', 'valid/eer', 'dev/loss', 'dev/eer', 'entropy', 'cost')
  return {name: line[name] for name in ('epoch', *told) if name in line}


def size_of(config: SearchConfig, genotype: Genotype) -> dict[str, Any]:
  """Parameters of the derived network, and its MACs of a clip by stage."""
  network = derived(supernet_config(config), genotype)
  return {
    'parameters': network.parameters(),
    'macs': network.macs(config.data.eval_samples),
  }
