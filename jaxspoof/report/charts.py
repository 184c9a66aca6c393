"""The pictures of the report."""

import itertools

import numpy as np

from jaxspoof.report import curves
from jaxspoof.report.curves import det_points, histograms, probit, rate_limits
from jaxspoof.report.drawing import (
  BONAFIDE,
  GRID,
  INK,
  MUTED,
  SERIES,
  SPOOF,
  picture,
)
from jaxspoof.report.markup import Html, percent

GAP = 2 * '\N{NO-BREAK SPACE}'
LONGEST = 40  # characters of a name in a picture
FEW = 60  # points of a curve that need no running median
RATES = (
  0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7,
  0.8, 0.9,
)  # fmt: skip


def det(runs: dict[str, tuple]) -> Html:
  """Miss against false-alarm rates on probit axes, EER points marked.

  Args:
    runs: by split (`Scores`, EER as a fraction).
  """
  trials = max(min(np.bincount(t.label)) for t, _ in runs.values())
  low, high = rate_limits([rate for _, rate in runs.values()], trials)
  ticks = [rate for rate in RATES if low <= rate <= high]

  def draw(axes):
    axes.plot(*[probit([low, high])] * 2, color=GRID, linewidth=0.9)
    named = zip(itertools.cycle(SERIES), runs.items(), strict=False)
    for color, (name, (trials, rate)) in named:
      label = f'{brief(name)}: EER {percent(rate)}'
      points = det_points(trials.scores, trials.label, low, high)
      axes.plot(*points, color=color, label=label)
      at = probit(np.clip(rate, low, high))
      axes.plot([at], [at], 'o', color=color, markersize=5)
    for axis in (axes.xaxis, axes.yaxis):
      axis.set_ticks(probit(ticks), [f'{100 * r:g}' for r in ticks])
    axes.set(
      xlim=probit([low, high]),
      ylim=probit([low, high]),
      aspect='equal',
      xlabel='false alarms: spoof accepted, %',
      ylabel='misses: bona fide rejected, %',
    )
    axes.legend(loc='lower left', bbox_to_anchor=(-0.02, 1), borderpad=0)

  said = '; '.join(f'{n} {percent(rate)}' for n, (_, rate) in runs.items())
  return picture(
    'det', f'Detection error trade-off. Equal error rates: {said}', draw, 4.6
  )


def brief(name: str) -> str:
  """A name that fits into a picture: the end of a long one, such as a path."""
  return name if len(name) <= LONGEST else f'…{name[1 - LONGEST :]}'


def histogram(name: str, scores, labels, threshold: float) -> Html:
  """Scores of both classes, and the threshold of the EER."""
  edges, shares = histograms(scores, labels)

  def draw(axes):
    for label, color, words in (
      (0, SPOOF, 'spoof'),
      (1, BONAFIDE, 'bona fide'),
    ):
      share = 100 * shares[label]
      axes.stairs(share, edges, fill=True, color=color, alpha=0.3)
      axes.stairs(share, edges, color=color, linewidth=1.4, label=words)
    axes.axvline(
      threshold, color=INK, linewidth=1, linestyle='--',
      label=f'threshold {threshold:.4g}',
    )  # fmt: skip
    axes.set(
      xlabel='score (higher = more bona fide)',
      ylabel='share of the class, %',
      xlim=(edges[0], edges[-1]),
    )
    axes.set_ylim(bottom=0)
    axes.legend(loc='best')

  return picture(
    f'histogram-{name}',
    f'Scores of bona fide and spoof trials of split {name}; the threshold of '
    f'the EER is {threshold:.4g}',
    draw,
    3.1,
  )


def reliability(name: str, scores: dict, labels) -> Html:
  """Share of bona fide trials against what their scores say, in groups.

  Args:
    name: of the split.
    scores: by what they are called, float [N] each.
    labels: int [N].
  """
  lines = {
    words: curves.reliability(values, labels)
    for words, values in scores.items()
  }

  def draw(axes):
    axes.plot([0, 100], [0, 100], color=GRID, linewidth=0.9)
    named = zip(SERIES, lines.items(), strict=False)
    for color, (words, (said, found)) in named:
      axes.plot(
        100 * said, 100 * found, 'o-', color=color, markersize=4, label=words
      )
    if len(lines) > 1:
      axes.legend(loc='lower left', bbox_to_anchor=(-0.02, 1), borderpad=0)
    axes.set(
      xlim=(-2, 102),
      ylim=(-2, 102),
      aspect='equal',
      xlabel='bona fide by the scores, %',
      ylabel='bona fide in truth, %',
    )

  points = '; '.join(
    f'{words}: '
    + ', '.join(
      f'{percent(a, 0)} said {percent(b, 0)} found'
      for a, b in zip(said, found, strict=True)
    )
    for words, (said, found) in lines.items()
  )
  return picture(
    f'reliability-{name}', f'Reliability of split {name}: {points}', draw, 3.4
  )


