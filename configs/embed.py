r"""Embeddings of a corpus, or of own recordings, from a trained model.

python run.py --config=configs/embed.py \
  --config.checkpoint=runs/aasist_quickstart
python run.py --config=configs/embed.py --config.checkpoint=AASIST.pth \
  --config.data.name=asvspoof2019_la --config.data.splits="('dev','eval')"
python run.py --config=configs/embed.py --config.checkpoint=runs/mine \
  --config.input=recordings/ --workdir=runs/recordings

What is written is said in `jaxspoof/jobs/embed.py`. To read it:

  numpy.load('runs/embed/embeddings.npz')['embedding']  # float32 [clips, D]
"""

import ml_collections
from ml_collections import config_dict


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.job = 'embed'
  # Workdir of a run, or a .pth file of the original AASIST.
  config.checkpoint = config_dict.placeholder(str)
  config.model = config_dict.placeholder(str)  # name it must have
  config.input = config_dict.placeholder(str)  # file or folder; else data
  config.seconds = config_dict.placeholder(float)  # of each clip
  config.batch = config_dict.placeholder(int)  # clips at once

  config.data = ml_collections.ConfigDict()
  config.data.name = 'quickstart'
  config.data.data_dir = config_dict.placeholder(str)
  config.data.build = True  # where it is missing
  config.data.splits = ('train', 'dev', 'eval')
  return config
