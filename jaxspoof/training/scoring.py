"""Outputs, scores and metrics of a whole split, on any number of hosts.

Training's last part, the job `evaluate` and the cells of a benchmark all end
here, so that a figure means the same wherever it comes from.
"""

import functools
import pathlib
import time

import jax
import numpy as np

from jaxspoof.config import DataConfig
from jaxspoof.data import conditions, pipeline
from jaxspoof.metrics import summary
from jaxspoof.runs import workdir as workdir_lib
from jaxspoof.score_files import asv_scores
from jaxspoof.training import sharding as sharding_lib
from jaxspoof.training import state as state_lib
from jaxspoof.training import steps


def outputs_of(*arguments, **options) -> np.ndarray:
  """Outputs [trials, K] alone; arguments and errors are those of `answers`."""
  return answers(*arguments, **options)[0]


def answers(
  eval_step,
  params,
  batch_stats,
  source,
  config: DataConfig,
  shortest: int | None,
  shardings: sharding_lib.Shardings,
  condition: conditions.Condition | None = None,
  features=None,
  embeddings: bool = False,
) -> tuple[np.ndarray, np.ndarray | None]:
  """What the model says of all trials of `source`, in its order.

  Args:
    eval_step: from `steps.make_eval_step`, or that of a search.
    params: weights, replicated.
    batch_stats: BatchNorm statistics, replicated.
    source: records of one split.
    config: says how much of a clip is scored, and the batch.
    shortest: shorter padded clips are repeated to this many samples first; None
      if all clips are brought to one length.
    shardings: the devices that batches are divided over.
    condition: what is done to the clips first, such as noise; None for nothing.
    features: of these clips, computed before; see `training.features`.
    embeddings: whether embeddings are wanted, too.

  Returns:
    float32 [trials, K], the outputs that the loss takes; and float32
    [trials, E], the embeddings, or None.

  Raises:
    FloatingPointError: an output that is not finite; names the trial's index.
    RuntimeError: a trial was lost or scored twice.
  """
  found: list[np.ndarray] = []
  seen = np.zeros(len(source), np.int32)
  batches = pipeline.eval_batches(
    source,
    batch=config.eval_batch,
    samples=config.eval_samples,
    workers=config.workers,
    process=(jax.process_index(), jax.process_count()),
    bucket=None if shortest is None else config.bucket,
    shortest=shortest,
    condition=condition,
    features=features,
  )
  for batch in batches:
    batch = sharding_lib.put_batch(batch, shardings)
    index, mask, *values = eval_step(params, batch_stats, batch)
    values = values[: 1 + embeddings]  # what is not wanted stays where it is
    index, mask, values = jax.device_get((index, mask, values))
    if not found:
      found = [np.zeros((len(source), x.shape[1]), np.float32) for x in values]
    for array, value in zip(found, values, strict=True):
      array[index[mask]] = value[mask]
    np.add.at(seen, index[mask], 1)
  _audit(found[0], seen)
  return found[0], found[1] if embeddings else None


