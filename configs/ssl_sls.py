"""wav2vec 2.0 with a gated sum of its layers, SLS (Zhang et al. 2024).

You must have the encoder's weights: PATH is a directory as Hugging Face has
them, or a file of fairseq, torchaudio or Microsoft's WavLM; the authors' is
XLS-R 300M.

The first trains on ASVspoof 2019 LA, which must be built before:
`tfds_builders/asvspoof2019/README.md` says how.

python run.py --config=configs/ssl_sls.py --config.frontend.weights=PATH
    the authors' recipe: all is trained, on a GPU
python run.py --config=configs/ssl_sls.py:smoke
    seconds, a tiny encoder of random values, learns nothing

RawBoost is that of `configs/ssl_aasist.py`.
"""

import ml_collections

from configs import common, ssl_aasist


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(variant, {'': paper, 'smoke': smoke})


def paper() -> ml_collections.ConfigDict:
  config = ssl_aasist.paper()
  config.model = common.model('sls')
  config.frontend = common.frontend(
    'ssl', normalise_wave='none', output='all', last_norm=False
  )
  config.epochs = 50
  config.data.batch = 5
  config.data.eval_batch = 5
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny encoder, tiny model, tiny corpus."""
  config = paper()
  common.on_quickstart(config)
  common.on_tiny(config)
  config.frontend.weights = 'random:tiny'
  config.model = common.model('sls', frames=24, embedding=8)
  return config
