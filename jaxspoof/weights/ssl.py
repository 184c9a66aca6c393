"""Weights of wav2vec 2.0, HuBERT and WavLM in the encoder of this project."""

import os
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from flax import nnx

from jaxspoof.frontends.ssl.architecture import Architecture
from jaxspoof.frontends.ssl.encoder import Encoder
from jaxspoof.weights import files, fit, ssl_names
from jaxspoof.weights.torch_pickle import CheckpointError

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


class Source(NamedTuple):
  """What weights say of themselves.

  Attributes:
    architecture: of the encoder.
    normalise: what the encoder expects: waves of zero mean and unit variance
      (True) or waves as they are (False); None: not said.
    config: of a directory, its config.json.
  """

  architecture: Architecture
  normalise: bool | None
  config: Mapping[str, Any]


def describe(path: str | os.PathLike) -> Source:
  """What weights say of themselves, without reading more than is needed.

  Raises:
    CheckpointError: nothing there, or no encoder of the three families.
  """
  place = pathlib.Path(path)
  if not place.is_dir():
    raise CheckpointError(f'{place}: expected a directory')
  config = files.read_json(place / 'config.json')
  if not config:
    raise CheckpointError(f'{place}: no config.json there')
  processor = files.read_json(place / 'preprocessor_config.json')
  architecture = of_config(config, str(place / 'config.json'))
  return Source(architecture, processor.get('do_normalize'), config)


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
    path: weights, see `files.read`.
    architecture: as a config says; None: as the weights say. One with fewer
      layers takes the first ones.
    **options: of `Encoder`: dtype, param_dtype, remat.

  Raises:
    CheckpointError: damaged, unsafe, or weights that do not fit.
  """
  if architecture is None:
    architecture = describe(path).architecture
  encoder, _ = ssl_names.encoder_part(files.read(path))
  return of_tensors(encoder, architecture, str(path), **options)


def of_tensors(
  tensors: dict[str, np.ndarray],
  architecture: Architecture,
  where: str,
  **options,
) -> Encoder:
  """An encoder of tensors by Hugging Face's names; empties the dictionary."""
  given = ssl_names.translate(tensors)
  tensors.clear()
  for name, slots in given.items():
    if name.startswith('layers.'):
      del slots[architecture.layers :]

  def make() -> Encoder:
    return Encoder(architecture, nnx.Rngs(0), **options)

  return fit.fill(make, given, where, stacked='layers.')
