"""How well attacks are named, from embedded clips: what the job reports."""

import dataclasses
import math
from collections.abc import Mapping

import numpy as np

from jaxspoof import classes as classes_lib
from jaxspoof.embeddings import Embeddings
from jaxspoof.metrics import open_set

METHODS = ('score', 'neighbours')


@dataclasses.dataclass(frozen=True)
class SourceTracingConfig:
  """How answers become `unknown`; see `metrics.open_set`.

  Attributes:
    neighbours: the cosine to which of the nearest training clips counts.
    quantile: share of the dev trials that are refused, where dev has no
      unknown attacks.
    same: attacks that are the system of another one, by name: the answer that
      is right for them is that one's.
  """

  neighbours: int = open_set.NEIGHBOURS
  quantile: float = open_set.QUANTILE
  same: Mapping[str, str] = dataclasses.field(default_factory=dict)

  def __post_init__(self):
    if self.neighbours < 1:
      raise ValueError(
        f'source_tracing.neighbours={self.neighbours}: expected at least 1'
      )
    if not 0 <= self.quantile < 1:
      raise ValueError(
        f'source_tracing.quantile={self.quantile}: expected a share, 0 to '
        'below 1'
      )


def trace(
  classes: classes_lib.Classes,
  found: Embeddings,
  *,
  train_split: str,
  dev_split: str,
  how: SourceTracingConfig,
) -> dict:
  """Closed-set and open-set figures of all splits but train.

  Args:
    classes: the known classes, in the order of the outputs.
    found: embedded clips of all splits.
    train_split: neighbours are looked for there.
    dev_split: thresholds are chosen there.
    how: number of neighbours, quantile, systems with two names.

  Returns:
    What JSON can hold: `classes` (names; the last one is unknown), `train`,
    `dev`, `neighbours`, `quantile`, `same`, and by split `splits`: `trials`
    (`known`, `unknown`), `closed_set` (of known trials; None below two
    classes), `open_set` by method. Of each: `accuracy`, `macro_f1`,
    `per_class`, `by_attack` (answers to each attack), `majority` (always
    naming the commonest class of train); of open sets also `auroc` (None
    without unknown trials), `threshold`, `chosen_by`, `known_refused` and
    `unknown_found`
    (shares).
  """

  def labels_of(part: Embeddings) -> np.ndarray:
    attacks = part.attack.tolist()
    return classes.labels([how.same.get(name, name) for name in attacks])

  train_part = found.of(train_split)
  train_labels = labels_of(train_part)
  kept = train_labels != classes.unknown
  neighbours = train_part.embedding[kept]

  def scores_of(part: Embeddings) -> dict[str, np.ndarray]:
    near = open_set.nearest(neighbours, part.embedding, how.neighbours)
    return {'score': part.outputs.max(axis=1), 'neighbours': near}

  dev = found.of(dev_split)
  dev_scores = scores_of(dev)
  thresholds = {
    method: open_set.choose_threshold(
      dev_scores[method],
      labels_of(dev),
      dev.outputs.argmax(axis=1),
      classes.unknown,
      how.quantile,
    )
    for method in METHODS
  }
  splits = {}
  for split in dict.fromkeys(found.split.tolist()):
    if split != train_split:
      part = found.of(split)
      splits[split] = _of_split(
        classes,
        part,
        labels_of(part),
        train_labels[kept],
        scores_of(part),
        thresholds,
      )
  return {
    'classes': [*classes.names, classes_lib.UNKNOWN],
    'train': train_split,
    'dev': dev_split,
    **dataclasses.asdict(how),
    'splits': splits,
  }


def _of_split(
  classes, part: Embeddings, truth, train_labels, scores, thresholds
):
  """The entry of `splits`; see `recognise`."""
  answers = part.outputs.argmax(axis=1)
  known = truth != classes.unknown
  names = [*classes.names, classes_lib.UNKNOWN]
  closed = None
  if len(set(truth[known].tolist())) > 1:
    closed = _figures(
      names[:-1], part.attack[known], truth[known], answers[known], train_labels
    )
  return {
    'trials': {'known': int(known.sum()), 'unknown': int(np.sum(~known))},
    'closed_set': closed,
    'open_set': {
      method: _open_set(
        names, part.attack, truth, answers, train_labels, scores[method], chosen
      )
      for method, chosen in thresholds.items()
    },
  }


def _open_set(names, attack, truth, answers, train_labels, scores, chosen):
  """Figures of all trials, known and unknown, if answers may be `unknown`."""
  unknown = len(names) - 1
  decided = open_set.decide(answers, scores, chosen.value, unknown)
  refused, known = decided == unknown, truth != unknown
  return {
    'auroc': open_set.auroc(scores, truth, unknown),
    'threshold': chosen.value if math.isfinite(chosen.value) else None,
    'chosen_by': chosen.chosen_by,
    'known_refused': _share(refused[known]),
    'unknown_found': _share(refused[~known]),
    **_figures(names, attack, truth, decided, train_labels),
  }


def _share(flags: np.ndarray) -> float | None:
  return float(flags.mean()) if flags.size else None


def _figures(names, attack, truth, answers, train_labels) -> dict:
  """Figures as JSON can hold them."""
  found = open_set.figures(truth, answers, len(names))
  most = open_set.majority(truth, train_labels, len(names))
  rows = zip(
    names, found.trials, found.precision, found.recall, found.f1, strict=True
  )
  return {
    'accuracy': found.accuracy,
    'macro_f1': found.macro_f1,
    'majority': {'accuracy': most.accuracy, 'macro_f1': most.macro_f1},
    'per_class': {
      name: {
        'trials': int(trials),
        'precision': float(precision),
        'recall': float(recall),
        'f1': float(f1),
      }
      for name, trials, precision, recall, f1 in rows
    },
    'by_attack': {
      name: np.bincount(answers[attack == name], minlength=len(names)).tolist()
      for name in sorted(set(attack.tolist()), key=_bona_fide_last)
    },
  }


def _bona_fide_last(attack: str) -> tuple[bool, str]:
  return attack == classes_lib.BONA_FIDE, attack


def table(result: dict) -> str:
  """The figures of `recognise` by split, as text."""
  lines = [
    f'{"split":<12} {"known":>6} {"unknown":>7}  {"macro-F1":>8} '
    f'{"majority":>8} {"accuracy":>8}   open set: macro-F1 (AUROC)'
  ]
  for split, found in result['splits'].items():
    closed = found['closed_set']
    cells = ['-'] * 3
    if closed is not None:
      numbers = (
        closed['macro_f1'], closed['majority']['macro_f1'], closed['accuracy']
      )  # fmt: skip
      cells = [f'{value:.4f}' for value in numbers]
    opened = ', '.join(
      f'{method} {values["macro_f1"]:.4f}'
      + ('' if values['auroc'] is None else f' ({values["auroc"]:.4f})')
      for method, values in found['open_set'].items()
    )
    known, unknown = found['trials'].values()
    lines.append(
      f'{split:<12} {known:>6} {unknown:>7}  {cells[0]:>8} {cells[1]:>8} '
      f'{cells[2]:>8}   {opened}'
    )
  return '\n'.join(lines)
