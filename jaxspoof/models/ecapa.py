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

from jaxspoof.frontends.spec_augment import SpecAugmentConfig, spec_augment
from jaxspoof.frontends.spectral import PRESETS, SpectralConfig
from jaxspoof.models.ecapa_tdnn import ECAPA_TDNN, TdnnConfig, TdnnSettings
from jaxspoof.system import Encoded, System


@dataclasses.dataclass(frozen=True)
class EcapaConfig(TdnnSettings):
  """What defines the model behind a front end.

  Attributes:
    spec_augment: masks over features in training, a `SpecAugmentConfig` or a
      mapping of its fields; None for none. The others are those of
      `TdnnSettings`.
  """

  spec_augment: Any = None

  def __post_init__(self):
    """Makes a config of a mapping, too."""
    super().__post_init__()
    masks = self.spec_augment
    if isinstance(masks, Mapping):
      object.__setattr__(self, 'spec_augment', SpecAugmentConfig(**masks))

  def tdnn(self, features: int) -> TdnnConfig:
    """The config of the layers behind a front end with this many features."""
    fields = {**vars(self), 'input_size': features}
    del fields['spec_augment']
    return TdnnConfig(**fields)

  @property
  def own_frontend(self) -> SpectralConfig:
    """80 MFCCs, as in the paper."""
    return PRESETS['ecapa_mfcc']

  def check_frontend(self, frontend) -> None:
    """Raises ValueError for features that groups or masks do not fit."""
    self.tdnn(frontend.features)
    masks = self.spec_augment
    if masks and masks.freq_masks and masks.freq_width > frontend.features:
      raise ValueError(
        f'spec_augment={masks}: needs a freq_width of at most the '
        f'{frontend.features} features'
      )


class Ecapa(System):
  """The countermeasure: features in training masked, `ECAPA_TDNN`, a head."""

  variable_length = True

  def build(self, config: EcapaConfig, rngs: nnx.Rngs) -> int:
    """Makes the layers."""
    features = self.frontend.config.features
    self.tdnn = ECAPA_TDNN(**vars(config.tdnn(features)), rngs=rngs)
    return config.lin_neurons

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Encoded:
    """The embedding of features, `[B, lin_neurons]`."""
    masks = self.config.spec_augment
    if masks is not None and not self.deterministic:
      if rngs is None:
        raise ValueError(
          'spec_augment needs random numbers in training mode: call the model '
          'with rngs=nnx.Rngs(mask=key), or take its evaluation view'
        )
      batch, frames, _ = features.shape
      valid_B = frames_B
      if valid_B is None:
        valid_B = jnp.full((batch,), frames, jnp.int32)
      features = spec_augment(rngs.mask(), features, valid_B, masks)
    embedding_BxD = self.tdnn.embed(features, frames_B, rngs)[:, 0]
    return Encoded(embedding_BxD, embedding_BxD)
