"""ECAPA-TDNN as a countermeasure: waves in, scores of classes out.

A front end makes features of the wave, in training some of them are masked,
`ECAPA_TDNN` makes an embedding of them, a head compares it with the classes.

Letters in names: B batch, N frames, F features, D size of the embedding.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import heads
from jaxspoof.frontends.spec_augment import SpecAugmentConfig, spec_augment
from jaxspoof.frontends.spectral import PRESETS, SpectralConfig
from jaxspoof.models.ecapa_tdnn import ECAPA_TDNN, TdnnConfig
from jaxspoof.system import Encoded, FrontendConfig, System

# Fields of both configs; `input_size` follows from the front end.
_SHARED = tuple(
  f.name for f in dataclasses.fields(TdnnConfig) if f.name != 'input_size'
)


@dataclasses.dataclass(frozen=True)
class EcapaConfig:
  """What defines an ECAPA-TDNN. Fields not listed are those of `TdnnConfig`.

  Attributes:
    spec_augment: masks over features in training, a `SpecAugmentConfig` or a
      mapping of its fields; None for none.
  """

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
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Makes a config of a mapping and refuses what cannot work."""
    masks = self.spec_augment
    if isinstance(masks, Mapping):
      object.__setattr__(self, 'spec_augment', SpecAugmentConfig(**masks))
    tdnn = self.tdnn(self._groups)
    for name in ('channels', 'groups', 'kernel_sizes', 'dilations'):
      object.__setattr__(self, name, getattr(tdnn, name))

  def tdnn(self, features: int) -> TdnnConfig:
    """What defines the layers behind a front end of so many features."""
    return TdnnConfig(features, **{n: getattr(self, n) for n in _SHARED})

  @property
  def own_frontend(self) -> SpectralConfig:
    """80 MFCCs, as in the paper."""
    return PRESETS['ecapa_mfcc']

  @property
  def min_frames(self) -> int:
    """Shortest sequence that every reflection fits into."""
    return self.tdnn(self._groups).min_frames

  def check_frontend(self, frontend) -> None:
    """Refuses features that groups or masks do not fit."""
    self.tdnn(frontend.features)
    masks = self.spec_augment
    if masks and masks.freq_masks and masks.freq_width > frontend.features:
      raise ValueError(
        f'spec_augment={masks}: needs a freq_width of at most the '
        f'{frontend.features} features'
      )

  @property
  def _groups(self) -> int:
    """A number of features that fits, for what does not depend on it."""
    return next(iter(self.groups), 1)


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


class Ecapa(System):
  """The countermeasure: features in training masked, `ECAPA_TDNN`, a head."""

  variable_length = True

  def __init__(
    self,
    config: EcapaConfig,
    rngs: nnx.Rngs,
    *,
    frontend: FrontendConfig | None = None,
    head: heads.Head = heads.Head(),  # noqa: B008 (frozen)
  ):
    """Draws the parameters.

    Args:
      config: sizes and rates.
      rngs: stream `params`.
      frontend: of the features; None for 80 MFCCs.
      head: what the last layer is.
    """
    super().__init__(config, frontend)
    if config.spec_augment is not None:
      self.augment = SpecAugment(config.spec_augment)
    else:
      self.augment = None
    features = self.frontend.config.features
    self.tdnn = ECAPA_TDNN(**vars(config.tdnn(features)), rngs=rngs)
    self.head = head.make(
      config.lin_neurons, param_dtype=config.param_dtype, rngs=rngs
    )

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Encoded:
    """The embedding of features, `[B, lin_neurons]`."""
    if self.augment is not None:
      batch, frames, _ = features.shape
      valid_B = frames_B
      if valid_B is None:
        valid_B = jnp.full((batch,), frames, jnp.int32)
      features = self.augment(features, valid_B, rngs)
    embedding_BxD = self.tdnn.embed(features, frames_B, rngs)[:, 0]
    return Encoded(embedding_BxD, embedding_BxD)
