"""Weights of Conv-TasNet: of our runs, of torchaudio and of asteroid.

torchaudio's files are bare state dictionaries: how many blocks are in a stack,
which activation makes the mask, and the sample rate are not in them. asteroid
says all of it in `model_args`. In asteroid's the last block has a residual that
nobody reads; it is left out.
"""

import os
import pathlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxspoof.enhance.conv_tasnet import ConvTasNet, ConvTasNetConfig
from jaxspoof.runs import weights_file
from jaxspoof.tensors import files, fit
from jaxspoof.tensors.unpickler import CheckpointError

JOBS = ('enhance', 'attack')  # that leave a Conv-TasNet
# Substitutions that turn an old name into the new one, in this order.
TORCHAUDIO = (
  (r'^(encoder|decoder)\.weight$', r'\1'),
  (r'^mask_generator\.input_norm\.', 'tcn.norm.'),
  (r'^mask_generator\.input_conv\.', 'tcn.enter.'),
  (r'^mask_generator\.output_prelu\.weight$', 'slope'),
  (r'^mask_generator\.output_conv\.', 'mask.'),
  (r'^mask_generator\.conv_layers\.(\d+)\.', r'tcn.block\1.'),
  (r'\.res_out\.', '.residual.'),
  (r'\.skip_out\.', '.skip.'),
)
ASTEROID = (
  (r'^(encoder|decoder)\.filterbank\._filters$', r'\1'),
  (r'^masker\.bottleneck\.0\.', 'tcn.norm.'),
  (r'^masker\.bottleneck\.1\.', 'tcn.enter.'),
  (r'^masker\.mask_net\.0\.weight$', 'slope'),
  (r'^masker\.mask_net\.1\.', 'mask.'),
  (r'^masker\.TCN\.(\d+)\.', r'tcn.block\1.'),
  (r'\.res_conv\.', '.residual.'),
  (r'\.skip_conv\.', '.skip.'),
  (r'\.3\.0\.', '.3.'),  # causal: a layer and what cuts its output
  (r'\.gamma$', '.weight'),
  (r'\.beta$', '.bias'),
)
BLOCK = (
  (r'\.(?:conv_layers|shared_block)\.(\d)\.', r'.\1.'),
  (r'(block\d+)\.0\.', r'\1.enter.'),
  (r'(block\d+)\.1\.weight$', r'\1.slope1'),
  (r'(block\d+)\.2\.', r'\1.norm1.'),
  (r'(block\d+)\.3\.', r'\1.depthwise.'),
  (r'(block\d+)\.4\.weight$', r'\1.slope2'),
  (r'(block\d+)\.5\.', r'\1.norm2.'),
)
ASTEROID_NORMS = {'gLN': 'global', 'cgLN': 'cumulative', 'cLN': 'frame'}
# Fields that have other names in asteroid's `model_args`.
ASTEROID_FIELDS = {
  'sources': 'n_src', 'filters': 'n_filters', 'kernel': 'kernel_size',
  'stride': 'stride', 'bottleneck': 'bn_chan', 'hidden': 'hid_chan',
  'skip': 'skip_chan', 'taps': 'conv_kernel_size', 'blocks': 'n_blocks',
  'stacks': 'n_repeats', 'norm': 'norm_type', 'mask': 'mask_act',
  'causal': 'causal', 'sample_rate': 'sample_rate',
}  # fmt: skip


def load(path: str | os.PathLike, **changes) -> ConvTasNet:
  """Reads a Conv-TasNet.

  Args:
    path: the workdir of a run of the job 'enhance' or 'attack', or a file of
      torchaudio or asteroid.
    **changes: fields of a `ConvTasNetConfig` that the file does not say or that
      are otherwise: of torchaudio's `blocks`, `mask` and `sample_rate`.

  Returns:
    The network, with arrays of JAX; see `on_numpy`.

  Raises:
    CheckpointError (a ValueError): there is no such file, it is damaged or
      unsafe, or holds something else; it says what does not fit.
  """
  if pathlib.Path(path).is_dir():
    return of_run(path)
  found = files.open_weights(path)
  kind = kind_of(found.tensors)
  if kind == 'asteroid':
    fields, table = _of_asteroid(found, str(path)), ASTEROID
  elif kind == 'torchaudio':
    fields, table = (
      _of_torchaudio(found.tensors, changes, str(path)),
      TORCHAUDIO,
    )
  else:
    raise CheckpointError(
      f'{path}: not a Conv-TasNet: expected the state dictionary of '
      "torchaudio's or a file of asteroid's, found tensors such as "
      f'{next(iter(found.tensors), "none")!r}'
    )
  config = _config({**fields, **changes}, str(path))
  given = translate(found.tensors, table)
  if config.skip and table is ASTEROID:
    last = f'tcn.block{config.blocks * config.stacks - 1}.residual'
    for name in ('kernel', 'bias'):
      given.pop(f'{last}.{name}', None)
  return fit.fill(lambda: ConvTasNet(config, nnx.Rngs(0)), given, str(path))


def kind_of(tensors: Mapping[str, np.ndarray]) -> str | None:
  """'asteroid', 'torchaudio', or None if it is no Conv-TasNet."""
  if 'encoder.filterbank._filters' in tensors:
    return 'asteroid'
  known = 'mask_generator.output_conv.weight' in tensors
  return 'torchaudio' if known else None


