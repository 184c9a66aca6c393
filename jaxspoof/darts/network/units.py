"""Units of searched networks: activation, convolution, normalisation.

The edges of a cell that do the same to the same image do it at once: kernels
and statistics of all edges are stacked along a first axis of rows, and the
channels of an image are those of several edges, one edge after the other.

Letters in names: B batch, H height (frequency), W width (time), C channels, R
rows, I channels in, O channels out.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof import arithmetic
from jaxspoof.blocks import layers
from jaxspoof.darts.network import mixture
from jaxspoof.darts.spaces import Unit
from jaxspoof.ops import windows

EPSILON = 1e-5
_ACTIVATIONS = {
  '': lambda x: x,
  'relu': jax.nn.relu,
  'leaky_relu': lambda x: jnp.where(x > 0, x, x * jnp.asarray(0.3, x.dtype)),
}
# Up to so many channels one product with zeros between the edges is faster on
# CPU than a product for each edge.
_BLOCKS = 256


def activate(x: jax.Array, name: str) -> jax.Array:
  """The activation of a unit, by its name."""
  return _ACTIVATIONS[name](x)


def window(unit: Unit, dims: int, stride: int = 1) -> windows.Window:
  """The window of a unit; in one dimension it slides over time alone."""
  size, dilation = (unit.size,) * 2, (unit.dilation,) * 2
  steps = (stride,) * 2
  if dims == 1:
    size, dilation, steps = ((1, v[1]) for v in (size, dilation, steps))
  return windows.Window(size, steps, dilation)


def parameters(unit: Unit, inputs: int, outputs: int, dims: int) -> int:
  """Trained values of the convolutions of one row.

  That is also the number of multiplications for each position of the output.
  """
  taps = unit.size**dims
  wide = outputs * (2 if unit.mfm else 1)
  if unit.depthwise:
    return taps * inputs + inputs * wide
  return taps * inputs * wide


class Kernels(nnx.Module):
  """Convolutions of one kind, one row for each edge that has it."""

  def __init__(
    self,
    rows: int,
    inputs: int,
    outputs: int,
    unit: Unit,
    dims: int,
    *,
    param_dtype: str = 'float32',
    rngs: nnx.Rngs,
  ):
    """Draws the kernels as PyTorch does.

    Args:
      rows: number of edges.
      inputs: channels in, for each edge.
      outputs: channels out, for each edge.
      unit: what the edges compute; dilation and activation are left to the
        call.
      dims: 2 for images of frequency by time, 1 for time alone.
      param_dtype: dtype of the kernels.
      rngs: random streams; weights are drawn from `params`.
    """
    self.rows, self.inputs, self.outputs = rows, inputs, outputs
    self.dims, self.depthwise, self.mfm = dims, unit.depthwise, unit.mfm
    size = window(unit, dims).size
    wide = outputs * (2 if unit.mfm else 1)

    def draw(fan_in: int, *shape: int) -> nnx.Param:
      init = layers.uniform_of_fan_in(fan_in)
      dtype = jnp.dtype(param_dtype)
      return nnx.Param(init(rngs.params(), (rows, *shape), dtype))

    taps = size[0] * size[1]
    if unit.depthwise:
      self.kernel = draw(taps, *size, inputs)
      self.point = draw(inputs, inputs, wide)
    else:
      self.kernel = draw(taps * inputs, *size, inputs, wide)

  def __call__(
    self,
    x_BxHxWxC: jax.Array,
    unit: Unit,
    *,
    rows: np.ndarray | None = None,
    split: bool = False,
    stride: int = 1,
  ) -> jax.Array:
    """Convolves, and takes the maximum of two halves where the unit has it.

    Args:
      x_BxHxWxC: images after the unit's activation, either `inputs` channels
        that all rows share or, with `split`, `inputs` channels for each row.
      unit: dilation, and what the kernels were made for.
      rows: which rows to use; all where None.
      split: whether each row has channels of its own.
      stride: step of the window.

    Returns:
      `[B, H', W', R * outputs]`.
    """
    taken = windows.Window(*window(unit, self.dims, stride))
    dtype = x_BxHxWxC.dtype
    rows = np.arange(self.rows) if rows is None else rows
    kernel = _take(self.kernel[...], rows).astype(dtype)
    if self.depthwise:
      if not split and len(rows) > 1:
        x_BxHxWxC = jnp.concatenate([x_BxHxWxC] * len(rows), -1)
      kernel_HxWxC = kernel.transpose(1, 2, 0, 3).reshape(*taken.size, -1)
      y = windows.depthwise(x_BxHxWxC, kernel_HxWxC, taken)
      y = _per_row(y, _halves_first(_take(self.point[...], rows), self.mfm))
    else:
      y = self._dense(x_BxHxWxC, kernel, taken, split)
    if self.mfm:
      first, second = jnp.split(y, 2, axis=-1)
      y = jnp.maximum(first, second)
    return y

  def _dense(self, x_BxHxWxC, kernel_RxHxWxIxO, taken, split: bool):
    rows, inputs = kernel_RxHxWxIxO.shape[0], kernel_RxHxWxIxO.shape[3]
    kernel_HxWxIxRxO = kernel_RxHxWxIxO.transpose(1, 2, 3, 0, 4)
    shape = (*taken.size, inputs, -1)
    if split and rows > 1:
      y = windows.convolve(
        x_BxHxWxC, kernel_HxWxIxRxO.reshape(shape), taken, groups=rows
      )
      return _reorder(y, rows) if self.mfm else y
    if self.mfm:
      kernel_HxWxIxRxO = _reorder(kernel_HxWxIxRxO.reshape(shape), rows)
    kernel_HxWxIxO = kernel_HxWxIxRxO.reshape(shape)
    if taken.size == (1, 1):
      steps = taken.stride
      return x_BxHxWxC[:, :: steps[0], :: steps[1]] @ kernel_HxWxIxO[0, 0]
    return windows.convolve(x_BxHxWxC, kernel_HxWxIxO, taken)


class Norms(nnx.Module):
  """Batch normalisation, one row for each edge; PyTorch's conventions."""

  def __init__(
    self, rows: int, channels: int, *, affine: bool, param_dtype: str
  ):
    """Starts at mean 0 and variance 1, with `affine` scale 1 and bias 0."""
    self.momentum, self.use_running_average = 0.1, False
    self.affine, self.channels = affine, channels
    dtype = jnp.dtype(param_dtype)
    self.mean = nnx.BatchStat(layers.filled(0, (rows, channels), dtype))
    self.var = nnx.BatchStat(layers.filled(1, (rows, channels), dtype))
    if affine:
      self.scale = nnx.Param(layers.filled(1, (rows, channels), dtype))
      self.bias = nnx.Param(layers.filled(0, (rows, channels), dtype))

  def set_view(
    self,
    use_running_average: bool | None = None,
    momentum: float | None = None,
  ):
    """Sets the mode, for `nnx.view`; arguments are those of `BatchNorm`."""
    if use_running_average is not None:
      self.use_running_average = use_running_average
    if momentum is not None:
      self.momentum = momentum

  def store(self, rows: np.ndarray, mean_C, var_C, count: int) -> None:
    """Moves the running statistics of some rows towards those of a batch."""
    if count < 2:
      raise ValueError(
        'batch normalisation in training mode needs more than one value per '
        'channel; use a larger batch or longer clips'
      )
    unbiased = count / (count - 1)
    for stat, new in ((self.mean, mean_C), (self.var, var_C * unbiased)):
      old = stat[...]
      new = new.reshape(len(rows), -1).astype(old.dtype)
      moved = (1 - self.momentum) * _take(old, rows) + self.momentum * new
      stat.set_value(_put(old, rows, moved))


