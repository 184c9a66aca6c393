"""Do several seeds of one recipe train faster in one program than in turns?

  python benchmarks/seeds.py
  python benchmarks/seeds.py --recipes configs/aasist.py:quickstart --seeds=2

Steps on noise: of one seed, and of all at once (`jax.vmap` over weights,
optimiser and batch). `gain`: how much faster all are trained together; below 1
it does not pay.
"""

import argparse
import functools
import pathlib
import sys

import jax
import numpy as np
import timing
from flax import nnx

from jaxspoof import losses, models, optim, overrides
from jaxspoof.config import run_config
from jaxspoof.machine import huge_pages
from jaxspoof.training import cost, sharding, state, steps

ROOT = pathlib.Path(__file__).resolve().parents[1]
RECIPES = (
  'configs/ecapa_mfcc.py:quickstart',
  'configs/lcnn.py:quickstart',
  'configs/aasist.py:quickstart',
)


def main() -> None:
  """Measures and prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--recipes', nargs='+', default=RECIPES)
  parser.add_argument('--seeds', type=int, default=3)
  parser.add_argument('--batch', type=int)
  parser.add_argument('--samples', type=int)
  parser.add_argument('--rounds', type=int, default=5)
  options = parser.parse_args()
  sys.path.insert(0, str(ROOT))  # files in `configs/` import each other
  print(
    f'{options.seeds} seeds, {options.rounds} rounds, '
    f'{jax.devices()[0].device_kind}, jax {cost.versions()["jax"]}\n\n'
    f'{"recipe":34} {"in turns ms":>11} {"at once ms":>11} {"gain":>6}'
  )
  for path in options.recipes:
    values = overrides.load(str(ROOT / path))
    values.data.batch = options.batch or values.data.batch
    values.data.samples = options.samples or values.data.samples
    runs = runs_of(run_config(values.to_dict()), options.seeds)
    found = timing.measure(runs, options.rounds)
    alone, together = (min(found[name]) for name in ('alone', 'together'))
    turns = options.seeds * alone
    print(
      f'{path:34} {1e3 * turns:11.1f} {1e3 * together:11.1f} '
      f'{turns / together:6.2f}',
      flush=True,
    )


def runs_of(config, seeds: int) -> dict:
  """A step of one seed, and one of all at once, as functions to call."""
  loss = losses.make(config.loss, 2)
  system = models.system(
    config.model, config.frontend, head=loss.head, classes=2
  )
  tx, shardings = optim.make(config.optim, 1000), sharding.make(1)
  create = jax.jit(functools.partial(state.create, tx=tx))
  drawn = []
  for seed in range(seeds):
    graphdef, *weights = state.split(system.make(nnx.Rngs(seed)))
    drawn.append(create(*weights))
  step = steps.make_train_step(graphdef, tx, loss, 0, shardings)
  # Not donated: every call gets the same.
  alone = jax.jit(step.__wrapped__)
  together = jax.jit(jax.vmap(step.__wrapped__))
  stack = lambda *arrays: np.stack(arrays)
  states = jax.tree.map(stack, *drawn)
  one = batch_of(config)
  batches = jax.tree.map(stack, *[one] * seeds)
  return {
    'alone': lambda: jax.block_until_ready(alone(drawn[0], one)),
    'together': lambda: jax.block_until_ready(together(states, batches)),
  }


def batch_of(config) -> dict[str, np.ndarray]:
  """A batch of noise with both labels."""
  batch, samples = config.data.batch, config.data.samples
  wave = 0.1 * np.random.default_rng(0).standard_normal((batch, samples))
  found = {
    'wave': wave.astype(np.float32),
    'label': np.arange(batch, dtype=np.int32) % 2,
  }
  if config.data.padded:
    found['samples'] = np.full(batch, samples, np.int32)
  return found


if __name__ == '__main__':
  huge_pages.ensure()
  main()
