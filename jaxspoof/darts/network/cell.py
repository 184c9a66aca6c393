"""The cell that supernets and derived networks are made of.

A cell is a graph of states joined by edges, each edge with one operation. In
a supernet all states are joined by all operations, each with a weight; in a
derived network two edges reach each node, and their weights are 1. Both are
this one class, with different lists of edges.

Letters in names: B batch, H height (frequency), W width (time), C channels, R
rows (edges that share their source and their operation).
"""

import functools
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.darts import spaces
from jaxspoof.darts.network import units
from jaxspoof.darts.network.units import Kernels, Norms, Term
from jaxspoof.darts.spaces import OPERATIONS, Space, Unit
from jaxspoof.ops import pool, windows

INPUTS = 2  # states that a cell is given


class Edge(NamedTuple):
  """State read, state added to, name of the operation."""

  source: int
  target: int
  operation: str


class CellSpec(NamedTuple):
  """Size of a cell.

  Attributes:
    inputs: channels of the two states it is given.
    channels: channels of each of its nodes.
    reduction: whether it is a reduction cell.
    halve: whether its first input has twice the resolution of its second.
  """

  inputs: tuple[int, int]
  channels: int
  reduction: bool
  halve: bool


class Mix(NamedTuple):
  """Weights of the edges of a cell.

  Attributes:
    operations: for each operation `[rows]`, in the order of `Cell.rows`.
    edges: weight of each (source, target), for partial connections.
  """

  operations: Mapping[str, jax.Array]
  edges: Mapping[tuple[int, int], jax.Array]


class ConvUnit(nnx.Module):
  """One unit for the whole image, outside of the edges."""

  def __init__(
    self,
    inputs: int,
    outputs: int,
    unit: Unit,
    dims: int,
    *,
    stride: int = 1,
    pooled: bool = False,
    affine: bool = False,
    param_dtype: str = 'float32',
    rngs: nnx.Rngs,
  ):
    """Draws the kernels.

    Args:
      inputs: channels in.
      outputs: channels out.
      unit: what is computed.
      dims: 2 for images of frequency by time, 1 for time alone.
      stride: step of the convolution.
      pooled: if True, max-pooling by 2 over time before the normalisation.
      affine: if True, the normalisation has a trained scale and bias.
      param_dtype: dtype of parameters and running statistics.
      rngs: random streams; weights are drawn from `params`.
    """
    self.unit, self.stride, self.pooled = unit, stride, pooled
    self.kernels = Kernels(
      1, inputs, outputs, unit, dims, param_dtype=param_dtype, rngs=rngs
    )
    self.norm = Norms(1, outputs, affine=affine, param_dtype=param_dtype)

  def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
    """Returns `[B, H', W', outputs]`."""
    x = units.activate(x_BxHxWxC, self.unit.before)
    x = self.kernels(x, self.unit, stride=self.stride)
    if self.pooled:
      x = pool.max_pool_time(x, 2)
    return units.normalise(x, self.norm)


