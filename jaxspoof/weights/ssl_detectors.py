"""Detectors on self-supervised encoders as their authors released them.

A file of `torch.save` or safetensors with the encoder (named as fairseq does)
and the back end.
"""

import os
import pathlib
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof import models
from jaxspoof.blocks.heads import Head
from jaxspoof.frontends import SslConfig
from jaxspoof.frontends.ssl import names
from jaxspoof.frontends.ssl import weights as ssl
from jaxspoof.frontends.ssl.architecture import Architecture
from jaxspoof.models import sls
from jaxspoof.models.mean import MeanConfig
from jaxspoof.models.nes2net import Nes2NetConfig
from jaxspoof.models.sls import SlsConfig
from jaxspoof.models.ssl_aasist import SslAasistConfig
from jaxspoof.system import System, SystemConfig
from jaxspoof.tensors import files, fit
from jaxspoof.tensors.unpickler import CheckpointError
from jaxspoof.weights import aasist, classifiers, measured

Tensors = Mapping[str, np.ndarray]


class Release(NamedTuple):
  """A kind of detector that people release weights of.

  Attributes:
    model: a key of `models.MODELS`.
    marks: names of tensors that no other kind has.
    config: makes the config of the model of shapes of tensors.
    names: substitutions that turn an old name into the new one, in this order.
    frontend: fields of the front end.
    bona_fide: the output that means bona fide speech, '0' or '1'.
    licence: of the weights, as far as it is stated.
  """

  model: str
  marks: tuple[str, ...]
  config: Callable[[Tensors], Any]
  names: tuple[tuple[str, str], ...]
  frontend: Mapping[str, Any] = MappingProxyType({})
  bona_fide: str = '1'
  licence: str = 'none is stated'


def _ssl_aasist(tensors: Tensors) -> SslAasistConfig:
  blocks = sum(bool(re.fullmatch(_CONV2, name)) for name in tensors)
  channels = [len(tensors[f'encoder.{i}.0.conv2.bias']) for i in range(blocks)]
  return SslAasistConfig(
    projection=len(tensors['LL.bias']),
    channels=channels,
    attention_channels=len(tensors['attention.0.bias']),
    gat_dims=(
      tensors['master1'].shape[-1],
      len(tensors['HtrgGAT_layer_ST12.att_proj.bias']),
    ),
  )


