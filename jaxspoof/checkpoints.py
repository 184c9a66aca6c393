"""What a detector is loaded from: bundles, runs, and weights of others.

`Detector.load`, the evaluation and bundles all open checkpoints here.
"""

import math
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from jaxspoof import audio, losses, models
from jaxspoof import config as config_lib
from jaxspoof.audio import measures
from jaxspoof.bundles import domain as domain_lib
from jaxspoof.bundles import hub, store
from jaxspoof.bundles.card import BundleError, Card
from jaxspoof.metrics import calibration as calibration_lib
from jaxspoof.runs import names, record, weights_file
from jaxspoof.runs import splits as splits_lib
from jaxspoof.runs import workdir as workdir_lib
from jaxspoof.tensors import files as tensor_files
from jaxspoof.training import state as state_lib
from jaxspoof.weights import aasist as aasist_importer
from jaxspoof.weights import classifiers, frozen, ssl_detectors
from jaxspoof.weights.releases import RELEASES

# What the original scores of each clip: about four seconds.
ORIGINAL_SAMPLES = 64_600
# What is scored at most of a clip by models that take clips of any length: the
# attention of a minute takes 16 times the memory of that of 15 seconds.
LONGEST = 60 * audio.SAMPLE_RATE
BUCKET = 16_000  # samples; few lengths, few programs
# Where bundles lie that come with the package; the first is the default.
SHIPPED = pathlib.Path(__file__).parent / 'detectors'
DEFAULT = 'default'


class Known(NamedTuple):
  """What a bundle knows beside the network.

  Attributes:
    card: of the bundle.
    calibration: scores to log-likelihood ratios; None: not calibrated.
    domain: of the recordings that it knows; None: not known.
    dev_scores: float32 [N], that the calibration was fitted on.
    dev_labels: uint8 [N], spoof 0, bona fide 1.
    moments: scores of each 20 ms to log-likelihood ratios; None where the
      detector does not localise.
  """

  card: Card
  calibration: calibration_lib.Affine | None
  domain: domain_lib.Domain | None
  dev_scores: np.ndarray
  dev_labels: np.ndarray
  moments: calibration_lib.Affine | None = None


def open_checkpoint(
  checkpoint: str | os.PathLike,
  model: str | None = None,
  seconds: float | None = None,
  bonafide_label: str | None = None,
) -> tuple[str, nnx.Module, dict[str, Any]]:
  """Reads the best weights of a run, or released ones.

  Args:
    checkpoint: a bundle, the name of one that comes with the package, or
      `hf://OWNER/NAME` of one in a repository of Hugging Face; a workdir of a
      run, a `.pth` of the original AASIST, released weights of a detector on a
      self-supervised encoder, or a directory of a sequence classifier of
      Hugging Face.
    model: name of the model that the checkpoint must be of; None accepts any.
    seconds: how much of each wave is to be scored; None takes as much as the
      evaluation of the run did.
    bonafide_label: of a classifier, see `weights.classifiers.load`, or of a
      released detector, see `weights.ssl_detectors.load`.

  Returns:
    The name of the model, the model with its weights, and keyword arguments for
    `Detector`: `samples` and `loss`, and for all but AASIST's files also
    `bucket`, `shortest` and `classes`, for a classifier and a bundle `notes`,
    and `known` for what was calibrated.

  Raises:
    ValueError: there is no checkpoint, it is of another model, or the model
      needs more seconds.
  """
  path = path_of(checkpoint)
  if model is not None:
    models.variant(model)  # an unknown name is an error of its own
  if store.is_bundle(path):
    _check_no_label(path, bonafide_label)
    name, module, options = _load_bundle(path, model)
  elif path.exists() and ssl_detectors.is_there(path):
    name, module, options = _load_release(path, model, bonafide_label)
  elif classifiers.is_directory(path):
    name, module, options = _load_classifier(path, model, bonafide_label)
  elif path.is_dir():
    _check_no_label(path, bonafide_label)
    name, module, options = _load_run(path, model)
  elif path.is_file():
    _check_no_label(path, bonafide_label)
    name, module, options = _load_original(path, model)
  else:
    raise ValueError(
      f'{path}: no checkpoint there; expected a bundle, the workdir of a run,'
      ' a .pth file of the original AASIST, or a directory of Hugging Face'
    )
  if seconds is not None:
    before = options['samples']
    options['samples'] = _samples(seconds, module.min_samples, name)
    known = options.get('known')
    if known and known.calibration and options['samples'] != before:
      was = before / audio.SAMPLE_RATE
      options['notes'] = (
        *options.get('notes', ()),
        f'scores are of {seconds:g} s, but were calibrated on {was:.2f} s: '
        'probabilities and verdicts may be wrong',
      )
  return name, module, options


