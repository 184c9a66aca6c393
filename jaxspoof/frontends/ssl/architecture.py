"""What defines a wav2vec 2.0, HuBERT or WavLM encoder, and published sizes."""

import dataclasses

CONV_NORMS = ('group', 'layer')


@dataclasses.dataclass(frozen=True)
class Architecture:
  """Sizes and switches of an encoder; the defaults are wav2vec 2.0 base.

  The three families are one network with different switches: WavLM is the one
  with `buckets`, HuBERT's smallest variants use `position_batch_norm`.

  Attributes:
    conv_channels: output channels of each convolution over the wave, in their
      order.
    conv_kernels: kernel size of each convolution: in samples for the first, in
      frames of the one before for the others.
    conv_strides: stride of each convolution.
    conv_bias: whether the convolutions have a bias.
    conv_norm: 'group' normalises the first convolution only, each channel over
      the clip; 'layer' normalises every convolution, over its channels.
    projection_norm: whether there is a layer norm before the projection to
      `width`.
    width: size of a hidden state.
    layers: number of layers of the transformer.
    heads: number of attention heads.
    inner: size of the middle of a feed-forward part.
    pre_norm: whether layer norms stand before each part of a layer, and one at
      the end, as in large models; otherwise they stand behind each part, and
      one at the start.
    norm_epsilon: epsilon of the layer norms of projection and transformer; that
      of the convolutions is always 1e-5.
    position_taps: taps of the convolution that tells positions.
    position_groups: groups of channels of that convolution.
    position_batch_norm: whether it has a batch norm before it; otherwise its
      kernel is weight-normalised.
    buckets: number of classes of distances between frames that attention tells
      apart, half of them for each direction; 0 if attention does not know
      distances.
    max_distance: all distances of this many frames or more are in one bucket.
  """

  conv_channels: tuple[int, ...] = (512,) * 7
  conv_kernels: tuple[int, ...] = (10, 3, 3, 3, 3, 2, 2)
  conv_strides: tuple[int, ...] = (5, 2, 2, 2, 2, 2, 2)
  conv_bias: bool = False
  conv_norm: str = 'group'
  projection_norm: bool = True
  width: int = 768
  layers: int = 12
  heads: int = 12
  inner: int = 3072
  pre_norm: bool = False
  norm_epsilon: float = 1e-5
  position_taps: int = 128
  position_groups: int = 16
  position_batch_norm: bool = False
  buckets: int = 0
  max_distance: int = 800

  def __post_init__(self):
    """Turns lists into tuples; raises ValueError for invalid values."""
    lengths = set()
    for name in ('conv_channels', 'conv_kernels', 'conv_strides'):
      # A list where it comes from a file.
      object.__setattr__(self, name, tuple(getattr(self, name)))
      lengths.add(len(getattr(self, name)))
    self._need('conv_kernels', len(lengths) == 1, 'one for each of the strides')
    self._need('conv_norm', self.conv_norm in CONV_NORMS, f'of {CONV_NORMS}')
    for name in ('layers', 'heads', 'inner', 'position_taps'):
      self._need(name, getattr(self, name) > 0, 'at least 1')
    fits = self.width % self.heads == 0
    self._need('width', fits, f'a multiple of heads={self.heads}')
    fits = self.width % self.position_groups == 0
    self._need('width', fits, f'a multiple of {self.position_groups} groups')
    self._need('buckets', self.buckets % 4 == 0, 'a multiple of 4')

  def _need(self, name: str, fulfilled: bool, wanted: str):
    if not fulfilled:
      raise ValueError(f'{name}={getattr(self, name)!r}: needs {wanted}')

  @property
  def hop_length(self) -> int:
    """Samples from one frame to the next: 320 in published models."""
    hop = 1
    for stride in self.conv_strides:
      hop *= stride
    return hop

  def frames(self, samples):
    """Number of frames of a clip, or of each clip of an array of lengths."""
    for kernel, stride in zip(
      self.conv_kernels, self.conv_strides, strict=True
    ):
      samples = (samples - kernel) // stride + 1
    return samples * (samples > 0)

  def samples_needed(self, frames: int) -> int:
    """Length in samples of the shortest clip that gives this many frames."""
    for kernel, stride in zip(
      reversed(self.conv_kernels), reversed(self.conv_strides), strict=True
    ):
      frames = (frames - 1) * stride + kernel
    return frames


_LARGE = Architecture(
  conv_bias=True,
  conv_norm='layer',
  width=1024,
  layers=24,
  heads=16,
  inner=4096,
  pre_norm=True,
)
_XLARGE = dataclasses.replace(_LARGE, width=1280, layers=48, inner=5120)

# Published encoders that differ in size or switches. HuBERT base is
# 'wav2vec2_base'; wav2vec 2.0 large of 53 or 128 languages, and that of
# LibriVox, are 'xlsr_300m'.
ARCHITECTURES = {
  'wav2vec2_base': Architecture(),
  'wav2vec2_large': Architecture(width=1024, layers=24, heads=16, inner=4096),
  'xlsr_300m': _LARGE,
  'xlsr_1b': _XLARGE,
  'xlsr_2b': dataclasses.replace(_XLARGE, width=1920, inner=7680),
  'wavlm_base': Architecture(buckets=320),
  'wavlm_large': dataclasses.replace(_LARGE, conv_bias=False, buckets=320),
  # Not published: for tests of what is around an encoder.
  'tiny': Architecture(
    conv_channels=(8,) * 7,
    width=16,
    layers=2,
    heads=2,
    inner=24,
    position_taps=8,
    position_groups=4,
  ),
}
