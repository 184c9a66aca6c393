"""Size and arithmetic of an AASIST, from its config alone.

One MAC is one multiplication with its addition. Padding counts as other
values do; normalisation, activations, pooling and softmax are left out.
"""

from jaxspoof.frontends import sinc
from jaxspoof.models import heads
from jaxspoof.models.aasist import AasistConfig
from jaxspoof.models.graph import kept_nodes


def macs(config: AasistConfig, samples: int) -> dict[str, int]:
  """Multiply-accumulates of the forward pass of one clip.

  Args:
    config: the model.
    samples: length of the clip.

  Returns:
    MACs of the stages 'sinc', 'encoder' and 'graph', and their 'total'.

  Raises:
    ValueError: the clip is shorter than the model can process.
  """
  if samples < config.min_samples:
    raise ValueError(
      f'samples={samples}: this model needs at least {config.min_samples}'
    )
  taps = sinc.odd(config.sinc_taps)
  # Filters that fill no pooling window are not computed.
  stages = {
    'sinc': (samples - taps + 1) * taps * 3 * config.bands,
    'encoder': _encoder(config, samples),
    'graph': _graph(config, config.frames(samples)[-1]),
  }
  return {**stages, 'total': sum(stages.values())}


def parameters(config: AasistConfig) -> int:
  """Number of trained values, the arrays nothing reads included."""
  blocks = zip((1, *config.channels), config.channels, strict=False)
  first, second = config.gat_dims
  channels = config.channels[-1]
  count = 2 + config.bands * channels + 2 * first
  if config.frontend == 'learnable_sinc':
    count += 2 * config.sinc_filters
  return (
    count
    + sum(_block_parameters(i, o) for i, o in blocks)
    + 2 * (_attention_parameters(channels, first) + first + 1)
    + 2 * _joint_parameters(first, second)
    + 2 * (_joint_parameters(second, second) + 2 * (second + 1))
    + heads.parameters(config.head, 5 * second, config.classes)
  )


def _block_parameters(i: int, o: int) -> int:
  convolutions = 6 * i * o + o + 6 * o * o + o
  shortcut = 3 * i * o + o if i != o else 0
  return convolutions + shortcut + 2 * o + (2 * i if i != 1 else 0)


def _attention_parameters(i: int, o: int) -> int:
  return 3 * (i * o + o) + o + 2 * o


def _joint_parameters(i: int, o: int) -> int:
  return 2 * (i * i + i) + 6 * (i * o + o) + 4 * o + 2 * o


def _encoder(config: AasistConfig, samples: int) -> int:
  height, total, inputs = config.bands, 0, 1
  for outputs, width in zip(
    config.channels, config.frames(samples), strict=False
  ):
    total += (height + 1) * width * 6 * inputs * outputs
    total += height * width * 6 * outputs * outputs
    if inputs != outputs:
      total += height * width * 3 * inputs * outputs
    inputs = outputs
  return total


def _graph(config: AasistConfig, frames: int) -> int:
  first, second = config.gat_dims
  spectral_ratio, temporal_ratio, ratio = config.pool_ratios
  total, nodes = 0, []
  for size, kept in (
    (config.bands, spectral_ratio),
    (frames, temporal_ratio),
  ):
    total += _attention(size, config.channels[-1], first) + size * first
    nodes.append(kept_nodes(size, kept))
  total += 2 * _joint(*nodes, first, second) + 2 * sum(nodes) * second
  nodes = [kept_nodes(size, ratio) for size in nodes]
  return total + 2 * _joint(*nodes, second, second) + 10 * second


def _attention(n: int, i: int, o: int) -> int:
  """Pair map, scores, gathering and two projections of n nodes."""
  return n * n * (i * o + o + i) + 2 * n * i * o


def _joint(spectral: int, temporal: int, i: int, o: int) -> int:
  """The same for joined graphs and a master node."""
  n = spectral + temporal
  pairs = n * n * (i * o + 3 * o + i)
  nodes = n * (i * i + 2 * i * o)
  master = n * (i * o + o + i) + 2 * i * o
  return pairs + nodes + master
