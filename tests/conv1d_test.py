"""One-dimensional convolution, reflection, statistics over time, ReLU norm."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxspoof.blocks import layers
from jaxspoof.ops import conv1d, platform, relu_norm, time_stats


@pytest.fixture
def float64(programs):
  with jax.enable_x64(True):
    yield np.float64


def draw(*shapes, seed=0, dtype=np.float64):
  rng = np.random.default_rng(seed)
  drawn = [rng.normal(size=shape).astype(dtype) for shape in shapes]
  return jax.device_put(drawn)


def assert_same_gradients(ours, theirs, *arrays, twice=False):
  """Values, gradients of a loss with a weight for every output, second too."""

  def weights(y):
    return jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)

  def loss(function, *arrays):
    leaves = jax.tree.leaves(function(*arrays))
    return sum((weights(y) * jnp.sin(y)).sum() for y in leaves)

  def everything(function, *arrays):
    chosen = tuple(range(len(arrays)))
    one = functools.partial(loss, function)
    if not twice:
      return jax.value_and_grad(one, chosen)(*arrays)

    def slope(*arrays):
      grads = jax.grad(one, chosen)(*arrays)
      return sum(jnp.square(g).sum() for g in grads)

    return jax.value_and_grad(slope, chosen)(*arrays)

  found, wanted = jax.jit(
    lambda *arrays: [everything(f, *arrays) for f in (ours, theirs)]
  )(*arrays)
  for a, b in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
    assert a.dtype == b.dtype and a.shape == b.shape
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-10)


# -- convolution --------------------------------------------------------------

# name: x [B, N, I], kernel [K, I / groups, O], dilation, groups
CASES = {
  'first layer': ((2, 12, 6), (5, 6, 4), 1, 1),
  'dilated': ((2, 12, 4), (3, 4, 4), 4, 1),
  'one tap': ((2, 7, 5), (1, 5, 3), 1, 1),
  'one tap in groups': ((2, 7, 6), (1, 2, 9), 1, 3),
  'dilated in groups': ((2, 12, 4), (3, 2, 6), 2, 2),
  'even': ((2, 12, 4), (2, 4, 3), 3, 1),
  'one frame out': ((2, 9, 4), (3, 4, 2), 4, 1),
}


@pytest.mark.parametrize(
  'form', [contextlib.nullcontext, platform.accelerator_form]
)
@pytest.mark.parametrize('name', CASES)
def test_gradients_equal_those_of_xla(name, form, float64):
  x, kernel, dilation, groups = CASES[name]
  options = dict(dilation=dilation, groups=groups)
  ours = functools.partial(conv1d.conv1d, **options)
  theirs = functools.partial(conv1d.plain, **options)
  with form():
    assert_same_gradients(ours, theirs, *draw(x, kernel))


def test_second_derivative(float64):
  x, kernel, dilation, groups = CASES['dilated in groups']
  options = dict(dilation=dilation, groups=groups)
  ours = functools.partial(conv1d.conv1d, **options)
  theirs = functools.partial(conv1d.plain, **options)
  assert_same_gradients(ours, theirs, *draw(x, kernel), twice=True)


def test_convolution_by_a_loop(float64):
  x, kernel = draw((1, 9, 4), (3, 2, 6))
  got = conv1d.conv1d(x, kernel, dilation=2, groups=2)
  for frame in range(5):
    for out in range(6):
      own = slice(0, 2) if out < 3 else slice(2, 4)
      seen = np.asarray(x)[0, frame : frame + 5 : 2, own]
      wanted = (seen * np.asarray(kernel)[:, :, out]).sum()
      np.testing.assert_allclose(got[0, frame, out], wanted)


@pytest.mark.parametrize(
  'x, kernel, options, message',
  [
    ((2, 3), (1, 3, 4), {}, r'\[B, N, I\].*\[2, 3\]'),
    ((2, 3, 4), (1, 4, 4), dict(groups=2), r'groups=2'),
    ((2, 3, 4), (1, 2, 3), dict(groups=2), '3 channels out .* 2 groups'),
    ((2, 8, 4), (3, 4, 4), dict(dilation=4), '8 frames are too few.*least 9'),
  ],
)
def test_says_what_does_not_fit(x, kernel, options, message):
  with pytest.raises(ValueError, match=message):
    conv1d.conv1d(*draw(x, kernel, dtype=np.float32), **options)


def test_says_which_dtypes_differ():
  x, kernel = draw((1, 3, 4), (1, 4, 2), dtype=np.float32)
  with pytest.raises(ValueError, match='float32 and bfloat16'):
    conv1d.conv1d(x, kernel.astype(jnp.bfloat16))


# -- reflection ---------------------------------------------------------------


_reflect = jax.jit(conv1d.reflect, static_argnums=1)


def numpy_reflect(x, count):
  return np.pad(x, ((0, 0), (count, count), (0, 0)), 'reflect')


@pytest.mark.parametrize('count', [0, 1, 4])
def test_reflection(count, float64):
  (x,) = draw((2, 5, 3))
  wanted = numpy_reflect(np.asarray(x), count)
  np.testing.assert_array_equal(_reflect(x, count), wanted)
  everything = np.array([5, 5])
  np.testing.assert_array_equal(_reflect(x, count, everything), wanted)


def test_reflection_at_each_clips_own_end(float64):
  count = 3
  (x,) = draw((3, 8, 2))
  frames = np.array([8, 4, 6])

  def cut(y):
    return [y[i, : n + 2 * count] for i, n in enumerate(frames.tolist())]

  def alone(x):
    whole = [x[i : i + 1, :n] for i, n in enumerate(frames.tolist())]
    return [conv1d.reflect(clip, count)[0] for clip in whole]

  def together(x):
    return cut(conv1d.reflect(x, count, frames))

  assert_same_gradients(together, alone, x)
  noise = np.array(x)
  noise[1, 4:] = 7.0
  together = jax.jit(together)
  for a, b in zip(together(noise), together(x), strict=True):
    np.testing.assert_array_equal(a, b)


# -- statistics over time -----------------------------------------------------


def plain_stats(x, logits, mask):
  if mask is not None:
    logits = jnp.where(mask[..., None], logits, -jnp.inf)
  weight = jax.nn.softmax(logits, 1)
  mean = (weight * x).sum(1, keepdims=True)
  return mean, (weight * jnp.square(x - mean)).sum(1, keepdims=True)


@pytest.mark.parametrize('masked', [False, True])
@pytest.mark.parametrize('twice', [False, True])
def test_statistics_over_time(masked, twice, float64):
  x, logits = draw((2, 6, 3), (2, 6, 3))
  mask = jnp.arange(6)[None] < jnp.array([[6], [4]]) if masked else None
  assert_same_gradients(
    lambda x, y: time_stats.attentive_mean_and_variance(x, y, mask),
    lambda x, y: plain_stats(x, y, mask),
    x,
    logits,
    twice=twice,
  )
  assert_same_gradients(
    lambda x: time_stats.mean_and_variance(x, mask),
    lambda x: plain_stats(x, jnp.zeros_like(x), mask),
    x,
    twice=twice,
  )


def test_weights_of_any_size_are_finite():
  x, logits = draw((2, 6, 3), (2, 6, 3), dtype=np.float32)
  mean, var = time_stats.attentive_mean_and_variance(x, 1e4 * logits)
  chosen = np.take_along_axis(np.asarray(x), logits.argmax(1)[:, None], 1)
  np.testing.assert_allclose(mean, chosen, rtol=1e-6)
  assert np.abs(var).max() < 1e-6


# -- ReLU and normalisation ---------------------------------------------------


def plain_norm(x, offset, scale, bias, mask):
  r = jax.nn.relu(x + offset[None, None])
  where = None if mask is None else mask[..., None]
  mean = r.mean((0, 1), where=where)
  var = jnp.square(r - mean[None, None]).mean((0, 1), where=where)
  gain = (scale / jnp.sqrt(var + 1e-5))[None, None]
  return (r - mean[None, None]) * gain + bias[None, None]


@pytest.mark.parametrize('masked', [False, True])
def test_relu_and_normalisation(masked, float64):
  arrays = draw((3, 5, 4), (4,), (4,), (4,))
  mask = jnp.arange(5)[None] < jnp.array([[5], [2], [3]]) if masked else None

  near = jnp.array([0.0, 0.3, 0.5, -1.0])

  def ours(*arrays):
    return relu_norm.relu_batch_norm(*arrays, near, mask, 1e-5)[0]

  def theirs(*arrays):
    return plain_norm(*arrays, mask)

  assert_same_gradients(ours, theirs, *arrays)


def test_masked_statistics_are_those_of_the_valid_frames(float64):
  (x,) = draw((2, 5, 3))
  mask = jnp.array([[True] * 5, [True] * 2 + [False] * 3])
  kept = np.asarray(x)[np.asarray(mask)]
  zeros = jnp.zeros(3)
  calls = (
    (lambda norm: norm(x, mask), kept),
    (lambda norm: norm.after_relu(x, zeros, mask), np.maximum(kept, 0)),
  )
  for call, wanted in calls:
    norm = layers.BatchNorm(3, momentum=1.0, param_dtype='float64')
    y = call(norm)
    np.testing.assert_allclose(norm.mean[...], wanted.mean(0))
    np.testing.assert_allclose(norm.var[...], wanted.var(0, ddof=1))
    np.testing.assert_allclose(
      np.asarray(y)[np.asarray(mask)],
      (wanted - wanted.mean(0)) / np.sqrt(wanted.var(0) + 1e-5),
    )
