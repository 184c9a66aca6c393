"""Stem and chain of cells, shared by supernets and derived networks.

Letters in names: B batch, N frames, F features, H height (frequency), W width
(time), C channels.
"""

from collections.abc import Callable, Mapping

import jax
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.darts import spaces
from jaxspoof.darts.network import units
from jaxspoof.darts.network.cell import Cell, CellSpec, ConvUnit, Edge, Mix
from jaxspoof.darts.network.units import Norms
from jaxspoof.darts.spaces import Space
from jaxspoof.frontends import SincConfig, SpectralConfig

Wiring = tuple[tuple[Edge, ...], tuple[int, ...]]  # edges, states to stack
MIN_CELLS = 3
DTYPES = ('float32', 'bfloat16', 'float64')
PARAM_DTYPES = ('float32', 'float64')


def reductions(num_cells: int) -> tuple[int, int]:
  """Where the two reduction cells are: after a third and after two."""
  return num_cells // 3, 2 * num_cells // 3


def check(config) -> None:
  """Refuses what can work neither in a supernet nor in a derived network.

  Args:
    config: a `SupernetConfig` or a `LightDartsConfig`.

  Raises:
    ValueError: names the field, its value and what it needs.
  """
  if config.num_cells < MIN_CELLS:
    raise ValueError(
      f'num_cells={config.num_cells}: two reduction cells and a normal one '
      f'need at least {MIN_CELLS} cells'
    )
  need(config, 'stem_multiplier', config.stem_multiplier > 0, 'at least 1')
  need(config, 'dropout', 0 <= config.dropout < 1, 'a rate in [0, 1)')
  for name, known in (('dtype', DTYPES), ('param_dtype', PARAM_DTYPES)):
    need(config, name, getattr(config, name) in known, f'one of {known}')


def need(config, name: str, fulfilled: bool, wanted: str) -> None:
  """Raises ValueError about a field of a config unless that is fulfilled."""
  if not fulfilled:
    raise ValueError(f'{name}={getattr(config, name)!r}: needs {wanted}')


def stem_channels(config) -> int:
  """Channels of the two states that the stem makes."""
  return config.channels * config.stem_multiplier


def own_frontend(config) -> SincConfig | SpectralConfig:
  """Sinc filters for a space of one dimension, log mel energies for two."""
  if spaces.space(config.space).dims == 1:
    return SincConfig(filters=stem_channels(config))
  return SpectralConfig(kind='log_mel')


def min_frames(config) -> int:
  """Shortest sequence of which something is left after the last cell."""
  if spaces.space(config.space).dims == 1:
    return 2 ** (config.num_cells + 1)
  return 1


def check_frontend(config, frontend) -> None:
  """Refuses features that the stem of a space of one dimension cannot take.

  Raises:
    ValueError: names the space and the features.
  """
  wanted = stem_channels(config)
  one = spaces.space(config.space).dims == 1
  if one and frontend.features != wanted:
    raise ValueError(
      f'front end of {frontend.features} features: space {config.space!r} '
      f"takes as many as its stem has channels, {wanted}, such as 'sinc' makes"
    )


def layout(
  space: Space,
  num_cells: int,
  channels: int,
  stem_channels: int,
  stacked: Mapping[bool, int],
) -> list[CellSpec]:
  """Sizes of the cells.

  Args:
    space: the search space.
    num_cells: cells in a row.
    channels: of a node in the first cell; each reduction doubles them.
    stem_channels: of the two states the stem makes.
    stacked: states in the output of a normal (False) and of a reduction cell.

  Returns:
    One entry for each cell.
  """
  specs, halved = [], True
  before, last = stem_channels, stem_channels
  for i in range(num_cells):
    reduction = i in reductions(num_cells)
    channels = channels * (2 if reduction else 1)
    halve = space.halving or halved
    specs.append(CellSpec((before, last), channels, reduction, halve))
    before, last = last, stacked[reduction] * channels
    halved = reduction
  return specs


