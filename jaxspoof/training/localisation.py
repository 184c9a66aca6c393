"""What a job needs that learns where clips are spoofed.

The loss of moments, what a model says of all moments of a split, and its
figures. A moment is `audio.MOMENT` samples, 20 ms.

Letters in names: B batch, N moments, K outputs.
"""

import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxspoof.audio import MOMENT, SAMPLE_RATE
from jaxspoof.config import DataConfig
from jaxspoof.data import pipeline, segments
from jaxspoof.losses import Loss
from jaxspoof.metrics import localisation
from jaxspoof.metrics.localisation import Located
from jaxspoof.runs import names
from jaxspoof.score_files import moments as files
from jaxspoof.training import sharding as sharding_lib
from jaxspoof.training import state as state_lib
from jaxspoof.training import steps

SECONDS = MOMENT / SAMPLE_RATE  # of a moment
DIGITS = 5  # behind the point, of scores that are measured and kept


class Heard(NamedTuple):
  """What a model says of a split, in its order.

  Attributes:
    outputs: float32 [clips, K], of the head for whole clips.
    embeddings: float32 [clips, E].
    moments: of each clip the scores of its moments, float32 [N].
    samples: int64 [clips], how many of each clip were scored.
  """

  outputs: np.ndarray
  embeddings: np.ndarray
  moments: list[np.ndarray]
  samples: np.ndarray


# ---------------------------------------------------------------- training ---
def total_loss(weights: tuple[float, ...]) -> Callable[..., jax.Array]:
  """What training makes smaller, as `steps.make_train_step` takes it.

  It is the mean of the loss over the moments of a batch of which a label is
  known, each with the weight of its class.

  Args:
    weights: of spoof and bona fide; () weighs them alike.
  """

  def total(model, loss: Loss, batch, rngs) -> jax.Array:
    outputs_BxNxK = model.answer_moments(
      **steps.inputs(batch), rngs=rngs
    ).moments
    label_BxN = batch['moments']
    count = min(outputs_BxNxK.shape[1], label_BxN.shape[1])
    label_M = label_BxN[:, :count].reshape(-1)
    outputs_MxK = outputs_BxNxK[:, :count].reshape(len(label_M), -1)
    known_M = jnp.maximum(label_M, 0)
    each_M = jax.vmap(lambda o, y: loss(o[None], y[None]))(outputs_MxK, known_M)
    weight_M = (label_M >= 0).astype(each_M.dtype)
    if weights:
      weight_M = weight_M * jnp.asarray(weights, each_M.dtype)[known_M]
    least = jnp.asarray(1e-6, each_M.dtype)
    return jnp.sum(weight_M * each_M) / jnp.maximum(jnp.sum(weight_M), least)

  return total


def make_eval_step(graphdef, shardings: sharding_lib.Shardings):
  """Returns `eval_step(params, batch_stats, batch)`.

  It gives index and mask, [B]; outputs [B, K] and embeddings [B, E] of clips;
  outputs of moments, [B, N, K], and how many are of the clip, [B].
  """

  def eval_step(params, batch_stats, batch):
    model = state_lib.eval_view(state_lib.merge(graphdef, params, batch_stats))
    found = model.answer_moments(**steps.inputs(batch))
    return (
      batch['index'],
      batch['mask'],
      found.outputs,
      found.embedding,
      found.moments,
      found.count,
      batch['samples'],
    )

  return sharding_lib.jit(eval_step, shardings, replicated=2)


# -------------------------------------------------------------- evaluation ---
def hear(
  eval_step,
  params,
  batch_stats,
  source,
  *,
  loss: Loss,
  data: DataConfig,
  shortest: int,
  shardings: sharding_lib.Shardings,
) -> Heard:
  """Scores all clips of a split and their moments.

  Args:
    eval_step: from `make_eval_step`.
    params: weights, replicated.
    batch_stats: BatchNorm statistics, replicated.
    source: records of the split.
    loss: makes scores of outputs.
    data: says how much of a clip is scored, and the batch.
    shortest: shorter clips are repeated to this many samples first.
    shardings: the devices that batches are divided over.

  Raises:
    FloatingPointError: a score that is not finite.
    RuntimeError: a clip was lost.
  """
  clips: list = [None] * len(source)
  for batch in pipeline.eval_batches(
    source,
    batch=data.eval_batch,
    samples=data.eval_samples,
    workers=data.workers,
    process=(jax.process_index(), jax.process_count()),
    bucket=data.bucket,
    shortest=shortest,
  ):
    batch = sharding_lib.put_batch(batch, shardings)
    index, mask, outputs, embedding, each, count, samples = jax.device_get(
      eval_step(params, batch_stats, batch)
    )
    scores = np.asarray(loss.score(each.reshape(-1, each.shape[-1])))
    scores = scores.reshape(each.shape[:2])
    for row in np.flatnonzero(mask):
      kept = scores[row, : count[row]]
      if not np.isfinite(kept).all():
        raise FloatingPointError(
          f'{pipeline.name_of(source)}, record {index[row]}: a score of a '
          'moment is not finite'
        )
      clips[index[row]] = outputs[row], embedding[row], kept, samples[row]
  if lost := sum(clip is None for clip in clips):
    raise RuntimeError(f'{lost} clips of {pipeline.name_of(source)} were lost')
  outputs, embeddings, kept, samples = zip(*clips, strict=True)
  return Heard(
    np.stack(outputs),
    np.stack(embeddings),
    list(kept),
    np.array(samples, np.int64),
  )


