"""What a run learns: whether a clip is bona fide, or which attack made it.

A task gives each record its class and says, on dev, how good outputs are. The
last class is bona fide in both, so that both have a score.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from jaxspoof import classes as classes_lib
from jaxspoof.data import pipeline
from jaxspoof.losses import Loss
from jaxspoof.metrics import eer as eer_lib
from jaxspoof.metrics import open_set
from jaxspoof.runs import workdir as workdir_lib


@dataclasses.dataclass(frozen=True)
class Detection:
  """Bona fide or spoof.

  Attributes:
    criterion: in words, what is lowest on dev for the best weights.
    metric: name of this quantity in the log.
    classes: names of the classes that the outputs stand for.
  """

  criterion: ClassVar[str] = 'EER'
  metric: ClassVar[str] = 'eer'
  classes: ClassVar[tuple[str, ...]] = workdir_lib.DETECTION

  @classmethod
  def taught_by(cls, train_source) -> 'Detection':
    """The task; its classes are the same for every corpus."""
    del train_source
    return cls()

  def label(self, record: Mapping[str, Any]) -> int:
    """The class of a record: 0 spoof, 1 bona fide."""
    return pipeline.label_of(record)

  def check(self, trials: pipeline.Trials, name: str) -> None:
    """Raises ValueError for a dev split that defines no error to select by.

    Args:
      trials: the trials of the split.
      name: what messages call the split.

    Raises:
      ValueError: all trials are of one class.
    """
    for label, words in enumerate(('spoof', 'bona fide')):
      if not (trials.label == label).any():
        raise ValueError(
          f'{name} holds {len(trials):,} trials, none of them {words}: an EER '
          'needs both classes, bona fide and spoof'
        )

  def error(
    self, loss: Loss, outputs: np.ndarray, trials: pipeline.Trials
  ) -> float:
    """EER of a split, a fraction; lower is better."""
    scores = np.asarray(loss.score(outputs))
    return float(eer_lib.eer_of(scores, trials.label).eer)


@dataclasses.dataclass(frozen=True)
class SourceTracing:
  """Which attack of the train split made a clip, or none: bona fide.

  Attributes:
    known: the classes, which are the attacks of the train split and bona fide.
    criterion: in words, what is lowest on dev for the best weights.
    metric: name of this quantity in the log.
  """

  known: classes_lib.Classes
  criterion: ClassVar[str] = '1 - macro-F1'
  metric: ClassVar[str] = 'f1_error'

  @classmethod
  def taught_by(cls, train_source) -> 'SourceTracing':
    """The classes of a train split.

    Raises:
      ValueError: spoofs without the name of their attack, or one class only.
    """
    attacks = pipeline.trials(train_source).attack
    return cls(classes_lib.known(attacks, pipeline.name_of(train_source)))

  @property
  def classes(self) -> tuple[str, ...]:
    """Names of the attacks, then 'bonafide'."""
    return self.known.names

  def label(self, record: Mapping[str, Any]) -> int:
    """The class of a record."""
    return self.known.label(pipeline.text(record['attack']))

  def check(self, trials: pipeline.Trials, name: str) -> None:
    """Raises ValueError for a dev split that defines no error to select by.

    Args:
      trials: the trials of the split.
      name: what messages call the split.

    Raises:
      ValueError: all trials are bona fide or all are spoof, or none is of a
        class that the train split knows.
    """
    Detection().check(trials, name)
    labels = self.known.labels(trials.attack.tolist())
    if (labels == self.known.unknown).all():
      raise ValueError(
        f'no trial of {name} is of a class that train knows '
        f'({", ".join(self.classes)}): nothing to select the weights by'
      )

  def error(
    self, loss: Loss, outputs: np.ndarray, trials: pipeline.Trials
  ) -> float:
    """1 - macro-F1 over the trials of known classes; lower is better."""
    del loss
    labels = self.known.labels(trials.attack.tolist())
    known = labels != self.known.unknown
    answers = outputs[known].argmax(axis=1)
    found = open_set.figures(labels[known], answers, len(self.classes))
    return 1 - float(found.macro_f1)


TASKS = {'detection': Detection, 'source_tracing': SourceTracing}