class Scorer:
  """Scores clips of any corpus, under any condition, with one checkpoint.

  One program is compiled for each length of clips that occurs: a batch that is
  not full is filled up, and conditions are applied before it is made. Of
  checkpoints that differ in their weights alone, one after the other, all share
  these programs.

  Args:
    module: the model.
    options: of it, as `checkpoints.open_checkpoint` returns them.
    shardings: the devices.
    batch: clips scored at once, over all devices and hosts.
    workers: processes that decode; 0 for threads of this one.

  Attributes:
    parameters: number of trained values.
  """

  def __init__(
    self,
    module,
    options,
    shardings: sharding_lib.Shardings,
    *,
    batch: int,
    workers: int = 0,
  ):
    graphdef, *weights = state_lib.split(module)
    self.parameters = state_lib.count_parameters(weights[0])
    self._weights = jax.device_put(
      jax.device_get(weights), shardings.replicated
    )
    self._program = _program(graphdef, shardings)
    self._before = self._program._cache_size()
    self._loss, self._shardings = options['loss'], shardings
    bucket = options.get('bucket')
    self._shortest = None if bucket is None else options['shortest']
    self._config = DataConfig(
      '',
      eval_samples=options['samples'],
      eval_batch=batch,
      workers=workers,
      bucket=bucket or DataConfig.bucket,
    )
    self._seconds, self._clips = 0.0, 0
    self._largest: tuple | None = None  # shapes of the largest batch

  @property
  def compiled(self) -> int:
    """Programs compiled for it, not counting those that were there before."""
    return self._program._cache_size() - self._before

  @property
  def ms_per_clip(self) -> float | None:
    """Time of the model for a clip of a full batch, compilation left out."""
    return 1000 * self._seconds / self._clips if self._clips else None

  @functools.cached_property
  def _memory(self) -> int | None:
    found = self._program.lower(*self._largest).compile().memory_analysis()
    if found is None:  # XLA does not say it for all devices
      return None
    return (
      found.argument_size_in_bytes
      + found.output_size_in_bytes
      + found.temp_size_in_bytes
      - found.alias_size_in_bytes
    )

  @property
  def memory(self) -> int | None:
    """Bytes of a device that the program of the longest clips needs at most.

    Weights, a batch, and all that is computed on the way; None before anything
    was scored.
    """
    return None if self._largest is None else self._memory

  def __call__(
    self,
    source: pipeline.Source,
    condition: conditions.Condition | None = None,
  ) -> np.ndarray:
    """Scores of all trials of a source, float [N], higher = more bona fide.

    Raises:
      FloatingPointError, RuntimeError: as `answers`.
    """
    self._seconds, self._clips = 0.0, 0
    outputs = outputs_of(
      self._timed,
      *self._weights,
      source,
      config=self._config,
      shortest=self._shortest,
      shardings=self._shardings,
      condition=condition,
    )
    return np.asarray(self._loss.score(outputs))

  def _timed(self, *arguments):
    shapes = jax.tree.map(_shape, arguments)
    if self._largest is None or _elements(shapes) > _elements(self._largest):
      self._largest = shapes
      vars(self).pop('_memory', None)
    before, started = self.compiled, time.perf_counter()
    found = jax.block_until_ready(self._program(*arguments))
    if self.compiled == before:
      self._seconds += time.perf_counter() - started
      self._clips += self._config.eval_batch
    return found


def _shape(array: jax.Array) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=array.sharding)


def _elements(shapes) -> int:
  return sum(one.size for one in jax.tree.leaves(shapes))


@functools.lru_cache(1)
def _program(graphdef, shardings: sharding_lib.Shardings):
  """The step of an evaluation, again the same for the same kind of model."""
  return steps.make_eval_step(graphdef, shardings)


def evaluate(
  scores: np.ndarray,
  source: pipeline.Source,
  trials: pipeline.Trials,
  *,
  data_dir: str | None,
  selected_on: str,
  seed: int,
  resamples: int,
  workdir: pathlib.Path | None,
  name: str | None = None,
  asv: bool = True,
) -> dict:
  """Summarises the scores of a split and writes them down.

  Args:
    scores: float [trials], higher = more bona fide, in the order of the source.
    source: records of one split.
    trials: what is known of each of them.
    data_dir: where built corpora lie; None for the TFDS default.
    selected_on: what the weights were selected by, in words.
    seed: seed of the random draws of the bootstrap.
    resamples: number of bootstrap resamples.
    workdir: folder that gets the score file, the protocol and the
      verification scores; None on the hosts that write nothing.
    name: name of these files without suffix; that of the split by default.
    asv: whether verification scores that came with the corpus belong to the
      audio as it was scored. If not, for example with added noise, there is no
      t-DCF.

  Returns:
    Their summary, as `summary.summarise` makes it.
  """
  asv_file = (
    pipeline.asv_scores(source.name, source.split, data_dir) if asv else None
  )
  found = summary.summarise(
    trials.utterance,
    trials.attack,
    trials.label,
    scores,
    split=source.split,
    selected_on=selected_on,
    corpus=source.name,
    speaker=trials.speaker,
    asv=asv_scores.read(asv_file) if asv_file else None,
    seed=seed,
    resamples=resamples,
  )
  if workdir is not None:
    name = name or source.split
    workdir_lib.keep_scores(workdir, name, trials, scores, asv_file)
  return found


def _audit(outputs: np.ndarray, seen: np.ndarray) -> None:
  if wrong := np.flatnonzero(seen != 1).tolist():
    raise RuntimeError(
      f'{len(wrong)} trials were not scored exactly once, first {wrong[:10]}'
    )
  finite = np.isfinite(outputs).all(axis=1)
  if bad := np.flatnonzero(~finite).tolist():
    raise FloatingPointError(
      f'{len(bad)} outputs are not finite, first trials {bad[:10]}'
    )
