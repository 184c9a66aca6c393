"""What jobs do before the first step, and between steps: searches too.

The corpus and its splits, of which those for evaluation stay shut; what the
model needs of a clip; the stream of batches; a loss that is not finite.
"""

import dataclasses
import pathlib
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
from jaxspoof.runs import workdir as workdir_lib
from jaxspoof.training import checkpoint as checkpoint_lib
from jaxspoof.training import sharding as sharding_lib


def claim(workdir: pathlib.Path, values: dict[str, Any]) -> None:
  """Claims the workdir for a run of this config, on all hosts.

  Raises:
    ValueError: see `runs.workdir.claim`.
  """
  first = jax.process_index() == 0
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

    build.build(data.name, data_dir=data.data_dir)
  sharding_lib.barrier('corpus')


@dataclasses.dataclass(frozen=True)
class Splits:
  """The corpus of a run; its eval splits open after the selection alone.

  Attributes:
    data: says the corpus and the role of each split.
    selected_on: how the weights were selected; None before that.
  """

  data: DataConfig
  selected_on: str | None = None

  def open(self, split: str):
    """Records of one split.

    Raises:
      PermissionError: a split that results are reported on, before the
        weights are selected.
    """
    closed = any(shared_splits(split, name) for name in self.data.eval)
    if self.selected_on is None and closed:
      raise PermissionError(
        f'split {split!r} is for evaluation (data.eval={self.data.eval}): '
        'nothing may read it before the weights are selected'
      )
    return pipeline.open_source(self.data.name, split, self.data.data_dir)


def check_eval_splits(data: DataConfig) -> None:
  """Refuses, before the training, to report on splits that are not there."""
  known = pipeline.splits_of(data.name, data.data_dir)
  for split in data.eval:
    if missing := sorted(split_names(split) - {*known, 'all'}):
      raise ValueError(
        f'data.eval names {split!r}: corpus {data.name!r} has no split '
        f'{", ".join(missing)}; it has {", ".join(known)}'
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


def train_batches(config: RunConfig, source, task, shortest, seed: int):
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
