"""Models by name, and the named variants of each."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from jaxspoof import config as config_lib
from jaxspoof import frontends
from jaxspoof.blocks.heads import Head
from jaxspoof.darts.network.light_darts import LightDarts, LightDartsConfig
from jaxspoof.darts.network.supernet import Supernet, SupernetConfig
from jaxspoof.frontends.spec_augment import SpecAugmentConfig
from jaxspoof.models.aasist import Aasist, AasistConfig
from jaxspoof.models.conformer import Conformer, ConformerConfig
from jaxspoof.models.convtasnet import (
  ConvTasNetEncoder,
  ConvTasNetEncoderConfig,
)
from jaxspoof.models.ecapa import Ecapa, EcapaConfig
from jaxspoof.models.fused import Fused, FusedConfig
from jaxspoof.models.lcnn import Lcnn, LcnnConfig
from jaxspoof.models.localiser import Localiser, LocaliserConfig
from jaxspoof.models.mean import Mean, MeanConfig
from jaxspoof.models.mhfa import Mhfa, MhfaConfig
from jaxspoof.models.nes2net import Nes2Net, Nes2NetConfig
from jaxspoof.models.rawnet2 import RawNet2, RawNet2Config
from jaxspoof.models.sls import Sls, SlsConfig
from jaxspoof.models.spectra import Spectra, SpectraConfig
from jaxspoof.models.spectra_aasist import SpectraAasist, SpectraAasistConfig
from jaxspoof.models.ssl_aasist import SslAasist, SslAasistConfig
from jaxspoof.models.statistics import Statistics, StatisticsConfig
from jaxspoof.system import System, SystemConfig

MODELS: dict[str, tuple[type, type[System]]] = {
  'aasist': (AasistConfig, Aasist),
  'conformer': (ConformerConfig, Conformer),
  'convtasnet': (ConvTasNetEncoderConfig, ConvTasNetEncoder),
  'ecapa': (EcapaConfig, Ecapa),
  'fused': (FusedConfig, Fused),
  'lcnn': (LcnnConfig, Lcnn),
  'light_darts': (LightDartsConfig, LightDarts),
  'localiser': (LocaliserConfig, Localiser),
  'mean': (MeanConfig, Mean),
  'mhfa': (MhfaConfig, Mhfa),
  'nes2net': (Nes2NetConfig, Nes2Net),
  'rawnet2': (RawNet2Config, RawNet2),
  'sls': (SlsConfig, Sls),
  'spectra': (SpectraConfig, Spectra),
  'spectra_aasist': (SpectraAasistConfig, SpectraAasist),
  'ssl_aasist': (SslAasistConfig, SslAasist),
  'statistics': (StatisticsConfig, Statistics),
}


class Variant(NamedTuple):
  """A model under a name, with the sizes that belong to that name.

  Attributes:
    model: a key of `MODELS`.
    config: config of the model, with these sizes.
    frontend: a key of `frontends.FRONTENDS`; '' is the front end that the model
      has by default.
  """

  model: str
  config: Any
  frontend: str = ''


VARIANTS = {
  'aasist': Variant('aasist', AasistConfig()),
  'aasist_l': Variant(
    'aasist',
    AasistConfig(
      channels=(32, 32, 24, 24, 24, 24),
      gat_dims=(24, 32),
      pool_ratios=(0.4, 0.5, 0.7),
    ),
  ),
  # Not published: small enough to be trained on a laptop's CPU in minutes.
  'aasist_s': Variant(
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
  'conformer': Variant('conformer', ConformerConfig()),
  'convtasnet': Variant('convtasnet', ConvTasNetEncoderConfig()),
  # SpeechBrain's default width, and the one of its VoxCeleb weights.
  'ecapa': Variant('ecapa', EcapaConfig()),
  'ecapa_large': Variant(
    'ecapa',
    EcapaConfig(channels=(1024, 1024, 1024, 1024, 3072)),
  ),
  # Not published: for laptops.
  'ecapa_s': Variant(
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
  'ecapa_voxceleb': Variant(
    'ecapa',
    EcapaConfig(channels=(1024, 1024, 1024, 1024, 3072), padding='batch'),
    'fbank80',
  ),
  'ecapa_lfcc': Variant('ecapa', EcapaConfig(), 'lfcc_pc_darts'),
  # Systems side by side, which `parts` names.
  'fused': Variant('fused', FusedConfig()),
  'lcnn': Variant('lcnn', LcnnConfig()),
  # Not published: say of each 20 ms what it is; the second for spectra.
  'localiser': Variant('localiser', LocaliserConfig()),
  'localiser_lcnn': Variant(
    'localiser', LocaliserConfig(channels=(16, 24, 32, 32))
  ),
  # The back end of Hugging Face's classifiers, for self-supervised front ends.
  'mean': Variant('mean', MeanConfig()),
  'mhfa': Variant('mhfa', MhfaConfig()),
  # Not published: for laptops.
  'mhfa_s': Variant('mhfa', MhfaConfig(8, 64, 64)),
  'nes2net': Variant('nes2net', Nes2NetConfig()),
  'rawnet2': Variant('rawnet2', RawNet2Config()),
  'sls': Variant('sls', SlsConfig()),
  'spectra': Variant('spectra', SpectraConfig()),
  'spectra_aasist': Variant('spectra_aasist', SpectraAasistConfig()),
  'ssl_aasist': Variant('ssl_aasist', SslAasistConfig()),
  # Not published: for laptops.
  'ssl_aasist_s': Variant(
    'ssl_aasist',
    SslAasistConfig(
      projection=48,
      channels=(16, 16, 24, 24),
      attention_channels=48,
      gat_dims=(24, 32),
      input_dropout=0.0,
      pool_dropout=0.0,
      way_dropout=0.0,
      output_dropout=0.0,
    ),
  ),
  # Mean, deviation and a layer: for frozen encoders and little data.
  'statistics': Variant('statistics', StatisticsConfig()),
  # The hand-made default; `genotype` makes it what a search has found.
  'light_darts': Variant('light_darts', LightDartsConfig()),
}


def variant(name: str, **changes) -> tuple[Any, type[System]]:
  """The config and the class of a named variant, without front end and head.

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
  model, config, _ = VARIANTS[name]
  return type(config)(**{**vars(config), **changes}), MODELS[model][1]


