"""JOB: tunes an enhancer against a frozen detector, to test that detector.

Spoofed clips go through the enhancer and then to the detector. Learned is to
have them taken for bona fide speech, and to stay close to what went in: the
loss of the detector with the label of bona fide speech, less `weight` times the
scale-invariant signal-to-noise ratio (SI-SNR) of the output to the input, in
dB; after arXiv 2305.15518. The same sum on the spoofed clips of dev selects the
weights. At the end the eval splits are opened, once, and the detector scores
them as they are, with spoofs behind the enhancer of the beginning, and with
spoofs behind that of the end. Read from top to bottom.

  weights.npz    the selected enhancer, of which the condition `enhance` is made
  start/         the one that it was at the beginning, likewise
  evaluation/    what the detector scored, a folder of the job `evaluate`
  metrics.json   EER and SI-SNR before and after
  report.html    the page of it
"""

import dataclasses
import pathlib
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof import audio, checkpoints, optim, overrides, report
from jaxspoof import config as config_lib
from jaxspoof.config import DataConfig, MeshConfig
from jaxspoof.data import conditions, pipeline
from jaxspoof.enhance.conv_tasnet import ConvTasNet, ConvTasNetConfig, si_snr
from jaxspoof.jobs import enhance, evaluate
from jaxspoof.machine import files
from jaxspoof.runs import names, record, weights_file
from jaxspoof.runs import workdir as workdir_lib
from jaxspoof.runs.writer import Writer
from jaxspoof.system import System
from jaxspoof.training import checkpoint as checkpoint_lib
from jaxspoof.training import console, cost, setup, steps
from jaxspoof.training import sharding as sharding_lib
from jaxspoof.training import state as state_lib
from jaxspoof.training.clock import Clock

START = 'start'  # folder: the enhancer before the first step
EVALUATION = 'evaluation'  # folder: of the job `evaluate`
_QUIET = 1e-12  # power that an output is divided by at least


@dataclasses.dataclass(frozen=True)
class AttackConfig:
  """A training run of an enhancer against a detector.

  Attributes:
    checkpoint: the detector, as the job `evaluate` takes it: a bundle, the
      workdir of a run, or released weights.
    weight: what one dB of SI-SNR to the input is worth, in units of the
      detector's loss; at 0 nothing holds the output to its input.
    seed: of the initial weights, the order of clips and crops.
    epochs: number of passes over the spoofed clips of the train split.
    network: what the enhancer is; `sources` is 1 and `sample_rate` that of
      corpora.
    data: corpus, splits and batches; clips are taken as they are.
    optim: optimiser and schedule.
    mesh: the devices that the batch is divided over.
    model: name that the checkpoint must have; None takes what it is.
    seconds: how much of each clip the detector scores in the evaluation; None
      for what it is made for.
    init: an enhancer to start from: a run of the job `enhance`, or a file of
      torchaudio or asteroid of the sizes of `network`; None for one that lets
      waves pass.
    checkpoint_every: number of steps between checkpoints; the end of each epoch
      is one too.
    log_every: number of steps between lines of the log.
    resamples: of the bootstrap.
  """

  checkpoint: str | None  # None, the default of the config, is refused
  weight: float
  seed: int
  epochs: int
  network: ConvTasNetConfig
  data: DataConfig
  optim: optim.OptimConfig
  mesh: MeshConfig
  model: str | None = None
  seconds: float | None = None
  init: str | None = None
  checkpoint_every: int = 500
  log_every: int = 50
  resamples: int = 1000

  def __post_init__(self):
    made, data = self.network, self.data
    if not self.checkpoint:
      raise ValueError(
        'checkpoint is not set; expected the detector to be tested, such as '
        'the workdir of a run: --config.checkpoint=WORKDIR'
      )
    if self.weight < 0:
      raise ValueError(f'weight={self.weight}: expected at least 0')
    for field, value, wanted in (
      ('network.sources', made.sources, 1),
      ('network.sample_rate', made.sample_rate, audio.SAMPLE_RATE),
      ('data.augment', data.augment, 'none'),
      ('data.balanced', data.balanced, False),
      ('data.padded', data.padded, False),
    ):
      if value != wanted:
        raise ValueError(f'{field}={value!r}: expected {wanted!r}')
    if '+' in data.name:
      raise ValueError(
        f'data.name={data.name!r}: expected one corpus, on whose eval splits '
        'the detector is scored'
      )
    config_lib.check_splits(data)


