"""ECAPA-TDNN as a countermeasure: waves in, scores of classes out.

A spectral front end makes features of the wave, in training some of them are
masked, `ECAPA_TDNN` makes an embedding of them, a head compares it with the
classes.

Letters in names: B batch, T samples, N frames, F features, D size of the
embedding, K outputs.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.frontends.spec_augment import SpecAugmentConfig, spec_augment
from jaxspoof.frontends.spectral import PRESETS, Spectral, SpectralConfig
from jaxspoof.models import heads, layers
from jaxspoof.models.ecapa_config import TdnnConfig
from jaxspoof.models.ecapa_tdnn import ECAPA_TDNN

# Fields of both configs; `input_size` follows from the features.
_SHARED = tuple(
  f.name for f in dataclasses.fields(TdnnConfig) if f.name != 'input_size'
)


@dataclasses.dataclass(frozen=True)
class EcapaConfig:
  """What defines an ECAPA-TDNN on waves. Those not listed: `TdnnConfig`.

  Attributes:
    features: the front end: a name of `PRESETS`, a `SpectralConfig`, or a
      mapping of its fields to values, for those of the preset that it names
      under 'preset' or else of the default.
    spec_augment: masks over features in training, a `SpecAugmentConfig` or a
      mapping of its fields; None for none.
    head: 'linear', 'cosine' or 'one_class', see `heads.make`.
    classes: outputs of the head; bona fide is the last.
  """

  features: Any = 'ecapa_mfcc'
  spec_augment: Any = None
  lin_neurons: int = 192
  activation: str = 'relu'
  channels: tuple[int, ...] = (512, 512, 512, 512, 1536)
  kernel_sizes: tuple[int, ...] = (5, 3, 3, 3, 1)
  dilations: tuple[int, ...] = (1, 2, 3, 4, 1)
  attention_channels: int = 128
  res2net_scale: int = 8
  se_channels: int = 128
  global_context: bool = True
  groups: tuple[int, ...] = (1, 1, 1, 1, 1)
  dropout: float = 0.0
  padding: str = 'clip'
  head: str = 'cosine'
  classes: int = 2
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Makes configs of names and mappings and refuses what cannot work."""
    masks = self.spec_augment
    if isinstance(masks, Mapping):
      masks = SpecAugmentConfig(**masks)
    for name, value in (
      ('features', _spectral(self.features)),
      ('spec_augment', masks),
      *((n, getattr(self.tdnn, n)) for n in ('channels', 'groups')),
      *((n, getattr(self.tdnn, n)) for n in ('kernel_sizes', 'dilations')),
    ):
      object.__setattr__(self, name, value)
    heads.check(self.head, self.classes)
    if masks and masks.freq_masks and masks.freq_width > self.features.features:
      raise ValueError(
        f'spec_augment={masks}: needs a freq_width of at most the '
        f'{self.features.features} features'
      )

  @property
  def tdnn(self) -> TdnnConfig:
    """What defines the part behind the front end."""
    own = {name: getattr(self, name) for name in _SHARED}
    return TdnnConfig(_spectral(self.features).features, **own)

  @property
  def min_samples(self) -> int:
    """Shortest wave whose frames every reflection fits into."""
    c = self.features
    more = (self.tdnn.min_frames - 1) * c.hop_length + c.n_fft - 2 * c.pad
    return max(c.min_samples, more)


class SpecAugment(nnx.Module):
  """Masks bands of time and frequency in training mode."""

  def __init__(self, config: SpecAugmentConfig):
    """Starts in training mode."""
    self.config, self.deterministic = config, False

  def set_view(self, deterministic: bool | None = None):
    """Class method used by `nnx.view`.

    Args:
      deterministic: if True, return the input as it is.
    """
    if deterministic is not None:
      self.deterministic = deterministic

  def __call__(self, h_BxNxF, frames_B, rngs: nnx.Rngs | None) -> jax.Array:
    """Returns the features with holes; draws from the stream `mask`."""
    if self.deterministic:
      return h_BxNxF
    if rngs is None:
      raise ValueError(
        'spec_augment needs random numbers in training mode: call the model '
        'with rngs=nnx.Rngs(mask=key), or take its evaluation view'
      )
    return spec_augment(rngs.mask(), h_BxNxF, frames_B, self.config)


