"""Two-dimensional convolution whose gradients are fast on every platform.

XLA computes the weight gradient of a convolution as a convolution with a
kernel as large as the image. On CPU that takes about thirty times as long as
the forward pass; there it is a sum over rows of matrix products whose operands
stay in cache. GPUs have a fast path for it, but only where as many zeros stand
before as after the image: all others are brought into that form. Images of one
channel are sums over taps: libraries for convolutions are made for many.

Letters in names: B batch, H height (frequency), W width (time), I channels
in, O channels out, P pieces of a row, N positions of a piece, M taps times
channels in.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from jaxspoof import arithmetic
from jaxspoof.ops import platform

Padding = tuple[tuple[int, int], tuple[int, int]]

# A row is cut into pieces of at least so many frames for about so many matrix
# products: longer ones leave the cache, fewer do not keep all cores busy.
_PIECE = 1024
_PRODUCTS = 32
# Up to this many taps times channels in, all taps fit into one product.
_FEW = 8


def conv2d(
  x_BxHxWxI: jax.Array,
  kernel_HxWxIxO: jax.Array,
  bias_O: jax.Array | None = None,
  *,
  padding: Padding,
) -> jax.Array:
  """Correlates images with a kernel, stride 1, zero padding.

  Differentiable in reverse mode, any number of times. Under `jit` with a
  batch sharded over devices nothing but sums over the batch is communicated.

  Args:
    x_BxHxWxI: images, floating point.
    kernel_HxWxIxO: kernel, in the dtype of the images.
    bias_O: added to every position, in the same dtype.
    padding: zeros before and after, for height and width; a negative number
      takes rows or frames away.

  Returns:
    `[B, H', W', O]` in the dtype of the images.

  Raises:
    ValueError: shapes, dtypes or padding that do not fit.
  """
  _check(x_BxHxWxI, kernel_HxWxIxO, bias_O, padding)
  padding = tuple((int(before), int(after)) for before, after in padding)
  y_BxHxWxO = _conv2d(x_BxHxWxI, kernel_HxWxIxO, padding)
  return y_BxHxWxO if bias_O is None else y_BxHxWxO + bias_O[None, None, None]


def _plain(x_BxHxWxI, kernel_HxWxIxO, padding: Padding):
  return jax.lax.conv_general_dilated(
    x_BxHxWxI,
    kernel_HxWxIxO,
    window_strides=(1, 1),
    padding=padding,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def _centred(x_BxHxWxI, kernel_HxWxIxO, padding: Padding):
  """Convolves with equal padding at both ends, then cuts off what is too much.

  XLA has no call into cuDNN for the gradients of a convolution whose padding
  is unequal or negative. It then computes them as it is written, the one of
  the weights with a kernel as large as the image: on an H200 a training step
  of AASIST did not even get compiled within minutes.
  """
  sides, cuts = _centre(padding)
  y_BxHxWxO = _plain(x_BxHxWxI, kernel_HxWxIxO, sides)
  return _pad_both(y_BxHxWxO, tuple((-a, -b) for a, b in cuts))


def _gradients_of_centred(x_BxHxWxI, kernel_HxWxIxO, dy_BxHxWxO, sides):
  """Gradients with respect to images and kernel, padding equal at both ends.

  The barriers keep XLA from making padding of convolutions out of zeros that
  are written into an array, which would be unequal again.
  """
  images = functools.partial(_plain, padding=sides)
  _, vjp = jax.vjp(lambda x: images(x, kernel_HxWxIxO), x_BxHxWxI)
  # Where more comes out than went in, XLA takes the images for the kernel of
  # the gradient, and cuDNN is out again: there the images get their zeros.
  if (
    dy_BxHxWxO.size // dy_BxHxWxO.shape[3]
    > x_BxHxWxI.size // x_BxHxWxI.shape[3]
  ):
    x_BxHxWxI = jax.lax.optimization_barrier(_pad_both(x_BxHxWxI, sides))
    sides = ((0, 0), (0, 0))
  kernels = functools.partial(_plain, x_BxHxWxI, padding=sides)
  _, vjp_of_kernel = jax.vjp(kernels, kernel_HxWxIxO)
  return *vjp(dy_BxHxWxO), *vjp_of_kernel(dy_BxHxWxO)


def _centre(padding: Padding) -> tuple[Padding, Padding]:
  """Equal padding, and how much of its output is to be cut at each end."""
  sides = tuple(max(before, after, 0) for before, after in padding)
  cuts = tuple(
    (side - before, side - after)
    for side, (before, after) in zip(sides, padding, strict=True)
  )
  return tuple((side, side) for side in sides), cuts


def _one_channel(x_BxHxWx1, kernel_HxWx1xO, padding: Padding):
  """Convolves images of one channel: a sum over taps, in one pass over y."""
  height, width, _, _ = kernel_HxWx1xO.shape
  x = _pad_both(x_BxHxWx1, padding)
  rows, frames = x.shape[1] - height + 1, x.shape[2] - width + 1
  with arithmetic.sums_of_products():
    taps = [
      x[:, i : i + rows, j : j + frames] * kernel_HxWx1xO[i, j][None, None]
      for i in range(height)
      for j in range(width)
    ]
  return functools.reduce(jnp.add, taps)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv2d(x_BxHxWxI, kernel_HxWxIxO, padding: Padding):
  return platform.choose(
    x_BxHxWxI,
    kernel_HxWxIxO,
    cpu=functools.partial(_on_cpu, padding=padding),
    default=functools.partial(_on_accelerators, padding=padding),
  )


def _on_cpu(x_BxHxWxI, kernel_HxWxIxO, *, padding: Padding):
  few = x_BxHxWxI.shape[3] == 1
  return (_one_channel if few else _plain)(x_BxHxWxI, kernel_HxWxIxO, padding)


def _on_accelerators(x_BxHxWxI, kernel_HxWxIxO, *, padding: Padding):
  if x_BxHxWxI.shape[3] > 1:
    return _centred(x_BxHxWxI, kernel_HxWxIxO, padding)
  # Cheap enough to be computed again by whoever needs it, so that the widest
  # activation of a network is never stored; sums are at least float32.
  dtype = x_BxHxWxI.dtype
  x_BxHxWxI, kernel_HxWxIxO = _wide(x_BxHxWxI), _wide(kernel_HxWxIxO)
  return _one_channel(x_BxHxWxI, kernel_HxWxIxO, padding).astype(dtype)


def _forward(x_BxHxWxI, kernel_HxWxIxO, padding: Padding):
  y_BxHxWxO = _conv2d(x_BxHxWxI, kernel_HxWxIxO, padding)
  return y_BxHxWxO, (x_BxHxWxI, kernel_HxWxIxO)


def _backward(padding: Padding, residuals, dy_BxHxWxO):
  return platform.choose(
    *residuals,
    dy_BxHxWxO,
    cpu=functools.partial(_gradients_on_cpu, padding=padding),
    default=functools.partial(_gradients_on_accelerators, padding=padding),
  )


_conv2d.defvjp(_forward, _backward)


def _gradients_on_cpu(x_BxHxWxI, kernel_HxWxIxO, dy_BxHxWxO, *, padding):
  size = kernel_HxWxIxO.shape[:2]
  # Few taps times channels in: all of them fit into one product.
  few = math.prod(kernel_HxWxIxO.shape[:3]) <= _FEW
  to_input = _input_gradient_of_few if few else _input_gradient_xla
  return (
    to_input(dy_BxHxWxO, kernel_HxWxIxO, padding),
    weight_gradient_by_rows(x_BxHxWxI, dy_BxHxWxO, size, padding),
  )


def _gradients_on_accelerators(
  x_BxHxWxI, kernel_HxWxIxO, dy_BxHxWxO, *, padding: Padding
):
  sides, cuts = _centre(padding)
  if any(map(any, cuts)):
    # One array for all convolutions that take this gradient, so for one
    # channel too. The barrier: see `_gradients_of_centred`.
    dy_BxHxWxO = _pad_both(dy_BxHxWxO, cuts)
    dy_BxHxWxO = jax.lax.optimization_barrier(dy_BxHxWxO)
  size, few = kernel_HxWxIxO.shape[:2], math.prod(kernel_HxWxIxO.shape[:3])
  if few > _FEW or x_BxHxWxI.shape[3] > 1:
    return _gradients_of_centred(x_BxHxWxI, kernel_HxWxIxO, dy_BxHxWxO, sides)
  # XLA makes three sums in a pass over dy, not more.
  to_kernel = _weight_gradient_by_sums if few <= 3 else _weight_gradient_of_few
  return (
    _input_gradient_of_few(dy_BxHxWxO, kernel_HxWxIxO, sides),
    to_kernel(x_BxHxWxI, dy_BxHxWxO, size, sides),
  )


def _input_gradient_xla(dy_BxHxWxO, kernel_HxWxIxO, padding: Padding):
  turned_HxWxOxI = kernel_HxWxIxO[::-1, ::-1].swapaxes(2, 3)
  padding = tuple(
    (size - 1 - before, size - 1 - after)
    for size, (before, after) in zip(
      kernel_HxWxIxO.shape[:2], padding, strict=True
    )
  )
  return _plain(dy_BxHxWxO, turned_HxWxOxI, padding)


def _input_gradient_of_few(dy_BxHxWxO, kernel_HxWxIxO, padding: Padding):
  """For few channels in: all taps in one product, then a sum of shifts."""
  batch, rows, frames, outputs = dy_BxHxWxO.shape
  height, width, inputs, _ = kernel_HxWxIxO.shape
  weights_MxO = kernel_HxWxIxO.reshape(-1, outputs)
  # Rows of zeros fill a vector register: twice as fast.
  weights_MxO = jnp.pad(weights_MxO, ((0, _FEW - len(weights_MxO)), (0, 0)))
  # A product for each clip, so that dy has the shape that the gradient of the
  # weights takes: XLA would compute it once for each shape.
  parts_BxNxM = jax.lax.dot_general(
    dy_BxHxWxO.reshape(batch, rows * frames, outputs),
    jnp.broadcast_to(weights_MxO, (batch, *weights_MxO.shape)),
    dimension_numbers=(((2,), (2,)), ((0,), (0,))),
    precision=jax.lax.Precision.HIGHEST,
  )
  parts_BxHxWxM = parts_BxNxM.reshape(batch, rows, frames, _FEW)
  (top, bottom), (left, right) = padding
  total = 0
  for i in range(height):
    for j in range(width):
      tap = (i * width + j) * inputs
      part = parts_BxHxWxM[..., tap : tap + inputs]
      part = _pad(part, 1, i - top, height - 1 - i - bottom)
      total += _pad(part, 2, j - left, width - 1 - j - right)
  return total


def weight_gradient_by_rows(
  x_BxHxWxI: jax.Array,
  dy_BxHxWxO: jax.Array,
  size: tuple[int, int],
  padding: Padding,
) -> jax.Array:
  """Gradient of a loss with respect to the kernel, as matrix products.

  One output row after the other: the rows of x that an output row saw,
  transposed, times that row of dy is one tap in time of the kernel; the other
  taps take the row shifted. The batch stays an axis of its own until the end,
  so that a sharded batch is summed once. Products accumulate in float32 or
  better.

  Args:
    x_BxHxWxI: images that went in.
    dy_BxHxWxO: gradient with respect to what came out.
    size: height and width of the kernel.
    padding: zeros before and after, for height and width, as in `conv2d`.

  Returns:
    `[*size, I, O]` in the dtype of the images.
  """
  if size[0] * size[1] * x_BxHxWxI.shape[-1] <= _FEW:
    return _weight_gradient_of_few(x_BxHxWxI, dy_BxHxWxO, size, padding)
  x_BxHxWxI = _pad(x_BxHxWxI, 1, *padding[0])
  dtype = np.promote_types(x_BxHxWxI.dtype, np.float32)

  def add(total, row):
    x = _rows(x_BxHxWxI, row, size[0]).astype(dtype)
    dy = _rows(dy_BxHxWxO, row, 1).astype(dtype)
    return total + _row_gradient(x, dy, size[1], padding[1]), None

  batch, rows, _, outputs = dy_BxHxWxO.shape
  shape = (batch, *size, x_BxHxWxI.shape[-1], outputs)
  total, _ = jax.lax.scan(add, jnp.zeros(shape, dtype), jnp.arange(rows))
  return total.sum(0).astype(x_BxHxWxI.dtype)


def _weight_gradient_of_few(x_BxHxWxI, dy_BxHxWxO, size, padding: Padding):
  """For few channels in: all taps of x, tiny, in one pass over dy."""
  batch, rows, frames, outputs = dy_BxHxWxO.shape
  dtype = np.promote_types(x_BxHxWxI.dtype, np.float32)
  x = _pad_both(x_BxHxWxI, padding)
  taps = [
    x[:, i : i + rows, j : j + frames].transpose(0, 3, 1, 2)
    for i in range(size[0])
    for j in range(size[1])
  ]
  gradient_BxMxO = jax.lax.dot_general(
    jnp.concatenate(taps, 1).reshape(batch, -1, rows * frames),
    dy_BxHxWxO.reshape(batch, rows * frames, outputs),
    dimension_numbers=(((2,), (1,)), ((0,), (0,))),
    precision=jax.lax.Precision.HIGHEST,
    preferred_element_type=dtype,
  )
  gradient = gradient_BxMxO.sum(0).astype(x.dtype)
  return gradient.reshape(*size, x.shape[-1], outputs)


def _weight_gradient_by_sums(x_BxHxWx1, dy_BxHxWxO, size, padding: Padding):
  """For one channel in and few taps: a sum for each tap."""
  _, rows, frames, outputs = dy_BxHxWxO.shape
  x_BxHxWx1 = _pad_both(x_BxHxWx1, padding)
  dy_BxHxWxO = _wide(dy_BxHxWxO)
  sums = [
    (_wide(x_BxHxWx1[:, i : i + rows, j : j + frames]) * dy_BxHxWxO).sum(
      (0, 1, 2)
    )
    for i in range(size[0])
    for j in range(size[1])
  ]
  return jnp.stack(sums).astype(x_BxHxWx1.dtype).reshape(*size, 1, outputs)


def _row_gradient(x_BxHxWxI, dy_Bx1xWxO, width: int, pads: tuple[int, int]):
  """Per clip, `[B, H, width, I, O]`, from a row of dy and the rows it saw."""
  batch, height, frames, inputs = x_BxHxWxI.shape
  pieces = max(1, min(_PRODUCTS // batch, frames // _PIECE))
  length = -(-frames // pieces)
  rest = pieces * length - frames

  def cut(x_BxWxC, before, after):
    x_BxWxC = _pad(x_BxWxC, 1, before, after)
    return x_BxWxC.reshape(batch, pieces, length, -1)

  x_BxPxHxIxN = jnp.stack(
    [cut(x_BxHxWxI[:, i], 0, rest).swapaxes(2, 3) for i in range(height)], 2
  )
  x_BxPxMxN = x_BxPxHxIxN.reshape(batch, pieces, height * inputs, length)
  products = []
  for tap in range(width):
    # x[w + tap - pad] * dy[w], summed over w, is x[w] * dy[w - tap + pad].
    shift = tap - pads[0]
    after = frames - dy_Bx1xWxO.shape[2] - shift
    dy_BxPxNxO = cut(dy_Bx1xWxO[:, 0], shift, after + rest)
    products.append(_product(x_BxPxMxN, dy_BxPxNxO))
  gradient = jnp.stack(products, 1).reshape(batch, width, height, inputs, -1)
  return gradient.swapaxes(1, 2)


def _product(x_BxPxMxN, dy_BxPxNxO):
  """Sum over positions, per clip: `[B, M, O]`."""
  return jax.lax.dot_general(
    x_BxPxMxN,
    dy_BxPxNxO,
    dimension_numbers=(((3,), (2,)), ((0, 1), (0, 1))),
    precision=jax.lax.Precision.HIGHEST,
  ).sum(1)


def _wide(x):
  return x.astype(np.promote_types(x.dtype, np.float32))


def _pad(x, axis: int, before: int, after: int):
  """Adds zeros to an axis, or takes away where the number is negative."""
  config = [(0, 0, 0)] * x.ndim
  config[axis] = (before, after, 0)
  return jax.lax.pad(x, jnp.zeros((), x.dtype), config)


def _pad_both(x_BxHxWxC, padding: Padding):
  return _pad(_pad(x_BxHxWxC, 1, *padding[0]), 2, *padding[1])


def _rows(x_BxHxWxC, start, count: int):
  return jax.lax.dynamic_slice_in_dim(x_BxHxWxC, start, count, axis=1)


def _check(x, kernel, bias, padding: Padding):
  if x.ndim != 4 or kernel.ndim != 4 or x.shape[3] != kernel.shape[2]:
    raise ValueError(
      'expected images [B, H, W, I] and a kernel [h, w, I, O], got '
      f'{list(x.shape)} and {list(kernel.shape)}'
    )
  if bias is not None and bias.shape != kernel.shape[3:]:
    raise ValueError(
      f'expected a bias [{kernel.shape[3]}], got {list(bias.shape)}'
    )
  dtypes = {x.dtype, kernel.dtype} | (
    {bias.dtype} if bias is not None else set()
  )
  if len(dtypes) > 1 or not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(
      'expected images, kernel and bias of one floating dtype, got '
      + ', '.join(sorted(str(d) for d in dtypes))
    )
  if len(padding) != 2 or any(len(side) != 2 for side in padding):
    raise ValueError(
      'expected padding ((before, after), (before, after)) of height and '
      f'width, got {padding}'
    )
  for axis, name in ((0, 'height'), (1, 'width')):
    if x.shape[1 + axis] + sum(padding[axis]) < kernel.shape[axis]:
      raise ValueError(
        f'{name} {x.shape[1 + axis]} padded by {padding[axis]} is smaller '
        f'than the kernel, {kernel.shape[axis]}'
      )
