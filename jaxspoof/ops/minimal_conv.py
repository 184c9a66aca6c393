"""A convolution of three taps over time that makes half of the products on CPU.

Four neighbouring outputs of three taps are the coefficients of a product of
polynomials, turned around, and a product of polynomials is known by its values
at six points. So six products, of sums of inputs and sums of taps, make what
twelve made: minimal filtering, Winograd's F(4, 3) in Lavin and Gray 2016, "Fast
Algorithms for Convolutional Neural Networks", here along time only. Every
product is a convolution over frequency, for which XLA has fast programs.

On accelerators the convolution is XLA's own.

Letters in names: B batch, N frames, W frequency bins, I channels in, O channels
out, K taps over frequency.
"""

import functools

import jax
import jax.numpy as jnp

from jaxspoof import arithmetic
from jaxspoof.ops import platform

TAPS = 3  # over time
TILE = 4  # frames that come out of the same products
_FEW = 3  # channels in, up to which products are not what takes the time
# The points are 0, -P, P, -Q, Q and infinity. With 1 and 2, which Lavin and
# Gray take, errors of rounding are up to twice those of a plain convolution;
# with these they are about as large.
P, Q = 0.75, 1.5
_BOTH, _FAR = P**2 + Q**2, (P * Q) ** 2
# Of each product: what it takes of the six frames that a tile sees, what of the
# taps, and what each frame of the tile takes of it.
_OF_FRAMES = (
  (_FAR, 0, -_BOTH, 0, 1, 0),
  (0, P * Q**2, -(Q**2), -P, 1, 0),
  (0, -P * Q**2, -(Q**2), P, 1, 0),
  (0, Q * P**2, -(P**2), -Q, 1, 0),
  (0, -Q * P**2, -(P**2), Q, 1, 0),
  (0, _FAR, 0, -_BOTH, 0, 1),
)
_OF_TAPS = (
  (1 / _FAR, 0, 0),
  *(
    tuple(point**k / (2 * point**2 * (point**2 - other**2)) for k in range(3))
    for point, other in ((-P, Q), (P, Q), (-Q, P), (Q, P))
  ),
  (0, 0, 1),
)
_TO_FRAMES = tuple(
  (float(k == 0), *(point**k for point in (-P, P, -Q, Q)), float(k == 3))
  for k in range(TILE)
)


def conv2d(
  x_BxNxWxI: jax.Array, kernel_3xKxIxO: jax.Array, strides: tuple[int, int]
) -> jax.Array:
  """Correlates spectra with a kernel of three frames.

  A frame of zeros is added before the first and behind the last one, and
  nothing at the ends of frequency.

  Args:
    x_BxNxWxI: spectra, floating point.
    kernel_3xKxIxO: kernel, in the dtype of the spectra.
    strides: frames and bins from one output to the next.

  Returns:
    `[B, N', (W - K) // strides[1] + 1, O]` in the dtype of the spectra.
  """
  wide = jnp.finfo(x_BxNxWxI.dtype).bits >= 32  # else sums lose too much
  if strides[0] > 1 or x_BxNxWxI.shape[3] <= _FEW or not wide:
    return plain(x_BxNxWxI, kernel_3xKxIxO, strides)
  with arithmetic.shortened_on_cpu():
    return platform.choose(
      x_BxNxWxI,
      kernel_3xKxIxO,
      cpu=functools.partial(by_tiles, stride=strides[1]),
      default=functools.partial(plain, strides=strides),
    )


def plain(x_BxNxWxI, kernel_3xKxIxO, strides: tuple[int, int]):
  """`conv2d` as XLA's own convolution."""
  return jax.lax.conv_general_dilated(
    x_BxNxWxI,
    kernel_3xKxIxO,
    strides,
    ((TAPS // 2, TAPS // 2), (0, 0)),
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


def by_tiles(x_BxNxWxI, kernel_3xKxIxO, stride: int):
  """`conv2d` of all frames, as six convolutions over frequency."""
  batch, frames, bins, inputs = x_BxNxWxI.shape
  tiles = -(-frames // TILE)
  after = (tiles + 1) * TILE - frames - 1
  x = jnp.pad(x_BxNxWxI, ((0, 0), (1, after), (0, 0), (0, 0)))
  x = x.reshape(batch, tiles + 1, TILE, bins, inputs)
  # A tile sees its own four frames, moved by one, and two of the next.
  seen = [
    x[:, i // TILE : i // TILE + tiles, i % TILE]
    for i in range(TILE + TAPS - 1)
  ]
  kernels_6xKxIxO = jnp.tensordot(
    jnp.asarray(_OF_TAPS, x.dtype), kernel_3xKxIxO, 1, precision='highest'
  )
  products = []
  for of_frames, kernel_KxIxO in zip(_OF_FRAMES, kernels_6xKxIxO, strict=True):
    products.append(
      jax.lax.conv_general_dilated(
        _sum(of_frames, seen).reshape(batch * tiles, bins, inputs),
        kernel_KxIxO,
        (stride,),
        'VALID',
        dimension_numbers=('NWC', 'WIO', 'NWC'),
      )
    )
  y = jnp.stack([_sum(factors, products) for factors in _TO_FRAMES], 1)
  # Tiles and their frames are neighbours already, batch and tiles one axis.
  return y.reshape(batch, tiles * TILE, *y.shape[2:])[:, :frames]


def _sum(factors, arrays):
  """The sum of arrays times numbers, without those times 0."""
  pairs = zip(factors, arrays, strict=True)
  return sum(array * factor for factor, array in pairs if factor)
