"""Search spaces: every operation, and the kernels they run on."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxspoof.darts import spaces
from jaxspoof.darts.network import mixture
from jaxspoof.darts.network.cell import Cell, CellSpec, Edge, Mix
from jaxspoof.darts.spaces import OPERATIONS, SPACES, Space
from jaxspoof.ops import windows
from jaxspoof.ops.windows import Window

WIDTH = 4

pytestmark = pytest.mark.usefixtures('programs')


def _draw(shape, seed=0, dtype=np.float32):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


# -- spaces -------------------------------------------------------------------


def test_spaces_name_what_exists():
  for name, space in SPACES.items():
    assert spaces.space(name) is space and space.name == name
    for operation in space.operations:
      assert OPERATIONS[operation].dims in (0, space.dims)
    for group, members in space.shared:
      assert {space.kernels_of(m) for m in members} == {group}
  assert len(SPACES['light'].operations) * 2 == len(SPACES['darts'].operations)
  # Every operation is in a space, so that the test below reaches it.
  assert {o for s in SPACES.values() for o in s.operations} == set(OPERATIONS)


def test_unknown_names():
  with pytest.raises(
    ValueError, match="'lite' is not known.*darts, light, raw"
  ):
    spaces.space('lite')
  light = SPACES['light']
  with pytest.raises(ValueError, match="'conv' is not known.*mfm_conv_3x3"):
    dataclasses.replace(light, operations=('conv',))
  with pytest.raises(ValueError, match="'none' must come first"):
    dataclasses.replace(light, operations=('skip_connect', 'none'))


# -- operations, written out --------------------------------------------------


def _reference(space: Space, cell, name, x, row, stride):
  """An operation on one edge, in numpy, from the papers' description."""
  operation, dims = OPERATIONS[name], space.dims
  if operation.pool:
    fill = -np.inf if operation.pool == 'max' else np.nan
    seen = _patches(x, 3, stride, 1, dims, fill)
    y = seen.max(3) if operation.pool == 'max' else np.nanmean(seen, 3)
    return _normalised(y)
  chain = operation.units
  if operation.identity:
    if stride == 1:
      return x
    chain = (space.projection,)
  for i, unit in enumerate(chain):
    if unit.before:
      x = np.maximum(x, 0 if unit.before == 'relu' else 0.3 * x)
    key = f'{space.kernels_of(name)}_s{stride}_u{i}'
    kernels = cell.kernels[key]
    step = stride if i == 0 else 1
    seen = _patches(x, unit.size, step, unit.dilation, dims, 0)
    kernel = np.asarray(kernels.kernel[...][row])
    if unit.depthwise:
      y = (seen * kernel.reshape(-1, kernel.shape[-1])).sum(3)
      y = y @ np.asarray(kernels.point[...][row])
    else:
      kernel = kernel.reshape(-1, *kernel.shape[2:])
      y = np.einsum('bhwti,tio->bhwo', seen, kernel)
    if unit.mfm:
      y = np.maximum(y[..., :WIDTH], y[..., WIDTH:])
    x = _normalised(y)
  return x


def _patches(x, size, stride, dilation, dims, fill):
  """What each tap sees, `[B, H', W', taps, C]`."""
  half = dilation * (size - 1) // 2
  up = half if dims == 2 else 0
  x = np.pad(x, ((0, 0), (up, up), (half, half), (0, 0)), constant_values=fill)
  rows = range(0, x.shape[1] - 2 * up, stride if dims == 2 else 1)
  frames = range(0, x.shape[2] - 2 * half, stride)
  return np.stack(
    [
      np.stack(
        [
          x[:, h : h + 2 * up + 1 : dilation, w : w + 2 * half + 1 : dilation]
          for w in frames
        ],
        1,
      )
      for h in rows
    ],
    1,
  ).reshape(len(x), len(rows), len(frames), -1, x.shape[-1])


def _normalised(x):
  return (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)


@pytest.mark.parametrize(
  'name, operation',
  [(s.name, o) for s in SPACES.values() for o in s.choices],
)
def test_operation(name, operation):
  space = spaces.space(name)
  height = 5 if space.dims == 2 else 1
  x = _draw((2, height, 7, WIDTH))
  # Two edges from state 0, so that both are computed at once.
  edges = (Edge(0, 2, operation), Edge(0, 3, operation))
  for reduction in (False, True):
    spec = CellSpec((WIDTH, WIDTH), WIDTH, reduction, False)
    options = dict(affine=False, pool_norm=True, rngs=nnx.Rngs(0))
    cell = Cell(space, edges, (2, 3), spec, **options)
    weight = jnp.asarray([0.5, 2.0])
    mix = Mix({operation: weight}, {})
    sums, stride = {}, 2 if reduction and space.strided else 1
    cell._spread(0, x, mix, None, sums, {})
    for row in (0, 1):
      (got,) = sums[row + 2]
      wanted = _reference(space, cell, operation, np.asarray(x), row, stride)
      np.testing.assert_allclose(
        got, weight[row] * wanted, rtol=1e-3, atol=1e-4
      )


