"""wav2vec 2.0, HuBERT and WavLM: waves in, the states of all layers out.

References: Baevski et al. 2020 (arXiv 2006.11477), Hsu et al. 2021
(2106.07447), Chen et al. 2022 (2110.13900).

Letters in names: B batch, T samples, N frames, D width, L layers, H heads.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.frontends.ssl import parts
from jaxspoof.frontends.ssl.architecture import Architecture
from jaxspoof.frontends.ssl.states import States


class Encoder(nnx.Module):
  """A self-supervised encoder.

  A clip in a padded batch has on its frames the states that it has alone.
  Nothing in it is random, in training either: no dropout, no dropped layers,
  no masks. It has no layer for masked frames and none for pretraining.
  """

  def __init__(
    self,
    config: Architecture,
    rngs: nnx.Rngs,
    *,
    dtype: str = 'float32',
    param_dtype: str = 'float32',
    remat: bool = False,
    split: int | None = None,
  ):
    """Draws weights.

    Args:
      config: sizes and switches.
      rngs: random streams; weights are drawn from `params`.
      dtype: dtype of products and convolutions; norms, GELU and states are
        always float32 at least.
      param_dtype: dtype of the weights.
      remat: whether the inside of each layer is computed again for the
        gradient, which saves memory and costs time.
      split: how many layers are in the stack `layers`; the others are in
        `upper`, so that they can be trained apart. None: all are in one.
    """
    self.config, self.dtype, self.remat = config, dtype, remat
    options = dict(param_dtype=param_dtype, rngs=rngs)
    inputs = (1, *config.conv_channels)
    for i, (taps, stride) in enumerate(
      zip(config.conv_kernels, config.conv_strides, strict=True)
    ):
      everywhere = config.conv_norm == 'layer'
      block = parts.ConvBlock(
        inputs[i],
        inputs[i + 1],
        taps,
        stride,
        bias=config.conv_bias,
        norm=config.conv_norm if everywhere or i == 0 else None,
        **options,
      )
      # Named attributes: integer keys of nnx.List do not survive checkpoints.
      setattr(self, f'conv{i}', block)
    if config.projection_norm:
      self.projection_norm = parts.Norm(inputs[-1], param_dtype=param_dtype)
    else:
      self.projection_norm = None
    self.projection = parts.Dense(inputs[-1], config.width, **options)
    self.position = parts.Position(config, **options)
    self.norm = parts.Norm(config.width, param_dtype=param_dtype)
    stacks = parts.stacks(config, split, **options)
    for name, stack in stacks:
      setattr(self, name, stack)
    self.stacks = tuple(name for name, _ in stacks)
    if config.buckets:
      draw, shape = layers.normal(1.0), (config.buckets, config.heads)
      self.distances = nnx.Param(
        draw(rngs.params(), shape, jnp.dtype(param_dtype))
      )
    else:
      self.distances = None

  def __call__(
    self,
    wave_BxT: jax.Array,
    samples_B: jax.Array | None = None,
    *,
    hidden: bool = False,
    lora: dict | None = None,
  ) -> States:
    """Encodes waves.

    Args:
      wave_BxT: floating-point waves at 16 kHz, normalised or not as the
        weights expect them.
      samples_B: int32, number of valid samples of each clip; None if all are.
      hidden: whether the states of all layers are returned, too.
      lora: what is added to kernels, see `lora.Lora.weights`.
    """
    c, dtype = self.config, jnp.dtype(self.dtype)
    features_BxNxC, frames_B = self.convolve(wave_BxT, samples_B)
    x = self.project(features_BxNxC)
    valid_BxNx1 = mask_Bx1x1xN = bias_HxNxN = None
    if frames_B is not None:
      valid_BxNx1 = parts.valid(frames_B, x.shape[1])
      mask_Bx1x1xN = valid_BxNx1[:, None, None, :, 0]
      x = parts.zeroed(x, valid_BxNx1)
    with jax.named_scope('position'):
      x = x + self.position(x, valid_BxNx1, dtype).astype(x.dtype)
    if not c.pre_norm:
      x = self.norm(x, c.norm_epsilon)
    if self.distances is not None:
      bias_HxNxN = parts.bucket_bias(
        self.distances[...], x.shape[1], c.max_distance
      )

    def step(x, weights):
      made = parts.layer(c, weights, x, mask_Bx1x1xN, bias_HxNxN, dtype)
      return made, x if hidden else None

    if self.remat:
      step = jax.checkpoint(step, prevent_cse=False)
    with jax.named_scope('layers'):
      x, entered = parts.run(self, self.stacks, step, x, lora)
    states = jnp.concatenate([entered, x[None]]) if hidden else None
    if c.pre_norm:
      x = self.norm(x, c.norm_epsilon)
    return States(x, states, frames_B)

  def convolve(
    self, wave_BxT: jax.Array, samples_B: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array | None]:
    """Outputs of the convolutions, `[B, N, C]`, and valid frames per clip."""
    h, frames_B = wave_BxT.astype(self.dtype)[..., None], samples_B
    for i in range(len(self.config.conv_kernels)):
      h, frames_B = getattr(self, f'conv{i}')(h, frames_B)
    if frames_B is not None:
      frames_B = jnp.maximum(frames_B, 0)
    return h, frames_B

  def project(self, features_BxNxC: jax.Array) -> jax.Array:
    """Projects features to the width of the transformer, `[B, N, D]`."""
    h = features_BxNxC
    if self.projection_norm is not None:
      h = self.projection_norm(h, self.config.norm_epsilon)
    h = self.projection(h.astype(self.dtype))
    return h.astype(layers.wide(h.dtype))
