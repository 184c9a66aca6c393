"""Hypergradients: closed form, Hessian-vector product, devices, BatchNorm."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.darts.search import bilevel
from jaxspoof.training import sharding

RATE = 0.3
SECOND_ORDER = ('exact', 'finite_difference')


@pytest.fixture(autouse=True)
def float64(programs):
  # Optax multiplies by Python and integer scalars.
  with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
    yield


# --------------------------------------------------------------- quadratic ---
def quadratic():
  """L_train = |w - A a|^2 / 2, L_val = |w - t|^2 / 2 + b . a."""
  rng = np.random.default_rng(0)
  a_WxK, t_W, b_K = (rng.standard_normal(s) for s in ((4, 3), 4, 3))

  def train_loss(weights, arch, batch):
    return 0.5 * jnp.sum((weights - batch @ arch) ** 2), None

  def val_loss(weights, arch, batch):
    target_W, slope_K = batch
    loss = 0.5 * jnp.sum((weights - target_W) ** 2) + slope_K @ arch
    return loss, None

  weights, arch = rng.standard_normal(4), rng.standard_normal(3)
  tx = optax.sgd(RATE)
  at = bilevel.Point(weights, arch, tx.init(weights), a_WxK, (t_W, b_K))
  return bilevel.Problem(train_loss, val_loss, tx), at


@pytest.mark.parametrize('order', SECOND_ORDER)
def test_closed_form(order):
  """w' = w - r (w - A a), so dL_val/da = b + r A^T (w' - t)."""
  problem, at = quadratic()
  a_WxK, (t_W, b_K) = at.train_batch, at.val_batch
  after_W = at.weights - RATE * (at.weights - a_WxK @ at.arch)
  found = bilevel.hypergradient(order, problem, at)
  expected_K = b_K + RATE * a_WxK.T @ (after_W - t_W)
  np.testing.assert_allclose(found.grads, expected_K, rtol=1e-10)
  value = 0.5 * np.sum((after_W - t_W) ** 2) + b_K @ at.arch
  np.testing.assert_allclose(found.value, value, rtol=1e-14)
  first = bilevel.hypergradient('first', problem, at)
  np.testing.assert_allclose(first.grads, b_K, rtol=1e-14)


def test_descending_the_hypergradient_solves_what_the_first_order_cannot():
  """The outer loss reaches the architecture through the weights alone."""
  problem, at = quadratic()
  at = at._replace(val_batch=(at.train_batch @ np.ones(3), np.zeros(3)))

  def descend(order):
    def step(_, now):
      here = at._replace(weights=now[0], arch=now[1])
      grads = bilevel.hypergradient(order, problem, here).grads
      here = here._replace(arch=here.arch - grads)
      return bilevel.virtual_step(problem, here), here.arch

    return jax.lax.fori_loop(0, 600, step, (at.weights, at.arch))[1]

  np.testing.assert_allclose(descend('exact'), np.ones(3), atol=1e-6)
  np.testing.assert_allclose(descend('first'), at.arch, atol=1e-12)


# ---------------------------------------------------------------- networks ---
class Mixed(nnx.Module):
  """A small mixed operation after a BatchNorm; few arrays compile quickly."""

  def __init__(self, rngs):
    draw = lambda *shape: nnx.Param(
      layers.uniform_of_fan_in(shape[0])(rngs.params(), shape, jnp.float64)
    )
    self.first, self.way = draw(6, 4), draw(4, 4)
    self.norm = layers.BatchNorm(4, param_dtype='float64')

  def __call__(self, x_BxI, arch):
    h_BxC = jnp.tanh(self.norm(x_BxI @ self.first[...]))
    weight_2 = jax.nn.softmax(arch['alpha'])
    mixed_BxC = weight_2[0] * h_BxC + weight_2[1] * jnp.sin(
      h_BxC @ self.way[...]
    )
    return mixed_BxC[:, :2]


TX = {
  'sgd': lambda: optax.chain(
    optax.add_decayed_weights(3e-4), optax.sgd(0.1, momentum=0.9)
  ),
  'clipped adam': lambda: optax.chain(
    optax.clip_by_global_norm(0.1), optax.adam(0.01, eps_root=1e-8)
  ),
}


def network(tx='sgd'):
  graphdef, weights, stats = nnx.split(
    Mixed(nnx.Rngs(0)), nnx.Param, nnx.BatchStat
  )
  weights, stats = nnx.to_pure_dict(weights), nnx.to_pure_dict(stats)

  def loss(weights, arch, batch):
    model = nnx.merge(graphdef, weights, stats)
    logits = model(batch['x'], arch)
    nll = optax.softmax_cross_entropy_with_integer_labels(
      logits, batch['label']
    )
    return nll.mean(), nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

  def val_loss(weights, arch, batch):
    value, aux = loss(weights, arch, batch)
    return value + 0.1 * jnp.sum(arch['alpha'] ** 2), aux

  rng = np.random.default_rng(1)
  batches = [
    {
      'x': rng.standard_normal((8, 6)),
      'label': rng.integers(0, 2, 8).astype(np.int32),
    }
    for _ in range(2)
  ]
  tx = TX[tx]()
  opt = tx.init(weights)
  # A momentum that is not zero, as in the middle of a run.
  grads = jax.tree.map(lambda w: 0.1 * jnp.cos(w), weights)
  _, opt = tx.update(grads, opt, weights)
  arch = {'alpha': jnp.array([0.3, -0.2])}
  problem = bilevel.Problem(loss, val_loss, tx)
  return problem, bilevel.Point(weights, arch, opt, *batches)


def run(order, problem, at):
  compute = jax.jit(lambda at: bilevel.hypergradient(order, problem, at))
  return jax.device_get(compute(at))


def by_hessian_vector_product(problem, at):
  """dL_val/da at w', plus the jvp of dL_train/da in the direction c."""
  by_weights = lambda w: jax.grad(problem.train_loss, has_aux=True)(
    w, at.arch, at.train_batch
  )[0]
  by_arch = lambda w: jax.grad(problem.train_loss, 1, has_aux=True)(
    w, at.arch, at.train_batch
  )[0]
  grads = by_weights(at.weights)
  update = lambda g: problem.tx.update(g, at.opt, at.weights)[0]
  after = optax.apply_updates(at.weights, update(grads))
  direct, _ = jax.grad(problem.val_loss, (0, 1), has_aux=True)(
    after, at.arch, at.val_batch
  )
  _, pull_back = jax.vjp(update, grads)
  (direction,) = pull_back(direct[0])
  _, second = jax.jvp(by_arch, (at.weights,), (direction,))
  return jax.tree.map(jnp.add, direct[1], second)


