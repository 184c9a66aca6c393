"""Tests of the convolution: values, gradients, dtypes, sharding, messages."""

import contextlib
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from jaxspoof.ops import conv, platform

IN = ((1, 1), (1, 1))  # first convolution of a residual block
OUT = ((0, 0), (1, 1))  # the second, and the shortcut

# name: x [B, H, W, I], kernel [h, w, I, O], padding
CASES = {
  'block 1, first': ((4, 23, 50, 1), (2, 3, 1, 32), IN),
  'block 1, second': ((4, 24, 50, 32), (2, 3, 32, 32), OUT),
  'block 1, shortcut': ((4, 23, 50, 1), (1, 3, 1, 32), OUT),
  'block 3, first': ((4, 23, 17, 32), (2, 3, 32, 64), IN),
  'block 3, shortcut': ((4, 23, 17, 32), (1, 3, 32, 64), OUT),
  'block 6, first': ((4, 23, 10, 64), (2, 3, 64, 64), IN),
  'block 6, second': ((4, 24, 10, 64), (2, 3, 64, 64), OUT),
  'last frame': ((4, 23, 1, 64), (2, 3, 64, 64), IN),
  'narrow': ((8, 23, 65, 16), (2, 3, 16, 24), IN),
  'one by one': ((4, 5, 7, 3), (1, 1, 3, 2), ((0, 0), (0, 0))),
  'unequal padding': ((4, 6, 9, 2), (3, 4, 2, 5), ((0, 2), (3, 1))),
  'too much padding': ((4, 3, 4, 30), (2, 3, 30, 5), ((2, 1), (4, 3))),
  'frames taken away': ((4, 6, 9, 2), (2, 3, 2, 5), ((1, 1), (1, -1))),
  'few, taken away': ((4, 6, 9, 1), (2, 3, 1, 5), ((0, 0), (-1, -2))),
  'kernel as image': ((4, 2, 3, 24), (2, 3, 24, 5), ((0, 0), (0, 0))),
}


@pytest.fixture
def float64():
  with jax.enable_x64(True):
    yield np.float64


def draw(shapes, dtype=np.float64, seed=0):
  rng = np.random.default_rng(seed)
  arrays = [rng.normal(size=shape).astype(dtype) for shape in shapes]
  return jax.device_put(arrays)


def plain(x, kernel, bias, padding):
  y = jax.lax.conv_general_dilated(
    x, kernel, (1, 1), padding, dimension_numbers=('NHWC', 'HWIO', 'NHWC')
  )
  return y + bias[None, None, None]


def value_and_gradients(function, padding, x, kernel, bias):
  """Loss with a different weight for every output, and all its gradients."""

  def loss(x, kernel, bias):
    y = function(x, kernel, bias, padding=padding)
    weight = jnp.cos(jnp.arange(y.size).astype(y.dtype)).reshape(y.shape)
    return (weight * jnp.sin(y)).sum()

  return jax.value_and_grad(loss, argnums=(0, 1, 2))(x, kernel, bias)


def assert_close(ours, theirs, tolerance):
  for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
    assert a.dtype == b.dtype and a.shape == b.shape
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert np.abs(a - b).max() <= tolerance * max(1, np.abs(b).max())


@functools.cache
def theirs_of(name):
  """What XLA makes of a case: its convolutions of float64 take long on CPUs."""
  x, kernel, padding = CASES[name]
  arrays = draw([x, kernel, kernel[-1:]])
  theirs = jax.jit(functools.partial(value_and_gradients, plain, padding))
  return arrays, theirs(*arrays)


@pytest.mark.parametrize('piece', [3, conv._PIECE, 'accelerators'])
@pytest.mark.parametrize('name', CASES)
def test_gradients_equal_those_of_xla(name, piece, float64, monkeypatch):
  form = contextlib.nullcontext()
  if piece == 'accelerators':
    form = platform.accelerator_form()
  else:
    monkeypatch.setattr(conv, '_PIECE', piece)
  arrays, theirs = theirs_of(name)
  padding = CASES[name][-1]
  ours = jax.jit(functools.partial(value_and_gradients, conv.conv2d, padding))
  with form:
    ours = ours(*arrays)
  assert_close(ours, theirs, 1e-10)


@pytest.mark.parametrize('name', sorted({*CASES} - {'too much padding'}))
def test_gpus_have_a_library_for_the_gradients(name):
  """XLA's GPU compiler has none where padding is unequal or negative."""
  shape, kernel, padding = CASES[name]
  function = functools.partial(value_and_gradients, conv.conv2d, padding)
  arrays = draw([shape, kernel, kernel[-1:]], np.float32)
  lowered = jax.jit(function).trace(*arrays).lower(lowering_platforms=('cuda',))
  program = lowered.as_text()
  found = re.findall(r'pad = \[(\[.*?\])\]', program)
  assert len(found) == (3 if kernel[2] > 1 else 0)
  for pads in found:
    before, after = zip(*re.findall(r'\[(-?\d+), (-?\d+)\]', pads), strict=True)
    assert before == after and '-' not in ''.join(before), (name, pads)
  # XLA would make padding again of zeros that a convolution is handed at once.
  made_by = {}
  for line in program.splitlines():
    if made := re.match(r'\s*(%\w+) = stablehlo.(\w+)(.*)', line):
      value, operation, rest = made.groups()
      if operation == 'convolution':
        handed = re.match(r'\((%\w+), (%\w+)\)', rest).groups()
        assert 'pad' not in map(made_by.get, handed), (name, line)
      made_by[value] = operation


