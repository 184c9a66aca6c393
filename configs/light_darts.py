"""Light-DARTS: trains the network of a genotype.

The recipe follows PC-DARTS for anti-spoofing (Ge et al., Interspeech 2021): 100
epochs, Adam from 1e-3 to 1e-4, drop-path, weighted cross-entropy. Ours are the
batch of 64 (there 128), clips of 64,600 samples, log-mel features that are not
masked, and a drop-path of 0.2 from the start (there it grows to it).

python run.py --config=configs/light_darts.py             ASVspoof 2019 LA
python run.py --config=configs/light_darts.py:quickstart  minutes on a CPU
python run.py --config=configs/light_darts.py:smoke       seconds

Without a genotype it is the hand-made default of the space 'light'. Others:

  --config.genotype=runs/light_darts_search/genotype.json   what a search found
  --config.genotype=pc_darts                                a published one

The published cells in the network of their authors, PC-DARTS 4 x 16 (147,274
parameters) and Raw PC-DARTS, whose recurrent layers are a mean over time here:

  --config.genotype=pc_darts --config.model.num_cells=4 \
  --config.frontend.name=lfcc

  --config.genotype=raw_pc_darts --config.model.channels=64 \
  --config.loss.name=p2sgrad '--config.loss.weights=()'
"""

import dataclasses

import ml_collections
from ml_collections import config_dict

from configs import common
from jaxspoof.darts.network.light_darts import LightDartsConfig


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(
    variant, {'': paper, 'quickstart': quickstart, 'smoke': smoke}
  )


def paper() -> ml_collections.ConfigDict:
  config = common.training()
  config.job = 'train_genotype'
  config.genotype = ''  # a file, a published name; '': the hand-made default
  config.average = 'none'
  config.model = model()
  config.model.drop_path = 0.2
  config.data.batch = 64
  config.data.eval_batch = 64
  config.optim.learning_rate = 1e-3
  config.optim.learning_rate_min = 1e-4
  config.optim.weight_decay = 3e-4
  return config


def quickstart() -> ml_collections.ConfigDict:
  """Few narrow cells on one-second crops, as its search: for CPUs."""
  config = paper()
  common.on_quickstart(config)
  config.epochs = 40
  config.optim.learning_rate = 3e-3
  config.model.num_cells = 3
  config.model.channels = 8
  config.model.drop_path = 0.0
  config.data.eval_samples = 16_000
  config.optim.warmup_steps = 20
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny network, tiny corpus."""
  config = quickstart()
  common.on_tiny(config)
  config.average = 'none'
  config.model.channels = 4
  return config


def model() -> ml_collections.ConfigDict:
  """The network; what depends on the space follows from the genotype."""
  fields = dataclasses.asdict(LightDartsConfig())
  fields['space'] = ''
  fields['pool_norm'] = config_dict.placeholder(bool)
  del fields['genotype']
  return ml_collections.ConfigDict({'name': 'light_darts', **fields})
