"""Pure step functions of an architecture search.

A step of the search is two: `arch_step` moves the architecture by a batch of
the validation half, then `weight_step` the weights by one of the training half
(Liu et al. 2019, algorithm 1). Epochs of warm-up leave the first out. As in
`training.steps` the code is that of one device on the global batch.
"""

import dataclasses
from collections.abc import Callable

import jax
import optax
from flax import nnx

from jaxspoof import losses
from jaxspoof.darts.search import architecture, bilevel
from jaxspoof.darts.search import state as search_state
from jaxspoof.darts.search.state import SearchState
from jaxspoof.training import sharding as sharding_lib
from jaxspoof.training import state as state_lib
from jaxspoof.training.steps import inputs


@dataclasses.dataclass(frozen=True)
class Levels:
  """What does not change during a search: losses, optimisers, settings.

  Attributes:
    graphdef: static description of the supernet.
    loss: the loss, a function of logits [B, 2] and labels [B].
    cost: expected cost, `architecture -> scalar`, see
      `light_darts_cost.normalised`.
    temperature: temperature of the softmax over operations, `step -> scalar`.
    w_tx: optimiser of the weights.
    a_tx: optimiser of the architecture.
    order: how the hypergradient is computed, a key of `bilevel.ORDERS`.
    cost_weight: factor on the cost in the validation loss.
    entropy_weight: factor on the entropy in the validation loss.
    gumbel: whether the weights of operations are sampled.
    seed: seed of dropout and of the samples.
  """

  graphdef: nnx.GraphDef
  loss: losses.Loss
  cost: Callable[[architecture.Arch], jax.Array]
  temperature: Callable[[jax.Array], jax.Array]
  w_tx: optax.GradientTransformation
  a_tx: optax.GradientTransformation
  order: str = 'first'
  cost_weight: float = 0.0
  entropy_weight: float = 0.0
  gumbel: bool = False
  seed: int = 0

  def train_loss(self, state: SearchState, stream: int = 0):
    """`(weights, arch, batch) -> (loss, new statistics)` at this step.

    Args:
      state: gives step and statistics.
      stream: of random numbers; the virtual step and the step after it draw
        the same.
    """
    key = jax.random.fold_in(jax.random.key(self.seed), stream)
    key = jax.random.fold_in(key, state.step)
    temperature = self.temperature(state.step)

    def objective(weights, arch, batch):
      model = search_state.merge(
        self.graphdef, weights, arch, state.batch_stats
      )
      rngs = nnx.Rngs(
        dropout=jax.random.fold_in(key, 0),
        mask=jax.random.fold_in(key, 1),
        gumbel=jax.random.fold_in(key, 2),
      )
      logits = model(
        **inputs(batch),
        rngs=rngs,
        temperature=temperature,
        gumbel=self.gumbel,
      )
      return self.loss(logits, batch['label']), state_lib.batch_stats_of(model)

    return objective

  def val_loss(self, state: SearchState):
    """The validation loss: loss, weighted cost and weighted entropy.

    Its `aux` holds the loss alone, the cost and the entropy.
    """
    of_batch = self.train_loss(state, stream=1)
    temperature = self.temperature(state.step)

    def objective(weights, arch, batch):
      value, _ = of_batch(weights, arch, batch)
      terms = self.describe(arch, temperature)
      total = value + self.cost_weight * terms['cost']
      total += self.entropy_weight * terms['entropy']
      return total, {'loss': value, **terms}

    return objective

  def describe(self, arch, temperature) -> dict[str, jax.Array]:
    """Expected cost and entropy of an architecture, without noise."""
    sharp = architecture.sharpened(arch, temperature)
    return {'cost': self.cost(sharp), 'entropy': architecture.entropy(sharp)}


def make_arch_step(levels: Levels, shardings: sharding_lib.Shardings):
  """Returns `arch_step(state, train_batch, val_batch) -> (state, metrics)`.

  The state is donated; of it the architecture and its optimiser change, no
  weight and no statistic. `metrics`: scalars `loss` (of the validation batch),
  `cost`, `entropy` and `grad_norm`, before the update.
  """

  def arch_step(state: SearchState, train_batch, val_batch):
    problem = bilevel.Problem(
      levels.train_loss(state), levels.val_loss(state), levels.w_tx
    )
    at = bilevel.Point(
      state.weights, state.arch, state.w_opt, train_batch, val_batch
    )
    found = bilevel.hypergradient(levels.order, problem, at)
    updates, a_opt = levels.a_tx.update(found.grads, state.a_opt, state.arch)
    state = state.replace(
      arch=optax.apply_updates(state.arch, updates), a_opt=a_opt
    )
    return state, {**found.aux, 'grad_norm': optax.tree.norm(found.grads)}

  return sharding_lib.jit(
    arch_step, shardings, replicated=1, batches=2, donate=True
  )


def make_weight_step(levels: Levels, shardings: sharding_lib.Shardings):
  """Returns `weight_step(state, batch) -> (state, metrics)`; donates `state`.

  Counts the step. `metrics`: scalars `loss`, before the update, and
  `grad_norm`.
  """

  def weight_step(state: SearchState, batch):
    (value, batch_stats), grads = jax.value_and_grad(
      levels.train_loss(state), has_aux=True
    )(state.weights, state.arch, batch)
    updates, w_opt = levels.w_tx.update(grads, state.w_opt, state.weights)
    state = state.replace(
      step=state.step + 1,
      weights=optax.apply_updates(state.weights, updates),
      batch_stats=batch_stats,
      w_opt=w_opt,
    )
    return state, {'loss': value, 'grad_norm': optax.tree.norm(grads)}

  return sharding_lib.jit(weight_step, shardings, replicated=1, donate=True)


def make_eval_step(levels: Levels, shardings: sharding_lib.Shardings):
  """Returns `eval_step((weights, arch, step), batch_stats, batch)`.

  Gives (index, mask, logits), [B], [B] and [B, 2], replicated, as
  `training.steps.make_eval_step` does; the operations are mixed without noise.
  """

  def eval_step(trained, batch_stats, batch):
    weights, arch, step = trained
    model = search_state.merge(levels.graphdef, weights, arch, batch_stats)
    logits = state_lib.eval_view(model)(
      **inputs(batch), temperature=levels.temperature(step)
    )
    return batch['index'], batch['mask'], logits

  return sharding_lib.jit(eval_step, shardings, replicated=2)


def make_describe(levels: Levels, shardings: sharding_lib.Shardings):
  """Returns `describe(arch, step) -> {'cost', 'entropy'}`, scalars."""

  def describe(arch, step):
    return levels.describe(arch, levels.temperature(step))

  return jax.jit(describe, out_shardings=shardings.replicated)
