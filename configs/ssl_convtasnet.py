"""The separator of Conv-TasNet on an encoder, with AAM-softmax: ours.

A survey lists wav2vec 2.0, HuBERT or WavLM, Conv-TasNet and AAM-softmax for Ito
and Horiguchi 2023 (arXiv 2305.15518). What their network is was not found out:
sizes, statistics and schedule here are ours, and no published figure is
reproduced.

You must have the encoder's weights: PATH is a directory as Hugging Face has
them, or a file of fairseq, torchaudio or Microsoft's WavLM.

All but the last train on ASVspoof 2019 LA, which must be built before:
`tfds_builders/asvspoof2019/README.md` says how.

python run.py --config=configs/ssl_convtasnet.py --config.frontend.weights=PATH
    a frozen encoder, of whose states a weighted sum is learned
python run.py --config=configs/ssl_convtasnet.py:tuned \
  --config.frontend.weights=PATH
    the encoder is trained too, at a hundredth of the learning rate
python run.py --config=configs/ssl_convtasnet.py:smoke
    seconds, a tiny encoder of random values, learns nothing
"""

import ml_collections

from configs import common
from configs.ssl_ecapa import ENCODER


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(variant, {'': frozen, 'tuned': tuned, 'smoke': smoke})


def frozen() -> ml_collections.ConfigDict:
  config = common.training()
  config.model = common.model('convtasnet')
  config.frontend = common.frontend('ssl', output='mix')
  config.optim.groups = ((ENCODER, {'frozen': True}),)
  config.epochs = 20
  config.data.padded = True
  config.data.balanced = True
  config.data.batch = 32
  config.data.eval_batch = 32
  config.data.eval_samples = 160_000  # 10 s; what is longer is cut
  config.loss = common.loss('aam_softmax')
  config.optim.learning_rate = 1e-3
  config.optim.learning_rate_min = 1e-5
  config.optim.warmup_steps = 500
  config.optim.clip_norm = 5.0
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
  config.model = common.model(
    'convtasnet',
    bottleneck=4,
    hidden=8,
    skip=4,
    blocks=2,
    stacks=1,
    embedding=8,
  )
  return config
