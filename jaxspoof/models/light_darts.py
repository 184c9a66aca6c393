"""Networks derived from a genotype: Light-DARTS and its relatives.

Light-DARTS: Wang et al. 2022, arXiv 2208.09618. No public implementation of it
exists, so what the paper's text leaves open is chosen here: the operations of
the space `light`, the number of cells, nodes and channels, the stem, the
default genotype and the head are ours. PC-DARTS (Ge et al. 2021, arXiv
2104.03123) and Raw PC-DARTS (arXiv 2107.12212) follow their authors' code,
save that the recurrent layers of the latter are replaced by a mean over time.

Letters in names: B batch, T samples, K classes.
"""

import dataclasses
import pathlib
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof import search_spaces
from jaxspoof.frontends import SpectralConfig
from jaxspoof.models import heads, inputs, layers, trunk
from jaxspoof.models.cell import Edge
from jaxspoof.models.supernet import Supernet, SupernetConfig, stem_channels
from jaxspoof.search_spaces import genotype as genotype_lib
from jaxspoof.search_spaces.genotype import KEPT, Genotype

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
class LightDartsConfig:
  """What defines a derived network. The defaults are the light one.

  Attributes:
    genotype: a `Genotype`, the mapping of its fields, the name of a published
      one ('pc_darts', 'raw_pc_darts') or the path of a JSON file; `DEFAULT`
      where None or ''.
    space: name of the space the genotype must be of; '' takes any.
    features: front end, as in `SupernetConfig`.
    num_cells: cells in a row; those after a third and after two thirds reduce
      the resolution.
    channels: of a node in the first cell, doubled by each reduction.
    stem_multiplier: channels of the stem's outputs over `channels`.
    drop_path: probability that an edge other than the identity is left out of
      a clip's pass, in training.
    auxiliary: weight of the loss of a second head, after two thirds of the
      cells; 0 leaves it away. See `LightDarts.with_auxiliary`.
    dropout: rate before the last layer.
    pool_norm: normalise after pooling; None for the space's convention.
    head: kind of the last layer, see `heads.make`.
    classes: that the head tells apart.
    dtype: of the cells; features and statistics are at least float32.
    param_dtype: of parameters and statistics.
  """

  genotype: Genotype | Mapping | str | None = None
  space: str = ''
  features: SpectralConfig | Mapping | str = ''
  num_cells: int = 8
  channels: int = 16
  stem_multiplier: int = 1
  drop_path: float = 0.0
  auxiliary: float = 0.0
  dropout: float = 0.0
  pool_norm: bool | None = None
  head: str = 'linear'
  classes: int = 2
  dtype: str = 'float32'
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Reads the genotype and refuses what cannot work."""
    genotype = read_genotype(self.genotype)
    object.__setattr__(self, 'genotype', genotype)
    if self.space:
      search_spaces.space(self.space)
      genotype.fits(self.space)
    object.__setattr__(self, 'space', genotype.space)
    space = search_spaces.space(genotype.space)
    trunk.check(self)
    object.__setattr__(self, 'features', inputs.resolve(self.features, space))
    if self.pool_norm is None:
      object.__setattr__(self, 'pool_norm', space.pool_norm)
    even = self.channels > 0 and self.channels % 2 == 0
    trunk.need(self, 'channels', even, 'an even number above 0')
    trunk.need(self, 'drop_path', 0 <= self.drop_path < 1, 'a rate in [0, 1)')
    trunk.need(self, 'auxiliary', self.auxiliary >= 0, 'a weight, at least 0')

  @property
  def min_samples(self) -> int:
    """Shortest wave that leaves something of every cell."""
    return inputs.min_samples(self.features, self.num_cells)

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
  config: SupernetConfig, genotype: Genotype, **changes
) -> LightDartsConfig:
  """The config of the network that a search with `config` ends in.

  Args:
    config: of the supernet.
    genotype: what the search found.
    **changes: fields to replace.
  """
  kept = (
    'space',
    'features',
    'num_cells',
    'channels',
    'stem_multiplier',
    'head',
    'classes',
    'dtype',
    'param_dtype',
  )
  fields = {name: getattr(config, name) for name in kept}
  return LightDartsConfig(**{**fields, 'genotype': genotype, **changes})


class LightDarts(nnx.Module):
  """A derived network: waves in, a spoof and a bona fide logit out.

  A new module is in training mode. For evaluation take
  `nnx.view(model, deterministic=True, use_running_average=True)`.

  Attributes:
    variable_length: False: all clips of a batch have one length.
  """

  variable_length = False

  def __init__(self, config: LightDartsConfig, rngs: nnx.Rngs):
    """Draws the parameters.

    Args:
      config: genotype, sizes and rates.
      rngs: stream `params`.
    """
    self.config, self.deterministic = config, False
    space = search_spaces.space(config.space)
    self.frontend = inputs.make(config.features, stem_channels(config))
    self.trunk = trunk.Trunk(
      space,
      config.wirings,
      num_cells=config.num_cells,
      channels=config.channels,
      stem_channels=stem_channels(config),
      affine=True,
      pool_norm=config.pool_norm,
      param_dtype=config.param_dtype,
      rngs=rngs,
    )
    self.dropout = layers.Dropout(config.dropout)
    options = dict(param_dtype=config.param_dtype, rngs=rngs)
    self.output = heads.make(
      config.head, self.trunk.width, config.classes, **options
    )
    if config.auxiliary:
      width = self.trunk.widths[self._tap]
      self.auxiliary = heads.make(config.head, width, config.classes, **options)

  def set_view(self, deterministic: bool | None = None):
    """Class method used by `nnx.view`.

    Args:
      deterministic: if True, no edge is left out.
    """
    if deterministic is not None:
      self.deterministic = deterministic

  def __call__(
    self,
    wave_BxT: jax.Array,
    samples: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> jax.Array:
    """Scores waves of one length.

    Args:
      wave_BxT: floating-point waves in [-1, 1).
      samples: must be None: clips are not padded here.
      rngs: stream `dropout`; needed in training mode with dropout or
        drop-path.

    Returns:
      outputs of the head, float32 or better; of the default one logits
      `[B, 2]`: spoof, bona fide.

    Raises:
      ValueError: waves that are not `[B, T]`, not floating point or too short,
        or `samples` is given.
    """
    return self.with_auxiliary(wave_BxT, samples, rngs)[0]

  def with_auxiliary(
    self,
    wave_BxT: jax.Array,
    samples: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> tuple[jax.Array, jax.Array | None]:
    """The logits and, in training mode, those of the auxiliary head.

    The second are None in evaluation mode and where `config.auxiliary` is 0.
    Their loss is meant to be added with the weight `config.auxiliary`.
    """
    noise = self._noise(wave_BxT, samples, rngs)
    outputs = self._outputs(wave_BxT, noise)
    hidden_BxD = trunk.pooled(outputs[-1])
    with jax.named_scope('head'):
      logits = self.output(self.dropout(hidden_BxD, noise))
    if not self.config.auxiliary or self.deterministic:
      return logits, None
    return logits, self.auxiliary(trunk.pooled(outputs[self._tap]))

  def embed(
    self,
    wave_BxT: jax.Array,
    samples: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> jax.Array:
    """The mean of the last cell over time and frequency, `[B, D]`."""
    noise = self._noise(wave_BxT, samples, rngs)
    return trunk.pooled(self._outputs(wave_BxT, noise)[-1])

  @property
  def _tap(self) -> int:
    """The cell whose output the auxiliary head sees."""
    return 2 * self.config.num_cells // 3

  def _outputs(self, wave_BxT, noise: layers.Noise | None) -> list[jax.Array]:
    with jax.named_scope('frontend'):
      features = inputs.compute(self.frontend, wave_BxT)
    features = features.astype(jnp.dtype(self.config.dtype))
    rate = self.config.drop_path

    def drop(x_BxHxWxC):
      keep = noise.take((len(x_BxHxWxC), 1, 1, 1)) >= rate
      scaled = x_BxHxWxC / jnp.asarray(1 - rate, x_BxHxWxC.dtype)
      return jnp.where(keep, scaled, jnp.zeros_like(scaled))

    active = rate > 0 and not self.deterministic
    return self.trunk(features, drop=drop if active else None)

  def _noise(self, wave_BxT, samples, rngs) -> layers.Noise | None:
    """Random numbers of all edges and of the last layer."""
    inputs.check(wave_BxT, samples, self.config.min_samples)
    count = self.trunk.width if self.config.dropout else 0
    if self.config.drop_path:
      count += sum(len(cell.edges) for cell in self.trunk.cells)
    if self.deterministic or not count:
      return None
    return layers.Noise.draw(rngs, len(wave_BxT), count)


def inherit(model: LightDarts, supernet: Supernet) -> None:
  """Copies to a derived network the weights its edges have in a supernet.

  Both must have the same sizes, and the supernet no partial connections. With
  architecture parameters that choose the genotype alone both then compute the
  same, if pooling is normalised in both.

  Raises:
    ValueError: sizes differ.
  """
  config = derived(supernet.config, model.config.genotype)
  same = ('space', 'features', 'num_cells', 'channels', 'stem_multiplier')
  if supernet.config.partial > 1 or any(
    getattr(config, n) != getattr(model.config, n) for n in same
  ):
    raise ValueError(
      'weights can be inherited from a supernet of the same '
      f'{", ".join(same)} with partial=1 alone'
    )
  for name in ('stem', 'output'):
    ours, theirs = (
      m.output if name == 'output' else m.trunk.stem for m in (model, supernet)
    )
    nnx.update(ours, nnx.state(theirs))
  for ours, theirs in zip(model.trunk.cells, supernet.trunk.cells, strict=True):
    for name in ('projection0', 'projection1'):
      nnx.update(getattr(ours, name), nnx.state(getattr(theirs, name)))
    for kind in ('kernels', 'norms'):
      _copy_rows(ours, theirs, kind)


def _copy_rows(ours, theirs, kind: str) -> None:
  """Kernels or statistics of the edges of one cell."""
  attribute = kind[:-1] + '_rows'
  theirs_rows = getattr(theirs, attribute)
  for (strided, name), rows in getattr(ours, attribute).items():
    index = np.array([theirs_rows[strided, name].index(row) for row in rows])
    prefix = f'{name}_s{1 + strided}_u'
    for key, target in getattr(ours, kind).items():
      if key.startswith(prefix):
        source = getattr(theirs, kind)[key]
        for leaf, variable in nnx.to_pure_dict(nnx.state(source)).items():
          getattr(target, leaf)[...] = variable[index]


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
