"""Lines that a run prints for the person who watches it."""

import pathlib

import jax

from jaxspoof.config import RunConfig
from jaxspoof.metrics.table import METRICS
from jaxspoof.training import sharding as sharding_lib
from jaxspoof.training import state as state_lib
from jaxspoof.training.clock import Clock


def opening(
  config: RunConfig,
  state: state_lib.TrainState,
  shardings: sharding_lib.Shardings,
  clips: int,
  resumed: int,
) -> str:
  """What is about to be trained, on what and where."""
  device = shardings.batch.mesh.devices.flat[0]
  hosts = jax.process_count()
  begin = f'going on from step {resumed}' if resumed else 'from the start'
  return (
    f'{config.model["name"]}, '
    f'{parameters(state)}; '
    f'{config.data.name} {config.data.train}: {clips:,} clips, batch '
    f'{config.data.batch} x {config.data.samples / 16_000:.2f} s; '
    f'{shardings.devices} x {device.device_kind} on {hosts} host(s); '
    f'{config.epochs} epochs, {begin}'
  )


def parameters(state: state_lib.TrainState) -> str:
  """How many there are, and how many of them are not trained."""
  frozen = state_lib.count_parameters(state.frozen)
  count = state_lib.count_parameters(state.params) + frozen
  said = f'{count:,} parameters'
  return f'{said}, {frozen:,} of them frozen' if frozen else said


def progress(
  config: RunConfig,
  task,
  step: int,
  last_step: int,
  values: dict,
  clock: Clock,
) -> str:
  """One line of the log."""
  parts = [
    f'epoch {values["epoch"]:>3}/{config.epochs}',
    f'step {step:>6}/{last_step}',
    f'loss {values["train/loss"]:.4f}',
  ]
  if 'clips_per_s' in values:
    parts.append(f'{values["clips_per_s"]:6.1f} clips/s')
    parts.append(f'waiting {values["data_wait"]:4.1%}')
  parts.append(f'left {duration(clock.left(step))}')
  if (error := values.get(f'dev/{task.metric}')) is not None:
    head = f'dev/{task.metric}/'
    each = ', '.join(
      f'{name.removeprefix(head)} {value:.2%}'
      for name, value in values.items()
      if name.startswith(head)
    )
    how = 'worst ' if config.data.select == 'worst' else 'mean '
    how = how if each else ''
    parts.append(
      f'dev {how}{task.criterion} {error:.2%}' + (f' ({each})' if each else '')
    )
  return '  '.join(parts)


def closing(
  results: dict,
  config: RunConfig,
  workdir: pathlib.Path,
  page: pathlib.Path | None,
) -> str:
  """The result in a few lines, and what to try next."""
  lines = ['']
  for split, found in results.items():
    low, high = found['eer_interval']
    lines.append(
      f'{split:>12}: EER {found["eer"]:6.2%}  '
      f'[{low:.2%}, {high:.2%}]  {found["trials"]["total"]:,} trials'
    )
    others = [
      f'{metric.label} {metric.scale * found[name]:.4f}'
      for name, metric in METRICS.items()
      if name != 'eer' and found[name] is not None
    ]
    lines.append(f'{"":>14}{"; ".join(others)}')
  headline = next(iter(results.values()))
  lines += [
    f'selected on {headline["selected_on"]}',
    *([f'report: {page}'] if page else []),
    f'try next: python detect.py --checkpoint {workdir} '
    f'--input {workdir / "examples"}',
  ]
  return '\n'.join(lines)


def duration(seconds: float) -> str:
  """A span of time as a person says it: '42 s', '7 min', '3 h 05 min'."""
  if seconds < 90:
    return f'{seconds:.0f} s'
  minutes = round(seconds / 60)
  if minutes < 90:
    return f'{minutes} min'
  return f'{minutes // 60} h {minutes % 60:02d} min'
