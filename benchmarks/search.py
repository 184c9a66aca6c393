"""A step of the architecture search: seconds, memory and compile time.

  python benchmarks/search.py
  python benchmarks/search.py --devices 1 2 4 --orders first exact
  python benchmarks/search.py --variant='' --batch=64      on a GPU

One step is an update of the architecture and one of the weights. `compile` is
the time of both programs without a cache, `memory` what the larger of them
needs beside its inputs and outputs, on each device, as XLA says. Virtual
devices of a CPU share its cores: they show that the work is divided, not that
it gets faster.
"""

import argparse
import pathlib
import statistics
import sys
import time

import jax
import numpy as np

from jaxspoof import overrides
from jaxspoof.darts.search import bilevel, steps
from jaxspoof.darts.search.config import search_config, supernet_config
from jaxspoof.jobs import search
from jaxspoof.machine import huge_pages
from jaxspoof.training import cost, sharding

ROOT = pathlib.Path(__file__).resolve().parents[1]


def main() -> None:
  """Measures and prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--variant', default='quickstart')
  parser.add_argument('--orders', nargs='*', default=list(bilevel.ORDERS))
  parser.add_argument('--devices', type=int, nargs='*', default=[1])
  parser.add_argument('--batch', type=int)
  parser.add_argument('--samples', type=int)
  parser.add_argument('--rounds', type=int, default=5)
  options = parser.parse_args()
  if jax.config.values['jax_platforms'] in ('cpu', None):
    jax.config.update('jax_num_cpu_devices', max(options.devices))
  sys.path.insert(0, str(ROOT))  # files in `configs/` import each other
  path = ROOT / 'configs' / 'light_darts_search.py'
  config = overrides.load(f'{path}:{options.variant}')
  config.data.batch = options.batch or config.data.batch
  config.data.samples = options.samples or config.data.samples
  print(heading(config))
  first = None
  for devices in options.devices:
    for order in options.orders:
      config.arch.order = order
      found = measured(search_config(config.to_dict()), devices, options.rounds)
      first = first or found['seconds']
      print(
        f'{order:18} {devices:>7} {1e3 * found["seconds"]:9.1f} '
        f'{1e3 * found["median"]:9.1f} {found["seconds"] / first:6.2f} '
        f'{config.data.batch / found["seconds"]:8.2f} '
        f'{found["memory"] / 2**20:10,.0f} {found["compile"]:9.1f}',
        flush=True,
      )


def heading(config) -> str:
  """What is measured, on what, and the head of the table."""
  model = config.model
  return (
    f'space {model.space}, {model.num_cells} cells of {model.nodes} nodes, '
    f'{model.channels} channels, batch {config.data.batch} x '
    f'{config.data.samples:,} samples, {jax.devices()[0].device_kind}, jax '
    f'{cost.versions()["jax"]}, huge pages '
    f'{"asked for" if huge_pages.asked() else "not asked for"}\n\n'
    f'{"order":18} {"devices":>7} {"min ms":>9} {"median":>9} {"ratio":>6} '
    f'{"clips/s":>8} {"memory MiB":>10} {"compile s":>9}'
  )


def measured(config, devices: int, rounds: int) -> dict[str, float]:
  """Seconds of a step, bytes and seconds of compilation."""
  shardings = sharding.make(devices)
  sharding.check_batch(config.data.batch, shardings, 'batch')
  levels, state = search.make_levels(
    config, supernet_config(config), 0, 1000, shardings
  )
  train, valid = batch_of(config, shardings, 0), batch_of(config, shardings, 1)
  begin = time.perf_counter()
  arch_step = steps.make_arch_step(levels, shardings)
  arch_step = arch_step.lower(state, train, valid).compile()
  weight_step = steps.make_weight_step(levels, shardings)
  weight_step = weight_step.lower(state, train).compile()
  compiled = time.perf_counter() - begin
  seconds = []
  for _ in range(rounds + 1):
    begin = time.perf_counter()
    state, _ = arch_step(state, train, valid)
    state, _ = weight_step(state, train)
    jax.block_until_ready(state)
    seconds.append(time.perf_counter() - begin)
  memory = [
    program.memory_analysis().temp_size_in_bytes
    for program in (arch_step, weight_step)
  ]
  return {
    'seconds': min(seconds[1:]),
    'median': statistics.median(seconds[1:]),
    'memory': max(memory),
    'compile': compiled,
  }


def batch_of(config, shardings, seed: int) -> dict:
  """A batch of noise with both labels."""
  rng = np.random.default_rng(seed)
  shape = (config.data.batch, config.data.samples)
  wave = 0.1 * rng.standard_normal(shape, np.float32)
  label = np.arange(config.data.batch, dtype=np.int32) % 2
  return sharding.put_batch({'wave': wave, 'label': label}, shardings)


if __name__ == '__main__':
  huge_pages.ensure()
  main()
