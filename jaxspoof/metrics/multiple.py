"""Many comparisons at once: by chance alone some would seem significant."""

from collections.abc import Sequence

import numpy as np
from scipy import special


def sign_p(values_R, *, clusters: int | None) -> float:
  """Two-sided p-value of a difference, from its bootstrap resamples.

  Twice the share of resamples on the rarer side of zero, where one more is
  counted on either, so that R resamples never prove more than 2 / (R + 1)
  (Davison & Hinkley, "Bootstrap Methods and their Application", 1997, 4.2.5).
  For few clusters it is raised so that p is below 0.05 where the interval at
  95 % of `clustered.interval` does not hold 0.

  Args:
    values_R: float, the difference in each resample.
    clusters: from `clustered.clusters_of`; None leaves the share as it is.

  Returns:
    A number in (0, 1].
  """
  values_R = np.asarray(values_R)
  rarer = min(np.sum(values_R <= 0), np.sum(values_R >= 0))
  p = min(1.0, 2 * (1 + rarer) / (1 + len(values_R)))
  if clusters is not None:
    reach = special.ndtri(p / 2) * np.sqrt((clusters - 1) / clusters)
    p = 2 * special.stdtr(clusters - 1, reach)
  return float(p)


def holm(p: Sequence[float]) -> list[float]:
  """p-values corrected for their number (Holm, 1979).

  >>> holm([0.01, 0.04, 0.03])
  [0.03, 0.06, 0.06]

  Args:
    p: of all comparisons that are made.

  Returns:
    In the same order: below 0.05, say, are those that one may call significant
    with a risk of 5 % that any of them is not.
  """
  found, highest = [0.0] * len(p), 0.0
  for rank, number in enumerate(np.argsort(p, kind='stable').tolist()):
    highest = max(highest, min(1.0, (len(p) - rank) * p[number]))
    found[number] = highest
  return found
