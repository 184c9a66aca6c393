"""Sliding windows over images: convolution and pooling, fast on CPU.

XLA on CPU takes forty times as long for a depthwise convolution as for as many
multiplications elsewhere, and ten times as long for the gradient of a maximum
over windows as for the maximum. Here both are sums and maxima of shifted
images, in one pass over memory, and so are their gradients. GPUs and TPUs run
XLA's own convolutions.

A window is `size[0]` by `size[1]` taps, `dilation` apart, and moves by
`stride`; both sizes are odd and zeros of half a window surround the image, so
that H by W become ceil(H / stride) by ceil(W / stride). Differentiable in
reverse mode, any number of times.

Letters in names: B batch, H height (frequency), W width (time), C channels, I
channels in, O channels out.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxspoof import arithmetic
from jaxspoof.ops import platform


class Window(NamedTuple):
  """Taps along height and width, steps between windows and between taps."""

  size: tuple[int, int]
  stride: tuple[int, int] = (1, 1)
  dilation: tuple[int, int] = (1, 1)

  @property
  def half(self) -> tuple[int, int]:
    """Zeros before and after, for height and width."""
    return tuple(
      d * (s - 1) // 2 for s, d in zip(self.size, self.dilation, strict=True)
    )

  @property
  def taps(self) -> list[tuple[int, int]]:
    """Row and column of each tap in the padded image, row by row."""
    (height, width), (down, right) = self.size, self.dilation
    return [(i * down, j * right) for i in range(height) for j in range(width)]

  def out(self, height: int, width: int) -> tuple[int, int]:
    """Height and width of what comes out."""
    return -(-height // self.stride[0]), -(-width // self.stride[1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def depthwise(
  x_BxHxWxC: jax.Array, kernel_HxWxC: jax.Array, window: Window
) -> jax.Array:
  """Correlates each channel with a kernel of its own.

  Args:
    x_BxHxWxC: images, floating point.
    kernel_HxWxC: kernels `[*window.size, C]`, in the dtype of the images.
    window: strides and dilation.

  Returns:
    `[B, H', W', C]` in the dtype of the images.
  """
  return platform.choose(
    x_BxHxWxC,
    kernel_HxWxC,
    cpu=functools.partial(depthwise_by_shifts, window=window),
    default=functools.partial(depthwise_xla, window=window),
  )


@functools.partial(jax.jit, static_argnames='window')
def depthwise_by_shifts(x_BxHxWxC, kernel_HxWxC, *, window: Window):
  """`depthwise` as a sum of shifted images."""
  kernel_MxC = kernel_HxWxC.reshape(-1, kernel_HxWxC.shape[-1])
  shifted = _shifted(x_BxHxWxC, window, 0)
  with arithmetic.sums_of_products():
    products = [
      x * k[None, None, None] for x, k in zip(shifted, kernel_MxC, strict=True)
    ]
  return functools.reduce(jnp.add, products)


def depthwise_xla(x_BxHxWxC, kernel_HxWxC, *, window: Window):
  """`depthwise` as XLA's grouped convolution."""
  kernel_HxWx1xC = kernel_HxWxC[:, :, None]
  return convolve(x_BxHxWxC, kernel_HxWx1xC, window, groups=x_BxHxWxC.shape[-1])


def _depthwise_forward(x_BxHxWxC, kernel_HxWxC, window: Window):
  return depthwise(x_BxHxWxC, kernel_HxWxC, window), (x_BxHxWxC, kernel_HxWxC)


def _depthwise_backward(window: Window, residuals, dy_BxHxWxC):
  return platform.choose(
    *residuals,
    dy_BxHxWxC,
    cpu=functools.partial(_depthwise_gradients, window=window),
    default=functools.partial(_depthwise_gradients_xla, window=window),
  )


depthwise.defvjp(_depthwise_forward, _depthwise_backward)


@functools.partial(jax.jit, static_argnames='window')
def _depthwise_gradients(x_BxHxWxC, kernel_HxWxC, dy_BxHxWxC, *, window):
  kernel_MxC = kernel_HxWxC.reshape(-1, kernel_HxWxC.shape[-1])
  shape = x_BxHxWxC.shape[1:3]
  if window.stride == (1, 1):
    # The same sum with the turned kernel reads dy as often, writes dx once.
    turned_HxWxC = kernel_HxWxC[::-1, ::-1]
    dx = depthwise_by_shifts(dy_BxHxWxC, turned_HxWxC, window=window)
  else:
    parts = [dy_BxHxWxC * k[None, None, None] for k in kernel_MxC]
    dx = _put_back(parts, window, shape)
  dk_MxC = _over_taps(
    lambda x: (x * dy_BxHxWxC).sum(
      (0, 1, 2), dtype=np.promote_types(x.dtype, np.float32)
    ),
    x_BxHxWxC,
    window,
  )
  return dx, dk_MxC.astype(kernel_HxWxC.dtype).reshape(kernel_HxWxC.shape)


def _depthwise_gradients_xla(x_BxHxWxC, kernel_HxWxC, dy_BxHxWxC, *, window):
  function = functools.partial(depthwise_xla, window=window)
  return jax.vjp(function, x_BxHxWxC, kernel_HxWxC)[1](dy_BxHxWxC)