def of_run(workdir: str | os.PathLike) -> ConvTasNet:
  """Reads the network of a run of the job 'enhance' or 'attack'.

  Raises:
    RunError (a ValueError): the folder is no run, or has no weights yet.
    CheckpointError: it is a run of another job.
  """
  config, params, _ = weights_file.load(workdir)
  if config.get('job') not in JOBS:
    raise CheckpointError(
      f'{workdir}: a run of the job {config.get("job")!r}, expected one of '
      "'enhance' or 'attack' (configs/enhance.py, configs/attack.py)"
    )
  given = {
    name.replace('/', '.'): [(name, array)]
    for name, array in weights_file.flat(params)
  }
  made = _config(config['network'], str(workdir))
  return fit.fill(lambda: ConvTasNet(made, nnx.Rngs(0)), given, str(workdir))


def on_numpy(network: ConvTasNet) -> ConvTasNet:
  """The same network with arrays of numpy, which computes without JAX."""
  graphdef, state = nnx.split(network)
  return nnx.merge(graphdef, jax.tree.map(np.asarray, state))


def translate(tensors: Mapping[str, np.ndarray], table) -> fit.Given:
  """Renames and transposes the tensors of a state dictionary."""
  given: fit.Given = {}
  for old, array in tensors.items():
    new = old
    for pattern, replacement in (*table, *BLOCK):
      new = re.sub(pattern, replacement, new)
    if new == 'encoder' and array.ndim == 3:  # [F, 1, L]
      array = array[:, 0].T
    elif new == 'decoder' and array.ndim == 3:
      array = array[:, 0]
    elif new.endswith('.weight') and array.ndim == 3:
      new = new.removesuffix('weight') + 'kernel'
      array = array.T if 'depthwise' in new else array[..., 0].T
    elif new.endswith('.weight'):
      new = new.removesuffix('weight') + 'scale'
    given[new] = [(old, array)]
  return given


def _of_asteroid(found: files.Checkpoint, where: str) -> dict[str, Any]:
  """Fields of the config that a file of asteroid's says."""
  arguments = found.around.get('model_args')
  if not isinstance(arguments, Mapping):
    raise CheckpointError(
      f'{where}: no model_args beside the weights; expected a file that '
      "asteroid's `model.serialize()` made"
    )
  missing = sorted({*ASTEROID_FIELDS.values()} - {*arguments})
  if missing:
    raise CheckpointError(f'{where}: model_args lacks {", ".join(missing)}')
  fields = {ours: arguments[old] for ours, old in ASTEROID_FIELDS.items()}
  refused = {
    'fb_name': arguments.get('fb_name') not in ('FreeFB', 'free'),
    'norm_type': fields['norm'] not in ASTEROID_NORMS,
    'out_chan': arguments.get('out_chan') not in (None, fields['filters']),
  }
  for name in [name for name, wrong in refused.items() if wrong]:
    raise CheckpointError(
      f'{where}: model_args {name}={arguments.get(name)!r}: expected a free '
      'filterbank (FreeFB), as many mask channels as filters, and norm_type '
      f'{", ".join(ASTEROID_NORMS)}'
    )
  return {
    **fields,
    'norm': ASTEROID_NORMS[fields['norm']],
    'skip': fields['skip'] or 0,
    'sample_rate': int(fields['sample_rate']),
    'encoder_activation': arguments.get('encoder_activation') or 'linear',
    'padded': False,
  }


def _of_torchaudio(
  tensors: Mapping[str, np.ndarray], changes: Mapping[str, Any], where: str
) -> dict[str, Any]:
  """Fields that follow from shapes, and torchaudio's defaults of the others."""
  shape = lambda name: tensors[f'mask_generator.{name}'].shape
  try:
    filters, _, kernel = tensors['encoder.weight'].shape
    hidden, _, taps = shape('conv_layers.0.conv_layers.3.weight')
    bottleneck = shape('input_conv.weight')[0]
    skip = shape('conv_layers.0.skip_out.weight')[0]
    sources = shape('output_conv.weight')[0] // filters
  except (KeyError, ValueError, IndexError) as error:
    raise CheckpointError(
      f"{where}: a tensor of torchaudio's ConvTasNet is missing or has "
      f'another shape ({error})'
    ) from error
  numbers = [
    int(n)
    for name in tensors
    for n in re.findall(r'^mask_generator\.conv_layers\.(\d+)\.', name)
  ]
  count, blocks = max(numbers) + 1, changes.get('blocks', 8)
  if count % blocks:
    raise CheckpointError(
      f'{where}: {count} blocks, which are no stacks of {blocks}; say '
      'blocks=NUMBER, the msk_num_layers that it was made with'
    )
  return dict(
    sources=sources,
    filters=filters,
    kernel=kernel,
    stride=kernel // 2,
    bottleneck=bottleneck,
    hidden=hidden,
    skip=skip,
    taps=taps,
    blocks=blocks,
    stacks=count // blocks,
  )


def _config(fields: Mapping[str, Any], where: str) -> ConvTasNetConfig:
  try:
    return ConvTasNetConfig(**fields)
  except (TypeError, ValueError) as error:
    raise CheckpointError(f'{where}: {error}') from error
