"""Tests of the fused normalisation and of the pooling: values, gradients."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxspoof.ops import norm, platform, pool


@pytest.fixture
def float64():
  with jax.enable_x64(True):
    yield np.float64


def draw(shape, seed=0, dtype=np.float64):
  return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def written_out(x, scale, bias, epsilon):
  """Batch normalisation and SELU as the papers have them."""
  axes = tuple(range(x.ndim - 1))
  shape = (1,) * len(axes) + (-1,)
  mean, var = x.mean(axes), x.var(axes)
  z = (x - mean.reshape(shape)) / jnp.sqrt(var + epsilon).reshape(shape)
  return jax.nn.selu(z * scale.reshape(shape) + bias.reshape(shape)), mean, var


FORMS = {'cpu': contextlib.nullcontext, 'gpu': platform.accelerator_form}


def batch_norm_selu(x, scale, bias, epsilon):
  """With a guess of the mean that is off by about a deviation."""
  near = jnp.full(x.shape[-1:], 17, scale.dtype)
  return norm.batch_norm_selu(x, scale, bias, near, epsilon)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('shape', [(4, 5, 7, 3), (4, 23, 10, 1), (6, 8)])
@pytest.mark.parametrize('epsilon', [1e-5, 0.1])
def test_norm_and_its_gradients(shape, epsilon, form, float64):
  x = 3 * draw(shape) + 20
  scale, bias = draw(shape[-1:], 1), draw(shape[-1:], 2)
  weight = draw(shape, 3)

  def loss(function, *arrays):
    y, mean, var = function(*arrays, epsilon)
    return (weight * jnp.sin(y)).sum(), (y, mean, var)

  with FORMS[form]():
    ours, theirs = (
      jax.jit(
        jax.value_and_grad(
          lambda *a, f=f: loss(f, *a), argnums=(0, 1, 2), has_aux=True
        )
      )(x, scale, bias)
      for f in (batch_norm_selu, written_out)
    )
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)


def test_no_gradient_flows_through_the_statistics():
  x, ones = draw((6, 3), dtype=np.float32), np.ones(3, np.float32)

  def statistics(x):
    _, mean, var = batch_norm_selu(x, ones, ones, 1e-5)
    return (mean + var).sum()

  assert not np.any(jax.jit(jax.grad(statistics))(x))


def test_norm_in_bfloat16_computes_in_float32():
  x = draw((4, 23, 50, 8), dtype=jnp.bfloat16)
  scale, bias = np.full((2, 8), [[0.7], [0.3]], np.float32)
  normalise = jax.jit(batch_norm_selu, static_argnums=3)
  y, mean, var = normalise(x, scale, bias, 1e-5)
  assert (y.dtype, mean.dtype, var.dtype) == (x.dtype, np.float32, np.float32)
  wide = x.astype(np.float32)
  exact = jax.jit(written_out)(wide, scale, bias, 1e-5)
  np.testing.assert_allclose(mean, exact[1], atol=1e-6)
  np.testing.assert_allclose(var, exact[2], rtol=1e-5)
  y, exact = np.asarray(y).astype(np.float32), exact[0]
  np.testing.assert_allclose(y, exact, rtol=2**-8, atol=1e-6)
  dy = draw(x.shape, 1, jnp.bfloat16)

  @jax.jit
  def gradient(x):
    return jax.vjp(lambda x: batch_norm_selu(x, scale, bias, 1e-5)[0], x)[1](
      dy.astype(x.dtype)
    )[0]

  got, wanted = jax.device_get((gradient(x), gradient(wide)))
  assert got.dtype == x.dtype
  np.testing.assert_allclose(got.astype(np.float32), wanted, atol=0.05)


@pytest.mark.parametrize('value', [-50.0, -1.0, -1e-4, 0.0, 1e-4, 2.0, 80.0])
def test_selu(value):
  got = norm.selu(jnp.float32(value))
  np.testing.assert_allclose(got, jax.nn.selu(jnp.float32(value)), atol=2e-7)


@jax.jit
def pool_and_gradient(x, dy):
  y, vjp = jax.vjp(lambda x: pool.max_pool_time(x, 3), x)
  return y, vjp(dy)[0], pool.max_pool_time(x, 3)


@pytest.mark.parametrize('frames', [1, 2, 3, 10, 11, 12])
@pytest.mark.parametrize('dtype', ['float64', 'float32', 'bfloat16'])
def test_pool_and_its_gradient(frames, dtype, float64):
  x = draw((2, 3, frames, 4)).astype(dtype)
  dy = draw((2, 3, frames // 3, 4), 1).astype(dtype)
  y, dx, again = jax.device_get(pool_and_gradient(x, dy))
  assert y.dtype == dx.dtype == x.dtype and dx.shape == x.shape
  assert y.shape == (2, 3, frames // 3, 4)
  np.testing.assert_array_equal(y, again)
  wanted = np.zeros_like(dx)
  for b, h, w, c in np.ndindex(y.shape):
    window = x[b, h, 3 * w : 3 * w + 3, c]
    assert y[b, h, w, c] == window.max()
    wanted[b, h, 3 * w + window.argmax(), c] = dy[b, h, w, c]
  np.testing.assert_array_equal(dx, wanted)


def test_pool_gives_ties_to_the_first():
  gradient = jax.jit(jax.grad(lambda x: pool.max_pool_time(x, 3).sum()))
  dx = np.asarray(gradient(np.zeros((1, 1, 7, 1), np.float32)))
  np.testing.assert_array_equal(dx[0, 0, :, 0], [1, 0, 0, 1, 0, 0, 0])


def test_sharded_batch_is_equal_and_only_sums_travel(float64):
  def loss(x, scale, bias):
    y, mean, var = batch_norm_selu(x, scale, bias, 1e-5)
    return jnp.sin(pool.max_pool_time(y, 3)).sum() + (mean * var).sum()

  function = jax.value_and_grad(loss, argnums=(0, 1, 2))
  arrays = draw((4, 5, 10, 3)), draw(3, 1), draw(3, 2)
  mesh = jax.make_mesh(
    (4,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  batch, whole = NamedSharding(mesh, P('data')), NamedSharding(mesh, P())
  sharded = jax.jit(
    function,
    in_shardings=(batch, whole, whole),
    out_shardings=(whole, (batch, whole, whole)),
  )
  text = sharded.lower(*arrays).compile().as_text()
  for collective in ('all-gather', 'all-to-all', 'collective-permute'):
    assert collective not in text
  got, wanted = sharded(*arrays), jax.jit(function)(*arrays)
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
    np.testing.assert_allclose(a, b, rtol=0, atol=1e-12)