@pytest.mark.parametrize('tx', TX)
def test_exact_equals_the_hessian_vector_product(tx):
  problem, at = network(tx)
  expected = jax.jit(lambda at: by_hessian_vector_product(problem, at))(at)
  found = run('exact', problem, at).grads['alpha']
  first = run('first', problem, at).grads['alpha']
  np.testing.assert_allclose(found, expected['alpha'], rtol=1e-10, atol=1e-14)
  assert np.abs(found - first).max() > 1e-4  # there is something to get right


def test_finite_difference_converges_to_the_exact():
  """At the rate of central differences: a tenth the radius, 1 % the error."""
  problem, at = network()
  expected = run('exact', problem, at).grads['alpha']
  compute = jax.jit(
    lambda at, radius: bilevel.finite_difference(problem, at, radius).grads
  )
  errors = [
    np.abs(compute(at, radius)['alpha'] - expected).max()
    for radius in (1e-1, 1e-2, 1e-3)
  ]
  ratios = np.array(errors[1:]) / errors[:-1]
  np.testing.assert_allclose(ratios, 0.01, rtol=0.3)
  assert errors[-1] < 1e-6 * np.abs(expected).max()


def test_first_order_equals_the_exact_at_learning_rate_zero():
  problem, at = network()
  tx = optax.sgd(0.0)
  problem = problem._replace(tx=tx)
  at = at._replace(opt=tx.init(at.weights))
  first, second = (run(o, problem, at) for o in ('first', 'exact'))
  np.testing.assert_array_equal(first.grads['alpha'], second.grads['alpha'])
  assert first.value == second.value


@pytest.mark.parametrize('order', bilevel.ORDERS)
def test_four_devices_equal_one(order):
  problem, at = network()
  found = []
  for devices in (1, 4):
    shardings = sharding.make(devices)
    replicated, batch = shardings.replicated, shardings.batch
    placement = bilevel.Point(replicated, replicated, replicated, batch, batch)
    compute = jax.jit(
      lambda at: bilevel.hypergradient(order, problem, at),
      in_shardings=(placement,),
      out_shardings=replicated,
    )
    found.append(jax.device_get(compute(at)))
  for one, four in zip(*map(jax.tree.leaves, found), strict=True):
    np.testing.assert_allclose(one, four, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('order', SECOND_ORDER)
def test_the_virtual_step_leaves_no_trace(order):
  """Statistics come from the validation batch at hand, and the inputs stay."""
  problem, at = network()
  before = jax.tree.map(np.array, at)
  found = run(order, problem, at)
  jax.tree.map(np.testing.assert_array_equal, before, at)

  # One update of the stored statistics, not two: of the validation batch.
  @jax.jit
  def statistics(at):
    weights = bilevel.virtual_step(problem, at)
    return problem.val_loss(weights, at.arch, at.val_batch)[1]

  expected = statistics(at)
  for a, b in zip(*map(jax.tree.leaves, (found.aux, expected)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-12)


def test_unknown_order_is_refused():
  problem, at = quadratic()
  with pytest.raises(ValueError, match=r"order='second': expected one of firs"):
    bilevel.hypergradient('second', problem, at)