class Ecapa(nnx.Module):
  """The countermeasure: waves in, one output for each class out.

  A new module is in training mode: dropout, masks, batch statistics. For
  evaluation take
  `nnx.view(model, deterministic=True, use_running_average=True)`.

  Attributes:
    variable_length: True: clips of a batch may be padded.
  """

  variable_length = True

  def __init__(self, config: EcapaConfig, rngs: nnx.Rngs):
    """Draws the parameters.

    Args:
      config: sizes and rates.
      rngs: stream `params`.
    """
    self.config = config
    self.frontend = Spectral(config.features)
    if config.spec_augment is not None:
      self.augment = SpecAugment(config.spec_augment)
    else:
      self.augment = None
    self.tdnn = ECAPA_TDNN(**vars(config.tdnn), rngs=rngs)
    self.head = heads.make(
      config.head,
      config.lin_neurons,
      config.classes,
      param_dtype=config.param_dtype,
      rngs=rngs,
    )

  def __call__(
    self,
    wave_BxT: jax.Array,
    samples: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> jax.Array:
    """Scores waves.

    Args:
      wave_BxT: floating-point waves in [-1, 1) at the front end's rate.
      samples: int32 `[B]`, valid samples of each padded clip, at least
        `config.min_samples`; None: all. With padding='clip' a clip has the
        scores that it has alone.
      rngs: streams `dropout` and `mask`, for as far as the config has them;
        needed in training mode only.

    Returns:
      float32 outputs of the head `[B, K]` (float64 where the parameters are).

    Raises:
      ValueError: not `[B, T]`, or too short.
      TypeError: waves that are not floating point.
    """
    embedding_BxD = self.embed(wave_BxT, samples, rngs)
    with jax.named_scope('head'):
      return self.head(embedding_BxD)

  def embed(
    self,
    wave_BxT: jax.Array,
    samples: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> jax.Array:
    """The embedding before the head, `[B, lin_neurons]`; args as in a call."""
    self._check(wave_BxT)
    wave_BxT = wave_BxT.astype(layers.wide(wave_BxT.dtype))
    with jax.named_scope('frontend'):
      h_BxNxF, frames_B = self.frontend(wave_BxT, samples)
    if self.augment is not None:
      h_BxNxF = self.augment(h_BxNxF, frames_B, rngs)
    if samples is None:
      frames_B = None
    return self.tdnn.embed(h_BxNxF, frames_B, rngs)[:, 0]

  def _check(self, wave_BxT):
    shape = wave_BxT.shape
    if len(shape) != 2:
      raise ValueError(f'expected waves [batch, samples], got {list(shape)}')
    if not jnp.issubdtype(wave_BxT.dtype, jnp.floating):
      raise TypeError(f'expected floating-point waves, got {wave_BxT.dtype}')
    if shape[1] < self.config.min_samples:
      raise ValueError(
        f'waves of {shape[1]} samples are too short: this model needs at '
        f'least {self.config.min_samples}'
      )


def _spectral(features) -> SpectralConfig:
  """The front end that a name or a mapping stands for."""
  if isinstance(features, SpectralConfig):
    return features
  if isinstance(features, str):
    features = {'preset': features}
  if not isinstance(features, Mapping):
    raise ValueError(
      f'features={features!r}: needs a preset, a mapping or a SpectralConfig'
    )
  changes = dict(features)
  preset = changes.pop('preset', 'ecapa_mfcc')
  if preset not in PRESETS:
    raise ValueError(
      f'features={preset!r}: is none of the presets {", ".join(PRESETS)}'
    )
  return dataclasses.replace(PRESETS[preset], **changes)
