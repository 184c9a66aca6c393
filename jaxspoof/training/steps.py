"""Pure step functions: training, evaluation, weight averaging.

Each factory closes over what is static (the module's description, the
optimiser, the placement) and returns a jitted function of arrays. The code is
that of one device on the global batch; `shardings` alone says where it runs.
"""

from collections.abc import Callable
from typing import Any

import jax
import optax
from flax import nnx

from jaxspoof.system import System
from jaxspoof.training import sharding as sharding_lib
from jaxspoof.training import state as state_lib


def step_rngs(seed: int, step: jax.Array) -> nnx.Rngs:
  """Random streams of one training step; the same for every device count."""
  # Folded in, not split off a key that is carried along: a run that goes on
  # from a checkpoint draws what it would have drawn.
  key = jax.random.fold_in(jax.random.key(seed), step)
  return nnx.Rngs(
    dropout=jax.random.fold_in(key, 0), mask=jax.random.fold_in(key, 1)
  )


def inputs(batch) -> dict[str, Any]:
  """What a model is called with: waves, and their lengths where they differ.

  Of a batch of features that were computed before: these.
  """
  if 'features' in batch:
    kept = batch['features'], batch.get('frames')
    return {'wave_BxT': None, 'kept': kept}
  lengths = {n: batch[n] for n in ('samples',) if n in batch}
  return {'wave_BxT': batch['wave'], **lengths}


def total_loss(model: System, loss, batch, rngs: nnx.Rngs) -> jax.Array:
  """The loss of a batch, with that of an auxiliary head where there is one."""
  answer = model.answer(**inputs(batch), rngs=rngs)
  value = loss(answer.outputs, batch['label'])
  if answer.auxiliary is None:
    return value
  return value + model.auxiliary_weight * loss(answer.auxiliary, batch['label'])


def make_train_step(
  graphdef: nnx.GraphDef,
  tx: optax.GradientTransformation,
  loss: Callable[[jax.Array, jax.Array], jax.Array],
  seed: int,
  shardings: sharding_lib.Shardings,
  total: Callable[..., jax.Array] = total_loss,
):
  """Returns `train_step(state, batch) -> (state, metrics)`; donates `state`.

  `batch` holds `wave` float [B, samples], `label` int32 [B] and, where clips
  are padded, `samples` int32 [B]; `metrics` are the scalars `loss` (before the
  update) and `grad_norm`. `total` says what is made smaller, with the arguments
  of `total_loss`.
  """

  def train_step(state: state_lib.TrainState, batch):
    def objective(params):
      # Frozen arrays are not among `params`, so no gradient of them is made.
      model = state_lib.merge(graphdef, state.whole(params), state.batch_stats)
      value = total(model, loss, batch, step_rngs(seed, state.step))
      return value, state_lib.batch_stats_of(model)

    (value, batch_stats), grads = jax.value_and_grad(objective, has_aux=True)(
      state.params
    )
    updates, opt = tx.update(grads, state.opt, state.params)
    state = state.replace(
      step=state.step + 1,
      params=optax.apply_updates(state.params, updates),
      batch_stats=batch_stats,
      opt=opt,
    )
    return state, {'loss': value, 'grad_norm': optax.tree.norm(grads)}

  return sharding_lib.jit(train_step, shardings, replicated=1, donate=True)


def make_eval_step(graphdef: nnx.GraphDef, shardings: sharding_lib.Shardings):
  """Returns `eval_step(params, batch_stats, batch)`.

  It gives index, mask, outputs and embedding, [B], [B], [B, K] and [B, E],
  replicated, so that every host sees every trial.
  """

  def eval_step(params, batch_stats, batch):
    model = state_lib.merge(graphdef, params, batch_stats)
    answer = state_lib.eval_view(model).answer(**inputs(batch))
    return batch['index'], batch['mask'], answer.outputs, answer.embedding

  return sharding_lib.jit(eval_step, shardings, replicated=2)


def add_to_average(state: state_lib.TrainState) -> state_lib.TrainState:
  """Adds the present weights to the running mean (SWA, Izmailov 2018)."""
  count = state.averaged + 1

  def mean(average, value):
    return average + (value - average) / count.astype(value.dtype)

  return state.replace(
    average=jax.tree.map(mean, state.average, state.params), averaged=count
  )


def make_stats_step(
  graphdef: nnx.GraphDef, seed: int, shardings: sharding_lib.Shardings
):
  """Returns `stats_step(params, stats, count, batch) -> stats`.

  BatchNorm statistics of averaged weights are the plain mean of the batch
  statistics over one pass of the train split, as torchcontrib's `bn_update`
  takes them: the momentum of batch n is 1 / n.
  """

  def stats_step(params, batch_stats, count, batch):
    model = state_lib.merge(graphdef, params, batch_stats)
    model = nnx.view(model, momentum=1.0 / (count + 1))
    model(**inputs(batch), rngs=step_rngs(seed, count))
    return state_lib.batch_stats_of(model)

  return sharding_lib.jit(stats_step, shardings, replicated=3)