class Attack(nnx.Module):
  """An enhancer, and the detector that hears what comes out of it."""

  def __init__(self, enhancer: ConvTasNet, detector: System):
    """Puts the two together."""
    self.enhancer, self.detector = enhancer, detector

  def __call__(self, wave_BxT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The enhanced waves, `[B, T]`, and the detector's outputs, `[B, K]`."""
    found_BxT = with_power_of(wave_BxT, self.enhancer(wave_BxT)[:, 0])
    detector = state_lib.eval_view(self.detector)
    return found_BxT, detector.answer(found_BxT).outputs


def attack(values: Mapping[str, Any], workdir: pathlib.Path) -> dict:
  """Tunes, selects and evaluates the attack that a config describes.

  A run that was stopped goes on from its last checkpoint when it is started
  again with the same config and workdir.

  Args:
    values: the config as a dictionary, see `AttackConfig`.
    workdir: folder of the run; made if missing.

  Returns:
    The content of `metrics.json`.

  Raises:
    ValueError: a config that cannot work, said before anything is computed.
    FloatingPointError: the loss or gradient stopped being finite.
  """
  # ------------------------------------------------------------- checks ---
  started = time.time()
  config = config_lib.job_section(AttackConfig, {'checkpoint': None, **values})
  data = config.data
  shardings = sharding_lib.make(config.mesh.devices)
  sharding_lib.check_batch(data.batch, shardings, 'data.batch')
  sharding_lib.check_batch(data.eval_batch, shardings, 'data.eval_batch')
  first = jax.process_index() == 0
  model, detector, options = checkpoints.open_checkpoint(
    config.checkpoint, config.model, config.seconds
  )
  for field in ('samples', 'eval_samples'):
    if (value := getattr(data, field)) < detector.min_samples:
      raise ValueError(
        f'data.{field}={value}: {config.checkpoint} needs at least '
        f'{detector.min_samples} samples'
      )
  against = checkpoints.described(config.checkpoint, model)
  setup.claim(workdir, dict(values))

  # --------------------------------------------------------------- data ---
  setup.prepare_corpus(data)
  splits = setup.Splits(data)
  source = pipeline.spoofed(splits.open(data.train))
  dev = pipeline.spoofed(splits.open(data.dev))
  setup.check_eval_splits(data)
  epoch_steps = len(source) // data.batch
  if not epoch_steps:
    raise ValueError(
      f'data.batch={data.batch} is larger than the {len(source)} spoofed clips '
      f'of split {data.train!r}'
    )
  last_step = config.epochs * epoch_steps
  batches = iter(
    pipeline.train_batches(
      source,
      batch=data.batch,
      samples=data.samples,
      seed=config.seed,
      workers=data.workers,
      process=(jax.process_index(), jax.process_count()),
    )
  )

  # ---------------------------------------- model, optimiser, functions ---
  tx = optim.make(config.optim, last_step)
  learning_rate = jax.jit(optim.schedule(config.optim, last_step))
  enhancer = enhance.network(config)
  loss = options['loss']
  bona_fide = len(options.get('classes', workdir_lib.DETECTION)) - 1
  graphdef, *arrays = state_lib.split(Attack(enhancer, detector))
  create = jax.jit(
    # Of the detector there is no gradient and no state of the optimiser.
    lambda *arrays: state_lib.create(*arrays, tx, frozen=is_of_detector),
    out_shardings=shardings.replicated,
  )
  state = create(*jax.device_get(arrays))
  start = jax.tree.map(np.array, state.params)  # steps use its memory
  if first:
    (workdir / START).mkdir(exist_ok=True)
    files.write_json(workdir / START / names.CONFIG, dict(values))
    keep(workdir / START, state.params['enhancer'])
  # The loss of the detector knows its own scale; the label is that of bona
  # fide speech, which the spoofs are to be taken for.
  train_step = steps.make_train_step(
    graphdef,
    tx,
    lambda outputs: costs_of(loss, outputs, bona_fide),
    config.seed,
    shardings,
    total=make_total(config.weight),
  )
  eval_step = make_eval_step(graphdef, loss, bona_fide, shardings)

  # -------------------------------------------------------------- resume ---
  kept = checkpoint_lib.Checkpoints(workdir)
  resumed = kept.latest() or 0
  if resumed:
    state = restored(kept, resumed, state, batches)
  best = kept.best()
  best_value = np.inf if best is None else best[1]
  writer = Writer(workdir, resumed, enabled=first)
  writer.say(
    f'Conv-TasNet, {console.parameters(state)}, against {model} of '
    f'{config.checkpoint}; {data.name} {data.train}: {len(source):,} spoofed '
    f'clips, batch {data.batch} x {data.samples / audio.SAMPLE_RATE:.2f} s; '
    f'{config.epochs} epochs, '
    + (f'going on from step {resumed}' if resumed else 'from the start')
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
    setup.check_finite(pending, kept)
    pending = step, metrics
    if step == resumed + 1:
      jax.block_until_ready(metrics)
      clock.started(step)
    ends_epoch = step % epoch_steps == 0
    saves = ends_epoch or step % config.checkpoint_every == 0
    if not saves and step % config.log_every:
      continue
    setup.check_finite(pending, kept)
    found = {
      'epoch': -(-step // epoch_steps),
      'train/loss': float(jax.device_get(metrics['loss'])),
      'train/grad_norm': float(jax.device_get(metrics['grad_norm'])),
      'train/lr': float(learning_rate(step - 1)),
      **clock.lap(step),
    }
    value = None
    if ends_epoch:
      with clock.pause():
        cost_N, ratio_N = measured(eval_step, state, dev, data, shardings)
      found['dev/detector_loss'] = float(cost_N.mean())
      found['dev/si_snr'] = float(ratio_N.mean())
      value = found['dev/detector_loss'] - config.weight * found['dev/si_snr']
      found['dev/objective'] = value
      if value <= best_value:
        best_value = value
        if first:
          keep(workdir, state.params['enhancer'])
    writer.write(step, found)
    writer.say(progress(config, step, last_step, found, clock))
    if saves:
      bare = state.replace(frozen={}, batch_stats={})
      kept.save(step, bare, batches, value)

  # -------------------------------------------- which weights, by dev only ---
  kept.wait()
  best_step, best_value = kept.best()
  state = restored(kept, best_step, state)
  if first:
    keep(workdir, state.params['enhancer'])
  selected_on = (
    f'lowest detector loss less {config.weight:g} times the SI-SNR, of the '
    f'spoofed clips of split {data.dev!r}: {best_value:.4f}, the latest of '
    f'equals: step {best_step}'
  )
  sharding_lib.barrier('selected')

  # ------------------------------- the eval splits, opened here, and once ---
  evaluation = evaluate.evaluate(
    evaluation_of(config, workdir), workdir / EVALUATION
  )
  splits = setup.Splits(data, selected_on)
  compared = {'start': state.replace(params=start), 'attacked': state}
  rows = {}
  for split in data.eval:
    source = pipeline.spoofed(splits.open(split))
    ratios = {
      name: measured(eval_step, one, source, data, shardings)[1]
      for name, one in compared.items()
    }
    rows[split] = rows_of(split, evaluation, ratios, workdir)

  # -------------------------------------------------------------- result ---
  result = {
    'si_snr': rows,
    'headline': data.eval[0],
    'weight': config.weight,
    'checkpoint': against,
    'start': config.init or 'a new network, which lets waves pass',
    'selected_on': selected_on,
    'state_sha256': state_lib.tree_hash(state.params),
  }
  kept.close()
  writer.close()
  if first:
    files.write_json(
      workdir / names.COST,
      {
        'parameters': state_lib.count_parameters(state.params),
        'macs_per_second': enhance.macs(*nnx.split(enhancer)),
        'samples': data.samples,
        'batch': data.batch,
        'epochs': config.epochs,
        **clock.summary(),
        **cost.surroundings(shardings, config.seed, started),
      },
    )
    hashed = (
      *record.HASHED,
      f'{START}/{names.WEIGHTS}',
      f'{EVALUATION}/{names.METRICS}',
    )
    result['sha256'] = record.fingerprint(workdir, (), hashed)
    files.write_json(workdir / names.METRICS, result)
    page = report.write(workdir)
    print(closing(result, page))
  sharding_lib.barrier('end')
  return result


# ------------------------------------------------------------------ helpers ---
def is_of_detector(path: str) -> bool:
  """Whether a parameter is one of the detector, by its path."""
  return path.startswith('detector/')


def with_power_of(wave_BxT: jax.Array, found_BxT: jax.Array) -> jax.Array:
  """Waves with the power of others, as the condition `enhance` gives them.

  SI-SNR leaves the level open; the detector need not.
  """
  power, left = (jnp.square(x).mean(1) for x in (wave_BxT, found_BxT))
  gain_B = jnp.sqrt(power / jnp.maximum(left, _QUIET))
  return found_BxT * gain_B[:, None]


def costs_of(loss, outputs_BxK: jax.Array, label: int) -> jax.Array:
  """The loss of each clip by itself with one label, `[B]`."""
  label_1 = jnp.full(1, label, jnp.int32)
  return jax.vmap(lambda outputs_K: loss(outputs_K[None], label_1))(outputs_BxK)


def make_total(weight: float):
  """What training makes smaller; its arguments are as of `steps.total_loss`."""

  def total(model: Attack, costs, batch, rngs) -> jax.Array:
    del rngs
    found, outputs = model(batch['wave'])
    ratio = si_snr(found, batch['wave'])
    return costs(outputs).mean() - weight * ratio.mean()

  return total


def make_eval_step(
  graphdef, loss, label: int, shardings: sharding_lib.Shardings
):
  """Returns `eval_step(params, batch_stats, batch)`.

  It gives index, mask, the detector's loss and the SI-SNR, each [B].
  """

  def eval_step(params, batch_stats, batch):
    model = state_lib.merge(graphdef, params, batch_stats)
    found, outputs = model(batch['wave'])
    cost = costs_of(loss, outputs, label)
    return (
      batch['index'],
      batch['mask'],
      cost,
      si_snr(found, batch['wave']),
    )

  return sharding_lib.jit(eval_step, shardings, replicated=2)


def measured(
  eval_step, state, source, data: DataConfig, shardings
) -> tuple[np.ndarray, np.ndarray]:
  """The detector's loss and the SI-SNR of each clip, float32 [N]."""
  found = np.full((2, len(source)), np.nan, np.float32)
  for batch in pipeline.eval_batches(
    source,
    batch=data.eval_batch,
    samples=data.eval_samples,
    workers=data.workers,
    process=(jax.process_index(), jax.process_count()),
  ):
    batch = sharding_lib.put_batch(batch, shardings)
    index, mask, *both = jax.device_get(
      eval_step(state.whole(), state.batch_stats, batch)
    )
    found[:, index[mask]] = np.stack(both)[:, mask]
  if not np.isfinite(found).all():
    raise FloatingPointError(
      f'{pipeline.name_of(source)}: a loss or an SI-SNR is not finite'
    )
  return found[0], found[1]


def restored(kept, step: int, state, batches=None):
  """The state of a checkpoint, with the detector, which none holds."""
  bare = state.replace(frozen={}, batch_stats={})
  return kept.restore(step, bare, batches).replace(
    frozen=state.frozen, batch_stats=state.batch_stats
  )


def keep(folder: pathlib.Path, params) -> None:
  """Writes an enhancer as a run of the job `enhance` does."""
  weights_file.save(folder, params, {})


def conditions_of(workdir: pathlib.Path) -> tuple[str, str, str]:
  """What the detector hears: all as it is, and spoofs behind each network."""
  return (
    conditions.CLEAN,
    f'spoof=enhance:{workdir / START}',
    f'spoof=enhance:{workdir}',
  )


def evaluation_of(
  config: AttackConfig, workdir: pathlib.Path
) -> dict[str, Any]:
  """The config of the evaluation."""
  data = config.data
  values = overrides.load('configs/evaluate.py').to_dict()
  same = ('name', 'data_dir', 'build', 'eval', 'eval_batch', 'workers')
  return values | {
    'checkpoint': config.checkpoint,
    'model': config.model,
    'seconds': config.seconds,
    'conditions': conditions_of(workdir),
    'seed': config.seed,
    'resamples': config.resamples,
    'data': values['data'] | {name: getattr(data, name) for name in same},
    'mesh': dataclasses.asdict(config.mesh),
  }


def rows_of(
  split: str,
  evaluation: dict,
  ratios: Mapping[str, np.ndarray],
  workdir: pathlib.Path,
) -> list[dict]:
  """What came out on a split: before, and behind each network.

  Args:
    split: its name.
    evaluation: what the job `evaluate` returned.
    ratios: SI-SNR of each spoofed clip behind a network, by its row.
    workdir: folder of the run.
  """
  everything = {evaluation['name']: evaluation, **evaluation['further']}
  rows = []
  for called, condition in zip(
    ('before', 'start', 'attacked'), conditions_of(workdir), strict=True
  ):
    found = everything[names.under(split, condition)]
    row = {'row': called, 'condition': condition}
    for field in ('eer', 'eer_interval', 'trials', 'less_first'):
      if field in found:
        row[field] = found[field]
    if (ratio_N := ratios.get(called)) is not None:
      row['si_snr'] = float(ratio_N.mean(dtype=np.float64))
      row['deviation'] = float(ratio_N.std() / np.sqrt(len(ratio_N)))
    rows.append(row)
  return rows


def progress(config, step: int, last_step: int, found: dict, clock) -> str:
  """One line of the log."""
  parts = [
    f'epoch {found["epoch"]:>3}/{config.epochs}',
    f'step {step:>6}/{last_step}',
    f'loss {found["train/loss"]:.3f}',
  ]
  if 'clips_per_s' in found:
    parts.append(f'{found["clips_per_s"]:6.1f} clips/s')
  parts.append(f'left {console.duration(clock.left(step))}')
  if 'dev/objective' in found:
    parts.append(
      f'dev: detector loss {found["dev/detector_loss"]:.3f}, SI-SNR '
      f'{found["dev/si_snr"]:.2f} dB'
    )
  return '  '.join(parts)


def closing(result: dict, page: pathlib.Path) -> str:
  """The result in a few lines."""
  lines = [
    '',
    f'{result["checkpoint"]["path"]} against an enhancer tuned on it, one dB '
    f'of SI-SNR worth {result["weight"]:g}:',
  ]
  for split, rows in result['si_snr'].items():
    for row in rows:
      low, high = row['eer_interval']
      line = f'{split + " " + row["row"]:>20}: EER {row["eer"]:6.2%}  '
      line += f'[{low:.2%}, {high:.2%}]'
      if 'si_snr' in row:
        line += f'  SI-SNR to the input {row["si_snr"]:.1f} dB'
      lines.append(line)
  return '\n'.join(
    [*lines, f'selected on {result["selected_on"]}', f'report: {page}']
  )
