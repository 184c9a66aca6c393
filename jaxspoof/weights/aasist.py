"""Weights of the original AASIST (PyTorch) in the model of this project."""

import functools
import os
import re
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof import models
from jaxspoof.models.aasist import Aasist, AasistConfig
from jaxspoof.tensors import torch_pickle
from jaxspoof.tensors.torch_pickle import CheckpointError

# Substitutions that turn an old name into the new one, in this order.
NAMES = (
  (r'^module\.', ''),  # DataParallel
  (r'^first_bn\.', 'first_norm.'),
  (r'^encoder\.(\d+)\.0\.', r'encoder.block\1.'),
  (r'\.conv_downsample\.', '.shortcut.'),
  (r'\.bn(\d?)\.', r'.norm\1.'),
  (r'^pos_S$', 'position'),
  (r'^GAT_layer_S\.', 'attention_spectral.'),
  (r'^GAT_layer_T\.', 'attention_temporal.'),
  (r'^master1$', 'master.0'),
  (r'^master2$', 'master.1'),
  (r'^HtrgGAT_layer_ST1(\d)\.', r'branches.0.attention\1.'),
  (r'^HtrgGAT_layer_ST2(\d)\.', r'branches.1.attention\1.'),
  (r'^pool_S\.proj\.', 'pool_spectral.score.'),
  (r'^pool_T\.proj\.', 'pool_temporal.score.'),
  (r'^pool_hS1\.proj\.', 'branches.0.pool_spectral.score.'),
  (r'^pool_hT1\.proj\.', 'branches.0.pool_temporal.score.'),
  (r'^pool_hS2\.proj\.', 'branches.1.pool_spectral.score.'),
  (r'^pool_hT2\.proj\.', 'branches.1.pool_temporal.score.'),
  (r'\.proj_type1\.', '.temporal.'),
  (r'\.proj_type2\.', '.spectral.'),
  (r'\.att_proj\.', '.pair.'),
  (r'\.att_projM\.', '.pair_master.'),
  (r'\.att_weight$', '.score'),
  (r'\.att_weight11$', '.score_temporal'),
  (r'\.att_weight22$', '.score_spectral'),
  (r'\.att_weight12$', '.score_mixed'),
  (r'\.att_weightM$', '.score_master'),
  (r'\.proj_with_att\.', '.attended.'),
  (r'\.proj_without_att\.', '.direct.'),
  (r'\.proj_with_attM\.', '.attended_master.'),
  (r'\.proj_without_attM\.', '.direct_master.'),
  (r'^out_layer\.', 'output.'),
  (r'\.running_mean$', '.mean'),
  (r'\.running_var$', '.var'),
)
# New name and axis order of an old `.weight`, by its number of axes.
WEIGHTS = {
  1: ('scale', (0,)),  # BatchNorm
  2: ('kernel', (1, 0)),  # Linear [out, in]
  4: ('kernel', (2, 3, 1, 0)),  # Conv2d [out, in, height, width]
}
# Arrays under these names are stacked: the number after it is the slot.
STACKED = ('branches', 'master')
# A counter that BatchNorm with a fixed momentum does not read.
LISTED = 10  # differences shown of a checkpoint that does not fit
IGNORED = r'\.num_batches_tracked$'


def load(
  path: str | os.PathLike, variant: str | None = None, **changes
) -> Aasist:
  """Reads a released `.pth` file into a model.

  Args:
    path: checkpoint of the original code, see `torch_pickle.load`.
    variant: 'aasist' or 'aasist_l'; None chooses by the shapes in the file.
    **changes: fields of the variant's config to replace, such as dtype.

  Returns:
    The model, in training mode like every new module.

  Raises:
    CheckpointError (a ValueError): the file is damaged or unsafe, or its
      tensors are those of another model; then the first ten differences are
      listed, and counted.
  """
  tensors = torch_pickle.load(path)
  if variant is None:
    variant = variant_of(tensors)
  if variant is None:
    raise CheckpointError(
      f'{path}: checkpoint of another model: neither shapes nor names are '
      f'those of {" or ".join(name for name, _ in _variants())}'
    )
  config, _ = models.variant(variant, **changes)
  return from_torch(config, tensors, name=str(path))


def from_torch(
  config: AasistConfig, tensors: dict[str, np.ndarray], name: str = 'weights'
) -> Aasist:
  """Makes a model of the original's state dictionary.

  Args:
    config: the model to fill.
    tensors: old name to array.
    name: where they come from, for error messages.

  Raises:
    CheckpointError: names, shapes or values do not fit; the first ten are
      listed, and all counted.
  """
  # Shapes alone: nothing random is drawn to be overwritten.
  graphdef, state = nnx.split(nnx.clone(_abstract(config)))
  wanted = {'.'.join(map(str, k)): v for k, v in nnx.to_flat_state(state)}
  given = translate(tensors)
  problems = _differences({k: v.shape for k, v in wanted.items()}, given)
  if problems:
    raise CheckpointError(_explain(name, problems, config, tensors))
  for key, variable in wanted.items():
    parts = [given[slot].array for slot, _ in slots(key, variable.shape)]
    value = np.stack(parts) if is_stacked(key) else parts[0]
    variable.set_value(jnp.asarray(value, variable.dtype))
  return nnx.merge(graphdef, state)