@dataclasses.dataclass
class Term:
  """An image to be normalised, weighed and added to others.

  Attributes:
    image: `[B, H, W, R * C]`.
    norms: whose statistics it takes.
    rows: rows of `norms`, one for each edge.
    weight_R: weight of each edge, or None for 1.
  """

  image: jax.Array
  norms: Norms
  rows: np.ndarray
  weight_R: jax.Array | None = None


def normalised_sum(terms: list[Term]) -> jax.Array:
  """The weighted sum of normalised images, `[B, H, W, R * C]`.

  In training mode the running statistics of the norms move.
  """
  dtype = layers.wide(terms[0].image.dtype)
  gains = tuple(_gain(term, dtype) for term in terms)
  if terms[0].norms.use_running_average:
    y = _with_running_statistics(terms, gains)
  else:
    images = tuple(term.image for term in terms)
    y, means, variances = mixture.normalised_sum(images, gains, EPSILON)
    for term, mean_C, var_C in zip(terms, means, variances, strict=True):
      count = term.image.size // term.image.shape[-1]
      term.norms.store(term.rows, mean_C, var_C, count)
  biases = [_bias(term, dtype) for term in terms if term.norms.affine]
  if biases:
    y = y + sum(biases).astype(y.dtype)[None, None, None]
  return y


