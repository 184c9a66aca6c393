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

import ml_collections

from configs import common


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(
    variant,
    {'': paper, 'l': light, 'quickstart': quickstart, 'smoke': smoke},
  )


def paper() -> ml_collections.ConfigDict:
  config = common.training()
  config.model = common.model('aasist')
  return config


def light() -> ml_collections.ConfigDict:
  config = paper()
  config.model = common.model('aasist_l')
  return config


def quickstart() -> ml_collections.ConfigDict:
  """AASIST-S, narrower than AASIST-L, on one-second crops: for CPUs.

  Without dropout: so small a model in so few steps does not overfit, and with
  the paper's rates it hardly learns.
  """
  config = paper()
  common.on_quickstart(config)
  config.epochs = 8
  config.model = common.model('aasist_s')
  config.optim.learning_rate = 1e-3
  config.optim.learning_rate_min = 2e-5
  config.optim.warmup_steps = 20
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny model, tiny corpus."""
  config = quickstart()
  common.on_tiny(config)
  config.model = common.model(
    'aasist_s',
    sinc_filters=12,
    sinc_taps=32,
    channels=(4, 4, 4),
    gat_dims=(8, 8),
    input_dropout=0.2,
    pool_dropout=0.3,
    way_dropout=0.2,
    output_dropout=0.5,
    freq_mask_limit=4,
  )
  return config