class Stem2d(nnx.Module):
  """Three strided convolutions: an eighth of the resolution at the end."""

  def __init__(self, channels: int, space: Space, options: Mapping):
    """`channels` come out of the second and of the third convolution."""
    unit = space.stem
    first = type(unit)(unit.size, mfm=unit.mfm)
    options = dict(options, stride=2, affine=True)
    self.conv0 = ConvUnit(1, channels // 2, first, 2, **options)
    self.conv1 = ConvUnit(channels // 2, channels, unit, 2, **options)
    self.conv2 = ConvUnit(channels, channels, unit, 2, **options)

  def __call__(self, features_BxNxF: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns a quarter and an eighth of the resolution, `[B, H, W, C]`."""
    image_BxHxWx1 = features_BxNxF.mT[..., None]
    first = self.conv1(self.conv0(image_BxHxWx1))
    return first, self.conv2(first)


class Stem1d(nnx.Module):
  """Normalisation of filtered waves and one strided convolution."""

  def __init__(self, channels: int, space: Space, options: Mapping):
    """`channels` are those of the front end."""
    unit = space.stem
    self.before = unit.before
    plain = type(unit)(unit.size, mfm=unit.mfm)
    self.norm = Norms(
      1, channels, affine=True, param_dtype=options['param_dtype']
    )
    self.conv = ConvUnit(
      channels, channels, plain, 1, stride=2, affine=True, **options
    )

  def __call__(self, features_BxNxF: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns all frames and half of them, `[B, 1, W, C]`."""
    # An even number: the first cell halves one and expects the other.
    even = features_BxNxF.shape[1] // 2 * 2
    x = units.normalise(features_BxNxF[:, None, :even], self.norm)
    first = units.activate(x, self.before)
    return first, units.activate(self.conv(first), self.before)


class Trunk(nnx.Module):
  """Features in, the output of the last cell out."""

  def __init__(
    self,
    space: Space,
    wirings: Mapping[str, Wiring],
    *,
    num_cells: int,
    channels: int,
    stem_channels: int,
    partial: int = 1,
    affine: bool,
    pool_norm: bool,
    param_dtype: str = 'float32',
    rngs: nnx.Rngs,
  ):
    """Makes the stem and `cell0`, `cell1` and so on.

    Args:
      space: the search space.
      wirings: edges and stacked states of the 'normal' and 'reduce' cell.
      num_cells: cells in a row.
      channels: of a node in the first cell.
      stem_channels: of the states the stem makes.
      partial: edges work on 1 / partial of the channels.
      affine: trained scales and biases on the edges.
      pool_norm: normalise after pooling.
      param_dtype: of parameters and statistics.
      rngs: stream `params`.
    """
    options = dict(param_dtype=param_dtype, rngs=rngs)
    stem = Stem2d if space.dims == 2 else Stem1d
    self.stem = stem(stem_channels, space, options)
    stacked = {kind == 'reduce': len(w[1]) for kind, w in wirings.items()}
    specs = layout(space, num_cells, channels, stem_channels, stacked)
    self.num_cells = num_cells
    self.widths = tuple(stacked[s.reduction] * s.channels for s in specs)
    for i, spec in enumerate(specs):
      edges, concat = wirings['reduce' if spec.reduction else 'normal']
      cell = Cell(
        space,
        edges,
        concat,
        spec,
        partial=partial,
        affine=affine,
        pool_norm=pool_norm,
        **options,
      )
      setattr(self, f'cell{i}', cell)

  @property
  def width(self) -> int:
    """Channels of the last cell's output."""
    return self.widths[-1]

  @property
  def cells(self) -> list[Cell]:
    """The cells in their order."""
    return [getattr(self, f'cell{i}') for i in range(self.num_cells)]

  def __call__(
    self,
    features_BxNxF: jax.Array,
    mixes: Mapping[str, Mix] | None = None,
    drop: Callable | None = None,
  ) -> list[jax.Array]:
    """Returns the outputs of all cells, each `[B, H, W, C]`."""
    with jax.named_scope('stem'):
      first, second = self.stem(features_BxNxF)
    outputs = []
    with jax.named_scope('cells'):
      for cell in self.cells:
        mix = mixes and mixes['reduce' if cell.reduction else 'normal']
        first, second = second, cell(first, second, mix, drop)
        outputs.append(second)
    return outputs


def pooled(x_BxHxWxC: jax.Array) -> jax.Array:
  """Mean over all positions, `[B, C]`, in float32 or better."""
  return x_BxHxWxC.mean((1, 2), dtype=layers.wide(x_BxHxWxC.dtype))
