"""What a run learns: whether a clip is bona fide, or which attack made it.

A task gives each record its class and says, on dev, how good outputs are. The
last class is bona fide in both, so that both have a score.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxspoof.data import pipeline
from jaxspoof.losses import Loss
from jaxspoof.metrics import eer as eer_lib


@dataclasses.dataclass(frozen=True)
class Detection:
  """Bona fide or spoof; the best weights have the lowest EER on dev."""

  source: Any = None  # of records; the classes do not depend on it
  criterion = 'EER'
  metric = 'eer'
  classes = ('spoof', 'bonafide')

  def label(self, record: Mapping[str, Any]) -> int:
    """The class of a record: 0 spoof, 1 bona fide."""
    return pipeline.label_of(record)

  def error(
    self, loss: Loss, outputs: np.ndarray, trials: pipeline.Trials
  ) -> float:
    """EER of a split, a fraction; lower is better."""
    scores = np.asarray(loss.score(outputs))
    return float(eer_lib.eer_of(scores, trials.label).eer)


TASKS = {'detection': Detection}