def convolve(x_BxHxWxI, kernel_HxWxIxO, window: Window, *, groups: int = 1):
  """XLA's convolution with zeros of half a window around the image."""
  return jax.lax.conv_general_dilated(
    x_BxHxWxI,
    kernel_HxWxIxO,
    window_strides=window.stride,
    padding=[(half, half) for half in window.half],
    rhs_dilation=window.dilation,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    feature_group_count=groups,
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool(x_BxHxWxC: jax.Array, window: Window) -> jax.Array:
  """Maximum over windows; what lies outside the image never wins.

  The gradient goes to the first of equal maxima, row by row, as in PyTorch.

  Args:
    x_BxHxWxC: floating point.
    window: size and strides.

  Returns:
    `[B, H', W', C]`.
  """
  return _max_pool_and_winner(x_BxHxWxC, window=window)[0]


@functools.partial(jax.jit, static_argnames='window')
def _max_pool_and_winner(x_BxHxWxC, *, window: Window):
  highest, *others = _shifted(x_BxHxWxC, window, -jnp.inf)
  winner = jnp.zeros_like(highest)
  for tap, x in enumerate(others, 1):
    # A floating-point number: XLA does not vectorise selection by integers.
    winner = jnp.where(x > highest, jnp.asarray(tap, x.dtype), winner)
    highest = jnp.maximum(highest, x)
  return highest, winner


def _max_pool_forward(x_BxHxWxC, window: Window):
  highest, winner = _max_pool_and_winner(x_BxHxWxC, window=window)
  # Of x the shape alone is wanted; a scalar's strides carry it.
  return highest, (winner, jnp.zeros((0, *x_BxHxWxC.shape[1:3])))


def _max_pool_backward(window: Window, residuals, dy_BxHxWxC):
  winner, empty = residuals
  zero = jnp.zeros_like(dy_BxHxWxC)
  parts = [
    jnp.where(winner == jnp.asarray(tap, winner.dtype), dy_BxHxWxC, zero)
    for tap in range(len(window.taps))
  ]
  return (_put_back(parts, window, empty.shape[1:3]),)


max_pool.defvjp(_max_pool_forward, _max_pool_backward)


@functools.partial(jax.jit, static_argnames='window')
def mean_pool(x_BxHxWxC: jax.Array, window: Window) -> jax.Array:
  """Mean over those taps of each window that lie inside the image.

  Args:
    x_BxHxWxC: floating point.
    window: size and strides.

  Returns:
    `[B, H', W', C]`.
  """
  total = functools.reduce(jnp.add, _shifted(x_BxHxWxC, window, 0))
  ones = jnp.ones((1, *x_BxHxWxC.shape[1:3], 1), x_BxHxWxC.dtype)
  return total / functools.reduce(jnp.add, _shifted(ones, window, 0))


def _shifted(x_BxHxWxC, window: Window, fill: float) -> list[jax.Array]:
  """What each tap of the window sees, `[B, H', W', C]`."""
  height, width = window.out(*x_BxHxWxC.shape[1:3])
  pads = ((0, 0, 0), *((half, half, 0) for half in window.half), (0, 0, 0))
  x = jax.lax.pad(x_BxHxWxC, jnp.asarray(fill, x_BxHxWxC.dtype), pads)
  (down, right) = window.stride
  return [
    x[
      :,
      i : i + (height - 1) * down + 1 : down,
      j : j + (width - 1) * right + 1 : right,
    ]
    for i, j in window.taps
  ]


def _over_taps(function, x_BxHxWxC, window: Window) -> jax.Array:
  """The function of what each tap sees, stacked, in a loop.

  One pass over memory would do for all, but XLA takes a second to compile a
  sum for each of 25 taps, and what it makes is no faster.
  """
  height, width = window.out(*x_BxHxWxC.shape[1:3])
  (down, right), (top, left) = window.stride, window.half
  pads = ((0, 0), (top, top), (left, left), (0, 0))
  x = jax.lax.optimization_barrier(jnp.pad(x_BxHxWxC, pads))
  rows, frames = (height - 1) * down + 1, (width - 1) * right + 1

  def step(_, tap):
    zero = jnp.zeros((), tap.dtype)
    start = (zero, tap[0], tap[1], zero)
    size = (x.shape[0], rows, frames, x.shape[3])
    seen = jax.lax.dynamic_slice(x, start, size)
    return None, function(seen[:, ::down, ::right])

  return jax.lax.scan(step, None, np.array(window.taps, np.int32))[1]


def _put_back(parts, window: Window, shape: tuple[int, int]) -> jax.Array:
  """The transpose of `_shifted`: the sum of the taps' images."""
  zero = jnp.zeros((), parts[0].dtype)

  def placed(part, tap):
    pads = [(0, 0, 0)] * 4
    for axis in (0, 1):
      step = window.stride[axis]
      before = tap[axis] - window.half[axis]
      used = (part.shape[axis + 1] - 1) * step + 1
      pads[axis + 1] = (before, shape[axis] - before - used, step - 1)
    return jax.lax.pad(part, zero, pads)

  return functools.reduce(jnp.add, map(placed, parts, window.taps))
