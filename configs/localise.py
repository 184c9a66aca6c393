"""A network that says of each 20 ms whether speech is spoofed.

It learns from labels over time, as PartialSpoof has them, or from clips that
are spliced from any built corpus.

python run.py --config=configs/localise.py             PartialSpoof
python run.py --config=configs/localise.py:quickstart  minutes on a laptop
python run.py --config=configs/localise.py:smoke       seconds, learns nothing

On the states of a frozen encoder, which have no order, convolutions run over
time alone:

  --config.model.channels="()" --config.frontend.name=ssl
  --config.frontend.weights=PATH
  --config.optim.groups="(('frontend/encoder/.*',{'frozen':True}),)"
"""

import ml_collections

from configs import common


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(
    variant, {'': paper, 'quickstart': quickstart, 'smoke': smoke}
  )


def paper() -> ml_collections.ConfigDict:
  config = common.training()
  config.job = 'localise'
  config.model = common.model(
    'localiser_lcnn',
    channels=(32, 48, 64, 64),
    bottleneck=128,
    hidden=256,
    skip=128,
    blocks=6,
    stacks=2,
  )
  config.frontend = common.frontend('lfcc_lcnn_2019')
  config.average = 'none'
  config.epochs = 30
  config.data.name = 'partialspoof'
  config.data.padded = True
  config.data.samples = 64_000
  config.data.eval_samples = 320_000  # 20 s: whole clips
  config.data.batch = 32
  config.data.eval_batch = 32
  config.loss.weights = ()
  config.optim.learning_rate = 1e-3
  config.optim.learning_rate_min = 1e-5
  config.optim.weight_decay = 0.0
  config.optim.clip_norm = 5.0
  return config


def quickstart() -> ml_collections.ConfigDict:
  """Smaller, on log mel energies and crops of 1.5 seconds: for CPUs."""
  config = paper()
  common.on_quickstart(config)
  config.epochs = 12
  config.model = common.model('localiser_lcnn', channels=(12, 16, 24, 32))
  config.frontend = common.frontend('fbank80')
  config.data.name = 'spliced/quickstart'
  config.data.samples = 24_000
  config.data.eval_samples = 64_000
  config.data.balanced = False
  config.optim.learning_rate = 2e-3
  config.optim.learning_rate_min = 2e-5
  config.optim.warmup_steps = 20
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny network, tiny corpus."""
  config = quickstart()
  common.on_tiny(config)
  config.average = 'none'
  config.model = common.model(
    'localiser_lcnn',
    channels=(4, 4),
    bottleneck=8,
    hidden=16,
    skip=8,
    blocks=2,
  )
  config.data.name = 'spliced/quickstart.tiny'
  config.data.eval_samples = 64_000
  config.data.bucket = 64_000  # one length, one program
  config.data.eval = ('eval',)
  return config
