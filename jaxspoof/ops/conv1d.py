"""One-dimensional convolution with dilation and groups, fast on CPU too.

XLA's own convolution is right for GPUs and TPUs. On CPU its weight gradient
takes many times as long as the forward pass; there everything is a matrix
product of the taps side by side with the kernel. A kernel of one tap is a
plain matrix product everywhere.

Letters in names: B batch, N frames, I channels in, O channels out, K taps, G
groups, M taps times channels in.
"""

import functools

import jax
import jax.numpy as jnp

from jaxspoof.ops import platform


def conv1d(
  x_BxNxI: jax.Array,
  kernel_KxIxO: jax.Array,
  *,
  dilation: int = 1,
  groups: int = 1,
) -> jax.Array:
  """Correlates sequences with a kernel, stride 1, without padding.

  Differentiable in reverse mode, any number of times. Under `jit` with a
  batch sharded over devices nothing but sums over the batch is communicated.

  Args:
    x_BxNxI: sequences, floating point.
    kernel_KxIxO: kernel `[K, I / groups, O]` in the dtype of the sequences.
    dilation: frames from one tap to the next.
    groups: parts of the channels, in and out, that do not see each other.

  Returns:
    `[B, N - (K - 1) * dilation, O]` in the dtype of the sequences.

  Raises:
    ValueError: shapes or dtypes that do not fit.
  """
  _check(x_BxNxI, kernel_KxIxO, dilation, groups)
  if len(kernel_KxIxO) == 1 and groups == 1:
    return _product(x_BxNxI, kernel_KxIxO[0])
  return _conv1d(x_BxNxI, kernel_KxIxO, dilation, groups)


def reflect(
  x_BxNxC: jax.Array, count: int, frames_B: jax.Array | None = None
) -> jax.Array:
  """Continues sequences by their mirror image at both ends.

  The frame at an end is not repeated: a b c becomes c b a b c b a. With
  `frames_B` each clip is mirrored at its own last frame; what lay there is
  not read, and what follows the mirror image has no meaning.

  Args:
    x_BxNxC: sequences of more than `count` frames.
    count: frames to add at each end.
    frames_B: valid frames of each clip, more than `count`; None: all.

  Returns:
    `[B, N + 2 * count, C]`.
  """
  if not count:
    return x_BxNxC
  before = x_BxNxC[:, count:0:-1]
  if frames_B is None:
    after = x_BxNxC[:, -2 : -count - 2 : -1]
    return jnp.concatenate([before, x_BxNxC, after], 1)
  mirror_BxNxC = _mirror(x_BxNxC, count, frames_B)
  x_BxNxC = jnp.pad(x_BxNxC, ((0, 0), (0, count), (0, 0)))
  frame_N = jnp.arange(x_BxNxC.shape[1], dtype=frames_B.dtype)
  past_BxN = frame_N[None] - frames_B[:, None]
  for i in range(count):
    here_BxNx1 = (past_BxN == i)[..., None]
    x_BxNxC = jnp.where(here_BxNx1, mirror_BxNxC[:, i, None], x_BxNxC)
  return jnp.concatenate([before, x_BxNxC], 1)


def _mirror(x_BxNxC, count: int, frames_B):
  """The `count` frames before the last valid one, backwards.

  A product with zeros and ones: the gradient of a gather is a scatter, which
  is slow everywhere.
  """
  index = functools.partial(jnp.arange, dtype=frames_B.dtype)
  wanted_BxK = frames_B[:, None] - 2 - index(count)[None]
  frame_N = index(x_BxNxC.shape[1])
  chosen_BxKxN = wanted_BxK[..., None] == frame_N[None, None]
  return jax.lax.dot_general(
    chosen_BxKxN.astype(x_BxNxC.dtype),
    x_BxNxC,
    (((2,), (1,)), ((0,), (0,))),
    precision=jax.lax.Precision.HIGHEST,
  )


@jax.custom_vjp
def _product(x_BxNxI, kernel_IxO):
  return _contract(x_BxNxI, kernel_IxO, ((2,), (0,)))


def _product_forward(x_BxNxI, kernel_IxO):
  return _product(x_BxNxI, kernel_IxO), (x_BxNxI, kernel_IxO)


def _product_backward(residuals, dy_BxNxO):
  x_BxNxI, kernel_IxO = residuals
  dx_BxNxI = _contract(dy_BxNxO, kernel_IxO, ((2,), (1,)))
  # XLA transposes the first factor in memory, and computes it again for that
  # where it was never stored: it is to be the smaller one.
  frames = ((0, 1), (0, 1))
  if kernel_IxO.shape[0] > kernel_IxO.shape[1]:
    return dx_BxNxI, _contract(dy_BxNxO, x_BxNxI, frames).T
  return dx_BxNxI, _contract(x_BxNxI, dy_BxNxO, frames)


_product.defvjp(_product_forward, _product_backward)


