r"""A checkpoint on a corpus that it may never have seen, under conditions.

python run.py --config=configs/evaluate.py \
  --config.checkpoint=runs/aasist_quickstart \
  --config.conditions="('clean','noise:10','gain:-20')"
python run.py --config=configs/evaluate.py --config.checkpoint=AASIST.pth \
  --config.data.name=asvspoof2019_la --config.data.eval=eval

The page to open is `runs/evaluate/report.html`; another checkpoint or corpus
needs another --workdir. `docs/evaluate.md` lists the conditions.
"""

import ml_collections
from ml_collections import config_dict


def get_config() -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.job = 'evaluate'
  # Workdir of a run, or a .pth file of the original AASIST.
  config.checkpoint = config_dict.placeholder(str)
  config.model = config_dict.placeholder(str)  # name it must have
  config.conditions = ('clean',)  # the others are compared with the first
  # Own recordings of noise, music and speech, and of rooms; else synthetic.
  config.noise_dir = config_dict.placeholder(str)
  config.room_dir = config_dict.placeholder(str)
  config.seconds = config_dict.placeholder(float)  # of each clip
  config.seed = 1234  # of conditions and bootstrap
  config.resamples = 1000  # of the bootstrap

  config.data = ml_collections.ConfigDict()
  config.data.name = 'quickstart'
  config.data.data_dir = config_dict.placeholder(str)
  config.data.build = True  # where it is missing
  config.data.eval = ('eval',)
  config.data.eval_batch = 16  # clips, over all devices
  config.data.workers = 0  # processes that decode; 0: threads

  config.mesh = ml_collections.ConfigDict()
  config.mesh.devices = 0  # 0: all that are visible
  return config
