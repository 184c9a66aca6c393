"""ECAPA-TDNN on 80 MFCCs with AAM-softmax (Desplanques et al. 2020).

The first four train on ASVspoof 2019 LA, which must be built before:
`tfds_builders/asvspoof2019/README.md` says how. The others build their own.

python run.py --config=configs/ecapa_mfcc.py             512 channels, 6.2 M
python run.py --config=configs/ecapa_mfcc.py:large       1,024 channels, 20.8 M
python run.py --config=configs/ecapa_mfcc.py:small       128 channels, 0.5 M
python run.py --config=configs/ecapa_mfcc.py:voxceleb --config.init=FILE
python run.py --config=configs/ecapa_mfcc.py:quickstart  minutes on a laptop
python run.py --config=configs/ecapa_mfcc.py:quickstart_conditions  under noise,
                                                    in rooms, through codecs
python run.py --config=configs/ecapa_mfcc.py:smoke       seconds, learns nothing

:voxceleb starts from SpeechBrain's speaker embedding, which you must have:
FILE is its embedding_model.ckpt, and the features are its 80 log mel energies.

Other features and losses:

  --config.frontend.name=lfcc
  --config.loss.name=oc_softmax
"""

import ml_collections

from configs import common


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(
    variant,
    {
      '': default,
      'large': large,
      'small': small,
      'voxceleb': voxceleb,
      'quickstart': quickstart,
      'quickstart_conditions': quickstart_conditions,
      'smoke': smoke,
    },
  )


def default(model: str = 'ecapa') -> ml_collections.ConfigDict:
  """Masked features of up to four seconds; the corpus has one rare class."""
  config = common.training()
  config.model = common.model(
    model,
    spec_augment=dict(
      time_masks=2, time_width=20, time_share=0.2, freq_masks=1, freq_width=10
    ),
  )
  config.data.padded = True
  config.data.balanced = True
  config.data.batch = 32
  config.data.eval_batch = 32
  config.data.eval_samples = 160_000  # 10 s; what is longer is cut
  config.loss = common.loss('aam_softmax')  # margin 0.2, scale 30
  config.epochs = 30
  config.optim.learning_rate = 1e-3
  config.optim.learning_rate_min = 1e-6
  config.optim.weight_decay = 2e-6
  config.optim.warmup_steps = 500
  return config


def large() -> ml_collections.ConfigDict:
  return default('ecapa_large')


def small() -> ml_collections.ConfigDict:
  return default('ecapa_s')


def voxceleb() -> ml_collections.ConfigDict:
  config = default('ecapa_voxceleb')
  # Its weights were trained on crops of one length, without padding.
  config.model.padding = 'clip'
  config.optim.learning_rate = 1e-4
  return config


def quickstart() -> ml_collections.ConfigDict:
  """A narrow network on crops of two seconds: for CPUs."""
  config = small()
  common.on_quickstart(config)
  config.epochs = 20
  config.data.samples = 32_000
  config.data.eval_samples = 64_000
  config.optim.warmup_steps = 40
  config.optim.weight_decay = 1e-4
  config.loss.scale = 15.0
  return config


def quickstart_conditions() -> ml_collections.ConfigDict:
  """The same, and each clip under one of these, drawn anew in each epoch."""
  config = quickstart()
  config.data.augment = 'conditions'
  names = 'clean', 'noise:0..20', 'room', 'codec:alaw', 'codec:mp3:32k'
  config.data.conditions.names = names
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny model, tiny corpus."""
  config = quickstart()
  common.on_tiny(config)
  config.model = common.model(
    'ecapa_s',
    channels=(16, 16, 16, 16, 24),
    res2net_scale=4,
    attention_channels=8,
    se_channels=8,
    lin_neurons=8,
  )
  return config