def normalise(x_BxHxWxC: jax.Array, norms: Norms, rows=None) -> jax.Array:
  """The images of some rows, normalised; all rows where None."""
  rows = np.arange(len(norms.mean[...])) if rows is None else rows
  return normalised_sum([Term(x_BxHxWxC, norms, rows)])


def _with_running_statistics(terms: list[Term], gains) -> jax.Array:
  total = 0
  for term, gain_C in zip(terms, gains, strict=True):
    mean_C, var_C = (
      _take(stat[...], term.rows).astype(gain_C.dtype).reshape(-1)
      for stat in (term.norms.mean, term.norms.var)
    )
    slope_C = gain_C * jax.lax.rsqrt(var_C + EPSILON)
    shift_C = -mean_C * slope_C
    x = term.image.astype(gain_C.dtype)
    total += x * slope_C[None, None, None] + shift_C[None, None, None]
  return total.astype(terms[0].image.dtype)


def _gain(term: Term, dtype) -> jax.Array:
  """Scale times weight of each channel, `[R * C]`."""
  if term.norms.affine:
    gain_RxC = _take(term.norms.scale[...], term.rows).astype(dtype)
  else:
    gain_RxC = jnp.ones((len(term.rows), term.norms.channels), dtype)
  if term.weight_R is not None:
    gain_RxC = gain_RxC * term.weight_R.astype(dtype)[:, None]
  return gain_RxC.reshape(-1)


def _bias(term: Term, dtype) -> jax.Array:
  bias_RxC = _take(term.norms.bias[...], term.rows).astype(dtype)
  if term.weight_R is not None:
    bias_RxC = bias_RxC * term.weight_R.astype(dtype)[:, None]
  return bias_RxC.reshape(-1)


def _per_row(x_BxHxWxC, kernel_RxIxO) -> jax.Array:
  """A product over the channels of each row, `[B, H, W, R * O]`.

  With a kernel `[2, R, I, O]` of two halves it is `[B, H, W, 2 * R * O]`.
  """
  kernel_RxIxO = kernel_RxIxO.astype(x_BxHxWxC.dtype)
  rows, inputs, outputs = kernel_RxIxO.shape[-3:]
  if rows == 1:
    kernel_IxO = jnp.moveaxis(kernel_RxIxO, -2, 0).reshape(inputs, -1)
    return x_BxHxWxC @ kernel_IxO
  if rows * inputs <= _BLOCKS:
    eye = jnp.eye(rows, dtype=x_BxHxWxC.dtype)
    with arithmetic.left_out():
      blocks = jnp.einsum('...rio,rs->ri...so', kernel_RxIxO, eye)
    with arithmetic.one_in(rows):
      return x_BxHxWxC @ blocks.reshape(rows * inputs, -1)
  x_BxHxWxRxI = x_BxHxWxC.reshape(*x_BxHxWxC.shape[:3], rows, inputs)
  y = jnp.einsum('bhwri,...rio->bhw...ro', x_BxHxWxRxI, kernel_RxIxO)
  return y.reshape(*y.shape[:3], -1)


def _halves_first(point_RxIxO, mfm: bool):
  """With `mfm` the two halves of the outputs as a first axis."""
  if not mfm:
    return point_RxIxO
  rows, inputs, wide = point_RxIxO.shape
  return jnp.moveaxis(point_RxIxO.reshape(rows, inputs, 2, wide // 2), 2, 0)


def _reorder(x, rows: int):
  """Last axis from rows of two halves to two halves of rows."""
  parts = x.reshape(*x.shape[:-1], rows, 2, -1)
  return jnp.swapaxes(parts, -3, -2).reshape(x.shape)


def _take(x, rows: np.ndarray):
  """Some rows; a slice where they follow each other, free of charge."""
  if len(rows) == len(x) and (rows == np.arange(len(x))).all():
    return x
  if (np.diff(rows) == 1).all():
    return x[rows[0] : rows[-1] + 1]
  return x[rows]


def _put(x, rows: np.ndarray, new):
  if len(rows) == len(x) and (rows == np.arange(len(x))).all():
    return new
  return x.at[rows].set(new)
