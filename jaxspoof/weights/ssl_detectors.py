"""Detectors on self-supervised encoders as their authors released them.

A file of `torch.save` or safetensors with the encoder and the back end, or a
directory with such a file and maybe a config.yaml; which ones, `releases` says.
"""

import os
import pathlib
import re
from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import yaml
from flax import nnx

from jaxspoof import models
from jaxspoof.blocks.heads import Head
from jaxspoof.frontends import SslConfig
from jaxspoof.frontends.ssl import names
from jaxspoof.frontends.ssl import weights as ssl
from jaxspoof.frontends.ssl.architecture import Architecture
from jaxspoof.system import System, SystemConfig
from jaxspoof.tensors import files, fit
from jaxspoof.tensors.unpickler import CheckpointError
from jaxspoof.weights import aasist, classifiers, measured
from jaxspoof.weights.releases import (
  RELEASES,
  UNKNOWN,
  Release,
  Settings,
)

_SETTINGS = 'config.yaml'
_OUTPUTS = ('0', '1')
_LAST = '1'
# Beside those of AASIST: Conv1d [out, in, time].
_WEIGHTS = {**aasist.WEIGHTS, 3: ('kernel', (2, 1, 0))}


class Released(NamedTuple):
  """A detector as it was released.

  Attributes:
    kind: a key of `RELEASES`.
    module: the model, in training mode like every new module. Its second
      output is bona fide.
    notes: what a user should know, in sentences.
  """

  kind: str
  module: System
  notes: tuple[str, ...]


def is_there(path: pathlib.Path) -> bool:
  """Whether there are weights of a detector of others, and not of a run."""
  if path.is_dir():
    if not any((path / name).is_file() for name in files.CANDIDATES):
      return False
    if classifiers.is_classifier(path):  # which need not be read for that
      return False
  found = files.names_of(path)
  return kind_of(found) is not None or unknown(found) is not None


def kind_of(tensors: Container[str]) -> str | None:
  """Which of `RELEASES` has tensors of these names; None if none."""
  for name, release in RELEASES.items():
    if all(mark in tensors for mark in release.marks):
      return name
  return None


def unknown(tensors: Iterable[str]) -> str | None:
  """What tensors are of that cannot be read, and why; None if that is known."""
  for start, why in UNKNOWN.items():
    if any(name.startswith(start) for name in tensors):
      return why
  return None


def load(*args, **options) -> System:
  """The module of a released detector; see `read`."""
  return read(*args, **options).module


def read(
  path: str | os.PathLike,
  architecture: Architecture | None = None,
  bonafide_label: str | None = None,
) -> Released:
  """Reads a released detector.

  Args:
    path: weights, see `files.open_weights`.
    architecture: of the encoder; None tells it by the tensors.
    bonafide_label: the output that means bona fide speech, '0' or '1'; None
      takes what their authors say.

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
    why = unknown(found.tensors)
    raise CheckpointError(
      f'{path}: recognised as {why}: not supported'
      if why
      else f'{path}: no detector of {", ".join(RELEASES)}: its tensors have '
      'other names'
    )
  release = RELEASES[kind]
  settings = settings_beside(pathlib.Path(path))
  encoder, rest = names.encoder_part(found.tensors)
  if architecture is None:
    source = ssl.of_settings(encoder, found.around, str(path))
    architecture = source.architecture
  # Waves as they are: most feed them so, whatever the encoder was made for.
  fields = {
    'normalise_wave': 'none',
    **release.frontend,
    **release.of_encoder(architecture),
  }
  if fields.get('output') == 'all':
    fields.setdefault('last_norm', classifiers.takes_last_norm(path))
  frontend = SslConfig(str(path), architecture=architecture, **fields)
  rest = {k: v for k, v in rest.items() if not names.unused(k)}
  try:
    config = release.config(rest, settings)
  except (KeyError, ValueError, IndexError, TypeError) as error:
    raise CheckpointError(f'{path}: a {kind} without {error}') from error
  _, of_model = models.MODELS[release.model]
  system = SystemConfig(of_model, config, frontend, Head('linear', 2))
  module = _filled(system.make(nnx.Rngs(0)), release, rest, str(path))
  index = bonafide_label or release.said(settings) or release.bona_fide
  if index not in _OUTPUTS:
    raise CheckpointError(
      f'{path}: its {_SETTINGS} says that output {index} is bona fide; '
      f'expected {" or ".join(_OUTPUTS)}'
    )
  if index != _OUTPUTS[-1]:
    head = getattr(module, module.head_name)
    for variable in (head.kernel, head.bias):
      variable.set_value(variable[...][..., ::-1])
  return Released(kind, module, _notes(kind, frontend, index))


def settings_beside(path: pathlib.Path) -> Settings:
  """What a config.yaml beside weights says; nothing where there is none.

  Raises:
    CheckpointError: it is no YAML, or no mapping.
  """
  place = (path if path.is_dir() else path.parent) / _SETTINGS
  if not place.is_file():
    return {}
  try:
    found = yaml.safe_load(place.read_text(encoding='utf-8'))
  except (yaml.YAMLError, ValueError) as error:
    raise CheckpointError(f'{place}: not YAML ({error})') from error
  if not isinstance(found, Mapping):
    raise CheckpointError(
      f'{place}: expected a mapping, found a {type(found).__name__}'
    )
  return found


def _notes(kind: str, frontend: SslConfig, index: str) -> tuple[str, ...]:
  """What a user of a released detector should know, in sentences."""
  waves = 'as they are'
  if frontend.normalise_wave != 'none':
    waves = 'of mean 0 and variance 1'
  if frontend.pre_emphasis:
    waves = f'with a pre-emphasis of {frontend.pre_emphasis:g}'
  output = ('first', 'second')[int(index)]
  return (
    f'weights of {kind}: the {output} output is bona fide; waves {waves}',
    f'licence: {RELEASES[kind].licence}',
    measured.SELF_TEST,
  )


def _filled(
  module: System,
  release: Release,
  tensors: Mapping[str, np.ndarray],
  where: str,
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
