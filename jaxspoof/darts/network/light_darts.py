"""Networks derived from a genotype: Light-DARTS and its relatives.

Light-DARTS: Wang et al. 2022, arXiv 2208.09618. No public implementation of it
exists, so what the paper's text leaves open is chosen here: the operations of
the space `light`, the number of cells, nodes and channels, the stem, the
default genotype and the head are ours. PC-DARTS (Ge et al. 2021, arXiv
2104.03123) and Raw PC-DARTS (arXiv 2107.12212) follow their authors' code,
save that the recurrent layers of the latter are replaced by a mean over time.

Letters in names: B batch, D size of the embedding.
"""

import dataclasses
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import heads, layers
from jaxspoof.darts import spaces
from jaxspoof.darts.network import trunk
from jaxspoof.darts.network.cell import Edge
from jaxspoof.darts.spaces import genotype as genotype_lib
from jaxspoof.darts.spaces.genotype import KEPT, Genotype
from jaxspoof.system import Encoded, System, SystemConfig

# Made by hand, not found by a search: half of the edges of a normal cell
# convolve, two with neighbouring taps and two with wider ones.
DEFAULT = Genotype(
  space='light',
  normal=(
    ('mfm_conv_3x3', 1),
    ('skip_connect', 0),
    ('mfm_dil_conv_3x3', 1),
    ('max_pool_3x3', 2),
    ('mfm_conv_3x3', 2),
    ('skip_connect', 0),
    ('mfm_dil_conv_3x3', 3),
    ('skip_connect', 1),
  ),
  reduce=(
    ('mfm_conv_3x3', 1),
    ('max_pool_3x3', 0),
    ('mfm_dil_conv_3x3', 1),
    ('skip_connect', 2),
    ('max_pool_3x3', 1),
    ('mfm_conv_3x3', 0),
    ('skip_connect', 2),
    ('max_pool_3x3', 3),
  ),
)


