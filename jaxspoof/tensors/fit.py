"""Fills a module with the arrays of a file, or says all that does not fit."""

from collections.abc import Callable
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.tensors.unpickler import CheckpointError

LISTED = 10  # differences shown of weights that do not fit

# Arrays by our names: one, or for what is stacked one for each layer. Each has
# the name that it has in the file.
Given = dict[str, list[tuple[str, np.ndarray]]]
Module = TypeVar('Module', bound=nnx.Module)


def fill(
  make: Callable[[], Module],
  given: Given,
  where: str,
  stacked: str | tuple[str, ...] = (),
) -> Module:
  """Makes a module of given arrays; nothing is drawn to be overwritten.

  Args:
    make: makes the module with weights of any value.
    given: arrays in the axis order of the module; emptied on the way, so that
      a large file is not held twice.
    where: they come from, for messages.
    stacked: what names of arrays that stack layers begin with.

  Raises:
    CheckpointError: names, shapes or values do not fit; the first ten are
      listed, and all counted.
  """
  graphdef, state = nnx.split(nnx.eval_shape(make))
  wanted = {'.'.join(map(str, k)): v for k, v in nnx.to_flat_state(state)}
  problems = differences(
    {k: v.shape for k, v in wanted.items()}, given, stacked
  )
  if problems:
    shown = problems[:LISTED]
    if more := len(problems) - len(shown):
      shown.append(f'and {more} more')
    raise CheckpointError(
      '\n  '.join(
        [f'{where}: does not fit ({len(problems)} differences)', *shown]
      )
    )
  for name, variable in wanted.items():
    arrays = [array for _, array in given.pop(name)]
    if stacked and name.startswith(stacked):
      value = np.empty(variable.shape, variable.dtype)
      for slot in value:
        slot[...] = arrays.pop(0)
    else:
      value = arrays[0]
    variable.set_value(jnp.asarray(value, variable.dtype))
  return nnx.merge(graphdef, state)


def differences(
  wanted: dict[str, tuple[int, ...]],
  given: Given,
  stacked: str | tuple[str, ...] = (),
) -> list[str]:
  """One line for each array that keeps a file from fitting."""
  found = [f'missing: {name}' for name in wanted if name not in given]
  for name, slots in given.items():
    shape = wanted.get(name)
    layers = bool(stacked and name.startswith(stacked))
    if shape and layers and len(slots) != shape[0]:
      found.append(f'{name}: of {len(slots)} layers, expected {shape[0]}')
    for old, array in slots:
      # Kernels are stored backwards; shapes are said as the file has them.
      turned = name.rpartition('.')[2] in ('kernel', 'v')
      inner = None if shape is None else shape[layers:]
      if problem := _problem(array, inner, -1 if turned else 1):
        found.append(f'{old}: {problem}')
  return found


def _problem(
  array: np.ndarray, shape: tuple[int, ...] | None, step: int
) -> str | None:
  if shape is None:
    return 'not a part of the model'
  if array.shape != shape:
    return f'shape {array.shape[::step]}, the model has {shape[::step]}'
  if not jnp.issubdtype(array.dtype, np.floating):
    return f'dtype {array.dtype}, not floating point'
  if not np.isfinite(array).all():
    return 'holds NaN or infinity'
  return None
