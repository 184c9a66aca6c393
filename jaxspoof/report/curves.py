"""Numbers behind the pictures: DET curves on probit axes, histograms."""

import numpy as np
from scipy import special

from jaxspoof.metrics.eer import det_curve

STEPS = 400  # distinguishable places along an axis of a picture


def probit(rate):
  """Deviations of a normal distribution with this tail probability."""
  return special.ndtri(rate)


def det_points(scores, labels, low: float, high: float):
  """A DET curve inside a square of rates, thinned to what can be seen.

  Args:
    scores: float [N].
    labels: int [N].
    low: smallest rate shown, as a fraction.
    high: largest rate shown.

  Returns:
    (false_alarm, miss): probits of the corner points of the curve.
  """
  curve = det_curve(scores, labels)
  low, high = probit(low), probit(high)
  margin = (high - low) / 20  # the curve leaves the picture
  points = np.stack([probit(curve.false_alarm), probit(curve.miss)])
  points = np.clip(points, low - margin, high + margin)
  places = np.round((points - low) / (high - low) * STEPS)
  changed = np.any(np.diff(places, axis=1) != 0, axis=0)
  return points[:, np.append(True, changed)]


def rate_limits(rates: list[float], trials: int) -> tuple[float, float]:
  """Axis limits of a DET picture that hold the EERs and what is measurable.

  Args:
    rates: EERs to show, fractions.
    trials: of the smaller class of the largest split: no rate lies below its
      inverse.
  """
  low = min(0.01, max(0.5 / trials, 0.0005), *(0.5 * r for r in rates if r))
  return low, min(0.95, max(0.4, 2 * max(rates)))


def histograms(scores, labels):
  """Shares of each class per score bin.

  The outermost 0.1 % on each side fall into the first and the last bin, so
  that single far scores do not squeeze the picture. The fewer trials the
  smaller class has, the fewer bins.

  Returns:
    (edges [bins + 1], {label: share [bins]}).
  """
  bins = int(np.clip(2 * np.sqrt(min(np.bincount(labels))), 12, 60))
  low, high = np.quantile(scores, [0.001, 0.999])
  if low == high:
    low, high = low - 0.5, high + 0.5
  edges = np.linspace(low, high, bins + 1)
  shares = {}
  for label in (0, 1):
    inside = np.clip(scores[labels == label], low, high)
    shares[label] = np.histogram(inside, edges)[0] / len(inside)
  return edges, shares
