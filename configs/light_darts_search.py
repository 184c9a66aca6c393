"""Light-DARTS: searches the cells of a countermeasure by gradient descent.

The schedule is that of PC-DARTS for anti-spoofing (Ge et al., Interspeech
2021): the train split in two halves, 50 epochs, ten of them warm-up, batches of
64, Adam at 6e-4 for the architecture. As in DARTS (Liu et al., ICLR 2019) the
weights learn by SGD; Ge et al. have --config.weights.optimizer=adam, 1e-2 to
1e-3, and LFCCs where log-mel features are the default here.

The space 'light' is ours: the candidates of Light-DARTS (Wang et al. 2022) are
not published. Space, width and clips are larger than a CPU likes; the
quickstart is for CPUs.

python run.py --config=configs/light_darts_search.py             ASVspoof 2019
python run.py --config=configs/light_darts_search.py:quickstart  minutes, on CPU
python run.py --config=configs/light_darts_search.py:smoke       seconds

then, with the cells that were found:

python run.py --config=configs/light_darts.py \
  --config.genotype=runs/light_darts_search/genotype.json

Often changed:

  --config.cost_weight=0.5      smaller networks
  --config.arch.order=exact     second order; slower, see benchmarks/search.py
  --config.model.space=darts    the space of DARTS
"""

import dataclasses

import ml_collections
from ml_collections import config_dict

from configs import common
from jaxspoof.config import DataConfig
from jaxspoof.darts.network.supernet import SupernetConfig
from jaxspoof.darts.search.config import SearchConfig


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(
    variant, {'': paper, 'quickstart': quickstart, 'smoke': smoke}
  )


def paper() -> ml_collections.ConfigDict:
  """All fields are explained in `jaxspoof/darts/search/config.py`."""
  fields = dataclasses.asdict(
    SearchConfig(model={}, data=DataConfig(''), frontend={})
  )
  config = ml_collections.ConfigDict({'job': 'search', **fields})
  model = dataclasses.asdict(SupernetConfig())
  # None: the default of the space.
  model['edge_normalisation'] = config_dict.placeholder(bool)
  config.frontend = common.frontend()
  config.model = ml_collections.ConfigDict(model)
  config.data = common.data()
  config.data.batch = 64
  config.data.eval_batch = 64
  config.loss = common.loss('weighted_cross_entropy', weights=(0.1, 0.9))
  return config


def quickstart() -> ml_collections.ConfigDict:
  """Few narrow cells on one-second crops: for CPUs."""
  config = paper()
  common.on_quickstart(config)
  del config.average  # a search has no weights to average
  config.epochs = 40
  config.cost_weight = 0.1
  config.log_every = 10
  config.model.num_cells = 3
  config.model.channels = 8
  config.data.eval_samples = 16_000
  config.weights.optimizer = 'adam'
  config.weights.learning_rate = 3e-3
  config.weights.learning_rate_min = 1e-4
  config.arch.warmup_epochs = 10
  config.arch.learning_rate = 0.02  # a thousand steps, not ten thousand
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny supernet, tiny corpus."""
  config = quickstart()
  config.epochs = 3
  config.log_every = 1
  config.arch.warmup_epochs = 1
  config.model.nodes = 1
  config.model.channels = 4
  config.data.name = 'quickstart/tiny'
  config.data.samples = 4_000
  config.data.eval_samples = 4_000
  config.data.batch = 8
  config.data.eval_batch = 8
  return config
