"""SpecAugment: bands of time and frequency silenced in training.

Letters in names: B batch, N frames, F features, M masks.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from jaxspoof.frontends import masked

FILLS = ('zero', 'mean')


@dataclasses.dataclass(frozen=True)
class SpecAugmentConfig:
  """How much of a clip is masked (Park et al. 2019, arXiv 1904.08779).

  The defaults are the paper's LB policy without time warping, for features of
  10 ms.

  Attributes:
    time_masks: number of masks over frames.
    time_width: largest width of a mask over frames.
    time_share: largest share of a clip that one such mask may cover.
    freq_masks: number of masks over features.
    freq_width: largest width of a mask over features.
    fill: what masked features become: 'zero' (the mean, where the mean is
      normalised) or 'mean' (of each feature over the clip).
  """

  time_masks: int = 1
  time_width: int = 100
  time_share: float = 1.0
  freq_masks: int = 1
  freq_width: int = 27
  fill: str = 'zero'

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    for name in ('time_masks', 'time_width', 'freq_masks', 'freq_width'):
      value = getattr(self, name)
      whole = isinstance(value, int) and value >= 0
      self._need(name, whole, 'a whole number from 0 on')
    self._need('time_share', 0 <= self.time_share <= 1, 'a share in [0, 1]')
    self._need('fill', self.fill in FILLS, f'one of {FILLS}')

  def _need(self, name: str, fulfilled: bool, wanted: str):
    if not fulfilled:
      raise ValueError(f'{name}={getattr(self, name)!r}: needs {wanted}')


@functools.partial(jax.jit, static_argnames='config')
def spec_augment(
  key: jax.Array,
  h_BxNxF: jax.Array,
  frames_B: jax.Array | None = None,
  config: SpecAugmentConfig | None = None,
) -> jax.Array:
  """Masks bands of time and frequency, drawn anew for each clip.

  A mask's width is uniform over 0 to the widest, then its start uniform over
  all positions where it fits among the clip's frames. The draws of clip i
  depend on the key and on i, not on the size or the length of the batch.

  Args:
    key: random key.
    h_BxNxF: features.
    frames_B: int32, frames of each clip; None where each fills its row.
    config: None for the defaults.

  Returns:
    The same shape and dtype; frames past a clip's end stay as they are.

  Raises:
    ValueError: a mask may be wider than there are features.
  """
  config = config or SpecAugmentConfig()
  batch, frames, features = h_BxNxF.shape
  if config.freq_masks and config.freq_width > features:
    raise ValueError(
      f'freq_width={config.freq_width}: needs at most the {features} features'
    )
  if frames_B is None:
    frames_B = jnp.full((batch,), frames)
  frames_B = frames_B.astype(jnp.int32)
  key_B = jax.vmap(jax.random.fold_in, (None, 0))(key, jnp.arange(batch))
  hidden = jax.vmap(_hidden, (0, 0, None, None, None))
  hidden_BxNxF = hidden(key_B, frames_B, frames, features, config)
  valid_BxNx1 = masked.valid_frames(frames_B, frames)
  fill = _mean(h_BxNxF, valid_BxNx1) if config.fill == 'mean' else 0
  return jnp.where(hidden_BxNxF & valid_BxNx1, fill, h_BxNxF)


def _hidden(key, valid, frames: int, features: int, c: SpecAugmentConfig):
  """What of one clip is masked: bool `[frames, features]`."""
  time_key, freq_key = jax.random.split(key)
  share = (c.time_share * valid.astype(jnp.float32)).astype(jnp.int32)
  widest = jnp.minimum(c.time_width, share)
  time_N = _bands(time_key, c.time_masks, widest, valid, frames)
  freq_F = _bands(freq_key, c.freq_masks, c.freq_width, features, features)
  return time_N[:, None] | freq_F[None]


def _bands(key, masks: int, widest, room, size: int) -> jax.Array:
  """True inside `masks` random bands among the first `room` of `size`."""
  width_key, start_key = jax.random.split(key)
  width_M = _whole(width_key, masks, widest)
  start_M = _whole(start_key, masks, room - width_M)
  index_1xN = jnp.arange(size, dtype=jnp.int32)[None]
  inside = index_1xN >= start_M[:, None]
  return (inside & (index_1xN < (start_M + width_M)[:, None])).any(0)


def _whole(key, count: int, last) -> jax.Array:
  """`count` whole numbers, uniform over 0 to `last`."""
  return jax.random.randint(key, (count,), 0, last + 1, jnp.int32)


def _mean(h_BxNxF, valid_BxNx1) -> jax.Array:
  total = jnp.where(valid_BxNx1, h_BxNxF, 0).sum(1, keepdims=True)
  count = valid_BxNx1.sum(1, keepdims=True, dtype=h_BxNxF.dtype)
  return total / jnp.maximum(count, 1)
