"""Two-dimensional convolution whose weight gradient is fast on CPU too.

XLA computes the weight gradient of a convolution as a convolution with a
kernel as large as the image. GPUs and TPUs have a fast path for it; on CPU it
takes about thirty times as long as the forward pass. Here it is a sum over
rows of small matrix products that stay in cache. Forward pass and input
gradient are XLA's own convolutions everywhere.

Letters in names: B batch, H height (frequency), W width (time), I channels
in, O channels out, N positions of a block of rows.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

Padding = tuple[tuple[int, int], tuple[int, int]]

# Rows are taken together until a block reaches this size: larger ones leave
# the cache, smaller ones leave the matrix product too little to do.
_BLOCK_BYTES = 4 << 20
# Up to this many rows, taps are stacked on the small operand of the product.
_STACKED_ROWS = 128


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
    padding: zeros before and after, for height and width; not negative.

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


def _one_channel(x_BxHxWx1, kernel_HxWx1xO, padding: Padding):
  """The same for one channel in: a sum over taps, in one pass over y."""
  height, width, _, _ = kernel_HxWx1xO.shape
  x = jnp.pad(x_BxHxWx1, ((0, 0), *padding, (0, 0)))
  rows, frames = x.shape[1] - height + 1, x.shape[2] - width + 1
  taps = [
    x[:, i : i + rows, j : j + frames] * kernel_HxWx1xO[i, j][None, None]
    for i in range(height)
    for j in range(width)
  ]
  return functools.reduce(jnp.add, taps)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _conv2d(x_BxHxWxI, kernel_HxWxIxO, padding: Padding):
  if x_BxHxWxI.shape[3] > 1:
    return _plain(x_BxHxWxI, kernel_HxWxIxO, padding)
  return jax.lax.platform_dependent(
    x_BxHxWxI,
    kernel_HxWxIxO,
    cpu=functools.partial(_one_channel, padding=padding),
    default=functools.partial(_plain, padding=padding),
  )


def _forward(x_BxHxWxI, kernel_HxWxIxO, padding: Padding):
  y_BxHxWxO = _conv2d(x_BxHxWxI, kernel_HxWxIxO, padding)
  return y_BxHxWxO, (x_BxHxWxI, kernel_HxWxIxO)


def _backward(padding: Padding, residuals, dy_BxHxWxO):
  x_BxHxWxI, kernel_HxWxIxO = residuals
  size = kernel_HxWxIxO.shape[:2]
  return (
    _input_gradient(dy_BxHxWxO, kernel_HxWxIxO, padding),
    weight_gradient(x_BxHxWxI, dy_BxHxWxO, size, padding),
  )


_conv2d.defvjp(_forward, _backward)


def _input_gradient(dy_BxHxWxO, kernel_HxWxIxO, padding: Padding):
  """The convolution of the output's gradient with the turned kernel."""
  turned_HxWxOxI = kernel_HxWxIxO[::-1, ::-1].swapaxes(2, 3)
  padding = tuple(
    (size - 1 - before, size - 1 - after)
    for size, (before, after) in zip(
      kernel_HxWxIxO.shape[:2], padding, strict=True
    )
  )
  return _plain(dy_BxHxWxO, turned_HxWxOxI, padding)


def weight_gradient(
  x_BxHxWxI: jax.Array,
  dy_BxHxWxO: jax.Array,
  size: tuple[int, int],
  padding: Padding,
) -> jax.Array:
  """Gradient of a loss with respect to the kernel of `conv2d`.

  Args:
    x_BxHxWxI: images that went in.
    dy_BxHxWxO: gradient with respect to what came out.
    size: height and width of the kernel.
    padding: as in `conv2d`.

  Returns:
    `[*size, I, O]` in the dtype of the images.
  """
  return jax.lax.platform_dependent(
    x_BxHxWxI,
    dy_BxHxWxO,
    cpu=functools.partial(weight_gradient_by_rows, size=size, padding=padding),
    default=functools.partial(_weight_gradient_xla, size=size, padding=padding),
  )


def _weight_gradient_xla(x_BxHxWxI, dy_BxHxWxO, size, padding: Padding):
  shape = (*size, x_BxHxWxI.shape[-1], dy_BxHxWxO.shape[-1])
  zeros = jnp.zeros(shape, x_BxHxWxI.dtype)
  _, vjp = jax.vjp(lambda kernel: _plain(x_BxHxWxI, kernel, padding), zeros)
  return vjp(dy_BxHxWxO)[0]


