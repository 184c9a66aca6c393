"""Genotypes: the architecture of a cell as data, and its file format.

A cell has two input states, 0 and 1, and makes states 2, 3 and so on, each the
sum of two operations on earlier states. A genotype names, node after node,
those pairs of operation and input state, for the normal and for the reduction
cell (Liu et al. 2019, arXiv 1806.09055).
"""

import dataclasses
import hashlib
import json
import pathlib
from collections.abc import Mapping

import numpy as np

from jaxspoof.darts import spaces

SCHEMA = 1
KINDS = ('normal', 'reduce')
KEPT = 2  # inputs of a node

Edges = tuple[tuple[str, int], ...]


@dataclasses.dataclass(frozen=True)
class Genotype:
  """Two cells of a search space.

  Attributes:
    space: name of the search space.
    normal: (operation, input state) of each kept edge of the normal cell, two
      for each node.
    reduce: (operation, input state) of each kept edge of the reduction cell.
    normal_concat: the states that are stacked into the output of the normal
      cell; () stacks all nodes.
    reduce_concat: the states that are stacked into the output of the reduction
      cell; () stacks all nodes.
  """

  space: str
  normal: Edges
  reduce: Edges
  normal_concat: tuple[int, ...] = ()
  reduce_concat: tuple[int, ...] = ()

  def __post_init__(self):
    """Makes tuples of lists and refuses what no network can be built of."""
    space = spaces.space(self.space)
    for kind in KINDS:
      edges = _as_edges(kind, getattr(self, kind))
      object.__setattr__(self, kind, edges)
      _check_edges(kind, edges, space)
      nodes = len(edges) // KEPT
      concat = tuple(int(i) for i in getattr(self, f'{kind}_concat'))
      concat = concat or tuple(range(2, nodes + 2))
      object.__setattr__(self, f'{kind}_concat', concat)
      if not all(2 <= i < nodes + 2 for i in concat):
        raise ValueError(
          f'{kind}_concat={concat}: needs states from 2 to {nodes + 1}'
        )
    if len(self.normal) != len(self.reduce):
      raise ValueError(
        f'normal and reduce differ in size: {len(self.normal)} and '
        f'{len(self.reduce)} edges'
      )

  @property
  def nodes(self) -> int:
    """Intermediate nodes of a cell."""
    return len(self.normal) // KEPT

  @property
  def hash(self) -> str:
    """Short SHA-256 of the content, the order of a node's edges included."""
    text = json.dumps(self._content(), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]

  def to_json(self) -> str:
    """The genotype with schema version and hash, as text."""
    head = {'schema': SCHEMA, 'hash': self.hash}
    return json.dumps({**head, **self._content()}, indent=1)

  @classmethod
  def from_json(cls, text: str, *, space: str | None = None) -> 'Genotype':
    """Reads what `to_json` wrote.

    Args:
      text: the JSON document.
      space: name of the space it must be of; None takes any.

    Raises:
      ValueError: not JSON, another schema, another space, a hash that does
        not belong to the content, or a cell that cannot be built.
    """
    try:
      fields = json.loads(text)
    except json.JSONDecodeError as error:
      raise ValueError(f'not a genotype: not JSON ({error})') from error
    if not isinstance(fields, dict) or 'schema' not in fields:
      raise ValueError("not a genotype: no object with a 'schema'")
    if fields['schema'] != SCHEMA:
      raise ValueError(
        f'genotype of schema {fields["schema"]!r}: this version of jaxspoof '
        f'reads schema {SCHEMA}'
      )
    names = [field.name for field in dataclasses.fields(cls)]
    missing = [name for name in names if name not in fields]
    if missing:
      raise ValueError(f'genotype lacks {", ".join(missing)}')
    genotype = cls(**{name: fields[name] for name in names})
    genotype._check_origin(fields.get('hash'), space)
    return genotype

  def save(self, path: str | pathlib.Path) -> None:
    """Writes the JSON document."""
    pathlib.Path(path).write_text(self.to_json() + '\n', encoding='utf-8')

  @classmethod
  def load(
    cls, path: str | pathlib.Path, *, space: str | None = None
  ) -> 'Genotype':
    """Reads a file; errors are those of `from_json`, with the path."""
    text = pathlib.Path(path).read_text(encoding='utf-8')
    try:
      return cls.from_json(text, space=space)
    except ValueError as error:
      raise ValueError(f'{path}: {error}') from error

  def fits(self, space: str) -> None:
    """Raises ValueError if the genotype is of another space."""
    if self.space != space:
      raise ValueError(
        f'genotype of space {self.space!r} does not fit space {space!r}'
      )

  def _content(self) -> dict:
    return dataclasses.asdict(self)

  def _check_origin(self, written: str | None, space: str | None) -> None:
    if written != self.hash:
      raise ValueError(
        f'genotype was changed after it was written: hash {written}, but its '
        f'content has {self.hash}'
      )
    if space is not None:
      self.fits(space)


def from_fields(fields: 'Genotype | Mapping') -> Genotype:
  """A genotype as it is, or of a mapping of its fields."""
  if isinstance(fields, Genotype):
    return fields
  names = {field.name for field in dataclasses.fields(Genotype)}
  return Genotype(**{k: v for k, v in dict(fields).items() if k in names})


def edges_of(nodes: int) -> list[tuple[int, int]]:
  """(source, target) of all edges of a cell, in the order of `Arch`.

  >>> edges_of(2)
  [(0, 2), (1, 2), (0, 3), (1, 3), (2, 3)]
  """
  return [(j, i + 2) for i in range(nodes) for j in range(i + 2)]


