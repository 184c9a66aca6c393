"""Speed of AASIST, forward and training step, beside the PyTorch original.

  python benchmarks/aasist.py
  python benchmarks/aasist.py --reference=DIR    DIR: clovaai/aasist, cloned
  python benchmarks/aasist.py --floor     and what no program could undercut

With --reference both run in one process on one machine, in alternating
rounds, and the table gives the ratio of their fastest rounds. That both do
the same work is shown by `tests/parity_test.py`. On CPU both use all cores in
float32; on a GPU the original is run in float32, with AMP and compiled, ours
in float32 and bfloat16. Needs `pip install -e .[torch-compare]`.

With --floor, each work is followed by the time that its products alone take
at the speed of PyTorch's matrix products of the commonest convolution's sizes,
operands in cache, and its passes over memory alone at the speed of a copy.
"""

import argparse
import functools
import importlib.util
import pathlib

import jax
import numpy as np
import timing
from flax import nnx

from jaxspoof import losses, models, optim
from jaxspoof.machine import huge_pages
from jaxspoof.training import sharding, state, steps

ROUNDS = {'cpu': 5, 'gpu': 20, 'tpu': 20}
RELEASED = {'aasist': 'AASIST', 'aasist_l': 'AASIST-L'}
WEIGHTS = (0.1, 0.9)


def main() -> None:
  """Measures and prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--reference', type=pathlib.Path)
  parser.add_argument('--model', default='aasist', choices=RELEASED)
  parser.add_argument('--samples', type=int, default=64_600)
  parser.add_argument('--forward', type=int, nargs='*', default=[1, 4])
  parser.add_argument('--train', type=int, nargs='*', default=[4])
  parser.add_argument('--rounds', type=int)
  parser.add_argument('--floor', action='store_true')
  options = parser.parse_args()
  backend = jax.default_backend()
  options.rounds = options.rounds or ROUNDS[backend]
  system = models.system({'name': options.model})
  macs = system.macs(options.samples)['total']
  what = f'{options.model}, {options.samples:,} samples'
  print(timing.heading(what, macs, options.rounds, bool(options.reference)))
  work = [('forward', b) for b in options.forward]
  work += [('training step', b) for b in options.train]
  for kind, batch in work:
    wave = np.random.default_rng(0).standard_normal((batch, options.samples))
    wave = 0.1 * wave.astype(np.float32)
    label = np.arange(batch, dtype=np.int32) % 2
    runs = ours(options, kind, wave, label)
    if options.reference:
      runs |= original(options, kind, wave, label)
    if options.floor:
      runs |= {'a copy': copy, 'products in cache': products}
    seconds = timing.measure(runs, options.rounds)
    floor = {name: min(seconds.pop(name)) for name in FLOOR if name in seconds}
    timing.report(kind, batch, macs, seconds, 'PyTorch float32')
    if floor:
      moved = runs['jaxspoof float32'].moved
      report_floor(kind, batch, macs, moved, floor)


# ------------------------------------------------------------------- floor ---
ROWS, TAPS, CHANNELS, TURNS = 16_384, 192, 32, 40  # 2 x 3 taps, 32 channels
COPIED = 1 << 26
FLOOR = ('a copy', 'products in cache')


@functools.cache
def _operands():
  import torch

  return torch, torch.randn(ROWS, TAPS), torch.randn(TAPS, CHANNELS)


@functools.cache
def _long():
  return jax.random.normal(jax.random.key(0), (COPIED,))


_copy = jax.jit(lambda x: -x)


def products() -> None:
  """`TURNS` products by PyTorch's library, the fastest here."""
  torch, x_NxK, w_KxO = _operands()
  for _ in range(TURNS):
    torch.mm(x_NxK, w_KxO)


def copy() -> None:
  """Reads and writes `4 * COPIED` bytes each."""
  jax.block_until_ready(_copy(_long()))


def report_floor(kind: str, batch: int, macs: int, moved: float, floor) -> None:
  """One line: what products and passes over memory take, each alone."""
  macs *= batch * (1 if kind == 'forward' else 3)
  rate = ROWS * TAPS * CHANNELS * TURNS / floor['products in cache']
  speed = 8 * COPIED / floor['a copy']
  print(
    f'{"":22}floor: products alone {1e3 * macs / rate:.0f} ms at '
    f'{rate / 1e9:.0f} GMAC/s; {moved / 1e9:.1f} GB alone '
    f'{1e3 * moved / speed:.0f} ms at {speed / 1e9:.0f} GB/s'
  )


