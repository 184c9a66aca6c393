"""Layers with PyTorch's conventions, so that recipes and weights carry over.

Letters in names: B batch, H frequency, W time, C channels, I channels in,
O channels out.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.ops import conv, norm, relu_norm

Padding = tuple[tuple[int, int], tuple[int, int]]


def uniform_of_fan_in(fan_in: int):
  """Initialiser of PyTorch's Linear and Conv: uniform in +-1/sqrt(fan_in)."""
  return uniform(1 / math.sqrt(fan_in))


def uniform(bound: float):
  """Initialiser that draws uniformly from [-bound, bound)."""

  def init(key, shape, dtype, out_sharding=None):
    del out_sharding
    # Under a trace the key has no value that numpy could be seeded with.
    if isinstance(key, jax.core.Tracer):
      return jax.random.uniform(key, shape, dtype, -bound, bound)
    drawn = host_generator(key).uniform(-bound, bound, shape)
    return jax.device_put(drawn.astype(dtype))

  return init


def normal(deviation: float = 1.0):
  """Initialiser that draws from a normal distribution around 0."""

  def init(key, shape, dtype):
    if isinstance(key, jax.core.Tracer):
      return deviation * jax.random.normal(key, shape, dtype)
    drawn = host_generator(key).normal(0, deviation, shape)
    return jax.device_put(drawn.astype(dtype))

  return init


def host_generator(key: jax.Array) -> np.random.Generator:
  """The numpy generator that belongs to a JAX key.

  Weights are drawn on the host: XLA takes half a minute to compile a hundred
  draws, and seconds for as many conversions or constants of different shapes.
  A module that is made under a trace draws the same distributions with
  `jax.random`.
  """
  words = np.asarray(jax.random.key_data(key), np.uint64)
  return np.random.Generator(np.random.Philox(key=words))


def filled(value: float, shape: tuple[int, ...], dtype) -> jax.Array:
  """An array of one value, made on the host as `host_generator` says."""
  return jax.device_put(np.full(shape, value, dtype))


def stacked(*arrays: jax.Array) -> jax.Array:
  """Arrays along a new first axis, on the host where they have values."""
  if isinstance(arrays[0], jax.core.Tracer):
    return jnp.stack(arrays)
  return jax.device_put(np.stack(arrays))


def linear(
  in_features: int,
  out_features: int,
  *,
  param_dtype: str = 'float32',
  rngs: nnx.Rngs,
) -> nnx.Linear:
  """A dense layer with PyTorch's initial distribution."""
  init = uniform_of_fan_in(in_features)
  return nnx.Linear(
    in_features,
    out_features,
    kernel_init=init,
    bias_init=init,
    param_dtype=jnp.dtype(param_dtype),
    rngs=rngs,
  )


class Conv2d(nnx.Module):
  """A convolution of stride 1 in NHWC with a bias, computing in x's dtype."""

  def __init__(
    self,
    in_channels: int,
    out_channels: int,
    size: tuple[int, int],
    *,
    padding: Padding,
    param_dtype: str = 'float32',
    rngs: nnx.Rngs,
  ):
    """Draws the kernel `[*size, in_channels, out_channels]` and the bias."""
    init = uniform_of_fan_in(in_channels * math.prod(size))
    shape = (*size, in_channels, out_channels)
    self.kernel = nnx.Param(init(rngs.params(), shape, jnp.dtype(param_dtype)))
    self.bias = nnx.Param(
      init(rngs.params(), (out_channels,), jnp.dtype(param_dtype))
    )
    self.padding = padding

  def __call__(
    self,
    x_BxHxWxC: jax.Array,
    *,
    with_bias: bool = True,
    frames: int | None = None,
  ) -> jax.Array:
    """Returns `[B, H', W', out_channels]`, of W' the first `frames` alone."""
    dtype, (rows, (before, after)) = x_BxHxWxC.dtype, self.padding
    width = self.kernel.shape[1]
    # Fewer zeros behind the image, or even a part of it cut off, give exactly
    # the frames that are wanted: the others are not computed.
    if frames is not None:
      after = frames + width - 1 - before - x_BxHxWxC.shape[2]
    return conv.conv2d(
      x_BxHxWxC,
      self.kernel[...].astype(dtype),
      self.bias[...].astype(dtype) if with_bias else None,
      padding=(rows, (before, after)),
    )