def _check_no_label(path: pathlib.Path, bonafide_label: str | None) -> None:
  if bonafide_label is not None:
    raise ValueError(
      f'{path}: a bona fide label is for classifiers of Hugging Face and '
      'released detectors on self-supervised encoders alone'
    )


def path_of(checkpoint: str | os.PathLike) -> pathlib.Path:
  """Where a checkpoint is, also one that comes with the package.

  What is called `hf://OWNER/NAME` is fetched from there.

  Raises:
    BundleError (a ValueError): `hub.fetch` cannot.
  """
  if str(checkpoint).startswith(hub.PREFIX):
    return hub.fetch(str(checkpoint))
  path = pathlib.Path(checkpoint)
  if not path.exists() and path.name in _shipped_names():
    return shipped(path.name)
  return path


def _samples(seconds: float, least: int, model: str) -> int:
  if not math.isfinite(seconds):
    raise ValueError(f'seconds={seconds}: expected a finite number')
  samples = round(seconds * audio.SAMPLE_RATE)
  if samples < least:
    raise ValueError(
      f'{seconds:g} seconds are too few for {model}: it needs'
      f' {least / audio.SAMPLE_RATE:.2f}'
    )
  return samples


def shipped(name: str = DEFAULT) -> pathlib.Path:
  """A bundle that comes with the package.

  Raises:
    ValueError: there is none of this name.
  """
  for path in (SHIPPED / name, SHIPPED / f'{name}.zip'):
    if store.is_bundle(path):
      return path
  known = ', '.join(_shipped_names()) or 'none'
  raise ValueError(
    f'no checkpoint is named, and no detector {name!r} comes with this version '
    f'of jaxspoof (there is: {known}). Give --checkpoint: a detector bundle, '
    'the workdir of a run, such as make demo leaves in runs/aasist_quickstart, '
    'or a .pth file of the original AASIST'
  )


def _shipped_names() -> list[str]:
  """Names of the bundles that come with the package."""
  if not SHIPPED.is_dir():
    return []
  return sorted(
    path.stem for path in SHIPPED.iterdir() if store.is_bundle(path)
  )


def _load_original(
  path: pathlib.Path, model: str | None
) -> tuple[str, nnx.Module, dict]:
  """Name and module of a released `.pth` file, and options of `Detector`."""
  module = aasist_importer.load(path, model)
  names = {known.config: name for name, known in models.VARIANTS.items()}
  options = {'samples': ORIGINAL_SAMPLES, 'loss': losses.CrossEntropy()}
  return names[module.config], module, options


def _load_release(
  path: pathlib.Path, model: str | None, bonafide_label: str | None
) -> tuple[str, nnx.Module, dict]:
  """The same of a released detector on a self-supervised encoder."""
  found = ssl_detectors.read(path, bonafide_label=bonafide_label)
  release = RELEASES[found.kind]
  if model not in (None, release.model):
    raise ValueError(
      f'{path}: checkpoint of another model: of {release.model!r}, not of '
      f'{model!r}'
    )
  options = {
    'samples': release.samples or LONGEST,
    'loss': losses.CrossEntropy(),
    'notes': found.notes,
  }
  if release.samples is None:
    options |= {'bucket': BUCKET, 'shortest': found.module.min_samples}
  return release.model, found.module, options


def _load_classifier(
  path: pathlib.Path, model: str | None, bonafide_label: str | None
) -> tuple[str, nnx.Module, dict]:
  """Name and module of a classifier's directory, and options of `Detector`."""
  if model not in (None, 'mean'):
    raise ValueError(
      f"{path}: checkpoint of another model: a classifier ('mean'), not of"
      f' {model!r}'
    )
  found = classifiers.load(path, bonafide_label)
  options = {
    'samples': LONGEST,
    'bucket': BUCKET,
    'shortest': found.module.min_samples,
    'loss': losses.CrossEntropy(),
    'classes': found.classes,
    'notes': found.notes,
  }
  return 'mean', found.module, options


