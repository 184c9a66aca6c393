"""A network that says of each 20 ms of a clip whether it is spoofed.

Features of any front end, a convolution over their frames, one frame of what
comes out for each 20 ms, and the network of dilated convolutions of Conv-TasNet
(`blocks.tcn`) over these moments; a head on each. Of spectra the first
convolutions also run over the features, as those of the LCNN do, with
Max-Feature-Map and a half of the features after each. Segment-level detectors
of PartialSpoof (Zhang et al. 2023, TASLP 31, doi 10.1109/TASLP.2022.3233236)
are of this kind; the sizes and this network are ours.

A clip is as much a spoof as its worst moments: its embedding is the mean of
those of the moments with the lowest scores, and a linear head gives the mean of
their outputs.

Letters in names: B batch, W frames of the front end, F features, N moments,
C channels, D what the dilated network is given, E size of the embedding, K
outputs.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.audio import MOMENT
from jaxspoof.blocks import layers, tcn
from jaxspoof.models.back_end import BackEndConfig
from jaxspoof.ops import conv1d
from jaxspoof.system import Encoded, System


@dataclasses.dataclass(frozen=True)
class LocaliserConfig(BackEndConfig, tcn.TcnConfig):
  """What defines a localiser: the network of the paper, made small.

  Attributes:
    width: frames of the front end that the first convolution looks at.
    channels: of convolutions over frames and features; (): there is one over
      frames alone, as suits the states of an encoder, which have no order.
    dropout: rate at which values before the head are set to zero in training.
    lowest: a clip is judged by so many of its moments, those with the lowest
      scores: 10 are 0.2 s, the shortest stretch that is meant to be found.
  """

  bottleneck: int = 64
  hidden: int = 128
  skip: int = 64
  blocks: int = 5
  stacks: int = 1
  norm: str = 'frame'
  width: int = 5
  channels: tuple[int, ...] = ()
  dropout: float = 0.2
  lowest: int = 10

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    super().__post_init__()
    object.__setattr__(self, 'channels', tuple(self.channels))
    if min(self.channels, default=1) < 1:
      raise ValueError(f'channels={self.channels}: expected numbers above 0')
    if self.width < 1 or not self.width % 2:
      raise ValueError(f'width={self.width}: expected an odd number')
    if not 0 <= self.dropout < 1:
      raise ValueError(f'dropout={self.dropout}: needs a rate in [0, 1)')
    if self.lowest < 1:
      raise ValueError(f'lowest={self.lowest}: needs at least 1')

  def check_frontend(self, frontend) -> None:
    """Raises ValueError for so few features that halving leaves none."""
    least = 2 ** len(self.channels)
    if frontend.features < least:
      raise ValueError(
        f'front end of {frontend.features} features: channels={self.channels} '
        f'halves them {len(self.channels)} times, expected at least {least}'
      )


class Localiser(System):
  """Features of any length in; outputs of the clip and of its moments out."""

  variable_length = True
  localises = True

  def build(self, config: LocaliserConfig, rngs: nnx.Rngs) -> int:
    """Makes the layers."""
    features, inputs = self.frontend.config.features, 1
    options = dict(param_dtype=config.param_dtype, rngs=rngs)
    for i, channels in enumerate(config.channels):
      size = config.width if i == 0 else 3
      edge = (size // 2,) * 2
      conv = layers.Conv2d(
        inputs, 2 * channels, (size, size), padding=(edge, edge), **options
      )
      norm = layers.BatchNorm(channels, param_dtype=config.param_dtype)
      setattr(self, f'conv{i}', conv)
      setattr(self, f'norm{i}', norm)
      features, inputs = features // 2, channels
    size = features * inputs
    if not config.channels:
      init = layers.uniform_of_fan_in(config.width * features)
      size, dtype = config.bottleneck, jnp.dtype(config.param_dtype)
      shape = config.width, features, size
      self.kernel = nnx.Param(init(rngs.params(), shape, dtype))
      self.bias = nnx.Param(init(rngs.params(), shape[2:], dtype))
      self.slope = tcn.slope(config.param_dtype)
    self.tcn = tcn.Tcn(config, size, rngs)
    self.last_slope = tcn.slope(config.param_dtype)
    self.dropout = layers.Dropout(config.dropout)
    return config.outputs

  def sequence(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> tuple[jax.Array, jax.Array | None]:
    """What the network makes of each moment; see `System.sequence`."""
    dtype = jnp.promote_types(features.dtype, self.config.param_dtype)
    h_BxWxF = features.astype(dtype)
    if frames_B is not None:
      h_BxWxF = jnp.where(valid(frames_B, h_BxWxF)[..., None], h_BxWxF, 0)
    with jax.named_scope('convolutions'):
      convolve = self._planes if self.config.channels else self._frames
      h_BxNxD, moments_B = convolve(h_BxWxF, frames_B)
    where_BxNx1 = None
    if moments_B is not None:
      where_BxNx1 = valid(moments_B, h_BxNxD)[..., None]
    with jax.named_scope('tcn'):
      h_BxNxE = self.tcn(h_BxNxD, where_BxNx1)
      h_BxNxE = tcn.prelu(h_BxNxE, self.last_slope[...].astype(dtype))
    noise = None
    if self.config.dropout and not self.dropout.deterministic:
      noise = layers.Noise.draw(rngs, len(h_BxNxE), h_BxNxE[0].size)
    return self.dropout(h_BxNxE, noise), moments_B

  def _frames(self, h_BxWxF: jax.Array, frames_B: jax.Array | None):
    """A convolution over frames; moments `[B, N, D]`, and how many."""
    dtype, edge = h_BxWxF.dtype, self.config.width // 2
    h_BxWxF = jnp.pad(h_BxWxF, ((0, 0), (edge, edge), (0, 0)))
    h_BxWxC = conv1d.conv1d(h_BxWxF, self.kernel[...].astype(dtype))
    h_BxWxC = h_BxWxC + self.bias[...].astype(dtype)[None, None]
    h_BxWxC = tcn.prelu(h_BxWxC, self.slope[...].astype(dtype))
    return at_moments(h_BxWxC, frames_B, self.frontend.config.hop_length)

  def _planes(self, h_BxWxF: jax.Array, frames_B: jax.Array | None):
    """Convolutions over frames and features; as `_frames`."""
    h, where_BxNxF, count_B = h_BxWxF[..., None], None, frames_B
    for i in range(len(self.config.channels)):
      # Max-Feature-Map: of each pair of channels the larger value goes on.
      first, second = jnp.split(getattr(self, f'conv{i}')(h), 2, -1)
      h = jnp.maximum(first, second)
      if i == 0:
        hop = self.frontend.config.hop_length
        h, count_B = at_moments(h, frames_B, hop)
      features = h.shape[2] // 2
      h = h[:, :, : 2 * features].reshape(*h.shape[:2], features, 2, -1).max(3)
      if count_B is not None:
        where_BxN = valid(count_B, h)
        where_BxNxF = jnp.broadcast_to(where_BxN[..., None], h.shape[:3])
      h = getattr(self, f'norm{i}')(h, where_BxNxF)
      if where_BxNxF is not None:  # as the zeros behind a clip that is alone
        h = jnp.where(where_BxNxF[..., None], h, 0)
    return h.reshape(*h.shape[:2], -1), count_B

  def pool(
    self,
    sequence_BxNxE: jax.Array,
    outputs_BxNxK: jax.Array,
    moments_B: jax.Array | None = None,
  ) -> jax.Array:
    """The mean of the moments that are most like a spoof, `[B, E]`."""
    score_BxN = outputs_BxNxK[..., -1]  # bona fide comes last
    if outputs_BxNxK.shape[-1] > 1:
      score_BxN = score_BxN - outputs_BxNxK[..., :-1].max(-1)
    if moments_B is not None:
      known_BxN = valid(moments_B, score_BxN)
      score_BxN = jnp.where(known_BxN, score_BxN, jnp.inf)
    count = min(self.config.lowest, score_BxN.shape[1])
    _, index_BxL = jax.lax.top_k(-score_BxN, count)
    lowest_BxLxE = jnp.take_along_axis(sequence_BxNxE, index_BxL[..., None], 1)
    if moments_B is None:
      return lowest_BxLxE.mean(1)
    where_BxL = index_BxL < moments_B[:, None]
    return lowest_BxLxE.mean(1, where=where_BxL[..., None])

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Encoded:
    """The embedding of clips, of their worst moments."""
    sequence, moments_B = self.sequence(features, frames_B, rngs)
    outputs = self.head_of_each(sequence)
    embedding_BxE = self.pool(sequence, outputs, moments_B)
    return Encoded(embedding_BxE, embedding_BxE)


def at_moments(
  h_BxWx_: jax.Array, frames_B: jax.Array | None, hop: int
) -> tuple[jax.Array, jax.Array | None]:
  """One frame for each moment of 20 ms: the one in its middle.

  Args:
    h_BxWx_: what was made of frames, of any further axes; frame i is about
      sample i hop.
    frames_B: int32, valid frames of each clip; None: all.
    hop: samples from one frame to the next.

  Returns:
    `[B, N, ...]`, and int32 `[B]`, the valid moments of each clip, or None. A
    moment of which half is there counts.
  """
  frames = h_BxWx_.shape[1]
  count = max(1, frames * hop // MOMENT)
  middle_N = (jnp.arange(count, dtype=jnp.int32) * MOMENT + MOMENT // 2) // hop
  if frames_B is None:
    return h_BxWx_[:, jnp.minimum(middle_N, frames - 1)], None
  index_BxN = jnp.minimum(middle_N[None], frames_B[:, None] - 1)
  index = index_BxN.reshape(*index_BxN.shape, *(1,) * (h_BxWx_.ndim - 2))
  h_BxNx_ = jnp.take_along_axis(h_BxWx_, index, 1)
  return h_BxNx_, jnp.maximum(frames_B * hop // MOMENT, 1)


def valid(count_B: jax.Array, like_BxN: jax.Array) -> jax.Array:
  """Bool `[B, N]`: the first `count` of each clip."""
  index_N = jnp.arange(like_BxN.shape[1], dtype=count_B.dtype)
  return index_N[None] < count_B[:, None]
