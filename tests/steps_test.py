"""The training step: one device, four devices, pmap, resuming, averaging."""

import functools
import re
import types
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxspoof import losses, models, optim
from jaxspoof.blocks import layers
from jaxspoof.ops import platform
from jaxspoof.training import sharding, state, steps

SMALL = dict(
  sinc_filters=12,
  sinc_taps=32,
  channels=(4, 6),
  gat_dims=(8, 8),
  freq_mask_limit=4,
)
LOSS = losses.CrossEntropy((0.1, 0.9))
BATCH = 8


@pytest.fixture(autouse=True)
def float64(programs):
  # Optax multiplies by Python and integer scalars.
  with jax.enable_x64(True), jax.numpy_dtype_promotion('standard'):
    yield


def batches(count):
  rng = np.random.default_rng(0)
  for _ in range(count):
    yield {
      'wave': rng.standard_normal((BATCH, 2000)),
      'label': rng.integers(0, 2, BATCH).astype(np.int32),
    }


def aasist(**changes):
  """A network that draws random numbers, of many kernels."""
  config, kind = models.variant(
    'aasist_l', **SMALL, dtype='float64', param_dtype='float64', **changes
  )
  return kind(config, rngs=nnx.Rngs(0))


masked = functools.partial(aasist, freq_mask=True)


class Plain(nnx.Module):
  """A network that draws none and is compiled in no time."""

  def __init__(self):
    linear = functools.partial(
      layers.linear, param_dtype='float64', rngs=nnx.Rngs(0)
    )
    self.first = linear(20, 6)
    self.second = linear(6, 5)
    self.last = linear(5, 2)
    self.norms = nnx.List(
      layers.BatchNorm(n, param_dtype='float64') for n in (6, 5)
    )

  def __call__(self, wave_BxT, rngs):
    del rngs
    h = wave_BxT.reshape(len(wave_BxT), -1, 20)
    h = jnp.tanh(self.norms[0](self.first(h)))
    # The offset is a bias that cancels in training.
    h = self.norms[1].then_selu(self.second(h), self.second.bias[...])
    return self.last(h.mean(1))

  def answer(self, **inputs):
    return types.SimpleNamespace(outputs=self(**inputs), auxiliary=None)


@functools.cache
def drawn(make):
  """The optimiser, the description of a model, and its first weights."""
  graphdef, *weights = state.split(make())
  tx = optim.make(optim.OptimConfig(learning_rate=1e-3), 10)
  return tx, graphdef, jax.device_get(weights)


def build(shardings, make):
  tx, graphdef, weights = drawn(make)
  create = jax.jit(
    functools.partial(state.create, tx=tx),
    out_shardings=shardings.replicated,
  )
  return graphdef, tx, create(*weights)


class Run(NamedTuple):
  """The state in the end, metrics of each step, the text of the program."""

  state: Any
  metrics: list[dict]
  text: str


@functools.cache  # programs and results are shared by tests
def run(devices, make):
  shardings = sharding.make(devices)
  graphdef, tx, now = build(shardings, make)
  step = steps.make_train_step(graphdef, tx, LOSS, 7, shardings)
  program, values = None, []
  for batch in batches(2):
    batch = sharding.put_batch(batch, shardings)
    program = program or step.lower(now, batch).compile()
    now, metrics = program(now, batch)
    values.append(jax.device_get(metrics))
  return Run(jax.device_get(now), values, program.as_text())


@functools.cache
def run_as_accelerators(devices, make):
  with platform.accelerator_form():
    return run.__wrapped__(devices, make)


def assert_equal_trees(a, b, tolerance):
  flat = zip(
    jax.tree_util.tree_leaves_with_path(a), jax.tree.leaves(b), strict=True
  )
  for (path, x), y in flat:
    np.testing.assert_allclose(
      x, y, rtol=tolerance, atol=tolerance, err_msg=jax.tree_util.keystr(path)
    )


def test_four_devices_equal_one():
  """With dropout and the frequency mask, which draw random numbers."""
  one, four = run(1, masked), run(4, masked)
  assert one.state.params['encoder'] is not None
  assert_equal_trees(one.metrics, four.metrics, 1e-12)
  assert_equal_trees(one.state, four.state, 1e-12)


def test_accelerators_take_the_same_step():
  """Their form of each kernel, in a whole step; also on four devices."""
  cpu = run(1, masked)
  one, four = (run_as_accelerators(n, masked) for n in (1, 4))
  assert_equal_trees(cpu.metrics, one.metrics, 1e-10)
  assert_equal_trees(one.metrics, four.metrics, 1e-12)
  # Adam makes of a rounding error in a gradient of zero a whole step: of the
  # weights what it has seen of the gradients is compared.
  seen = [optax.tree.get(found.state.opt, 'mu') for found in (one, cpu)]
  assert_equal_trees(*seen, 1e-8)
  assert_equal_trees(one.state.batch_stats, cpu.state.batch_stats, 1e-8)
  assert_equal_trees(one.state, four.state, 1e-12)


@pytest.mark.parametrize('form, most', [(run, 24), (run_as_accelerators, 21)])
def test_four_devices_tell_each_other_little(form, most):
  """Sums alone: two of a BatchNorm at once, the gradients in a few."""
  text = form(4, masked).text
  assert 'all-gather' not in text
  assert 0 < len(re.findall(r' all-reduce(?:-start)?\(', text)) <= most