def _load_bundle(
  path: pathlib.Path, model: str | None
) -> tuple[str, nnx.Module, dict]:
  """Name and module of a bundle, and options of `Detector`."""
  card, tensors = store.read(path)
  _check_model(path, card.system.model.get('name'), model)
  tree = weights_file.nested(
    {k: v for k, v in tensors.items() if k.startswith(_PARTS)}
  )
  params = tree.get('params', {})
  if card.encoder is not None:
    kept = {'encoder_sha256': card.encoder.sha256}
    frontend = {'frontend': card.system.frontend}
    params = frozen.completed(path, frontend, params, kept)
  weights = [params, tree.get('batch_stats', {})]
  if card.input.sample_rate != audio.SAMPLE_RATE:
    raise BundleError(
      f'{path}: takes {card.input.sample_rate} Hz; this version reads '
      f'{audio.SAMPLE_RATE}'
    )
  try:
    name, module, options = _system(
      path, vars(card.system), card.system.classes, weights
    )
  except (ValueError, TypeError, AttributeError) as error:
    if str(error).startswith(str(path)):
      raise
    raise BundleError(
      f'{path}: its card describes no model of this version: {error}'
    ) from error
  if card.input.samples < module.min_samples:
    raise BundleError(
      f'{path}: input.samples={card.input.samples}: the model needs '
      f'{module.min_samples}'
    )
  if card.moments is not None and not module.localises:
    raise BundleError(
      f'{path}: section moments: its model {name!r} has no outputs over time'
    )
  options |= {
    'samples': card.input.samples,
    'bucket': card.input.bucket,
    'shortest': max(card.input.shortest, options['shortest']),
    'notes': card.cautions,
    'known': _known(path, card, tensors),
  }
  return name, module, options


_PARTS = ('params/', 'batch_stats/')


def _known(path, card: Card, tensors: Mapping[str, np.ndarray]) -> Known:
  """What a bundle knows beside the network, with the arrays of its weights."""

  def tensor(name: str, axes: int) -> np.ndarray:
    array = tensors.get(name)
    if array is None or array.ndim != axes or not np.isfinite(array).all():
      raise BundleError(
        f'{path}: {name} is missing or not {axes} axes of finite numbers'
      )
    return array

  affine = domain = None
  scores, labels = np.zeros(0, np.float32), np.zeros(0, np.uint8)
  if (found := card.calibration) is not None:
    affine = calibration_lib.Affine(found.slope, found.intercept)
    scores, labels = tensor('dev/score', 1), tensor('dev/label', 1)
    if scores.shape != labels.shape:
      raise BundleError(f'{path}: dev/score and dev/label differ in length')
  if (found := card.domain) is not None:
    space = None
    if found.distance is not None:
      space = domain_lib.Space(
        tensor('domain/centres', 2),
        tensor('domain/axes', 2),
        tensor('domain/scales', 1),
      )
      space.check(path)
    if unknown := sorted(set(found.ranges) - set(measures.MEASURES)):
      raise BundleError(
        f'{path}: domain.ranges.{unknown[0]} is no measure of this version'
      )
    ranges = {name: tuple(ends) for name, ends in found.ranges.items()}
    domain = domain_lib.Domain(
      ranges, space, found.distance or math.inf, found.clips
    )
  moments = None
  if (found := card.moments) is not None:
    moments = calibration_lib.Affine(found.slope, found.intercept)
  return Known(card, affine, domain, scores, labels, moments)


def _check_model(path, name: str | None, model: str | None) -> None:
  if model not in (None, name):
    raise ValueError(
      f'{path}: checkpoint of another model: a run of {name!r}, not of'
      f' {model!r}'
    )


def _load_run(
  path: pathlib.Path, model: str | None
) -> tuple[str, nnx.Module, dict]:
  """Name and module of a run's best weights, and options of `Detector`."""
  config, params, batch_stats = weights_file.load(path)
  params = frozen.completed(path, config, params)
  if not {'model', 'data', 'loss'} <= config.keys():
    raise ValueError(
      f'{path / names.CONFIG}: expected the config of a training run, with '
      f'model, data and loss; found {", ".join(config) or "nothing"}'
    )
  data = config['data']
  _check_model(path, config['model']['name'], model)
  name, module, options = _system(
    path, config, workdir_lib.load_classes(path), [params, batch_stats]
  )
  options |= {
    'samples': data['eval_samples'],
    'bucket': data['bucket'] if data['padded'] else None,
  }
  bundle = path / names.DETECTOR
  if store.is_bundle(bundle):
    card, tensors = store.read(bundle)
    of = card.training.get('weights_sha256')
    if of != record.file_hash(path / names.WEIGHTS):
      raise BundleError(
        f'{bundle}: made of other weights than {path / names.WEIGHTS}; remove '
        'it, or make it again: python -m jaxspoof.bundle pack'
      )
    options |= {'notes': card.cautions, 'known': _known(bundle, card, tensors)}
  return name, module, options


