r"""An enhancer tuned against a frozen detector, to test that detector.

What comes out is a table: the EER of the detector on eval as it is, with spoofs
behind the enhancer before it was tuned, and behind it afterwards, and how close
to its input it stays. It is made for those who have a detector to defend.

python run.py --config=configs/attack.py --config.checkpoint=WORKDIR
python run.py --config=configs/attack.py:quickstart \
  --config.checkpoint=runs/aasist_quickstart     minutes on a laptop
python run.py --config=configs/attack.py:smoke --config.checkpoint=WORKDIR

The first is for ASVspoof 2019 LA and needs a GPU. --config.init=WORKDIR starts
from a run of configs/enhance.py of the same variant instead of a network that
lets waves pass. --config.weight says what a dB of SI-SNR is worth.
"""

import ml_collections
from ml_collections import config_dict

from configs import common, enhance


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(
    variant, {'': paper, 'quickstart': quickstart, 'smoke': smoke}
  )


def paper() -> ml_collections.ConfigDict:
  return against(enhance.paper(), epochs=10, learning_rate=3e-4)


def quickstart() -> ml_collections.ConfigDict:
  """A small network on one second of each clip."""
  return against(enhance.quickstart(), epochs=2, learning_rate=2e-3)


def smoke() -> ml_collections.ConfigDict:
  """The whole job in seconds: tiny network, tiny corpus."""
  config = against(enhance.smoke(), epochs=2, learning_rate=2e-3)
  config.data.samples = 8_000
  config.resamples = 100
  return config


def against(
  config: ml_collections.ConfigDict, epochs: int, learning_rate: float
) -> ml_collections.ConfigDict:
  """Makes an attack of the training of an enhancer."""
  config.job = 'attack'
  config.checkpoint = config_dict.placeholder(str)  # the detector
  config.model = config_dict.placeholder(str)  # name it must have
  config.seconds = config_dict.placeholder(float)  # that it scores of a clip
  config.weight = 0.1  # what a dB of SI-SNR is worth, in its loss
  config.epochs = epochs
  config.resamples = 1000  # of the bootstrap
  config.optim.learning_rate = learning_rate
  del config.conditions
  config.data.augment = 'none'
  return config
