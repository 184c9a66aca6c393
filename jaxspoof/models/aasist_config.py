"""What defines an AASIST, and the sizes that follow from it."""

import dataclasses
from typing import ClassVar

from jaxspoof.frontends import WaveConfig, sinc
from jaxspoof.models import graph

POOL = 3  # of the front end and of each residual block
FRONTENDS = ('sinc', 'learnable_sinc')
DTYPES = ('float32', 'bfloat16', 'float64')


class GraphsConfig:
  """What is fixed in AASIST, and otherwise in detectors that derive from it.

  Attributes:
    branches: of heterogeneous attentions, of which the maximum is taken.
    activated: whether nodes behind such an attention go through a SELU.
    normalised: whether a residual block is given its input behind a norm and a
      SELU; AASIST computes both and throws them away.
  """

  branches: ClassVar[int] = 2
  activated: ClassVar[bool] = True
  normalised: ClassVar[bool] = False


@dataclasses.dataclass(frozen=True)
class AasistConfig(GraphsConfig):
  """What defines an AASIST. The defaults are the published model.

  Attributes:
    frontend: 'sinc' (fixed mel-spaced bank) or 'learnable_sinc'.
    sinc_filters: number of filters in the bank; three make one frequency band.
    sinc_taps: length of a filter in samples; an even one becomes the next odd
      one (128 means 129).
    sample_rate: sampling rate of the waves in Hz.
    channels: output channels of each residual block.
    gat_dims: node sizes of the first and of the second graph layers.
    pool_ratios: share of nodes kept in the spectral, temporal and
      heterogeneous graphs. (The published configuration lists a fourth value
      that its code does not read.)
    temperatures: softmax temperatures in the same three graphs.
    input_dropout: dropout rate before each graph attention.
    pool_dropout: dropout rate before the scores of each graph pooling.
    way_dropout: dropout rate on the outputs of the two branches.
    output_dropout: dropout rate before the last layer.
    freq_mask: whether a random band of filters is silenced in each training
      batch.
    freq_mask_limit: the widest such band has one filter less than this.
    dtype: dtype of the residual encoder, which takes most of the time and
      memory; front end, graphs and statistics are at least float32.
    param_dtype: dtype of parameters and running statistics.
    remat: whether the residual blocks are computed again in the backward pass,
      which saves memory and costs time.
  """

  frontend: str = 'sinc'
  sinc_filters: int = 70
  sinc_taps: int = 128
  sample_rate: int = 16_000
  channels: tuple[int, ...] = (32, 32, 64, 64, 64, 64)
  gat_dims: tuple[int, int] = (64, 32)
  pool_ratios: tuple[float, float, float] = (0.5, 0.7, 0.5)
  temperatures: tuple[float, float, float] = (2.0, 2.0, 100.0)
  input_dropout: float = 0.2
  pool_dropout: float = 0.3
  way_dropout: float = 0.2
  output_dropout: float = 0.5
  freq_mask: bool = False
  freq_mask_limit: int = 20
  dtype: str = 'float32'
  param_dtype: str = 'float32'
  remat: bool = False

  def __post_init__(self):
    """Turns lists into tuples; raises ValueError for invalid values."""
    check_graphs(self)
    need(self, 'frontend', self.frontend in FRONTENDS, f'one of {FRONTENDS}')
    need(self, 'sinc_filters', self.bands > 1, 'at least 6 filters')
    need(self, 'sinc_taps', self.sinc_taps > 0, 'at least 1 tap')
    fits = 0 < self.freq_mask_limit <= self.sinc_filters
    need(
      self, 'freq_mask_limit', fits or not self.freq_mask, '1 to sinc_filters'
    )

  @property
  def bands(self) -> int:
    """Height of the image that the front end makes."""
    return self.sinc_filters // POOL

  @property
  def own_frontend(self) -> WaveConfig:
    """The wave itself: the sinc bank and its image are layers of the model."""
    return WaveConfig(self.sample_rate)

  def check_frontend(self, frontend: WaveConfig) -> None:
    """Accepts the one front end of waves, which has nothing to go wrong."""

  @property
  def min_frames(self) -> int:
    """Samples of the shortest wave that leaves one frame after all pooling."""
    frames = POOL ** len(self.channels)
    return sinc.samples_needed(self.sinc_taps, POOL, frames)

  def frames(self, samples: int) -> tuple[int, ...]:
    """Width of the image before each residual block and after the last."""
    width = sinc.frames_made(samples, self.sinc_taps, POOL)
    return tuple(width // POOL**i for i in range(len(self.channels) + 1))

  def dropped(self, samples: int) -> tuple[int, int]:
    """How many values per clip pass through dropout layers in training.

    Returns:
      Those outside the branches and those inside each branch.
    """
    return dropped(self, (self.bands, self.frames(samples)[-1]))


def check_graphs(config) -> None:
  """Checks what configs of AASIST and of its back end have in common.

  Args:
    config: an `AasistConfig` or an `SslAasistConfig`; lists become tuples.

  Raises:
    ValueError: a value that cannot work.
  """
  for name in ('channels', 'gat_dims', 'pool_ratios', 'temperatures'):
    object.__setattr__(config, name, tuple(getattr(config, name)))
  need(config, 'dtype', config.dtype in DTYPES, f'one of {DTYPES}')
  known = ('float32', 'float64')
  need(config, 'param_dtype', config.param_dtype in known, f'one of {known}')
  for name, size in (('gat_dims', 2), ('pool_ratios', 3), ('temperatures', 3)):
    need(config, name, len(getattr(config, name)) == size, f'{size} values')
  positive = min((*config.channels, *config.gat_dims), default=0) > 0
  need(config, 'channels', config.channels and positive, 'sizes above 0')
  ratios = all(0 < ratio <= 1 for ratio in config.pool_ratios)
  need(config, 'pool_ratios', ratios, 'shares in (0, 1]')
  positive = min(config.temperatures) > 0
  need(config, 'temperatures', positive, 'values above 0')
  for name in ('input', 'pool', 'way', 'output'):
    rate = getattr(config, f'{name}_dropout')
    need(config, f'{name}_dropout', 0 <= rate < 1, 'a rate in [0, 1)')


def need(config, name: str, fulfilled, wanted: str) -> None:
  """Raises ValueError with the field and its value, unless it is fulfilled."""
  if not fulfilled:
    raise ValueError(f'{name}={getattr(config, name)!r}: needs {wanted}')


def dropped(config, sizes: tuple[int, int]) -> tuple[int, int]:
  """How many values per clip pass through dropout layers of graphs.

  Args:
    config: an `AasistConfig` or an `SslAasistConfig`.
    sizes: number of spectral and of temporal nodes.

  Returns:
    Those outside the branches and those inside each branch.
  """
  first, second = config.gat_dims
  kept = [
    graph.kept_nodes(*v) for v in zip(sizes, config.pool_ratios, strict=False)
  ]
  last = sum(graph.kept_nodes(n, config.pool_ratios[2]) for n in kept)
  nodes, kept = sum(sizes), sum(kept)
  before, pool, way, output = (
    rate > 0
    for rate in (
      config.input_dropout,
      config.pool_dropout,
      config.way_dropout,
      config.output_dropout,
    )
  )
  trunk = before * nodes * config.channels[-1] + pool * nodes * first
  branch = before * kept * first + pool * kept * second
  branch += before * last * second + way * (last + 1) * second
  return trunk + output * 5 * second, branch
