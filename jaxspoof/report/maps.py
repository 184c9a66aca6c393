"""Pictures of source tracing: what is taken for what, and embeddings."""

import itertools

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from jaxspoof.classes import BONA_FIDE, UNKNOWN, WORDS
from jaxspoof.report.curves import principal_axes, thin_groups
from jaxspoof.report.drawing import (
  CLASSES,
  GRID,
  INK,
  MUTED,
  SERIES,
  WIDTH,
  picture,
)
from jaxspoof.report.markup import Html, percent

MOST = 900  # points of a map: a page is to stay light
SHAPES = ('o', 's', '^', 'D', 'v', 'P')
FAINT = 0.6  # at most so strong is a cell: the number in it is read


def confusion(
  name: str, rows: list[str], columns: list[str], counts, right
) -> Html:
  """Trials of each attack by the class they are answered with.

  Args:
    name: a name that no other picture of the page has.
    rows: names of the attacks.
    columns: names of the classes that can be answered.
    counts: number of trials, int [rows, columns].
    right: bool [rows, columns], True where the answer is the right one.
  """
  counts, right = np.asarray(counts), np.asarray(right)
  trials = counts.sum(axis=1)
  shares = counts / np.maximum(trials, 1)[:, None]

  def draw(axes):
    for row, column in np.ndindex(counts.shape):
      if count := counts[row, column]:
        share = shares[row, column]
        axes.add_patch(
          Rectangle(
            (column - 0.5, row - 0.5), 1, 1, facecolor=SERIES[0],
            alpha=FAINT * share, linewidth=0,
          )
        )  # fmt: skip
        axes.text(
          column, row, f'{count:,}', ha='center', va='center', fontsize=8
        )
      if right[row, column]:
        axes.add_patch(
          Rectangle(
            (column - 0.46, row - 0.46), 0.92, 0.92, facecolor='none',
            edgecolor=INK, linewidth=1,
          )
        )  # fmt: skip
    for row, (total, share) in enumerate(
      zip(trials, np.sum(shares * right, axis=1), strict=True)
    ):
      axes.text(
        1.02, row, f'{percent(share, 0)} of {total:,}', va='center',
        fontsize=8, transform=axes.get_yaxis_transform(),
      )  # fmt: skip
    axes.set(
      xlim=(-0.5, len(columns) - 0.5),
      ylim=(len(rows) - 0.5, -0.5),
      xlabel='answer',
      ylabel='truth',
    )
    turned = 90 if max(map(len, columns)) * len(columns) > 45 else 0
    axes.set_xticks(range(len(columns)), columns, rotation=turned)
    axes.set_yticks(range(len(rows)), rows)
    axes.set_title('right', loc='right', x=1.02, ha='left', color=MUTED)
    axes.grid(visible=False)
    axes.tick_params(length=0, labelcolor=INK)
    for position in ('left', 'bottom'):
      axes.spines[position].set_visible(False)

  said = '; '.join(
    f'{row} ' + ', '.join(
      f'{column} {count}'
      for column, count in zip(columns, line, strict=True) if count
    )
    for row, line in zip(rows, counts, strict=True)
  )  # fmt: skip
  return picture(
    f'confusion-{name}',
    f'Answers by truth, {name}: {said}',
    draw,
    1.0 + 0.25 * len(rows),
  )


def embeddings(
  name: str, vectors_NxD, attack, split, fit_on: str, first: int = 1
) -> Html:
  """A map of embeddings: two principal axes of the clips of one split.

  Args:
    name: a name that no other picture of the page has.
    vectors_NxD: float [N, D].
    attack: str [N], '-' for bona fide; gives the colour.
    split: str [N]; gives the shape.
    fit_on: the split whose principal axes are taken.
    first: number of the axis that is drawn to the right, from 1; the next one
      is drawn upwards.
  """
  vectors_NxD = _unit(vectors_NxD)
  attack, split = np.asarray(attack), np.asarray(split)
  splits = sorted(set(split), key=lambda s: (s != fit_on, s))
  names = sorted(set(attack), key=lambda a: (a in (BONA_FIDE, UNKNOWN), a))
  mean_D, axes_2xD, shares = principal_axes(
    vectors_NxD[split == fit_on], first + 1
  )
  points_Nx2 = (vectors_NxD - mean_D) @ axes_2xD[first - 1 :].T
  groups = [f'{a} {s}' for a, s in zip(attack, split, strict=True)]
  kept = thin_groups(groups, MOST)
  looks = _looks(names)

  def draw(axes):
    for a, s in itertools.product(names, splits):
      chosen = kept[(attack[kept] == a) & (split[kept] == s)]
      color, face = looks[a]
      axes.plot(
        *points_Nx2[chosen].T, _shape(splits, s), color=color, alpha=0.65,
        markersize=2.6 if s == fit_on else 3.6, markerfacecolor=face,
        markeredgewidth=0.7, zorder=2 if s == fit_on else 3,
      )  # fmt: skip
    at_Kx2 = [np.median(points_Nx2[attack == a], axis=0) for a in names]
    _labels(axes, list(map(_word, names)), np.array(at_Kx2))
    for axis, number in ((axes.xaxis, first), (axes.yaxis, first + 1)):
      axis.set_label_text(
        f'axis {number}, {percent(shares[number - 1], 0)} of the variance'
      )
    _legends(axes, names, looks, splits)

  return picture(
    f'embeddings-{name}',
    f'Map of {len(attack)} embeddings on the principal axes {first} and '
    f'{first + 1} of split {fit_on}, coloured by attack '
    f'({", ".join(map(_word, names))}), shaped by split ({", ".join(splits)})',
    draw,
    4.2,
    WIDTH + 0.8,
  )


