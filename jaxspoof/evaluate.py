"""Scores of a whole split, every trial exactly once, on any number of hosts."""

import jax
import numpy as np

from jaxspoof import sharding as sharding_lib
from jaxspoof.config import DataConfig
from jaxspoof.data import pipeline


def score_split(
  eval_step,
  params,
  batch_stats,
  source,
  config: DataConfig,
  shardings: sharding_lib.Shardings,
) -> np.ndarray:
  """Scores the trials of `source` in its order.

  Args:
    eval_step: from `steps.make_eval_step`.
    params: weights, replicated.
    batch_stats: BatchNorm statistics, replicated.
    source: records of one split.
    config: says how many samples of a clip are scored, and the batch.
    shardings: where batches go.

  Returns:
    float32 [trials], higher = bona fide.

  Raises:
    FloatingPointError: a score that is not finite; names the trial's index.
    RuntimeError: a trial was lost or scored twice.
  """
  scores = np.zeros(len(source), np.float32)
  seen = np.zeros(len(source), np.int32)
  batches = pipeline.eval_batches(
    source,
    batch=config.eval_batch,
    samples=config.eval_samples,
    workers=config.workers,
    process=(jax.process_index(), jax.process_count()),
  )
  for batch in batches:
    batch = {name: batch[name] for name in ('wave', 'index', 'mask')}
    batch = sharding_lib.put_batch(batch, shardings)
    index, mask, score = jax.device_get(eval_step(params, batch_stats, batch))
    scores[index[mask]] = score[mask]
    np.add.at(seen, index[mask], 1)
  _audit(scores, seen)
  return scores


def _audit(scores: np.ndarray, seen: np.ndarray) -> None:
  if wrong := np.flatnonzero(seen != 1).tolist():
    raise RuntimeError(
      f'{len(wrong)} trials were not scored exactly once, first {wrong[:10]}'
    )
  if bad := np.flatnonzero(~np.isfinite(scores)).tolist():
    raise FloatingPointError(
      f'{len(bad)} scores are not finite, first trials {bad[:10]}'
    )
