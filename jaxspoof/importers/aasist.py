"""Weights of the original AASIST (PyTorch) in the model of this project."""

import os
import re

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof import models
from jaxspoof.importers import torch_pickle
from jaxspoof.importers.torch_pickle import CheckpointError
from jaxspoof.models.aasist import Aasist, AasistConfig

# Substitutions that turn an old name into the new one, in this order.
NAMES = (
  (r'^first_bn\.', 'first_norm.'),
  (r'^encoder\.(\d+)\.0\.', r'encoder.block\1.'),
  (r'\.conv_downsample\.', '.shortcut.'),
  (r'\.bn(\d?)\.', r'.norm\1.'),
  (r'^pos_S$', 'position'),
  (r'^GAT_layer_S\.', 'attention_spectral.'),
  (r'^GAT_layer_T\.', 'attention_temporal.'),
  (r'^HtrgGAT_layer_ST(\d)(\d)\.', r'branch\1.attention\2.'),
  (r'^pool_S\.proj\.', 'pool_spectral.score.'),
  (r'^pool_T\.proj\.', 'pool_temporal.score.'),
  (r'^pool_hS(\d)\.proj\.', r'branch\1.pool_spectral.score.'),
  (r'^pool_hT(\d)\.proj\.', r'branch\1.pool_temporal.score.'),
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
# A counter that BatchNorm with a fixed momentum does not read.
IGNORED = r'\.num_batches_tracked$'
_SHOWN = 8


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
      tensors are those of another model; then all differences are listed.
  """
  tensors = torch_pickle.load(path)
  if variant is None:
    variant = variant_of(tensors)
  if variant is None:
    raise CheckpointError(
      f'{path}: checkpoint of another model: neither shapes nor names are '
      f'those of {" or ".join(models.VARIANTS)}'
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
    CheckpointError: names, shapes or values do not fit; all are listed.
  """
  # Shapes alone: nothing random is drawn to be overwritten.
  abstract = nnx.eval_shape(lambda: Aasist(config, nnx.Rngs(0)))
  graphdef, state = nnx.split(abstract)
  wanted = {'.'.join(map(str, k)): v for k, v in nnx.to_flat_state(state)}
  given = translate(tensors)
  problems = _differences(
    {k: v.shape for k, v in wanted.items()}, given, tensors
  )
  if problems:
    raise CheckpointError(_explain(name, problems, config, tensors))
  for key, variable in wanted.items():
    variable.set_value(jnp.asarray(given[key][1], variable.dtype))
  return nnx.merge(graphdef, state)


def translate(
  tensors: dict[str, np.ndarray],
) -> dict[str, tuple[str, np.ndarray]]:
  """New name to (old name, array in this project's axis order)."""
  return dict(
    _translate_one(old, array)
    for old, array in tensors.items()
    if not re.search(IGNORED, old)
  )


def variant_of(tensors: dict[str, np.ndarray]) -> str | None:
  """The published variant that tensors of these shapes belong to, or None."""
  shapes = {k: v.shape for k, v in tensors.items()}
  for name, (model, config) in models.VARIANTS.items():
    if model == 'aasist' and _landmarks(config).items() <= shapes.items():
      return name
  return None


def _landmarks(config: AasistConfig) -> dict[str, tuple[int, ...]]:
  """Shapes that tell variants apart."""
  first, second = config.gat_dims
  marks = {
    'master1': (1, 1, first),
    'out_layer.weight': (2, 5 * second),
    'pos_S': (1, config.bands, config.channels[-1]),
  }
  for i, channels in enumerate(config.channels):
    marks[f'encoder.{i}.0.conv2.weight'] = (channels, channels, 2, 3)
  return marks


def _translate_one(old: str, array: np.ndarray):
  new = old
  for pattern, replacement in NAMES:
    new = re.sub(pattern, replacement, new)
  array_of = array
  if new.endswith('.weight') and array.ndim in WEIGHTS:
    suffix, axes = WEIGHTS[array.ndim]
    new, array_of = new.removesuffix('weight') + suffix, array.transpose(axes)
  return new, (old, array_of)


def _differences(wanted, given, tensors) -> list[str]:
  missing = [f'missing: {k}' for k in wanted if k not in given]
  unknown = [
    f'not in the model: {old} {tensors[old].shape}'
    for new, (old, _) in given.items()
    if new not in wanted
  ]
  both = {k: given[k] for k in wanted if k in given}
  shapes = [
    f'{old}: shape {array.shape} in the file (axes in the order of this '
    f'project), {wanted[new]} in the model'
    for new, (old, array) in both.items()
    if array.shape != wanted[new]
  ]
  broken = [
    f'{old}: not a finite floating-point tensor'
    for old, array in both.values()
    if array.dtype.kind in 'biucSU' or not np.isfinite(array).all()
  ]
  return missing + unknown + shapes + broken


def _explain(name, problems, config, tensors) -> str:
  found = variant_of(tensors)
  known = [k for k, (_, c) in models.VARIANTS.items() if c == config]
  wanted = known[0] if known else str(config)
  text = f'{name}: checkpoint of another model: it does not fit {wanted}'
  if found and found != wanted:
    text += f'; these are the shapes of {found}'
  shown = problems[:_SHOWN]
  more = len(problems) - len(shown)
  shown += [f'and {more} more'] * bool(more)
  return '\n  '.join([f'{text} ({len(problems)} differences)', *shown])
