"""Mean and deviation of the features over time, and one hidden layer.

The plainest back end for a frozen encoder whose states tell real from made: it
sees no single frame, and so learns little by heart where training has few
systems. Mean and deviation over time are the statistics pooling of Snyder,
Garcia-Romero, Povey, Khudanpur 2017, "Deep Neural Network Embeddings for
Text-Independent Speaker Verification"; the rest is ours.

Letters in names: B batch, N frames, F features, S states, D width of a state or
size of the embedding.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.models.back_end import BackEndConfig
from jaxspoof.system import Encoded, FrontendConfig, Kept, System

_LEAST = 1e-6  # variance that is added before the root


@dataclasses.dataclass(frozen=True)
class StatisticsConfig(BackEndConfig):
  """What defines a `Statistics`.

  Attributes:
    states: numbers of the states that are looked at, where the features are
      states of an encoder side by side (`frontend.output='all'`), 0 being the
      input of its first layer; (): everything.
    embedding: size of the hidden layer, which is the embedding.
    dropout: rate at which statistics, and values of the hidden layer, are set
      to zero in training.
    param_dtype: dtype of the parameters, 'float32' or 'float64'.
  """

  states: tuple[int, ...] = ()
  embedding: int = 256
  dropout: float = 0.5
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Makes `states` a tuple; raises ValueError for values that cannot work."""
    object.__setattr__(self, 'states', tuple(self.states))  # JSON has lists
    if self.embedding < 1:
      raise ValueError(f'embedding={self.embedding}: needs at least 1')
    if not 0 <= self.dropout < 1:
      raise ValueError(f'dropout={self.dropout}: needs a rate in [0, 1)')

  def check_frontend(self, frontend: FrontendConfig) -> None:
    """Raises ValueError for states that the front end does not give."""
    count = getattr(frontend, 'states', 1)
    if wrong := [n for n in self.states if not 0 <= n < count]:
      raise ValueError(
        f'states={self.states}: the front end gives {count}, so there is no '
        f'number {wrong[0]}'
      )


class Statistics(System):
  """Statistics over the valid frames, normalised, and a layer with a ReLU."""

  variable_length = True

  def build(self, config: StatisticsConfig, rngs: nnx.Rngs) -> int:
    """Makes the layers."""
    frontend, dtype = self.frontend.config, config.param_dtype
    self.count = getattr(frontend, 'states', 1)
    features = _count(config, frontend)
    self.norm = layers.BatchNorm(features, param_dtype=dtype)
    self.hidden = layers.linear(
      features, config.embedding, param_dtype=dtype, rngs=rngs
    )
    self.dropout = layers.Dropout(config.dropout)
    return config.embedding

  @classmethod
  def keeps(
    cls, config: StatisticsConfig, frontend: FrontendConfig, samples: int
  ) -> Kept:
    """The statistics, unless the front end has trained values behind them."""
    if not _are_features(frontend):
      return super().keeps(config, frontend, samples)
    # Rounded to bfloat16, the mean of a feature that hardly varies around a
    # large value would say nothing.
    of = {'statistics': config.states}
    return Kept(1, _count(config, frontend), 'float32', of)

  def kept(
    self, wave_BxT: jax.Array, samples: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """The statistics as one frame: see `System.kept`."""
    if not _are_features(self.frontend.config):
      return super().kept(wave_BxT, samples)
    seen_Bx2F = self.statistics(*self.features(wave_BxT, samples))
    return seen_Bx2F[:, None], jnp.ones(len(seen_Bx2F), jnp.int32)

  def of_kept(
    self, kept_BxWxF: jax.Array, frames_B: jax.Array | None
  ) -> tuple[jax.Array, jax.Array | None]:
    """The statistics again, `[B, 2F]`, which `encode` takes, too."""
    if not _are_features(self.frontend.config):
      return super().of_kept(kept_BxWxF, frames_B)
    return kept_BxWxF[:, 0], frames_B

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Encoded:
    """The values of the hidden layer, `[B, embedding]`."""
    seen_Bx2F = features
    if features.ndim == 3:
      seen_Bx2F = self.statistics(features, frames_B)
    noise = None
    if self.config.dropout and not self.dropout.deterministic:
      count = seen_Bx2F.shape[1] + self.config.embedding
      noise = layers.Noise.draw(rngs, len(seen_Bx2F), count)
    with jax.named_scope('hidden'):
      seen_Bx2F = self.dropout(self.norm(seen_Bx2F), noise)
      embedding_BxD = jax.nn.relu(self.hidden(seen_Bx2F))
    return Encoded(embedding_BxD, self.dropout(embedding_BxD, noise))

  def statistics(
    self, features: jax.Array, frames_B: jax.Array | None = None
  ) -> jax.Array:
    """Mean and deviation of each feature over the valid frames, `[B, 2F]`."""
    if self.config.states:
      batch, frames, _ = features.shape
      h_BxNxSxD = features.reshape(batch, frames, self.count, -1)
      h_BxNxSxD = h_BxNxSxD[:, :, jnp.array(self.config.states)]
      features = h_BxNxSxD.reshape(batch, frames, -1)
    where = None
    if frames_B is not None:
      index_1xN = jnp.arange(features.shape[1], dtype=frames_B.dtype)[None]
      where = (index_1xN < frames_B[:, None])[..., None]
    with jax.named_scope('statistics'):
      mean_Bx1xF = features.mean(1, where=where, keepdims=True)
      variance_BxF = jnp.square(features - mean_Bx1xF).mean(1, where=where)
      return jnp.concatenate(
        [mean_Bx1xF[:, 0], jnp.sqrt(variance_BxF + _LEAST)], -1
      )


def _count(config: StatisticsConfig, frontend: FrontendConfig) -> int:
  """Number of statistics: two of each feature that is looked at."""
  states = getattr(frontend, 'states', 1)
  width = frontend.features // states
  return 2 * width * len(config.states or range(states))


def _are_features(frontend: Any) -> bool:
  """Whether what a front end keeps are its features, not parts of them."""
  kept = getattr(frontend, 'kept_features', None)
  return kept == frontend.features
