"""The operations of all search spaces, one entry each."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Unit:
  """Activation, convolution, Max-Feature-Map, normalisation; no bias.

  Attributes:
    size: taps along each dimension, odd.
    before: activation before the convolution: '', 'relu' or 'leaky_relu'
      (slope 0.3).
    dilation: distance of taps.
    depthwise: a convolution of each channel, then one of a single tap over
      all channels, instead of one convolution that does both.
    mfm: convolve to twice the channels and keep the maximum of the two
      halves: channel c is the larger of c and c + C (Max-Feature-Map, Wu et
      al. 2018, arXiv 1511.02683).
  """

  size: int
  before: str = ''
  dilation: int = 1
  depthwise: bool = False
  mfm: bool = False


@dataclasses.dataclass(frozen=True)
class Operation:
  """What an edge can do to the image of a state.

  Attributes:
    dims: 1 or 2; 0 for both.
    units: applied one after the other; the first takes the stride.
    pool: '', 'max' or 'mean': pooling of 3 taps, then normalisation.
    exists: False for 'none', the edge that is not there.

  With neither units nor pooling an operation is the identity; where a stride
  is asked for it becomes the projection of its space with that stride.
  """

  dims: int = 0
  units: tuple[Unit, ...] = ()
  pool: str = ''
  exists: bool = True

  @property
  def identity(self) -> bool:
    """Whether it hands on what it gets, where there is no stride."""
    return self.exists and not self.units and not self.pool


def _separable(size: int) -> tuple[Unit, ...]:
  return (Unit(size, before='relu', depthwise=True),) * 2


def _dilated(size: int, before: str) -> tuple[Unit, ...]:
  return (Unit(size, before=before, dilation=2, depthwise=True),)


OPERATIONS = {
  'none': Operation(exists=False),
  'skip_connect': Operation(),
  'max_pool_3x3': Operation(2, pool='max'),
  'avg_pool_3x3': Operation(2, pool='mean'),
  'sep_conv_3x3': Operation(2, _separable(3)),
  'sep_conv_5x5': Operation(2, _separable(5)),
  'dil_conv_3x3': Operation(2, _dilated(3, 'relu')),
  'dil_conv_5x5': Operation(2, _dilated(5, 'relu')),
  'mfm_conv_3x3': Operation(2, (Unit(3, mfm=True),)),
  'mfm_dil_conv_3x3': Operation(2, (Unit(3, dilation=2, mfm=True),)),
  'max_pool_3': Operation(1, pool='max'),
  'avg_pool_3': Operation(1, pool='mean'),
  'std_conv_3': Operation(1, (Unit(3, before='leaky_relu'),)),
  'std_conv_5': Operation(1, (Unit(5, before='leaky_relu'),)),
  'dil_conv_3': Operation(1, _dilated(3, 'leaky_relu')),
  'dil_conv_5': Operation(1, _dilated(5, 'leaky_relu')),
}
