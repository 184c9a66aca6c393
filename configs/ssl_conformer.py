r"""wav2vec 2.0 with the back end of DF Arena: a conformer with a class token.

You must have the encoder's weights: PATH is a directory as Hugging Face has
them, or a file of fairseq, torchaudio or Microsoft's WavLM.

All but the last train on ASVspoof 2019 LA, which must be built before:
`tfds_builders/asvspoof2019/README.md` says how. The recipe is that of
`configs/ssl_aasist.py`: how DF Arena was trained, on many corpora, its code
does not say.

python run.py --config=configs/ssl_conformer.py --config.frontend.weights=PATH
    all is trained, on a GPU
python run.py --config=configs/ssl_conformer.py:frozen \
  --config.frontend.weights=PATH
    a frozen encoder
python run.py --config=configs/ssl_conformer.py:smoke
    seconds, a tiny encoder of random values, learns nothing
"""

import ml_collections

from configs import common, ssl_aasist


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(variant, {'': tuned, 'frozen': frozen, 'smoke': smoke})


def tuned() -> ml_collections.ConfigDict:
  config = ssl_aasist.paper()
  config.model = common.model('conformer')
  config.frontend = common.frontend('ssl', normalise_wave='none', output='all')
  return config


def frozen() -> ml_collections.ConfigDict:
  config = ssl_aasist.frozen()
  config.model = common.model('conformer')
  config.frontend = common.frontend('ssl', output='all')
  return config


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny encoder, tiny model, tiny corpus."""
  config = frozen()
  common.on_quickstart(config)
  common.on_tiny(config)
  config.frontend.weights = 'random:tiny'
  config.model = common.model('conformer', blocks=1, heads=2, taps=5)
  return config