@functools.cache
def _abstract(config: AasistConfig) -> Aasist:
  return nnx.eval_shape(lambda: Aasist(config, nnx.Rngs(0)))


def is_stacked(name: str) -> bool:
  """Whether an array of the model holds several of the original's."""
  return name.split('.')[0] in STACKED


def slots(name: str, shape: tuple[int, ...]):
  """Yields (name, shape) of each of the original's arrays inside one."""
  if not is_stacked(name):
    yield name, shape
    return
  head, *tail = name.split('.')
  for i in range(shape[0]):
    yield '.'.join([head, str(i), *tail]), shape[1:]


class Converted(NamedTuple):
  """A tensor under its new name.

  Attributes:
    old: its name in the file.
    array: the values in this project's axis order.
    axes: the axis order that made `array` of the file's tensor.
  """

  old: str
  array: np.ndarray
  axes: tuple[int, ...]


def translate(tensors: dict[str, np.ndarray]) -> dict[str, Converted]:
  """Renames and transposes the tensors of the original."""
  return dict(
    _translate_one(old, array)
    for old, array in tensors.items()
    if not re.search(IGNORED, old)
  )


def variant_of(tensors: dict[str, np.ndarray]) -> str | None:
  """The published variant that tensors of these shapes belong to, or None."""
  shapes = {k: v.array.shape for k, v in translate(tensors).items()}
  for name, config in _variants():
    if _landmarks(config).items() <= shapes.items():
      return name
  return None


def _variants() -> list[tuple[str, AasistConfig]]:
  """The named variants of AASIST."""
  return [
    (name, known.config)
    for name, known in models.VARIANTS.items()
    if known.model == 'aasist'
  ]


def _landmarks(config: AasistConfig) -> dict[str, tuple[int, ...]]:
  """Shapes that tell variants apart."""
  first, second = config.gat_dims
  marks = {
    'master.0': (1, 1, first),
    'output.kernel': (5 * second, 2),
    'position': (1, config.bands, config.channels[-1]),
  }
  for i, channels in enumerate(config.channels):
    marks[f'encoder.block{i}.conv2.kernel'] = (2, 3, channels, channels)
  return marks


def _translate_one(old: str, array: np.ndarray) -> tuple[str, Converted]:
  new, axes = old, tuple(range(array.ndim))
  for pattern, replacement in NAMES:
    new = re.sub(pattern, replacement, new)
  if new.endswith('.weight') and array.ndim in WEIGHTS:
    suffix, axes = WEIGHTS[array.ndim]
    new = new.removesuffix('weight') + suffix
  return new, Converted(old, array.transpose(axes), axes)


def _differences(
  wanted: dict[str, tuple[int, ...]], given: dict[str, Converted]
) -> list[str]:
  """One line for each tensor that keeps the file from fitting."""
  wanted = dict(slot for k, v in wanted.items() for slot in slots(k, v))
  missing = [f'missing: {name}' for name in wanted if name not in given]
  return missing + [
    f'{tensor.old}: {problem}'
    for name, tensor in given.items()
    if (problem := _problem(tensor, wanted.get(name)))
  ]


def _problem(tensor: Converted, wanted: tuple[int, ...] | None) -> str | None:
  if wanted is None:
    return 'not a part of the model'
  if tensor.array.shape != wanted:
    back = np.argsort(tensor.axes)
    shape, wanted = (
      tuple(s[i] for i in back) for s in (tensor.array.shape, wanted)
    )
    return f'shape {shape}, the model has {wanted}'
  if not jnp.issubdtype(tensor.array.dtype, np.floating):
    return f'dtype {tensor.array.dtype}, not floating point'
  if not np.isfinite(tensor.array).all():
    return 'holds NaN or infinity'
  return None


def _explain(name, problems, config, tensors) -> str:
  known = [name for name, variant in _variants() if variant == config]
  wanted, found = known[0] if known else str(config), variant_of(tensors)
  text = f'{name}: checkpoint of another model: it does not fit {wanted}'
  if found and found != wanted:
    text += f'; its shapes are those of {found}'
  listed = problems[:LISTED]
  if more := len(problems) - len(listed):
    listed.append(f'and {more} more')
  return '\n  '.join([f'{text} ({len(problems)} differences)', *listed])