def test_without_jit_and_without_bias(float64):
  x, kernel, padding = CASES['block 1, shortcut']
  x, kernel = draw([x, kernel])
  zeros = jnp.zeros(kernel.shape[-1:])
  ours = jax.vjp(lambda *a: conv.conv2d(*a, padding=padding), x, kernel)
  theirs = jax.vjp(lambda *a: plain(*a, zeros, padding), x, kernel)
  assert_close(ours[0], theirs[0], 1e-12)
  assert_close(ours[1](ours[0]), theirs[1](theirs[0]), 1e-10)


def test_second_derivative(float64):
  x, kernel, padding = CASES['unequal padding']
  arrays = draw([x, kernel, kernel[-1:]])

  def norm_of_gradient(function, *arrays):
    _, gradients = value_and_gradients(function, padding, *arrays)
    return sum(jnp.square(g).sum() for g in gradients)

  def twice(function):
    return jax.jit(
      jax.grad(functools.partial(norm_of_gradient, function), (0, 1, 2))
    )

  assert_close(twice(conv.conv2d)(*arrays), twice(plain)(*arrays), 1e-10)


@pytest.mark.parametrize(
  'dtype, tolerance', [('float32', 2e-6), ('bfloat16', 2e-2)]
)
def test_lower_precision(dtype, tolerance):
  x, kernel, padding = CASES['block 1, second']
  x, kernel = draw([x, kernel], dtype)
  _, vjp = jax.vjp(lambda *a: conv.conv2d(*a, padding=padding), x, kernel)
  dy = draw([(4, 23, 50, 32)], dtype, seed=1)[0]
  ours = vjp(dy)
  with jax.enable_x64(True):
    exact = [jnp.asarray(np.asarray(a, np.float64)) for a in (x, kernel)]
    zeros = jnp.zeros(kernel.shape[-1:], np.float64)
    _, vjp = jax.vjp(lambda *a: plain(*a, zeros, padding), *exact)
    theirs = vjp(jnp.asarray(np.asarray(dy, np.float64)))
  for a, b in zip(ours, theirs, strict=True):
    assert a.dtype == dtype
    a, b = np.asarray(a, np.float64), np.asarray(b)
    assert np.abs(a - b).max() <= tolerance * np.abs(b).max()


@pytest.mark.parametrize(
  'name', ['block 1, first', 'block 1, second', 'block 3, shortcut', 'narrow']
)
def test_sharded_batch_is_equal_and_stays_where_it_is(name, float64):
  x, kernel, padding = CASES[name]
  arrays = draw([x, kernel, kernel[-1:]])
  mesh = jax.make_mesh(
    (4,), ('data',), axis_types=(jax.sharding.AxisType.Auto,)
  )
  batch, whole = NamedSharding(mesh, P('data')), NamedSharding(mesh, P())
  function = functools.partial(value_and_gradients, conv.conv2d, padding)
  sharded = jax.jit(
    function,
    in_shardings=(batch, whole, whole),
    out_shardings=(whole, (batch, whole, whole)),
  )
  compiled = sharded.lower(*arrays).compile()
  for collective in ('all-gather', 'all-to-all', 'collective-permute'):
    assert collective not in compiled.as_text()
  assert_close(sharded(*arrays), jax.jit(function)(*arrays), 1e-12)


@pytest.mark.parametrize(
  'x, kernel, bias, padding, message',
  [
    ((2, 3, 4), (2, 3, 1, 5), (5,), IN, r'\[B, H, W, I\].*\[2, 3, 4\]'),
    ((2, 3, 4, 2), (2, 3, 1, 5), (5,), IN, r'kernel \[h, w, I, O\]'),
    ((2, 3, 4, 1), (2, 3, 1, 5), (4,), IN, r'bias \[5\], got \[4\]'),
    ((2, 3, 4, 1), (2, 3, 1, 5), (5,), ((0, 0),), r'of height and width, got'),
    ((2, 1, 4, 1), (2, 3, 1, 5), (5,), OUT, r'height 1 padded by \(0, 0\)'),
  ],
)
def test_says_what_does_not_fit(x, kernel, bias, padding, message):
  with pytest.raises(ValueError, match=message):
    conv.conv2d(*draw([x, kernel, bias], np.float32), padding=padding)


def test_says_which_dtypes_differ():
  x, kernel = draw([(1, 3, 4, 1), (2, 3, 1, 5)], np.float32)
  with pytest.raises(ValueError, match='bfloat16, float32'):
    conv.conv2d(x, kernel.astype(jnp.bfloat16), padding=IN)
