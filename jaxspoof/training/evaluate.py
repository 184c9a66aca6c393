"""Outputs for a whole split: every trial once, on any number of hosts."""

import jax
import numpy as np

from jaxspoof.config import DataConfig
from jaxspoof.data import pipeline
from jaxspoof.training import sharding as sharding_lib


def outputs_of(
  eval_step,
  params,
  batch_stats,
  source,
  config: DataConfig,
  shortest: int | None,
  shardings: sharding_lib.Shardings,
) -> np.ndarray:
  """What the model says of the trials of `source`, in its order.

  Args:
    eval_step: from `steps.make_eval_step`.
    params: weights, replicated.
    batch_stats: BatchNorm statistics, replicated.
    source: records of one split.
    config: says how much of a clip is scored, and the batch.
    shortest: samples that padded clips have at least; None where all clips
      have one length.
    shardings: where batches go.

  Returns:
    float32 [trials, K]: the outputs that the loss takes.

  Raises:
    FloatingPointError: an output that is not finite; names the trial's index.
    RuntimeError: a trial was lost or scored twice.
  """
  found = None
  seen = np.zeros(len(source), np.int32)
  batches = pipeline.eval_batches(
    source,
    batch=config.eval_batch,
    samples=config.eval_samples,
    workers=config.workers,
    process=(jax.process_index(), jax.process_count()),
    bucket=None if shortest is None else config.bucket,
    shortest=shortest,
  )
  for batch in batches:
    batch = sharding_lib.put_batch(batch, shardings)
    index, mask, outputs = jax.device_get(eval_step(params, batch_stats, batch))
    if found is None:
      found = np.zeros((len(source), *outputs.shape[1:]), np.float32)
    found[index[mask]] = outputs[mask]
    np.add.at(seen, index[mask], 1)
  _audit(found, seen)
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
