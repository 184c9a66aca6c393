"""Optimiser and loss against their definitions."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxspoof import optim


@pytest.fixture(autouse=True)
def standard_promotion():
  """Optax multiplies by Python and integer scalars."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def test_schedule_is_the_cosine_of_the_original():
  config = optim.OptimConfig(learning_rate=1e-4, learning_rate_min=5e-6)
  schedule = optim.schedule(config, 100)
  for step in (0, 1, 37, 99):
    expected = 5e-6 + (1e-4 - 5e-6) * 0.5 * (1 + math.cos(math.pi * step / 100))
    np.testing.assert_allclose(float(schedule(step)), expected, rtol=1e-5)


def test_warmup_rises_to_the_peak_and_falls_to_the_minimum():
  config = optim.OptimConfig(
    learning_rate=1.0, learning_rate_min=0.1, warmup_steps=10
  )
  values = [float(optim.schedule(config, 50)(s)) for s in range(51)]
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
  params = {'w': jnp.array([1.0, -1.0, 3.0])}
  grads = {'w': jnp.array([-1.0, 1.0, -7.0])}
  updates, _ = tx.update(grads, tx.init(params), params)
  # -1 + 2 = 1, 1 - 2 = -1, -7 + 6 = -1: first steps of Adam are signs.
  np.testing.assert_allclose(updates['w'], [-0.1, 0.1, 0.1], rtol=1e-5)


def test_clipping_bounds_the_gradient():
  clipped = optim.make(optim.OptimConfig(clip_norm=1.0, weight_decay=0.0), 9)
  free = optim.make(optim.OptimConfig(weight_decay=0.0), 9)
  params = {'w': jnp.zeros(2)}
  grads = {'w': jnp.array([30.0, 40.0])}
  _, state = clipped.update(grads, clipped.init(params), params)
  unit = {'w': jnp.array([0.6, 0.8])}
  _, expected = free.update(unit, free.init(params), params)
  a, b = jax.tree.leaves(state), jax.tree.leaves(expected)
  for x, y in zip(a, b, strict=True):
    np.testing.assert_allclose(x, y, rtol=1e-5)
