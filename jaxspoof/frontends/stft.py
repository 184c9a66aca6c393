"""Short-time power spectra of batches of clips of different lengths.

Letters in names: B batch, T samples, N frames, K window samples, W frequency
bins.
"""

import functools

import jax
import jax.numpy as jnp
import jaxlib
import numpy as np

from jaxspoof import arithmetic
from jaxspoof.ops import platform

PAD_MODES = ('constant', 'reflect')


def frames_made(samples: int, n_fft: int, hop: int, pad: int) -> int:
  """Frames of a clip with `pad` samples added at each end; not below 0."""
  return max(0, 1 + (samples + 2 * pad - n_fft) // hop)


def pre_emphasise(wave_BxT: jax.Array, factor: float) -> jax.Array:
  """x[t] - factor x[t - 1]; the first sample stays as it is."""
  before_BxT = jnp.pad(wave_BxT[:, :-1], ((0, 0), (1, 0)))
  return wave_BxT - factor * before_BxT


def pad_ends(
  wave_BxT: jax.Array, samples_B: jax.Array | None, pad: int, mode: str
) -> jax.Array:
  """Adds `pad` samples before each clip and after its own end.

  Args:
    wave_BxT: waves, 0 from each clip's end on.
    samples_B: lengths of the clips; None where each fills its row. With
      'reflect' a clip must be longer than `pad`.
    pad: samples at each end.
    mode: 'constant' (zeros) or 'reflect' (mirrored at the outermost samples,
      which are not repeated).

  Returns:
    `[B, T + 2 pad]`; what lies `pad` samples past a clip's end has no meaning.
  """
  if mode == 'constant' or samples_B is None:
    return jnp.pad(wave_BxT, ((0, 0), (pad, pad)), mode=mode)
  samples = wave_BxT.shape[1]
  source_BxT = jnp.abs(jnp.arange(-pad, samples + pad, dtype=jnp.int32))[None]
  last_Bx1 = samples_B[:, None] - 1
  source_BxT = jnp.minimum(source_BxT, 2 * last_Bx1 - source_BxT)
  source_BxT = jnp.clip(source_BxT, 0, samples - 1)
  return jnp.take_along_axis(wave_BxT, source_BxT, 1, mode='clip')


def frame(wave_BxT: jax.Array, length: int, hop: int, frames: int) -> jax.Array:
  """Cuts overlapping frames, `[B, frames, length]`, that lie in the waves.

  A gather: putting frames together of neighbouring rows of one hop takes 2 to
  5 times as long forwards (32 clips of 4 s on two CPU cores: 4.6 ms instead
  of 0.8). Its gradient, a scatter, is the slower one (the spectrum's 2.2 ms
  a clip instead of 1.2), but training does not ask for that of the waves.
  """
  source_NxK = np.arange(frames)[:, None] * hop + np.arange(length)[None]
  return wave_BxT[:, source_NxK]


def power_spectrum(
  wave_BxT: jax.Array, window_K: np.ndarray, n_fft: int, hop: int, frames: int
) -> jax.Array:
  """Squared magnitudes of windowed Fourier transforms.

  The window sits in the middle of n_fft samples. The samples around it are 0
  after windowing and where they are does not change a magnitude, so frames
  hold the window's samples only and zeros follow.

  On a CPU by FFT, which takes 0.29 ms for 4 s where the product with cosines
  and sines takes 0.78 (float32, n_fft 512, window 400, hop 160, two cores).
  Elsewhere by that product: XLA does not partition an FFT, so that every
  device would gather and transform the batch of all of them. By that product
  on a CPU, too, where the FFT can hang (`fft_is_safe`).

  Args:
    wave_BxT: padded waves.
    window_K: at most n_fft samples.
    n_fft: points of the transform.
    hop: samples from one frame to the next.
    frames: number of frames to compute.

  Returns:
    `[B, frames, n_fft // 2 + 1]`.
  """
  first = (n_fft - len(window_K)) // 2
  h_BxNxK = frame(wave_BxT[:, first:], len(window_K), hop, frames)
  h_BxNxK = h_BxNxK * jnp.asarray(window_K, h_BxNxK.dtype)[None, None]
  by_fft = functools.partial(power_by_fft, n_fft=n_fft)
  by_product = functools.partial(power_by_product, n_fft=n_fft)
  return platform.choose(
    h_BxNxK, cpu=by_fft if fft_is_safe() else by_product, default=by_product
  )


def fft_is_safe() -> bool:
  """Whether no FFT on a CPU can make this version of XLA wait for ever.

  In jaxlib 0.11.1 and 0.11.2 an FFT divides its work among the threads of the
  CPU client although it runs on one of them, and waits (openxla/xla#46347).
  When as many FFTs as there are threads run at once, on several devices or in
  one program, each waits for a thread and none is left. Neither 0.11.0 nor
  0.12.0 does so.
  """
  version = tuple(int(part) for part in jaxlib.__version__.split('.')[:3])
  return not (0, 11, 1) <= version < (0, 12)


def power_by_fft(h_BxNxK: jax.Array, n_fft: int) -> jax.Array:
  """Squared magnitudes of the transform of frames followed by zeros."""
  spectrum_BxNxW = jnp.fft.rfft(h_BxNxK, n_fft)
  return spectrum_BxNxW.real**2 + spectrum_BxNxW.imag**2


def power_by_product(h_BxNxK: jax.Array, n_fft: int) -> jax.Array:
  """Squared magnitudes of the transform, by products with cosines and sines."""
  bins = n_fft // 2 + 1
  h = by_product(h_BxNxK, n_fft) ** 2
  return h[:, :, :bins] + h[:, :, bins:]


def by_product(h_BxNxK: jax.Array, n_fft: int) -> jax.Array:
  """Products with cosines, the real parts, and sines, minus the imaginary."""
  bins = n_fft // 2 + 1
  # Whole turns are taken off while numbers are whole.
  turns_KxW = np.outer(np.arange(h_BxNxK.shape[2]), np.arange(bins)) % n_fft
  phase_KxW = 2 * np.pi * turns_KxW / n_fft
  waves = np.concatenate([np.cos(phase_KxW), np.sin(phase_KxW)], 1)
  with arithmetic.transforms(n_fft):
    return matmul(h_BxNxK, waves)


def matmul(h_BxNxW: jax.Array, matrix_WxF: np.ndarray) -> jax.Array:
  """Multiplies by a constant, `[B, N, F]`, in the full precision of the dtype.

  Logarithms and cepstra do not survive the 8 to 11 bits to which accelerators
  round a float32 product unless told otherwise.
  """
  matrix_WxF = jnp.asarray(matrix_WxF, h_BxNxW.dtype)
  return jnp.matmul(h_BxNxW, matrix_WxF, precision=jax.lax.Precision.HIGHEST)


def raise_power(power_BxNxW: jax.Array, exponent: float) -> jax.Array:
  """Turns squared magnitudes into magnitudes to the power of `exponent`.

  The gradient at digital silence is 0, where that of a root is infinite.
  """
  if exponent == 2:
    return power_BxNxW
  silent = power_BxNxW == 0
  return jnp.where(
    silent, 0, jnp.where(silent, 1, power_BxNxW) ** (exponent / 2)
  )
