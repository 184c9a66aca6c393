"""A countermeasure from ECAPA-TDNN: features, network, head.

Letters in names: B batch, T samples, N frames, F features, D embedding, K
outputs.
"""

import dataclasses

import jax
from flax import nnx

from jaxspoof.frontends import spectral
from jaxspoof.frontends.spec_augment import SpecAugmentConfig, spec_augment
from jaxspoof.models import ecapa_cost, heads
from jaxspoof.models.ecapa_config import TdnnConfig
from jaxspoof.models.ecapa_tdnn import ECAPA_TDNN

NO_MASKS = SpecAugmentConfig(time_masks=0, freq_masks=0)


@dataclasses.dataclass(frozen=True)
class EcapaConfig:
  """What defines the countermeasure.

  Attributes:
    features: what the network hears; 80 MFCCs by default.
    spec_augment: bands that are silenced in training; none by default.
    lin_neurons: size of the embedding.
    channels: and the following ones, see `ecapa_config.TdnnConfig`.
    kernel_sizes: see there.
    dilations: see there.
    attention_channels: see there.
    res2net_scale: see there.
    se_channels: see there.
    global_context: see there.
    dropout: see there.
    padding: see there.
    head: kind of the last layer, see `heads`; follows from the loss.
    classes: bona fide is the last one; for detection spoof and bona fide.
    dtype: of the network up to its pooling; features and sums are at least
      float32.
    param_dtype: of parameters and statistics.
  """

  features: spectral.SpectralConfig = spectral.SpectralConfig()
  spec_augment: SpecAugmentConfig = NO_MASKS
  lin_neurons: int = 192
  channels: tuple[int, ...] = (512, 512, 512, 512, 1536)
  kernel_sizes: tuple[int, ...] = (5, 3, 3, 3, 1)
  dilations: tuple[int, ...] = (1, 2, 3, 4, 1)
  attention_channels: int = 128
  res2net_scale: int = 8
  se_channels: int = 128
  global_context: bool = True
  dropout: float = 0.0
  padding: str = 'clip'
  head: str = 'cosine'
  classes: int = 2
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Makes dataclasses and tuples of what a file holds; checks all."""
    for name, kind in (
      ('features', spectral.SpectralConfig),
      ('spec_augment', SpecAugmentConfig),
    ):
      if not isinstance(value := getattr(self, name), kind):
        object.__setattr__(self, name, kind(**value))
    for name in ('channels', 'kernel_sizes', 'dilations'):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    heads.check(self.head, self.classes)
    widest, features = self.spec_augment.freq_width, self.features.features
    if self.spec_augment.freq_masks and widest > features:
      raise ValueError(
        f'spec_augment.freq_width={widest}: needs at most the {features} '
        'features'
      )
    _ = self.network

  @property
  def network(self) -> TdnnConfig:
    """The part that is an ECAPA-TDNN."""
    names = {field.name for field in dataclasses.fields(TdnnConfig)}
    shared = {k: v for k, v in vars(self).items() if k in names}
    layers = (1,) * len(self.channels)
    return TdnnConfig(self.features.features, groups=layers, **shared)

  @property
  def min_samples(self) -> int:
    """Shortest wave whose frames every reflection fits into."""
    samples = self.features.min_samples
    while self.features.frames(samples) < self.network.min_frames:
      samples += 1
    return samples


class Ecapa(nnx.Module):
  """The countermeasure: waves in, outputs of its head out.

  A new module is in training mode: masks, dropout, batch statistics. For
  evaluation take
  `nnx.view(model, deterministic=True, use_running_average=True)`.

  Attributes:
    variable_length: True: clips of a batch may be padded.
  """

  variable_length = True

  def __init__(self, config: EcapaConfig, rngs: nnx.Rngs):
    """Draws the parameters.

    Args:
      config: features, sizes and rates.
      rngs: stream `params`.
    """
    self.config = config
    self.frontend = spectral.Spectral(config.features)
    self.network = ECAPA_TDNN(**vars(config.network), rngs=rngs)
    self.output = heads.make(
      config.head,
      config.lin_neurons,
      config.classes,
      param_dtype=config.param_dtype,
      rngs=rngs,
    )
    self.deterministic = False

  def set_view(self, deterministic: bool | None = None):
    """Class method used by `nnx.view`.

    Args:
      deterministic: if True, mask nothing.
    """
    if deterministic is not None:
      self.deterministic = deterministic

  def __call__(
    self,
    wave_BxT: jax.Array,
    samples: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> jax.Array:
    """Scores waves.

    Args:
      wave_BxT: floating-point waves in [-1, 1) at `config.features.
        sample_rate`, each followed by zeros to the length of the longest.
      samples: int32 [B], valid samples of each, from `config.min_samples` on;
        None: all.
      rngs: in training mode, stream `mask` where features are masked, and
        stream `dropout` where there is dropout.

    Returns:
      float32 outputs `[B, K]` of the head: cosines for the default one.

    Raises:
      ValueError: not `[B, T]`, not floating point, or too short.
    """
    return self.output(self.embed(wave_BxT, samples, rngs))

  def embed(
    self,
    wave_BxT: jax.Array,
    samples: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> jax.Array:
    """The embedding, `[B, lin_neurons]`. Arguments as in `__call__`."""
    if wave_BxT.ndim == 2 and wave_BxT.shape[1] < self.config.min_samples:
      raise ValueError(
        f'waves of {wave_BxT.shape[1]} samples are too short: this model needs '
        f'at least {self.config.min_samples} (repeat shorter clips)'
      )
    h_BxNxF, frames_B = self.frontend(wave_BxT, samples)
    h_BxNxF = self._mask(h_BxNxF, frames_B, rngs)
    if samples is None:
      frames_B = None
    return self.network.embed(h_BxNxF, frames_B, rngs)[:, 0]

  def _mask(self, h_BxNxF, frames_B, rngs):
    masks = self.config.spec_augment
    if self.deterministic or not (masks.time_masks or masks.freq_masks):
      return h_BxNxF
    if rngs is None:
      raise ValueError(
        'spec_augment needs random numbers in training mode: call the model '
        'with rngs=nnx.Rngs(mask=key), or take its evaluation view'
      )
    return spec_augment(rngs.mask(), h_BxNxF, frames_B, masks)


def macs(config: EcapaConfig, samples: int) -> dict[str, int]:
  """Multiply-accumulates of one clip, by stage and in 'total'.

  The features are left out: a Fourier transform is below 1 % of the network.
  """
  return ecapa_cost.macs(config.network, config.features.frames(samples))


def parameters(config: EcapaConfig) -> int:
  """Number of trained values."""
  return ecapa_cost.parameters(config.network) + heads.parameters(
    config.head, config.lin_neurons, config.classes
  )
