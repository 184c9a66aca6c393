"""Cells as graphs: nodes on a line, operations as arcs between them."""

import os
import re

from matplotlib.patches import Arc

from jaxspoof.darts.spaces.genotype import KEPT, Genotype
from jaxspoof.machine.files import write_atomically
from jaxspoof.report.drawing import (
  INK,
  MUTED,
  PAPER,
  SERIES,
  VARIABLES,
  picture,
)
from jaxspoof.report.markup import Html
from jaxspoof.report.style import CSS

KINDS = {'conv': SERIES[0], 'pool': SERIES[2], 'skip': SERIES[3]}
OTHER = SERIES[1]
STEP = 1.3  # between nodes, in inches
RISE = 0.42  # height of an arc over its width


def cell(kind: str, genotype: Genotype) -> Html:
  """Draws one cell: its inputs at the left, its output at the right.

  Args:
    kind: 'normal' or 'reduce'.
    genotype: the cells.
  """
  edges = sorted(
    (2 + k // KEPT, source, operation)
    for k, (operation, source) in enumerate(getattr(genotype, kind))
  )
  last = max(node for node, _, _ in edges)
  above = _sides(edges)
  heights = [RISE * STEP * (node - source) / 2 for node, source, _ in edges]
  up, down = (
    max([h for h, a in zip(heights, above, strict=True) if a == side] + [0.2])
    for side in (True, False)
  )

  def draw(axes):
    axes.axis('off')
    axes.set_aspect('equal')
    # All inner nodes are joined in the output.
    axes.plot([2 * STEP, (last + 1) * STEP], [0, 0], color=MUTED, linewidth=0.8)
    for (node, source, operation), side in zip(edges, above, strict=True):
      _arc(axes, source, node, operation, side)
    names = ['input 0', 'input 1', *map(str, range(2, last + 1)), 'output']
    for number, words in enumerate(names):
      axes.text(
        number * STEP, 0, words, ha='center', va='center', zorder=3,
        bbox={'boxstyle': 'round', 'facecolor': PAPER, 'edgecolor': INK},
      )  # fmt: skip
    axes.set_xlim(-0.5, (last + 1) * STEP + 0.5)
    axes.set_ylim(-down - 0.35, up + 0.35)

  said = '; '.join(f'{o} from {source} to {n}' for n, source, o in edges)
  return picture(
    f'cell-{kind}',
    f'The {kind} cell: {said}',
    draw,
    height=up + down + 0.7,
    width=(last + 1) * STEP + 1,
  )


def _sides(edges) -> list[bool]:
  """Whether an arc lies above: of the edges of a node every other one."""
  counts: dict[int, int] = {}
  sides = []
  for node, _, _ in edges:
    counts[node] = counts.get(node, 0) + 1
    sides.append(counts[node] % 2 == 1)
  return sides


def _arc(axes, source: int, node: int, operation: str, above: bool) -> None:
  """Half an ellipse from a node to another, named at its top."""
  color = next((c for k, c in KINDS.items() if k in operation), OTHER)
  width, middle = (node - source) * STEP, (node + source) / 2 * STEP
  height = RISE * width / 2 * (1 if above else -1)
  angles = (0, 180) if above else (180, 360)
  axes.add_patch(
    Arc(
      (middle, 0),
      width,
      RISE * width,
      theta1=angles[0],
      theta2=angles[1],
      color=color,
      linewidth=1.6,
    )  # fmt: skip
  )
  axes.text(
    middle, height, operation, ha='center', va='center', fontsize=8,
    color=color, bbox={'pad': 1, 'facecolor': PAPER, 'edgecolor': 'none'},
  )  # fmt: skip


def save(path: str | os.PathLike, pictures: list[tuple[str, Html]]) -> None:
  """Writes pictures under each other as one SVG file in the light colours.

  Args:
    path: file to write.
    pictures: each with its title.
  """
  light = dict(re.findall(r'--(\w+): (#\w+);', CSS.split('@media')[0]))
  parts, top, right = [], 0.0, 0.0
  for title, one in pictures:
    width, height = map(
      float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', one).groups()
    )
    parts.append(
      f'<text x="8" y="{top + 16:.0f}" font-size="13">{title}</text>'
    )
    size = f'<svg y="{top + 22:.0f}" width="{width}" height="{height}"'
    parts.append(one.replace('<svg', size, 1))
    top, right = top + height + 30, max(right, width)
  body = ''.join(parts)
  for name in VARIABLES.values():
    body = body.replace(f'var(--{name})', light[name])
  body = body.replace('var(--font)', 'sans-serif')
  write_atomically(
    path,
    f'<svg xmlns="http://www.w3.org/2000/svg" width="{right:.0f}" '
    f'height="{top:.0f}" font-family="sans-serif">'
    f'<rect width="100%" height="100%" fill="{light["paper"]}"/>{body}</svg>\n',
  )
