"""RawNet2 (Tak et al. 2021), the baseline of ASVspoof 2021 LA.

The recipe is the baseline's: 100 epochs of Adam at 1e-4, batches of 32,
weighted cross-entropy, crops of 64,600 samples. Ours are the cosine schedule,
and that the best weights on dev count.

python run.py --config=configs/rawnet2.py             ASVspoof 2019 LA
python run.py --config=configs/rawnet2.py:quickstart  minutes on a laptop
python run.py --config=configs/rawnet2.py:smoke       seconds, learns nothing
"""

import ml_collections

from configs import common


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(
    variant, {'': paper, 'quickstart': quickstart, 'smoke': smoke}
  )


def paper() -> ml_collections.ConfigDict:
  config = common.training()
  config.model = common.model('rawnet2')
  config.average = 'none'
  config.data.batch = 32
  config.data.eval_batch = 32
  return config


def quickstart() -> ml_collections.ConfigDict:
  """A narrow network on one-second crops: for CPUs."""
  config = paper()
  common.on_quickstart(config)
  config.epochs = 20
  config.model = common.model(
    'rawnet2', sinc_taps=128, gru_nodes=64, gru_layers=1, embedding=64
  )
  config.optim.learning_rate = 1e-3
  config.optim.learning_rate_min = 2e-5
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny model, tiny corpus."""
  config = quickstart()
  common.on_tiny(config)
  config.model = common.model(
    'rawnet2',
    sinc_filters=4,
    sinc_taps=32,
    channels=(4, 6),
    gru_nodes=4,
    gru_layers=1,
    embedding=4,
  )
  return config
