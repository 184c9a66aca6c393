"""Speed of the operations of searched networks, beside XLA's own.

  python benchmarks/search_ops.py
  python benchmarks/search_ops.py --step darts     also a whole training pass

Times forward and gradient of each operation as XLA would do it ("before") and
as `jaxspoof.ops` does it ("after"), on images of the size and the channels of
a small search: 16 clips of 1 s, four edges of 8 channels.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.darts import spaces
from jaxspoof.darts.network.supernet import Arch, Supernet, SupernetConfig
from jaxspoof.ops import windows
from jaxspoof.ops.windows import Window

ROUNDS, CALLS = 5, 10


def main() -> None:
  """Measures and prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--shape', type=int, nargs=4, default=[16, 10, 13, 32])
  parser.add_argument('--step', nargs='*', choices=spaces.SPACES)
  parser.add_argument('--cells', type=int, default=4)
  parser.add_argument('--channels', type=int, default=8)
  options = parser.parse_args()
  print(f'images {options.shape}, {jax.devices()[0].device_kind}; ms')
  print(f'{"operation":28} {"pass":9} {"before":>8} {"after":>8} {"ratio":>6}')
  for name, before, after, arrays in operations(tuple(options.shape)):
    report(name, 'forward', forward(before), forward(after), arrays)
    report(name, 'gradient', gradient(before), gradient(after), arrays)
  for space in options.step or ():
    whole(space, options)


def operations(shape):
  """Name, XLA's function, ours and their arguments."""
  x = draw(shape)
  for size, dilation, stride in ((3, 1, 1), (5, 1, 1), (5, 2, 1), (3, 1, 2)):
    window = Window((size,) * 2, (stride,) * 2, (dilation,) * 2)
    kernel = draw((size, size, shape[-1]))
    yield (
      f'depthwise {size}x{size} dil {dilation} stride {stride}',
      lambda x, k, w=window: windows.depthwise_xla(x, k, window=w),
      lambda x, k, w=window: windows.depthwise(x, k, w),
      (x, kernel),
    )
  few = x[..., : max(1, shape[-1] // 4)]
  for stride in (1, 2):
    window = Window((3, 3), (stride, stride))
    yield (
      f'maximum 3x3 stride {stride}',
      lambda x, w=window: max_by_reduce_window(x, w),
      lambda x, w=window: windows.max_pool(x, w),
      (few,),
    )


def max_by_reduce_window(x, window: Window):
  """XLA's own maximum over windows."""
  pads = ((0, 0), *((half, half) for half in window.half), (0, 0))
  return jax.lax.reduce_window(
    x,
    -jnp.inf,
    jax.lax.max,
    (1, *window.size, 1),
    (1, *window.stride, 1),
    pads,
  )


def forward(function):
  """The compiled function."""
  return jax.jit(function)


def gradient(function):
  """The compiled gradient with respect to all arguments."""

  def loss(*arrays):
    return jnp.square(function(*arrays)).sum()

  def run(*arrays):
    return jax.grad(loss, tuple(range(len(arrays))))(*arrays)

  return jax.jit(run)


def report(name: str, kind: str, before, after, arrays) -> None:
  """One line: fastest round of each."""
  slow, fast = seconds(before, arrays), seconds(after, arrays)
  print(
    f'{name:28} {kind:9} {1e3 * slow:8.3f} {1e3 * fast:8.3f} '
    f'{slow / fast:6.1f}',
    flush=True,
  )


def seconds(function, arrays) -> float:
  """Of one call, the fastest round."""
  jax.block_until_ready(function(*arrays))
  rounds = []
  for _ in range(ROUNDS):
    begin = time.perf_counter()
    for _ in range(CALLS):
      result = function(*arrays)
    jax.block_until_ready(result)
    rounds.append((time.perf_counter() - begin) / CALLS)
  return min(rounds)


def whole(space: str, options) -> None:
  """Forward and gradient of a supernet: time to compile and to run."""
  config = SupernetConfig(
    space=space, num_cells=options.cells, channels=options.channels
  )
  model = Supernet(config, nnx.Rngs(0))
  graphdef, *trees = nnx.split(model, nnx.Param, Arch, nnx.BatchStat)
  trees = [nnx.to_pure_dict(tree) for tree in trees]

  @jax.jit
  def step(trees, wave):
    def loss(params, arch):
      logits = nnx.merge(graphdef, params, arch, trees[2])(wave)
      return jnp.square(logits[:, 1] - logits[:, 0] - 1).mean()

    return jax.value_and_grad(loss, (0, 1))(*trees[:2])

  batch = options.shape[0]
  wave = 0.1 * draw((batch, 16_000))
  begin = time.perf_counter()
  compiled = step.lower(trees, wave).compile()
  compiling = time.perf_counter() - begin
  print(
    f'supernet {space}, {config.num_cells} cells, {config.channels} channels, '
    f'{batch} clips of 1 s, forward and gradient: compiled in '
    f'{compiling:.1f} s, {1e3 * seconds(compiled, (trees, wave)):.0f} ms'
  )


def draw(shape) -> jax.Array:
  """Normally distributed numbers."""
  return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


if __name__ == '__main__':
  main()
