"""Front ends: waves `[B, T]` in, features `[B, frames, features]` out.

What each has to offer is said in `jaxspoof.system`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from flax import nnx

from jaxspoof.frontends.distillmos import DistillMos, DistillMosConfig
from jaxspoof.frontends.joined import Joined, JoinedConfig
from jaxspoof.frontends.raw import SincBank, SincConfig, WaveConfig
from jaxspoof.frontends.spectral import PRESETS, Spectral, SpectralConfig
from jaxspoof.frontends.ssl.frontend import Ssl, SslConfig
from jaxspoof.frontends.ssl.parts import unstack
from jaxspoof.frontends.ssl.states import StatesConfig
from jaxspoof.frontends.whisper.frontend import Whisper, WhisperConfig

__all__ = [
  'DistillMos',
  'DistillMosConfig',
  'FRONTENDS',
  'PRESETS',
  'Joined',
  'JoinedConfig',
  'SincBank',
  'SincConfig',
  'Spectral',
  'SpectralConfig',
  'Ssl',
  'SslConfig',
  'StatesConfig',
  'TRAINED',
  'WaveConfig',
  'Whisper',
  'WhisperConfig',
  'as_section',
  'changed',
  'encoders',
  'make',
  'resolve',
  'said',
  'unstack',
]

Config = (
  WaveConfig
  | SincConfig
  | SpectralConfig
  | SslConfig
  | WhisperConfig
  | DistillMosConfig
  | JoinedConfig
)

# What `config.frontend.name` may be. The first seven are kinds, of which all
# fields may be given; the others are sets of fields of 'spectral'.
FRONTENDS: dict[str, Config] = {
  'wave': WaveConfig(),
  'sinc': SincConfig(),
  'spectral': SpectralConfig(),
  'ssl': SslConfig(),
  'whisper': WhisperConfig(),
  'distillmos': DistillMosConfig(),
  'joined': JoinedConfig(),
  'log_mel': SpectralConfig(kind='log_mel'),
  'mfcc': PRESETS['ecapa_mfcc'],
  'lfcc': PRESETS['lfcc_pc_darts'],
  **PRESETS,
}
_WHOLE = 'spectral'  # of this one fields may be None
_MADE_BY = {
  SincConfig: SincBank,
  SpectralConfig: Spectral,
  SslConfig: Ssl,
  WhisperConfig: Whisper,
  DistillMosConfig: DistillMos,
  JoinedConfig: Joined,
}
# Front ends that have weights of their own, in a part named `encoder`.
TRAINED = (StatesConfig, DistillMosConfig)
_KINDS = ('wave', 'sinc', 'spectral', 'ssl', 'whisper', 'distillmos', 'joined')
KINDS = {type(FRONTENDS[name]): name for name in _KINDS}


def make(
  config: Config | str = 'ecapa_mfcc',
  *,
  rngs: nnx.Rngs | None = None,
  **changes,
):
  """Makes a front end.

  Args:
    config: a config that says what to compute, or a key of `FRONTENDS`.
    rngs: stream `params`; needed by front ends that have weights.
    **changes: fields of the config to replace.

  Raises:
    ValueError: the name is not known or a value cannot work.
    TypeError: a field is not known.
  """
  config = dataclasses.replace(_named(config), **changes)
  if isinstance(config, JoinedConfig):
    return Joined(config, rngs)  # its parts say what they need
  if not isinstance(config, TRAINED):
    return _MADE_BY[type(config)](config)
  if rngs is None:
    raise ValueError(
      f'front end {KINDS[type(config)]!r} has weights: give rngs'
    )
  return _MADE_BY[type(config)](config, rngs)


def resolve(section: Mapping[str, Any] | str, own: Config) -> Config:
  """The front end that the `frontend` section of a run's config describes.

  Args:
    section: a dictionary with `name`, a key of `FRONTENDS` or '' for the front
      end that the model has by default, and fields to change. A field that is
      None keeps the value of the named front end. The name 'spectral' is the
      exception: it stands for no published front end, and None is a value like
      others there. A text is taken for the name.
    own: config of the front end that the model has by default.

  Raises:
    ValueError: the name is not known, the front end has no such field, or a
      value cannot work.
  """
  given = said(section)
  name = given.pop('name', '')
  if name == _WHOLE or name not in ('', KINDS[type(own)]):
    base = _named(name)
  else:
    base = own
  known = [field.name for field in dataclasses.fields(base)]
  if extra := sorted(set(given) - set(known)):
    what = KINDS[type(base)] if name == '' else name
    raise ValueError(
      f'frontend.{extra[0]}={given[extra[0]]!r} is set, but front end {what!r} '
      f'has no {extra[0]}; it has {", ".join(known)}'
    )
  try:
    return dataclasses.replace(base, **given)
  except ValueError as error:
    raise ValueError(f'config.frontend: {error}') from error


def said(section: Mapping[str, Any] | str) -> dict[str, Any]:
  """The fields that a section sets; those left at None or '' are dropped.

  Args:
    section: as for `resolve`.
  """
  if isinstance(section, str):
    section = {'name': section}
  whole = section.get('name') == _WHOLE
  fields = {f.name for f in dataclasses.fields(SpectralConfig)} if whole else ()
  return {
    name: value
    for name, value in section.items()
    if value not in ('', None) or name in fields
  }


def as_section(config: Config) -> dict[str, Any]:
  """Turns a front end into the section that `resolve` reads it from."""
  section = {'name': KINDS[type(config)], **dataclasses.asdict(config)}
  if isinstance(config, JoinedConfig):
    section['parts'] = tuple(map(as_section, config.parts))
  return section


def encoders(config: Config) -> dict[str, StatesConfig | DistillMosConfig]:
  """The front ends with weights of their own in one.

  Returns:
    Their configs, by their place in the front end's module: the name of a part
    of 'joined', or '' for the front end itself.
  """
  joined = isinstance(config, JoinedConfig)
  parts = config.named if joined else {'': config}
  return {k: part for k, part in parts.items() if isinstance(part, TRAINED)}


def changed(config: Config, encoders: Mapping[str, Config]) -> Config:
  """A front end with other encoders, by their places: see `encoders`."""
  if not isinstance(config, JoinedConfig):
    return encoders.get('', config)
  named = config.named.items()
  return JoinedConfig(tuple(encoders.get(place, p) for place, p in named))


def _named(config: Config | str) -> Config:
  if not isinstance(config, str):
    return config
  if config not in FRONTENDS:
    raise ValueError(
      f'front end {config!r} is not known; choose one of {", ".join(FRONTENDS)}'
    )
  return FRONTENDS[config]
