"""Speed of AASIST, forward and training step, beside the PyTorch original.

  python benchmarks/aasist.py
  python benchmarks/aasist.py --reference=DIR    DIR: clovaai/aasist, cloned

With --reference both run in one process on one machine, in alternating
rounds, and the table gives the ratio of their fastest rounds. That both do
the same work is shown by `tests/parity_test.py`. On CPU both use all cores in
float32; on a GPU the original is run in float32, with AMP and compiled, ours
in float32 and bfloat16. Needs `pip install -e .[torch-compare]`.
"""

import argparse
import functools
import importlib.util
import pathlib
import statistics
import time

import jax
import numpy as np
from flax import nnx

from jaxspoof import (
  cost,
  huge_pages,
  losses,
  models,
  optim,
  sharding,
  state,
  steps,
)

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
  options = parser.parse_args()
  backend = jax.default_backend()
  options.rounds = options.rounds or ROUNDS[backend]
  print(heading(options))
  work = [('forward', b) for b in options.forward]
  work += [('training step', b) for b in options.train]
  for kind, batch in work:
    wave = np.random.default_rng(0).standard_normal((batch, options.samples))
    wave = 0.1 * wave.astype(np.float32)
    label = np.arange(batch, dtype=np.int32) % 2
    runs = ours(options, kind, wave, label)
    if options.reference:
      runs |= original(options, kind, wave, label)
    report(options, kind, batch, measure(runs, options.rounds))


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

    call = jax.jit(forward)
    weights = now.params, now.batch_stats
    return lambda: jax.block_until_ready(call(*weights, batch['wave']))
  loss = losses.CrossEntropy(WEIGHTS)
  step = steps.make_train_step(graphdef, tx, loss, 0, shardings)

  def train():
    nonlocal now
    now, metrics = step(now, batch)
    jax.block_until_ready((now, metrics))

  return train


def original(options, kind: str, wave, label) -> dict:
  """The same of the official PyTorch code."""
  import torch

  gpu = jax.default_backend() == 'gpu'
  modes = ['float32', 'AMP', 'compiled AMP'] if gpu else ['float32']
  return {
    f'PyTorch {mode}': torch_call(torch, options, kind, wave, label, mode, gpu)
    for mode in modes
  }


def torch_call(torch, options, kind, wave, label, mode: str, gpu: bool):
  """One call of the original's work, on its device."""
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

  def forward():
    with torch.no_grad(), cast:
      model(wave)
    wait()

  def train():
    with cast:
      loss = criterion(model(wave).float(), label)
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


def measure(runs: dict, rounds: int) -> dict[str, list[float]]:
  """Seconds of each run in each round, steady state.

  Each turn calls twice and times the second: what ran before the first has
  emptied the caches and, on a virtual machine, has made the host take back
  memory that nobody used meanwhile.
  """
  seconds = {name: [] for name in runs}
  for _ in range(rounds):
    for name, call in runs.items():
      call()
      begin = time.perf_counter()
      call()
      seconds[name].append(time.perf_counter() - begin)
  return seconds


def heading(options) -> str:
  """What is measured, on what."""
  macs = models.macs({'name': options.model}, options.samples)['total']
  device = jax.devices()[0].device_kind
  versions = cost.versions()
  lines = [
    f'{options.model}, {options.samples:,} samples, '
    f'{macs / 1e9:.2f} GMAC forward, {options.rounds} rounds, {device}, '
    f'jax {versions["jax"]}, huge pages '
    f'{"asked for" if huge_pages.asked() else "not asked for"}'
  ]
  if options.reference:
    import torch

    lines.append(
      f'PyTorch {torch.__version__}, {torch.get_num_threads()} threads'
    )
  lines.append(
    f'\n{"work":14} {"batch":>5}  {"what":22} {"min ms":>9} {"median":>9} '
    f'{"clips/s":>8} {"GMAC/s":>7} {"ratio":>6}'
  )
  return '\n'.join(lines)


def report(options, kind: str, batch: int, seconds: dict) -> None:
  """One line for each run; ratio: original float32 over this, fastest."""
  macs = models.macs({'name': options.model}, options.samples)['total']
  macs *= batch * (1 if kind == 'forward' else 3)
  base = min(seconds.get('PyTorch float32', [float('nan')]))
  for name, values in seconds.items():
    best = min(values)
    print(
      f'{kind:14} {batch:>5}  {name:22} {1e3 * best:9.1f} '
      f'{1e3 * statistics.median(values):9.1f} {batch / best:8.2f} '
      f'{macs / best / 1e9:7.1f} {base / best:6.2f}',
      flush=True,
    )


if __name__ == '__main__':
  huge_pages.ensure()
  main()