def _sls(tensors: Tensors) -> SlsConfig:
  embedding, size = tensors['fc1.weight'].shape
  width = tensors['fc0.weight'].shape[1]
  return SlsConfig(sls.POOL * (size // (width // sls.POOL)), embedding)


def _nes2net(tensors: Tensors) -> Nes2NetConfig:
  size = len(tensors[f'{_FIRST}.conv3.bias'])
  # Dilation is not told by tensors: it is that of all that were published.
  return Nes2NetConfig(
    parts=len(tensors[f'{_NES2NET}.bn.weight']) // size,
    inner_parts=1
    + sum(name.startswith(f'{_FIRST}.weighted_sum.') for name in tensors),
    squeeze=size // len(tensors[f'{_FIRST}.se.se.1.bias']),
  )


_OUTPUTS = ('0', '1')
_LAST = '1'
_NES2NET = 'Nested_Res2Net_TDNN'
_FIRST = f'{_NES2NET}.Build_in_Res2Nets.0'
_BLOCK = rf'^{_NES2NET}\.Build_in_Res2Nets\.(\d+)\.'
_STATISTICS = aasist.NAMES[-2:]
_CONV2 = r'encoder\.\d+\.0\.conv2\.bias'
# Beside those of AASIST: Conv1d [out, in, time].
_WEIGHTS = {**aasist.WEIGHTS, 3: ('kernel', (2, 1, 0))}
RELEASES = {
  'AntiDeepfake': Release(
    'mean',
    ('proj_fc.weight', 'proj_fc.bias'),
    lambda tensors: MeanConfig(projection=None),
    ((r'^proj_fc\.', 'head.'),),
    {'normalise_wave': 'fairseq'},
    licence='CC BY-NC-SA 4.0, not for commercial use',
  ),
  'SSL_Anti-spoofing': Release(
    'ssl_aasist',
    ('LL.weight', 'GAT_layer_S.att_weight'),
    _ssl_aasist,
    (
      (r'^LL\.', 'projection.'),
      (r'^first_bn1\.', 'last_norm.'),
      (r'^attention\.0\.', 'score1.'),
      (r'^attention\.2\.', 'score_norm.'),
      (r'^attention\.3\.', 'score2.'),
      *aasist.NAMES,
    ),
    licence='MIT',
  ),
  'SLS': Release(
    'sls',
    ('fc0.weight', 'fc1.weight', 'fc3.weight', 'first_bn.weight'),
    _sls,
    (
      (r'^first_bn\.', 'first_norm.'),
      (r'^fc0\.', 'gate.'),
      (r'^fc1\.', 'hidden.'),
      (r'^fc3\.', 'head.'),
      *_STATISTICS,
    ),
    {'output': 'all', 'last_norm': False},
  ),
  'Nes2Net-X': Release(
    'nes2net',
    (f'{_FIRST}.weighted_sum.0', f'{_NES2NET}.fc.weight'),
    _nes2net,
    (
      (_BLOCK + r'conv1\.', r'block\1.input.'),
      (_BLOCK + r'bn1\.', r'block\1.input_norm.'),
      (_BLOCK + r'convs\.(\d+)\.', r'block\1.conv\2.'),
      (_BLOCK + r'bns\.(\d+)\.', r'block\1.norm\2.'),
      (_BLOCK + r'weighted_sum\.(\d+)$', r'block\1.share\2'),
      (_BLOCK + r'conv3\.', r'block\1.output.'),
      (_BLOCK + r'bn3\.', r'block\1.output_norm.'),
      (_BLOCK + r'se\.se\.1\.', r'block\1.squeeze.'),
      (_BLOCK + r'se\.se\.3\.', r'block\1.excite.'),
      (rf'^{_NES2NET}\.bns\.(\d+)\.', r'norm\1.'),
      (rf'^{_NES2NET}\.bn\.', 'last_norm.'),
      (rf'^{_NES2NET}\.fc\.', 'head.'),
      *_STATISTICS,
    ),
  ),
}


def is_there(path: pathlib.Path) -> bool:
  """Whether there are weights of one of `RELEASES`, and not of a run."""
  if path.is_dir():
    if not any((path / name).is_file() for name in files.CANDIDATES):
      return False
    if classifiers.is_classifier(path):  # which need not be read for that
      return False
  return kind_of(files.open_weights(path).tensors) is not None


def kind_of(tensors: Tensors) -> str | None:
  """Which of `RELEASES` tensors are of; None if of none."""
  for name, release in RELEASES.items():
    if all(mark in tensors for mark in release.marks):
      return name
  return None


def load(
  path: str | os.PathLike,
  architecture: Architecture | None = None,
  bonafide_label: str | None = None,
) -> System:
  """Reads a released detector.

  Args:
    path: weights, see `files.open_weights`.
    architecture: of the encoder; None tells it by the tensors.
    bonafide_label: the output that means bona fide speech, '0' or '1'; None
      takes what their authors say.

  Returns:
    The model, in training mode like every new module. Its second output is
    bona fide.

  Raises:
    CheckpointError: damaged, unsafe, or of another model; or no such output.
  """
  if bonafide_label not in (None, *_OUTPUTS):
    raise CheckpointError(
      f'{path}: bona fide label {bonafide_label!r}: its outputs have no names; '
      f'expected {" or ".join(_OUTPUTS)}, the number of one'
    )
  found = files.open_weights(path)
  kind = kind_of(found.tensors)
  if kind is None:
    raise CheckpointError(
      f'{path}: no detector of {", ".join(RELEASES)}: its tensors have other '
      'names'
    )
  release = RELEASES[kind]
  encoder, rest = names.encoder_part(found.tensors)
  if architecture is None:
    source = ssl.of_settings(encoder, found.around, str(path))
    architecture = source.architecture
  # Waves as they are: most feed them so, whatever the encoder was made for.
  fields = {'normalise_wave': 'none', **release.frontend}
  frontend = SslConfig(str(path), architecture=architecture, **fields)
  rest = {k: v for k, v in rest.items() if not names.unused(k)}
  try:
    config = release.config(rest)
  except (KeyError, ValueError, IndexError) as error:
    raise CheckpointError(f'{path}: a {kind} without {error}') from error
  _, kind_of_model = models.MODELS[release.model]
  system = SystemConfig(kind_of_model, config, frontend, Head('linear', 2))
  module = _filled(system.make(nnx.Rngs(0)), release, rest, str(path))
  if _index(kind, bonafide_label) != _LAST:
    head = getattr(module, module.head_name)
    for variable in (head.kernel, head.bias):
      variable.set_value(variable[...][..., ::-1])
  return module


def _index(kind: str, bonafide_label: str | None) -> str:
  """Which output means bona fide speech."""
  return RELEASES[kind].bona_fide if bonafide_label is None else bonafide_label


def notes(
  path: str | os.PathLike, bonafide_label: str | None = None
) -> tuple[str, ...]:
  """What a user of a released detector should know, in sentences."""
  kind = kind_of(files.open_weights(path).tensors)
  frontend = RELEASES[kind].frontend
  waves = frontend.get('normalise_wave', 'none')
  waves = 'as they are' if waves == 'none' else 'of mean 0 and variance 1'
  index = ('first', 'second')[int(_index(kind, bonafide_label))]
  return (
    f'weights of {kind}: the {index} output is bona fide; waves {waves}',
    f'licence: {RELEASES[kind].licence}',
    measured.SELF_TEST,
  )


def _filled(
  module: System, release: Release, tensors: Tensors, where: str
) -> System:
  """The module with arrays in all its places but those of the front end."""
  state = nnx.state(module)
  wanted = {
    '.'.join(map(str, key)): variable
    for key, variable in nnx.to_flat_state(state)
    if not key[:2] == ('frontend', 'encoder')
  }
  given = dict(_translate(release, *item) for item in tensors.items())
  shapes = {
    slot: shape
    for name, variable in wanted.items()
    for slot, shape in aasist.slots(name, variable.shape)
  }
  problems = [f'missing: {name}' for name in shapes if name not in given]
  for name, (old, array) in given.items():
    if name not in shapes:
      problems.append(f'{old}: not a part of the model')
    elif _squeezed(array.shape) != _squeezed(shapes[name]):
      problems.append(
        f'{old}: shape {array.shape}, the model has {shapes[name]}'
      )
    elif not np.isfinite(array).all():
      problems.append(f'{old}: holds NaN or infinity')
  if problems:
    shown = problems[: fit.LISTED]
    if more := len(problems) - len(shown):
      shown.append(f'and {more} more')
    raise CheckpointError(
      '\n  '.join(
        [f'{where}: does not fit ({len(problems)} differences)', *shown]
      )
    )
  for name, variable in wanted.items():
    parts = [
      given[slot][1].reshape(shape)
      for slot, shape in aasist.slots(name, variable.shape)
    ]
    value = np.stack(parts) if aasist.is_stacked(name) else parts[0]
    variable.set_value(jnp.asarray(value, variable.dtype))
  nnx.update(module, state)
  return module


def _translate(release: Release, old: str, array: np.ndarray):
  """The new name, and the old one with the array in the new order of axes."""
  new = old
  for pattern, replacement in release.names:
    new = re.sub(pattern, replacement, new)
  if new.endswith('.weight'):
    last, axes = _WEIGHTS.get(array.ndim, ('weight', None))
    new = new.removesuffix('weight') + last
    array = array.transpose(axes)
  return new, (old, array)


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
  """Without axes of length 1: convolutions of one tap are layers of ours."""
  return tuple(length for length in shape if length != 1)
