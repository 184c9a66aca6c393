"""Configuration of a run as frozen dataclasses.

Files in `configs/` return an `ml_collections.ConfigDict`, which the command
line can override. At the start of a job the dictionary becomes the types
below; a field that does not exist is an error that names its neighbours.
"""

import dataclasses
import difflib
import math
import numbers
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from jaxspoof import losses, optim
from jaxspoof.data import augment as augment_lib
from jaxspoof.data.conditions.training import ConditionsConfig
from jaxspoof.data.rawboost import RawBoostConfig
from jaxspoof.runs import splits as splits_lib


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Corpus, splits and batches.

  Attributes:
    name: corpus, such as 'quickstart' or 'asvspoof2019_la', or
      `corpus/builder_config`; own recordings are `wav_folder/NAME`. Training
      takes several, 'a+b'; then each of the splits below is one that all of
      them have, or one for each in their order, separated by commas.
    data_dir: where built corpora lie; None for the TFDS default.
    build: build the corpus first where it is missing.
    train: split whose clips are trained on.
    dev: split that selects the checkpoint.
    select: how the errors on the dev splits of several corpora become the one
      that selects: their 'mean', or the 'worst'. 'last' selects by none: the
      weights of the last epoch are taken, and dev is only reported.
    eval: splits scored once, after training; the first gives the headline.
    samples: samples of a training crop, at 16 kHz.
    eval_samples: first samples of a clip that evaluation scores.
    padded: if True, clips shorter than a crop are filled up with zeros, and the
      model is told how many samples are valid; it must take clips of any
      length. If False they are repeated until they are long enough.
    bucket: in evaluation, padded clips of similar length share a batch: each
      length is rounded up to a multiple of this many samples.
    batch: number of clips in a training batch, over all devices and hosts.
    eval_batch: number of clips in an evaluation batch, likewise over all.
    workers: number of processes that decode and crop; 0 uses threads of the
      training process.
    balanced: if True, each batch holds equally many clips of every class; in
      detection, half are bona fide and half are spoof.
    weights: share of each corpus in the training batches, and with `balanced`
      in each class, as far as the corpus has it; empty for that of its clips.
    augment: what is done to training clips before they are cropped: 'none', a
      key of `data.augment.AUGMENTATIONS`, or several one after the other,
      'a+b'.
    conditions: settings of the augmentation 'conditions'.
    rawboost: settings of the augmentation 'rawboost'.
    features_cache: folder where the features of a frozen encoder are kept: they
      are computed once, and the rest of the model is trained from them. None
      computes them in every step.
    features_views: number of epochs whose crops and augmentations are kept;
      those of later epochs are these again. As many as there are epochs train
      as without a cache. None: one.
  """

  name: str
  data_dir: str | None = None
  build: bool = False
  train: str = 'train'
  dev: str = 'dev'
  select: str = 'mean'
  eval: tuple[str, ...] = ('eval',)
  samples: int = 64_600
  eval_samples: int = 64_600
  padded: bool = False
  bucket: int = 16_000
  batch: int = 24
  eval_batch: int = 24
  workers: int = 0
  balanced: bool = False
  weights: tuple[float, ...] = ()
  augment: str = 'none'
  conditions: ConditionsConfig = ConditionsConfig()
  rawboost: RawBoostConfig = RawBoostConfig()
  features_cache: str | None = None
  features_views: int | None = None

  def __post_init__(self):
    for name in ('samples', 'eval_samples', 'bucket'):
      if (value := getattr(self, name)) < 1:
        raise ValueError(f'data.{name}={value}: needs at least 1 sample')
    if self.select not in ('mean', 'worst', 'last'):
      raise ValueError(
        f"data.select={self.select!r}: expected 'mean', 'worst' or 'last'"
      )
    count = len(splits_lib.corpora(self.name))
    if self.weights and not (
      len(self.weights) == count and all(_is_share(w) for w in self.weights)
    ):
      raise ValueError(
        f'data.weights={self.weights}: expected {count} numbers above 0, one '
        f'for each corpus of data.name={self.name!r}'
      )
    if self.features_views is not None and self.features_views < 1:
      raise ValueError(
        f'data.features_views={self.features_views}: needs at least 1'
      )
    for name in augment_lib.split(self.augment):
      if name not in augment_lib.AUGMENTATIONS:
        known = ['none', *augment_lib.AUGMENTATIONS]
        raise ValueError(
          f'data.augment={self.augment!r}: {name!r} is unknown:'
          f' {near(name, known)}'
        )


def _is_share(value: Any) -> bool:
  return _is(value, float) and value > 0


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """The devices of a run.

  Attributes:
    devices: number of devices that the batch is divided over; 0 takes all that
      are visible.
  """

  devices: int = 0


@dataclasses.dataclass(frozen=True)
class RunConfig:
  """A training run.

  Attributes:
    seed: seed of the initial weights, the order of clips, crops and dropout.
    epochs: number of passes over the train split.
    model: `name` of the model, a key of `models.VARIANTS`, and fields of its
      config that differ.
    data: corpus, splits and batches.
    optim: optimiser and schedule.
    loss: training loss; the last layer of the model follows from it.
    frontend: the front end between wave and model: `name`, a key of
      `frontends.FRONTENDS`, and fields that differ; '' is the front end that
      the model has by default.
    init: weights to start from instead of random ones: the workdir of a run of
      the same model, or a released file, see `weights.start`; None for none.
    task: 'detection' (bona fide or spoof), or 'source_tracing' (which attack).
    mesh: the devices that the batch is divided over.
    average: 'none'; 'swa': average the weights of every epoch that set a new
      best on dev; or 'late': those of every epoch of the second half. The
      average is used if it is better on dev than any single epoch.
    checkpoint_every: number of steps between checkpoints; the end of each epoch
      is one too.
    log_every: number of steps between lines of the log.
    resamples: number of bootstrap resamples for the intervals of the result.
  """

  seed: int
  epochs: int
  model: Mapping[str, Any]
  data: DataConfig
  optim: optim.OptimConfig
  loss: losses.LossConfig
  mesh: MeshConfig
  frontend: Mapping[str, Any] | str = ''
  init: str | None = None
  task: str = 'detection'
  average: str = 'none'
  checkpoint_every: int = 500
  log_every: int = 50
  resamples: int = 1000


AVERAGES = ('none', 'swa', 'late')
# Values of fields by the names that they had before.
_RENAMED = {('job', 'attribution'): 'source_tracing'}
_RENAMED |= {('task', 'recognition'): 'source_tracing'}
_SECTIONS = {'recognition': 'source_tracing'}


def modern(values: Mapping[str, Any]) -> dict[str, Any]:
  """The config of a job with the names that jobs, tasks and sections have now.

  Args:
    values: the config as a dictionary, of this version or of an earlier one.
  """
  return {
    _SECTIONS.get(name, name): _RENAMED.get((name, value), value)
    if isinstance(value, str)
    else value
    for name, value in values.items()
  }


def near(name: str, known: Iterable[str]) -> str:
  """A hint for a misspelt name: the most similar known ones, or all."""
  known = sorted(known)
  close = difflib.get_close_matches(name, known, n=3, cutoff=0.6)
  if close:
    return f'did you mean {" or ".join(map(repr, close))}?'
  return f'known: {", ".join(known)}'


def section(kind: type, values: Mapping[str, Any], where: str):
  """Fills one dataclass from a section of a config.

  A field that is a dataclass itself is a section within the section.

  Raises:
    ValueError: a field that `kind` does not have, one that is missing, or a
      value of another type.
  """
  fields = {field.name: field for field in dataclasses.fields(kind)}
  values = dict(values)
  for name, field in fields.items():
    if dataclasses.is_dataclass(field.type):
      inner = values.get(name, {})
      values[name] = section(field.type, inner, f'{where}.{name}')
  for name in values:
    if name not in fields:
      raise ValueError(
        f'unknown config field {where}.{name}: {near(name, fields)}'
      )
  required = {n for n, f in fields.items() if f.default is f.default_factory}
  if missing := sorted(required - set(values)):
    raise ValueError(f'config section {where} lacks {", ".join(missing)}')
  frozen = {
    name: tuple(value) if isinstance(value, list) else value
    for name, value in values.items()
  }
  for name, value in frozen.items():
    if not _is(value, fields[name].type):
      raise ValueError(
        f'{where}.{name}={value!r}: expected {_words(fields[name].type)}'
      )
  return kind(**frozen)


def _is(value: Any, kind: Any) -> bool:
  """Whether a value is of a field's type; of containers, whether it is one."""
  if isinstance(kind, types.UnionType):
    return any(_is(value, one) for one in kind.__args__)
  if kind is Any:
    return True
  if value is None or isinstance(value, bool):
    return type(value) is kind
  if kind is float:
    return isinstance(value, numbers.Real) and math.isfinite(value)
  kind = numbers.Integral if kind is int else typing.get_origin(kind) or kind
  return isinstance(value, kind)