class Noise:
  """Uniform random numbers for all dropout layers of a call, drawn at once.

  Each draw is a loop of its own, which takes XLA several times as long to
  compile as the layer around it; one draw and slices of it do not.
  """

  def __init__(self, values_BxN: jax.Array):
    """Takes numbers in [0, 1), N of them for each clip."""
    self._values_BxN, self._used = values_BxN, 0

  @classmethod
  def draw(cls, rngs: nnx.Rngs | None, batch: int, count: int) -> 'Noise':
    """Draws from the stream `dropout`.

    Raises:
      ValueError: no rngs are given.
    """
    if rngs is None:
      raise ValueError(
        'dropout needs random numbers in training mode: call the model with '
        'rngs=nnx.Rngs(dropout=key), or take its evaluation view'
      )
    shape = (batch, count)
    return cls(jax.random.uniform(rngs.dropout(), shape, jnp.float32))

  def take(self, shape: tuple[int, ...]) -> jax.Array:
    """The next numbers, in this shape (batch first)."""
    size = math.prod(shape[1:])
    part = self._values_BxN[:, self._used : self._used + size]
    assert part.shape[1] == size, 'fewer numbers drawn than used'
    self._used += size
    return part.reshape(shape)

  @property
  def left(self) -> int:
    """How many numbers per clip have not been used."""
    return self._values_BxN.shape[1] - self._used


class Dropout(nnx.Module):
  """Sets values to zero with probability `rate` and scales the others up."""

  def __init__(self, rate: float):
    """Starts in training mode."""
    self.rate, self.deterministic = rate, False

  def set_view(self, deterministic: bool | None = None):
    """Sets the mode; `nnx.view` calls it on every layer of a model.

    Args:
      deterministic: if True, return the input as it is.
    """
    if deterministic is not None:
      self.deterministic = deterministic

  def __call__(self, x: jax.Array, noise: Noise | None) -> jax.Array:
    """Returns `x` with holes; takes `x.size` numbers in training mode."""
    if self.deterministic or self.rate == 0:
      return x
    keep = noise.take(x.shape) >= self.rate
    return jnp.where(keep, x / (1 - self.rate), 0)


