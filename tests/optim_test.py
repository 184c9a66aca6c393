"""Optimiser and loss against their definitions."""

import math

import jax
import numpy as np
import pytest

from jaxspoof import optim


@pytest.fixture(autouse=True)
def standard_promotion():
  """Optax multiplies by Python and integer scalars."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def first_update(tx, grads, params):
  update = lambda grads, params: tx.update(grads, tx.init(params), params)
  return jax.jit(update)(grads, params)


def test_schedule_is_the_cosine_of_the_original():
  config = optim.OptimConfig(learning_rate=1e-4, learning_rate_min=5e-6)
  schedule = jax.jit(optim.schedule(config, 100))
  for step in (0, 1, 37, 99):
    expected = 5e-6 + (1e-4 - 5e-6) * 0.5 * (1 + math.cos(math.pi * step / 100))
    np.testing.assert_allclose(float(schedule(step)), expected, rtol=1e-5)


def test_warmup_rises_to_the_peak_and_falls_to_the_minimum():
  config = optim.OptimConfig(
    learning_rate=1.0, learning_rate_min=0.1, warmup_steps=10
  )
  schedule = jax.jit(optim.schedule(config, 50))
  values = [float(schedule(step)) for step in range(51)]
  np.testing.assert_allclose(values[:11], np.linspace(0, 1, 11), atol=1e-6)
  assert np.all(np.diff(values[10:]) <= 0)
  np.testing.assert_allclose(values[50], 0.1, rtol=1e-5)


def test_warmup_longer_than_the_run_is_refused():
  with pytest.raises(ValueError, match=r'optim.warmup_steps=50 must be'):
    optim.schedule(optim.OptimConfig(warmup_steps=50), 50)


def test_adam_has_coupled_decay():
  """One step of Adam moves by lr * sign of (gradient + decay * weight)."""
  config = optim.OptimConfig(
    learning_rate=0.1, learning_rate_min=0.1, weight_decay=2.0
  )
  tx = optim.make(config, 10)
  params = {'w': np.array([1, -1, 3], np.float32)}
  grads = {'w': np.array([-1, 1, -7], np.float32)}
  updates, _ = first_update(tx, grads, params)
  # -1 + 2 = 1, 1 - 2 = -1, -7 + 6 = -1: first steps of Adam are signs.
  np.testing.assert_allclose(updates['w'], [-0.1, 0.1, 0.1], rtol=1e-5)


def test_clipping_bounds_the_gradient():
  clipped = optim.make(optim.OptimConfig(clip_norm=1.0, weight_decay=0.0), 9)
  free = optim.make(optim.OptimConfig(weight_decay=0.0), 9)
  params = {'w': np.zeros(2, np.float32)}
  grads = {'w': np.array([30, 40], np.float32)}
  _, state = first_update(clipped, grads, params)
  unit = {'w': np.array([0.6, 0.8], np.float32)}
  _, expected = first_update(free, unit, params)
  a, b = jax.tree.leaves(state), jax.tree.leaves(expected)
  for x, y in zip(a, b, strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-5)
