"""Systems side by side, over several seeds.

python run.py --config=configs/benchmark.py             on ASVspoof 2019 LA
python run.py --config=configs/benchmark.py:quickstart  half an hour on a CPU
python run.py --config=configs/benchmark.py:smoke       seconds, learns nothing

Runs lie in the benchmark's workdir, SYSTEM/seed_N, and are reused.
"""

import ml_collections

from configs import common


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(
    variant, {'': full, 'quickstart': quickstart, 'smoke': smoke}
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


def of(systems: dict[str, str]) -> ml_collections.ConfigDict:
  """The others are compared with the first."""
  config = ml_collections.ConfigDict()
  config.job = 'benchmark'
  config.systems = ml_collections.ConfigDict(systems)
  config.seeds = (1, 2, 3)
  config.resamples = 1000
  # Fields of all systems, as {'data.batch': 8}.
  config.changes = ml_collections.ConfigDict(allow_dotted_keys=True)
  return config