def discretise(
  space: spaces.Space, arch: Mapping[str, Mapping[str, np.ndarray]]
) -> Genotype:
  """The rule of DARTS: each node keeps its two best edges.

  An edge is worth the largest softmax(alpha) of its operations other than
  'none', times softmax(beta) over the edges of its node where beta is there
  (Xu et al. 2020, arXiv 1907.05737, section 3.3). Of equals the first wins.

  Args:
    space: the search space.
    arch: for 'normal' and 'reduce', 'alpha' `[edges, operations]` and, with
      edge normalisation, 'beta' `[edges]`: the values of a supernet's `Arch`.

  Returns:
    The genotype; of each node the better edge comes first.
  """
  cells = {kind: _discretised(space, arch[kind]) for kind in KINDS}
  return Genotype(space=space.name, **cells)


def _discretised(space: spaces.Space, arch) -> Edges:
  alpha = np.asarray(arch['alpha'], np.float64)
  nodes = nodes_of(len(alpha))
  if alpha.shape[1] != len(space.operations):
    raise ValueError(
      f'alpha has {alpha.shape[1]} operations, space {space.name!r} has '
      f'{len(space.operations)}'
    )
  weight = _softmax(alpha)[:, space.has_none :]
  beta = arch.get('beta')
  cell, start = [], 0
  for node in range(nodes):
    rows = weight[start : start + node + 2]
    worth = rows.max(1)
    if beta is not None:
      ours = np.asarray(beta, np.float64)[start : start + node + 2]
      worth = worth * _softmax(ours[None])[0]
    start += node + 2
    for j in np.argsort(-worth, kind='stable')[:KEPT]:
      cell.append((space.choices[int(rows[j].argmax())], int(j)))
  return tuple(cell)


def random_genotype(
  space: spaces.Space, nodes: int, rng: np.random.Generator
) -> Genotype:
  """Draws inputs and operations of each node, all equally likely."""
  cells = {}
  for kind in KINDS:
    edges = []
    for node in range(nodes):
      for j in rng.choice(node + 2, KEPT, replace=False):
        edges.append((str(rng.choice(space.choices)), int(j)))
    cells[kind] = tuple(edges)
  return Genotype(space=space.name, **cells)


def _softmax(x: np.ndarray) -> np.ndarray:
  x = np.exp(x - x.max(1, keepdims=True))
  return x / x.sum(1, keepdims=True)


def nodes_of(edges: int) -> int:
  """Number of nodes of a cell with this number of edges.

  Raises:
    ValueError: no cell has this number of edges.
  """
  nodes = 0
  while nodes * (nodes + 3) // 2 < edges:
    nodes += 1
  if nodes * (nodes + 3) // 2 != edges:
    raise ValueError(f'no cell has {edges} edges')
  return nodes


def _as_edges(kind: str, edges) -> Edges:
  try:
    return tuple((str(operation), int(j)) for operation, j in edges)
  except (TypeError, ValueError) as error:
    raise ValueError(
      f'{kind}={edges!r}: needs pairs of an operation and an input state'
    ) from error


def _check_edges(kind: str, edges: Edges, space: spaces.Space) -> None:
  if not edges or len(edges) % KEPT:
    raise ValueError(f'{kind} has {len(edges)} edges: needs two for each node')
  for k, (operation, j) in enumerate(edges):
    if operation not in space.choices:
      raise ValueError(
        f'{kind} edge {k}: space {space.name!r} has no operation '
        f'{operation!r}; it has {", ".join(space.choices)}'
      )
    node = k // KEPT + 2
    if not 0 <= j < node:
      raise ValueError(
        f'{kind} edge {k}: node {node} cannot read state {j}, only 0 to '
        f'{node - 1}'
      )
  for k in range(0, len(edges), KEPT):
    if len({j for _, j in edges[k : k + KEPT]}) < KEPT:
      raise ValueError(
        f'{kind} edges {k} and {k + 1} read the same state {edges[k][1]}'
      )


# Ge et al. 2021, arXiv 2104.03123, and Ge et al. 2021, arXiv 2107.12212: the
# best genotypes that their authors published.
PUBLISHED = {
  'pc_darts': Genotype(
    space='darts',
    normal=(
      ('sep_conv_5x5', 0),
      ('sep_conv_5x5', 1),
      ('sep_conv_3x3', 2),
      ('dil_conv_5x5', 0),
      ('avg_pool_3x3', 2),
      ('max_pool_3x3', 3),
      ('avg_pool_3x3', 2),
      ('avg_pool_3x3', 4),
    ),
    reduce=(
      ('sep_conv_5x5', 1),
      ('sep_conv_3x3', 0),
      ('dil_conv_3x3', 2),
      ('avg_pool_3x3', 0),
      ('dil_conv_5x5', 2),
      ('sep_conv_3x3', 3),
      ('dil_conv_3x3', 2),
      ('avg_pool_3x3', 4),
    ),
  ),
  'raw_pc_darts': Genotype(
    space='raw',
    normal=(
      ('dil_conv_5', 1),
      ('dil_conv_3', 0),
      ('dil_conv_5', 1),
      ('dil_conv_5', 2),
      ('std_conv_5', 2),
      ('skip_connect', 3),
      ('std_conv_5', 2),
      ('skip_connect', 4),
    ),
    reduce=(
      ('max_pool_3', 0),
      ('std_conv_3', 1),
      ('dil_conv_3', 0),
      ('dil_conv_3', 2),
      ('skip_connect', 0),
      ('dil_conv_5', 2),
      ('dil_conv_3', 0),
      ('avg_pool_3', 1),
    ),
  ),
}
