"""Source tracing by ECAPA-TDNN: which attack it was, or `unknown`.

The first trains on ASVspoof 2019 LA: six attacks are known; of the thirteen of
its evaluation eleven are new, and A16 and A19 are the systems of A04 and A06
(Wang et al. 2020, arXiv 1911.01601). ADD 2023 track 3 is the corpus made for
the task. Both must be built before: `tfds_builders/NAME/README.md` says how.
The others build their own.

python run.py --config=configs/ecapa_source_tracing.py
python run.py --config=configs/ecapa_source_tracing.py:add2023
python run.py --config=configs/ecapa_source_tracing.py:quickstart  on a laptop
python run.py --config=configs/ecapa_source_tracing.py:smoke       seconds

What is written is said in `jaxspoof/jobs/source_tracing.py`.
"""

import ml_collections

from configs import common, ecapa_mfcc


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(
    variant,
    {
      '': default,
      'add2023': add2023,
      'quickstart': quickstart,
      'smoke': smoke,
    },
  )


def default() -> ml_collections.ConfigDict:
  config = tracing(ecapa_mfcc.get_config())
  config.source_tracing.same = ml_collections.ConfigDict(
    {'A16': 'A04', 'A19': 'A06'}
  )
  return config


def add2023() -> ml_collections.ConfigDict:
  config = tracing(ecapa_mfcc.get_config())
  config.data.name = 'add2023_track3'
  config.data.build = False  # needs --manual_dir
  return config


def quickstart() -> ml_collections.ConfigDict:
  """Six attacks of train and dev, eleven new ones in the two evaluations."""
  return tracing(ecapa_mfcc.get_config('quickstart'))


def smoke() -> ml_collections.ConfigDict:
  return tracing(ecapa_mfcc.get_config('smoke'))


def tracing(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
  """Makes a config of detection one of source tracing."""
  config.job = 'source_tracing'
  config.task = 'source_tracing'
  config.source_tracing = ml_collections.ConfigDict()
  config.source_tracing.neighbours = 5  # the cosine to which of the nearest
  config.source_tracing.quantile = 0.05  # of dev is refused at most
  # Systems of two names: whose answer is right for whom.
  config.source_tracing.same = ml_collections.ConfigDict()
  return config
