"""Adapters of PEFT: thin matrices beside a model of Hugging Face."""

import pathlib
import re
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx

from jaxspoof import frontends
from jaxspoof.frontends.ssl import names
from jaxspoof.machine import files as json_files
from jaxspoof.runs import weights_file
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


# Names of what is adapted, in the models of Hugging Face.
_NAMES = {
  'ssl': {
    'query': 'attention.q_proj',
    'key': 'attention.k_proj',
    'value': 'attention.v_proj',
    'out': 'attention.out_proj',
    'feed1': 'feed_forward.intermediate_dense',
    'feed2': 'feed_forward.output_dense',
  },
  'whisper': {
    'query': 'self_attn.q_proj',
    'key': 'self_attn.k_proj',
    'value': 'self_attn.v_proj',
    'out': 'self_attn.out_proj',
    'feed1': 'fc1',
    'feed2': 'fc2',
  },
}


def save(workdir: pathlib.Path, directory: pathlib.Path) -> str:
  """Writes what a run adapted of an encoder as a directory of PEFT.

  It is for the bare encoder, such as `Wav2Vec2Model`, without the back end of
  the run.

  Args:
    workdir: of a run whose front end has `lora`.
    directory: to be made.

  Returns:
    What was written, in words.

  Raises:
    CheckpointError: the run adapted nothing, or the directory is there.
  """
  config, params, _ = weights_file.load(workdir)
  section = config.get('frontend') or {}
  frontend = frontends.resolve(section, frontends.WaveConfig())
  lora = getattr(frontend, 'lora', None)
  if lora is None:
    raise CheckpointError(f'{workdir}: its front end has no lora to write')
  if directory.exists():
    raise CheckpointError(f'{directory}: is there already')
  names_of = _NAMES[frontends.KINDS[type(frontend)]]
  tensors = {}
  for target in lora.targets:
    pair = params['frontend']['lora'][target]
    for i, (a, b) in enumerate(zip(pair['a'], pair['b'], strict=True)):
      stem = f'{_PREFIX}encoder.layers.{i}.{names_of[target]}.lora_'
      for part, array in (('A', a), ('B', b)):
        tensors[f'{stem}{part}.weight'] = np.ascontiguousarray(array.T)
  directory.mkdir(parents=True)
  safetensors.numpy.save_file(tensors, directory / f'{WEIGHTS}.safetensors')
  alpha = lora.rank if lora.alpha is None else lora.alpha
  json_files.write_json(
    directory / CONFIG,
    {
      'peft_type': 'LORA',
      'base_model_name_or_path': frontend.weights,
      'r': lora.rank,
      'lora_alpha': alpha,
      'lora_dropout': 0.0,
      'bias': 'none',
      'target_modules': [names_of[t].split('.')[-1] for t in lora.targets],
      'task_type': None,
      'inference_mode': True,
    },
  )
  return f'{len(tensors)} tensors of rank {lora.rank} in {directory}'
