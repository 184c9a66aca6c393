"""Conv-TasNet (Luo and Mesgarani 2019) as a network that takes noise away.

It learns on pairs made of the bona fide clips of a corpus: a clip, and the same
clip with noise. What it leaves is the condition `enhance:WORKDIR` of an
evaluation.

python run.py --config=configs/enhance.py             ASVspoof 2019 LA
python run.py --config=configs/enhance.py:quickstart  minutes on a laptop
python run.py --config=configs/enhance.py:smoke       seconds, learns nothing

The first has the sizes of the paper, with frames of 2 ms every 1 ms as asteroid
has them for 16 kHz, and wants recordings of noise:

  --config.data.conditions.noise_dir=FOLDER

Without them noise is white and babble synthetic.
"""

import dataclasses

import ml_collections
from ml_collections import config_dict

from configs import common
from jaxspoof.enhance.conv_tasnet import ConvTasNetConfig


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(
    variant, {'': paper, 'quickstart': quickstart, 'smoke': smoke}
  )


def paper() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.job = 'enhance'
  config.seed = 1234
  config.epochs = 100
  config.init = config_dict.placeholder(str)  # weights to start from
  config.checkpoint_every = 500  # steps
  config.log_every = 50  # steps
  config.network = network(kernel=32, stride=16)
  config.data = common.data()
  config.data.samples = 48_000
  config.data.batch = 12
  config.data.augment = 'conditions'
  config.data.conditions.names = ('noise:-5..15', 'babble:0..15', 'music:0..15')
  config.conditions = ('noise:5', 'babble:5')  # of dev and eval
  config.optim = common.training().optim
  config.optim.learning_rate = 1e-3
  config.optim.learning_rate_min = 1e-5
  config.optim.weight_decay = 0.0
  config.optim.clip_norm = 5.0
  config.mesh = ml_collections.ConfigDict()
  config.mesh.devices = 0  # 0: all that are visible
  return config


def network(**changes) -> ml_collections.ConfigDict:
  """The network with some fields changed."""
  fields = dataclasses.asdict(ConvTasNetConfig(**changes))
  return ml_collections.ConfigDict(fields)


def quickstart() -> ml_collections.ConfigDict:
  """A small network on one second, and noise that needs no recordings."""
  config = paper()
  config.epochs = 16
  config.log_every = 13
  config.network = network(
    filters=64,
    kernel=32,
    stride=16,
    bottleneck=32,
    hidden=64,
    skip=32,
    blocks=6,
    stacks=1,
  )
  config.data.name = 'quickstart'
  config.data.samples = 16_000
  config.data.eval_samples = 32_000
  config.data.batch = 8
  config.data.eval_batch = 8
  config.data.workers = 0
  config.data.eval = ('eval',)
  config.data.conditions.names = ('white:-5..15', 'pink:-5..15')
  config.conditions = ('white:5', 'pink:5')
  config.optim.learning_rate = 2e-3
  config.optim.learning_rate_min = 1e-4
  config.optim.warmup_steps = 20
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny network, tiny corpus."""
  config = quickstart()
  config.epochs = 2
  config.network = network(
    filters=32,
    kernel=16,
    stride=8,
    bottleneck=8,
    hidden=16,
    skip=8,
    blocks=2,
    stacks=1,
  )
  config.data.name = 'quickstart/tiny'
  config.data.samples = 4_000
  config.data.eval_samples = 8_000
  config.data.batch = 4
  config.data.eval_batch = 4
  config.data.conditions.names = ('white:0..10',)
  config.conditions = ('white:5',)
  config.optim.warmup_steps = 0
  config.log_every = 1
  return config
