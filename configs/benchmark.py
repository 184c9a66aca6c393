r"""Systems on corpora under conditions, as one table.

python run.py --config=configs/benchmark.py             on ASVspoof 2019 LA
python run.py --config=configs/benchmark.py:quickstart  half an hour on a CPU
python run.py --config=configs/benchmark.py:smoke       seconds, learns nothing
python run.py --config=configs/benchmark.py:trained     runs that are there
python run.py --config=configs/benchmark.py:conditions  trained with and without

Runs that are trained lie in the workdir, SYSTEM/seed_N, and are reused; so is
everything that was scored. More of each:

python run.py --config=configs/benchmark.py:trained \
  --config.tests="('quickstart:eval','in_the_wild:eval')" \
  --config.conditions="('clean','noise:10','codec:opus:16k')" \
  --config.systems.aasist=runs/another_run
"""

import ml_collections
from ml_collections import config_dict

from configs import common


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(
    variant,
    {
      '': full,
      'quickstart': quickstart,
      'smoke': smoke,
      'trained': trained,
      'conditions': conditions,
    },
  )


def full() -> ml_collections.ConfigDict:
  return of({'aasist': 'configs/aasist.py', 'ecapa': 'configs/ecapa_mfcc.py'})


def quickstart() -> ml_collections.ConfigDict:
  return of(
    {
      'aasist_s': 'configs/aasist.py:quickstart',
      'ecapa_s': 'configs/ecapa_mfcc.py:quickstart',
    }
  )


def conditions() -> ml_collections.ConfigDict:
  """Does it help to train under conditions? Some are tested that it saw."""
  config = of(
    {
      'ecapa_s': 'configs/ecapa_mfcc.py:quickstart',
      'under_conditions': 'configs/ecapa_mfcc.py:quickstart_conditions',
    }
  )
  config.tests = ('quickstart:eval',)
  seen = 'clean', 'noise:10', 'room', 'codec:alaw', 'codec:mp3:32k'
  config.conditions = (*seen, 'music:10', 'codec:opus:16k', 'codec:gsm')
  return config


def smoke() -> ml_collections.ConfigDict:
  config = of(
    {
      'aasist': 'configs/aasist.py:smoke',
      'ecapa': 'configs/ecapa_mfcc.py:smoke',
    }
  )
  config.seeds = (1, 2)
  config.resamples = 50
  return config


def trained() -> ml_collections.ConfigDict:
  """Quickstarts as `run.py` leaves them, and their fusion."""
  config = of(
    {
      'aasist': 'runs/aasist_quickstart',
      'ecapa': 'runs/ecapa_mfcc_quickstart',
      'lcnn': 'runs/lcnn_quickstart',
    }
  )
  config.tests = ('quickstart:eval', 'quickstart:eval_hard')
  config.conditions = (
    'clean',
    'noise:10',
    'music:0',
    'room',
    'codec:opus:16k',
    'band:300-3400',
  )
  config.dev = 'quickstart:dev'
  config.fusion = True
  return config


def of(systems: dict[str, str]) -> ml_collections.ConfigDict:
  """The others are compared with the first.

  A system is a config file, which is trained over the seeds; or weights that
  are there, one or a list; or a folder of score files.
  """
  config = ml_collections.ConfigDict()
  config.job = 'benchmark'
  config.systems = ml_collections.ConfigDict(systems)
  config.seeds = (1, 2, 3)
  # CORPUS:SPLIT, such as 'quickstart:eval'; none: what the first file reports.
  config.tests = ()
  config.conditions = ('clean',)  # docs/evaluate.md lists them
  # CORPUS:SPLIT to calibrate weights without a dev split of their own on.
  config.dev = config_dict.placeholder(str)
  config.fusion = False  # of all systems, fitted on dev, as one more
  config.resamples = 1000  # of the bootstrap
  config.seed = 1234  # of conditions and bootstrap
  # Own recordings of noise, music and speech, and of rooms; else synthetic.
  config.noise_dir = config_dict.placeholder(str)
  config.room_dir = config_dict.placeholder(str)
  # What was scored, for several benchmarks; else in the workdir.
  config.cells = config_dict.placeholder(str)

  config.data = ml_collections.ConfigDict()
  config.data.data_dir = config_dict.placeholder(str)
  config.data.build = True  # where it is missing
  config.data.eval_batch = 16  # clips, over all devices
  config.data.workers = 0  # processes that decode; 0: threads

  config.mesh = ml_collections.ConfigDict()
  config.mesh.devices = 0  # 0: all that are visible

  # Fields of all systems, as {'data.batch': 8}.
  config.changes = ml_collections.ConfigDict(allow_dotted_keys=True)
  return config
