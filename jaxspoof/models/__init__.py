"""Models by name, and the named variants of each."""

from collections.abc import Mapping
from typing import Any

from jaxspoof.frontends.spec_augment import SpecAugmentConfig
from jaxspoof.models import aasist_cost, ecapa, light_darts_cost
from jaxspoof.models.aasist import Aasist, AasistConfig
from jaxspoof.models.ecapa import Ecapa, EcapaConfig
from jaxspoof.models.light_darts import LightDarts, LightDartsConfig

MODELS = {
  'aasist': (AasistConfig, Aasist),
  'ecapa': (EcapaConfig, Ecapa),
  'light_darts': (LightDartsConfig, LightDarts),
}
MACS = {
  'aasist': aasist_cost.macs,
  'ecapa': ecapa.macs,
  'light_darts': light_darts_cost.macs,
}

VARIANTS = {
  'aasist': ('aasist', AasistConfig()),
  'aasist_l': (
    'aasist',
    AasistConfig(
      channels=(32, 32, 24, 24, 24, 24),
      gat_dims=(24, 32),
      pool_ratios=(0.4, 0.5, 0.7),
    ),
  ),
  # Not published: small enough to be trained on a laptop's CPU in minutes.
  'aasist_s': (
    'aasist',
    AasistConfig(
      sinc_filters=42,
      channels=(16, 16, 24, 24, 24, 24),
      gat_dims=(24, 32),
      pool_ratios=(0.4, 0.5, 0.7),
      input_dropout=0.0,
      pool_dropout=0.0,
      way_dropout=0.0,
      output_dropout=0.0,
    ),
  ),
  # SpeechBrain's default width, and the one of its VoxCeleb weights.
  'ecapa': ('ecapa', EcapaConfig()),
  'ecapa_large': (
    'ecapa',
    EcapaConfig(channels=(1024, 1024, 1024, 1024, 3072)),
  ),
  # Not published: for laptops.
  'ecapa_s': (
    'ecapa',
    EcapaConfig(
      channels=(128, 128, 128, 128, 384),
      attention_channels=64,
      se_channels=64,
      lin_neurons=96,
      spec_augment=SpecAugmentConfig(time_width=20, freq_width=10),
    ),
  ),
  # As SpeechBrain's weights from VoxCeleb expect it.
  'ecapa_voxceleb': (
    'ecapa',
    EcapaConfig(
      features='fbank80',
      channels=(1024, 1024, 1024, 1024, 3072),
      padding='batch',
    ),
  ),
  'ecapa_lfcc': ('ecapa', EcapaConfig(features='lfcc_pc_darts')),
  # The hand-made default; `genotype` makes it what a search has found.
  'light_darts': ('light_darts', LightDartsConfig()),
}


def variant(name: str, **changes):
  """The (config, model class) of a named variant.

  Args:
    name: a key of `VARIANTS`.
    **changes: fields of the config to replace.

  Raises:
    ValueError: the name is not known.
    TypeError: a field is not known.
  """
  if name not in VARIANTS:
    raise ValueError(
      f'model {name!r} is not known; choose one of {", ".join(VARIANTS)}'
    )
  model, config = VARIANTS[name]
  return type(config)(**{**vars(config), **changes}), MODELS[model][1]


def fields(
  section: Mapping[str, Any], head: str, classes: int
) -> dict[str, Any]:
  """Arguments of `variant` from the model section of a run's config.

  Args:
    section: `name` of a variant, and fields of its config to replace.
    head: of the run's loss.
    classes: of the run's task.

  Raises:
    ValueError: the section sets what follows from loss and task.
  """
  if own := {'head', 'classes'} & set(section):
    raise ValueError(
      f'config.model sets {" and ".join(sorted(own))}: these follow from '
      'config.loss and config.task'
    )
  return {**section, 'head': head, 'classes': classes}


def macs(model: Mapping[str, Any], samples: int) -> dict[str, int]:
  """Multiply-accumulates of one clip, by stage and in 'total'.

  Args:
    model: `name` of a variant, and fields of its config to replace.
    samples: length of the clip.
  """
  config, _ = variant(**model)
  return MACS[VARIANTS[model['name']][0]](config, samples)
