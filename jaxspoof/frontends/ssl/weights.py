"""Weights of wav2vec 2.0, HuBERT and WavLM in the encoder of this project."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from jaxspoof.frontends.ssl import names, parts
from jaxspoof.frontends.ssl.architecture import Architecture
from jaxspoof.frontends.ssl.encoder import Encoder
from jaxspoof.tensors import files, fit, unpickler
from jaxspoof.tensors.unpickler import CheckpointError

_CONV = 'feature_extractor.conv_layers.'
_POSITION = 'encoder.pos_conv_embed.'
_DISTANCES = 'encoder.layers.0.attention.rel_attn_embed.weight'
FAMILIES = ('wav2vec2', 'hubert', 'wavlm')
# Fields of an `Architecture` by their names in a config.json.
_FIELDS = {
  'conv_channels': 'conv_dim',
  'conv_kernels': 'conv_kernel',
  'conv_strides': 'conv_stride',
  'conv_bias': 'conv_bias',
  'conv_norm': 'feat_extract_norm',
  'projection_norm': 'feat_proj_layer_norm',
  'width': 'hidden_size',
  'layers': 'num_hidden_layers',
  'heads': 'num_attention_heads',
  'inner': 'intermediate_size',
  'pre_norm': 'do_stable_layer_norm',
  'norm_epsilon': 'layer_norm_eps',
  'position_taps': 'num_conv_pos_embeddings',
  'position_groups': 'num_conv_pos_embedding_groups',
  'position_batch_norm': 'conv_pos_batch_norm',
  'buckets': 'num_buckets',
  'max_distance': 'max_bucket_distance',
}
# What of a config.json changes the network in a way that ours cannot.
_FIXED = {
  'hidden_act': 'gelu',
  'feat_extract_activation': 'gelu',
  'add_adapter': False,
  'adapter_attn_dim': None,
}


# The same by their names in the settings of fairseq and of Microsoft's WavLM.
_FAIRSEQ = {
  'conv_bias': 'conv_bias',
  'width': 'encoder_embed_dim',
  'layers': 'encoder_layers',
  'heads': 'encoder_attention_heads',
  'inner': 'encoder_ffn_embed_dim',
  'pre_norm': 'layer_norm_first',
  'position_taps': 'conv_pos',
  'position_groups': 'conv_pos_groups',
  'position_batch_norm': 'conv_pos_batch_norm',
}
# Heads that shapes do not tell, by the width; others have 64 values each.
_HEADS = {1280: 16, 1920: 16}


class Source(NamedTuple):
  """What weights say of themselves.

  Attributes:
    architecture: of the encoder.
    normalise: what the encoder expects: waves of zero mean and unit variance
      (True) or waves as they are (False); None: not said.
    config: of a directory, its config.json.
    guessed: what of the architecture the weights do not say; '' if nothing.
  """

  architecture: Architecture
  normalise: bool | None
  config: Mapping[str, Any]
  guessed: str = ''


def describe(path: str | os.PathLike) -> Source:
  """What weights say of themselves.

  A directory with a config.json is not read further than that.

  Raises:
    CheckpointError: nothing there, or no encoder of the three families.
  """
  place = pathlib.Path(path)
  if place.is_dir():
    config = files.read_json(place / 'config.json')
    if config.get('model_type'):
      processor = files.read_json(place / 'preprocessor_config.json')
      architecture = of_config(config, str(place / 'config.json'))
      return Source(architecture, processor.get('do_normalize'), config)
  found = files.open_weights(place)
  encoder, _ = names.encoder_part(found.tensors)
  return of_settings(encoder, found.around, str(place))


def of_settings(
  tensors: Mapping[str, np.ndarray], around: Mapping[str, Any], where: str
) -> Source:
  """What tensors without a config.json say, and settings beside them.

  Args:
    tensors: of the encoder, by Hugging Face's names.
    around: what lies beside them in their file.
    where: they come from.

  Raises:
    CheckpointError: not an encoder, or settings that cannot be.
  """
  shapes = {name: array.shape for name, array in tensors.items()}
  fields, guessed = _of_shapes(shapes, where), ''
  args = unpickler.settings(around.get('args'))
  cfg = unpickler.settings(around.get('cfg'))
  said = unpickler.settings(cfg.get('model')) or cfg or args
  task = unpickler.settings(cfg.get('task')) or cfg or args
  if 'encoder_attention_heads' in said:
    fields |= {
      ours: said[theirs]
      for ours, theirs in _FAIRSEQ.items()
      if said.get(theirs) is not None
    }
    fields['max_distance'] = said.get('max_distance', 1280)
  else:
    width = fields['width']
    if width % 64 and width not in _HEADS and 'heads' not in fields:
      raise CheckpointError(
        f'{where}: tensors of width {width} do not tell the number of heads; a '
        'config.json would'
      )
    fields.setdefault('heads', _HEADS.get(width, width // 64))
    guessed = f'{fields["heads"]} heads'
    if fields['buckets']:
      guessed = f'distances up to {Architecture.max_distance}'
  try:
    architecture = Architecture(**fields)
  except (TypeError, ValueError) as error:
    raise CheckpointError(f'{where}: {error}') from error
  normalise = task.get('normalize')
  normalise = normalise if isinstance(normalise, bool) else None
  return Source(architecture, normalise, {}, guessed)


def _of_shapes(shapes: Mapping[str, tuple], where: str) -> dict[str, Any]:
  """Fields of an `Architecture` that shapes of tensors tell."""

  def shape(name: str, axes: int) -> tuple[int, ...]:
    if len(shapes.get(name, ())) != axes:
      raise CheckpointError(
        f'{where}: no encoder of {", ".join(FAMILIES)}: it has no {name} of '
        f'{axes} axes'
      )
    return shapes[name]

  count = 0
  while f'{_CONV}{count}.conv.weight' in shapes:
    count += 1
  convs = [shape(f'{_CONV}{i}.conv.weight', 3) for i in range(max(count, 1))]
  kernels = tuple(conv[2] for conv in convs)
  usual = Architecture()
  if kernels != usual.conv_kernels:
    raise CheckpointError(
      f'{where}: convolutions of sizes {kernels}, whose strides tensors do not '
      'tell; a config.json would'
    )
  batch_norm = f'{_POSITION}batch_norm.weight' in shapes
  names = ('conv.parametrizations.weight.original1', 'conv.weight_v')
  held = [n for n in names if _POSITION + n in shapes]
  name = 'conv.weight' if batch_norm or not held else held[0]
  width, of_group, taps = shape(_POSITION + name, 3)
  in_layer = 'encoder.layers.{}.feed_forward.intermediate_dense.weight'
  layers = 0
  while in_layer.format(layers) in shapes:
    layers += 1
  inner, _ = shape(in_layer.format(0), 2)
  found = dict(
    conv_channels=tuple(conv[0] for conv in convs),
    conv_bias=f'{_CONV}0.conv.bias' in shapes,
    conv_norm='layer' if f'{_CONV}1.layer_norm.weight' in shapes else 'group',
    projection_norm='feature_projection.layer_norm.weight' in shapes,
    width=width,
    layers=layers,
    inner=inner,
    position_taps=taps,
    position_groups=width // max(of_group, 1),
    position_batch_norm=batch_norm,
    buckets=0,
  )
  # So it is of all that were published.
  found['pre_norm'] = found['conv_norm'] == 'layer'
  if _DISTANCES in shapes:
    found['buckets'], found['heads'] = shape(_DISTANCES, 2)
  return found


def of_config(config: Mapping[str, Any], where: str) -> Architecture:
  """The architecture that a config.json of Hugging Face describes.

  Raises:
    CheckpointError: another family, or a switch that ours does not have.
  """
  if config.get('model_type') not in FAMILIES:
    raise CheckpointError(
      f'{where}: model_type is {config.get("model_type")!r}, expected one of '
      f'{", ".join(FAMILIES)}'
    )
  for name, wanted in _FIXED.items():
    if config.get(name, wanted) != wanted:
      raise CheckpointError(
        f'{where}: {name} is {config[name]!r}; only {wanted!r} is built'
      )
  fields = {
    ours: config[theirs]
    for ours, theirs in _FIELDS.items()
    if config.get(theirs) is not None
  }
  try:
    return Architecture(**fields)
  except (TypeError, ValueError) as error:
    raise CheckpointError(f'{where}: {error}') from error


def load(
  path: str | os.PathLike,
  architecture: Architecture | None = None,
  **options,
) -> Encoder:
  """Reads an encoder.

  Args:
    path: weights, see `files.open_weights`.
    architecture: as a config says; None: as the weights say. One with fewer
      layers takes the first ones.
    **options: of `Encoder`: dtype, param_dtype, remat, split.

  Raises:
    CheckpointError: damaged, unsafe, or weights that do not fit.
  """
  if architecture is None:
    architecture = describe(path).architecture
  encoder, _ = names.encoder_part(files.open_weights(path).tensors)
  return of_tensors(encoder, architecture, str(path), **options)


def of_tensors(
  tensors: dict[str, np.ndarray],
  architecture: Architecture,
  where: str,
  **options,
) -> Encoder:
  """An encoder of tensors by Hugging Face's names; empties the dictionary."""
  given = names.translate(tensors)
  tensors.clear()
  parts.divided(given, options.get('split'), architecture.layers)

  def make() -> Encoder:
    return Encoder(architecture, nnx.Rngs(0), **options)

  return fit.fill(make, given, where, stacked=parts.STACKS)
