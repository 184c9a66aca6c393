"""Detectors that were trained with Hugging Face's sequence classifiers.

A directory of `Wav2Vec2ForSequenceClassification` and its relatives: an
encoder, a layer on each frame, the mean over frames, a layer. Or a directory of
PEFT beside it, which holds what was adapted of it.
"""

import os
import pathlib
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof import frontends
from jaxspoof.blocks.heads import Head
from jaxspoof.frontends.ssl import weights as ssl
from jaxspoof.models.mean import Mean, MeanConfig
from jaxspoof.system import SystemConfig
from jaxspoof.tensors import files
from jaxspoof.tensors.unpickler import CheckpointError
from jaxspoof.weights import measured, peft

_KIND = 'ForSequenceClassification'
# Words in labels. Some have more than one class of spoofs.
_BONA_FIDE = frozenset(
  'real bonafide bona genuine human original authentic natural'.split()
)
_SPOOF = frozenset(
  'fake spoof spoofed spoofing deepfake deepfaked synthetic synthesized ai '
  'generated artificial cloned tts machine'.split()
)


class Classifier(NamedTuple):
  """A detector of a directory.

  Attributes:
    module: the model with its weights.
    classes: what its outputs stand for, bona fide last.
    notes: what is known of it, in sentences.
  """

  module: Mean
  classes: tuple[str, ...]
  notes: tuple[str, ...]


def is_directory(path: pathlib.Path) -> bool:
  """Whether there is a directory of Hugging Face's, of whatever model.

  The folder of a run has a config.json too, and may be damaged.
  """
  if peft.is_directory(path):
    return True
  try:
    config = files.read_json(path / 'config.json') if path.is_dir() else {}
  except CheckpointError:
    return False
  return bool({'model_type', 'architectures'} & config.keys())


def is_classifier(path: pathlib.Path) -> bool:
  """Whether it is one of a model that `load` takes, by its config.json."""
  if peft.is_directory(path):
    return True
  try:
    kinds = files.read_json(path / 'config.json').get('architectures')
  except CheckpointError:
    return False
  return bool(kinds) and str(kinds[0]).endswith(_KIND)


def takes_last_norm(path: str | os.PathLike) -> bool:
  """Whether all states that a directory's model sums are behind its norms.

  From version 5 on, transformers takes the last one before the final norm.
  """
  place = pathlib.Path(path)
  config = files.read_json(place / 'config.json') if place.is_dir() else {}
  version = str(config.get('transformers_version', ''))
  return not re.match(r'[5-9]\.|\d\d', version)


def load(
  path: str | os.PathLike, bonafide_label: str | None = None
) -> Classifier:
  """Reads a classifier.

  Args:
    path: directory with config.json, preprocessor_config.json and weights, or
      one of PEFT with an adapter for such a model.
    bonafide_label: which label means bona fide speech, or its index; None
      tells it by the words of the labels.

  Raises:
    CheckpointError: not such a directory, weights that do not fit, or labels
      that do not say which is bona fide.
  """
  place, adapter = pathlib.Path(path), None
  if peft.is_directory(place):
    where, adapter = str(place), peft.load(place)
    place = adapter.base
  config = files.read_json(place / 'config.json')
  kinds = config.get('architectures') or ['nothing']
  if not str(kinds[0]).endswith(_KIND):
    raise CheckpointError(
      f'{place}: holds {kinds[0]}, which detects nothing; expected a '
      f'{_KIND}. An encoder is made a detector by '
      f'python run.py --config=configs/ssl_ecapa.py '
      f'--config.frontend.weights={place}'
    )
  tensors = files.open_weights(place).tensors
  if adapter is not None:
    tensors |= adapter.saved
  labels = labels_of(config, tensors, place)
  last = bonafide_index(labels, bonafide_label, place)
  order = [i for i in range(len(labels)) if i != last] + [last]
  frontend = frontend_of(config, place)
  model = MeanConfig(_tensor(tensors, 'projector.weight', 2, place).shape[0])
  system = SystemConfig(Mean, model, frontend, Head('linear', len(labels)))
  module = system.make(nnx.Rngs(0))
  given = {
    (module.projector, 'kernel'): _tensor(
      tensors, 'projector.weight', 2, place
    ).T,
    (module.projector, 'bias'): _tensor(tensors, 'projector.bias', 1, place),
    (module.head, 'kernel'): _tensor(tensors, 'classifier.weight', 2, place)[
      order
    ].T,
    (module.head, 'bias'): _tensor(tensors, 'classifier.bias', 1, place)[order],
  }
  if frontend.output == 'mix':
    given[module.frontend, 'mix'] = _tensor(tensors, 'layer_weights', 1, place)
  for (layer, name), array in given.items():
    variable = getattr(layer, name)
    if array.shape != variable.shape:
      raise CheckpointError(
        f'{place}: {name} of shape {array.shape}, the model has '
        f'{variable.shape}'
      )
    variable.set_value(jnp.asarray(array, variable.dtype))
  classes = tuple(labels[i] for i in order)
  notes = _notes(kinds[0], classes, frontend, place)
  notes += measured.warnings(place, config.get('_name_or_path'))
  if adapter is not None:
    idle = peft.without_effect(adapter, config['model_type'])
    peft.apply(adapter, module.frontend.encoder, idle, where)
    notes += (f'with the adapter {where}',)
    if idle:
      notes += (
        f'of the adapter {len(idle)} layers of attention are left out: PEFT '
        'adapts those of WavLM without any effect',
      )
  return Classifier(module, classes, notes)


