r"""A system on corpora that it was not trained on: each is left out once.

python run.py --config=configs/leave_one_out.py \
  --config.corpora="('asvspoof2019_la','asvspoof5','spoofceleb')"
python run.py --config=configs/leave_one_out.py:quickstart \
  --config.corpora="('quickstart','wav_folder/mine')"

The corpora must be built and have the splits that the system's config names.
Runs lie in the workdir, without_CORPUS and without_CORPUS/on_CORPUS, and are
reused.
"""

import ml_collections

from configs import common


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(
    variant,
    {
      '': lambda: of('configs/ecapa_mfcc.py'),
      'quickstart': lambda: of('configs/ecapa_mfcc.py:quickstart', ('eval',)),
    },
  )


def of(system: str, evals=None) -> ml_collections.ConfigDict:
  """As many clips of each corpus; the system's config says the rest."""
  config = ml_collections.ConfigDict()
  config.job = 'leave_one_out'
  config.system = system
  config.corpora = ()
  config.eval = 'eval'  # split of the corpus that was left out
  config.seed = 1
  config.resamples = 1000
  # Fields of the system, as {'data.batch': 8}.
  config.changes = ml_collections.ConfigDict(allow_dotted_keys=True)
  if evals is not None:
    config.changes['data.eval'] = evals
  return config
