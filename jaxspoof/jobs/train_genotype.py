"""JOB: trains the network that a genotype describes.

It is the training job; the genotype, named in `config.genotype`, becomes part
of the model's config first, so that the run needs no other file afterwards.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from jaxspoof.darts.network.light_darts import read_genotype
from jaxspoof.darts.spaces.genotype import Genotype
from jaxspoof.jobs import train


def train_genotype(values: dict[str, Any], workdir: pathlib.Path) -> dict:
  """Trains, selects and evaluates; see `train.train`.

  Args:
    values: the config of a training run, and `genotype`: a file that a search
      left, the name of a published one, or '' for the hand-made default.
    workdir: folder of the run.

  Raises:
    ValueError: there is no such genotype, or the file is broken.
  """
  values = dict(values)
  genotype = read_genotype(values.pop('genotype', ''))
  return train.train(with_genotype(values, genotype), workdir)


def with_genotype(
  values: Mapping[str, Any], genotype: Genotype
) -> dict[str, Any]:
  """A training config with a genotype as part of the model's."""
  fields = json.loads(genotype.to_json())
  return {**values, 'model': {**values['model'], 'genotype': fields}}
