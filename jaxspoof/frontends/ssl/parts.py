"""Parts of a self-supervised encoder.

Products and convolutions are computed in the dtype of the run; norms and GELU
in float32 at least, as the original code does whatever the dtype of the model
is, and so is what passes from layer to layer.

Letters in names: B batch, N frames, C channels, D width, L layers, H heads, K
taps, I inputs, O outputs, R distances.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.ops import grouped

CONV_EPSILON = 1e-5  # of the norms of convolutions, in every model


class Norm(nnx.Module):
  """Scale and bias of a norm over the last axis."""

  def __init__(self, *shape: int, param_dtype: str = 'float32'):
    """Starts at scale 1, bias 0; a leading axis counts stacked layers."""
    self.scale = nnx.Param(layers.filled(1, shape, param_dtype))
    self.bias = nnx.Param(layers.filled(0, shape, param_dtype))

  def __call__(self, x: jax.Array, epsilon: float) -> jax.Array:
    """Returns `x` normalised over its last axis, float32 or wider."""
    return layer_norm(x, self.scale[...], self.bias[...], epsilon)


class Dense(nnx.Module):
  """Kernel `[..., I, O]` and bias; a leading axis counts stacked layers."""

  def __init__(self, *shape: int, param_dtype: str, rngs: nnx.Rngs):
    """Draws the kernel as the original does: normal, deviation 0.02."""
    dtype = jnp.dtype(param_dtype)
    self.kernel = nnx.Param(layers.normal(0.02)(rngs.params(), shape, dtype))
    self.bias = nnx.Param(layers.filled(0, (*shape[:-2], shape[-1]), dtype))

  def __call__(self, x: jax.Array) -> jax.Array:
    """Returns the product in the dtype of `x`."""
    return dense(x, {'kernel': self.kernel[...], 'bias': self.bias[...]})


class ConvBlock(nnx.Module):
  """A convolution over time, its norm if it has one, and GELU."""

  def __init__(
    self,
    inputs: int,
    outputs: int,
    taps: int,
    stride: int,
    *,
    bias: bool,
    norm: str | None,
    param_dtype: str,
    rngs: nnx.Rngs,
  ):
    """Draws the kernel (He et al. 2015); `norm` as in `Architecture`."""
    draw = layers.normal(math.sqrt(2 / (inputs * taps)))
    dtype = jnp.dtype(param_dtype)
    self.kernel = nnx.Param(draw(rngs.params(), (taps, inputs, outputs), dtype))
    self.bias = nnx.Param(layers.filled(0, (outputs,), dtype)) if bias else None
    self.norm = Norm(outputs, param_dtype=param_dtype) if norm else None
    self.stride, self.kind = stride, norm

  def __call__(
    self, x_BxNxI: jax.Array, frames_B: jax.Array | None
  ) -> tuple[jax.Array, jax.Array | None]:
    """Returns `[B, N', outputs]` and the valid frames of each clip."""
    dtype, taps = x_BxNxI.dtype, self.kernel.shape[0]
    h = jax.lax.conv_general_dilated(
      x_BxNxI,
      self.kernel[...].astype(dtype),
      (self.stride,),
      'VALID',
      dimension_numbers=('NWC', 'WIO', 'NWC'),
    )
    if self.bias is not None:
      h = h + self.bias[...].astype(dtype)[None, None]
    if frames_B is not None:
      frames_B = (frames_B - taps) // self.stride + 1
    if self.kind == 'layer':
      h = self.norm(h, CONV_EPSILON)
    elif self.kind == 'group':
      h = self._over_time(h, frames_B)
    return gelu(h).astype(dtype), frames_B

  def _over_time(self, h_BxNxC, frames_B):
    """Normalises each channel over the frames of its clip.

    The original's norm counts padding as well, so that what a clip becomes
    depends on its batch. Here it has the features that it has alone.
    """
    h = h_BxNxC.astype(layers.wide(h_BxNxC.dtype))
    where = None if frames_B is None else valid(frames_B, h.shape[1])
    mean = h.mean(1, keepdims=True, where=where)
    var = jnp.square(h - mean).mean(1, keepdims=True, where=where)
    h = (h - mean) * jax.lax.rsqrt(var + CONV_EPSILON)
    scale, bias = (
      v[...].astype(h.dtype)[None, None]
      for v in (self.norm.scale, self.norm.bias)
    )
    return h * scale + bias


class Position(nnx.Module):
  """The convolution that tells each frame its surroundings.

  Its kernel is a direction `v` times a length `g` for each tap, or, with batch
  norm before it, a plain `kernel`. The statistics of that norm stay as the
  weights have them, in training too.
  """

  def __init__(self, config, *, param_dtype: str, rngs: nnx.Rngs):
    """Draws the kernel `[K, D / groups, D]` of an `Architecture`."""
    width, taps = config.width, config.position_taps
    self.groups, self.epsilon = config.position_groups, CONV_EPSILON
    dtype, shape = jnp.dtype(param_dtype), (taps, width // self.groups, width)
    draw = layers.normal(2 * math.sqrt(1 / (taps * width)))
    kernel_KxIxO = draw(rngs.params(), shape, dtype)
    if config.position_batch_norm:
      self.norm = layers.BatchNorm(width, param_dtype=param_dtype)
      self.kernel = nnx.Param(kernel_KxIxO)
    else:
      self.norm = None
      self.v = nnx.Param(kernel_KxIxO)
      self.g = nnx.Param(jnp.sqrt(jnp.square(kernel_KxIxO).sum((1, 2))))
    self.bias = nnx.Param(layers.filled(0, (width,), dtype))

  def __call__(
    self, x_BxNxD: jax.Array, valid_BxNx1: jax.Array | None, dtype
  ) -> jax.Array:
    """Returns `[B, N, D]`, computed in `dtype`."""
    kernel = self._kernel()
    taps, frames = len(kernel), x_BxNxD.shape[1]
    if self.norm is not None:
      fixed = nnx.view(self.norm, use_running_average=True)
      x_BxNxD = zeroed(fixed(x_BxNxD), valid_BxNx1)
    pad = ((0, 0), (taps // 2, taps // 2), (0, 0))
    h = grouped.grouped_conv(
      jnp.pad(x_BxNxD.astype(dtype), pad), kernel.astype(dtype), self.groups
    )
    # An even kernel makes one frame too many.
    h = h[:, :frames] + self.bias[...].astype(dtype)[None, None]
    return gelu(h)

  def _kernel(self) -> jax.Array:
    if self.norm is not None:
      return self.kernel[...]
    v = self.v[...].astype(layers.wide(self.v.dtype))
    length = jnp.sqrt(jnp.square(v).sum((1, 2), keepdims=True))
    return v / length * self.g[...].astype(v.dtype)[:, None, None]


class Layers(nnx.Module):
  """The weights of all layers of a transformer, stacked along a first axis."""

  def __init__(
    self, config, *, count: int | None = None, param_dtype: str, rngs: nnx.Rngs
  ):
    """Draws the weights of an `Architecture`.

    Args:
      config: has the sizes.
      count: of layers; None: all of the architecture.
      param_dtype: dtype of the weights.
      rngs: random streams; weights are drawn from `params`.
    """
    count = config.layers if count is None else count
    width, inner = config.width, config.inner
    options = dict(param_dtype=param_dtype, rngs=rngs)
    for name in ('query', 'key', 'value', 'out'):
      setattr(self, name, Dense(count, width, width, **options))
    self.attention_norm = Norm(count, width, param_dtype=param_dtype)
    self.feed1 = Dense(count, width, inner, **options)
    self.feed2 = Dense(count, inner, width, **options)
    self.final_norm = Norm(count, width, param_dtype=param_dtype)
    if config.buckets:
      self.gate = Dense(count, width // config.heads, 8, **options)
      ones = layers.filled(1, (count, config.heads), param_dtype)
      self.gate_factor = nnx.Param(ones)


def stacks(config, split: int | None, **options) -> list[tuple[str, Layers]]:
  """The layers of an encoder, in one stack or two, each with its name.

  Args:
    config: an `Architecture`.
    split: how many layers are in the first stack, `layers`; the others are in
      `upper`. None: all are in the first.
    **options: of `Layers`.
  """
  if split is None:
    return [('layers', Layers(config, **options))]
  lower = Layers(config, count=split, **options)
  upper = Layers(config, count=config.layers - split, **options)
  return [('layers', lower), ('upper', upper)]


def run(module, names, step, x, lora=None):
  """Runs stacks of layers one after the other.

  Args:
    module: has a `Layers` under each of `names`.
    names: of the stacks, in their order.
    step: `(x, weights) -> (x, kept)`, one layer.
    x: what enters the first layer.
    lora: what is added to kernels, see `lora.Lora.weights`; None: nothing.

  Returns:
    What leaves the last layer, and what was kept of all layers, or None.
  """
  found, first = [], 0
  for name in names:
    weights = nnx.to_pure_dict(nnx.state(getattr(module, name)))
    last = first + len(weights['query']['bias'])
    for target, pair in (lora or {}).items():
      parts = {k: v[first:last] for k, v in pair.items()}
      weights[target] = {**weights[target], **parts}
    if isinstance(weights['query']['bias'], tuple):
      x, kept = _one_by_one(step, x, weights, last - first)
    else:
      # One program for all layers of a stack: compiling takes as long for 48
      # as for 2.
      x, kept = jax.lax.scan(step, x, weights)
    found.append(kept)
    first = last
  if found[0] is None:
    return x, None
  return x, found[0] if len(found) == 1 else jnp.concatenate(found)


def _one_by_one(step, x, weights, count: int):
  """What `jax.lax.scan` gives, for layers that `unstack` took apart."""
  kept = []
  for i in range(count):
    of_layer = jax.tree.map(
      lambda v, i=i: v[i].T if isinstance(v, tuple) else v[i],
      weights,
      is_leaf=lambda v: not isinstance(v, dict),
    )
    x, state = step(x, of_layer)
    kept.append(state)
  return x, None if kept[0] is None else jnp.stack(kept)


def unstack(module: nnx.Module) -> None:
  """Makes each layer's weights arrays of their own: for inference on a CPU.

  There one clip through XLS-R 300M takes about a tenth less time than with
  slices of stacks, with matrices that lie transposed. The program grows with
  the number of layers, and so does the time to compile it. Nothing that is
  saved or trained is to be taken apart: its weights are known by the stacks.

  Args:
    module: any; the stacks of its encoders are changed in place.
  """
  for _, part in nnx.iter_graph(module):
    if isinstance(part, Layers):
      for _, weight in nnx.iter_graph(part):
        if isinstance(weight, nnx.Param):
          # By way of NumPy: JAX would compile how to slice each shape.
          slots = np.asarray(weight[...])
          weight.set_value(
            tuple(
              jax.device_put(np.ascontiguousarray(slot.T)) for slot in slots
            )
          )


def divided(given: dict, split: int | None, layers: int) -> None:
  """Gives arrays of layers to the stacks that `stacks` makes.

  Args:
    given: arrays by our names, see `tensors.fit.Given`; changed in place.
    split: see `stacks`.
    layers: how many layers there are to be; more are left out.
  """
  for name in [name for name in given if name.startswith('layers.')]:
    slots = given[name][:layers]
    given[name] = slots[:split]
    if split is not None:
      given[f'upper.{name.removeprefix("layers.")}'] = slots[split:]


STACKS = ('layers.', 'upper.')  # what names of stacked arrays begin with


def layer(config, weights: dict, x_BxNxD, mask_Bx1x1xN, bias_HxNxN, dtype):
  """One layer of the transformer, `[B, N, D]` to the same.

  Args:
    config: an `Architecture`.
    weights: the weights of this layer, by the names of `Layers`.
    x_BxNxD: states, float32 or wider.
    mask_Bx1x1xN: True for frames to attend to; None if all are.
    bias_HxNxN: added to the attention by the distance of frames, before the
      gate; None if attention does not know distances.
    dtype: dtype of the products.
  """

  def norm(x, name):
    w = weights[name]
    return layer_norm(x, w['scale'], w['bias'], config.norm_epsilon)

  def attention(x):
    x = x.astype(dtype)
    heads = (*x.shape[:2], config.heads, -1)
    q, k, v = (
      dense(x, weights[name]).reshape(heads)
      for name in ('query', 'key', 'value')
    )
    bias = None
    if bias_HxNxN is not None:
      share_BxHxNx1 = gate(weights, x.reshape(heads))
      bias = share_BxHxNx1 * bias_HxNxN.astype(share_BxHxNx1.dtype)[None]
    h = attend(q, k, v, bias, mask_Bx1x1xN)
    return dense(h.reshape(x.shape), weights['out']).astype(x_BxNxD.dtype)

  def feed_forward(x):
    h = gelu(dense(x.astype(dtype), weights['feed1'])).astype(dtype)
    return dense(h, weights['feed2']).astype(x_BxNxD.dtype)

  if config.pre_norm:
    x_BxNxD = x_BxNxD + attention(norm(x_BxNxD, 'attention_norm'))
    return x_BxNxD + feed_forward(norm(x_BxNxD, 'final_norm'))
  x_BxNxD = norm(x_BxNxD + attention(x_BxNxD), 'attention_norm')
  return norm(x_BxNxD + feed_forward(x_BxNxD), 'final_norm')


def attend(q_BxNxHxI, k_BxMxHxI, v_BxMxHxI, bias_BxHxNxM, mask_Bx1x1xM):
  """Attention, `[B, N, H, I]` in the dtype of `q`; softmax in float32.

  `jax.nn.dot_product_attention` computes the same, but refuses bfloat16 where
  dtypes are not promoted on their own.
  """
  wide = layers.wide(q_BxNxHxI.dtype)
  scale = q_BxNxHxI.shape[-1] ** -0.5
  h = jnp.einsum(
    'bnhi,bmhi->bhnm',
    q_BxNxHxI * scale,
    k_BxMxHxI,
    preferred_element_type=wide,
  )
  if bias_BxHxNxM is not None:
    h = h + bias_BxHxNxM.astype(wide)
  if mask_Bx1x1xM is not None:
    h = jnp.where(mask_Bx1x1xM, h, jnp.finfo(wide).min)
  h_BxHxNxM = jnp.exp(h - jax.lax.stop_gradient(h.max(-1, keepdims=True)))
  # Weights are divided by their sum behind the product, which has fewer values.
  found_BxHxNxI = jnp.einsum(
    'bhnm,bmhi->bhni',
    h_BxHxNxM.astype(v_BxMxHxI.dtype),
    v_BxMxHxI,
    preferred_element_type=wide,
  )
  found_BxHxNxI = found_BxHxNxI / h_BxHxNxM.sum(-1, keepdims=True)
  return jnp.moveaxis(found_BxHxNxI, 1, 2).astype(q_BxNxHxI.dtype)


def gate(weights: dict, x_BxNxHxI: jax.Array) -> jax.Array:
  """How much of the bias of distances each frame and head takes.

  Returns:
    `[B, H, N, 1]`, float32 or wider.
  """
  h = dense(x_BxNxHxI, weights['gate'])
  h = h.astype(layers.wide(h.dtype))
  h_BxNxHx2 = jax.nn.sigmoid(h.reshape(*h.shape[:3], 2, 4).sum(-1))
  a, b = h_BxNxHx2[..., 0], h_BxNxHx2[..., 1]
  factor = weights['gate_factor'].astype(h.dtype)[None, None]
  made_BxNxH = a * (b * factor - 1) + 2
  return made_BxNxH.swapaxes(1, 2)[..., None]


def bucket_bias(
  embedding_RxH: jax.Array, frames: int, max_distance: int
) -> jax.Array:
  """The bias of attention by the distance from query to key, `[H, N, N]`."""
  buckets = bucket_of(
    np.arange(1 - frames, frames), len(embedding_RxH), max_distance
  )
  # One value for each distance -(N - 1) ... N - 1 and a filler. Rows of a
  # matrix that is one column narrower than the period are each shifted by one.
  values = jnp.pad(embedding_RxH[buckets].T, ((0, 0), (0, 1)))
  flat = jnp.tile(values, (1, frames))[:, : frames * (2 * frames - 1)]
  rows = flat.reshape(-1, frames, 2 * frames - 1)
  return rows[:, :, frames - 1 :]


def bucket_of(
  distance: np.ndarray, buckets: int, max_distance: int
) -> np.ndarray:
  """The bucket of distances from query to key, as T5 and WavLM count them.

  The upper half is for keys that come later. Of each half, half the buckets
  are for one distance each; the others grow by equal factors up to
  `max_distance`, and the last takes all that are longer.
  """
  half = buckets // 2
  exact = half // 2
  far = np.abs(distance)
  # In float32, as the original: a float64 may truncate to another bucket.
  share = np.log(np.maximum(far, 1).astype(np.float32) / np.float32(exact))
  share = share / np.float32(math.log(max_distance / exact))
  grown = exact + (share * np.float32(half - exact)).astype(np.int64)
  found = np.where(far < exact, far, np.minimum(grown, half - 1))
  return found + half * (distance > 0)


def dense(x: jax.Array, weights: dict) -> jax.Array:
  """Product and bias in the dtype of `x`, with what is adapted, see `lora`."""
  h = jnp.matmul(x, weights['kernel'].astype(x.dtype))
  if 'lora_a' in weights:
    thin = jnp.matmul(x, weights['lora_a'].astype(x.dtype))
    h = h + jnp.matmul(thin, weights['lora_b'].astype(x.dtype))
  bias = weights['bias'].astype(x.dtype)
  return h + bias.reshape((1,) * (h.ndim - 1) + (-1,))


def layer_norm(x: jax.Array, scale, bias, epsilon: float) -> jax.Array:
  """Normalises over the last axis, float32 or wider, in two passes."""
  x = x.astype(layers.wide(x.dtype))
  x = x - x.mean(-1, keepdims=True)
  x = x * jax.lax.rsqrt(jnp.square(x).mean(-1, keepdims=True) + epsilon)
  one = (1,) * (x.ndim - 1) + (-1,)
  return x * scale.astype(x.dtype).reshape(one) + bias.astype(x.dtype).reshape(
    one
  )


def gelu(x: jax.Array) -> jax.Array:
  """GELU by the error function, not its approximation; float32 or wider."""
  return jax.nn.gelu(x.astype(layers.wide(x.dtype)), approximate=False)


def valid(frames_B: jax.Array, frames: int) -> jax.Array:
  """Which frames are a clip's own: bool `[B, N, 1]`."""
  index_1xN = jnp.arange(frames, dtype=frames_B.dtype)[None]
  return (index_1xN < frames_B[:, None])[..., None]


def zeroed(x_BxNxD: jax.Array, valid_BxNx1: jax.Array | None) -> jax.Array:
  """Sets states behind each clip's end to zero."""
  return x_BxNxD if valid_BxNx1 is None else jnp.where(valid_BxNx1, x_BxNxD, 0)
