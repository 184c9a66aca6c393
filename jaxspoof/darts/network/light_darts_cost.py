"""Size and arithmetic of searched networks, counted and expected.

A search asks for the cost of each operation on each edge, and a study for that
of thousands of networks: here it is arithmetic on sizes, where
`arithmetic.count` traces a whole network in half a second. Both agree to the
last multiplication. Spectral features are left out, as no search chooses them.

What a derived network costs is a sum over its edges of what their operations
cost, plus what every network of the config has. The expected cost is the mean
of that sum over random networks, drawn from the architecture parameters as
`expected` says.

Letters in names: E edges, in the order of `genotype.edges_of`, O operations.
"""

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from jaxspoof.blocks import heads
from jaxspoof.darts import spaces
from jaxspoof.darts.network import relaxation, trunk, units
from jaxspoof.darts.network.cell import INPUTS, CellSpec, chain
from jaxspoof.darts.network.light_darts import LightDartsConfig, derived
from jaxspoof.darts.network.supernet import SupernetConfig
from jaxspoof.darts.spaces import OPERATIONS, Space, Unit
from jaxspoof.darts.spaces import genotype as genotype_lib
from jaxspoof.darts.spaces.genotype import KEPT, KINDS
from jaxspoof.frontends import SincConfig, sinc
from jaxspoof.system import SystemConfig

COSTS = ('macs', 'parameters')


def macs(system: SystemConfig, samples: int) -> dict[str, int]:
  """Multiply-accumulates of the forward pass of one clip.

  Args:
    system: the model, a derived network.
    samples: length of the clip.

  Returns:
    MACs of the stages 'frontend' (sinc alone), 'stem', 'cells' and 'head',
    and their 'total'; the auxiliary head, unused there, is left out.

  Raises:
    ValueError: the clip is shorter than the model can process.
  """
  stages = {k: v for k, (v, _) in _stages(system, samples).items()}
  return {**stages, 'total': sum(stages.values())}


