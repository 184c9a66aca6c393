"""What the tests of the ASVspoof 2021 baselines share.

The golden files are made by `tools/baseline_goldens.py`.
"""

import importlib.util
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.training import state

HERE = pathlib.Path(__file__).parent
LAST = {
  'weight_ih': 'kernel',
  'weight_hh': 'recurrent',
  'bias_ih': 'bias',
  'bias_hh': 'recurrent_bias',
  'running_mean': 'mean',
  'running_var': 'var',
}


def _tool():
  """The script that made the golden files, for the weights that it drew."""
  path = HERE.parent / 'tools' / 'baseline_goldens.py'
  spec = importlib.util.spec_from_file_location('baseline_goldens', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


TOOL = _tool()


def golden(name: str) -> np.lib.npyio.NpzFile:
  """Inputs and outputs of the original, and names and shapes of its weights."""
  return np.load(HERE / 'goldens' / f'{name}.npz')


def renamed(golden, names) -> dict[tuple[str, ...], np.ndarray]:
  """The original's weights under our names, in our order of axes."""
  found = {}
  for line in golden['weights'].tolist():
    old, *shape = line.split()
    value, new = TOOL.draw(old, tuple(map(int, shape))), old
    for pattern, replacement in names:
      new = re.sub(pattern, replacement, new)
    *parents, last = new.split('.')
    if last == 'weight':
      last = 'scale' if value.ndim == 1 else 'kernel'
    found[*parents, LAST.get(last, last)] = value.transpose(
      {1: (0,), 2: (1, 0), 3: (2, 1, 0), 4: (2, 3, 1, 0)}[value.ndim]
    )
  return found


def filled(system, weights) -> nnx.Module:
  """A model with these weights; all must fit, and none be missing."""
  model = system.make(nnx.Rngs(0))
  flat = dict(nnx.to_flat_state(nnx.state(model, (nnx.Param, nnx.BatchStat))))
  assert {k: v.shape for k, v in flat.items()} == {
    k: v.shape for k, v in weights.items()
  }
  for name, variable in flat.items():
    variable.set_value(jnp.asarray(weights[name]))
  nnx.update(model, nnx.from_flat_state(flat))
  return model


def check_gradients(system) -> None:
  """Every parameter has a gradient of its shape."""
  graphdef, params, stats = state.split(system.abstract())

  def loss(params, stats, wave):
    model = state.merge(graphdef, params, stats)
    logits = model(wave, rngs=nnx.Rngs(dropout=0))
    return jnp.square(logits[:, 1] - logits[:, 0] - 1).mean()

  wave = jax.ShapeDtypeStruct((2, 8_000), jnp.float32)
  grads = jax.eval_shape(jax.grad(loss), params, stats, wave)
  assert jax.tree.map(jnp.shape, grads) == jax.tree.map(jnp.shape, params)


def check_stages(system, stages: set[str]) -> None:
  """MACs are counted by these stages and sum up."""
  found = system.macs(64_600)
  total = found.pop('total')
  assert set(found) == stages and total == sum(found.values())
