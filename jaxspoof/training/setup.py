"""What jobs do before the first step, and between steps: searches too.

The corpus and its splits, of which those for evaluation stay shut; what the
model needs of a clip; the stream of batches; a loss that is not finite.
"""

import dataclasses
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxspoof import audio, models
from jaxspoof.config import (
  DataConfig,
  RunConfig,
  modern,
  shared_splits,
  split_names,
)
from jaxspoof.data import augment, pipeline
from jaxspoof.runs import splits as splits_lib
from jaxspoof.runs import workdir as workdir_lib
from jaxspoof.training import checkpoint as checkpoint_lib
from jaxspoof.training import sharding as sharding_lib


def claim(
  workdir: pathlib.Path, values: dict[str, Any], writes: bool = True
) -> None:
  """Claims the workdir for a run of this config, on all hosts.

  Args:
    workdir: folder of the run.
    values: the config.
    writes: False only checks that a run which has ended is of this config;
      other processes may do so at once.

  Raises:
    ValueError: see `runs.workdir.claim`.
  """
  first = writes and jax.process_index() == 0
  workdir_lib.claim(
    workdir, values, first, lambda config: models.settled(modern(config))
  )
  sharding_lib.barrier('config')


def prepare_corpus(data) -> None:
  """Builds the corpus where the config says so and it is missing.

  Args:
    data: the section `data` of a job: `build`, `name` and `data_dir`.
  """
  if data.build and jax.process_index() == 0:
    from tfds_builders import build

    for corpus in splits_lib.corpora(data.name):
      build.build(corpus, data_dir=data.data_dir)
  sharding_lib.barrier('corpus')


@dataclasses.dataclass(frozen=True)
class Splits:
  """The corpora of a run; their eval splits open after the selection alone.

  Attributes:
    data: says the corpora and the role of each split.
    selected_on: how the weights were selected; None before that.
  """

  data: DataConfig
  selected_on: str | None = None

  def open(self, split: str) -> pipeline.Source:
    """Records of one split of the one corpus.

    Raises:
      PermissionError: a split that results are reported on, before the
        weights are selected.
      ValueError: there are several corpora.
    """
    return self.open_part(splits_lib.Part(self.data.name, split, split))

  def open_each(self, splits: str) -> dict[str, pipeline.Source]:
    """Records of a role's split of each corpus, by name: see `runs.splits`.

    Raises:
      PermissionError: as `open`.
    """
    parts = splits_lib.parts(self.data.name, splits)
    return {part.name: self.open_part(part) for part in parts}

  def open_part(self, part: splits_lib.Part) -> pipeline.Source:
    """Records of one split of one corpus; raises as `open`."""
    closed = any(
      part.corpus == other.corpus and shared_splits(part.split, other.split)
      for split in self.data.eval
      for other in splits_lib.parts(self.data.name, split)
    )
    if self.selected_on is None and closed:
      raise PermissionError(
        f'split {part.split!r} is for evaluation (data.eval={self.data.eval}): '
        'nothing may read it before the weights are selected'
      )
    return pipeline.open_source(part.corpus, part.split, self.data.data_dir)

  def train(self) -> pipeline.Source | pipeline.Mixture:
    """Records that are trained on, of all corpora."""
    sources = tuple(self.open_each(self.data.train).values())
    if len(sources) == 1:
      return sources[0]
    return pipeline.Mixture(sources, self.data.weights)


def selecting_error(errors: Mapping[str, float], data: DataConfig) -> float:
  """One error of those on the dev splits: their mean, or the worst."""
  values = list(errors.values())
  return max(values) if data.select == 'worst' else sum(values) / len(values)


def selected_by(criterion: str, data: DataConfig) -> str:
  """What weights are selected by, in words.

  Args:
    criterion: what is lowest on a dev split for the best weights.
    data: says the corpora and their dev splits.
  """
  parts = splits_lib.parts(data.name, data.dev)
  if len(parts) == 1:
    return f'{criterion} on split {data.dev!r}'
  on = ' and '.join(f'{part.split!r} of {part.corpus}' for part in parts)
  which = 'highest' if data.select == 'worst' else 'mean'
  return f'{which} {criterion} of those on {on}'


def selection(criterion: str, data: DataConfig, step: int, error: float) -> str:
  """How the weights of a run were selected, in words.

  Args:
    criterion: as for `selected_by`.
    data: likewise.
    step: whose weights were taken.
    error: of them on dev.
  """
  by = selected_by(criterion, data)
  if data.select == 'last':
    return f'nothing, the last was taken: step {step}; {by}: {error:.4%}'
  return f'lowest {by}: {error:.4%}, the latest of equals: step {step}'


def check_eval_splits(data: DataConfig) -> None:
  """Refuses, before the training, to report on splits that are not there."""
  for splits in data.eval:
    for part in splits_lib.parts(data.name, splits):
      known = pipeline.splits_of(part.corpus, data.data_dir)
      if missing := sorted(split_names(part.split) - {*known, 'all'}):
        raise ValueError(
          f'data.eval names {part.split!r}: corpus {part.corpus!r} has no '
          f'split {", ".join(missing)}; it has {", ".join(known)}'
        )


def shortest_clip(config: RunConfig) -> int | None:
  """Samples that padded clips are repeated to; None where all have one length.

  Raises:
    ValueError: a model that cannot be, or one that takes no padded clips or is
      not given enough.
  """
  # Head and classes, which are not known yet, change nothing here.
  system = models.system(config.model, config.frontend)
  if system.frontend.sample_rate != audio.SAMPLE_RATE:
    raise ValueError(
      f'front end of {system.frontend.sample_rate} Hz: corpora are read at '
      f'{audio.SAMPLE_RATE}'
    )
  least, data = system.min_samples, config.data
  for name in ('samples', 'eval_samples'):
    if (value := getattr(data, name)) < least:
      raise ValueError(
        f'data.{name}={value}: model {config.model["name"]!r} needs at least '
        f'{least} samples'
      )
  if not data.padded:
    return None
  if not system.kind.variable_length:
    raise ValueError(
      f'data.padded is set, but model {config.model["name"]!r} takes clips of '
      'one length: it would hear the zeros'
    )
  return least


def train_batches(
  config: RunConfig, source, task, shortest, seed: int, features=None
):
  """This host's endless stream of training batches."""
  return pipeline.train_batches(
    source,
    batch=config.data.batch,
    samples=config.data.samples,
    seed=seed,
    workers=config.data.workers,
    balanced=config.data.balanced,
    transforms=augment.transforms(config.data),
    shortest=shortest,
    label=task.label,
    process=(jax.process_index(), jax.process_count()),
    features=features,
  )


def check_finite(
  pending,
  checkpoints: checkpoint_lib.Checkpoints,
  advice: str = 'A lower optim.learning_rate or optim.clip_norm=1 helps',
) -> None:
  """Stops the run where a step's loss or gradient is not finite."""
  if pending is None:
    return
  step, metrics = pending
  values = jax.device_get(metrics)
  bad = [n for n in sorted(values) if not np.isfinite(values[n])]
  if bad:
    checkpoints.wait()
    raise FloatingPointError(
      f'{" and ".join(bad)} of step {step} not finite; the last good '
      f'checkpoint, of step {checkpoints.latest()}, is kept in '
      f'{checkpoints.directory}. {advice}'
    )
