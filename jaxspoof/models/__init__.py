"""Models by name, and the named variants of each."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.frontends.spec_augment import SpecAugmentConfig
from jaxspoof.models import arithmetic, inputs
from jaxspoof.models.aasist import Aasist, AasistConfig
from jaxspoof.models.ecapa import Ecapa, EcapaConfig
from jaxspoof.models.light_darts import LightDarts, LightDartsConfig

MODELS = {
  'aasist': (AasistConfig, Aasist),
  'ecapa': (EcapaConfig, Ecapa),
  'light_darts': (LightDartsConfig, LightDarts),
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


def abstract(model: Mapping[str, Any]) -> nnx.Module:
  """A model whose arrays have shapes but no values; see `variant`.

  Args:
    model: `name` of a variant, and fields of its config to replace.
  """
  config, kind = variant(**model)
  return nnx.eval_shape(lambda: kind(config, rngs=nnx.Rngs(0)))


def parameters(model: nnx.Module) -> int:
  """Number of trained values of a model, abstract or not."""
  arrays = jax.tree.leaves(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
  return sum(math.prod(array.shape) for array in arrays)


def macs(model: Mapping[str, Any], samples: int) -> dict[str, int]:
  """Multiply-accumulates of one clip in evaluation, by stage and in 'total'.

  Args:
    model: `name` of a variant, and fields of its config to replace.
    samples: length of the clip.

  Raises:
    ValueError: a clip that is too short for the model.
  """
  made = nnx.view(abstract(model), deterministic=True, use_running_average=True)
  graphdef, arrays = nnx.split(made)
  stages = arithmetic.count(
    lambda arrays, wave: nnx.merge(graphdef, arrays)(wave),
    arrays,
    jax.ShapeDtypeStruct((1, samples), jnp.float32),
  )
  if isinstance(made, LightDarts) and made.config.features != inputs.SINC:
    # As the search does, which has no choice of spectral features.
    stages['frontend'] = 0
  return {**stages, 'total': sum(stages.values())}
