"""Graph attention and pooling of AASIST.

Jung et al. 2022, "AASIST: Audio Anti-Spoofing Using Integrated
Spectro-Temporal Graph Attention Networks", arXiv 2110.01200.

Letters in names: B batch, N nodes, D features, K kinds of node pairs.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.blocks import layers


def _score(features: int, param_dtype: str, rngs: nnx.Rngs) -> nnx.Param:
  init = layers.normal(math.sqrt(2 / (features + 1)))  # Xavier
  return nnx.Param(init(rngs.params(), (features, 1), jnp.dtype(param_dtype)))


def _pairs(h_BxNxD: jax.Array) -> jax.Array:
  """Products of all pairs of nodes, `[B, N, N, D]`."""
  return h_BxNxD[:, :, None] * h_BxNxD[:, None, :]


class GraphAttention(nnx.Module):
  """Attention over the nodes of one graph (section 2.2)."""

  def __init__(
    self,
    in_features: int,
    out_features: int,
    *,
    temperature: float,
    dropout: float,
    param_dtype: str,
    rngs: nnx.Rngs,
  ):
    """Args are sizes, the softmax temperature and the input dropout rate."""
    sizes = dict(
      in_features=in_features, out_features=out_features,
      param_dtype=param_dtype, rngs=rngs,
    )  # fmt: skip
    self.pair = layers.linear(**sizes)
    self.score = _score(out_features, param_dtype, rngs)
    self.attended = layers.linear(**sizes)
    self.direct = layers.linear(**sizes)
    self.norm = layers.BatchNorm(out_features, param_dtype=param_dtype)
    self.dropout = layers.Dropout(dropout)
    self.temperature = temperature

  def __call__(
    self, h_BxNxD: jax.Array, noise: layers.Noise | None = None
  ) -> jax.Array:
    """Returns `[B, N, out_features]`."""
    h = self.dropout(h_BxNxD, noise)
    pair_BxNxNxD = jnp.tanh(self.pair(_pairs(h)))
    score_BxNxN = (pair_BxNxNxD @ self.score[...])[..., 0]
    att_BxNxN = jax.nn.softmax(score_BxNxN / self.temperature, axis=-1)
    out = self.attended(att_BxNxN @ h) + self.direct(h)
    return jax.nn.selu(self.norm(out))


class HeterogeneousAttention(nnx.Module):
  """Attention over temporal and spectral nodes and a master node (2.3).

  Scores of temporal-temporal, mixed and spectral-spectral pairs have weights
  of their own. The master node gathers from all nodes and gives to none.
  """

  def __init__(
    self,
    in_features: int,
    out_features: int,
    *,
    temperature: float,
    dropout: float,
    param_dtype: str,
    rngs: nnx.Rngs,
    activated: bool = True,
  ):
    """Draws the parameters.

    Args:
      in_features: size of a node.
      out_features: size of what becomes of it.
      temperature: of the softmax.
      dropout: rate before the attention.
      param_dtype: dtype of parameters and statistics.
      rngs: random streams; weights are drawn from `params`.
      activated: whether what becomes of nodes goes through a SELU.
    """

    def dense(size):
      return layers.linear(
        in_features, size, param_dtype=param_dtype, rngs=rngs
      )

    self.temporal, self.spectral = dense(in_features), dense(in_features)
    self.pair, self.pair_master = dense(out_features), dense(out_features)
    self.score_temporal = _score(out_features, param_dtype, rngs)
    self.score_spectral = _score(out_features, param_dtype, rngs)
    self.score_mixed = _score(out_features, param_dtype, rngs)
    self.score_master = _score(out_features, param_dtype, rngs)
    self.attended, self.direct = dense(out_features), dense(out_features)
    self.attended_master = dense(out_features)
    self.direct_master = dense(out_features)
    self.norm = layers.BatchNorm(out_features, param_dtype=param_dtype)
    self.dropout = layers.Dropout(dropout)
    self.temperature, self.activated = temperature, activated

  def __call__(
    self,
    temporal_BxNxD: jax.Array,
    spectral_BxNxD: jax.Array,
    master_Bx1xD: jax.Array,
    noise: layers.Noise | None = None,
  ) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns the three node sets with `out_features` features each."""
    nodes = temporal_BxNxD.shape[1]
    h = jnp.concatenate(
      [self.temporal(temporal_BxNxD), self.spectral(spectral_BxNxD)], axis=1
    )
    h = self.dropout(h, noise)
    master = self._update_master(h, master_Bx1xD)
    att_BxNxN = self._attention(h, nodes)
    out = self.attended(att_BxNxN @ h) + self.direct(h)
    out = self.norm(out)
    if self.activated:
      out = jax.nn.selu(out)
    return out[:, :nodes], out[:, nodes:], master

  def _attention(self, h_BxNxD: jax.Array, temporal_nodes: int) -> jax.Array:
    pair_BxNxNxD = jnp.tanh(self.pair(_pairs(h_BxNxD)))
    weight_DxK = jnp.concatenate(
      [s[...] for s in (
        self.score_temporal, self.score_mixed, self.score_spectral,
      )],
      axis=1,
    )  # fmt: skip
    # Every pair is scored with all three weights and one score is kept: one
    # product, where the original writes four blocks one after the other.
    kind_1xNxNxK = _pair_kinds(temporal_nodes, h_BxNxD.shape[1])[None]
    score_BxNxNxK = pair_BxNxNxD @ weight_DxK
    score_BxNxN = jnp.where(kind_1xNxNxK, score_BxNxNxK, 0).sum(-1)
    return jax.nn.softmax(score_BxNxN / self.temperature, axis=-1)

  def _update_master(
    self, h_BxNxD: jax.Array, master_Bx1xD: jax.Array
  ) -> jax.Array:
    pair_BxNxD = jnp.tanh(self.pair_master(h_BxNxD * master_Bx1xD))
    score_BxNx1 = pair_BxNxD @ self.score_master[...] / self.temperature
    att_Bx1xN = jax.nn.softmax(score_BxNx1, axis=1).mT
    gathered_Bx1xD = self.attended_master(att_Bx1xN @ h_BxNxD)
    return gathered_Bx1xD + self.direct_master(master_Bx1xD)