def _contract(a, b, axes):
  return jax.lax.dot_general(a, b, (axes, ((), ())))


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _conv1d(x_BxNxI, kernel_KxIxO, dilation: int, groups: int):
  return platform.choose(
    x_BxNxI,
    kernel_KxIxO,
    cpu=functools.partial(by_products, dilation=dilation, groups=groups),
    default=functools.partial(plain, dilation=dilation, groups=groups),
  )


def _forward(x_BxNxI, kernel_KxIxO, dilation: int, groups: int):
  y_BxNxO = _conv1d(x_BxNxI, kernel_KxIxO, dilation, groups)
  return y_BxNxO, (x_BxNxI, kernel_KxIxO)


def _backward(dilation: int, groups: int, residuals, dy_BxNxO):
  options = dict(dilation=dilation, groups=groups)
  return platform.choose(
    *residuals,
    dy_BxNxO,
    cpu=functools.partial(_gradients_by_products, **options),
    default=functools.partial(_gradients_of_plain, **options),
  )


_conv1d.defvjp(_forward, _backward)


def plain(x_BxNxI, kernel_KxIxO, *, dilation: int = 1, groups: int = 1):
  """`conv1d` as XLA's own convolution."""
  return jax.lax.conv_general_dilated(
    x_BxNxI,
    kernel_KxIxO,
    window_strides=(1,),
    padding='VALID',
    rhs_dilation=(dilation,),
    dimension_numbers=('NWC', 'WIO', 'NWC'),
    feature_group_count=groups,
  )


def by_products(x_BxNxI, kernel_KxIxO, *, dilation: int = 1, groups: int = 1):
  """`conv1d` as one matrix product for each group."""
  taps, inputs, outputs = kernel_KxIxO.shape
  frames = x_BxNxI.shape[1] - (taps - 1) * dilation
  shifted = [
    x_BxNxI[:, k * dilation : k * dilation + frames] for k in range(taps)
  ]
  parts = []
  for g in range(groups):
    own = slice(g * inputs, (g + 1) * inputs)
    x_BxNxM = jnp.concatenate([x[..., own] for x in shifted], 2)
    width = outputs // groups
    kernel_KxIxW = kernel_KxIxO[..., g * width : (g + 1) * width]
    parts.append(_product(x_BxNxM, kernel_KxIxW.reshape(-1, width)))
  return parts[0] if groups == 1 else jnp.concatenate(parts, 2)


def _gradients_of_plain(
  x_BxNxI, kernel_KxIxO, dy_BxNxO, *, dilation: int, groups: int
):
  options = dict(dilation=dilation, groups=groups)
  # XLA has no call into cuDNN for the gradient of a dilated kernel: it would
  # be a convolution with a kernel as long as the sequence.
  to_kernel = by_products if dilation > 1 else plain
  _, vjp = jax.vjp(lambda x: plain(x, kernel_KxIxO, **options), x_BxNxI)
  _, vjp_of_kernel = jax.vjp(
    lambda kernel: to_kernel(x_BxNxI, kernel, **options), kernel_KxIxO
  )
  return *vjp(dy_BxNxO), *vjp_of_kernel(dy_BxNxO)


def _gradients_by_products(
  x_BxNxI, kernel_KxIxO, dy_BxNxO, *, dilation: int, groups: int
):
  options = dict(dilation=dilation, groups=groups)
  taps, inputs, outputs = kernel_KxIxO.shape
  # The input's gradient is a convolution of dy with the turned kernel.
  split = kernel_KxIxO[::-1].reshape(taps, inputs, groups, outputs // groups)
  turned_KxOxI = split.swapaxes(1, 3).reshape(taps, -1, inputs * groups)
  reach = (taps - 1) * dilation
  padded_BxNxO = jnp.pad(dy_BxNxO, ((0, 0), (reach, reach), (0, 0)))
  _, vjp = jax.vjp(
    lambda kernel: by_products(x_BxNxI, kernel, **options), kernel_KxIxO
  )
  return by_products(padded_BxNxO, turned_KxOxI, **options), *vjp(dy_BxNxO)


def _check(x, kernel, dilation: int, groups: int):
  if x.ndim != 3 or kernel.ndim != 3 or groups * kernel.shape[1] != x.shape[2]:
    raise ValueError(
      'expected sequences [B, N, I] and a kernel [K, I / groups, O], got '
      f'{list(x.shape)} and {list(kernel.shape)} with groups={groups}'
    )
  if kernel.shape[2] % groups:
    raise ValueError(
      f'{kernel.shape[2]} channels out do not fall into {groups} groups'
    )
  if x.dtype != kernel.dtype or not jnp.issubdtype(x.dtype, jnp.floating):
    raise ValueError(
      'expected sequences and kernel of one floating dtype, got '
      f'{x.dtype} and {kernel.dtype}'
    )
  reach = (kernel.shape[0] - 1) * dilation
  if x.shape[1] <= reach:
    raise ValueError(
      f'{x.shape[1]} frames are too few for a kernel of {kernel.shape[0]} taps '
      f'and dilation {dilation}: needs at least {reach + 1}'
    )
