"""Sections that the config files share; a file changes what is its own."""

import dataclasses
import types
import typing
from collections.abc import Mapping

import ml_collections
from ml_collections import config_dict

from jaxspoof import frontends, losses, models
from jaxspoof.data import augment


def choose(variant: str, variants: dict) -> ml_collections.ConfigDict:
  """The config of a variant, `configs/x.py:variant`.

  Raises:
    ValueError: not one of `variants`; names them.
  """
  if variant not in variants:
    known = ', '.join(sorted(filter(None, variants)))
    raise ValueError(f'unknown variant {variant!r}; known: {known}')
  return variants[variant]()


def training() -> ml_collections.ConfigDict:
  """A training run on ASVspoof 2019 LA, but for the model."""
  config = ml_collections.ConfigDict()
  config.job = 'train'
  config.task = 'detection'
  config.seed = 1234
  config.epochs = 100
  config.init = config_dict.placeholder(str)  # weights to start from
  config.average = 'swa'
  config.checkpoint_every = 500  # steps
  config.log_every = 50  # steps
  config.resamples = 1000  # of the bootstrap
  config.frontend = frontend()
  config.data = data()
  config.optim = ml_collections.ConfigDict()
  config.optim.learning_rate = 1e-4
  config.optim.learning_rate_min = 5e-6
  config.optim.b1 = 0.9
  config.optim.b2 = 0.999
  config.optim.eps = 1e-8
  config.optim.weight_decay = 1e-4  # coupled: L2 in the gradient
  config.optim.warmup_steps = 0
  config.optim.clip_norm = 0.0  # 0: off
  config.optim.groups = ()  # (('tdnn/.*', {'frozen': True}),): see `optim`
  config.loss = loss('weighted_cross_entropy', weights=(0.1, 0.9))
  config.mesh = ml_collections.ConfigDict()
  config.mesh.devices = 0  # 0: all that are visible
  return config


def data() -> ml_collections.ConfigDict:
  """ASVspoof 2019 LA in clips of 64,600 samples, as AASIST's authors."""
  data = ml_collections.ConfigDict()
  data.name = 'asvspoof2019_la'
  data.data_dir = config_dict.placeholder(str)
  data.build = True  # where it is missing
  data.train = 'train'
  data.dev = 'dev'
  data.select = 'mean'  # of several corpora, 'a+b', or 'worst'
  data.eval = ('eval',)
  data.samples = 64_600  # at 16 kHz, 4.04 s
  data.eval_samples = 64_600
  data.padded = False  # short clips: repeated, or zeros that are masked
  data.bucket = 16_000  # samples
  data.batch = 24  # clips, over all devices
  data.eval_batch = 24
  data.workers = 2  # processes that decode
  data.balanced = False  # as many clips of each class
  data.weights = ()  # shares of several corpora; (): those of their clips
  data.augment = 'none'  # 'conditions', 'rawboost'; 'a+b': both
  data.features_cache = config_dict.placeholder(str)  # of frozen encoders
  data.features_views = config_dict.placeholder(int)  # epochs, see `config`
  for name, kind in augment.CONFIGS.items():
    data[name] = ml_collections.ConfigDict(dataclasses.asdict(kind()))
  return data


def on_quickstart(config: ml_collections.ConfigDict) -> None:
  """Changes a training run to the embedded corpus, for CPUs."""
  config.average = 'none'
  config.log_every = 20
  config.data.name = 'quickstart'
  config.data.eval = ('eval', 'eval_hard')
  config.data.samples = 16_000
  config.data.eval_samples = 32_000
  config.data.batch = 16
  config.data.eval_batch = 16
  config.data.workers = 0
  config.data.balanced = True
  config.loss.weights = ()


def on_tiny(config: ml_collections.ConfigDict) -> None:
  """Changes a quickstart run to seconds, which learn nothing."""
  config.epochs = 2
  config.average = 'swa'
  config.data.name = 'quickstart/tiny'
  config.data.samples = 8_000
  config.data.eval_samples = 8_000
  config.data.batch = 8
  config.data.eval_batch = 8
  config.optim.warmup_steps = 0
  config.log_every = 1
  config.resamples = 100


def loss(name: str, **fields) -> ml_collections.ConfigDict:
  """A loss; of the fields it has, those not named keep its defaults."""
  section = ml_collections.ConfigDict(
    dataclasses.asdict(losses.LossConfig(name=name, weights=()))
  )
  for field in ('margin', 'scale', 'margin_bona_fide', 'margin_spoof', 'gamma'):
    section[field] = config_dict.placeholder(float)
  section.easy_margin = config_dict.placeholder(bool)
  section.update(fields)
  return section


def model(name: str, **changes) -> ml_collections.ConfigDict:
  """A named variant of a model with some fields changed."""
  fields, _ = models.variant(name, **changes)
  fields = dataclasses.asdict(fields)
  return ml_collections.ConfigDict({'name': name, **fields})


def frontend(name: str = '', **fields) -> ml_collections.ConfigDict:
  """What a model is given of a wave.

  Args:
    name: a key of `frontends.FRONTENDS`; '' for the model's own.
    **fields: to change; all others are as the named front end has them. Those
      of a section within, such as `parts`, can be changed one by one, too.
  """
  section = ml_collections.ConfigDict({'name': name})
  for kind in frontends.KINDS:
    for field in dataclasses.fields(kind):
      first = field.type
      if isinstance(first, types.UnionType):  # with None, which all may be
        first = typing.get_args(first)[0]
      # A section within the section has no type that could be kept to.
      inside = typing.Any in (first, *typing.get_args(first))
      held = object if inside else typing.get_origin(first) or first
      section[field.name] = config_dict.placeholder(held)
  for field, value in fields.items():
    if isinstance(value, Mapping):
      del section[field]  # a placeholder would keep it whole
    section[field] = value
  return section
