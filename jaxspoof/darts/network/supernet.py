"""The network of an architecture search: every operation on every edge.

Liu, Simonyan & Yang 2019, "DARTS", arXiv 1806.09055; partial connections and
edge normalisation: Xu et al. 2020, "PC-DARTS", arXiv 1907.05737. The spaces
are in `jaxspoof.darts.spaces`, which says where each comes from.

Letters in names: B batch, N frames, F features, D size of the embedding.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.darts import spaces
from jaxspoof.darts.network import relaxation, trunk
from jaxspoof.darts.network.cell import Mix
from jaxspoof.darts.spaces import Space
from jaxspoof.darts.spaces import genotype as genotype_lib
from jaxspoof.system import Encoded, System

_DEVIATION = 1e-3  # of the first architecture parameters, as in DARTS


class Arch(nnx.Variable):
  """Architecture parameters: neither weights nor statistics.

  `nnx.split(model, nnx.Param, Arch, nnx.BatchStat)` tells the three apart.
  """


@dataclasses.dataclass(frozen=True)
class SupernetConfig(trunk.TrunkConfig):
  """What defines a supernet.

  Attributes:
    space: name of the search space.
    num_cells: cells in a row; those after a third and after two thirds reduce
      the resolution.
    nodes: intermediate nodes of a cell.
    channels: channels of a node in the first cell, doubled by each reduction.
    stem_multiplier: the outputs of the stem have this many times `channels`: 3
      in DARTS and PC-DARTS, whose derived networks have 1.
    partial: the K of PC-DARTS: each edge works on one in K channels. 1 for all.
    edge_normalisation: whether a weight per edge is learnt; None takes the
      default of the space, which partial connections turn on.
    dropout: dropout rate before the last layer.
    dtype: dtype of the cells; features and statistics are at least float32.
    param_dtype: dtype of parameters and running statistics.
  """

  space: str = 'light'
  num_cells: int = 8
  nodes: int = 4
  channels: int = 16
  stem_multiplier: int = 1
  partial: int = 1
  edge_normalisation: bool | None = None
  dropout: float = 0.0
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Fills in what depends on the space and refuses what cannot work."""
    space = spaces.space(self.space)
    self.check()
    if self.edge_normalisation is None:
      on = space.edge_normalisation or self.partial > 1
      object.__setattr__(self, 'edge_normalisation', on)
    self.need('nodes', self.nodes > 0, 'at least 1')
    self.need('partial', self.partial > 0, 'at least 1')
    fits = self.channels > 0 and self.channels % (2 * self.partial) == 0
    self.need('channels', fits, f'a multiple of {2 * self.partial}')
    chooses = space.has_none or self.edge_normalisation
    wanted = f"True, for space {self.space!r} has no 'none'"
    self.need('edge_normalisation', chooses, wanted)


class CellArch(nnx.Module):
  """Architecture parameters of one kind of cell."""

  def __init__(self, space: Space, config: SupernetConfig, rngs: nnx.Rngs):
    """Draws `alpha` [edges, operations] and perhaps `beta` [edges]."""
    edges = len(genotype_lib.edges_of(config.nodes))
    draw = layers.normal(_DEVIATION)
    dtype = jnp.dtype(config.param_dtype)
    shape = (edges, len(space.operations))
    self.alpha = Arch(draw(rngs.params(), shape, dtype))
    if config.edge_normalisation:
      self.beta = Arch(draw(rngs.params(), (edges,), dtype))
    else:
      self.beta = None


class Supernet(System):
  """Waves in, logits out; the architecture is a set of trained values.

  The architecture parameters of a model are
  `nnx.to_pure_dict(nnx.state(model, Arch))`: for 'normal' and 'reduce',
  'alpha' `[edges, operations]` and, with edge normalisation, 'beta' `[edges]`,
  with edges in the order of `genotype.edges_of`. All clips of a batch have
  one length.
  """

  head_name = 'output'
  counts_features = False

  def build(self, config: SupernetConfig, rngs: nnx.Rngs) -> int:
    """Draws weights and architecture parameters."""
    space = spaces.space(config.space)
    self.normal = CellArch(space, config, rngs)
    self.reduce = CellArch(space, config, rngs)
    edges = relaxation.all_edges(space, config.nodes)
    concat = tuple(range(2, config.nodes + 2))
    self.trunk = trunk.Trunk(
      config,
      {kind: (edges, concat) for kind in genotype_lib.KINDS},
      partial=config.partial,
      affine=False,
      pool_norm=True,
      rngs=rngs,
    )
    self.dropout = layers.Dropout(config.dropout)
    return self.trunk.width

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
    *,
    temperature: float | jax.Array = 1.0,
    gumbel: bool = False,
  ) -> Encoded:
    """The mean of the last cell over time and frequency, `[B, D]`.

    Args:
      features: `[B, N, F]`.
      frames_B: must be None: clips are not padded here.
      rngs: streams `dropout` and `gumbel`, where they are used.
      temperature: temperature of the softmax over operations.
      gumbel: sample the operations, in training mode, instead of averaging.
    """
    del frames_B
    mixes = self.mixes(rngs, temperature=temperature, gumbel=gumbel)
    features = features.astype(jnp.dtype(self.config.dtype))
    hidden_BxD = trunk.pooled(self.trunk(features, mixes)[-1])
    noise = None
    if self.config.dropout and not self.dropout.deterministic:
      noise = layers.Noise.draw(rngs, *hidden_BxD.shape)
    return Encoded(hidden_BxD, self.dropout(hidden_BxD, noise))

  def mixes(
    self,
    rngs: nnx.Rngs | None = None,
    *,
    temperature: float | jax.Array = 1.0,
    gumbel: bool = False,
  ) -> dict[str, Mix]:
    """Weights of all edges and operations, for both kinds of cell."""
    config, found = self.config, {}
    space = spaces.space(config.space)
    sample = gumbel and not self.dropout.deterministic
    if sample and rngs is None:
      raise ValueError(
        'Gumbel noise needs random numbers: call the model with '
        'rngs=nnx.Rngs(gumbel=key), or take its evaluation view'
      )
    for kind in genotype_lib.KINDS:
      arch = getattr(self, kind)
      alpha_ExO, noise_ExO = arch.alpha[...], None
      if sample:
        key = rngs.gumbel()
        noise_ExO = jax.random.gumbel(key, alpha_ExO.shape, alpha_ExO.dtype)
      weights = relaxation.operation_weights(alpha_ExO, temperature, noise_ExO)
      edges = None
      if arch.beta is not None:
        edges = relaxation.edge_weights(arch.beta[...], config.nodes)
      found[kind] = relaxation.mix(space, config.nodes, weights, edges)
    return found
