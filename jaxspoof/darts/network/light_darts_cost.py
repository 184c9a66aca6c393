"""What searched networks cost: of random ones the mean, of any a sum.

A search asks for the cost of each operation on each edge, and a study for that
of thousands of networks. What a derived network costs is a sum over its edges
of what their operations cost, plus what every network of the config has: here
one network is counted in its traced program (`SystemConfig.macs`), the part of
its edges taken away, and the edges of any other added. Both ways agree to the
last multiplication.

The expected cost is the mean of that sum over random networks, drawn from the
architecture parameters as `expected` says.

Letters in names: E edges, in the order of `genotype.edges_of`, O operations.
"""

import dataclasses
import functools
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.darts import spaces
from jaxspoof.darts.network import relaxation, trunk, units
from jaxspoof.darts.network.cell import INPUTS, CellSpec, chain
from jaxspoof.darts.network.light_darts import LightDartsConfig, derived
from jaxspoof.darts.network.supernet import SupernetConfig
from jaxspoof.darts.spaces import Space
from jaxspoof.darts.spaces import genotype as genotype_lib
from jaxspoof.darts.spaces.genotype import KEPT, KINDS
from jaxspoof.system import SystemConfig

COSTS = ('macs', 'parameters')


def macs(system: SystemConfig, samples: int) -> int:
  """Multiply-accumulates of one clip by a derived network, soon told.

  Of other networks of a config than the first no program is traced.

  Args:
    system: the model.
    samples: length of the clip.

  Raises:
    ValueError: the clip is shorter than the model can process.
  """
  config = system.model
  stacked = [len(concat) for _, concat in config.wirings.values()]
  if min(stacked) < config.genotype.nodes:  # seldom: its last cell is narrower
    return system.macs(samples)['total']
  fixed, tables = _tables(_any_network(system), samples)
  return int(fixed[0] + _of_edges(config, tables)[0])


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
  where `arch` chooses one genotype alone, this cost is that of its network.

  The expectation is computed exactly, without drawing networks, because the
  cost is a sum over edges.

  Args:
    system: the supernet.
    arch: values of its `Arch` variables, as `nnx.to_pure_dict` gives them.
    samples: length of the clip.

  Returns:
    The scalars 'macs' and 'parameters', floating point.
  """
  fixed, tables = _tables(_any_network(system), samples)
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
  fixed, tables = _tables(_any_network(system), samples)
  totals = dict(zip(COSTS, fixed.tolist(), strict=True))
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
    config: config of the supernet.
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


def _any_network(system: SystemConfig) -> SystemConfig:
  """The derived network that stands for all of a config.

  Args:
    system: a supernet, or a derived network of that config.
  """
  config, rng = system.model, np.random.default_rng(0)
  space = spaces.space(config.space)
  if isinstance(config, SupernetConfig):
    drawn = genotype_lib.random_genotype(space, config.nodes, rng)
    return derived(system, drawn)
  drawn = genotype_lib.random_genotype(space, config.genotype.nodes, rng)
  config = dataclasses.replace(config, genotype=drawn, auxiliary=0.0)
  return dataclasses.replace(system, model=config)


@functools.cache
def _tables(network: SystemConfig, samples: int):
  """What all networks cost, and what each operation on each edge adds.

  Args:
    network: from `_any_network`.
    samples: length of the clip.

  Returns:
    int [2], in the order of `COSTS`, and for each kind of cell int [2, E, O].
  """
  config = network.model
  space = spaces.space(config.space)
  edges = genotype_lib.edges_of(config.genotype.nodes)
  shape = (2, len(edges), len(space.choices))
  tables = {kind: np.zeros(shape, np.int64) for kind in KINDS}
  model = network.abstract()
  for spec, positions in zip(
    trunk.layout(config, config.wirings),
    _positions(model, samples),
    strict=True,
  ):
    table = tables['reduce' if spec.reduction else 'normal']
    for row, (source, _) in enumerate(edges):
      for column, name in enumerate(space.choices):
        table[:, row, column] += _operation(
          space, name, source, spec, positions
        )
  whole = network.macs(samples)['total'], network.parameters()
  return np.array(whole) - _of_edges(config, tables), tables


def _of_edges(config: LightDartsConfig, tables) -> np.ndarray:
  """What the edges of a derived network cost, int [2]."""
  choices = spaces.space(config.space).choices
  edges = genotype_lib.edges_of(config.genotype.nodes)
  total = np.zeros(2, np.int64)
  for kind, (wiring, _) in config.wirings.items():
    for edge in wiring:
      row = edges.index((edge.source, edge.target))
      total += tables[kind][:, row, choices.index(edge.operation)]
  return total


def _operation(
  space: Space, name: str, source: int, spec: CellSpec, positions: int
) -> tuple[int, int]:
  """(macs, parameters) of an operation on an edge from a state."""
  strided = spec.reduction and space.strided and source < INPUTS
  units_of_it = chain(space, name, strided)
  count = sum(
    units.parameters(unit, spec.channels, spec.channels, space.dims)
    for unit in units_of_it
  )
  scales = 2 * spec.channels * len(units_of_it)
  return positions * count, count + scales


def _positions(model: nnx.Module, samples: int) -> list[int]:
  """Positions of the nodes of each cell."""
  model = nnx.view(model, deterministic=True, use_running_average=True)
  graphdef, arrays = nnx.split(model)

  def states(arrays, wave):
    merged = nnx.merge(graphdef, arrays)
    features, _ = merged.features(wave)
    return [merged.trunk.stem(features)[1], *merged.trunk(features)]

  wave = jax.ShapeDtypeStruct((1, samples), jnp.float32)
  shapes = [x.shape for x in jax.eval_shape(states, arrays, wave)]
  found = [height * width for _, height, width, _ in shapes]
  # Where every cell halves the resolution, it does so behind its nodes.
  halving = spaces.space(model.config.space).halving
  return found[:-1] if halving else found[1:]