class BatchNorm(nnx.Module):
  """Batch normalisation over all axes but the last, as PyTorch does it.

  Training normalises with the biased variance of the batch and stores the
  unbiased one (factor n / (n - 1)); `momentum` is the weight of the new value.
  Statistics are at least float32, whatever the dtype of `x`, and computed in
  two passes (`after_relu`: in one, around the stored mean). Under `jit` with a
  sharded batch they are those of the global batch.

  Reference: Ioffe & Szegedy 2015, arXiv 1502.03167, algorithm 1.
  """

  def __init__(
    self,
    features: int,
    *,
    momentum: float = 0.1,
    epsilon: float = 1e-5,
    param_dtype: str = 'float32',
  ):
    """Starts at scale 1, bias 0, running mean 0, running variance 1."""
    self.momentum, self.epsilon = momentum, epsilon
    self.use_running_average = False
    dtype = jnp.dtype(param_dtype)
    self.scale = nnx.Param(filled(1, (features,), dtype))
    self.bias = nnx.Param(filled(0, (features,), dtype))
    self.mean = nnx.BatchStat(filled(0, (features,), dtype))
    self.var = nnx.BatchStat(filled(1, (features,), dtype))

  def set_view(
    self,
    use_running_average: bool | None = None,
    momentum: float | None = None,
  ):
    """Sets the mode; `nnx.view` calls it on every layer of a model.

    Args:
      use_running_average: if True, normalise with the stored statistics.
      momentum: weight of the new value; 1 / n at batch n makes the stored
        statistics the plain mean over batches.
    """
    if use_running_average is not None:
      self.use_running_average = use_running_average
    if momentum is not None:
      self.momentum = momentum

  def __call__(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Normalises `[..., features]`; in training mode updates the statistics.

    Args:
      x: `[..., features]`.
      mask: bool `[...]`, the positions that the batch's statistics are of;
        None: all. All positions are normalised.
    """
    dtype = np.promote_types(x.dtype, np.float32)
    if self.use_running_average:
      mean, var = self.mean[...].astype(dtype), self.var[...].astype(dtype)
    else:
      mean, var = moments(x, mask)
      self._update(mean, var, _count(x, mask, dtype))
    return self._apply(x, mean, var).astype(x.dtype)

  def after_relu(
    self, x: jax.Array, offset_C: jax.Array, mask: jax.Array | None = None
  ) -> jax.Array:
    """Normalises `relu(x + offset)`, in few passes over memory.

    The variance is taken in one pass, around the stored mean.

    Args:
      x: `[..., features]`.
      offset_C: a bias that `x` lacks.
      mask: bool `[...]`, the positions that statistics are taken over; None
        takes all.

    Returns:
      `[..., features]` in the dtype of `x`.
    """
    dtype = np.promote_types(x.dtype, np.float32)
    offset_C, scale_C, bias_C, near_C = (
      v.astype(dtype)
      for v in (offset_C, self.scale[...], self.bias[...], self.mean[...])
    )
    if self.use_running_average:
      mean, var = self.mean[...].astype(dtype), self.var[...].astype(dtype)
      offset = offset_C.reshape((1,) * (x.ndim - 1) + (-1,))
      r = jnp.maximum(x.astype(dtype) + offset, 0)
      return self._apply(r, mean, var).astype(x.dtype)
    y, mean, var = relu_norm.relu_batch_norm(
      x, offset_C, scale_C, bias_C, near_C, mask, self.epsilon
    )
    self._update(mean, var, _count(x, mask, dtype))
    return y

  def then_selu(self, x: jax.Array, offset_C: jax.Array | None = None):
    """SELU of the normalised `x + offset`, in few passes over memory.

    Args:
      x: `[..., features]`.
      offset_C: a bias that `x` lacks. In training mode it cancels, so only
        the stored mean sees it and no gradient flows to it: exactly zero,
        where rounding noise would become full steps of Adam.

    Returns:
      `[..., features]` in the dtype of `x`.
    """
    dtype = np.promote_types(x.dtype, np.float32)
    offset_C = 0 if offset_C is None else offset_C.astype(dtype)
    if self.use_running_average:
      mean, var = self.mean[...].astype(dtype), self.var[...].astype(dtype)
      # x + offset - mean, without a pass over x for the offset.
      return norm.selu(self._apply(x, mean - offset_C, var)).astype(x.dtype)
    scale, bias = self.scale[...].astype(dtype), self.bias[...].astype(dtype)
    near = self.mean[...].astype(dtype) - offset_C
    y, mean, var = norm.batch_norm_selu(x, scale, bias, near, self.epsilon)
    self._update(mean + offset_C, var, x.size // x.shape[-1])
    return y

  def _apply(self, x: jax.Array, mean: jax.Array, var: jax.Array):
    gain = self.scale[...].astype(mean.dtype) * jax.lax.rsqrt(
      var + self.epsilon
    )
    mean, gain, bias = (
      v.reshape((1,) * (x.ndim - 1) + (-1,))
      for v in (mean, gain, self.bias[...].astype(mean.dtype))
    )
    return (x.astype(mean.dtype) - mean) * gain + bias

  def _update(self, mean: jax.Array, var: jax.Array, count: int | jax.Array):
    if isinstance(count, int) and count < 2:
      raise ValueError(
        'BatchNorm in training mode needs more than one value per channel '
        '(a batch of one clip leaves one); use a larger batch'
      )
    for stat, new in (
      (self.mean, mean),
      # PyTorch stores the unbiased variance, though it divides by the biased.
      (self.var, var * (count / (count - 1))),
    ):
      old = stat[...]
      step = self.momentum * new.astype(old.dtype)
      stat.set_value((1 - self.momentum) * old + step)


class UnusedBatchNorm(nnx.Module):
  """Holds the arrays of a BatchNorm that the original never reads.

  The residual blocks of AASIST compute a normalisation and throw it away. Its
  parameters are part of the published weights and of the published parameter
  count, so they are kept; nothing is computed with them. Their gradient is
  zero, and the running statistics stay what they were (the original went on
  updating them).
  """

  def __init__(self, features: int, *, param_dtype: str = 'float32'):
    """Starts like `BatchNorm`."""
    dtype = jnp.dtype(param_dtype)
    self.scale = nnx.Param(filled(1, (features,), dtype))
    self.bias = nnx.Param(filled(0, (features,), dtype))
    self.mean = nnx.BatchStat(filled(0, (features,), dtype))
    self.var = nnx.BatchStat(filled(1, (features,), dtype))


def wide(dtype) -> jnp.dtype:
  """The dtype to compute statistics and other sums in: float32 or wider."""
  dtype = jnp.dtype(dtype)
  return dtype if dtype.itemsize > 4 else jnp.dtype(jnp.float32)


def transformed(transform, module: nnx.Module, *args):
  """Calls a module inside a JAX transformation such as `jax.checkpoint`.

  Unlike the transformations of NNX this leaves the module alone in evaluation
  mode, so that a function may close over it.

  Args:
    transform: takes and returns a function whose first argument is the state
      of the module and whose others are `args`.
    module: what to call; its new BatchNorm statistics are stored in it.
    *args: arrays, or None.
  """
  graphdef, state = nnx.split(module)

  def run(state, *args):
    inner = nnx.merge(graphdef, state)
    return inner(*args), nnx.state(inner, nnx.BatchStat)

  out, new = transform(run)(state, *args)
  if any(
    isinstance(m, BatchNorm) and not m.use_running_average
    for _, m in nnx.iter_modules(module)
  ):
    nnx.update(module, new)
  return out


def moments(
  x: jax.Array, mask: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
  """Mean and biased variance over all axes but the last, in two passes.

  Args:
    x: `[..., features]`.
    mask: bool `[...]`, the positions to count; None: all.
  """
  x = x.astype(wide(x.dtype))
  axes = tuple(range(x.ndim - 1))
  where = None if mask is None else mask[..., None]
  mean = x.mean(axes, keepdims=True, where=where)
  return mean.reshape(-1), jnp.square(x - mean).mean(axes, where=where)


def _count(x: jax.Array, mask: jax.Array | None, dtype):
  """How many positions statistics are of; 2 at least where it is traced."""
  if mask is None:
    return x.size // x.shape[-1]
  return jnp.maximum(mask.sum(dtype=dtype), 2)