def test_partial_connections_leave_channels_alone():
  space = spaces.space('darts')
  edges = tuple(Edge(s, 2, 'avg_pool_3x3') for s in (0, 1))
  for reduction in (False, True):
    spec = CellSpec((8, 8), 8, reduction, False)
    options = dict(affine=False, pool_norm=True, rngs=nnx.Rngs(0))
    cell = Cell(space, edges, (2,), spec, partial=4, **options)
    assert cell.width == 2
    mix = Mix(
      {'avg_pool_3x3': jnp.asarray([0.2, 0.7])},
      {(0, 2): jnp.asarray(0.4), (1, 2): jnp.asarray(1.6)},
    )
    first, second = _draw((2, 5, 7, 8)), _draw((2, 5, 7, 8), 1)
    rest = 0
    for x, project, weight in (
      (first, cell.projection0, 0.4),
      (second, cell.projection1, 1.6),
    ):
      x = np.asarray(project(x))[..., 2:]
      if reduction:
        x = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-np.inf)
        x = x.reshape(2, 3, 2, 4, 2, 6).max((2, 4))
      rest += weight * x
    got = np.asarray(cell(first, second, mix))
    # Channel c * 4 + k of the output was channel c of part k.
    parts = got.reshape(*got.shape[:3], 2, 4).swapaxes(3, 4)
    np.testing.assert_allclose(
      parts[..., 1:, :].reshape(rest.shape), rest, rtol=1e-4, atol=1e-5
    )


# -- kernels ------------------------------------------------------------------

WINDOWS = [
  Window((3, 3)),
  Window((5, 3), dilation=(2, 1)),
  Window((3, 5), stride=(2, 2), dilation=(1, 2)),
  Window((1, 3), stride=(1, 2)),
]


def _same_gradients(ours, theirs, *arrays):
  """Values, gradients and gradients of gradients, in float64."""

  def loss(function, *arrays):
    return jnp.sin(function(*arrays)).sum()

  def second(function, *arrays):
    which = tuple(range(len(arrays)))
    grads = jax.grad(lambda *a: loss(function, *a), which)(*arrays)
    return sum(jnp.square(g).sum() for g in grads)

  which = tuple(range(len(arrays)))
  got, wanted = (
    jax.jit(
      lambda *a, f=f: (
        f(*a),
        jax.grad(lambda *a: loss(f, *a), which)(*a),
        jax.grad(lambda *a: second(f, *a), which)(*a),
      )
    )(*arrays)
    for f in (ours, theirs)
  )
  for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('window', WINDOWS)
def test_convolutions_against_xla(window):
  with jax.enable_x64(True):
    x = _draw((2, 6, 7, 3), dtype=np.float64)
    _same_gradients(
      lambda x, k: windows.depthwise(x, k, window),
      lambda x, k: windows.depthwise_xla(x, k, window=window),
      x,
      _draw((*window.size, 3), 1, np.float64),
    )


@pytest.mark.parametrize('window', [WINDOWS[0], WINDOWS[3]])
def test_pooling_against_xla(window):
  pads = ((0, 0), *((half, half) for half in window.half), (0, 0))

  def reduced(x, function, start):
    return jax.lax.reduce_window(
      x, start, function, (1, *window.size, 1), (1, *window.stride, 1), pads
    )

  def mean(x):
    total, count = (reduced(v, jax.lax.add, 0.0) for v in (x, jnp.ones_like(x)))
    return total / count

  with jax.enable_x64(True):
    x = _draw((2, 6, 7, 3), dtype=np.float64)
    _same_gradients(lambda x: windows.mean_pool(x, window), mean, x)
    ours, theirs = (
      jax.jit(jax.value_and_grad(lambda x, f=f: jnp.sin(f(x)).sum()))(x)
      for f in (
        lambda x: windows.max_pool(x, window),
        lambda x: reduced(x, jax.lax.max, -jnp.inf),
      )
    )
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=1e-12)


def test_the_first_of_equal_maxima_takes_the_gradient():
  x = jnp.zeros((1, 1, 3, 1))
  grad = jax.grad(lambda x: windows.max_pool(x, Window((1, 3))).sum())(x)
  np.testing.assert_array_equal(grad[0, 0, :, 0], [2, 1, 0])


def test_normalised_sum_and_its_gradients():
  def written_out(first, second, gains):
    total = 0
    for x, gain in zip((first, second), gains, strict=True):
      mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
      x = (x - mean[None, None, None]) / jnp.sqrt(var + 0.1)[None, None, None]
      total += x * gain[None, None, None]
    return total

  def ours(first, second, gains):
    return mixture.normalised_sum((first, second), tuple(gains), 0.1)[0]

  with jax.enable_x64(True):
    images = [3 * _draw((2, 4, 5, 3), s, np.float64) + 5 for s in (0, 1)]
    gains = _draw((2, 3), 2, np.float64)
    _same_gradients(ours, written_out, *images, gains)
