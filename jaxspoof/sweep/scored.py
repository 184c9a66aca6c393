"""Cells: one system on one test under one condition, scored once.

A cell is laid out like the folder of an evaluation, and holds what the job
`evaluate` would say of it.
"""

import dataclasses
import functools
import pathlib
from typing import Any

import jax
import numpy as np

from jaxspoof import checkpoints
from jaxspoof.data import pipeline
from jaxspoof.data.conditions import Condition, enhance
from jaxspoof.machine import files
from jaxspoof.metrics.det import equal_error
from jaxspoof.runs import cells, names, record
from jaxspoof.sweep.systems import Test, carried
from jaxspoof.training import scoring

FORMAT = 3  # a change to what scores follow from needs other cells


@dataclasses.dataclass(frozen=True)
class Cells:
  """A folder of cells.

  Attributes:
    folder: of all of them.
    seed: of the bootstrap.
    resamples: of it.
  """

  folder: pathlib.Path
  seed: int
  resamples: int

  def key(
    self, member, test: Test, condition: Condition
  ) -> dict[str, Any] | None:
    """All that a cell follows from; None where there are no scores.

    Args:
      member: what gives scores, see `sweep.systems`.
      test: the trials.
      condition: what is done to them.
    """
    own = member.key(test, condition)
    if own is None:
      return None
    return {
      'format': FORMAT,
      'system': own,
      'test': test.fingerprint,
      'condition': condition.name,
      'drawn': condition.seed,
      'sounds': _sounds(condition),
      'seed': self.seed,
      'resamples': self.resamples,
    }

  def path(
    self, member, test: Test, condition: Condition
  ) -> pathlib.Path | None:
    """Where a cell is, or will be; None where there are no scores."""
    key = self.key(member, test, condition)
    return key and self.folder / cells.name_of(key)

  def holds(self, name: str) -> bool:
    """Whether a cell is there, and whole."""
    return (self.folder / name / names.METRICS).is_file()

  def fill(self, system: str, member, test: Test, condition: Condition) -> None:
    """Scores a cell.

    Args:
      system: name of the system, for the person who watches.
      member: what gives scores; and the others, as for `key`.
    """
    first = jax.process_index() == 0
    name = names.under(test.split, condition.name)
    trials = test.trials  # a corpus without both classes is refused first
    scores = member.scores(test, condition)
    about = member.about()
    if not first:
      return
    with cells.writing(self.path(member, test, condition)) as whole:
      found = scoring.evaluate(
        scores,
        test.source,
        trials,
        data_dir=test.data_dir,
        selected_on=about['selected_on'],
        seed=self.seed,
        resamples=self.resamples,
        workdir=whole,
        name=name,
        # Nobody has verified the speakers of the changed recordings.
        asv=not condition.steps,
      )
      files.write_json(
        whole / names.METRICS,
        {
          'name': name,
          'condition': condition.name,
          'synthetic': list(condition.synthetic),
          **found,
          'further': {},
          'groups': by_group(scores, trials),
          'system': about,
          'used_before': checkpoints.used_before(
            member.path, test.corpus, [test.split]
          ),
          # For systems without a dev split of their own, where this is dev.
          'carries': carried(
            scores, trials.label, f'{test.name} of this benchmark'
          ),
          'follows_from': self.key(member, test, condition),
          'sha256': record.fingerprint(whole, [name], []),
        },
      )
    print(
      f'{system} on {test.name}, {condition.name}: EER {found["eer"]:.2%} of '
      f'{found["trials"]["total"]:,} trials',
      flush=True,
    )


def by_group(scores, trials: pipeline.Trials) -> dict[str, dict]:
  """EERs of trials that are alike: of one codec, one gender, one language.

  Args:
    scores: float [N], higher = more bona fide.
    trials: of them.

  Returns:
    For each of `trials.groups`, by value, `trials` and the `eer`, which is None
    where all are of one class.
  """
  found: dict[str, dict] = {}
  for column, values in trials.groups.items():
    found[column] = {}
    for name in np.unique(values).tolist():
      chosen = values == name
      label = trials.label[chosen]
      both = 0 < label.sum() < len(label)
      found[column][name] = {
        'eer': equal_error(scores[chosen], label).eer if both else None,
        'trials': len(label),
      }
  return found


@functools.cache
def _sounds(condition: Condition) -> list:
  """What a condition is made of besides: names and sizes of own recordings.

  Of a network that enhances, the SHA-256 of its weights.
  """
  paths = [pathlib.Path(f) for step in condition.steps for f in step.files]
  return [[path.name, path.stat().st_size] for path in paths] + [
    [step.kind, step.value.sha256]
    for step in condition.steps
    if isinstance(step.value, enhance.Network)
  ]
