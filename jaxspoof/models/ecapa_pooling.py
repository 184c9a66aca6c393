"""Attentive statistics pooling of ECAPA-TDNN: a sequence to one vector.

Letters in names: B batch, N frames, C channels, A attention channels.
"""

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.models import layers
from jaxspoof.models.ecapa_blocks import Conv1d, Extent, Tdnn
from jaxspoof.ops import conv1d, time_stats

_LEAST = 1e-12  # of a variance, so that its root has a gradient


class AttentivePooling(nnx.Module):
  """Mean and deviation over time, each channel with weights of its own.

  Section 3.1 of the paper: the weights of a frame are made of the frame and,
  with global context, of the mean and deviation of the clip.
  """

  def __init__(
    self, channels: int, attention: int, *, context: bool, **options
  ):
    """Makes the two layers that map frames to weights."""
    self.context = context
    self.tdnn = Tdnn(channels * (3 if context else 1), attention, **options)
    self.conv = Conv1d(attention, channels, **options)

  def __call__(self, x_BxNxC: jax.Array, extent: Extent | None = None):
    """Returns mean and deviation of the valid frames, `[B, 1, 2 * C]`."""
    x_BxNxC = x_BxNxC.astype(layers.wide(x_BxNxC.dtype))
    h_BxNxA = jnp.tanh(self.tdnn.finish(self._mix(x_BxNxC, extent), extent))
    # A bias would be the same for all frames: softmax takes it away again.
    logits_BxNxC = self.conv(h_BxNxA, with_bias=False)
    mask_BxN = None if extent is None else extent.mask_BxN
    mean_Bx1xC, var_Bx1xC = time_stats.attentive_mean_and_variance(
      x_BxNxC, logits_BxNxC, mask_BxN
    )
    return jnp.concatenate([mean_Bx1xC, _root(var_Bx1xC)], 2)

  def _mix(self, x_BxNxC: jax.Array, extent: Extent | None):
    """The first layer's product with frame, mean and deviation of the clip.

    Mean and deviation are the same for all frames: multiplied once for each
    clip, they cost nothing.
    """
    kernel_1xIxA = self.tdnn.conv.kernel[...].astype(x_BxNxC.dtype)
    if not self.context:
      return conv1d.conv1d(x_BxNxC, kernel_1xIxA)
    frame, clip = jnp.split(kernel_1xIxA, [x_BxNxC.shape[2]], 1)
    mask_BxN = None if extent is None else extent.mask_BxN
    mean_Bx1xC, var_Bx1xC = time_stats.mean_and_variance(x_BxNxC, mask_BxN)
    stats_Bx1xI = jnp.concatenate([mean_Bx1xC, _root(var_Bx1xC)], 2)
    return conv1d.conv1d(x_BxNxC, frame) + conv1d.conv1d(stats_Bx1xI, clip)


def _root(var: jax.Array) -> jax.Array:
  return jnp.sqrt(jnp.maximum(var, _LEAST))