class Cell(nnx.Module):
  """Two states in, the stacked nodes out."""

  def __init__(
    self,
    space: Space,
    edges: tuple[Edge, ...],
    concat: tuple[int, ...],
    spec: CellSpec,
    *,
    partial: int = 1,
    affine: bool,
    pool_norm: bool,
    param_dtype: str = 'float32',
    rngs: nnx.Rngs,
  ):
    """Draws kernels for each edge.

    Args:
      space: the search space.
      edges: the edges of the cell, in any order, without operations 'none'.
      concat: the states that are stacked into the output.
      spec: channels and resolution of the cell.
      partial: each edge works on one in `partial` channels; 1 for all.
      affine: normalisation after convolutions has a trained scale and bias.
      pool_norm: normalise after pooling.
      param_dtype: dtype of parameters and running statistics.
      rngs: random streams; weights are drawn from `params`.
    """
    self.space, self.concat, self.partial = space, concat, partial
    self.reduction, self.pool_norm = spec.reduction, pool_norm
    self.edges = tuple(sorted(edges, key=lambda e: (e.source, e.target)))
    self.width = spec.channels // partial
    options = dict(param_dtype=param_dtype, rngs=rngs)
    for i, inputs in enumerate(spec.inputs):
      halve = spec.halve and i == 0
      projection = ConvUnit(
        inputs,
        spec.channels,
        space.projection,
        space.dims,
        stride=2 if halve and not space.halving else 1,
        pooled=halve and space.halving,
        **options,
      )
      setattr(self, f'projection{i}', projection)
    self._make_kernels(options)
    self._make_norms(affine, param_dtype)

  def _make_kernels(self, options: Mapping) -> None:
    made = {}
    for key, edges in self.kernel_rows.items():
      strided, group = key
      for operation in self.operations:
        if self.space.kernels_of(operation) == group:
          chain = self._chain(operation, strided)
          break
      for i, unit in enumerate(chain):
        made[_name(group, strided, i)] = (len(edges), unit)
    self.kernels = nnx.Dict(
      {
        name: Kernels(
          rows, self.width, self.width, unit, self.space.dims, **options
        )
        for name, (rows, unit) in made.items()
      }
    )

  def _make_norms(self, affine: bool, param_dtype: str) -> None:
    made = {}
    for (strided, operation), edges in self.norm_rows.items():
      if OPERATIONS[operation].pool:
        if self.pool_norm:
          made[_name(operation, strided, 0)] = (len(edges), False)
        continue
      for i in range(len(self._chain(operation, strided))):
        made[_name(operation, strided, i)] = (len(edges), affine)
    self.norms = nnx.Dict(
      {
        name: Norms(rows, self.width, affine=scale, param_dtype=param_dtype)
        for name, (rows, scale) in made.items()
      }
    )

  # -- what each row of the stacked arrays belongs to ------------------------

  @property
  def operations(self) -> tuple[str, ...]:
    """Names of the operations in use, in the order of the space."""
    used = {edge.operation for edge in self.edges}
    return tuple(name for name in self.space.operations if name in used)

  def rows(self, operation: str) -> list[Edge]:
    """Edges of an operation, in the order of `Mix`."""
    return [edge for edge in self.edges if edge.operation == operation]

  @property
  def kernel_rows(self) -> dict[tuple[bool, str], list]:
    """(source, target) of the rows of kernels, by stride and group."""
    found = {}
    for edge in self.edges:
      key = self._strided(edge.source), self.space.kernels_of(edge.operation)
      if self._chain(edge.operation, key[0]):
        rows = found.setdefault(key, [])
        if edge[:2] not in rows:
          rows.append(edge[:2])
    return found

  @property
  def norm_rows(self) -> dict[tuple[bool, str], list]:
    """(source, target) of the rows of statistics, by stride and operation.

    A pooling has one row for each source, whatever the target.
    """
    found = {}
    for edge in self.edges:
      strided, operation = self._strided(edge.source), edge.operation
      row = edge[:2]
      if OPERATIONS[operation].pool:
        row = edge.source
      elif not self._chain(operation, strided):
        continue
      rows = found.setdefault((strided, operation), [])
      if row not in rows:
        rows.append(row)
    return found

  def _strided(self, source: int) -> bool:
    return self.reduction and self.space.strided and source < INPUTS

  def _chain(self, operation: str, strided: bool) -> tuple[Unit, ...]:
    return chain(self.space, operation, strided)

  # -- computation -----------------------------------------------------------

  def __call__(
    self,
    first_BxHxWxC: jax.Array,
    second_BxHxWxC: jax.Array,
    mix: Mix | None = None,
    drop: Callable | None = None,
  ) -> jax.Array:
    """Computes all states.

    Args:
      first_BxHxWxC: output of the cell before the last.
      second_BxHxWxC: output of the last cell.
      mix: weights of the edges; None for 1.
      drop: applied to what each edge makes, unless it is the identity.

    Returns:
      The states of `concat`, stacked: `[B, H', W', len(concat) * channels]`.
    """
    states = [self.projection0(first_BxHxWxC), self.projection1(second_BxHxWxC)]
    sums, passed = {}, {}
    for source in range(max(self.concat) + 1):
      if source >= INPUTS:
        states.append(self._state(sums[source], passed.get(source)))
      if any(edge.source == source for edge in self.edges):
        self._spread(source, states[source], mix, drop, sums, passed)
    out = jnp.concatenate([states[i] for i in self.concat], -1)
    return pool.max_pool_time(out, 2) if self.space.halving else out

  def _state(self, parts: list[jax.Array], passed) -> jax.Array:
    total = functools.reduce(jnp.add, parts)
    if self.partial == 1:
      return total
    # Shuffled, so that the next edges work on other channels too.
    whole = jnp.concatenate([total, functools.reduce(jnp.add, passed)], -1)
    split = whole.reshape(*whole.shape[:3], self.partial, -1)
    return split.swapaxes(3, 4).reshape(whole.shape)

  def _spread(self, source, x_BxHxWxC, mix, drop, sums, passed) -> None:
    """Adds what the edges of a state make to the sums of their targets."""
    own = x_BxHxWxC[..., : self.width]
    terms, plain = {}, {}
    activated = functools.cache(functools.partial(units.activate, own))
    for operation in self.operations:
      mine = [e for e in self.rows(operation) if e.source == source]
      if not mine:
        continue
      targets = tuple(edge.target for edge in mine)
      weight = _weight(mix, operation, self.rows(operation), mine)
      if self._chain(operation, self._strided(source)):
        term = self._convolved(activated, operation, mine, weight)
        terms.setdefault(targets, []).append(term)
      else:
        image = self._unconvolved(own, operation, source)
        identity = OPERATIONS[operation].identity
        plain.setdefault(targets, []).append((image, weight, identity))
    for targets, group in terms.items():
      image = units.normalised_sum(group)
      parts = jnp.split(image, len(targets), -1) if targets[1:] else [image]
      for target, part in zip(targets, parts, strict=True):
        sums.setdefault(target, []).append(drop(part) if drop else part)
    for targets, group in plain.items():
      for i, target in enumerate(targets):
        for image, weight, identity in group:
          part = (
            image if weight is None else image * weight[i].astype(own.dtype)
          )
          part = part if identity or drop is None else drop(part)
          sums.setdefault(target, []).append(part)
    if self.partial > 1:
      self._pass(source, x_BxHxWxC[..., self.width :], mix, passed)

  def _convolved(self, activated, operation, edges, weight) -> Term:
    """The operation of all edges of one source, before normalisation."""
    strided = self._strided(edges[0].source)
    group = self.space.kernels_of(operation)
    kernel_rows = self.kernel_rows[strided, group]
    norm_rows = self.norm_rows[strided, operation]
    pick = np.array([kernel_rows.index(e[:2]) for e in edges])
    rows = np.array([norm_rows.index(e[:2]) for e in edges])
    chain = self._chain(operation, strided)
    for i, unit in enumerate(chain):
      if i == 0:
        x = activated(unit.before)
      else:
        norm = self.norms[_name(operation, strided, i - 1)]
        x = units.activate(units.normalise(x, norm, rows), unit.before)
      x = self.kernels[_name(group, strided, i)](
        x,
        unit,
        rows=pick,
        split=i > 0,
        stride=2 if strided and i == 0 else 1,
      )
    return Term(x, self.norms[_name(operation, strided, i)], rows, weight)

  def _unconvolved(self, x_BxHxWxC, operation: str, source: int) -> jax.Array:
    """Identity or pooling: the same for all edges of the source."""
    kind, strided = OPERATIONS[operation].pool, self._strided(source)
    if not kind:
      return x_BxHxWxC
    window = units.window(Unit(3), self.space.dims, 2 if strided else 1)
    function = {'max': windows.max_pool, 'mean': windows.mean_pool}[kind]
    y = function(x_BxHxWxC, window)
    if not self.pool_norm:
      return y
    rows = np.array([self.norm_rows[strided, operation].index(source)])
    return units.normalise(y, self.norms[_name(operation, strided, 0)], rows)

  def _pass(self, source: int, rest_BxHxWxC, mix, passed) -> None:
    """Adds the channels that no operation touches."""
    if self._strided(source):
      height, width = rest_BxHxWxC.shape[1:3]
      pads = [(0, 0), (0, height % 2), (0, width % 2), (0, 0)]
      padded = jnp.pad(rest_BxHxWxC, pads, constant_values=-jnp.inf)
      quarters = [padded[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]
      rest_BxHxWxC = functools.reduce(jnp.maximum, quarters)
    for target in sorted({e.target for e in self.edges if e.source == source}):
      part = rest_BxHxWxC
      if mix is not None:
        part = part * mix.edges[source, target].astype(part.dtype)
      passed.setdefault(target, []).append(part)


def chain(space: Space, operation: str, strided: bool) -> tuple[Unit, ...]:
  """The units of an operation; of a strided identity the projection."""
  found = spaces.OPERATIONS[operation]
  if found.identity and strided:
    return (space.projection,)
  return found.units


def _name(operation: str, strided: bool, unit: int) -> str:
  return f'{operation}_s{1 + strided}_u{unit}'


def _weight(mix: Mix | None, operation: str, rows: list, mine: list):
  """Weights of some of the rows of an operation, which follow each other."""
  if mix is None:
    return None
  start = rows.index(mine[0])
  return mix.operations[operation][start : start + len(mine)]
