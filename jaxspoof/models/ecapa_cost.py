"""Size and arithmetic of an ECAPA-TDNN, from its config alone.

One MAC is one multiplication with its addition. Normalisation, activations,
dropout and the sums over time are left out.
"""

from jaxspoof.models.ecapa_config import Layer, TdnnConfig


def macs(config: TdnnConfig, frames: int) -> dict[str, int]:
  """Multiply-accumulates of the forward pass of one clip.

  Args:
    config: the model.
    frames: length of the clip.

  Returns:
    MACs of the stages 'blocks' (the first layer too), 'mfa' and 'pooling'
    (the last layer too), and their 'total'.

  Raises:
    ValueError: the clip is shorter than the model can process.
  """
  if frames < config.min_frames:
    raise ValueError(
      f'frames={frames}: this model needs at least {config.min_frames}'
    )
  first, *blocks, last = config.layers
  channels, hidden = last.outputs, config.attention_channels
  # Mean and deviation of the clip are multiplied once, not for each frame.
  clip = 2 * channels * hidden * config.global_context
  stages = {
    'blocks': frames * _kernel(first)
    + sum(_block_macs(config, layer, frames) for layer in blocks),
    'mfa': frames * _kernel(last),
    'pooling': frames * 2 * channels * hidden
    + clip
    + 2 * channels * config.lin_neurons,
  }
  return {**stages, 'total': sum(stages.values())}


def parameters(config: TdnnConfig) -> int:
  """Number of trained values."""
  first, *blocks, last = config.layers
  channels, hidden = last.outputs, config.attention_channels
  seen = channels * (3 if config.global_context else 1)
  pooling = seen * hidden + 3 * hidden + hidden * channels + channels
  output = 4 * channels + (2 * channels + 1) * config.lin_neurons
  return (
    _tdnn(first)
    + sum(_block_parameters(config, layer) for layer in blocks)
    + _tdnn(last)
    + pooling
    + output
  )


def _kernel(layer: Layer) -> int:
  return layer.size * layer.inputs // layer.groups * layer.outputs


def _tdnn(layer: Layer) -> int:
  """Kernel and bias, scale and bias of the normalisation."""
  return _kernel(layer) + 3 * layer.outputs


def _parts(config: TdnnConfig, layer: Layer) -> tuple[Layer, Layer, Layer]:
  """The layers of one tap and a filter of the Res2Net between them."""
  width = layer.outputs // config.res2net_scale
  return (
    Layer(layer.inputs, layer.outputs, 1, 1, layer.groups),
    Layer(width, width, layer.size, layer.dilation, 1),
    Layer(layer.outputs, layer.outputs, 1, 1, layer.groups),
  )


def _block_macs(config: TdnnConfig, layer: Layer, frames: int) -> int:
  before, middle, after = map(_kernel, _parts(config, layer))
  total = frames * (before + (config.res2net_scale - 1) * middle + after)
  if layer.inputs != layer.outputs:
    total += frames * layer.inputs * layer.outputs
  return total + 2 * layer.outputs * config.se_channels


def _block_parameters(config: TdnnConfig, layer: Layer) -> int:
  before, middle, after = map(_tdnn, _parts(config, layer))
  total = before + (config.res2net_scale - 1) * middle + after
  if layer.inputs != layer.outputs:
    total += (layer.inputs + 1) * layer.outputs
  squeezed = 2 * layer.outputs * config.se_channels
  return total + squeezed + config.se_channels + layer.outputs
