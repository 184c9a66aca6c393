"""Max-pooling whose gradient is finite and which XLA runs at memory speed.

The gradient of `jnp.max` is divided by the number of values that equal the
maximum. Where XLA computes the values once more, and rounds them otherwise,
that is none, and the gradient 0 / 0. Here it goes to the frame that won.

Letters in names: B batch, H height (frequency), W width (time), C channels,
S frames of a window, N and F an image without channels.
"""

import functools

import jax
import jax.numpy as jnp

from jaxspoof.ops import platform


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def max_pool_time(x_BxHxWxC: jax.Array, size: int) -> jax.Array:
  """Maximum over windows of `size` frames.

  The gradient goes to the first of equal maxima, as in PyTorch.

  Args:
    x_BxHxWxC: floating point.
    size: frames of a window and step between windows.

  Returns:
    `[B, H, W // size, C]`; a last, part window is dropped.
  """
  return functools.reduce(jnp.maximum, _phases(x_BxHxWxC, size))


def _phases(x_BxHxWxC, size: int) -> list[jax.Array]:
  """Frames 0, 1 .. size - 1 of every whole window."""
  end = x_BxHxWxC.shape[2] // size * size
  return [x_BxHxWxC[:, :, phase:end:size] for phase in range(size)]


def _forward(x_BxHxWxC, size: int):
  highest, *others = _phases(x_BxHxWxC, size)
  winner = jnp.zeros_like(highest)
  for phase, x in enumerate(others, 1):
    # A floating-point number: XLA does not vectorise selection by integers.
    winner = jnp.where(x > highest, jnp.asarray(phase, x.dtype), winner)
    highest = jnp.maximum(highest, x)
  # Of x the shape alone is wanted; the frames left over carry it.
  rest = x_BxHxWxC.shape[2] % size
  return highest, (winner, rest)


def _backward(size: int, residuals, dy_BxHxWxC):
  winner_BxHxWxC, rest = residuals
  phase = jnp.arange(size).astype(winner_BxHxWxC.dtype)
  won = winner_BxHxWxC[:, :, :, None] == phase[None, None, None, :, None]
  dy_BxHxWx1xC = dy_BxHxWxC[:, :, :, None]
  dx_BxHxWxSxC = jnp.where(won, dy_BxHxWx1xC, jnp.zeros_like(dy_BxHxWx1xC))
  batch, height, width, channels = dy_BxHxWxC.shape
  dx_BxHxWxC = dx_BxHxWxSxC.reshape(batch, height, width * size, channels)
  if rest:
    pads = ((0, 0), (0, 0), (0, rest), (0, 0))
    dx_BxHxWxC = jnp.pad(dx_BxHxWxC, pads)
  # Else XLA would compute it anew for every convolution that takes it on CPU.
  return (
    platform.choose(
      dx_BxHxWxC, cpu=jax.lax.optimization_barrier, default=lambda dx: dx
    ),
  )


max_pool_time.defvjp(_forward, _backward)


def max_pool_image(x_BxNxF: jax.Array, size: int) -> jax.Array:
  """Maximum over windows of `size` by `size`, next to each other.

  Args:
    x_BxNxF: floating point; may have channels as a fourth axis.
    size: of a window along both axes.

  Returns:
    `[B, N // size, F // size]`, and channels; what fills no window is dropped.
  """
  batch, n, f, *channels = x_BxNxF.shape
  x = max_pool_time(x_BxNxF.reshape(batch, n, f, -1), size)
  # With all that is beside each other as channels, N takes the place of W.
  x = max_pool_time(x.reshape(1, batch, n, -1), size)
  return x.reshape(batch, n // size, f // size, *channels)
