"""Was the search worth it? Found, random and hand-made cells compared.

Searches, then trains the cells that were found, random cells that cost as much
and the hand-made default, all with the same budget and several seeds, and
compares them on the same trials: differences with intervals over speakers,
attacks, cells and seeds. The report says what came out, whatever it is.

python run.py --config=configs/light_darts_study.py             ASVspoof 2019 LA
python run.py --config=configs/light_darts_study.py:quickstart  an hour, on CPU
python run.py --config=configs/light_darts_study.py:smoke       a minute

With cells that were found before:

  --config.genotype=runs/light_darts_search/genotype.json
"""

import ml_collections

from configs import common, light_darts, light_darts_search


def get_config(variant: str = '') -> ml_collections.ConfigDict:
  return common.choose(
    variant, {'': paper, 'quickstart': quickstart, 'smoke': smoke}
  )


def paper(variant: str = '') -> ml_collections.ConfigDict:
  config = ml_collections.ConfigDict()
  config.job = 'study'
  config.seed = 0  # of the random cells and of the bootstrap
  config.genotype = ''  # a file; '': search first
  config.random = 3  # random cells
  config.seeds = (0, 1, 2)  # each cell is trained with each of them
  config.tolerance = 0.05  # by which the cost of a random cell may differ
  config.resamples = 1000  # of the bootstrap
  config.search = light_darts_search.get_config(variant)
  config.train = light_darts.get_config(variant)
  return config


def quickstart() -> ml_collections.ConfigDict:
  return paper('quickstart')


def smoke() -> ml_collections.ConfigDict:
  config = paper('smoke')
  config.random = 1
  config.seeds = (0, 1)
  config.tolerance = 0.3
  config.resamples = 100
  # Cells of one size: those of the default have four nodes.
  config.search.model.nodes = 4
  return config
