"""The encoder of Whisper: waves in, the states of all layers out.

Reference: Radford et al. 2022, "Robust Speech Recognition via Large-Scale Weak
Supervision", arXiv 2212.04356.

Letters in names: B batch, T samples, M mel frames, F mel bands, N frames, D
width, L layers, P pieces of all clips.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.frontends import filters, masked, stft
from jaxspoof.frontends.ssl import parts
from jaxspoof.frontends.ssl.states import States
from jaxspoof.frontends.whisper.architecture import (
  HOP,
  N_FFT,
  STRIDE,
  WhisperArchitecture,
)

TAPS = 3  # of both convolutions
RANGE = 80.0  # decibels below the loudest value of a clip


class Encoder(nnx.Module):
  """The encoder of a Whisper model.

  A clip in a padded batch has on its frames the states that it has alone. One
  that is longer than the positions reach (30 seconds in published models) is
  encoded in pieces of that length, each for itself, as Whisper does. Nothing
  in it is random, in training either.
  """

  def __init__(
    self,
    config: WhisperArchitecture,
    rngs: nnx.Rngs,
    *,
    whole_window: bool = False,
    dtype: str = 'float32',
    param_dtype: str = 'float32',
    remat: bool = False,
    split: int | None = None,
  ):
    """Draws weights.

    Args:
      config: sizes.
      rngs: random streams; weights are drawn from `params`.
      whole_window: whether clips are followed by silence up to a whole number
        of pieces, which the states of the clip then attend to; otherwise the
        frames of the clip alone are computed.
      dtype: dtype of products and convolutions; norms, GELU and states are
        always float32 at least.
      param_dtype: dtype of the weights.
      remat: whether the inside of each layer is computed again for the
        gradient, which saves memory and costs time.
      split: how many layers are in the stack `layers`; the others are in
        `upper`, so that they can be trained apart. None: all are in one.
    """
    self.config, self.dtype, self.remat = config, dtype, remat
    self.whole_window = whole_window
    options = dict(param_dtype=param_dtype, rngs=rngs)
    width = config.width
    self.conv1 = Convolution(config.mels, width, 1, **options)
    self.conv2 = Convolution(width, width, STRIDE, **options)
    table = sinusoids(config.positions, width)
    self.positions = nnx.Param(jnp.asarray(table, jnp.dtype(param_dtype)))
    stacks = parts.stacks(config, split, **options)
    for name, stack in stacks:
      setattr(self, name, stack)
    self.stacks = tuple(name for name, _ in stacks)
    self.norm = parts.Norm(width, param_dtype=param_dtype)

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
      wave_BxT: floating-point waves at 16 kHz in [-1, 1), of at least 201
        samples.
      samples_B: int32, number of valid samples of each clip; None if all are.
      hidden: whether the states of all layers are returned, too.
      lora: what is added to kernels, see `lora.Lora.weights`.
    """
    c, dtype = self.config, jnp.dtype(self.dtype)
    batch, samples = wave_BxT.shape
    frames, frames_B = c.frames(samples), None
    if samples_B is not None:
      frames_B = -(-(samples_B // HOP) // STRIDE)
      wave_BxT = jnp.where(parts.valid(samples_B, samples)[..., 0], wave_BxT, 0)
    whole = STRIDE * c.positions * HOP  # samples of a piece
    if self.whole_window:
      wave_BxT = jnp.pad(wave_BxT, ((0, 0), (0, -samples % whole)))
      if samples_B is not None:  # silence is heard as well
        samples_B = -(-samples_B // whole) * whole
    with jax.named_scope('log_mel'):
      mel_BxMxF, mels_B = log_mel(wave_BxT, samples_B, c.mels)
    mel_PxMxF, mels_P = _pieces(mel_BxMxF, mels_B, STRIDE * c.positions)
    x, valid_PxNx1 = self.convolve(mel_PxMxF.astype(dtype), mels_P)
    x = x.astype(layers.wide(x.dtype))
    x = x + self.positions[: x.shape[1]].astype(x.dtype)[None]
    mask_Px1x1xN = None
    if valid_PxNx1 is not None:
      mask_Px1x1xN = valid_PxNx1[:, None, None, :, 0]

    def step(x, weights):
      made = parts.layer(c, weights, x, mask_Px1x1xN, None, dtype)
      return made, x if hidden else None

    if self.remat:
      step = jax.checkpoint(step, prevent_cse=False)
    with jax.named_scope('layers'):
      x, entered = parts.run(self, self.stacks, step, x, lora)

    def joined(x):
      return x.reshape(*x.shape[:-3], batch, -1, c.width)[..., :frames, :]

    states = None
    if hidden:
      states = joined(jnp.concatenate([entered, x[None]]))
    return States(joined(self.norm(x, c.norm_epsilon)), states, frames_B)

  def convolve(
    self, mel_PxMxF: jax.Array, mels_P: jax.Array | None
  ) -> tuple[jax.Array, jax.Array | None]:
    """Outputs of the convolutions, `[P, N, D]`.

    Args:
      mel_PxMxF: log-mel energies.
      mels_P: valid frames of each piece; None if all are.

    Returns:
      The outputs, and which of them are a piece's own, `[P, N, 1]`, or None.
    """
    valid_PxMx1 = valid_PxNx1 = None
    if mels_P is not None:
      valid_PxMx1 = parts.valid(mels_P, mel_PxMxF.shape[1])
    # Behind its end a piece has zeros for each convolution, as it has alone.
    h = self.conv1(parts.zeroed(mel_PxMxF, valid_PxMx1))
    h = self.conv2(parts.zeroed(h, valid_PxMx1))
    if mels_P is not None:
      valid_PxNx1 = parts.valid(-(-mels_P // STRIDE), h.shape[1])
    return h, valid_PxNx1


class Convolution(nnx.Module):
  """A convolution over time of three taps, and GELU."""

  def __init__(
    self,
    inputs: int,
    outputs: int,
    stride: int,
    *,
    param_dtype: str,
    rngs: nnx.Rngs,
  ):
    """Draws the kernel `[taps, inputs, outputs]` and the bias."""
    draw = layers.uniform_of_fan_in(TAPS * inputs)
    dtype = jnp.dtype(param_dtype)
    shape = (TAPS, inputs, outputs)
    self.kernel = nnx.Param(draw(rngs.params(), shape, dtype))
    self.bias = nnx.Param(draw(rngs.params(), (outputs,), dtype))
    self.stride = stride

  def __call__(self, x_PxNxI: jax.Array) -> jax.Array:
    """Returns `[P, ceil(N / stride), outputs]` in the dtype of `x`."""
    dtype = x_PxNxI.dtype
    h = jax.lax.conv_general_dilated(
      x_PxNxI,
      self.kernel[...].astype(dtype),
      (self.stride,),
      ((TAPS // 2, TAPS // 2),),
      dimension_numbers=('NWC', 'WIO', 'NWC'),
    )
    h = h + self.bias[...].astype(dtype)[None, None]
    return parts.gelu(h).astype(dtype)


def log_mel(
  wave_BxT: jax.Array, samples_B: jax.Array | None, mels: int
) -> tuple[jax.Array, jax.Array | None]:
  """Whisper's log-mel energies, of windows of 25 ms every 10 ms.

  Args:
    wave_BxT: waves at 16 kHz, 0 behind each clip's end.
    samples_B: number of valid samples of each clip; None if all are.
    mels: number of bands.

  Returns:
    Energies `[B, M, mels]` with a range of 2 (80 dB), and the number of valid
    frames of each clip, None if all are.
  """
  frames = wave_BxT.shape[1] // HOP  # the last one that fits is not used
  bank_WxF = filters.triangles(
    filters.mel_edges(mels, 0, 8000, htk=False), N_FFT, 16_000, 'slaney'
  )
  padded = stft.pad_ends(wave_BxT, samples_B, N_FFT // 2, 'reflect')
  power = stft.power_spectrum(
    padded, filters.window('hann', N_FFT), N_FFT, HOP, frames
  )
  h = masked.logarithm(stft.matmul(power, bank_WxF), 'log10', 1e-10, False)
  frames_B, valid_BxMx1 = None, np.ones((1, 1, 1), bool)
  if samples_B is not None:
    frames_B = samples_B // HOP
    valid_BxMx1 = masked.valid_frames(frames_B, frames)
  h = masked.limit_range(h, valid_BxMx1, 'log10', RANGE)
  return (h + 4) / 4, frames_B


def sinusoids(positions: int, width: int) -> np.ndarray:
  """The table of positions, `[positions, width]`: sines, then cosines."""
  step = math.log(10_000) / (width // 2 - 1)
  rates = np.exp(-step * np.arange(width // 2))
  angles = np.arange(positions)[:, None] * rates[None]
  return np.concatenate([np.sin(angles), np.cos(angles)], 1)


def _pieces(
  mel_BxMxF: jax.Array, mels_B: jax.Array | None, most: int
) -> tuple[jax.Array, jax.Array | None]:
  """Cuts clips of more than `most` frames into several of that length."""
  batch, frames, mels = mel_BxMxF.shape
  count = -(-frames // most)
  if count == 1:
    return mel_BxMxF, mels_B
  mel_BxMxF = jnp.pad(mel_BxMxF, ((0, 0), (0, count * most - frames), (0, 0)))
  if mels_B is None and frames == count * most:
    mels_P = None
  else:
    if mels_B is None:
      mels_B = jnp.full((batch,), frames, jnp.int32)
    before_1xP = jnp.arange(0, count * most, most, dtype=mels_B.dtype)[None]
    mels_P = jnp.clip(mels_B[:, None] - before_1xP, 0, most).reshape(-1)
  return mel_BxMxF.reshape(batch * count, most, mels), mels_P
