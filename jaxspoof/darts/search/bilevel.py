"""Hypergradients of a bilevel problem, through one step of the inner one.

Weights w minimise the training loss, and the architecture a minimises the
validation loss of what the weights become (Liu et al., DARTS, ICLR 2019,
equations 3 to 8):

  min over a of L_val(w*(a), a),  w*(a) = argmin over w of L_train(w, a)

The inner minimum is replaced by one step of the inner optimiser from where the
weights are now, w' = w + u(dL_train/dw). What is differentiated by a is then

  g = dL_val/da (w', a) + d2L_train/da dw . c,   c = (du/dg)^T dL_val/dw'

where du/dg is the derivative of the optimiser's update: minus the learning rate
for plain SGD, with or without momentum.

  first_order        g = dL_val/da (w, a): no step is taken
  exact              the g above, by differentiation through the update
  finite_difference  the second term as a difference of two gradients by a

All are pure functions of pytrees. Nothing here knows about networks: weights,
architecture and batches are whatever the two losses take. What a loss returns
beside its value, such as BatchNorm statistics, is dropped but for that of the
validation loss, so a virtual step leaves no trace.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

Tree = Any
Loss = Callable[[Tree, Tree, Tree], tuple[jax.Array, Any]]


class Problem(NamedTuple):
  """What the two levels minimise, and how the inner one moves.

  Attributes:
    train_loss: the inner loss, `(weights, arch, batch) -> (scalar, aux)`; `aux`
      is anything else that is wanted from it.
    val_loss: the outer loss, a function of the same form.
    tx: optimiser of the weights. Its update must be differentiable: the root in
      `optax.adam` is not at 0, unless `eps_root > 0`.
  """

  train_loss: Loss
  val_loss: Loss
  tx: optax.GradientTransformation


class Point(NamedTuple):
  """Where a hypergradient is taken.

  Attributes:
    weights: the weights w, any pytree of floating-point arrays.
    arch: the architecture a, any pytree of floating-point arrays.
    opt: state of the optimiser `tx` for these weights.
    train_batch: batch for the training loss, its third argument.
    val_batch: batch for the validation loss, its third argument.
  """

  weights: Tree
  arch: Tree
  opt: optax.OptState
  train_batch: Tree
  val_batch: Tree


class Hypergradient(NamedTuple):
  """A hypergradient and what came with it.

  Attributes:
    value: validation loss at the weights where the gradient was taken.
    aux: second output of the validation loss at these weights.
    grads: gradient with respect to the architecture, a pytree like it.
  """

  value: jax.Array
  aux: Any
  grads: Tree


def first_order(problem: Problem, at: Point) -> Hypergradient:
  """The hypergradient if the weights are taken for constant.

  This is xi = 0 in DARTS, and half the work of the others or less.
  """
  (value, aux), grads = jax.value_and_grad(
    problem.val_loss, argnums=1, has_aux=True
  )(at.weights, at.arch, at.val_batch)
  return Hypergradient(value, aux, grads)


def exact(problem: Problem, at: Point) -> Hypergradient:
  """Differentiates through the update, whatever the optimiser is made of.

  DARTS, equation 6, with momentum, weight decay and clipping where the
  optimiser has them.
  """

  def outer(arch):
    weights = virtual_step(problem, at._replace(arch=arch))
    return problem.val_loss(weights, arch, at.val_batch)

  (value, aux), grads = jax.value_and_grad(outer, has_aux=True)(at.arch)
  return Hypergradient(value, aux, grads)


def finite_difference(
  problem: Problem, at: Point, radius: float = 0.01
) -> Hypergradient:
  """Approximates the second term by two gradients by the architecture.

  DARTS, equation 8. With plain SGD it is the published one, epsilon being
  `radius` over the norm of dL_val/dw'; the error falls with its square.

  Args:
    problem: the two losses and the inner optimiser.
    at: where the gradient is taken.
    radius: how far the weights are moved to either side, in the norm of all of
      them.
  """
  grads = _weight_gradient(problem, at)
  update = lambda g: problem.tx.update(g, at.opt, at.weights)[0]
  updates, pull_back = jax.vjp(update, grads)
  weights = optax.apply_updates(at.weights, updates)
  (value, aux), (by_weights, by_arch) = jax.value_and_grad(
    problem.val_loss, argnums=(0, 1), has_aux=True
  )(weights, at.arch, at.val_batch)
  (direction,) = pull_back(by_weights)
  norm = optax.tree.norm(direction)
  # A direction of zero (a learning rate of 0, say) has no second term.
  epsilon = jnp.where(norm > 0, radius / jnp.where(norm > 0, norm, 1), 0)
  above = _arch_gradient(problem, at, direction, epsilon)
  below = _arch_gradient(problem, at, direction, -epsilon)
  scale = jnp.where(norm > 0, norm / (2 * radius), 0)
  grads = jax.tree.map(
    lambda g, a, b: g + scale.astype(g.dtype) * (a - b), by_arch, above, below
  )
  return Hypergradient(value, aux, grads)


ORDERS = {
  'first': first_order,
  'exact': exact,
  'finite_difference': finite_difference,
}


def hypergradient(order: str, problem: Problem, at: Point) -> Hypergradient:
  """The hypergradient by the name of its order, see `ORDERS`.

  Raises:
    ValueError: the name is not known.
  """
  if order not in ORDERS:
    raise ValueError(f'order={order!r}: expected one of {", ".join(ORDERS)}')
  return ORDERS[order](problem, at)


def virtual_step(problem: Problem, at: Point) -> Tree:
  """Weights after one step of the inner optimiser; nothing else is kept."""
  grads = _weight_gradient(problem, at)
  updates, _ = problem.tx.update(grads, at.opt, at.weights)
  return optax.apply_updates(at.weights, updates)


def _weight_gradient(problem: Problem, at: Point) -> Tree:
  grads, _ = jax.grad(problem.train_loss, has_aux=True)(
    at.weights, at.arch, at.train_batch
  )
  return grads


def _arch_gradient(problem: Problem, at: Point, direction, epsilon) -> Tree:
  """Gradient of the training loss by the architecture, weights moved."""
  weights = jax.tree.map(
    lambda w, d: w + epsilon.astype(w.dtype) * d, at.weights, direction
  )
  grads, _ = jax.grad(problem.train_loss, argnums=1, has_aux=True)(
    weights, at.arch, at.train_batch
  )
  return grads