def locate(source, heard: Heard) -> list[Located]:
  """Scores of each clip beside where its record says that it is spoofed.

  Raises:
    ValueError: records without labels of segments.
  """
  found = []
  # To so many digits: files hold them whole, and are no longer than need be.
  rounded = [np.round(x.astype(np.float64), DIGITS) for x in heard.moments]
  for number, (scores, samples) in enumerate(
    zip(rounded, heard.samples, strict=True)
  ):
    record = source[number]
    what = f'{pipeline.name_of(source)}, {pipeline.text(record["utterance"])}'
    spoofed, known = segments.spoofed(record, what)
    duration = min(known, samples / SAMPLE_RATE)
    spoofed = [
      (start, min(end, duration)) for start, end in spoofed if start < duration
    ]
    found.append(Located(scores, SECONDS, spoofed, float(duration)))
  return found


def labelled(located: Sequence[Located]) -> tuple[np.ndarray, np.ndarray]:
  """Scores and labels of the moments of all clips, one after the other."""
  both = [localisation.segments(one, SECONDS) for one in located]
  scores, labels = (np.concatenate(x) for x in zip(*both, strict=True))
  return scores, labels


def figures(
  located: Sequence[Located],
  trials: pipeline.Trials,
  trained_on: set[str],
  threshold: float,
  *,
  resamples: int,
  seed: int,
) -> dict:
  """The figures of a split.

  Args:
    located: its clips.
    trials: what is known of them.
    trained_on: attacks of the train split.
    threshold: that of dev.
    resamples: of the bootstrap.
    seed: of its draws.

  Returns:
    What `metrics.localisation.figures` says of all clips, and
    `range_eer_interval`, None where there is no EER; the same of those of
    attacks that training saw (`seen`) and did not see (`unseen`), and
    `per_attack` the range EER, each with all bona fide clips; and
    `at_dev_threshold`, see `metrics.localisation.at_threshold`.
  """
  bona_fide = trials.label == 1
  seen = np.isin(trials.attack, sorted(trained_on))

  def some(chosen: np.ndarray) -> list[Located]:
    return [one for one, kept in zip(located, chosen, strict=True) if kept]

  def part(chosen: np.ndarray) -> dict:
    made = localisation.figures(some(chosen))
    interval = None
    if made['range_eer'] is not None:
      interval = localisation.range_eer_interval(
        some(chosen),
        *(x[chosen] for x in (trials.label, trials.speaker, trials.attack)),
        resamples=resamples,
        seed=seed,
      )
    return made | {'range_eer_interval': interval and list(interval)}

  found = part(np.ones(len(located), bool))
  for name, chosen in (('seen', seen), ('unseen', ~seen)):
    if (chosen & ~bona_fide).any():
      found[name] = part(chosen | bona_fide)
  found['per_attack'] = {
    str(attack): localisation.range_eer(
      some((trials.attack == attack) | bona_fide)
    ).eer
    for attack in sorted(set(trials.attack[~bona_fide]))
  }
  found['at_dev_threshold'] = localisation.at_threshold(located, threshold)
  return found


def keep(
  workdir: pathlib.Path,
  name: str,
  utterances: Sequence[str],
  located: Sequence[Located],
  threshold: float,
) -> None:
  """Writes scores over time, the reference, and what is found at a threshold.

  Args:
    workdir: folder of the run.
    name: of the split.
    utterances: names of the clips.
    located: the clips.
    threshold: moments with higher scores are bona fide.
  """
  by_name = dict(zip(utterances, located, strict=True))
  files.write_scores(
    names.moments(workdir, name),
    {k: files.Moments(one.seconds, one.scores) for k, one in by_name.items()},
  )
  for path, spoofed in (
    (names.ranges(workdir, name), {k: v.spoofed for k, v in by_name.items()}),
    (
      names.found_ranges(workdir, name),
      {k: spoofed_at(v, threshold) for k, v in by_name.items()},
    ),
  ):
    whole: Mapping = {
      k: files.whole(found, by_name[k].duration) for k, found in spoofed.items()
    }
    files.write_ranges(path, whole)


def spoofed_at(one: Located, threshold: float) -> list[tuple[float, float]]:
  """Ranges of moments in a row whose scores are not above a threshold."""
  spoof = np.asarray(one.scores) <= threshold
  edges = np.flatnonzero(np.diff(spoof, prepend=False, append=False))
  times = np.minimum(edges * one.seconds, one.duration)
  if spoof[-1]:
    times[-1] = one.duration  # the last score is that of what follows
  return [
    (float(start), float(end))
    for start, end in times.reshape(-1, 2)
    if end > start
  ]
