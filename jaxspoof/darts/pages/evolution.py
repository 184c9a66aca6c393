"""How the architecture's weights moved: one small picture for each edge."""

from collections.abc import Sequence

import numpy as np

from jaxspoof.darts.spaces.genotype import edges_of, nodes_of
from jaxspoof.report.drawing import (
  BONAFIDE,
  INK,
  MUTED,
  SERIES,
  SPOOF,
  picture,
)
from jaxspoof.report.markup import Html

# As many operations as the largest space has can be told apart.
LINES = [*((c, '-') for c in (*SERIES, BONAFIDE, SPOOF, INK, MUTED))]
COLUMNS = 5


def of_cell(
  cell: str,
  epochs: Sequence[int],
  alpha_KxExO: np.ndarray,
  operations: Sequence[str],
  beta_KxE: np.ndarray | None = None,
) -> Html:
  """Weights of the operations of each edge, over K epochs.

  Args:
    cell: name of the cell.
    epochs: numbers of the epochs, [K].
    alpha_KxExO: weights between 0 and 1, of E edges and O operations.
    operations: names, [O].
    beta_KxE: weights of the edges themselves, where they have some.
  """
  count = alpha_KxExO.shape[1]
  edges = edges_of(nodes_of(count))
  rows = -(-count // COLUMNS)
  weights = [alpha_KxExO] if beta_KxE is None else [alpha_KxExO, beta_KxE]
  highest = max(1e-9, *(float(w.max()) for w in weights))

  def plot(place, values_K, color: str, style: str, name: str):
    marker = 'o' if len(epochs) == 1 else None
    place.plot(
      epochs, values_K, color=color, linestyle=style, linewidth=1.2, label=name,
      marker=marker,
    )  # fmt: skip

  def draw(axes):
    figure = axes.figure
    axes.remove()
    grid = figure.subplots(
      rows, COLUMNS, sharex=True, sharey=True, squeeze=False
    ).flat
    for place, (source, node), number in zip(
      grid, edges, range(count), strict=False
    ):
      for k, name in enumerate(operations):
        color, style = LINES[k % len(LINES)]
        plot(place, alpha_KxExO[:, number, k], color, style, name)
      if beta_KxE is not None:
        plot(place, beta_KxE[:, number], INK, ':', 'the edge itself')
      place.set_title(f'{source} to {node}')
      place.set_ylim(0, 1.05 * highest)
    handles, labels = next(iter(grid[:1])).get_legend_handles_labels()
    figure.legend(
      handles, labels, loc='outside lower center', ncols=4, fontsize=8
    )
    for place in list(grid)[count:]:
      place.axis('off')

  final = alpha_KxExO[-1]
  said = '; '.join(
    f'{source} to {node}: {operations[int(final[n].argmax())]} '
    f'{final[n].max():.0%}'
    for n, (source, node) in enumerate(edges)
  )
  return picture(
    f'evolution-{cell}',
    f'Weights of the operations in the {cell} cell over epochs; at the end '
    f'{said}',
    draw,
    height=0.9 + 1.25 * rows,
    width=9.0,
  )
