"""Lines that a search prints for the person who watches it."""

import pathlib
import shlex

import jax

from jaxspoof import frontends
from jaxspoof.darts.search import architecture
from jaxspoof.darts.search.config import SearchConfig
from jaxspoof.darts.search.state import SearchState
from jaxspoof.training import sharding as sharding_lib
from jaxspoof.training import state as state_lib
from jaxspoof.training.clock import Clock
from jaxspoof.training.console import duration


def opening(
  config: SearchConfig,
  state: SearchState,
  shardings: sharding_lib.Shardings,
  clips: tuple[int, int],
  resumed: int,
) -> str:
  """What is about to be searched, on what and where."""
  device = shardings.batch.mesh.devices.flat[0]
  begin = f'going on from step {resumed}' if resumed else 'from the start'
  return (
    f'supernet of {state_lib.count_parameters(state.weights):,} parameters, '
    f'{state_lib.count_parameters(state.arch)} architecture logits, order '
    f'{config.arch.order}, cost weight {config.cost_weight:g}; '
    f'{config.data.name} {config.data.train} in halves by speaker: '
    f'{clips[0]:,} clips for the weights, {clips[1]:,} for the architecture, '
    f'batch {config.data.batch} x {config.data.samples / 16_000:.2f} s; '
    f'{shardings.devices} x {device.device_kind} on {jax.process_count()} '
    f'host(s); {config.epochs} epochs, {config.arch.warmup_epochs} of them '
    f'warm-up, {begin}'
  )


def progress(
  config: SearchConfig, step: int, last_step: int, values: dict, clock: Clock
) -> str:
  """One line of the log."""
  parts = [
    f'epoch {values["epoch"]:>3}/{config.epochs}',
    f'step {step:>6}/{last_step}',
    f'train loss {values["train/loss"]:.4f}',
  ]
  if 'valid/loss' in values:
    parts.append(f'valid loss {values["valid/loss"]:.4f}')
    parts.append(f'entropy {values["entropy"]:.3f}')
    parts.append(f'cost {values["cost"]:.3f}')
  if 'dev/eer' in values:
    parts.append(f'dev EER {values["dev/eer"]:.2%}')
  if 'clips_per_s' in values:
    parts.append(f'{values["clips_per_s"]:6.1f} clips/s')
  parts.append(f'left {duration(clock.left(step))}')
  return '  '.join(parts)


def leading(arch: architecture.Arch, operations: tuple[str, ...]) -> str:
  """Which operation leads on each edge, and its share; a line for a node.

  Where edges have weights of their own theirs stands first, in brackets.
  """
  lines = []
  for cell, rows in sorted(architecture.leading(arch, operations).items()):
    by_node: dict[int, list[str]] = {}
    for node, source, operation, share, edge in rows:
      weight = f' ({edge:.0%})' if 'beta' in arch[cell] else ''
      words = f'{source}{weight}: {operation} {share:.0%}'
      by_node.setdefault(node, []).append(words)
    for node, words in by_node.items():
      lines.append(f'  {cell:>6} node {node} from {", ".join(words)}')
  return '\n'.join(lines)


def closing(result: dict, page: pathlib.Path) -> str:
  """The result in a few lines."""
  first, last = result['first_epoch'], result['last_epoch']
  size = result['derived']
  lines = [
    '',
    *(
      f'{name:>12}: {first[name]:.4f} after the first epoch, {last[name]:.4f} '
      'after the last'
      for name in ('valid/loss', 'entropy', 'cost', 'dev/eer')
      if name in last
    ),
    f'derived network: {size["parameters"]:,} parameters, '
    f'{size["macs"]["total"] / 1e6:,.1f} million MACs per clip',
    *(f'WARNING: {words}' for words in result['failures']),
    f'report: {page}',
  ]
  return '\n'.join(lines)


def training(config: SearchConfig, genotype: pathlib.Path) -> str:
  """The command that trains the network a search ended in."""
  own = config.data.name == 'quickstart'
  file = 'configs/light_darts.py' + (':quickstart' if own else '')
  words = ['python', 'run.py', f'--config={file}']
  words.append(f'--config.genotype={genotype}')
  if not own:
    words.append(f'--config.data.name={config.data.name}')
  if config.data.data_dir is not None:
    words.append(f'--config.data.data_dir={config.data.data_dir}')
  sizes = [name for name in ('num_cells', 'channels') if name in config.model]
  if config.model.get('stem_multiplier', 1) != 1:
    sizes.append('stem_multiplier')
  words += [f'--config.model.{name}={config.model[name]}' for name in sizes]
  words += [
    f'--config.frontend.{name}={value}'
    for name, value in frontends.said(config.frontend).items()
  ]
  return shlex.join(words)
