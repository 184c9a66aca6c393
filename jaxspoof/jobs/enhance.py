"""JOB: trains a network that takes noise away from speech.

Pairs are made of the bona fide clips of any corpus: a clip, and the same clip
with what `data.augment` does to it. Learned is the scale-invariant
signal-to-noise ratio (SI-SNR); how much better the output is than the input,
in dB, selects the weights on dev and is measured on the eval splits, which are
opened at the end, and once. Read from top to bottom.

  weights.npz    the selected weights, of which the condition `enhance` is made
  metrics.json   SI-SNR before and after, by split and condition
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

from jaxspoof import arithmetic, audio, optim, report
from jaxspoof import config as config_lib
from jaxspoof.config import DataConfig, MeshConfig
from jaxspoof.data import augment, conditions, pipeline
from jaxspoof.enhance import weights
from jaxspoof.enhance.conv_tasnet import ConvTasNet, ConvTasNetConfig, si_snr
from jaxspoof.machine import files
from jaxspoof.runs import names, record, weights_file
from jaxspoof.runs import splits as splits_lib
from jaxspoof.runs.writer import Writer
from jaxspoof.training import checkpoint as checkpoint_lib
from jaxspoof.training import console, cost, setup, steps
from jaxspoof.training import sharding as sharding_lib
from jaxspoof.training import state as state_lib
from jaxspoof.training.clock import Clock


@dataclasses.dataclass(frozen=True)
class EnhanceConfig:
  """A training run of an enhancer.

  Attributes:
    seed: of the initial weights, the order of clips, crops and noise.
    epochs: number of passes over the bona fide clips of the train split.
    network: what it is; `sources` is 1 and `sample_rate` that of corpora.
    data: corpus, splits, batches, and by `augment` what the clips are to be
      cleaned of; that must keep their length.
    conditions: what clips of dev and eval are put under, as `conditions.make`
      reads it.
    optim: optimiser and schedule.
    mesh: the devices that the batch is divided over.
    init: weights to start from: a run of this job, or a file of torchaudio or
      asteroid of the sizes of `network`; None for random ones.
    checkpoint_every: number of steps between checkpoints; the end of each epoch
      is one too.
    log_every: number of steps between lines of the log.
  """

  seed: int
  epochs: int
  network: ConvTasNetConfig
  data: DataConfig
  conditions: tuple[str, ...]
  optim: optim.OptimConfig
  mesh: MeshConfig
  init: str | None = None
  checkpoint_every: int = 500
  log_every: int = 50

  def __post_init__(self):
    made, data = self.network, self.data
    for field, value, wanted in (
      ('sources', made.sources, 1),
      ('sample_rate', made.sample_rate, audio.SAMPLE_RATE),
    ):
      if value != wanted:
        raise ValueError(f'network.{field}={value}: expected {wanted}')
    if data.augment == 'none':
      raise ValueError(
        "data.augment='none': expected what clips are to be cleaned of, such "
        "as 'conditions' or 'rawboost'"
      )
    if not self.conditions:
      raise ValueError(
        "conditions is empty: expected such as ('white:5', 'babble:5')"
      )
    config_lib.check_splits(data)


def enhance(values: Mapping[str, Any], workdir: pathlib.Path) -> dict:
  """Trains, selects and measures the enhancer that a config describes.

  A run that was stopped goes on from its last checkpoint when it is started
  again with the same config and workdir.

  Args:
    values: the config as a dictionary, see `EnhanceConfig`.
    workdir: folder of the run; made if missing.

  Returns:
    The content of `metrics.json`.

  Raises:
    ValueError: a config that cannot work, said before anything is computed.
    FloatingPointError: the loss or gradient stopped being finite.
  """
  # ------------------------------------------------------------- checks ---
  started = time.time()
  config = config_lib.job_section(EnhanceConfig, values)
  data = config.data
  wanted = [made(name, config) for name in config.conditions]
  if 'conditions' in augment.split(data.augment):
    for name in data.conditions.names:
      made(name, config)
  shardings = sharding_lib.make(config.mesh.devices)
  sharding_lib.check_batch(data.batch, shardings, 'data.batch')
  sharding_lib.check_batch(data.eval_batch, shardings, 'data.eval_batch')
  first = jax.process_index() == 0
  setup.claim(workdir, dict(values))

  # --------------------------------------------------------------- data ---
  setup.prepare_corpus(data)
  splits = setup.Splits(data)
  source = pipeline.bona_fide(splits.train())
  dev = {
    name: pipeline.bona_fide(found)
    for name, found in splits.open_each(data.dev).items()
  }
  setup.check_eval_splits(data)
  epoch_steps = len(source) // data.batch
  if not epoch_steps:
    raise ValueError(
      f'data.batch={data.batch} is larger than the {len(source)} bona fide '
      f'clips of split {data.train!r}'
    )
  last_step = config.epochs * epoch_steps
  batches = iter(
    pipeline.train_batches(
      source,
      batch=data.batch,
      samples=data.samples,
      seed=config.seed,
      workers=data.workers,
      transforms=augment.transforms(data),
      process=(jax.process_index(), jax.process_count()),
      paired=True,
    )
  )

  # ---------------------------------------- model, optimiser, functions ---
  tx = optim.make(config.optim, last_step)
  learning_rate = jax.jit(optim.schedule(config.optim, last_step))
  graphdef, params, _ = state_lib.split(network(config))
  create = jax.jit(
    lambda params: state_lib.create(params, {}, tx),
    out_shardings=shardings.replicated,
  )
  state = create(jax.device_get(params))
  train_step = steps.make_train_step(
    graphdef, tx, si_snr, config.seed, shardings, total=minus_si_snr
  )
  eval_step = make_eval_step(graphdef, shardings)

  def measure(params, source):
    return {
      condition.name: ratios(
        eval_step, params, source, data, condition, shardings
      )
      for condition in wanted
    }

  # -------------------------------------------------------------- resume ---
  checkpoints = checkpoint_lib.Checkpoints(workdir)
  resumed = checkpoints.latest() or 0
  if resumed:
    state = checkpoints.restore(resumed, state, batches)
  best = checkpoints.best()
  best_error = np.inf if best is None else best[1]
  writer = Writer(workdir, resumed, enabled=first)
  writer.say(
    f'Conv-TasNet, {console.parameters(state)}; {data.name} {data.train}: '
    f'{len(source):,} bona fide clips, batch {data.batch} x '
    f'{data.samples / audio.SAMPLE_RATE:.2f} s; {config.epochs} epochs, '
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
        gains = [
          improvement(measure(state.params, one)) for one in dev.values()
        ]
      found['dev/improvement'] = gain = sum(gains) / len(gains)
      dev_error = -gain  # checkpoints keep the lowest
      if dev_error <= best_error:
        best_error = dev_error
        if first:
          weights_file.save(workdir, state.params, {})
    writer.write(step, found)
    writer.say(progress(config, step, last_step, found, clock))
    if saves:
      checkpoints.save(step, state, batches, dev_error)

  # -------------------------------------------- which weights, by dev only ---
  checkpoints.wait()
  best_step, best_error = checkpoints.best()
  state = checkpoints.restore(best_step, state)
  if first:
    weights_file.save(workdir, state.params, {})
  selected_on = (
    f'highest mean improvement of the SI-SNR on split {data.dev!r}: '
    f'{-best_error:.2f} dB, the latest of equals: step {best_step}'
  )

  # ------------------------------- the eval splits, opened here, and once ---
  results = {}
  splits = setup.Splits(data, selected_on)
  for name in (data.dev, *data.eval):
    for part in splits_lib.parts(data.name, name):
      found = measure(state.params, pipeline.bona_fide(splits.open_part(part)))
      results[part.name] = {
        condition: described(*both) for condition, both in found.items()
      }

  # -------------------------------------------------------------- result ---
  headline = splits_lib.parts(data.name, data.eval[0])[0].name
  gains = [found['improvement'] for found in results[headline].values()]
  result = {
    'improvement': sum(gains) / len(gains),
    'headline': headline,
    'si_snr': results,
    'selected_on': selected_on,
    'state_sha256': checkpoint_lib.state_hash(state),
  }
  checkpoints.close()
  writer.close()
  if first:
    files.write_json(
      workdir / names.COST,
      {
        'parameters': state_lib.count_parameters(state.params),
        'macs_per_second': macs(graphdef, state.params),
        'samples': data.samples,
        'batch': data.batch,
        'epochs': config.epochs,
        **clock.summary(),
        **cost.surroundings(shardings, config.seed, started),
      },
    )
    result['sha256'] = record.fingerprint(workdir, ())
    files.write_json(workdir / names.METRICS, result)
    page = report.write(workdir)
    print(closing(results, selected_on, workdir, page))
  sharding_lib.barrier('end')
  return result


# ------------------------------------------------------------------ helpers ---
def made(name: str, config: EnhanceConfig) -> conditions.Condition:
  """A condition of a config.

  Raises:
    ValueError: one that means nothing, or that changes the length of clips.
  """
  folders = config.data.conditions.noise_dir, config.data.conditions.room_dir
  found = conditions.make(name, config.seed, *folders)
  for step in found.steps:
    if conditions.CONDITIONS[step.kind].samples is not None:
      raise ValueError(
        f'condition {name!r}: {step.kind!r} changes the length of a clip; '
        'expected what keeps it, as the clean clip is compared sample by sample'
      )
  return found


def network(config: EnhanceConfig) -> ConvTasNet:
  """The network of step 0.

  A new one lets waves pass as they are, but for their level: the filterbank
  back is the pseudo-inverse of the one before, so that it need not learn one
  first.

  Raises:
    ValueError: `init` is a network of other sizes.
  """
  if config.init is None:
    found = ConvTasNet(config.network, nnx.Rngs(config.seed))
    found.decoder.set_value(
      jnp.asarray(np.linalg.pinv(found.encoder[...]), found.decoder.dtype)
    )
    return found
  found = weights.load(config.init)
  if found.config != config.network:
    there, asked = map(dataclasses.asdict, (found.config, config.network))
    different = [
      f'network.{name}={asked[name]!r}, there {there[name]!r}'
      for name in asked
      if asked[name] != there[name]
    ]
    raise ValueError(f'init={config.init}: {"; ".join(different)}')
  return found


def minus_si_snr(model: ConvTasNet, loss, batch, rngs) -> jax.Array:
  """What training makes smaller, in dB; arguments as of `steps.total_loss`."""
  del rngs
  return -loss(model(batch['wave'])[:, 0], batch['clean']).mean()


def make_eval_step(graphdef, shardings: sharding_lib.Shardings):
  """Returns `eval_step(params, batch)`.

  It gives index, mask, and the SI-SNR before and after, each [B].
  """

  def eval_step(params, batch):
    found = nnx.merge(graphdef, params)(batch['wave'])[:, 0]
    before = si_snr(batch['wave'], batch['clean'])
    return (
      batch['index'],
      batch['mask'],
      before,
      si_snr(found, batch['clean']),
    )

  return sharding_lib.jit(eval_step, shardings, replicated=1)


def ratios(
  eval_step, params, source, data: DataConfig, condition, shardings
) -> tuple[np.ndarray, np.ndarray]:
  """SI-SNR of each clip of a source, before and after, float32 [N] in dB."""
  found = np.full((2, len(source)), np.nan, np.float32)
  for batch in pipeline.eval_batches(
    source,
    batch=data.eval_batch,
    samples=data.eval_samples,
    workers=data.workers,
    process=(jax.process_index(), jax.process_count()),
    condition=condition,
    paired=True,
  ):
    batch = sharding_lib.put_batch(batch, shardings)
    index, mask, *both = jax.device_get(eval_step(params, batch))
    found[:, index[mask]] = np.stack(both)[:, mask]
  if not np.isfinite(found).all():
    raise FloatingPointError(
      f'{pipeline.name_of(source)}, condition {condition.name!r}: an SI-SNR is '
      'not finite'
    )
  return found[0], found[1]


def improvement(found: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> float:
  """The mean improvement over clips and conditions, in dB."""
  return float(np.mean([after - before for before, after in found.values()]))


def described(before: np.ndarray, after: np.ndarray) -> dict[str, float]:
  """Mean SI-SNR before and after, in dB, and how sure the difference is.

  `deviation` is the standard error of the mean improvement, over clips.
  """
  gain = after.astype(np.float64) - before
  return {
    'noisy': float(before.mean(dtype=np.float64)),
    'enhanced': float(after.mean(dtype=np.float64)),
    'improvement': float(gain.mean()),
    'deviation': float(gain.std() / np.sqrt(len(gain))),
    'improved': float(np.mean(gain > 0)),
    'clips': len(gain),
  }


def macs(graphdef, params) -> int:
  """Multiply-accumulates for one second."""
  wave = jax.ShapeDtypeStruct((1, audio.SAMPLE_RATE), jnp.float32)
  return arithmetic.total(lambda p, w: nnx.merge(graphdef, p)(w), params, wave)


def progress(config, step: int, last_step: int, found: dict, clock) -> str:
  """One line of the log."""
  parts = [
    f'epoch {found["epoch"]:>3}/{config.epochs}',
    f'step {step:>6}/{last_step}',
    f'SI-SNR {-found["train/loss"]:.2f} dB',
  ]
  if 'clips_per_s' in found:
    parts.append(f'{found["clips_per_s"]:6.1f} clips/s')
  parts.append(f'left {console.duration(clock.left(step))}')
  if 'dev/improvement' in found:
    parts.append(f'dev {found["dev/improvement"]:+.2f} dB')
  return '  '.join(parts)


def closing(
  results: dict, selected_on: str, workdir: pathlib.Path, page: pathlib.Path
) -> str:
  """The result in a few lines, and what to try next."""
  lines = ['', f'{"SI-SNR in dB":>24}   noisy  enhanced  improvement']
  for split, found in results.items():
    for condition, r in found.items():
      lines.append(
        f'{split + " " + condition:>24}  {r["noisy"]:6.2f}  '
        f'{r["enhanced"]:8.2f}  {r["improvement"]:+6.2f} '
        f'({r["deviation"]:.2f}), {r["improved"]:.0%} of {r["clips"]:,} clips'
      )
  lines += [
    f'selected on {selected_on}',
    f'report: {page}',
    'try next: python run.py --config=configs/evaluate.py --config.checkpoint='
    f"RUN --config.conditions=\"('clean','enhance:{workdir}')\"",
  ]
  return '\n'.join(lines)
