"""Steps of the search on a toy: planted tasks, devices, what moves.

The toy has one edge between layers that work on each sample by itself: an
identity, a pooling and a convolution over time. What the order of samples
tells, the convolution alone can see.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxspoof import losses
from jaxspoof.blocks import layers
from jaxspoof.darts.network.supernet import Arch
from jaxspoof.darts.search import architecture
from jaxspoof.darts.search import state as search_state
from jaxspoof.darts.search import steps as search_steps
from jaxspoof.training import sharding

OPERATIONS = ('skip_connect', 'max_pool_3', 'std_conv_3')
COST = (0.0, 0.0, 1.0)
SAMPLES = 48
COST_WEIGHT = 0.1


class Cell(nnx.Module):
  def __init__(self, dtype):
    self.alpha = Arch(jnp.zeros((1, len(OPERATIONS)), dtype))


class Toy(nnx.Module):
  """One edge; the interface of `Supernet`."""

  def __init__(self, dtype, rngs):
    options = dict(param_dtype=dtype, rngs=rngs)
    self.normal = Cell(dtype)
    self.dropout = layers.Dropout(0.0)
    self.stem = layers.linear(1, 6, **options)
    self.norm = layers.BatchNorm(6, param_dtype=dtype)
    # Without a bias, which what follows would cancel: its gradient is noise
    # that Adam blows up to full steps.
    init = layers.uniform_of_fan_in(18)
    self.conv = nnx.Param(init(rngs.params(), (18, 6), jnp.dtype(dtype)))
    self.last = layers.linear(6, 2, **options)

  def __call__(self, wave_BxT, rngs=None, temperature=1.0, gumbel=False):
    h_BxTxC = self.norm(jnp.tanh(self.stem(wave_BxT[..., None])))
    alpha = self.normal.alpha[0]
    if gumbel:
      alpha = alpha + jax.random.gumbel(rngs.gumbel(), alpha.shape, alpha.dtype)
    weight_O = jax.nn.softmax(alpha / temperature)
    before, after = (jnp.roll(h_BxTxC, way, axis=1) for way in (1, -1))
    window = jnp.concatenate([before, h_BxTxC, after], -1)
    outputs = (
      h_BxTxC,
      jnp.maximum(jnp.maximum(before, h_BxTxC), after),
      window @ self.conv[...],
    )
    mixed = sum(
      w * standardised(y) for w, y in zip(weight_O, outputs, strict=True)
    )
    return self.last(jnp.tanh(mixed).mean(1))


def standardised(x):
  """As in DARTS: no operation may make up for a small weight by its scale."""
  mean, var = layers.moments(x)
  shift, scale = (v[None, None] for v in (mean, jnp.sqrt(var + 1e-5)))
  return (x - shift) / scale


def cost(arch):
  weight_O = jax.nn.softmax(arch['normal']['alpha'])[0]
  return jnp.sum(weight_O * jnp.asarray(COST, weight_O.dtype))


def ramps(rng, count):
  """Bona fide rises and falls back at once; spoof is that turned round."""
  label = rng.integers(0, 2, count).astype(np.int32)
  ramp = np.tile(np.linspace(-1, 1, 8), SAMPLES // 8)
  shift = rng.integers(0, 8, count)
  wave = np.stack([np.roll(ramp, s) for s in shift])
  wave = np.where(label[:, None] == 1, wave, wave[:, ::-1])
  return {'wave': wave + 0.1 * rng.standard_normal(wave.shape), 'label': label}


def levels_of_loudness(rng, count):
  """Bona fide is louder: each sample tells, no neighbour is needed."""
  label = rng.integers(0, 2, count).astype(np.int32)
  wave = rng.standard_normal((count, SAMPLES)) * (0.5 + label[:, None])
  return {'wave': wave, 'label': label}


def make(shardings, dtype='float32', order='first', **changes):
  w_tx = optax.adam(1e-2, eps_root=1e-12)
  a_tx = optax.adam(3e-2, b1=0.5)
  graphdef, state = search_state.make(
    Toy(dtype, nnx.Rngs(0)), shardings, w_tx=w_tx, a_tx=a_tx
  )
  levels = search_steps.Levels(
    graphdef=graphdef,
    loss=losses.CrossEntropy(),
    cost=cost,
    temperature=lambda step: jnp.asarray(1, dtype),
    w_tx=w_tx,
    a_tx=a_tx,
    order=order,
  )
  return dataclasses.replace(levels, **changes), state


def search(task, steps, devices=1, dtype='float32', batch=16, **changes):
  """State at the end and the metrics of the last step."""
  shardings = sharding.make(devices)
  levels, state = make(shardings, dtype, **changes)
  arch_step = search_steps.make_arch_step(levels, shardings)
  weight_step = search_steps.make_weight_step(levels, shardings)
  rng = np.random.default_rng(0)
  for _ in range(steps):
    train, valid = (
      sharding.put_batch(
        {k: v.astype(dtype) if k == 'wave' else v for k, v in data.items()},
        shardings,
      )
      for data in (task(rng, batch), task(rng, batch))
    )
    state, found = arch_step(state, train, valid)
    state, metrics = weight_step(state, train)
  return jax.device_get((state, found, metrics))


def shares_of(state):
  return np.asarray(jax.nn.softmax(state.arch['normal']['alpha'][0]))


@pytest.fixture(autouse=True)
def compiled_once(programs):
  # Optax multiplies by Python and integer scalars.
  with jax.numpy_dtype_promotion('standard'):
    yield


@pytest.mark.parametrize('order', ['first', 'exact'])
def test_a_necessary_operation_is_chosen(order):
  """Though it costs: nothing else can tell a ramp from its mirror image."""
  state, found, _ = search(ramps, 150, order=order, cost_weight=COST_WEIGHT)
  share_O = shares_of(state)
  assert OPERATIONS[share_O.argmax()] == 'std_conv_3' and share_O.max() > 0.8
  assert found['loss'] < 0.2


def test_a_costly_operation_that_is_not_necessary_is_not_chosen():
  state, found, _ = search(levels_of_loudness, 250, cost_weight=COST_WEIGHT)
  assert OPERATIONS[shares_of(state).argmax()] != 'std_conv_3'
  assert found['loss'] < 0.2 and found['cost'] < 0.2


def test_cost_and_entropy_are_added_to_the_validation_loss():
  levels, state = make(sharding.make(1))
  batch = ramps(np.random.default_rng(0), 16)
  batch['wave'] = batch['wave'].astype(np.float32)
  arch = {'normal': {'alpha': jnp.array([[0.3, -0.2, 1.0]])}}

  def total(**weights):
    loss = dataclasses.replace(levels, **weights).val_loss(state)
    return jax.jit(loss)(state.weights, arch, batch)

  plain, terms = total()
  weighed, _ = total(cost_weight=2.0, entropy_weight=3.0)
  expected = plain + 2 * terms['cost'] + 3 * terms['entropy']
  np.testing.assert_allclose(weighed, expected, rtol=1e-6)
  share = np.exp([0.3, -0.2, 1.0]) / np.exp([0.3, -0.2, 1.0]).sum()
  np.testing.assert_allclose(terms['cost'], share[2], rtol=1e-6)
  entropy = -np.sum(share * np.log(share)) / np.log(3)
  np.testing.assert_allclose(terms['entropy'], entropy, rtol=1e-6)


def test_four_devices_equal_one():
  """With sampled operations; other orders are in bilevel_test."""
  with jax.enable_x64(True):
    one, four = (
      search(ramps, 2, devices, 'float64', 8, gumbel=True) for devices in (1, 4)
    )
  for a, b in zip(*map(jax.tree.leaves, (one, four)), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_each_step_moves_its_own_level_alone():
  shardings = sharding.make(1)
  levels, state = make(shardings, order='exact', cost_weight=COST_WEIGHT)
  before = jax.device_get(state)
  rng = np.random.default_rng(0)
  train, valid = (
    sharding.put_batch(
      {k: v.astype(np.float32) if k == 'wave' else v for k, v in x.items()},
      shardings,
    )
    for x in (ramps(rng, 16), ramps(rng, 16))
  )
  state, _ = search_steps.make_arch_step(levels, shardings)(state, train, valid)
  middle = jax.device_get(state)
  for name in ('step', 'weights', 'batch_stats', 'w_opt'):
    kept = (getattr(x, name) for x in (before, middle))
    jax.tree.map(np.testing.assert_array_equal, *kept)
  assert (
    before.arch['normal']['alpha'] != middle.arch['normal']['alpha']
  ).all()
  state, _ = search_steps.make_weight_step(levels, shardings)(state, train)
  after = jax.device_get(state)
  for name in ('arch', 'a_opt'):
    kept = (getattr(x, name) for x in (middle, after))
    jax.tree.map(np.testing.assert_array_equal, *kept)
  assert after.step == 1
  for name in ('weights', 'batch_stats'):
    moved = jax.tree.map(
      lambda a, b: (a != b).any(), getattr(middle, name), getattr(after, name)
    )
    assert any(jax.tree.leaves(moved)), name


def test_samples_of_operations_differ_by_step_and_by_level():
  shardings = sharding.make(1)
  levels, state = make(shardings, gumbel=True)
  batch = ramps(np.random.default_rng(0), 8)
  batch['wave'] = batch['wave'].astype(np.float32)

  @jax.jit
  def loss(state):
    return levels.train_loss(state)(state.weights, state.arch, batch)[0]

  @jax.jit
  def valid(state):
    return levels.val_loss(state)(state.weights, state.arch, batch)[1]['loss']

  first, again = loss(state), loss(state)
  later = loss(state.replace(step=state.step + 1))
  assert first == again and first != later and first != valid(state)


# ------------------------------------------------------------ architecture ---
def test_entropy_is_one_for_equal_weights_and_zero_for_a_choice():
  equal = {'normal': {'alpha': np.zeros((5, 4))}}
  chosen = {'normal': {'alpha': 1e4 * np.eye(5, 4)[:4]}}
  np.testing.assert_allclose(architecture.entropy(equal), 1, rtol=1e-6)
  np.testing.assert_allclose(architecture.entropy(chosen), 0, atol=1e-6)


def test_shares_are_weights_of_operations_and_of_the_edges_of_a_node():
  rng = np.random.default_rng(0)
  arch = {'reduce': {'alpha': rng.normal(size=(9, 4)), 'beta': np.arange(9.0)}}
  found = architecture.shares(arch)['reduce']
  np.testing.assert_allclose(found['alpha'].sum(1), 1)
  for start, stop in ((0, 2), (2, 5), (5, 9)):
    own = np.exp(np.arange(stop - start))
    np.testing.assert_allclose(found['beta'][start:stop], own / own.sum())


def test_temperature_goes_by_a_constant_factor():
  at = functools.partial(
    architecture.temperature_at, begin=10, end=30, first=4.0, last=1.0
  )
  found = [float(at(step)) for step in (0, 10, 20, 30)]
  np.testing.assert_allclose(found, [4, 4, 2, 1], rtol=1e-6)


def test_the_temperature_reaches_training_and_evaluation():
  shardings = sharding.make(1)
  levels, state = make(shardings)
  alpha = jnp.array([[0.3, -0.2, 1.0]])
  state = state.replace(arch={'normal': {'alpha': alpha}})
  soft = architecture.sharpened(state.arch, 2.0)
  hot = dataclasses.replace(levels, temperature=lambda _: jnp.float32(2))
  batch = ramps(np.random.default_rng(0), 8)
  batch = {**batch, 'wave': batch['wave'].astype(np.float32)}
  found = [
    one.train_loss(state)(state.weights, arch, batch)[0]
    for one, arch in ((hot, state.arch), (levels, soft), (levels, state.arch))
  ]
  np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
  assert abs(found[0] - found[2]) > 1e-5
  batch |= {'index': np.arange(8), 'mask': np.ones(8, bool)}
  logits = [
    search_steps.make_eval_step(one, shardings)(
      (state.weights, arch, state.step), state.batch_stats, batch
    )[2]
    for one, arch in ((hot, state.arch), (levels, soft), (levels, state.arch))
  ]
  np.testing.assert_allclose(logits[0], logits[1], rtol=1e-5)
  assert not np.allclose(logits[0], logits[2], rtol=1e-4)


def test_sharpening_is_a_temperature():
  arch = {'normal': {'alpha': np.array([[0.0, 1.0]]), 'beta': np.zeros(1)}}
  sharp = architecture.sharpened(arch, 0.5)
  np.testing.assert_array_equal(sharp['normal']['alpha'], [[0.0, 2.0]])
  assert sharp['normal']['beta'] is arch['normal']['beta']
