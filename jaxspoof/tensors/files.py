"""Tensors of weight files of all kinds, read without the toolkits.

Directories as Hugging Face has them, `.safetensors` files, what `torch.save`
wrote, and `model.bin` of CTranslate2.
"""

import json
import os
import pathlib
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxspoof.tensors import ctranslate2, torch_pickle
from jaxspoof.tensors.torch_pickle import Checkpoint
from jaxspoof.tensors.unpickler import CheckpointError

# In a directory the first of these is read; an index names shards.
CANDIDATES = (
  'model.safetensors.index.json',
  'model.safetensors',
  'pytorch_model.bin.index.json',
  'pytorch_model.bin',
  'model.bin',
  'best_model.pth',  # of DeepFense
  'avg_model.pt',  # of WeDefense
)


def open_weights(path: str | os.PathLike) -> Checkpoint:
  """Reads all tensors of a file or of a directory.

  Args:
    path: a directory with one of `CANDIDATES`, a `.safetensors` file, the
      index of several, a file that `torch.save` wrote, or one of CTranslate2.

  Returns:
    The tensors as the file names them, but for what `torch_pickle.load` leaves
    out of names, and what lies beside them in the file.

  Raises:
    CheckpointError: not such a place, or one that is damaged, incomplete or
      not harmless; it says which file.
    OSError: a file that cannot be opened.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    path = weights_of(path)
  elif not path.is_file():
    raise CheckpointError(
      f'{path}: nothing there; expected a directory as Hugging Face has '
      'them, or a file of weights'
    )
  if path.name.endswith('.index.json'):
    return Checkpoint(_shards(path), {})
  if path.suffix == '.safetensors':
    return Checkpoint(_safetensors(path), {})
  if ctranslate2.is_file(path):
    return Checkpoint(ctranslate2.load(path), {})
  return torch_pickle.read(path)


def names_of(path: str | os.PathLike) -> list[str]:
  """Names of all tensors, as `open_weights` gives them, without their values.

  Raises:
    CheckpointError, OSError: as `open_weights`.
  """
  path = pathlib.Path(path)
  if path.is_dir():
    path = weights_of(path)
  if path.suffix == '.safetensors' and path.is_file():
    try:
      with safetensors.safe_open(path, 'numpy') as file:
        return list(file.keys())
    except safetensors.SafetensorError as error:
      raise CheckpointError(f'{path}: damaged or cut ({error})') from error
  return list(open_weights(path).tensors)


def weights_of(directory: pathlib.Path) -> pathlib.Path:
  """The file of a directory that holds its weights.

  Raises:
    CheckpointError: there is none.
  """
  for name in CANDIDATES:
    if (directory / name).is_file():
      return directory / name
  raise CheckpointError(
    f'{directory}: no weights there; expected {" or ".join(CANDIDATES)}'
  )


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """A file that holds one JSON object; {} where there is no such file.

  Raises:
    CheckpointError: it holds something else.
  """
  try:
    found = json.loads(path.read_text(encoding='utf-8'))
  except FileNotFoundError:
    return {}
  except ValueError as error:
    raise CheckpointError(f'{path}: not JSON ({error})') from error
  if not isinstance(found, dict):
    raise CheckpointError(
      f'{path}: expected a JSON object, found a {type(found).__name__}'
    )
  return found


def _safetensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  try:
    # Mapping the file would count its pages, too, to what is held.
    return safetensors.numpy.load_file(path, backend='pread')
  # AttributeError: of a dtype that numpy does not have.
  except (safetensors.SafetensorError, AttributeError) as error:
    raise CheckpointError(
      f'{path}: damaged, cut or of unknown values ({error})'
    ) from error


def _shards(path: pathlib.Path) -> dict[str, np.ndarray]:
  """All tensors that an index says are in files beside it."""
  places = read_json(path).get('weight_map')
  if not isinstance(places, dict) or not places:
    raise CheckpointError(f'{path}: expected a weight_map of tensors to files')
  found = {}
  for name in dict.fromkeys(places.values()):
    # A name with a folder in it could lead anywhere.
    if not isinstance(name, str) or pathlib.PurePath(name).name != name:
      raise CheckpointError(f'{path}: {name!r} is not the name of a file')
    if not (path.parent / name).is_file():
      raise CheckpointError(f'{path}: its shard {name} is missing')
    found |= open_weights(path.parent / name).tensors
  if missing := [name for name in places if name not in found]:
    raise CheckpointError(
      f'{path}: {len(missing)} tensors are in no shard, such as {missing[0]!r}'
    )
  return found