def _system(
  path: pathlib.Path,
  config: Mapping[str, Any],
  classes: tuple[str, ...],
  weights: list,
) -> tuple[str, nnx.Module, dict]:
  """Name and module of a config with its weights, and options of `Detector`.

  Args:
    path: of the checkpoint, for messages.
    config: the sections `model`, `loss` and maybe `frontend` of a run.
    classes: what the outputs stand for.
    weights: parameters and statistics.
  """
  loss = losses.make(
    config_lib.section(losses.LossConfig, config['loss'], 'config.loss'),
    len(classes),
  )
  system = models.system(
    config['model'],
    config.get('frontend', ''),
    head=loss.head,
    classes=len(classes),
  )
  # Abstract: the shapes are known without drawing a single weight.
  graphdef, *expected = state_lib.split(system.abstract())
  _check_weights(path, expected, weights)
  # Of half precision they are kept to be small, not to be computed with.
  weights = jax.tree.map(
    lambda found, wanted: np.asarray(found, wanted.dtype),
    list(weights),
    list(expected),
  )
  module = state_lib.merge(graphdef, *weights)
  if hasattr(getattr(module, 'frontend', None), 'merge'):
    module.frontend.merge()
  options = {
    'shortest': system.min_samples,
    'loss': loss,
    'classes': tuple(classes),
  }
  return config['model']['name'], module, options


def _check_weights(path: pathlib.Path, expected: Any, found: Any) -> None:
  """Raises ValueError unless all weights have the expected shapes."""
  expected, found = (
    {
      jax.tree_util.keystr(keys[1:]): leaf.shape
      for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    for tree in (expected, found)
  )
  differing = [
    f'{name} is {found.get(name, "missing")}, expected'
    f' {expected.get(name, "no such weight")}'
    for name in sorted({*expected, *found})
    if expected.get(name) != found.get(name)
  ]
  if differing:
    raise ValueError(
      f'{path}: its weights do not fit the model of its config.json in'
      f' {len(differing)} places: {"; ".join(differing[:3])}'
    )


def described(checkpoint: str, model: str) -> dict[str, str]:
  """Which checkpoint it is.

  Returns:
    `path`, `model`, `sha256` of its weights, and `selected_on`: what they were
    selected by, in words.
  """
  path = path_of(checkpoint)
  selected_on = f'their authors, who released them as {path.name}'
  if store.is_bundle(path):
    card = store.read_card(path)
    unknown = 'words that its bundle does not keep'
    return {
      'path': str(checkpoint),
      'model': model,
      'sha256': card.weights.sha256,
      'selected_on': card.training.get('selected_on') or unknown,
    }
  if path.is_dir() and not (path / names.WEIGHTS).is_file():
    path = tensor_files.weights_of(path)
  elif path.is_dir():
    selected_on = f'the training so far: the run {path} has not ended'
    ended = names.json_or_none(path / names.METRICS)
    if ended is not None:
      selected_on = ended.get('selected_on', 'words that its run did not keep')
    path = path / names.WEIGHTS
  return {
    'path': str(checkpoint),
    'model': model,
    'sha256': record.file_hash(path),
    'selected_on': selected_on,
  }


def trained_on(checkpoint: str | os.PathLike) -> dict[str, Any]:
  """The corpus of a checkpoint and the roles of its splits.

  Returns:
    At least `name`, `train` and `dev`, as the section `data` of a run; empty
    for weights of others, of which nothing is known.
  """
  path = path_of(checkpoint)
  if store.is_bundle(path):
    training = store.read_card(path).training
    data = {'name': training.get('corpus'), **training.get('splits', {})}
  elif path.is_dir():
    data = (names.json_or_none(path / names.CONFIG) or {}).get('data', {})
  else:
    return {}
  return data if {'name', 'train', 'dev'} <= data.keys() else {}


def used_before(
  checkpoint: str | os.PathLike, corpus: str, splits: Sequence[str]
) -> list[str]:
  """Which of some splits a checkpoint was trained or selected on, in words."""
  data, found = trained_on(checkpoint), []
  if not data:
    return []
  for split in splits:
    for role, verb in (('train', 'trained'), ('dev', 'selected')):
      for part in splits_lib.parts(data['name'], data[role]):
        if part.corpus == corpus and config_lib.shared_splits(
          split, part.split
        ):
          found.append(
            f'the checkpoint was {verb} on split {part.split!r} of this '
            f'corpus: what it does on {split!r} says nothing about new '
            'recordings'
          )
  return found
