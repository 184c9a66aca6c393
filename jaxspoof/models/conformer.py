"""A conformer with a class token, on a gated sum of the states of an encoder.

The back end of DF Arena: Kulkarni et al. 2026, "Do Compact SSL Backbones Matter
for Audio Deepfake Detection? A Controlled Study with RAPTOR", arXiv 2603.06164.
Conformers with a class token were brought to this field by Rosello et al. 2023
(Interspeech); a token of each head, which the others attend to, by Truong et
al. 2024, "Temporal-Channel Modeling in Multi-head Self-Attention for Synthetic
Speech Detection" (Interspeech).

Letters in names: B batch, N frames, S states, D width of a state, M frames and
the class token, H heads, I values of a head.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.blocks import layers, tcn
from jaxspoof.frontends.ssl import parts
from jaxspoof.models.back_end import BackEndConfig
from jaxspoof.system import Encoded, System

EPSILON = 1e-5  # of all layer norms


@dataclasses.dataclass(frozen=True)
class ConformerConfig(BackEndConfig):
  """What defines the back end; the defaults are those of DF Arena.

  Attributes:
    blocks: number of conformer blocks.
    heads: of their attention; the width is a multiple of it.
    feed_factor: hidden size of a feed-forward layer, in widths.
    conv_factor: channels of the convolution over time, in widths.
    taps: frames that it reaches over.
    gated: whether features are states that are summed, each with a gate of what
      attention over time finds in it; if not, they are taken as they are.
    projection: width that a layer brings features to first; 0: that of a state.
    param_dtype: dtype of parameters and running statistics.
  """

  blocks: int = 4
  heads: int = 4
  feed_factor: int = 4
  conv_factor: int = 2
  taps: int = 31
  gated: bool = True
  projection: int = 0
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    for name in ('blocks', 'heads', 'feed_factor', 'conv_factor', 'taps'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)!r}: needs at least 1')
    if self.gated and self.projection:
      raise ValueError(
        f'projection={self.projection}: needs gated=False, as gates are of '
        'whole states'
      )

  def width(self, frontend) -> int:
    """Values of a frame that blocks see."""
    if not self.gated:
      return self.projection or frontend.features
    return frontend.features // getattr(frontend, 'states', 1)

  def check_frontend(self, frontend) -> None:
    """Raises ValueError for states that the heads cannot share."""
    if (width := self.width(frontend)) % self.heads:
      raise ValueError(f'heads={self.heads}: needs a divisor of width {width}')


class Conformer(System):
  """The back end: states of an encoder side by side in, an embedding out.

  Features of a front end that has no states, or gives one of them, are taken
  for one state. All clips of a batch have one length.
  """

  def build(self, config: ConformerConfig, rngs: nnx.Rngs) -> int:
    """Draws the parameters as the original does."""
    frontend, dtype = self.frontend.config, jnp.dtype(config.param_dtype)
    self.states = getattr(frontend, 'states', 1)
    width = config.width(frontend)
    options = dict(param_dtype=config.param_dtype, rngs=rngs)
    if config.gated:
      init = layers.uniform_of_fan_in(width)
      self.score = nnx.Param(init(rngs.params(), (width,), dtype))
      self.gate = layers.linear(width, 1, **options)
    elif config.projection:
      self.projection = layers.linear(frontend.features, width, **options)
    self.first_norm = layers.BatchNorm(1, param_dtype=config.param_dtype)
    self.token = nnx.Param(layers.uniform(1)(rngs.params(), (width,), dtype))
    # Named attributes: integer keys of nnx.List do not survive checkpoints.
    for i in range(config.blocks):
      setattr(self, f'block{i}', Block(width, config, rngs))
    return width

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Encoded:
    """What the last block makes of the class token, `[B, D]`."""
    del frames_B, rngs  # None: clips have one length
    batch, frames, _ = features.shape
    with jax.named_scope('sum'):
      if self.config.gated:
        h_BxNxD = self._summed(features.reshape(batch, frames, self.states, -1))
      elif self.config.projection:
        h_BxNxD = self.projection(features)
      else:
        h_BxNxD = features
      h_BxNxD = self.first_norm.then_selu(h_BxNxD[..., None])[..., 0]
    width = h_BxNxD.shape[-1]
    h_BxNxD = h_BxNxD + positions(frames, width).astype(h_BxNxD.dtype)[None]
    token_Bx1xD = jnp.broadcast_to(
      self.token[...].astype(h_BxNxD.dtype)[None, None], (batch, 1, width)
    )
    h_BxMxD = jnp.concatenate([token_Bx1xD, h_BxNxD], 1)
    with jax.named_scope('blocks'):
      for i in range(self.config.blocks):
        h_BxMxD = getattr(self, f'block{i}')(h_BxMxD)
    embedding_BxD = h_BxMxD[:, 0]
    return Encoded(embedding_BxD, embedding_BxD)

  def _summed(self, h_BxNxSxD: jax.Array) -> jax.Array:
    """The gated sum of states, `[B, N, D]`."""
    share_BxNxS = jax.nn.softmax(h_BxNxSxD @ self.score[...], 1)
    pooled_BxSxD = jnp.einsum('bns,bnsd->bsd', share_BxNxS, h_BxNxSxD)
    gate_BxS = jax.nn.sigmoid(self.gate(pooled_BxSxD))[..., 0]
    return jnp.einsum('bs,bnsd->bnd', gate_BxS, h_BxNxSxD)


class Block(nnx.Module):
  """Half a feed-forward layer, attention, convolution, and the other half."""

  def __init__(self, width: int, config: ConformerConfig, rngs: nnx.Rngs):
    """Draws the parameters."""
    c, dtype = config, config.param_dtype
    options, norm = dict(param_dtype=dtype, rngs=rngs), dict(param_dtype=dtype)
    self.taps = c.taps
    for i in (1, 2):
      hidden = c.feed_factor * width
      setattr(self, f'feed_norm{i}', parts.Norm(width, **norm))
      setattr(self, f'enter{i}', layers.linear(width, hidden, **options))
      setattr(self, f'leave{i}', layers.linear(hidden, width, **options))
    self.attention_norm = parts.Norm(width, **norm)
    self.attention = HeadTokenAttention(width, c.heads, dtype, rngs)
    inner = c.conv_factor * width
    self.conv_norm = parts.Norm(width, **norm)
    self.widen = layers.linear(width, 2 * inner, **options)
    self.depthwise = tcn.Depthwise(inner, c.taps, dtype, rngs)
    self.inner_norm = layers.BatchNorm(inner, **norm)
    self.narrow = layers.linear(inner, width, **options)
    self.last_norm = parts.Norm(width, **norm)

  def __call__(self, x_BxMxD: jax.Array) -> jax.Array:
    """Returns `[B, M, D]`."""
    x = x_BxMxD + 0.5 * self._feed(1, x_BxMxD)
    x = x + self.attention(self.attention_norm(x, EPSILON))
    x = x + self._convolved(x)
    x = x + 0.5 * self._feed(2, x)
    return self.last_norm(x, EPSILON)

  def _feed(self, i: int, x_BxMxD: jax.Array) -> jax.Array:
    norm, enter, leave = (
      getattr(self, f'{name}{i}') for name in ('feed_norm', 'enter', 'leave')
    )
    return leave(jax.nn.silu(enter(norm(x_BxMxD, EPSILON))))

  def _convolved(self, x_BxMxD: jax.Array) -> jax.Array:
    h, gate = jnp.split(self.widen(self.conv_norm(x_BxMxD, EPSILON)), 2, -1)
    h = h * jax.nn.sigmoid(gate)
    frames = h.shape[1]
    # Of an even number of taps most look back.
    h = jnp.pad(h, ((0, 0), (1 - self.taps % 2, 0), (0, 0)))
    h = self.depthwise(h, 1, causal=False)[:, :frames]
    return self.narrow(jax.nn.silu(self.inner_norm(h)))


class HeadTokenAttention(nnx.Module):
  """Attention to which each head adds a token of the mean of its values.

  What the tokens of heads and of frames become is added to the class token,
  which is the first.
  """

  def __init__(self, width: int, heads: int, dtype: str, rngs: nnx.Rngs):
    """Draws the parameters."""
    options = dict(param_dtype=dtype, rngs=rngs)
    self.heads, size = heads, width // heads
    kind = jnp.dtype(dtype)
    self.qkv = nnx.Linear(
      width,
      3 * width,
      use_bias=False,
      kernel_init=layers.uniform_of_fan_in(width),
      param_dtype=kind,
      rngs=rngs,
    )
    self.out = layers.linear(width, width, **options)
    self.head_token = layers.linear(size, width, **options)
    self.head_norm = parts.Norm(size, param_dtype=dtype)
    self.head_position = nnx.Param(jnp.zeros((heads, width), kind))

  def __call__(self, x_BxMxD: jax.Array) -> jax.Array:
    """Returns `[B, M, D]`."""
    batch, count, width = x_BxMxD.shape
    apart = (self.heads, width // self.heads)
    mean_BxHxI = x_BxMxD.reshape(batch, count, *apart).mean(1)
    token = self.head_token(mean_BxHxI).reshape(batch, self.heads, *apart)
    token = parts.gelu(self.head_norm(token, EPSILON))
    token_BxHxD = token.reshape(batch, self.heads, width)
    token_BxHxD = token_BxHxD + self.head_position[...][None]
    x = jnp.concatenate([x_BxMxD, token_BxHxD.astype(x_BxMxD.dtype)], 1)
    qkv = self.qkv(x).reshape(batch, -1, 3, *apart)
    h = parts.attend(*(qkv[:, :, i] for i in range(3)), None, None)
    h = self.out(h.reshape(batch, -1, width))
    first, frames, heads = jnp.split(h, (1, count), 1)
    first = first + sum(part.mean(1, keepdims=True) for part in (frames, heads))
    return jnp.concatenate([first, frames], 1)


def positions(count: int, width: int) -> np.ndarray:
  """Sines and cosines by turns that tell frames apart, float32 `[N, D]`."""
  turns = np.arange(width) // 2 * 2 / width
  angle_NxD = np.arange(count)[:, None] / 10_000**turns
  even = np.arange(width) % 2 == 0
  return np.where(even, np.sin(angle_NxD), np.cos(angle_NxD)).astype(np.float32)