def system(
  model: Mapping[str, Any],
  frontend: Mapping[str, Any] | str = '',
  *,
  head: str = 'linear',
  classes: int = 2,
) -> SystemConfig:
  """Makes a `SystemConfig` from the sections of a run's config.

  Args:
    model: `name` of a variant, and fields of its config to replace. A section
      without a name is that of a search: fields of a `SupernetConfig`.
    frontend: a name or a section, see `frontends.resolve`; '' is the front end
      that the variant has by default.
    head: kind of the last layer, which the run's loss asks for.
    classes: number of classes, which follows from the run's task.

  Raises:
    ValueError: an unknown name or value, a front end that the model cannot
      take, or a section that sets what follows from loss and task.
    TypeError: a field of the model is not known.
  """
  if own := {'head', 'classes'} & set(model):
    raise ValueError(
      f'config.model sets {" and ".join(sorted(own))}: these follow from '
      'config.loss and config.task'
    )
  model, frontend = _moved(model, frontend)
  usual = ''
  if 'name' in model:
    config, kind = variant(**model)
    usual = VARIANTS[model['name']].frontend
  else:
    config = config_lib.section(SupernetConfig, model, 'config.model')
    kind = Supernet
  own = frontends.FRONTENDS[usual] if usual else config.own_frontend
  resolved = frontends.resolve(frontend, own)
  return SystemConfig(kind, config, resolved, Head(head, classes))


def settled(values: Mapping[str, Any]) -> dict[str, Any]:
  """Replaces the name of a front end in a run's config by all of its fields.

  The config is kept like this in the folder of the run, so that the run can
  still be read when a later version changes what the name stands for.

  Args:
    values: the config as a dictionary. A job with several runs has their
      configs as sections, which are treated alike. Everything else stays.
  """
  values = dict(values)
  for part in ('train', 'search'):
    # What such a run is given depends on cells that are not known yet.
    if isinstance(values.get(part), Mapping):
      model, frontend = _moved(
        values[part]['model'], values[part].get('frontend', '')
      )
      frontend = frontends.said(frontend)
      values[part] = {**values[part], 'model': model, 'frontend': frontend}
  model = values.get('model')
  if not isinstance(model, Mapping) or not model:
    return values
  model, frontend = _moved(model, values.get('frontend', ''))
  made = system(model, frontend).frontend
  section = frontends.as_section(made)
  return {**values, 'model': model, 'frontend': section}


def _moved(
  model: Mapping[str, Any], frontend: Mapping[str, Any] | str
) -> tuple[Mapping[str, Any], Mapping[str, Any] | str]:
  """Sections of model and front end, also from configs of earlier versions.

  In these the front end was `model.features`: a name, all fields of a
  `SpectralConfig`, or the name of a preset and fields that differ from it.
  """
  if 'features' not in model:
    return model, frontend
  if frontends.said(frontend):
    raise ValueError(
      'config.model.features and config.frontend are both set: the former is '
      'the old name of the latter'
    )
  model = dict(model)
  features = model.pop('features')
  if not isinstance(features, Mapping):
    return model, features or ''
  fields = dict(features)
  base = frontends.resolve(fields.pop('preset', ''), frontends.SpectralConfig())
  return model, {**frontends.as_section(base), **fields}
