"""Attention over the states of an encoder, MHFA (Peng et al. 2022, 2210.01273).

You must have the encoder's weights: PATH is a directory as Hugging Face has
them, or a file of fairseq, torchaudio or Microsoft's WavLM.

All but the last train on ASVspoof 2019 LA, which must be built before:
`tfds_builders/asvspoof2019/README.md` says how.

python run.py --config=configs/ssl_mhfa.py --config.frontend.weights=PATH
    a frozen encoder
python run.py --config=configs/ssl_mhfa.py:tuned --config.frontend.weights=PATH
    the encoder is trained too, at a hundredth of the learning rate
python run.py --config=configs/ssl_mhfa.py:smoke
    seconds, a tiny encoder of random values, learns nothing

Sizes are those of WeDefense; it trains with SGD, and the schedule here is ours.
"""

import ml_collections

from configs import common
from configs.ssl_ecapa import ENCODER


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(variant, {'': frozen, 'tuned': tuned, 'smoke': smoke})


def frozen() -> ml_collections.ConfigDict:
  config = common.training()
  config.model = common.model('mhfa')
  config.frontend = common.frontend('ssl', output='all')
  config.optim.groups = ((ENCODER, {'frozen': True}),)
  config.epochs = 20
  config.data.padded = True
  config.data.balanced = True
  config.data.batch = 32
  config.data.eval_batch = 32
  config.data.eval_samples = 160_000  # 10 s; what is longer is cut
  config.loss.weights = ()
  config.optim.learning_rate = 1e-3
  config.optim.learning_rate_min = 1e-5
  config.optim.warmup_steps = 500
  return config


def tuned() -> ml_collections.ConfigDict:
  config = frozen()
  config.optim.groups = ((ENCODER, {'learning_rate_factor': 0.01}),)
  # With one weight set for each epoch, the average would hold the encoder too.
  config.average = 'none'
  config.data.batch = 8
  config.data.eval_batch = 8
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny encoder, tiny model, tiny corpus."""
  config = frozen()
  common.on_quickstart(config)
  common.on_tiny(config)
  config.frontend.weights = 'random:tiny'
  config.model = common.model('mhfa', heads=2, compression=4, embedding=8)
  return config