@dataclasses.dataclass(frozen=True)
class LightDartsConfig(trunk.TrunkConfig):
  """What defines a derived network. The defaults are the light one.

  Attributes:
    genotype: a `Genotype`, the mapping of its fields, the name of a published
      one ('pc_darts', 'raw_pc_darts') or the path of a JSON file; `DEFAULT`
      where None or ''.
    space: name of the space the genotype must be of; '' takes any.
    num_cells: cells in a row; those after a third and after two thirds reduce
      the resolution.
    channels: channels of a node in the first cell, doubled by each reduction.
    stem_multiplier: the outputs of the stem have this many times `channels`.
    drop_path: probability, in training, with which an edge other than the
      identity is left out for a clip.
    auxiliary: weight of the loss of a second head after two thirds of the
      cells; 0 for no such head.
    dropout: dropout rate before the last layer.
    pool_norm: whether pooling is followed by normalisation; None takes the
      convention of the space.
    dtype: dtype of the cells; features and statistics are at least float32.
    param_dtype: dtype of parameters and running statistics.
  """

  genotype: Genotype | Mapping | str | None = None
  space: str = ''
  num_cells: int = 8
  channels: int = 16
  stem_multiplier: int = 1
  drop_path: float = 0.0
  auxiliary: float = 0.0
  dropout: float = 0.0
  pool_norm: bool | None = None
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Reads the genotype and refuses what cannot work."""
    genotype = read_genotype(self.genotype)
    object.__setattr__(self, 'genotype', genotype)
    if self.space:
      spaces.space(self.space)
      genotype.fits(self.space)
    object.__setattr__(self, 'space', genotype.space)
    space = spaces.space(genotype.space)
    self.check()
    if self.pool_norm is None:
      object.__setattr__(self, 'pool_norm', space.pool_norm)
    even = self.channels > 0 and self.channels % 2 == 0
    self.need('channels', even, 'an even number above 0')
    self.need('drop_path', 0 <= self.drop_path < 1, 'a rate in [0, 1)')
    self.need('auxiliary', self.auxiliary >= 0, 'a weight, at least 0')

  @property
  def wirings(self) -> dict[str, trunk.Wiring]:
    """Edges and stacked states of both kinds of cell."""
    return {
      kind: (
        edges_of(getattr(self.genotype, kind)),
        getattr(self.genotype, f'{kind}_concat'),
      )
      for kind in genotype_lib.KINDS
    }


def edges_of(cell: genotype_lib.Edges) -> tuple[Edge, ...]:
  """The edges of a cell of a genotype."""
  return tuple(
    Edge(source, k // KEPT + 2, operation)
    for k, (operation, source) in enumerate(cell)
  )


def derived(
  supernet: SystemConfig, genotype: Genotype, **changes
) -> SystemConfig:
  """The network that a search with a supernet ends in.

  Args:
    supernet: the supernet.
    genotype: what the search found.
    **changes: fields of the network's config to replace.
  """
  kept = (
    'space',
    'num_cells',
    'channels',
    'stem_multiplier',
    'dtype',
    'param_dtype',
  )
  fields = {name: getattr(supernet.model, name) for name in kept}
  config = LightDartsConfig(**{**fields, 'genotype': genotype, **changes})
  return SystemConfig(LightDarts, config, supernet.frontend, supernet.head)


class LightDarts(System):
  """A derived network: features in, a spoof and a bona fide logit out.

  All clips of a batch have one length. In training mode an auxiliary head
  looks at an inner cell where the config has a weight for its loss.
  """

  head_name = 'output'
  counts_features = False  # as in the cost of a search, which has no choice

  def __init__(
    self,
    config: LightDartsConfig,
    rngs: nnx.Rngs,
    *,
    head: heads.Head = heads.Head(),  # noqa: B008 (frozen)
    **options,
  ):
    """Makes the auxiliary head, too; arguments are those of every system."""
    super().__init__(config, rngs, head=head, **options)
    if config.auxiliary:
      self.auxiliary = head.make(
        self.trunk.widths[self._tap], param_dtype=config.param_dtype, rngs=rngs
      )

  def build(self, config: LightDartsConfig, rngs: nnx.Rngs) -> int:
    """Makes the cells."""
    self.trunk = trunk.Trunk(
      config,
      config.wirings,
      affine=True,
      pool_norm=config.pool_norm,
      rngs=rngs,
    )
    self.dropout = layers.Dropout(config.dropout)
    return self.trunk.width

  @property
  def auxiliary_weight(self) -> float:
    """Weight of the loss of the second head."""
    return self.config.auxiliary

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Encoded:
    """The mean of the last cell over time and frequency, `[B, D]`."""
    del frames_B  # None: clips have one length
    noise = self._noise(len(features), rngs)
    outputs = self._outputs(features, noise)
    hidden_BxD = trunk.pooled(outputs[-1])
    seen_BxD, tap_BxD = self.dropout(hidden_BxD, noise), None
    if self.config.auxiliary and not self.deterministic:
      tap_BxD = trunk.pooled(outputs[self._tap])
    return Encoded(hidden_BxD, seen_BxD, tap_BxD)

  @property
  def _tap(self) -> int:
    """The cell whose output the auxiliary head sees."""
    return 2 * self.config.num_cells // 3

  def _outputs(self, features, noise: layers.Noise | None) -> list[jax.Array]:
    features = features.astype(jnp.dtype(self.config.dtype))
    rate = self.config.drop_path

    def drop(x_BxHxWxC):
      keep = noise.take((len(x_BxHxWxC), 1, 1, 1)) >= rate
      scaled = x_BxHxWxC / jnp.asarray(1 - rate, x_BxHxWxC.dtype)
      return jnp.where(keep, scaled, jnp.zeros_like(scaled))

    active = rate > 0 and not self.deterministic
    return self.trunk(features, drop=drop if active else None)

  def _noise(self, batch: int, rngs) -> layers.Noise | None:
    """Random numbers of all edges and of the last layer."""
    count = self.trunk.width if self.config.dropout else 0
    if self.config.drop_path:
      count += sum(len(cell.edges) for cell in self.trunk.cells)
    if self.deterministic or not count:
      return None
    return layers.Noise.draw(rngs, batch, count)


def read_genotype(genotype: Genotype | Mapping | str | None) -> Genotype:
  """A genotype of any of the forms that `LightDartsConfig` takes.

  Raises:
    ValueError: there is none of that name, or the file is broken.
  """
  if genotype is None or genotype == '':
    return DEFAULT
  if not isinstance(genotype, str):
    return genotype_lib.from_fields(genotype)
  if genotype in genotype_lib.PUBLISHED:
    return genotype_lib.PUBLISHED[genotype]
  if not pathlib.Path(genotype).is_file():
    raise ValueError(
      f'genotype={genotype!r}: expected a file that a search has left '
      f'(genotype.json), or one of {", ".join(genotype_lib.PUBLISHED)}'
    )
  return Genotype.load(genotype)
