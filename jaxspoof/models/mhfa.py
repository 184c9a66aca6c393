"""MHFA: attention over frames of two sums of an encoder's states.

Peng, Plchot, Stafylakis, Mosner, Burget, Cernocky 2022, "An Attention-Based
Backend Allowing Efficient Fine-Tuning of Transformer Models for Speaker
Verification", arXiv 2210.01273; as github.com/zlin0/wedefense has it.

One sum of the states tells where to look, the other what is seen there; each
head looks at frames of its own.

Letters in names: B batch, N frames, S states, D width of a state, K values of a
frame, H heads, E size of the embedding.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.models.back_end import BackEndConfig
from jaxspoof.system import Encoded, System


@dataclasses.dataclass(frozen=True)
class MhfaConfig(BackEndConfig):
  """What defines the back end; the defaults are WeDefense's.

  Attributes:
    heads: number of heads, each with attention of its own.
    compression: number of values that are seen of a frame.
    embedding: size of the embedding.
    centred: whether the values of each state are brought to a mean of 0, frame
      by frame, as WeDefense does (it means to do so over time).
    param_dtype: dtype of the parameters, 'float32' or 'float64'.
  """

  heads: int = 32
  compression: int = 128
  embedding: int = 256
  centred: bool = True
  activated: bool = False
  last_again: int = 0
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    for name in ('heads', 'compression', 'embedding'):
      if getattr(self, name) < 1:
        raise ValueError(f'{name}={getattr(self, name)!r}: needs at least 1')
    if self.last_again < 0:
      raise ValueError(f'last_again={self.last_again}: needs at least 0')


class Mhfa(System):
  """The back end: states of an encoder side by side in, an embedding out.

  Features of a front end that has no states, or gives one of them, are taken
  for one state.
  """

  variable_length = True

  def build(self, config: MhfaConfig, rngs: nnx.Rngs) -> int:
    """Draws the parameters as the original does."""
    frontend = self.frontend.config
    options = dict(param_dtype=config.param_dtype, rngs=rngs)
    self.states = getattr(frontend, 'states', 1)
    width, size = frontend.features // self.states, config.compression
    dtype = jnp.dtype(config.param_dtype)
    self.key_mix = nnx.Param(jnp.ones((self.states,), dtype))
    self.value_mix = nnx.Param(jnp.ones((self.states,), dtype))
    self.key = layers.linear(width, size, **options)
    self.value = layers.linear(width, size, **options)
    self.attention = layers.linear(size, config.heads, **options)
    self.out = layers.linear(config.heads * size, config.embedding, **options)
    if config.activated:
      self.norm = layers.BatchNorm(
        config.embedding, param_dtype=config.param_dtype
      )
    return config.embedding

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Encoded:
    """The embedding of features, `[B, embedding]`."""
    del rngs
    batch, frames, _ = features.shape
    where_BxNx1 = None
    if frames_B is not None:
      index_1xN = jnp.arange(frames, dtype=frames_B.dtype)[None]
      where_BxNx1 = (index_1xN < frames_B[:, None])[..., None]
    h_BxNxSxD = features.reshape(batch, frames, self.states, -1)
    if self.config.centred:
      h_BxNxSxD = h_BxNxSxD - h_BxNxSxD.mean(-1, keepdims=True)

    def mixed(mix):
      shares_S = jax.nn.softmax(mix[...]).astype(h_BxNxSxD.dtype)
      return jnp.einsum('s,bnsd->bnd', shares_S, h_BxNxSxD)

    with jax.named_scope('attention'):
      score_BxNxH = self.attention(self.key(mixed(self.key_mix)))
      if self.config.last_again:
        score_BxNxH = self._last_again(score_BxNxH, frames_B)
      if where_BxNx1 is not None:
        least = jnp.finfo(score_BxNxH.dtype).min
        score_BxNxH = jnp.where(where_BxNx1, score_BxNxH, least)
      share_BxNxH = jax.nn.softmax(score_BxNxH, 1)
      value_BxNxK = self.value(mixed(self.value_mix))
      seen_BxHxK = jnp.einsum('bnh,bnk->bhk', share_BxNxH, value_BxNxK)
    embedding_BxE = self.out(seen_BxHxK.reshape(batch, -1))
    if self.config.activated:
      embedding_BxE = jax.nn.relu(self.norm(embedding_BxE))
    return Encoded(embedding_BxE, embedding_BxE)

  def _last_again(self, score_BxNxH, frames_B):
    """Scores with which the softmax counts the last frame more often."""
    frames = score_BxNxH.shape[1]
    last_Bx1 = jnp.full((1, 1), frames - 1, jnp.int32)
    if frames_B is not None:
      last_Bx1 = frames_B[:, None] - 1
    index_1xN = jnp.arange(frames, dtype=last_Bx1.dtype)[None]
    more = np.log1p(self.config.last_again).astype(score_BxNxH.dtype)
    is_last = (index_1xN == last_Bx1)[..., None]
    return score_BxNxH + jnp.where(is_last, more, 0).astype(score_BxNxH.dtype)
