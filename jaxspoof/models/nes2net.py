"""Nes2Net-X: nested Res2Nets on features that no layer has made fewer.

Liu, Truong, Das, Lee, Li 2025, "Nes2Net: A Lightweight Nested Architecture for
Foundation Model Driven Speech Anti-spoofing", arXiv 2504.05657;
github.com/Liu-Tianchi/Nes2Net_ASVspoof_ITW.

Letters in names: B batch, N frames, D features, C features of a part, W
features of a part of a part, K columns.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.models.back_end import BackEndConfig
from jaxspoof.system import Encoded, System

TAPS = 3


@dataclasses.dataclass(frozen=True)
class Nes2NetConfig(BackEndConfig):
  """What defines the back end; the defaults are the published one.

  Attributes:
    parts: number of parts that features are divided into.
    inner_parts: number of parts that these are divided into.
    dilation: of convolutions over time, in frames.
    squeeze: features of a part for each one in the middle of the squeeze and
      excitation.
    columns: whether each step of a block convolves what all steps before it
      have made anew, as in Nes2Net-X, or the sum of the last one and of the
      next part, as in Nes2Net.
    param_dtype: dtype of parameters and running statistics.
  """

  parts: int = 8
  inner_parts: int = 8
  dilation: int = 2
  squeeze: int = 1
  columns: bool = True
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    for name, least in (
      ('parts', 2), ('inner_parts', 2), ('dilation', 1), ('squeeze', 1)
    ):  # fmt: skip
      if getattr(self, name) < least:
        raise ValueError(
          f'{name}={getattr(self, name)!r}: needs at least {least}'
        )


class Nes2Net(System):
  """The back end: a sequence of features in, an embedding of as many out.

  A clip in a padded batch has the embedding that it has alone.
  """

  variable_length = True

  def build(self, config: Nes2NetConfig, rngs: nnx.Rngs) -> int:
    """Draws the parameters as the original does."""
    size = -(-self.frontend.config.features // config.parts)
    features, norm = size * config.parts, dict(param_dtype=config.param_dtype)
    # Named attributes: integer keys of nnx.List do not survive checkpoints.
    for i in range(config.parts - 1):
      setattr(self, f'block{i}', Block(size, config, rngs))
      setattr(self, f'norm{i}', layers.BatchNorm(size, **norm))
    self.last_norm = layers.BatchNorm(features, **norm)
    return features

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Encoded:
    """The embedding of features, `[B, D]`, D with the zeros behind them."""
    del rngs
    valid_BxN = None
    if frames_B is not None:
      index_1xN = jnp.arange(features.shape[1], dtype=frames_B.dtype)[None]
      valid_BxN = index_1xN < frames_B[:, None]
    count = self.config.parts
    lacking = -features.shape[-1] % count
    features = jnp.pad(features, ((0, 0), (0, 0), (0, lacking)))
    parts = jnp.split(features, count, -1)
    found, h = [], None
    with jax.named_scope('blocks'):
      for i, part in enumerate(parts[:-1]):
        h = part if h is None else h + part
        h = jax.nn.relu(getattr(self, f'block{i}')(h, valid_BxN))
        h = getattr(self, f'norm{i}')(h, valid_BxN)
        found.append(h)
    h_BxNxD = jnp.concatenate([*found, parts[-1]], -1)
    h_BxNxD = jax.nn.relu(self.last_norm(h_BxNxD, valid_BxN))
    embedding_BxD = _mean(h_BxNxD, valid_BxN)
    return Encoded(embedding_BxD, embedding_BxD)


class Block(nnx.Module):
  """A Res2Net over the features of one part, with squeeze and excitation.

  Its parts are columns of an image, of which each step has one more: all
  columns are convolved anew, and a learned sum of them is what the step gives.
  """

  def __init__(self, size: int, config: Nes2NetConfig, rngs: nnx.Rngs):
    """Draws the parameters for a part of `size` features."""
    dtype = config.param_dtype
    options, norm = dict(param_dtype=dtype, rngs=rngs), dict(param_dtype=dtype)
    self.parts, self.dilation = config.inner_parts, config.dilation
    self.columns = config.columns
    width = max(1, size // self.parts)
    self.input = layers.linear(size, width * self.parts, **options)
    self.input_norm = layers.BatchNorm(width * self.parts, **norm)
    for i in range(self.parts - 1):
      conv = layers.Conv2d(
        width, width, (TAPS, 1), padding=((0, 0), (0, 0)), **options
      )
      setattr(self, f'conv{i}', conv)
      setattr(self, f'norm{i}', layers.BatchNorm(width, **norm))
      if config.columns:
        share = layers.filled(1 / (i + 2), (i + 2,), dtype)
        setattr(self, f'share{i}', nnx.Param(share))
    self.output = layers.linear(width * self.parts, size, **options)
    self.output_norm = layers.BatchNorm(size, **norm)
    middle = max(1, size // config.squeeze)
    self.squeeze = layers.linear(size, middle, **options)
    self.excite = layers.linear(middle, size, **options)

  def __call__(
    self, x_BxNxC: jax.Array, valid_BxN: jax.Array | None = None
  ) -> jax.Array:
    """Returns `[B, N, C]`.

    Args:
      x_BxNxC: features of the part.
      valid_BxN: which frames are a clip's own; None: all.
    """
    h = self.input_norm(jax.nn.relu(self.input(x_BxNxC)), valid_BxN)
    *parts, last = jnp.split(h, self.parts, -1)
    convolve = self._of_columns if self.columns else self._of_sums
    found = convolve(parts, last, valid_BxN)
    h = jax.nn.relu(self.output(jnp.concatenate([*found, last], -1)))
    h = self.output_norm(h, valid_BxN)
    h_BxC = jax.nn.relu(self.squeeze(_mean(h, valid_BxN)))
    gate_BxC = jax.nn.sigmoid(self.excite(h_BxC))
    return h * gate_BxC[:, None] + x_BxNxC

  def _of_sums(self, parts, last, valid_BxN) -> list[jax.Array]:
    """What is made of each part, added to what was made of those before."""
    del last
    found, h = [], None
    for i, part in enumerate(parts):
      h = part if h is None else h + part
      h = self._convolved(i, h[:, :, None], valid_BxN)[:, :, 0]
      h = getattr(self, f'norm{i}')(jax.nn.relu(h), valid_BxN)
      found.append(h)
    return found

  def _of_columns(self, parts, last, valid_BxN) -> list[jax.Array]:
    """Learned sums of columns, of which each step has one more."""
    columns_BxNxKxW, found = last[:, :, None], []
    for i, part in enumerate(parts):
      columns = jnp.concatenate([columns_BxNxKxW, part[:, :, None]], 2)
      columns = jax.nn.relu(self._convolved(i, columns, valid_BxN))
      mask = None
      if valid_BxN is not None:
        mask = jnp.broadcast_to(valid_BxN[..., None], columns.shape[:-1])
      columns_BxNxKxW = getattr(self, f'norm{i}')(columns, mask)
      share_K = getattr(self, f'share{i}')[...].astype(columns.dtype)
      found.append(jnp.einsum('k,bnkw->bnw', share_K, columns_BxNxKxW))
    return found

  def _convolved(self, i: int, x_BxNxKxW, valid_BxN):
    """A convolution over the frames of each column, as sums of products."""
    conv, frames = getattr(self, f'conv{i}'), x_BxNxKxW.shape[1]
    if valid_BxN is not None:
      x_BxNxKxW = jnp.where(valid_BxN[..., None, None], x_BxNxKxW, 0)
    ends = (TAPS // 2 * self.dilation,) * 2
    padded = jnp.pad(x_BxNxKxW, ((0, 0), ends, (0, 0), (0, 0)))
    kernel = conv.kernel[...].astype(x_BxNxKxW.dtype)
    made = sum(
      padded[:, tap * self.dilation :][:, :frames] @ kernel[tap, 0]
      for tap in range(TAPS)
    )
    return made + conv.bias[...].astype(made.dtype)[None, None, None]


def _mean(x_BxNxC: jax.Array, valid_BxN: jax.Array | None) -> jax.Array:
  where = None if valid_BxN is None else valid_BxN[..., None]
  return x_BxNxC.mean(1, where=where)
