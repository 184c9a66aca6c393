"""The grouped convolution that tells an SSL encoder's frames their position.

XLA's own convolution computes it well, but its gradient takes XLA 15 s on a
CPU where the forward pass takes 0.2 (4 clips of 4 s, 768 channels in 16 groups,
128 taps, two cores); there it is written out.

Letters in names: B batch, N frames, I channels in, O channels out, K taps, G
groups.
"""

import functools

import jax
import jax.numpy as jnp

from jaxspoof.ops import conv1d, platform


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def grouped_conv(
  x_BxNxI: jax.Array, kernel_KxIxO: jax.Array, groups: int
) -> jax.Array:
  """Correlates sequences with a kernel, stride 1, without padding.

  Args:
    x_BxNxI: sequences.
    kernel_KxIxO: kernel `[K, I / groups, O]` in the dtype of the sequences.
    groups: parts of the channels, in and out, that do not see each other.

  Returns:
    `[B, N - K + 1, O]`.
  """
  return conv1d.plain(x_BxNxI, kernel_KxIxO, groups=groups)


def _forward(x_BxNxI, kernel_KxIxO, groups):
  return grouped_conv(x_BxNxI, kernel_KxIxO, groups), (x_BxNxI, kernel_KxIxO)


def _backward(groups, residuals, dy_BxNxO):
  return platform.choose(
    *residuals,
    dy_BxNxO,
    cpu=functools.partial(_gradients_written_out, groups=groups),
    default=functools.partial(_gradients_of_plain, groups=groups),
  )


grouped_conv.defvjp(_forward, _backward)


def _gradients_of_plain(x_BxNxI, kernel_KxIxO, dy_BxNxO, *, groups: int):
  convolve = functools.partial(conv1d.plain, groups=groups)
  _, vjp = jax.vjp(convolve, x_BxNxI, kernel_KxIxO)
  return vjp(dy_BxNxO)


def _gradients_written_out(x_BxNxI, kernel_KxIxO, dy_BxNxO, *, groups: int):
  taps, inputs, outputs = kernel_KxIxO.shape
  # To the sequences: a convolution of dy with the turned kernel.
  split = kernel_KxIxO[::-1].reshape(taps, inputs, groups, outputs // groups)
  turned_KxOxI = split.swapaxes(1, 3).reshape(taps, -1, inputs * groups)
  padded_BxNxO = jnp.pad(dy_BxNxO, ((0, 0), (taps - 1, taps - 1), (0, 0)))
  dx_BxNxI = conv1d.plain(padded_BxNxO, turned_KxOxI, groups=groups)
  # To the kernel: for each tap a product over clips and frames.
  batch, frames, _ = dy_BxNxO.shape
  x_GxBxNxI = _by_group(x_BxNxI, groups)
  dy_GxMxO = _by_group(dy_BxNxO, groups).reshape(groups, batch * frames, -1)

  def of_tap(tap):
    part = jax.lax.dynamic_slice_in_dim(x_GxBxNxI, tap, frames, 2)
    part_GxMxI = part.reshape(groups, batch * frames, inputs)
    return jax.lax.dot_general(
      part_GxMxI, dy_GxMxO, (((1,), (1,)), ((0,), (0,)))
    )

  dk_KxGxIxO = jax.lax.map(of_tap, jnp.arange(taps, dtype=jnp.int32))
  dk_KxIxO = dk_KxGxIxO.swapaxes(1, 2).reshape(taps, inputs, outputs)
  return dx_BxNxI, dk_KxIxO


def _by_group(x_BxNxC: jax.Array, groups: int) -> jax.Array:
  batch, frames, channels = x_BxNxC.shape
  x = x_BxNxC.reshape(batch, frames, groups, channels // groups)
  return jnp.moveaxis(x, 2, 0)
