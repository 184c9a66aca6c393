"""Search spaces of DARTS as data: which operations an edge chooses from.

An operation is a chain of units, a pooling, or neither; a space is a list of
operations with the conventions of the networks made of them. What a search
chooses is a `genotype`, cells as data. To add an operation, make an entry in
`OPERATIONS`, name it in a space, and test it.

`darts` and `raw` are those of published papers. `light` is ours: Light-DARTS
(Wang et al. 2022, arXiv 2208.09618) has no public implementation, and its list
of operations is not in the parts of the paper that we could read.
"""

import dataclasses

from jaxspoof.darts.spaces.operations import OPERATIONS, Operation, Unit

__all__ = ['OPERATIONS', 'SPACES', 'Operation', 'Space', 'Unit', 'space']


@dataclasses.dataclass(frozen=True)
class Space:
  """What the edges of a cell choose from, and how its networks are built.

  Attributes:
    name: by which genotypes and configs know it.
    dims: 2 for images of frequency by time, 1 for time alone.
    operations: names in `OPERATIONS`, in the order of the architecture
      parameters; 'none', where the space has it, comes first.
    projection: unit that brings the inputs of a cell to its width.
    stem: unit of the stem's convolutions, 3 taps wide.
    strided: the edges from the two inputs of a reduction cell halve the
      resolution; otherwise they keep it.
    halving: every cell ends in max-pooling by 2 over time, so that its first
      input is twice as long as its second and is halved too.
    shared: groups of operations that share their kernels on an edge of the
      supernet, each group by a name of its own.
    pool_norm: pooling is followed by normalisation in derived networks too;
      in the supernet it always is.
    edge_normalisation: default of the supernet: learn a weight per edge.
  """

  name: str
  dims: int
  operations: tuple[str, ...]
  projection: Unit
  stem: Unit
  strided: bool = True
  halving: bool = False
  shared: tuple[tuple[str, tuple[str, ...]], ...] = ()
  pool_norm: bool = False
  edge_normalisation: bool = False

  def __post_init__(self):
    """Refuses operations that are not known or of another shape."""
    for name in self.operations:
      if name not in OPERATIONS:
        raise ValueError(
          f'space {self.name!r}: operation {name!r} is not known; known are '
          + ', '.join(OPERATIONS)
        )
    if 'none' in self.operations[1:]:
      raise ValueError(f"space {self.name!r}: 'none' must come first")

  @property
  def has_none(self) -> bool:
    """Whether an edge may choose not to exist."""
    return self.operations[0] == 'none'

  @property
  def choices(self) -> tuple[str, ...]:
    """The operations a derived network can have."""
    return self.operations[self.has_none :]

  def kernels_of(self, operation: str) -> str:
    """Name of the kernels an operation uses: the group's, or its own."""
    for group, members in self.shared:
      if operation in members:
        return group
    return operation


_DARTS = Space(
  name='darts',
  dims=2,
  operations=(
    'none',
    'max_pool_3x3',
    'avg_pool_3x3',
    'skip_connect',
    'sep_conv_3x3',
    'sep_conv_5x5',
    'dil_conv_3x3',
    'dil_conv_5x5',
  ),
  projection=Unit(1, before='relu'),
  stem=Unit(3, before='relu'),
)

_LIGHT = Space(
  name='light',
  dims=2,
  operations=(
    'max_pool_3x3',
    'skip_connect',
    'mfm_conv_3x3',
    'mfm_dil_conv_3x3',
  ),
  projection=Unit(1, mfm=True),
  stem=Unit(3, mfm=True),
  shared=(('mfm_3x3', ('mfm_conv_3x3', 'mfm_dil_conv_3x3')),),
  pool_norm=True,
  edge_normalisation=True,
)

_RAW = Space(
  name='raw',
  dims=1,
  operations=(
    'none',
    'max_pool_3',
    'avg_pool_3',
    'skip_connect',
    'std_conv_3',
    'std_conv_5',
    'dil_conv_3',
    'dil_conv_5',
  ),
  projection=Unit(1, before='leaky_relu'),
  stem=Unit(3, before='leaky_relu'),
  strided=False,
  halving=True,
)

SPACES = {space.name: space for space in (_DARTS, _LIGHT, _RAW)}


def space(name: str) -> Space:
  """The space of a name.

  Raises:
    ValueError: the name is not known; the message lists the known ones.
  """
  if name not in SPACES:
    raise ValueError(
      f'space {name!r} is not known; known are {", ".join(SPACES)}'
    )
  return SPACES[name]
