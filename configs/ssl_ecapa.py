"""ECAPA-TDNN on a self-supervised encoder: wav2vec 2.0, HuBERT or WavLM.

You must have the encoder's weights: PATH is a directory as Hugging Face has
them, or a file of fairseq, torchaudio or Microsoft's WavLM. What is in it says

python -m jaxspoof.weights PATH

All but the last train on ASVspoof 2019 LA, which must be built before:
`tfds_builders/asvspoof2019/README.md` says how.

python run.py --config=configs/ssl_ecapa.py --config.frontend.weights=PATH
    a frozen encoder, of whose states a weighted sum is learned
python run.py --config=configs/ssl_ecapa.py:tuned --config.frontend.weights=PATH
    the encoder is trained too, at a hundredth of the learning rate
python run.py --config=configs/ssl_ecapa.py:upper --config.frontend.weights=PATH
    of a large encoder the upper half, from layer 12 on, is trained
python run.py --config=configs/ssl_ecapa.py:lora --config.frontend.weights=PATH
    matrices of rank 8 are trained beside the queries and values of the encoder
python run.py --config=configs/ssl_ecapa.py:smoke
    seconds, a tiny encoder of random values, learns nothing

One state instead of the sum, or the last one:

  --config.frontend.output=layer --config.frontend.layer=5
  --config.frontend.output=last

Learning rates and sizes are ours, after the weighted sum of SUPERB (Yang et al.
2021, arXiv 2105.01051); no published system is reproduced.
"""

import ml_collections

from configs import common, ecapa_mfcc

ENCODER = 'frontend/encoder/.*'


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(
    variant,
    {
      '': frozen,
      'tuned': tuned,
      'upper': upper,
      'lora': lora,
      'smoke': smoke,
    },
  )


def frozen() -> ml_collections.ConfigDict:
  """ECAPA-TDNN of 128 channels: what is frozen has most of the weights."""
  config = ecapa_mfcc.default('ecapa_s')
  config.frontend = common.frontend('ssl', output='mix')
  config.optim.groups = ((ENCODER, {'frozen': True}),)
  return config


def tuned() -> ml_collections.ConfigDict:
  config = frozen()
  config.optim.groups = ((ENCODER, {'learning_rate_factor': 0.01}),)
  # With one weight set for each epoch, the average would hold the encoder too.
  config.average = 'none'
  config.data.batch = 8
  config.data.eval_batch = 8
  return config


def upper() -> ml_collections.ConfigDict:
  config = tuned()
  config.frontend.split = 12
  config.optim.groups = (
    ('frontend/encoder/(upper|norm)/.*', {'learning_rate_factor': 0.01}),
    (ENCODER, {'frozen': True}),
  )
  return config


def lora() -> ml_collections.ConfigDict:
  config = frozen()
  config.frontend.lora = dict(rank=8, alpha=16.0, targets=('query', 'value'))
  config.optim.groups = (
    ('frontend/lora/.*', {'learning_rate_factor': 0.1}),
    (ENCODER, {'frozen': True}),
  )
  config.average = 'none'
  config.data.batch = 8
  config.data.eval_batch = 8
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny encoder, tiny model, tiny corpus."""
  config = ecapa_mfcc.smoke()
  config.frontend = common.frontend('ssl', output='mix', weights='random:tiny')
  config.optim.groups = ((ENCODER, {'frozen': True}),)
  return config
