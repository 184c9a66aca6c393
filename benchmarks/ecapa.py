"""Speed of ECAPA-TDNN, forward and training step, beside SpeechBrain's.

  python benchmarks/ecapa.py
  python benchmarks/ecapa.py --reference=DIR    DIR: speechbrain, unpacked

DIR holds the package: a clone of speechbrain/speechbrain, or what
`pip download --no-deps speechbrain` fetches, unzipped. Of it the model and
the layers it is made of are loaded, nothing that needs torchaudio.

With --reference both run in one process on one machine, in alternating
rounds, with the same inputs and weights, and the table gives the ratio of
their fastest rounds; first it prints how far the embeddings lie apart. The
training step is the mean square of the embedding's distance from a fixed
target, all gradients, the running statistics and Adam, in float32. Needs
`pip install -e .[torch-compare]`.
"""

import argparse
import importlib
import logging
import pathlib
import sys
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import timing
from flax import nnx

from jaxspoof import arithmetic
from jaxspoof.machine import huge_pages
from jaxspoof.models.ecapa_tdnn import ECAPA_TDNN, TdnnConfig
from jaxspoof.system import parameters
from jaxspoof.training import state
from jaxspoof.weights import ecapa as importer

RATE = 1e-4


def main() -> None:
  """Measures and prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--reference', type=pathlib.Path)
  parser.add_argument('--channels', type=int, default=512)
  parser.add_argument('--frames', type=int, default=300)
  parser.add_argument('--forward', type=int, nargs='*', default=[1, 8])
  parser.add_argument('--train', type=int, nargs='*', default=[8])
  parser.add_argument('--rounds', type=int, default=10)
  options = parser.parse_args()
  c = options.channels
  config = TdnnConfig(input_size=80, channels=(c, c, c, c, 3 * c))
  weights, official = None, None
  if options.reference:
    official = official_model(options.reference, config)
    weights = {k: v.numpy().copy() for k, v in official.state_dict().items()}
  network = nnx.view(
    nnx.eval_shape(lambda: ECAPA_TDNN(**vars(config), rngs=nnx.Rngs(0))),
    deterministic=True,
    use_running_average=True,
  )
  frames = jax.ShapeDtypeStruct((1, options.frames, 80), jnp.float32)
  graphdef, arrays = nnx.split(network)
  macs = arithmetic.total(
    lambda arrays, x: nnx.merge(graphdef, arrays)(x), arrays, frames
  )
  what = (
    f'{options.channels} channels, {parameters(network):,} '
    f'parameters, {options.frames} frames of 80 features'
  )
  print(timing.heading(what, macs, options.rounds, bool(options.reference)))
  work = [('forward', b) for b in options.forward]
  work += [('training step', b) for b in options.train]
  rng = np.random.default_rng(0)
  for kind, batch in work:
    x = rng.standard_normal((batch, options.frames, 80)).astype(np.float32)
    target = rng.standard_normal((batch, 1, 192)).astype(np.float32)
    runs = {'jaxspoof float32': ours(config, weights, kind, x, target)}
    if official is not None:
      runs['SpeechBrain float32'] = torch_call(official, kind, x, target)
      if kind == 'forward':
        apart = np.abs(
          np.subtract(*(np.asarray(run()) for run in runs.values()))
        )
        print(f'embeddings differ by {apart.max():.1e} at most')
    seconds = timing.measure(runs, options.rounds)
    timing.report(kind, batch, macs, seconds, 'SpeechBrain float32')


def ours(config: TdnnConfig, weights, kind: str, x, target):
  """One call of the work, compiled."""
  if weights is None:
    model = ECAPA_TDNN(**vars(config), rngs=nnx.Rngs(0))
  else:
    model = importer.load(weights)
  graphdef, params, stats = state.split(model)
  x, target, tx = jnp.asarray(x), jnp.asarray(target), optax.adam(RATE)

  if kind == 'forward':

    def forward(params, stats, x):
      return state.eval_view(state.merge(graphdef, params, stats))(x)

    call = compiled(jax.jit(forward), params, stats, x)
    return lambda: jax.block_until_ready(call(params, stats, x))

  def step(now, x, target):
    params, stats, opt = now

    def objective(params):
      model = state.merge(graphdef, params, stats)
      loss = jnp.square(model(x) - target).mean()
      return loss, state.batch_stats_of(model)

    (loss, new), grads = jax.value_and_grad(objective, has_aux=True)(params)
    updates, opt = tx.update(grads, opt, params)
    return (optax.apply_updates(params, updates), new, opt), loss

  now = params, stats, jax.jit(tx.init)(params)
  call = compiled(jax.jit(step, donate_argnums=0), now, x, target)

  def train():
    nonlocal now
    now, loss = jax.block_until_ready(call(now, x, target))
    return loss

  return train


def compiled(function, *args):
  """The program, with the time that it took to compile printed."""
  begin = time.perf_counter()
  program = function.lower(*args).compile()
  print(f'jaxspoof compiled in {time.perf_counter() - begin:.1f} s')
  return program


def torch_call(model, kind: str, x, target):
  """One call of the original's work, on the device that JAX uses too."""
  import torch

  gpu = jax.default_backend() == 'gpu'
  device = torch.device('cuda' if gpu else 'cpu')
  model = model.to(device)
  x, target = (
    torch.from_numpy(x).to(device),
    torch.from_numpy(target).to(device),
  )
  optimizer = torch.optim.Adam(model.parameters(), RATE)

  def forward():
    with torch.inference_mode():
      return model(x).cpu()

  def train():
    loss = torch.square(model(x) - target).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()

  model.train(kind != 'forward')
  return forward if kind == 'forward' else train


def official_model(root: pathlib.Path, config: TdnnConfig):
  """SpeechBrain's module, loaded without what the package imports beside."""
  if not (root / 'speechbrain' / 'lobes').is_dir():
    raise SystemExit(f'{root}: expected a folder that holds speechbrain/')
  for name in (
    '',
    '.dataio',
    '.lobes',
    '.lobes.models',
    '.nnet',
    '.processing',
    '.utils',
  ):
    package = types.ModuleType(f'speechbrain{name}')
    package.__path__ = [str(root.joinpath(*package.__name__.split('.')))]
    sys.modules[package.__name__] = package
  for name in (
    'torchaudio',
    'speechbrain.dataio.audio_io',
    'speechbrain.utils.logger',
    'speechbrain.utils.torch_audio_backend',
  ):
    sys.modules[name] = Unused(name)
  module = importlib.import_module('speechbrain.lobes.models.ECAPA_TDNN')
  return module.ECAPA_TDNN(config.input_size, channels=list(config.channels))


class Unused(types.ModuleType):
  """A module whose functions exist and do nothing."""

  get_logger = staticmethod(logging.getLogger)

  def __getattr__(self, name):
    """A function that does nothing."""
    if name.startswith('__'):
      raise AttributeError(name)
    return lambda *args, **kwargs: None


if __name__ == '__main__':
  huge_pages.ensure()
  main()