def attacks(summary: dict) -> Html:
  """EER of each attack with its interval and number of trials."""
  rows = summary['per_attack']
  names = list(rows)
  rates = np.array([rows[name]['eer'] for name in names])
  ends = np.array([rows[name]['interval'] for name in names])
  whiskers = np.abs(ends.T - rates)
  height = np.arange(len(names))

  def draw(axes):
    axes.barh(height, 100 * rates, 0.62, color=SPOOF, alpha=0.55)
    axes.errorbar(
      100 * rates, height, xerr=100 * whiskers, fmt='none', ecolor=INK,
      elinewidth=1, capsize=2.5,
    )  # fmt: skip
    axes.axvline(100 * summary['eer'], color=MUTED, linewidth=1, linestyle='--')
    for at, name in zip(height, names, strict=True):
      row = rows[name]
      axes.text(
        1.02, at, f'{percent(row["eer"])}{GAP}n = {row["trials"]:,}',
        va='center', transform=axes.get_yaxis_transform(),
      )  # fmt: skip
    axes.set_yticks(height, [_shortened(name) for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 105 * max(*ends[:, 1], *rates, summary['eer'], 1e-4))
    axes.set_xlabel('EER, %')
    axes.grid(axis='y', visible=False)
    axes.tick_params(axis='y', length=0, labelcolor=INK)

  said = ', '.join(f'{name} {percent(rows[name]["eer"])}' for name in names)
  return picture(
    f'attacks-{summary["split"]}',
    f'EER per attack of split {summary["split"]}: {said}',
    draw,
    0.55 + 0.29 * len(names),
  )


def training(title: str, steps, values, *, marks=False, scale=1.0) -> Html:
  """One quantity over the steps of the training.

  Args:
    title: what the quantity is, with its unit.
    steps: steps at which it was measured, int [K].
    values: float [K], finite.
    marks: if True each point gets a dot, and the lowest one (the latest of
      equal ones) a ring.
    scale: factor on the values.
  """
  steps, values = np.asarray(steps), scale * np.asarray(values, float)
  top = np.max(np.abs(values))
  if 0 < top < 0.01:
    power = int(np.floor(np.log10(top)))
    values, title = values / 10.0**power, f'{title}, 1e{power}'

  def draw(axes):
    noisy = not marks and len(values) > FEW
    axes.plot(
      steps, values, color=SERIES[0], alpha=0.35 if noisy else 1,
      linewidth=1 if noisy else 1.6, marker='o' if marks else None,
      markersize=3,
    )  # fmt: skip
    if noisy:
      axes.plot(*_running_median(steps, values), color=SERIES[0])
    if marks:
      best = len(values) - 1 - int(np.argmin(values[::-1]))
      axes.plot(
        steps[best], values[best], 'o', color=SERIES[1], markersize=9,
        markerfacecolor='none', markeredgewidth=1.6,
      )  # fmt: skip
    axes.set_title(title)
    axes.set_xlabel('step')
    axes.set_ylim(bottom=min(0, np.min(values)))

  return picture(
    f'training-{title}',
    f'{title} over {len(steps)} points up to step {steps[-1]}: first '
    f'{values[0]:.4g}, last {values[-1]:.4g}, lowest {np.min(values):.4g}',
    draw,
    height=2.1,
    width=3.5,
  )


def _running_median(steps, values, most: int = 7, least: int = 3):
  """Median of up to `most` neighbours on each side, at least `least`."""
  medians = []
  for n in range(least, len(values) - least):
    half = min(most, n, len(values) - 1 - n)
    medians.append(np.median(values[n - half : n + half + 1]))
  return steps[least : len(values) - least], medians


def _shortened(name: str, most: int = 22) -> str:
  return name if len(name) <= most else name[: most - 1] + '…'
