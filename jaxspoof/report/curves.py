"""Numbers behind the pictures: DET curves on probit axes, histograms."""

import numpy as np
from scipy import special

from jaxspoof.metrics.det import det_curve

STEPS = 400  # distinguishable places along an axis of a picture


def probit(rate):
  """Quantile of the standard normal distribution at a rate in (0, 1)."""
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
    trials: number of trials of the smaller class in the largest split; the
      smallest rate that can be measured is 1 / trials.
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


def principal_axes(x_NxD, count: int) -> tuple[np.ndarray, ...]:
  """Directions of the largest variance (PCA), with a sign that is fixed.

  Args:
    x_NxD: float [N, D].
    count: number of directions wanted; at most D are found.

  Returns:
    (mean [D], axes [count, D], share of the variance along each [count]). The
    largest entry of an axis by size is positive.
  """
  x_NxD = np.asarray(x_NxD, np.float64)
  mean_D = x_NxD.mean(axis=0)
  _, sizes, axes = np.linalg.svd(x_NxD - mean_D, full_matrices=False)
  axes, shares = axes[:count], sizes**2 / max(np.sum(sizes**2), 1e-300)
  largest = np.argmax(np.abs(axes), axis=1)[:, None]
  return (
    mean_D,
    axes * np.sign(np.take_along_axis(axes, largest, axis=1)),
    shares[:count],
  )


def thin_groups(groups, most: int) -> np.ndarray:
  """Chooses about `most` of many points, some of every group.

  Args:
    groups: [N], the group of each point.
    most: about how many points are kept. Small groups stay whole; large ones
      are thinned.

  Returns:
    Indices of the chosen points, rising, spread evenly over each group.
  """
  _, groups = np.unique(np.asarray(groups), return_inverse=True)
  left, counts = most, np.bincount(groups)
  kept = []
  for done, group in enumerate(np.argsort(counts, kind='stable')):
    share = min(counts[group], max(1, left // (len(counts) - done)))
    members = np.flatnonzero(groups == group)
    kept.append(members[np.linspace(0, len(members) - 1, share).astype(int)])
    left -= share
  return np.sort(np.concatenate(kept))


def reliability(scores, labels):
  """Probabilities that scores state, and how often they come true.

  A score s, taken for a log-likelihood ratio, states that the trial is bona
  fide with probability 1 / (1 + exp(-s)) if both classes are equally likely
  beforehand; so both classes get the same total weight here. Trials are grouped
  by rising score; equal scores stay together.

  Args:
    scores: float [N].
    labels: int [N], both classes.

  Returns:
    (said, found), float64 [groups] each, by rising score: the mean probability
    that a group's scores state, and the share of its trials that are bona fide.
  """
  order = np.argsort(scores, kind='stable')
  scores, labels = np.asarray(scores)[order], np.asarray(labels)[order]
  weight = np.array([0.5, 0.5]) / np.bincount(labels, minlength=2)
  weight = weight[labels]
  groups = int(np.clip(np.sqrt(min(np.bincount(labels))), 2, 12))
  # The middle of all trials of one score decides on the group of all of them.
  _, first, inverse = np.unique(scores, return_index=True, return_inverse=True)
  before = np.append(0, np.cumsum(weight))
  middle = (before[first] + before[np.append(first[1:], len(scores))]) / 2
  group = np.minimum((middle * groups).astype(int), groups - 1)[inverse]
  total = np.bincount(group, weight, groups)
  said = np.bincount(group, weight * special.expit(scores), groups)
  found = np.bincount(group, weight * labels, groups)
  there = total > 0
  return said[there] / total[there], found[there] / total[there]