# -------------------------------------------------------------------- work ---


def ours(options, kind: str, wave, label) -> dict:
  """Functions that run our work once and wait for it, by name."""
  dtypes = ['float32']
  if jax.default_backend() != 'cpu':
    dtypes.append('bfloat16')
  return {
    f'jaxspoof {dtype}': prepared(options, kind, wave, label, dtype)
    for dtype in dtypes
  }


def prepared(options, kind: str, wave, label, dtype: str):
  """One call of the work, compiled, with its inputs on the device."""
  config, module = models.variant(options.model, dtype=dtype)
  graphdef, *weights = state.split(module(config, rngs=nnx.Rngs(0)))
  shardings = sharding.make(1)
  tx = optim.make(optim.OptimConfig(), 10_000)
  now = jax.jit(
    functools.partial(state.create, tx=tx), out_shardings=shardings.replicated
  )(*jax.device_get(weights))
  batch = sharding.put_batch({'wave': wave, 'label': label}, shardings)
  if kind == 'forward':

    def forward(params, batch_stats, wave):
      model = state.merge(graphdef, params, batch_stats)
      return state.eval_view(model)(wave)

    args = now.params, now.batch_stats, batch['wave']
    call = jax.jit(forward).lower(*args).compile()
    run = lambda: jax.block_until_ready(call(*args))
    run.moved = call.cost_analysis()['bytes accessed']
    return run
  loss = losses.CrossEntropy(WEIGHTS)
  step = steps.make_train_step(graphdef, tx, loss, 0, shardings)
  step = step.lower(now, batch).compile()

  def train():
    nonlocal now
    now, metrics = step(now, batch)
    jax.block_until_ready((now, metrics))

  train.moved = step.cost_analysis()['bytes accessed']
  return train


def original(options, kind: str, wave, label) -> dict:
  """The same of the official PyTorch code."""
  import torch

  gpu = jax.default_backend() == 'gpu'
  modes = ['float32', 'TF32', 'AMP', 'compiled AMP'] if gpu else ['float32']
  return {
    f'PyTorch {mode}': torch_call(torch, options, kind, wave, label, mode, gpu)
    for mode in modes
  }


def torch_call(torch, options, kind, wave, label, mode: str, gpu: bool):
  """One call of the original's work, on its device.

  `mode` is 'float32', 'TF32' (matrix units, what PyTorch's convolutions take
  unless told otherwise), 'AMP' (bfloat16) or 'compiled AMP'.
  """
  device = torch.device('cuda' if gpu else 'cpu')
  model = official_model(options.reference, options.model).to(device)
  if mode == 'compiled AMP':
    model = torch.compile(model)
  wave = torch.from_numpy(wave).to(device)
  label = torch.from_numpy(label).long().to(device)
  cast = torch.autocast('cuda', torch.bfloat16, enabled='AMP' in mode)
  wait = torch.cuda.synchronize if gpu else lambda: None
  criterion = torch.nn.CrossEntropyLoss(torch.tensor(WEIGHTS, device=device))
  optimizer = torch.optim.Adam(model.parameters(), 1e-4, weight_decay=1e-4)

  def matrix_units():
    for backend in (torch.backends.cudnn, torch.backends.cuda.matmul):
      backend.allow_tf32 = mode != 'float32'

  def forward():
    matrix_units()
    with torch.no_grad(), cast:
      model(wave)
    wait()

  def train():
    matrix_units()
    with cast:
      _, logits = model(wave)
      loss = criterion(logits.float(), label)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    loss.item()
    wait()

  model.train(kind != 'forward')
  return forward if kind == 'forward' else train


def official_model(reference: pathlib.Path, name: str):
  """The module of the official code with the configuration of a variant."""
  path = reference / 'models' / 'AASIST.py'
  if not path.is_file():
    raise SystemExit(f'{path} not found: expected a clone of clovaai/aasist')
  spec = importlib.util.spec_from_file_location('official_aasist', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  config, _ = models.variant(name)
  c = config.channels
  return module.Model(
    {
      'filts': [70, [1, c[0]], [c[0], c[1]], [c[1], c[2]], [c[2], c[3]]],
      'first_conv': config.sinc_taps,
      'gat_dims': list(config.gat_dims),
      'pool_ratios': [*config.pool_ratios, config.pool_ratios[-1]],
      'temperatures': [*config.temperatures, config.temperatures[-1]],
    }
  )


if __name__ == '__main__':
  huge_pages.ensure()
  main()
