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


class TrunkConfig:
  """What configs of supernets and of derived networks have in common.

  Both are dataclasses with the fields `space`, `num_cells`, `channels`,
  `stem_multiplier`, `dropout`, `dtype` and `param_dtype`.
  """

  def check(self) -> None:
    """Refuses what can work in neither.

    Raises:
      ValueError: names the field, its value and what it needs.
    """
    if self.num_cells < MIN_CELLS:
      raise ValueError(
        f'num_cells={self.num_cells}: two reduction cells and a normal one '
        f'need at least {MIN_CELLS} cells'
      )
    self.need('stem_multiplier', self.stem_multiplier > 0, 'at least 1')
    self.need('dropout', 0 <= self.dropout < 1, 'a rate in [0, 1)')
    for name, known in (('dtype', DTYPES), ('param_dtype', PARAM_DTYPES)):
      self.need(name, getattr(self, name) in known, f'one of {known}')

  def need(self, name: str, fulfilled: bool, wanted: str) -> None:
    """Raises ValueError about a field unless that is fulfilled."""
    if not fulfilled:
      raise ValueError(f'{name}={getattr(self, name)!r}: needs {wanted}')

  @property
  def stem_channels(self) -> int:
    """Channels of the two states that the stem makes."""
    return self.channels * self.stem_multiplier

  @property
  def own_frontend(self) -> SincConfig | SpectralConfig:
    """Sinc filters for a space of one dimension, log mel energies for two."""
    if spaces.space(self.space).dims == 1:
      return SincConfig(filters=self.stem_channels)
    return SpectralConfig(kind='log_mel')

  @property
  def min_frames(self) -> int:
    """Shortest sequence of which something is left after the last cell."""
    if spaces.space(self.space).dims == 1:
      return 2 ** (self.num_cells + 1)
    return 1

  def check_frontend(self, frontend) -> None:
    """Refuses features that the stem of a space of one dimension cannot take.

    Raises:
      ValueError: names the space and the features.
    """
    wanted = self.stem_channels
    one = spaces.space(self.space).dims == 1
    if one and frontend.features != wanted:
      raise ValueError(
        f'front end of {frontend.features} features: space {self.space!r} '
        f'takes as many as its stem has channels, {wanted}, such as '
        "'sinc' makes"
      )


def layout(
  config: TrunkConfig, wirings: Mapping[str, Wiring]
) -> list[CellSpec]:
  """Sizes of the cells.

  Args:
    config: sizes.
    wirings: of both kinds of cell.

  Returns:
    One entry for each cell.
  """
  space, channels = spaces.space(config.space), config.channels
  specs, halved = [], True
  before, last = (config.stem_channels,) * 2
  for i in range(config.num_cells):
    reduction = i in reductions(config.num_cells)
    channels = channels * (2 if reduction else 1)
    halve = space.halving or halved
    specs.append(CellSpec((before, last), channels, reduction, halve))
    before, last = last, len(_wiring(wirings, reduction)[1]) * channels
    halved = reduction
  return specs


def _wiring(wirings: Mapping[str, Wiring], reduction: bool) -> Wiring:
  return wirings['reduce' if reduction else 'normal']


class Stem2d(nnx.Module):
  """Three strided convolutions: an eighth of the resolution at the end."""

  def __init__(self, channels: int, space: Space, options: Mapping):
    """Draws the kernels.

    Args:
      channels: channels that come out of the second and third convolution.
      space: the search space, whose unit the convolutions use.
      options: `param_dtype` and `rngs` of the layers.
    """
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
    """Draws the kernels.

    Args:
      channels: number of features that the front end makes.
      space: the search space, whose unit the convolution uses.
      options: `param_dtype` and `rngs` of the layers.
    """
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
    config: TrunkConfig,
    wirings: Mapping[str, Wiring],
    *,
    rngs: nnx.Rngs,
    **options,
  ):
    """Makes the stem and `cell0`, `cell1` and so on.

    Args:
      config: sizes of the stem and of the cells.
      wirings: edges and stacked states of the 'normal' and 'reduce' cell.
      rngs: random streams; weights are drawn from `params`.
      **options: further arguments of each `Cell`.
    """
    space = spaces.space(config.space)
    drawn = dict(param_dtype=config.param_dtype, rngs=rngs)
    stem = Stem2d if space.dims == 2 else Stem1d
    self.stem = stem(config.stem_channels, space, drawn)
    specs, widths = layout(config, wirings), []
    self.num_cells = config.num_cells
    for i, spec in enumerate(specs):
      edges, concat = _wiring(wirings, spec.reduction)
      cell = Cell(space, edges, concat, spec, **options, **drawn)
      setattr(self, f'cell{i}', cell)
      widths.append(len(concat) * spec.channels)
    self.widths = tuple(widths)

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
