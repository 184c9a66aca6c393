"""wav2vec 2.0 with nested Res2Nets, Nes2Net-X (Liu et al. 2025, 2504.05657).

You must have the encoder's weights: PATH is a directory as Hugging Face has
them, or a file of fairseq, torchaudio or Microsoft's WavLM; the authors' is
XLS-R 300M.

The first trains on ASVspoof 2019 LA, which must be built before:
`tfds_builders/asvspoof2019/README.md` says how.

python run.py --config=configs/ssl_nes2net.py --config.frontend.weights=PATH
    the authors' recipe: all is trained, on a GPU
python run.py --config=configs/ssl_nes2net.py:smoke
    seconds, a tiny encoder of random values, learns nothing

The authors average the three to five checkpoints that are best on dev; here the
average is that of every epoch that set a new best.
"""

import ml_collections

from configs import common, ssl_aasist


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(variant, {'': paper, 'smoke': smoke})


def paper() -> ml_collections.ConfigDict:
  config = ssl_aasist.paper()
  config.model = common.model('nes2net')
  config.average = 'swa'
  config.data.rawboost.algo = 4
  config.data.batch = 12
  config.data.eval_batch = 12
  config.optim.learning_rate = 2.5e-7
  config.optim.learning_rate_min = 2.5e-7
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny encoder, tiny model, tiny corpus."""
  config = paper()
  common.on_quickstart(config)
  common.on_tiny(config)
  config.frontend.weights = 'random:tiny'
  config.model = common.model('nes2net', parts=4, inner_parts=2)
  return config