def test_pmap_agrees(monkeypatch):
  """The step as it was written before jit could shard: local, then pmean."""
  expected = run(4, Plain)
  shardings = sharding.make(1)
  graphdef, tx, now = build(shardings, Plain)
  monkeypatch.setattr(layers.BatchNorm, '__call__', synchronised)
  monkeypatch.setattr(layers.BatchNorm, 'then_selu', synchronised_then_selu)

  def local_step(now, batch):
    def objective(params):
      model = state.merge(graphdef, params, now.batch_stats)
      logits = model(batch['wave'], rngs=steps.step_rngs(7, now.step))
      nll = -jnp.take_along_axis(
        jax.nn.log_softmax(logits), batch['label'][:, None], axis=1
      )[:, 0]
      weight = jnp.where(batch['label'] == 1, 0.9, 0.1).astype(nll.dtype)
      total = jax.lax.psum(weight.sum(), 'data')
      # The mean over devices of `value` is the loss of the whole batch.
      value = 4 * (weight * nll).sum() / total
      return jax.lax.pmean(value, 'data'), state.batch_stats_of(model)

    (value, stats), grads = jax.value_and_grad(objective, has_aux=True)(
      now.params
    )
    grads = jax.lax.pmean(grads, 'data')
    updates, opt = tx.update(grads, now.opt, now.params)
    now = now.replace(
      step=now.step + 1,
      params=optax.apply_updates(now.params, updates),
      batch_stats=stats,
      opt=opt,
    )
    return now, {'loss': value, 'grad_norm': optax.tree.norm(grads)}

  step = jax.pmap(
    local_step, axis_name='data', in_axes=(None, 0), out_axes=None
  )
  metrics = []
  for batch in batches(2):
    shards = {k: v.reshape(4, -1, *v.shape[1:]) for k, v in batch.items()}
    now, values = step(now, shards)
    metrics.append(jax.device_get(values))
  assert_equal_trees(expected.metrics, metrics, 1e-12)
  assert_equal_trees(expected.state, jax.device_get(now), 1e-12)


def synchronised(self, x):
  """BatchNorm with the statistics of all devices, by explicit pmean."""
  axes = tuple(range(x.ndim - 1))
  wide = lambda v: v.reshape((1,) * len(axes) + (-1,))
  mean = jax.lax.pmean(x.mean(axes), 'data')
  var = jax.lax.pmean(jnp.square(x - wide(mean)).mean(axes), 'data')
  self._update(mean, var, 4 * x.size // x.shape[-1])
  scale = wide(self.scale[...] / jnp.sqrt(var + self.epsilon))
  return (x - wide(mean)) * scale + wide(self.bias[...])


def synchronised_then_selu(self, x, offset_C=None):
  if offset_C is not None:
    x = x + offset_C.reshape((1,) * (x.ndim - 1) + (-1,))
  return jax.nn.selu(synchronised(self, x))


def test_each_step_has_chance_of_its_own():
  draws = [
    float(jax.random.uniform(stream()))
    for seed in (0, 1)
    for step in (0, 1)
    for rngs in [steps.step_rngs(seed, jnp.int32(step))]
    for stream in (rngs.dropout, rngs.mask)
  ]
  assert len(set(draws)) == 2 * 2 * 2


def test_average_is_the_mean_of_the_weights():
  now = jax.device_get(build(sharding.make(1), Plain)[2])
  now = now.replace(average=jax.tree.map(np.zeros_like, now.params))
  shifted = [
    now.replace(params=jax.tree.map(lambda x, k=k: x + k, now.params))
    for k in (1.0, 2.0, 6.0)
  ]
  average, count = now.average, now.averaged
  for other in shifted:
    result = steps.add_to_average(
      other.replace(average=average, averaged=count)
    )
    average, count = result.average, result.averaged
  assert int(count) == 3
  assert_equal_trees(
    average, jax.tree.map(lambda x: x + 3.0, now.params), 1e-12
  )


def test_statistics_of_averaged_weights_are_means_over_batches():
  shardings = sharding.make(4)
  graphdef, _, now = build(shardings, aasist)
  stats_step = steps.make_stats_step(graphdef, 7, shardings)
  stats, singles = now.batch_stats, []
  for n, batch in enumerate(batches(3)):
    batch = sharding.put_batch(batch, shardings)
    count = jnp.asarray(n, jnp.int32)
    # Two programs at once, both with collectives, can wait for each other
    # for ever where virtual devices share the threads of a CPU.
    stats = jax.block_until_ready(stats_step(now.params, stats, count, batch))
    singles.append(single_batch_statistics(graphdef, now, n, batch))
  mean = jax.tree.map(lambda *x: np.mean(x, axis=0), *singles)
  assert_equal_trees(jax.device_get(stats), mean, 1e-12)


def single_batch_statistics(graphdef, now, n, batch):
  """Statistics of one batch alone, solved from the usual update."""
  new = updated_statistics(
    graphdef, now.params, now.batch_stats, batch['wave'], jnp.asarray(n)
  )
  old, new = jax.device_get((now.batch_stats, new))
  return jax.tree.map(lambda old, new: (new - 0.9 * old) / 0.1, old, new)


@functools.partial(jax.jit, static_argnums=0)
def updated_statistics(graphdef, params, batch_stats, wave, n):
  model = state.merge(graphdef, params, batch_stats)
  model(wave, rngs=steps.step_rngs(7, n.astype(jnp.int32)))
  return state.batch_stats_of(model)


def test_batch_that_devices_cannot_share_is_refused():
  four = sharding.make(4)
  with pytest.raises(ValueError, match=r'data.batch=10 is not divisible by th'):
    sharding.check_batch(10, four, 'data.batch')
  with pytest.raises(ValueError, match=r'use 8 or 12'):
    sharding.check_batch(10, four, 'data.batch')
  sharding.check_batch(12, four, 'data.batch')


def test_more_devices_than_there_are_is_refused():
  with pytest.raises(ValueError, match=r'mesh.devices=9, but only 4 cpu'):
    sharding.make(9)