def _labels(axes, words: list[str], at_Kx2: np.ndarray) -> None:
  """Names of the attacks in the middle of their points, not on each other."""
  low, high = np.array([axes.get_xlim(), axes.get_ylim()]).T
  places = _apart((at_Kx2 - low) / (high - low), [len(w) for w in words])
  for word, place in zip(words, places, strict=True):
    axes.text(
      *place, word, ha='center', va='center', fontsize=8, weight='bold',
      zorder=5, transform=axes.transAxes, bbox=dict(
        boxstyle='round,pad=0.12', facecolor=GRID, edgecolor='none', alpha=0.75,
      ),
    )  # fmt: skip


def _apart(at_Kx2: np.ndarray, letters: list[int]) -> np.ndarray:
  """Moves labels up and down until none covers another.

  Args:
    at_Kx2: where they would be, as fractions of the axes.
    letters: number of letters of each label.
  """
  at_Kx2, height = at_Kx2.copy(), 0.055
  wide_KxK = 0.011 * np.add.outer(letters, letters)
  rank_K = np.argsort(np.argsort(at_Kx2[:, 1], kind='stable'))
  above_KxK = np.sign(np.subtract.outer(rank_K, rank_K))
  for _ in range(200):
    off_KxKx2 = np.abs(at_Kx2[:, None] - at_Kx2[None])
    lacking_KxK = np.clip(height - off_KxKx2[..., 1], 0, None)
    lacking_KxK *= off_KxKx2[..., 0] < wide_KxK
    at_Kx2[:, 1] += np.sum(above_KxK * lacking_KxK, axis=1) / 4
    at_Kx2[:, 1] = np.clip(at_Kx2[:, 1], 0.03, 0.97)
  return at_Kx2


def _legends(axes, names, looks, splits) -> None:
  """Colours of the attacks beside the map, shapes of the splits above it."""
  handles = [
    Line2D(
      [], [], linestyle='', marker='o', markersize=5, color=looks[a][0],
      markerfacecolor=looks[a][1], label=_word(a),
    )
    for a in names
  ]  # fmt: skip
  axes.figure.legend(
    handles=handles, loc='outside right upper', fontsize=8, labelspacing=0.25,
    handletextpad=0.1, ncols=1 + (len(names) > 16), columnspacing=0.6,
  )  # fmt: skip
  handles = [
    Line2D(
      [], [], linestyle='', marker=_shape(splits, s), markersize=4.5,
      color=MUTED, label=s,
    )
    for s in splits
  ]  # fmt: skip
  axes.legend(
    handles=handles, loc='lower left', bbox_to_anchor=(-0.02, 1), fontsize=8,
    ncols=len(splits), handletextpad=0.1, borderpad=0, columnspacing=1,
  )  # fmt: skip


def _looks(names: list[str]) -> dict[str, tuple[str, str]]:
  """Colour and filling of each attack; of more than nine, some are hollow."""
  looks = {BONA_FIDE: (INK, INK), UNKNOWN: (MUTED, 'none')}
  attacks = [name for name in names if name not in looks]
  for number, name in enumerate(attacks):
    color = CLASSES[number % len(CLASSES)]
    hollow = number // len(CLASSES) % 2
    looks[name] = color, 'none' if hollow else color
  return looks


def _shape(splits: list[str], split: str) -> str:
  return SHAPES[splits.index(split) % len(SHAPES)]


def _word(attack: str) -> str:
  word = WORDS.get(attack, attack)
  return word if len(word) <= 14 else word[:13] + '…'


def _unit(x_NxD) -> np.ndarray:
  x_NxD = np.asarray(x_NxD, np.float64)
  return x_NxD / np.maximum(np.linalg.norm(x_NxD, axis=1), 1e-12)[:, None]