def weight_gradient_by_rows(
  x_BxHxWxI: jax.Array,
  dy_BxHxWxO: jax.Array,
  size: tuple[int, int],
  padding: Padding,
) -> jax.Array:
  """`weight_gradient` as matrix products over blocks of output rows.

  A block of x, transposed to `[B, I, N]` with N positions, times the block of
  dy, `[B, N, O]`, is one tap of the kernel; the other taps take one of the
  two shifted. The batch stays an axis of its own until the end, so that a
  sharded batch is summed once. Products accumulate in float32 or better.
  """
  before, after = padding[0]
  if before or after:
    pads = ((0, 0), (before, after), (0, 0), (0, 0))
    x_BxHxWxI = jnp.pad(x_BxHxWxI, pads)
  dtype = np.promote_types(x_BxHxWxI.dtype, np.float32)
  rows = dy_BxHxWxO.shape[1]
  block = _rows_per_block(x_BxHxWxI, dy_BxHxWxO, dtype)

  def add(total, start, count):
    x = _rows(x_BxHxWxI, start, count + size[0] - 1).astype(dtype)
    dy = _rows(dy_BxHxWxO, start, count).astype(dtype)
    return total + _block_gradient(x, dy, size, padding[1])

  shape = (x_BxHxWxI.shape[0], *size, x_BxHxWxI.shape[-1], dy_BxHxWxO.shape[-1])
  total = jnp.zeros(shape, dtype)
  whole, rest = divmod(rows, block)
  total, _ = jax.lax.scan(
    lambda total, i: (add(total, i * block, block), None),
    total,
    jnp.arange(whole),
  )
  if rest:
    total = add(total, whole * block, rest)
  return total.sum(0).astype(x_BxHxWxI.dtype)


def _block_gradient(x_BxHxWxI, dy_BxHxWxO, size, pads: tuple[int, int]):
  """Per clip, `[B, *size, I, O]`, from rows of dy and those of x they saw."""
  height, width = size
  batch, count, frames, outputs = dy_BxHxWxO.shape
  inputs = x_BxHxWxI.shape[-1]
  if height * width * inputs <= _STACKED_ROWS:
    # Few channels in: cheaper to repeat x for every tap than to shift dy.
    x = _pad_width(x_BxHxWxI, *pads)
    x_taps, dy_taps = (height, width), [dy_BxHxWxO]
  else:
    # x[w + j - before] * dy[w], summed over w, is x[w] * dy[w - j + before].
    x, frames = x_BxHxWxI, x_BxHxWxI.shape[2]
    dy = _pad_width(dy_BxHxWxO, width - 1 - pads[0], width - 1 - pads[1])
    x_taps = (height, 1)
    dy_taps = [dy[:, :, j : j + frames] for j in reversed(range(width))]
  x_BxMxN = jnp.stack(
    [
      x[:, i : i + count, j : j + frames].transpose(0, 3, 1, 2)
      for i in range(x_taps[0])
      for j in range(x_taps[1])
    ],
    axis=1,
  ).reshape(batch, -1, count * frames)
  products = [
    jax.lax.dot_general(
      x_BxMxN,
      dy.reshape(batch, count * frames, outputs),
      dimension_numbers=(((2,), (1,)), ((0,), (0,))),
      precision=jax.lax.Precision.HIGHEST,
    )
    for dy in dy_taps
  ]
  gradient = jnp.stack(products, 2).reshape(
    batch, *x_taps, inputs, len(dy_taps), outputs
  )
  # One of the two axes of time taps has length 1.
  return gradient.transpose(0, 1, 2, 4, 3, 5).reshape(
    batch, height, width, inputs, outputs
  )


def _pad_width(x_BxHxWxC, before: int, after: int):
  """Adds zero frames, or takes frames away where the number is negative."""
  zero = jnp.zeros((), x_BxHxWxC.dtype)
  keep = (0, 0, 0)
  return jax.lax.pad(x_BxHxWxC, zero, [keep, keep, (before, after, 0), keep])


def _rows(x_BxHxWxC, start, count: int):
  return jax.lax.dynamic_slice_in_dim(x_BxHxWxC, start, count, axis=1)


def _rows_per_block(x_BxHxWxI, dy_BxHxWxO, dtype) -> int:
  batch, rows, frames, outputs = dy_BxHxWxO.shape
  row = batch * frames * max(x_BxHxWxI.shape[-1], outputs)
  return max(1, min(rows, _BLOCK_BYTES // max(1, row * dtype.itemsize)))


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
  if len(padding) != 2 or min(min(side) for side in padding) < 0:
    raise ValueError(
      'expected padding ((before, after), (before, after)) of height and '
      f'width, not negative, got {padding}'
    )
  for axis, name in ((0, 'height'), (1, 'width')):
    if x.shape[1 + axis] + sum(padding[axis]) < kernel.shape[axis]:
      raise ValueError(
        f'{name} {x.shape[1 + axis]} padded by {padding[axis]} is smaller '
        f'than the kernel, {kernel.shape[axis]}'
      )
