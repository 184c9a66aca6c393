"""ECAPA-TDNN: a sequence of acoustic features to an embedding.

Desplanques, Thienpondt, Demuynck 2020, "ECAPA-TDNN: Emphasized Channel
Attention, Propagation and Aggregation in TDNN Based Speaker Verification",
arXiv 2005.07143. Structure, arguments and defaults are those of SpeechBrain,
so that its weights can be imported (`jaxspoof.importers.ecapa`).

Letters in names: B batch, N frames, F features of a frame, C channels, D size
of the embedding.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.models import layers
from jaxspoof.models.ecapa_blocks import Conv1d, Extent, SERes2Net, Tdnn
from jaxspoof.models.ecapa_config import TdnnConfig
from jaxspoof.models.ecapa_pooling import AttentivePooling


class ECAPA_TDNN(nnx.Module):  # noqa: N801 (the name of the original)
  """Features in, an embedding out.

  ```python
  model = ECAPA_TDNN(80, lin_neurons=192, rngs=nnx.Rngs(0))
  model(jnp.zeros((5, 120, 80))).shape  # (5, 1, 192)
  ```

  Padded batches. The original tells the lengths of clips to squeeze and
  excitation and to the pooling alone: convolutions reflect at the end of the
  batch and run over the padding, and normalisation in training counts it, so
  that an embedding depends on what a clip was batched with. With
  padding='clip', the default, each clip is reflected at its own end and
  statistics are of valid frames alone: a clip has the embedding that it has
  alone. padding='batch' is the original's way, number by number. Without
  lengths both are the same.

  A new module is in training mode: dropout, batch statistics. For evaluation
  take `nnx.view(model, deterministic=True, use_running_average=True)`.
  """

  def __init__(
    self,
    input_size: int,
    lin_neurons: int = 192,
    activation: str | Callable = 'relu',
    channels: Sequence[int] = (512, 512, 512, 512, 1536),
    kernel_sizes: Sequence[int] = (5, 3, 3, 3, 1),
    dilations: Sequence[int] = (1, 2, 3, 4, 1),
    attention_channels: int = 128,
    res2net_scale: int = 8,
    se_channels: int = 128,
    global_context: bool = True,
    groups: Sequence[int] = (1, 1, 1, 1, 1),
    dropout: float = 0.0,
    *,
    padding: str = 'clip',
    dtype: str = 'float32',
    param_dtype: str = 'float32',
    rngs: nnx.Rngs,
  ):
    """Draws the parameters as the original does.

    Args are the attributes of `TdnnConfig`, and `rngs` with stream `params`.

    Raises:
      ValueError: arguments that do not fit, named.
    """
    config = TdnnConfig(
      input_size=input_size,
      lin_neurons=lin_neurons,
      activation=activation,
      channels=tuple(channels),
      kernel_sizes=tuple(kernel_sizes),
      dilations=tuple(dilations),
      attention_channels=attention_channels,
      res2net_scale=res2net_scale,
      se_channels=se_channels,
      global_context=global_context,
      groups=tuple(groups),
      dropout=dropout,
      padding=padding,
      dtype=dtype,
      param_dtype=param_dtype,
    )
    self.config = config
    self._make(config, dict(param_dtype=param_dtype, rngs=rngs))

  def _make(self, config: TdnnConfig, options: dict):
    outer = dict(activation=config.function, dropout=config.dropout, **options)
    first, *blocks, last = config.layers
    self.block0 = Tdnn(*first[:3], **_spread(first), **outer)
    for i, layer in enumerate(blocks, 1):
      block = SERes2Net(
        *layer[:3],
        scale=config.res2net_scale,
        hidden=config.se_channels,
        **_spread(layer),
        **outer,
      )
      # Named attributes: integer keys of nnx.List do not survive checkpoints.
      setattr(self, f'block{i}', block)
    self.mfa = Tdnn(*last[:3], **_spread(last), **outer)
    self.asp = AttentivePooling(
      last.outputs,
      config.attention_channels,
      context=config.global_context,
      **options,
    )
    self.asp_bn = layers.BatchNorm(
      2 * last.outputs, param_dtype=config.param_dtype
    )
    self.fc = Conv1d(2 * last.outputs, config.lin_neurons, **options)

  def __call__(
    self,
    x_BxNxF: jax.Array,
    lengths_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> jax.Array:
    """Embeds clips.

    Args:
      x_BxNxF: floating-point features, `config.input_size` for each frame.
      lengths_B: valid part of each clip relative to the batch's frames, in
        (0, 1]; None: all of it. Frame i is valid where i < length * N.
      rngs: stream `dropout`; needed in training mode with dropout only.

    Returns:
      float32 embeddings `[B, 1, lin_neurons]` (float64 where the parameters
      are).

    Raises:
      ValueError: not `[B, N, input_size]`, not floating point, clips that are
        too short to be reflected, lengths outside (0, 1]. Values are looked
        at where they are known, not under `jit`.
    """
    if lengths_B is None:
      return self.embed(x_BxNxF, None, rngs)
    frames_B = frames_of(lengths_B, x_BxNxF.shape)
    return self.embed(x_BxNxF, frames_B, rngs)

  def embed(
    self,
    x_BxNxF: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> jax.Array:
    """Like a call, with the number of valid frames of each clip, int32."""
    self._check(x_BxNxF, frames_B)
    extent, noise = self._extent(x_BxNxF, frames_B), None
    if self.config.dropped and not self.mfa.dropout.deterministic:
      noise = layers.Noise.draw(rngs, len(x_BxNxF), self.config.dropped)
    h = x_BxNxF.astype(jnp.dtype(self.config.dtype))
    if extent is not None and self.config.padding == 'clip':
      # Whatever the padding holds, it is not to come near the clip.
      h = jnp.where(extent.mask_BxN[..., None], h, 0)
    with jax.named_scope('blocks'):
      h = self.block0(h, extent, noise)
      made = []
      for i in range(1, len(self.config.channels) - 1):
        h = getattr(self, f'block{i}')(h, extent, noise)
        made.append(h)
    with jax.named_scope('mfa'):
      h = self.mfa(jnp.concatenate(made, 2), extent, noise)
    assert noise is None or not noise.left, 'more numbers drawn than used'
    with jax.named_scope('pooling'):
      return self.fc(self.asp_bn(self.asp(h, extent)))

  def _extent(self, x_BxNxF, frames_B) -> Extent | None:
    if frames_B is None:
      return None
    # Rows that only fill a batch have no frames: they are not to make NaN.
    frames_B = jnp.maximum(frames_B, 1)
    frame_N = jnp.arange(x_BxNxF.shape[1], dtype=frames_B.dtype)
    mask_BxN = frame_N[None] < frames_B[:, None]
    return Extent(mask_BxN, frames_B if self.config.padding == 'clip' else None)

  def _check(self, x_BxNxF, frames_B):
    config = self.config
    if x_BxNxF.ndim != 3 or not jnp.issubdtype(x_BxNxF.dtype, jnp.floating):
      raise ValueError(
        'expected floating-point features [batch, frames, features], got '
        f'{x_BxNxF.dtype}{list(x_BxNxF.shape)}'
      )
    if x_BxNxF.shape[2] != config.input_size:
      raise ValueError(
        f'got {x_BxNxF.shape[2]} features for each frame, this model takes '
        f'input_size={config.input_size}'
      )
    shortest = x_BxNxF.shape[1]
    if config.padding == 'clip' and known(frames_B):
      shortest = min(shortest, int(np.min(frames_B)))
    if shortest < config.min_frames:
      raise ValueError(
        f'clips of {shortest} frames are too short: this model reflects '
        f'{config.min_frames - 1} at each end, so it needs at least '
        f'{config.min_frames}'
      )


def frames_of(lengths_B: jax.Array, shape: tuple[int, ...]) -> jax.Array:
  """Valid frames, int32, of relative lengths in a batch of this shape."""
  lengths_B = jnp.asarray(lengths_B)
  if lengths_B.shape != shape[:1] or not jnp.issubdtype(
    lengths_B.dtype, jnp.floating
  ):
    raise ValueError(
      f'expected floating-point lengths [{shape[0]}], relative to the '
      f'frames of the batch, got {lengths_B.dtype}{list(lengths_B.shape)}'
    )
  if known(lengths_B):
    values = np.asarray(lengths_B)
    wrong = [float(v) for v in values if not 0 < v <= 1]
    if wrong:
      raise ValueError(
        f'lengths={wrong[:5]}: need values in (0, 1], relative to the frames '
        'of the batch'
      )
  # n / N * N in float32 can be a little more than n, which is no frame.
  frames_B = jnp.ceil(lengths_B * shape[1] - 1e-3).astype(jnp.int32)
  return jnp.maximum(frames_B, 1)


def known(array: jax.Array | None) -> bool:
  """Whether this process can look at the values."""
  return (
    array is not None
    and not isinstance(array, jax.core.Tracer)
    and getattr(array, 'is_fully_addressable', True)
  )


def _spread(layer) -> dict[str, int]:
  return dict(dilation=layer.dilation, groups=layer.groups)
