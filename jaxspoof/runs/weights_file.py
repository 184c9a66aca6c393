"""`weights.npz`: the selected weights of a run, readable by numpy alone."""

import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaxspoof.machine import files
from jaxspoof.runs import names
from jaxspoof.runs.names import RunError


def save(workdir: pathlib.Path, params, batch_stats) -> None:
  """Writes the weights, whole or not at all.

  Args:
    workdir: folder of the run.
    params: nested dictionary of arrays.
    batch_stats: nested dictionary of arrays, BatchNorm's statistics.

  Raises:
    RunError: the file could not be written.
  """
  path = workdir / names.WEIGHTS
  arrays = dict(flat({'params': params, 'batch_stats': batch_stats}))
  try:
    with files.replacing(path) as file:
      np.savez(file, **arrays)
  except OSError as error:
    raise RunError(
      f'could not save the weights in {path}: {error}. Make room and start the '
      'same command again: it goes on from there.'
    ) from error


def load(workdir: str | os.PathLike) -> tuple[dict, Any, Any]:
  """Config and weights of the best checkpoint of a run.

  Returns:
    The run's config as a dictionary, the parameters and the BatchNorm
    statistics as nested dictionaries, as `training.state.split` gives them.

  Raises:
    RunError: the folder is no run, the run has no weights yet, or a file of
      it is damaged or was copied in part.
  """
  workdir = pathlib.Path(workdir)
  path = workdir / names.WEIGHTS
  config = names.json_or_none(workdir / names.CONFIG)
  if config is None:
    raise RunError(
      f'{workdir} is not a run: expected the workdir of a run of run.py, '
      f'with {names.CONFIG} in it'
    )
  if not path.is_file():
    raise RunError(
      f'{workdir} has no {names.WEIGHTS} yet: it is written after the first '
      'evaluation on the dev split'
    )
  try:
    with path.open('rb') as file, np.load(file) as arrays:
      tree = nested({name: arrays[name] for name in arrays.files})
    params = tree['params']
  # Whatever zip, zlib and numpy raise for half a file.
  except Exception as error:
    raise RunError(
      f'{path}: damaged or cut, as of a copy that was interrupted '
      f'({type(error).__name__}: {error}); copy it again'
    ) from error
  return config, params, tree.get('batch_stats', {})


def flat(tree: Any, path: str = '') -> Iterator[tuple[str, np.ndarray]]:
  """Names such as `params/a/b` and arrays of nested dictionaries."""
  if isinstance(tree, Mapping):
    for key in sorted(tree):
      yield from flat(tree[key], f'{path}/{key}' if path else str(key))
  else:
    yield path, np.asarray(tree)


def nested(arrays: Mapping[str, np.ndarray]) -> dict:
  """The nested dictionaries that `flat` gave names and arrays of."""
  tree: dict = {}
  for name, value in arrays.items():
    *parents, last = (int(k) if k.isdigit() else k for k in name.split('/'))
    node = tree
    for key in parents:
      node = node.setdefault(key, {})
    node[last] = value
  return tree