def parameters(system: SystemConfig) -> int:
  """Number of trained values, those of an auxiliary head included."""
  stages = _stages(system, system.min_samples)
  total = sum(count for _, count in stages.values())
  if system.model.auxiliary:
    spec = _specs(system.model)[2 * system.model.num_cells // 3]
    total += _head_parameters(system, spec)
  return total


def expected(
  system: SystemConfig,
  arch: Mapping[str, Mapping[str, jax.Array]],
  samples: int,
) -> dict[str, jax.Array]:
  """Expected cost of the derived network, differentiable in `arch`.

  The expectation is over networks drawn so: each node draws its first input
  from its edges with probabilities proportional to w (1 - p(none)), where w is
  softmax(beta) over the edges of the node, or 1 without edge normalisation,
  and p is softmax(alpha) over the operations of the edge; the
  second input in the same way from the other edges; and for both inputs an
  operation other than 'none' with probabilities proportional to p. Every
  network drawn has two inputs at each node, as the rule of DARTS leaves, and
  where `arch` chooses one genotype alone (`genotype.one_hot`), this cost is
  that of its network.

  It is computed exactly, without drawing, as the cost is a sum over edges.

  Args:
    system: the supernet.
    arch: values of its `Arch` variables, as `nnx.to_pure_dict` gives them.
    samples: length of the clip.

  Returns:
    The scalars 'macs' and 'parameters', floating point.
  """
  fixed, tables = _tables(system, samples)
  totals = {}
  for column, cost in enumerate(COSTS):
    totals[cost] = jnp.asarray(fixed[column], arch['normal']['alpha'].dtype)
  for kind in KINDS:
    share_ExO = shares(system.model, arch[kind])
    for column, cost in enumerate(COSTS):
      table_ExO = jnp.asarray(tables[kind][column], share_ExO.dtype)
      totals[cost] += (share_ExO * table_ExO).sum()
  return totals


def normalised(
  system: SystemConfig,
  arch: Mapping[str, Mapping[str, jax.Array]],
  samples: int,
) -> dict[str, jax.Array]:
  """`expected`, divided by the cost of the space's largest network."""
  costs = expected(system, arch, samples)
  most = largest(system, samples)
  return {name: costs[name] / most[name] for name in COSTS}


def largest(system: SystemConfig, samples: int) -> dict[str, int]:
  """The most that a derived network of a supernet can cost, cost by cost."""
  fixed, tables = _tables(system, samples)
  totals = dict(zip(COSTS, fixed, strict=True))
  for kind in KINDS:
    for column, cost in enumerate(COSTS):
      best_E = tables[kind][column].max(1)
      for start, end in _nodes(system.model.nodes):
        totals[cost] += int(np.sort(best_E[start:end])[-KEPT:].sum())
  return totals


def shares(
  config: SupernetConfig,
  arch: Mapping[str, jax.Array],
) -> jax.Array:
  """Probability that a drawn network has an operation on an edge.

  Args:
    config: of the supernet.
    arch: 'alpha' and perhaps 'beta' of one kind of cell.

  Returns:
    `[E, O]` for the operations but 'none'; those of a node's edges sum to 2.
  """
  space = spaces.space(config.space)
  logits_ExO = arch['alpha']
  chosen_ExO = logits_ExO[:, space.has_none :]
  # Logarithms, so that parameters of any size are no 0 / 0.
  some_E = jax.nn.logsumexp(chosen_ExO, axis=1)
  worth_E = some_E - jax.nn.logsumexp(logits_ExO, axis=1)
  if arch.get('beta') is not None:
    worth_E += relaxation.log_edge_weights(arch['beta'], config.nodes)
  kept_E = _kept(worth_E, config.nodes)
  return kept_E[:, None] * jax.nn.softmax(chosen_ExO, axis=1)


def _kept(worth_E: jax.Array, nodes: int) -> jax.Array:
  """Probability of each edge to be one of two drawn without replacement."""
  node_E = np.repeat(np.arange(nodes), np.arange(nodes) + 2)
  same_ExE = node_E[:, None] == node_E[None]
  other_ExE = same_ExE & ~np.eye(len(node_E), dtype=bool)

  def drawn(mask_ExE):
    logits = jnp.where(jnp.asarray(mask_ExE), worth_E[None], -jnp.inf)
    return jax.nn.softmax(logits, axis=1)

  first_E = jnp.diagonal(drawn(same_ExE))
  second_ExE = drawn(other_ExE)  # row: the first input; column: the second
  return first_E + (first_E[:, None] * second_ExE).sum(0)


def _nodes(nodes: int) -> list[tuple[int, int]]:
  """First and last edge, plus 1, of each node."""
  ends = np.cumsum(np.arange(nodes) + 2)
  return [(int(end) - node - 2, int(end)) for node, end in enumerate(ends)]


def _tables(system: SystemConfig, samples: int):
  """What all networks cost, and what each operation on each edge adds.

  Returns:
    (macs, parameters), and for each kind of cell the same as `[E, O]` arrays.
  """
  config = system.model
  space = spaces.space(config.space)
  plain = _any_network(system)
  stages = _stages(plain, samples, edges=False)
  fixed = tuple(sum(stage[i] for stage in stages.values()) for i in (0, 1))
  edges = genotype_lib.edges_of(config.nodes)
  shape = (2, len(edges), len(space.choices))
  tables = {kind: np.zeros(shape, np.int64) for kind in KINDS}
  for spec, sizes in zip(
    _specs(plain.model), _sizes(plain, samples), strict=True
  ):
    table = tables['reduce' if spec.reduction else 'normal']
    for row, (source, _) in enumerate(edges):
      for column, name in enumerate(space.choices):
        cost = _operation(space, name, source, spec, sizes)
        table[:, row, column] += cost
  return fixed, tables


def _any_network(system: SystemConfig) -> SystemConfig:
  """A derived network of any genotype, for what all have in common."""
  rng = np.random.default_rng(0)
  space = spaces.space(system.model.space)
  drawn = genotype_lib.random_genotype(space, system.model.nodes, rng)
  return derived(system, drawn)


@dataclasses.dataclass(frozen=True)
class _Sizes:
  """Positions of a cell's inputs, of its nodes and of its edges."""

  first: int
  second: int
  nodes: int


def _stages(
  system: SystemConfig, samples: int, edges: bool = True
) -> dict[str, tuple[int, int]]:
  """(macs, parameters) of each stage; `edges`: those of the cells too."""
  if samples < system.min_samples:
    raise ValueError(
      f'samples={samples}: this model needs at least {system.min_samples}'
    )
  config = system.model
  space = spaces.space(config.space)
  specs = _specs(config)
  cells = np.zeros(2, np.int64)
  for spec, sizes in zip(specs, _sizes(system, samples), strict=True):
    cells += _projections(space, spec, sizes)
    if edges:
      wiring, _ = config.wirings['reduce' if spec.reduction else 'normal']
      for edge in wiring:
        cells += _operation(space, edge.operation, edge.source, spec, sizes)
  width = _width(config, specs[-1])
  outputs = heads.HEADS[system.head.kind][1](system.head.classes)
  return {
    'frontend': (_frontend_macs(system, samples), 0),
    'stem': _stem(system, space, samples),
    'cells': (int(cells[0]), int(cells[1])),
    'head': (width * outputs, _head_parameters(system, specs[-1])),
  }


def _operation(
  space: Space, name: str, source: int, spec: CellSpec, sizes: _Sizes
) -> tuple[int, int]:
  """(macs, parameters) of an operation on an edge from a state."""
  strided = spec.reduction and space.strided and source < INPUTS
  units_of_it = chain(space, name, strided)
  assert OPERATIONS[name].exists
  count = sum(_unit(space, unit, spec.channels) for unit in units_of_it)
  scales = 2 * spec.channels * len(units_of_it)
  return sizes.nodes * count, count + scales


def _unit(space: Space, unit: Unit, channels: int) -> int:
  return units.parameters(unit, channels, channels, space.dims)


def _projections(space: Space, spec: CellSpec, sizes: _Sizes):
  """Of the inputs; their normalisation has no trained values."""
  first, second = (
    units.parameters(space.projection, c, spec.channels, space.dims)
    for c in spec.inputs
  )
  return np.array(
    [first * sizes.first + second * sizes.second, first + second], np.int64
  )


def _stem(system: SystemConfig, space: Space, samples: int) -> tuple[int, int]:
  frames, features = _size(system, samples)
  channels, unit = trunk.stem_channels(system.model), space.stem
  if space.dims == 1:
    count = units.parameters(unit, channels, channels, 1)
    return count * (frames // 2), count + 4 * channels
  sizes = [_halved((features, frames), times) for times in (1, 2, 3)]
  widths = (1, channels // 2, channels, channels)
  work, count = 0, 0
  for size, i, o in zip(sizes, widths, widths[1:], strict=False):
    weights = units.parameters(unit, i, o, 2)
    work += weights * size[0] * size[1]
    count += weights + 2 * o
  return work, count


def _size(system: SystemConfig, samples: int) -> tuple[int, int]:
  """Frames and features of a clip."""
  return system.frontend.frames(samples), system.frontend.features


def _sizes(system: SystemConfig, samples: int) -> list[_Sizes]:
  """Positions in each cell."""
  space = spaces.space(system.model.space)
  frames, features = _size(system, samples)
  found, specs = [], _specs(system.model)
  if space.dims == 1:
    first, second = frames // 2 * 2, frames // 2
    for _ in specs:
      found.append(_Sizes(first, second, second))
      first, second = second, second // 2
    return found
  times = 3
  for spec in specs:
    height, width = _halved((features, frames), times)
    times += spec.reduction
    nodes = _halved((features, frames), times)
    # A first input of twice the resolution is halved by the projection.
    found.append(_Sizes(height * width, height * width, nodes[0] * nodes[1]))
  return found


def _halved(size: tuple[int, int], times: int) -> tuple[int, int]:
  for _ in range(times):
    size = tuple(-(-n // 2) for n in size)
  return size


def _specs(config: LightDartsConfig) -> list[CellSpec]:
  stacked = {k == 'reduce': len(w[1]) for k, w in config.wirings.items()}
  return trunk.layout(
    spaces.space(config.space),
    config.num_cells,
    config.channels,
    trunk.stem_channels(config),
    stacked,
  )


def _width(config: LightDartsConfig, spec: CellSpec) -> int:
  kind = 'reduce' if spec.reduction else 'normal'
  return len(config.wirings[kind][1]) * spec.channels


def _head_parameters(system: SystemConfig, spec: CellSpec) -> int:
  width = _width(system.model, spec)
  return heads.parameters(system.head.kind, width, system.head.classes)


def _frontend_macs(system: SystemConfig, samples: int) -> int:
  c = system.frontend
  if not isinstance(c, SincConfig):
    return 0
  taps = sinc.odd(c.taps)
  return (samples + 2 * c.zeros - taps + 1) * taps * c.filters
