"""AASIST's graphs on the encoder of Whisper tiny.en, which pip brings.

pip install -e '.[whisper-tiny]' -c .ci/constraints.txt

The first trains on ASVspoof 2019 LA, which must be built before:
`tfds_builders/asvspoof2019/README.md` says how. The others build their own.

python run.py --config=configs/whisper_aasist.py             a frozen encoder
python run.py --config=configs/whisper_aasist.py:tuned       it is trained, too
python run.py --config=configs/whisper_aasist.py:quickstart  minutes on a laptop
python run.py --config=configs/whisper_aasist.py:smoke       seconds, random

The features are those behind the first of the four layers: of a linear
classifier on mean and deviation over time of each state, on the embedded
corpus, those of the first two states were best on dev (4.1 and 5.1 % EER) and
those of the last, which know what is said, worst (17 %).

Other weights of Whisper, once for a frozen encoder:

  --config.frontend.weights=PATH
  --config.data.features_cache=DIR

The front end is that of Kawa et al. 2023 (arXiv 2306.01428), with another back
end: no published system is reproduced.
"""

import ml_collections

from configs import common
from configs.ssl_ecapa import ENCODER


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(
    variant,
    {'': frozen, 'tuned': tuned, 'quickstart': quickstart, 'smoke': smoke},
  )


def frozen() -> ml_collections.ConfigDict:
  config = common.training()
  config.model = common.model('ssl_aasist')
  config.frontend = common.frontend(
    'whisper', weights='package:whisper-tiny.en', output='layer', layer=1
  )
  config.optim.groups = ((ENCODER, {'frozen': True}),)
  config.epochs = 30
  return config


def tuned() -> ml_collections.ConfigDict:
  config = frozen()
  config.optim.groups = (
    ('frontend/encoder/positions', {'frozen': True}),  # as in Whisper
    (ENCODER, {'learning_rate_factor': 0.1}),
  )
  return config


def quickstart() -> ml_collections.ConfigDict:
  """A narrow back end on two seconds: for CPUs."""
  config = frozen()
  common.on_quickstart(config)
  config.model = common.model('ssl_aasist_s')
  config.epochs = 8
  config.data.samples = 32_000
  config.optim.learning_rate = 1e-3
  config.optim.learning_rate_min = 2e-5
  config.optim.warmup_steps = 20
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny encoder, tiny model, tiny corpus."""
  config = quickstart()
  common.on_tiny(config)
  config.frontend.weights = 'random:miniature'
  config.model = common.model(
    'ssl_aasist',
    projection=12,
    channels=(4, 4),
    attention_channels=4,
    gat_dims=(8, 8),
  )
  return config
