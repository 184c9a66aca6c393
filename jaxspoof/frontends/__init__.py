"""Front ends: waveforms `[B, T]` in, features `[B, frames, features]` out."""

from jaxspoof.frontends.spectral import PRESETS, Spectral, SpectralConfig


def make(config: SpectralConfig | str = 'ecapa_mfcc', **changes) -> Spectral:
  """A spectral front end.

  Args:
    config: what to compute, or a key of `PRESETS`.
    **changes: fields of the config to replace.

  Raises:
    ValueError: the name is not known or a value cannot work.
    TypeError: a field is not known.
  """
  if isinstance(config, str):
    if config not in PRESETS:
      raise ValueError(
        f'front end {config!r} is not known; choose one of {", ".join(PRESETS)}'
      )
    config = PRESETS[config]
  return Spectral(SpectralConfig(**{**vars(config), **changes}))