def _words(kind: Any) -> str:
  """A field's type as a person says it."""
  if isinstance(kind, types.UnionType):
    return ' or '.join(_words(one) for one in kind.__args__)
  words = {int: 'a whole number', float: 'a finite number', str: 'a text'}
  words |= {bool: 'True or False', types.NoneType: 'None', tuple: 'a list'}
  kind = typing.get_origin(kind) or kind
  return words.get(kind, 'a section')


def job_section(kind: type, values: Mapping[str, Any]):
  """Fills the dataclass of a job from its whole config; see `section`."""
  fields = {name: value for name, value in values.items() if name != 'job'}
  return section(kind, fields, 'config')


def split_names(split: str) -> set[str]:
  """Names in a TFDS split: `train[:10%]+dev` is made of train and dev."""
  return {part.partition('[')[0].strip() for part in split.split('+')}


def shared_splits(one: str, other: str) -> set[str]:
  """Names that two TFDS splits have in common; 'all' is made of every one."""
  names, others = split_names(one), split_names(other)
  return names | others if 'all' in names | others else names & others


def check_splits(data: DataConfig) -> None:
  """Refuses to report on what is trained or selected on."""
  if not data.eval:
    raise ValueError('data.eval is empty: expected the splits to report on')
  train = splits_lib.parts(data.name, data.train)
  dev = splits_lib.parts(data.name, data.dev)
  for one, other in zip(train, dev, strict=True):
    if one.split == other.split:
      raise ValueError(
        f'data.dev and data.train are both {one.split!r}: expected a dev split '
        'that is not trained on'
      )
  for split in data.eval:
    for n, part in enumerate(splits_lib.parts(data.name, split)):
      for role, used in (('train', train[n]), ('dev', dev[n])):
        if shared := shared_splits(part.split, used.split):
          raise ValueError(
            f'data.{role}={getattr(data, role)!r} and data.eval={data.eval} '
            f'share {", ".join(sorted(shared))}: a result on it would be a leak'
          )


def run_config(values: Mapping[str, Any]) -> RunConfig:
  """The typed config of a training run from its dictionary."""
  config = job_section(RunConfig, values)
  check_splits(config.data)
  if config.data.select == 'last' and config.average != 'none':
    raise ValueError(
      f"average={config.average!r} with data.select='last': whether an average "
      "is taken is selected on dev, expected average='none'"
    )
  if config.average not in AVERAGES:
    raise ValueError(
      f'average={config.average!r}: expected one of {", ".join(AVERAGES)}'
    )
  return config
