"""LFCC-LCNN with LSTMs (Wang & Yamagishi 2021), the baseline of ASVspoof 2021.

The recipe is the baseline's: 60 LFCCs, Adam at 3e-4, batches of 64. Ours are
clips of one length, two logits in place of a sigmoid, and a cosine schedule.

python run.py --config=configs/lcnn.py             ASVspoof 2019 LA
python run.py --config=configs/lcnn.py:quickstart  minutes on a laptop
python run.py --config=configs/lcnn.py:smoke       seconds, learns nothing

Other features and losses:

  --config.frontend.name=log_mel
  --config.loss.name=p2sgrad '--config.loss.weights=()'
"""

import ml_collections

from configs import common


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(
    variant, {'': paper, 'quickstart': quickstart, 'smoke': smoke}
  )


def paper() -> ml_collections.ConfigDict:
  config = common.training()
  config.model = common.model('lcnn')
  config.average = 'none'
  config.data.batch = 64
  config.data.eval_batch = 64
  config.loss.weights = ()
  config.optim.learning_rate = 3e-4
  config.optim.weight_decay = 0.0
  return config


def quickstart() -> ml_collections.ConfigDict:
  """Half as wide, on one-second crops: for CPUs."""
  config = paper()
  common.on_quickstart(config)
  config.epochs = 20
  config.model.width = 0.5
  config.optim.learning_rate = 1e-3
  config.optim.learning_rate_min = 2e-5
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny model, tiny corpus."""
  config = quickstart()
  common.on_tiny(config)
  config.model.width = 0.125
  return config
