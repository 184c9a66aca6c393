"""What defines the encoder of a Whisper model, and published sizes."""

import dataclasses

N_FFT, HOP = 400, 160  # of the log-mel energies, in samples
STRIDE = 2  # mel frames in a frame
MELS = (80, 128)  # of published models


@dataclasses.dataclass(frozen=True)
class WhisperArchitecture:
  """Sizes of an encoder; the defaults are Whisper tiny.

  Attributes:
    mels: number of log-mel energies in a frame of 10 ms.
    width: size of a hidden state.
    layers: number of layers of the transformer.
    heads: number of attention heads.
    inner: size of the middle of a feed-forward part.
    positions: frames of 20 ms that positions are known of; longer clips are
      encoded in pieces of so many. Weights of more give the first ones.
  """

  mels: int = 80
  width: int = 384
  layers: int = 4
  heads: int = 6
  inner: int = 1536
  positions: int = 1500

  pre_norm = True
  norm_epsilon = 1e-5
  buckets = 0  # attention does not know distances

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    for name in ('mels', 'layers', 'heads', 'inner', 'positions'):
      if not getattr(self, name) > 0:
        raise ValueError(f'{name}={getattr(self, name)!r}: needs at least 1')
    if self.width % self.heads or self.width % 2 or self.width < 4:
      raise ValueError(
        f'width={self.width!r}: needs an even multiple of heads={self.heads}'
      )

  @property
  def hop_length(self) -> int:
    """Samples from one frame to the next."""
    return HOP * STRIDE

  def frames(self, samples: int) -> int:
    """Number of frames of a clip; 0 for one too short to be mirrored."""
    return 0 if samples <= N_FFT // 2 else -(-(samples // HOP) // STRIDE)

  def samples_needed(self, frames: int) -> int:
    """Length in samples of the shortest clip that gives this many frames."""
    return max(N_FFT // 2 + 1, (STRIDE * (frames - 1) + 1) * HOP)


def _of(width: int, layers: int, **fields) -> WhisperArchitecture:
  # All published ones have heads of 64 values.
  sizes = dict(width=width, layers=layers, heads=width // 64, inner=4 * width)
  return WhisperArchitecture(**sizes, **fields)


# Published sizes; those for English alone have the same.
ARCHITECTURES = {
  'tiny': _of(384, 4),
  'base': _of(512, 6),
  'small': _of(768, 12),
  'medium': _of(1024, 24),
  'large': _of(1280, 32),
  'large_v3': _of(1280, 32, mels=128),
  'turbo': _of(1280, 32, mels=128),  # differs from large_v3 in its decoder
  # Not published: for tests of what is around an encoder.
  'miniature': WhisperArchitecture(16, 16, 2, 2, 24, 50),
}
