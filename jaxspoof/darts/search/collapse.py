"""Known ways in which a differentiable search fails, found in its result."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxspoof.darts import spaces
from jaxspoof.darts.network.cell import INPUTS, chain
from jaxspoof.darts.search import architecture
from jaxspoof.darts.spaces.genotype import KINDS, Genotype

# DARTS+ (Liang et al. 2019) stops a search at the second skip connection of a
# normal cell; P-DARTS (Chen et al., ICCV 2019) lets a cell have two at most.
MOST_SKIPS = 2
UNDECIDED = 0.98  # entropy as a fraction of that of equal weights


def failures(
  genotype: Genotype,
  arch: architecture.Arch,
  lines: Sequence[dict[str, Any]] = (),
) -> list[str]:
  """Says which of the known failures a search shows; empty if none.

  Args:
    genotype: what was found.
    arch: logits at the end.
    lines: metrics of the ends of epochs, with `dev/eer` if dev is watched.
  """
  space = spaces.space(genotype.space)
  operations, found = space.operations, []
  for cell in KINDS:
    found += _of_cell(cell, getattr(genotype, cell), space)
  weights = architecture.shares(arch)
  leaders = np.concatenate(
    [share['alpha'].argmax(-1) for _, share in sorted(weights.items())]
  )
  nothing = np.mean([operations[k] == 'none' for k in leaders])
  if nothing > 0.5:
    found.append(
      f'“none” leads on {nothing:.0%} of the edges: the genotype is made of '
      'what comes second there'
    )
  entropy = float(architecture.entropy(arch))
  if entropy > UNDECIDED:
    found.append(
      f'undecided: the entropy of the edges is {entropy:.1%} of that of equal '
      'weights, so noise decides much of the genotype; more epochs, a higher '
      'arch.learning_rate or arch.entropy_weight decide more'
    )
  return found + _of_curves(lines)


def _of_cell(
  cell: str, chosen: Sequence[tuple[str, int]], space: spaces.Space
) -> list[str]:
  found = []
  skips = sum('skip' in operation for operation, _ in chosen)
  if skips > MOST_SKIPS:
    found.append(
      f'skip-connection collapse: {skips} of the {len(chosen)} operations of '
      f'the {cell} cell are skip connections, more than {MOST_SKIPS}; fewer '
      'epochs, a longer warm-up or order "exact" help'
    )
  strided = cell == 'reduce' and space.strided
  if not any(
    chain(space, operation, strided and source < INPUTS)
    for operation, source in chosen
  ):
    found.append(f'no operation of the {cell} cell has weights to learn')
  return found


def _of_curves(lines: Sequence[dict[str, Any]]) -> list[str]:
  """Overfitting of the architecture: its half gets better, dev does not."""
  eers = [line['dev/eer'] for line in lines if 'dev/eer' in line]
  if len(eers) < 2 or eers[-1] <= 1.5 * min(eers) or eers[-1] < 0.02:
    return []
  best = int(np.argmin(eers))
  return [
    f'the supernet got worse on dev, EER {eers[best]:.2%} after epoch '
    f'{lines[best]["epoch"]} and {eers[-1]:.2%} at the end: the genotype is '
    'that of the end, for dev decides nothing here'
  ]
