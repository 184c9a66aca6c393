"""Weights of SpeechBrain's ECAPA-TDNN in the model of this project."""

import os
import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.models.ecapa_tdnn import ECAPA_TDNN
from jaxspoof.tensors import torch_pickle
from jaxspoof.tensors.torch_pickle import CheckpointError

# Substitutions that turn an old name into the new one, in this order.
NAMES = (
  (r'^module\.', ''),  # DataParallel
  (r'^blocks\.(\d+)\.', r'block\1.'),
  (r'\.res2net_block\.blocks\.(\d+)\.', r'.res2net.block\1.'),
  (r'\.se_block\.', '.se.'),
  (r'\.(conv\d?|norm|shortcut)\.(conv|norm)\.', r'.\1.'),
  (r'^(fc|asp_bn)\.(conv|norm)\.', r'\1.'),
  (r'\.running_mean$', '.mean'),
  (r'\.running_var$', '.var'),
)
# New name and axis order of an old `.weight`, by its number of axes.
WEIGHTS = {
  1: ('scale', (0,)),  # BatchNorm
  3: ('kernel', (2, 1, 0)),  # Conv1d [out, in, size]
}
# A counter that BatchNorm with a fixed momentum does not read.
IGNORED = r'\.num_batches_tracked$'


def load(
  source: str | os.PathLike | Mapping[str, np.ndarray], **arguments
) -> ECAPA_TDNN:
  """Reads SpeechBrain's weights into a model.

  Args:
    source: a checkpoint such as `embedding_model.ckpt`, see
      `torch_pickle.load`, or a dictionary of old name to array.
    **arguments: of `ECAPA_TDNN`. Those that the shapes tell may be left out:
      sizes, and groups but for those of the first layer. Shapes do not tell
      dilations, activation and dropout: where they are not the defaults, give
      them. Dilations of other than five layers have no default.
      padding='batch' scores padded batches as the original does.

  Returns:
    The model, in training mode like every new module.

  Raises:
    CheckpointError (a ValueError): the file is damaged or unsafe, or its
      arrays are those of another model; then all differences are listed.
    ValueError: arguments that no model has.
  """
  name = 'weights'
  if not isinstance(source, Mapping):
    name, source = str(source), torch_pickle.load(source)
  given = translate(source)
  arguments = {**arguments_of(given, arguments, name), **arguments}
  # Shapes alone: nothing random is drawn to be overwritten.
  abstract = nnx.eval_shape(lambda: ECAPA_TDNN(**arguments, rngs=nnx.Rngs(0)))
  graphdef, state = nnx.split(abstract)
  wanted = {'.'.join(map(str, k)): v for k, v in nnx.to_flat_state(state)}
  problems = _differences(wanted, given)
  if problems:
    raise CheckpointError(
      '\n  '.join(
        [
          f'{name}: weights of another model ({len(problems)} differences)',
          *problems,
        ]
      )
    )
  for key, variable in wanted.items():
    variable.set_value(jnp.asarray(given[key][1], variable.dtype))
  return nnx.merge(graphdef, state)


def translate(
  tensors: Mapping[str, np.ndarray],
) -> dict[str, tuple[str, np.ndarray]]:
  """Maps new names to (old name, array in this project's axis order)."""
  made = {}
  for old, array in tensors.items():
    if re.search(IGNORED, old):
      continue
    new, array = old, np.asarray(array)
    for pattern, replacement in NAMES:
      new = re.sub(pattern, replacement, new)
    if new.endswith('.weight') and array.ndim in WEIGHTS:
      suffix, axes = WEIGHTS[array.ndim]
      new, array = new.removesuffix('weight') + suffix, array.transpose(axes)
    made[new] = (old, array)
  return made


def arguments_of(
  given: Mapping[str, tuple[str, np.ndarray]],
  known: Mapping,
  name: str = 'weights',
) -> dict:
  """The constructor arguments that translated arrays tell.

  Args:
    given: new name to (old name, array).
    known: arguments: `groups` or `input_size` tell the groups of the first
      layer, 1 without them.
    name: where the arrays come from, for error messages.

  Raises:
    CheckpointError: an array that tells one is missing.
  """

  def shape(key: str) -> tuple[int, ...]:
    if key not in given or given[key][1].ndim != 3:
      raise CheckpointError(
        f'{name}: not the weights of an ECAPA-TDNN: no {key} of 3 axes'
      )
    return given[key][1].shape

  count = 0
  while f'block{count + 1}.tdnn1.conv.kernel' in given:
    count += 1
  blocks = [f'block{i}' for i in range(1, count + 1)]
  first, last = shape('block0.conv.kernel'), shape('mfa.conv.kernel')
  inner = [shape(f'{block}.tdnn2.conv.kernel') for block in blocks]
  middle = [shape(f'{block}.res2net.block0.conv.kernel') for block in blocks]
  channels = [k[2] for k in (first, *inner, last)]
  attention, embedding = shape('asp.conv.kernel'), shape('fc.kernel')
  groups = known.get('input_size', first[1]) // first[1]
  groups = tuple(known.get('groups', (groups,)))[0]
  found = dict(
    input_size=first[1] * groups,
    lin_neurons=embedding[2],
    channels=tuple(channels),
    kernel_sizes=tuple(k[0] for k in (first, *middle, last)),
    groups=(
      groups,
      *(k[2] // k[1] for k in inner),
      sum(channels[1:-1]) // last[1],
    ),
    attention_channels=attention[1],
    global_context=shape('asp.tdnn.conv.kernel')[1] > last[2],
  )
  if count:
    found['res2net_scale'] = inner[0][2] // middle[0][2]
    found['se_channels'] = shape('block1.se.conv1.kernel')[2]
  return found


def _differences(wanted: dict, given: dict) -> list[str]:
  """One line for each array that keeps the weights from fitting."""
  missing = [f'missing: {name}' for name in wanted if name not in given]
  return missing + [
    f'{old}: {problem}'
    for name, (old, array) in given.items()
    if (problem := _problem(array, wanted.get(name)))
  ]


def _problem(array: np.ndarray, wanted) -> str | None:
  if wanted is None:
    return 'not a part of the model'
  if array.shape != wanted.shape:
    # As the file has them: kernels are stored backwards.
    return f'shape {array.shape[::-1]}, the model has {wanted.shape[::-1]}'
  if not jnp.issubdtype(array.dtype, np.floating):
    return f'dtype {array.dtype}, not floating point'
  if not np.isfinite(array).all():
    return 'holds NaN or infinity'
  return None
