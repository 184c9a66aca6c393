"""Adapters of PEFT: thin matrices beside a model of Hugging Face."""

import pathlib
import re
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.frontends.ssl import names
from jaxspoof.tensors import files
from jaxspoof.tensors.unpickler import CheckpointError

CONFIG, WEIGHTS = 'adapter_config.json', 'adapter_model'
_PREFIX = 'base_model.model.'
# What changes what is computed in a way that ours cannot.
_FIXED = {
  'peft_type': 'LORA',
  'bias': 'none',
  'use_dora': False,
  'fan_in_fan_out': False,
  'lora_bias': False,
  'rank_pattern': {},
  'alpha_pattern': {},
  'layer_replication': None,
  'target_parameters': None,
  'trainable_token_indices': None,
}
_ATTENTION = re.compile(r'\.attention\.(q|k|v|out)_proj$')


class Adapter(NamedTuple):
  """What a directory of PEFT holds.

  Attributes:
    base: directory of the model that it is for.
    added: name of a layer, without that of the model, to what is added to its
      weight, `[out, in]`.
    saved: tensors that take the place of those of the model, by their names.
  """

  base: pathlib.Path
  added: dict[str, np.ndarray]
  saved: dict[str, np.ndarray]


def is_directory(path: pathlib.Path) -> bool:
  """Whether there is an adapter."""
  return (path / CONFIG).is_file()


def load(place: pathlib.Path) -> Adapter:
  """Reads an adapter.

  Args:
    place: directory with adapter_config.json and adapter_model.safetensors or
      adapter_model.bin.

  Raises:
    CheckpointError: another kind of adapter, a damaged one, or one whose model
      is not there.
  """
  config = files.read_json(place / CONFIG)
  for name, wanted in _FIXED.items():
    if (config.get(name, wanted) or wanted) != wanted:
      raise CheckpointError(
        f'{place / CONFIG}: {name} is {config[name]!r}; only {wanted!r} is '
        'built'
      )
  rank, alpha = config.get('r'), config.get('lora_alpha')
  if not isinstance(rank, int) or not isinstance(alpha, int | float):
    raise CheckpointError(
      f'{place / CONFIG}: expected numbers r and lora_alpha'
    )
  scale = alpha / (np.sqrt(rank) if config.get('use_rslora') else rank)
  paths = [place / f'{WEIGHTS}{end}' for end in ('.safetensors', '.bin')]
  found = [path for path in paths if path.is_file()]
  if not found:
    raise CheckpointError(f'{place}: expected {paths[0].name} there')
  tensors = files.open_weights(found[0]).tensors
  added, saved = {}, {}
  for name, array in tensors.items():
    inner = name.removeprefix(_PREFIX)
    if inner.endswith('.lora_A.weight'):
      stem = inner.removesuffix('.lora_A.weight')
      other = tensors.get(f'{_PREFIX}{stem}.lora_B.weight')
      if other is None or not other.shape[1:] == array.shape[:1] == (rank,):
        raise CheckpointError(
          f'{found[0]}: expected {stem}.lora_B.weight of rank {rank} beside '
          'lora_A.weight'
        )
      added[stem] = scale * (other.astype(np.float64) @ array)
    elif '.lora_' not in inner:
      saved[inner] = array
  return Adapter(_base(place, config), added, saved)


def _base(place: pathlib.Path, config) -> pathlib.Path:
  """The directory of the model that an adapter is for."""
  name = str(config.get('base_model_name_or_path') or '')
  for path in (place / name, pathlib.Path(name)):
    if name and (path / 'config.json').is_file():
      return path
  raise CheckpointError(
    f'{place}: an adapter for the model {name!r}, which is not there; let '
    f'base_model_name_or_path in its {CONFIG} be the path of its directory'
  )


def without_effect(adapter: Adapter, model_type: str) -> list[str]:
  """Layers of which PEFT's adaptation changes nothing.

  Hugging Face's WavLM hands the weights of its attention to a function of
  PyTorch, past the layers that PEFT has put in their place.
  """
  if model_type != 'wavlm':
    return []
  return [name for name in adapter.added if _ATTENTION.search(name)]


def apply(
  adapter: Adapter, encoder: nnx.Module, left_out: list[str], where: str
) -> None:
  """Adds to the kernels of an encoder what an adapter adds.

  Raises:
    CheckpointError: it adapts what the encoder does not have.
  """
  for name, added in adapter.added.items():
    if name in left_out:
      continue
    at = name.find('encoder.')
    ours = names.place_of(f'{name[max(at, 0) :]}.weight')
    if ours is None or not ours[0].startswith('layers.'):
      raise CheckpointError(f'{where}: adapts {name}, which is not in a layer')
    path, layer = ours
    _, target, _ = path.split('.')
    kernel = getattr(encoder.layers, target).kernel
    if layer >= len(kernel) or added.T.shape != kernel.shape[1:]:
      raise CheckpointError(
        f'{where}: {name} of shape {added.shape}, the model has '
        f'{kernel.shape[:0:-1]} in {len(kernel)} layers'
      )
    added = jnp.asarray(added.T, kernel.dtype)
    kernel.set_value(kernel[...].at[layer].add(added))
