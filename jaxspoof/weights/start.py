"""Weights that a training run starts from instead of random ones.

A run's workdir, a `.pth` of the original AASIST, or SpeechBrain's weights of an
ECAPA-TDNN such as `embedding_model.ckpt`, which know no spoofs: then everything
but the head is taken.
"""

import pathlib

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.models.aasist import Aasist
from jaxspoof.models.ecapa import Ecapa
from jaxspoof.runs import weights_file
from jaxspoof.system import System
from jaxspoof.tensors.torch_pickle import CheckpointError
from jaxspoof.weights import aasist as aasist_importer
from jaxspoof.weights import ecapa as ecapa_importer
from jaxspoof.weights import frozen


def start_from(module: System, path: str) -> System:
  """A model with the weights of a file or a run.

  Args:
    module: the model of the run; its arrays are replaced.
    path: workdir of a run of the same model (its head is left out where it has
      another shape), or a file of released weights.

  Raises:
    CheckpointError (a ValueError): not there, damaged, or of another model.
  """
  place = pathlib.Path(path)
  if place.is_dir():
    return _from_run(module, place)
  if not place.is_file():
    raise CheckpointError(
      f'init={path}: nothing there; expected the workdir of a run, or a file '
      'of released weights'
    )
  if type(module) not in RELEASED:
    raise CheckpointError(
      f'init={path}: there are no released weights of {type(module).__name__}; '
      'expected the workdir of a run'
    )
  return RELEASED[type(module)](module, place)


def _from_ecapa(module: Ecapa, path: pathlib.Path) -> Ecapa:
  """SpeechBrain's weights, which have no head for spoofs."""
  features = module.frontend.config.features
  arguments = vars(module.config.tdnn(features))
  module.tdnn = ecapa_importer.load(path, **arguments)
  return module


def _from_aasist(module: Aasist, path: pathlib.Path) -> Aasist:
  """The original's weights; its head too where the run has such a one."""
  released = aasist_importer.from_torch(
    module.config, aasist_importer.torch_pickle.load(path), name=str(path)
  )
  ours, theirs = (nnx.state(m.output) for m in (module, released))
  if jax.tree.map(jnp.shape, ours) != jax.tree.map(jnp.shape, theirs):
    released.output = module.output
  return released


# Which models have released weights, and what reads them.
RELEASED = {Aasist: _from_aasist, Ecapa: _from_ecapa}


def _from_run(module: System, workdir: pathlib.Path) -> System:
  heads = (module.head_name, 'auxiliary')
  config, params, batch_stats = weights_file.load(workdir)
  params = frozen.completed(workdir, config, params)
  given = {**_flat(params), **_flat(batch_stats)}
  state = nnx.state(module, (nnx.Param, nnx.BatchStat))
  wanted = dict(nnx.to_flat_state(state))
  problems = []
  for key, variable in wanted.items():
    found = given.pop(tuple(map(str, key)), None)
    if found is not None and found.shape == variable.shape:
      variable.set_value(found.astype(variable.dtype))
    elif key[0] not in heads:
      shape = 'missing' if found is None else found.shape
      name = '.'.join(map(str, key))
      problems.append(f'{name} is {shape}, the model has {variable.shape}')
  problems += [f'{".".join(k)} is too many' for k in given if k[0] not in heads]
  if problems:
    raise CheckpointError(
      f'init={workdir}: a run of another model, {len(problems)} weights do '
      f'not fit: {"; ".join(problems[:3])}'
    )
  nnx.update(module, nnx.from_flat_state(wanted))
  return module


def _flat(tree: dict, prefix: tuple[str, ...] = ()) -> dict:
  """Arrays of nested dictionaries by their path."""
  found = {}
  for name, value in tree.items():
    path = (*prefix, str(name))
    found |= _flat(value, path) if isinstance(value, dict) else {path: value}
  return found