def frontend_of(
  config: Mapping[str, Any], place: pathlib.Path
) -> frontends.SslConfig:
  """The front end of a classifier, with the encoder's weights."""
  mix = bool(config.get('use_weighted_layer_sum'))
  return frontends.SslConfig(
    weights=str(place),
    output='mix' if mix else 'last',
    last_norm=takes_last_norm(place),
    # Without a preprocessor_config.json, its default.
    normalise_wave='' if _says_normalise(place) else 'huggingface',
  )


def _says_normalise(place: pathlib.Path) -> bool:
  return ssl.describe(place).normalise is not None


def labels_of(
  config: Mapping[str, Any], tensors: Mapping[str, np.ndarray], place
) -> list[str]:
  """Labels in the order of the outputs."""
  count = len(_tensor(tensors, 'classifier.bias', 1, place))
  names = config.get('id2label') or {}
  if not isinstance(names, Mapping):
    names = {}
  return [str(names.get(str(i), f'LABEL_{i}')) for i in range(count)]


def bonafide_index(
  labels: Sequence[str], wanted: str | None, place: pathlib.Path
) -> int:
  """Which of the labels means bona fide speech.

  Args:
    labels: of all outputs.
    wanted: what the user says of it, a label or an index; None: nothing.
    place: of the weights, for messages.

  Raises:
    CheckpointError: the labels do not tell it, or have no such one.
  """
  if wanted is not None:
    if wanted in labels:
      return list(labels).index(wanted)
    if wanted.isdigit() and int(wanted) < len(labels):
      return int(wanted)
    raise CheckpointError(
      f'{place}: no label {wanted!r}; it has {", ".join(labels)}'
    )
  found = [_means(label) for label in labels]
  if found.count('bona fide') == 1 and None not in found:
    return found.index('bona fide')
  shown = ', '.join(f'{i}: {label}' for i, label in enumerate(labels))
  raise CheckpointError(
    f'{place}: its labels ({shown}) do not say which one means bona fide '
    'speech. Its authors must know; say so with --bonafide_label=LABEL, and '
    'try it with --self_test BONAFIDE SPOOF'
  )


def _means(label: str) -> str | None:
  """What a label means by its words: 'bona fide', 'spoof' or neither."""
  apart = re.sub(r'([a-z])([A-Z])|([A-Z]+)([A-Z][a-z])', r'\1\3 \2\4', label)
  words = set(re.findall('[a-z]+', apart.lower()))
  if words & _SPOOF:
    return 'spoof'
  return 'bona fide' if words & _BONA_FIDE else None


def _tensor(tensors, name: str, axes: int, place) -> np.ndarray:
  array = tensors.get(name)
  if array is None or array.ndim != axes:
    found = 'missing' if array is None else f'of shape {array.shape}'
    raise CheckpointError(f'{place}: {name} is {found}, expected {axes} axes')
  if not np.isfinite(array).all():
    raise CheckpointError(f'{place}: {name} holds NaN or infinity')
  return array


def _notes(kind, classes, frontend, place) -> tuple[str, ...]:
  """What a user should know of weights that others made."""
  waves = frontend.normalise_wave
  waves = 'as they are' if waves == 'none' else f'normalised as {waves} does'
  notes = [
    f'{kind}: {", ".join(classes[:-1])} = spoof, {classes[-1]} = bona fide; '
    f'waves {waves}'
  ]
  card = place / 'README.md'
  licence = None
  if card.is_file():
    text = card.read_text(encoding='utf-8', errors='replace')
    licence = re.search(r'^licen[sc]e:\s*(\S.*)$', text, re.MULTILINE)
  notes.append(
    f'licence of its card: {licence[1]}' if licence else 'no licence is stated'
  )
  notes.append(measured.SELF_TEST)
  return tuple(notes)
