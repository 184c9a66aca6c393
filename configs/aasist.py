"""AASIST (Jung et al., ICASSP 2022) with the recipe of its authors.

The first two train on ASVspoof 2019 LA, which must be built before:
`tfds_builders/asvspoof2019/README.md` says how. The others build their own.

python run.py --config=configs/aasist.py             AASIST, 297,866 weights
python run.py --config=configs/aasist.py:l           AASIST-L, 85,306 weights
python run.py --config=configs/aasist.py:quickstart  minutes on a laptop
python run.py --config=configs/aasist.py:smoke       seconds, learns nothing

RawBoost is off, as in the paper. With it, as its authors trained for telephone
channels (ASVspoof 2021 LA; algo 3 for DF):

  --config.data.augment=rawboost --config.data.rawboost.algo=5
"""

import dataclasses

import ml_collections

from jaxspoof import models
from jaxspoof.data import augment


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  variants = {
    '': paper,
    'l': light,
    'quickstart': quickstart,
    'smoke': smoke,
  }
  if variant not in variants:
    known = ', '.join(sorted(filter(None, variants)))
    raise ValueError(f'unknown variant {variant!r}; known: {known}')
  return variants[variant]()


def paper() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.job = 'train'
  config.seed = 1234
  config.epochs = 100
  config.average = 'swa'
  config.checkpoint_every = 500  # steps
  config.log_every = 50  # steps
  config.resamples = 1000  # of the bootstrap

  config.model = model('aasist')

  config.data = ml_collections.ConfigDict()
  config.data.name = 'asvspoof2019_la'
  config.data.data_dir = ml_collections.config_dict.placeholder(str)
  config.data.build = True  # where it is missing
  config.data.train = 'train'
  config.data.dev = 'dev'
  config.data.eval = ('eval',)
  config.data.samples = 64_600  # at 16 kHz, 4.04 s
  config.data.eval_samples = 64_600
  config.data.batch = 24  # clips, over all devices
  config.data.eval_batch = 24
  config.data.workers = 2  # processes that decode
  config.data.balanced = False  # halves of bona fide and spoof
  config.data.augment = 'none'  # 'rawboost'; 'a+b': a, then b
  for name, kind in augment.CONFIGS.items():
    config.data[name] = ml_collections.ConfigDict(dataclasses.asdict(kind()))

  config.optim = ml_collections.ConfigDict()
  config.optim.learning_rate = 1e-4
  config.optim.learning_rate_min = 5e-6
  config.optim.b1 = 0.9
  config.optim.b2 = 0.999
  config.optim.eps = 1e-8
  config.optim.weight_decay = 1e-4  # coupled: L2 in the gradient
  config.optim.warmup_steps = 0
  config.optim.clip_norm = 0.0  # 0: off

  config.loss = ml_collections.ConfigDict()
  config.loss.name = 'weighted_cross_entropy'
  config.loss.weights = (0.1, 0.9)  # spoof, bona fide

  config.mesh = ml_collections.ConfigDict()
  config.mesh.devices = 0  # 0: all that are visible
  return config


def light() -> ml_collections.ConfigDict:
  config = paper()
  config.model = model('aasist_l')
  return config


def quickstart() -> ml_collections.ConfigDict:
  """AASIST-S, narrower than AASIST-L, on one-second crops: for CPUs."""
  config = paper()
  config.epochs = 5
  config.average = 'none'
  config.log_every = 20
  config.model = model('aasist_s')
  config.data.name = 'quickstart'
  config.data.eval = ('eval', 'eval_hard')
  config.data.samples = 16_000
  config.data.eval_samples = 32_000
  config.data.batch = 16
  config.data.eval_batch = 16
  config.data.workers = 0
  config.data.balanced = True
  config.optim.learning_rate = 2e-3
  config.optim.learning_rate_min = 2e-5
  config.optim.warmup_steps = 20
  config.loss.weights = (0.5, 0.5)
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny model, tiny corpus."""
  config = quickstart()
  config.epochs = 2
  config.average = 'swa'
  config.model = model(
    'aasist_s',
    sinc_filters=12,
    sinc_taps=32,
    channels=(4, 4, 4),
    gat_dims=(8, 8),
    freq_mask_limit=4,
  )
  config.data.name = 'quickstart/tiny'
  config.data.samples = 8_000
  config.data.eval_samples = 8_000
  config.data.batch = 8
  config.data.eval_batch = 8
  config.optim.warmup_steps = 0
  config.log_every = 1
  config.resamples = 100
  return config


def model(name: str, **changes) -> ml_collections.ConfigDict:
  """A published variant with some fields changed."""
  fields, _ = models.variant(name, **changes)
  return ml_collections.ConfigDict({'name': name, **dataclasses.asdict(fields)})