class GraphPool(nnx.Module):
  """Keeps the share `ratio` of nodes with the highest learned scores (2.2)."""

  def __init__(
    self,
    features: int,
    *,
    ratio: float,
    dropout: float,
    param_dtype: str,
    rngs: nnx.Rngs,
  ):
    """Args are the node size, the share kept and the score's dropout rate."""
    self.score = layers.linear(features, 1, param_dtype=param_dtype, rngs=rngs)
    self.dropout = layers.Dropout(dropout)
    self.ratio = ratio

  def __call__(
    self, h_BxNxD: jax.Array, noise: layers.Noise | None = None
  ) -> jax.Array:
    """Returns the kept nodes times their scores, best first."""
    score_BxNx1, order = self._ranked(h_BxNxD, noise)
    return jnp.take_along_axis(h_BxNxD * score_BxNx1, order, axis=1)

  def kept(self, h_BxNxD: jax.Array) -> jax.Array:
    """The score of each node, `[B, N]`; 0 of those that are not kept."""
    score_BxNx1, order = self._ranked(h_BxNxD)
    nodes_1x1xN = jnp.arange(h_BxNxD.shape[1])[None, None]
    kept_BxN = (nodes_1x1xN == order).any(1)
    return jnp.where(kept_BxN, score_BxNx1[..., 0], 0)

  def _ranked(
    self, h_BxNxD: jax.Array, noise: layers.Noise | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Scores `[B, N, 1]`, and the kept nodes `[B, K, 1]`, best first."""
    score_BxNx1 = jax.nn.sigmoid(self.score(self.dropout(h_BxNxD, noise)))
    kept = kept_nodes(h_BxNxD.shape[1], self.ratio)
    # A stable sort and not top_k: the partitioner gathers the whole batch for
    # top_k, and equal scores keep the order of the nodes.
    order = jnp.argsort(score_BxNx1, axis=1, descending=True)[:, :kept]
    return score_BxNx1, order


def kept_nodes(nodes: int, ratio: float) -> int:
  """Number of nodes a `GraphPool` keeps, at least one."""
  return max(int(nodes * ratio), 1)


def _pair_kinds(temporal_nodes: int, nodes: int) -> np.ndarray:
  """One-hot kind of each pair: both temporal, mixed, both spectral."""
  spectral_N = (np.arange(nodes) >= temporal_nodes).astype(int)
  kind_NxN = spectral_N[:, None] + spectral_N[None]
  return kind_NxN[..., None] == np.arange(3)[None, None]
