r"""wav2vec 2.0 with AASIST's graphs (Tak et al. 2022, arXiv 2202.12233).

You must have the encoder's weights: PATH is a directory as Hugging Face has
them, or a file of fairseq, torchaudio or Microsoft's WavLM; the authors' is
XLS-R 300M.

All but the last train on ASVspoof 2019 LA, which must be built before:
`tfds_builders/asvspoof2019/README.md` says how.

python run.py --config=configs/ssl_aasist.py --config.frontend.weights=PATH
    the authors' recipe: all is trained, on a GPU
python run.py --config=configs/ssl_aasist.py:frozen \
  --config.frontend.weights=PATH
    a frozen encoder, of whose states a weighted sum is learned; ours
python run.py --config=configs/ssl_aasist.py:smoke
    seconds, a tiny encoder of random values, learns nothing

RawBoost is that for ASVspoof 2021 LA; for DF the authors took

  --config.data.rawboost.algo=3

They apply it to dev, too, which is not done here, and take the first samples of
a clip, where training here draws a crop.
"""

import ml_collections

from configs import common
from configs.ssl_ecapa import ENCODER


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(variant, {'': paper, 'frozen': frozen, 'smoke': smoke})


def paper() -> ml_collections.ConfigDict:
  config = common.training()
  config.model = common.model('ssl_aasist')
  # The waves as they are, whatever the encoder was made for.
  config.frontend = common.frontend('ssl', normalise_wave='none')
  config.average = 'none'
  config.data.augment = 'rawboost'
  config.data.batch = 14
  config.data.eval_batch = 14
  config.optim.learning_rate = 1e-6
  config.optim.learning_rate_min = 1e-6
  return config


def frozen() -> ml_collections.ConfigDict:
  config = paper()
  config.frontend = common.frontend('ssl', output='mix')
  config.optim.groups = ((ENCODER, {'frozen': True}),)
  config.epochs = 30
  config.optim.learning_rate = 1e-4
  config.optim.learning_rate_min = 5e-6
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny encoder, tiny model, tiny corpus."""
  config = frozen()
  common.on_quickstart(config)
  common.on_tiny(config)
  config.frontend.weights = 'random:tiny'
  config.model = common.model(
    'ssl_aasist',
    projection=12,
    channels=(4, 4),
    attention_channels=4,
    gat_dims=(8, 8),
  )
  return config
