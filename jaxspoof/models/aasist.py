"""AASIST: a spoofing countermeasure on raw waveforms.

Jung, Heo, Tak, Shim, Chung, Lee, Yu, Evans 2022, "AASIST: Audio Anti-Spoofing
Using Integrated Spectro-Temporal Graph Attention Networks", arXiv 2110.01200.

A sinc filter bank makes an image of frequency by time, six residual blocks
make features of it, one graph over frequency and one over time attend to
them, and two branches with a master node join the graphs.

Letters in names: B batch, T samples, H frequency bands, W frames, C channels,
N nodes, D features of a node.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.frontends import sinc
from jaxspoof.models import graph, layers
from jaxspoof.ops import pool

_POOL = 3  # of the front end and of each residual block
BRANCHES = 2
FRONTENDS = ('sinc', 'learnable_sinc')
DTYPES = ('float32', 'bfloat16', 'float64')


@dataclasses.dataclass(frozen=True)
class AasistConfig:
  """What defines an AASIST. The defaults are the published model.

  Attributes:
    frontend: 'sinc' (fixed mel-spaced bank) or 'learnable_sinc'.
    sinc_filters: filters of the bank; three make one frequency band.
    sinc_taps: filter length in samples, made odd (128 means 129).
    sample_rate: Hz.
    channels: output channels of each residual block.
    gat_dims: node sizes of the first and of the second graph layers.
    pool_ratios: share of nodes kept in the spectral, temporal and
      heterogeneous graphs. (The published configuration lists a fourth value
      that its code does not read.)
    temperatures: of the softmax in the same three.
    input_dropout: rate before each graph attention.
    pool_dropout: rate before the scores of each graph pooling.
    way_dropout: rate on the outputs of the two branches.
    output_dropout: rate before the last layer.
    freq_mask: silence a random band of filters in each training batch.
    freq_mask_limit: widest such band plus one, in filters.
    dtype: of the residual encoder, where the time and the memory go; front
      end, graphs and statistics are at least float32.
    param_dtype: of parameters and statistics.
    remat: recompute the residual blocks in the backward pass, to save memory.
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
    """Makes tuples of lists and refuses what cannot work."""
    for name in ('channels', 'gat_dims', 'pool_ratios', 'temperatures'):
      object.__setattr__(self, name, tuple(getattr(self, name)))
    self._need('frontend', self.frontend in FRONTENDS, f'one of {FRONTENDS}')
    self._need('dtype', self.dtype in DTYPES, f'one of {DTYPES}')
    known = ('float32', 'float64')
    self._need('param_dtype', self.param_dtype in known, f'one of {known}')
    for name, size in (
      ('gat_dims', 2),
      ('pool_ratios', 3),
      ('temperatures', 3),
    ):
      self._need(name, len(getattr(self, name)) == size, f'{size} values')
    positive = min((*self.channels, *self.gat_dims), default=0) > 0
    self._need('channels', self.channels and positive, 'sizes above 0')
    ratios = all(0 < ratio <= 1 for ratio in self.pool_ratios)
    self._need('pool_ratios', ratios, 'shares in (0, 1]')
    self._need('temperatures', min(self.temperatures) > 0, 'values above 0')
    for name in ('input', 'pool', 'way', 'output'):
      rate = getattr(self, f'{name}_dropout')
      self._need(f'{name}_dropout', 0 <= rate < 1, 'a rate in [0, 1)')
    self._need('sinc_filters', self.bands > 1, 'at least 6 filters')
    self._need('sinc_taps', self.sinc_taps > 0, 'at least 1 tap')
    fits = 0 < self.freq_mask_limit <= self.sinc_filters
    self._need(
      'freq_mask_limit', fits or not self.freq_mask, '1 to sinc_filters'
    )

  @property
  def bands(self) -> int:
    """Height of the image that the front end makes."""
    return self.sinc_filters // _POOL

  @property
  def min_samples(self) -> int:
    """Shortest wave that leaves one frame after all pooling."""
    frames = _POOL ** len(self.channels)
    return sinc.samples_needed(self.sinc_taps, _POOL, frames)

  def frames(self, samples: int) -> tuple[int, ...]:
    """Width of the image before each residual block and after the last."""
    width = sinc.frames_made(samples, self.sinc_taps, _POOL)
    return tuple(width // _POOL**i for i in range(len(self.channels) + 1))

  def dropped(self, samples: int) -> tuple[int, int]:
    """How many values per clip pass through dropout layers in training.

    Returns:
      Those outside the branches and those inside each branch.
    """
    first, second = self.gat_dims
    sizes = (self.bands, self.frames(samples)[-1])
    kept = [
      graph.kept_nodes(*v) for v in zip(sizes, self.pool_ratios, strict=False)
    ]
    last = sum(graph.kept_nodes(n, self.pool_ratios[2]) for n in kept)
    nodes, kept = sum(sizes), sum(kept)
    before, pool, way, output = (
      rate > 0
      for rate in (
        self.input_dropout,
        self.pool_dropout,
        self.way_dropout,
        self.output_dropout,
      )
    )
    trunk = before * nodes * self.channels[-1] + pool * nodes * first
    branch = before * kept * first + pool * kept * second
    branch += before * last * second + way * (last + 1) * second
    return trunk + output * 5 * second, branch

  def _need(self, name: str, fulfilled: bool, wanted: str):
    if not fulfilled:
      raise ValueError(f'{name}={getattr(self, name)!r}: needs {wanted}')


class ResidualBlock(nnx.Module):
  """Two convolutions, a shortcut and max-pooling over time."""

  def __init__(self, inputs: int, outputs: int, config, rngs: nnx.Rngs):
    """Args are the numbers of channels and an `AasistConfig`."""
    options = dict(param_dtype=config.param_dtype, rngs=rngs)
    # The first convolution adds a band and the second takes it away.
    self.conv1 = layers.Conv2d(
      inputs, outputs, (2, 3), padding=((1, 1), (1, 1)), **options
    )
    self.norm2 = layers.BatchNorm(outputs, param_dtype=config.param_dtype)
    self.conv2 = layers.Conv2d(
      outputs, outputs, (2, 3), padding=((0, 0), (1, 1)), **options
    )
    if inputs != outputs:
      self.shortcut = layers.Conv2d(
        inputs, outputs, (1, 3), padding=((0, 0), (1, 1)), **options
      )
    else:
      self.shortcut = None
    if inputs != 1:
      self.norm1 = layers.UnusedBatchNorm(
        inputs, param_dtype=config.param_dtype
      )

  def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
    """Returns `[B, H, W // 3, outputs]`."""
    h = self.conv1(x_BxHxWxC, with_bias=False)
    h = self.norm2.then_selu(h, offset_C=self.conv1.bias[...])
    h = self.conv2(h)
    h = h + (x_BxHxWxC if self.shortcut is None else self.shortcut(x_BxHxWxC))
    return pool.max_pool_time(h, _POOL)


class Encoder(nnx.Module):
  """A chain of residual blocks, `block0` first."""

  def __init__(self, config: AasistConfig, rngs: nnx.Rngs):
    """Makes one block per entry of `config.channels`."""
    self.length, self.remat = len(config.channels), config.remat
    inputs = (1, *config.channels)
    for i, (c_in, c_out) in enumerate(
      zip(inputs, config.channels, strict=False)
    ):
      # Named attributes: integer keys of nnx.List do not survive checkpoints.
      setattr(self, f'block{i}', ResidualBlock(c_in, c_out, config, rngs))

  def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
    """Returns `[B, H, W // 3**blocks, channels[-1]]`."""
    for i in range(self.length):
      block = getattr(self, f'block{i}')
      if self.remat:
        x_BxHxWxC = layers.transformed(jax.checkpoint, block, x_BxHxWxC)
      else:
        x_BxHxWxC = block(x_BxHxWxC)
    return x_BxHxWxC


class Branch(nnx.Module):
  """Two heterogeneous attentions with pooling between them (section 2.3)."""

  def __init__(self, config: AasistConfig, rngs: nnx.Rngs):
    """Takes the third temperature and pooling ratio of the config."""
    attention = dict(
      temperature=config.temperatures[2],
      dropout=config.input_dropout,
      param_dtype=config.param_dtype,
      rngs=rngs,
    )
    pool = dict(
      ratio=config.pool_ratios[2],
      dropout=config.pool_dropout,
      param_dtype=config.param_dtype,
      rngs=rngs,
    )
    first, second = config.gat_dims
    self.attention1 = graph.HeterogeneousAttention(first, second, **attention)
    self.pool_temporal = graph.GraphPool(second, **pool)
    self.pool_spectral = graph.GraphPool(second, **pool)
    self.attention2 = graph.HeterogeneousAttention(second, second, **attention)
    self.way_dropout = layers.Dropout(config.way_dropout)

  def __call__(self, temporal, spectral, master_1x1xD, noise_BxN=None):
    """Maps nodes `[B, N, D]` and a master node to sets of size gat[1]."""
    noise = None if noise_BxN is None else layers.Noise(noise_BxN)
    master = jnp.broadcast_to(
      master_1x1xD, (len(temporal), *master_1x1xD.shape[1:])
    )
    t, s, m = self.attention1(temporal, spectral, master, noise)
    t, s = self.pool_temporal(t, noise), self.pool_spectral(s, noise)
    t2, s2, m2 = self.attention2(t, s, m, noise)
    ways = (t + t2, s + s2, m + m2)
    ways = tuple(self.way_dropout(way, noise) for way in ways)
    assert noise is None or not noise.left, 'more numbers drawn than used'
    return ways


@nnx.split_rngs(splits=BRANCHES)
@nnx.vmap(in_axes=(None, 0))
def _make_branches(config: AasistConfig, rngs: nnx.Rngs) -> Branch:
  """Branches stacked along a first axis of all their arrays."""
  return Branch(config, rngs)


class Aasist(nnx.Module):
  """The countermeasure: waves in, a bona fide and a spoof logit out.

  Works for any number of samples from `config.min_samples` (2,315 for the
  published model, 0.14 s; it was trained on 64,600). A new module is in
  training mode: dropout, batch statistics. For evaluation take
  `nnx.view(model, deterministic=True, use_running_average=True)`.
  """

  def __init__(self, config: AasistConfig, rngs: nnx.Rngs):
    """Draws the parameters as the original does.

    Args:
      config: sizes and rates.
      rngs: stream `params`.
    """
    self.config = config
    first, second = config.gat_dims
    channels = config.channels[-1]
    options = dict(param_dtype=config.param_dtype, rngs=rngs)
    self.frontend = _frontend(config)
    self.first_norm = layers.BatchNorm(1, param_dtype=config.param_dtype)
    self.encoder = Encoder(config, rngs)
    for i, axis in enumerate(('spectral', 'temporal')):
      attention = graph.GraphAttention(
        channels,
        first,
        temperature=config.temperatures[i],
        dropout=config.input_dropout,
        **options,
      )
      pool = graph.GraphPool(
        first,
        ratio=config.pool_ratios[i],
        dropout=config.pool_dropout,
        **options,
      )
      setattr(self, f'attention_{axis}', attention)
      setattr(self, f'pool_{axis}', pool)
    self.position = _normal((1, config.bands, channels), config, rngs)
    self.master = _normal((BRANCHES, 1, 1, first), config, rngs)
    self.branches = _make_branches(config, rngs)
    self.output_dropout = layers.Dropout(config.output_dropout)
    self.output = layers.linear(5 * second, 2, **options)

  def __call__(
    self, wave_BxT: jax.Array, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """Scores waves.

    Args:
      wave_BxT: floating-point waves in [-1, 1) at `config.sample_rate`.
      rngs: stream `dropout` (and `mask` where masking is on); needed in
        training mode only.

    Returns:
      float32 logits `[B, 2]` (float64 where the parameters are): spoof, bona
      fide. The difference, bona fide minus spoof, is the score.

    Raises:
      ValueError: not `[B, T]`, not floating point, or too short.
    """
    noise = self._noise(wave_BxT, rngs)
    hidden_BxD = self._embed(wave_BxT, rngs, noise)
    logits_Bx2 = self.output(self.output_dropout(hidden_BxD, noise))
    assert noise is None or not noise.left, 'more numbers drawn than used'
    return logits_Bx2

  def embed(
    self, wave_BxT: jax.Array, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """The embedding before the output dropout, `[B, 5 * gat_dims[1]]`.

    Maximum and mean of the temporal nodes, maximum and mean of the spectral
    nodes, master node. Arguments as in `__call__`.
    """
    return self._embed(wave_BxT, rngs, self._noise(wave_BxT, rngs))

  def encode(
    self, wave_BxT: jax.Array, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """The output of the residual encoder, `[B, bands, frames, channels]`."""
    self._check(wave_BxT)
    dtype = jnp.dtype(self.config.dtype)
    # Bands are differences of neighbouring samples: too fine for bfloat16.
    wave_BxT = wave_BxT.astype(layers.wide(dtype))
    h_BxWxH = self.frontend(wave_BxT, rngs)
    h_BxHxWxC = h_BxWxH.mT[..., None]
    h_BxHxWxC = self.first_norm.then_selu(h_BxHxWxC)
    return self.encoder(h_BxHxWxC.astype(dtype))

  def attend(
    self, h_BxHxWxC: jax.Array, noise: layers.Noise | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Spectral `[B, H, D]` and temporal `[B, W, D]` nodes before pooling."""
    h = jnp.abs(h_BxHxWxC)
    h_BxHxC, h_BxWxC = (
      v.astype(layers.wide(h.dtype)) for v in (h.max(2), h.max(1))
    )
    spectral = self.attention_spectral(h_BxHxC + self.position[...], noise)
    return spectral, self.attention_temporal(h_BxWxC, noise)

  def _embed(self, wave_BxT, rngs, noise):
    spectral, temporal = self.attend(self.encode(wave_BxT, rngs), noise)
    spectral = self.pool_spectral(spectral, noise)
    temporal = self.pool_temporal(temporal, noise)
    parts = None
    if noise is not None:
      _, count = self.config.dropped(wave_BxT.shape[1])
      parts = noise.take((len(wave_BxT), BRANCHES, count)).swapaxes(0, 1)
    # At once: half as many operations to compile and to launch.
    ways = layers.transformed(
      functools.partial(jax.vmap, in_axes=(0, None, None, 0, 0)),
      self.branches,
      temporal,
      spectral,
      self.master[...],
      parts,
    )
    t, s, m = (way.max(0) for way in ways)
    return jnp.concatenate(
      [jnp.abs(t).max(1), t.mean(1), jnp.abs(s).max(1), s.mean(1), m[:, 0]],
      axis=1,
    )

  def _noise(self, wave_BxT, rngs) -> layers.Noise | None:
    """Random numbers for all dropout layers, None where there are none."""
    self._check(wave_BxT)
    batch, samples = wave_BxT.shape
    trunk, branch = self.config.dropped(samples)
    count = trunk + BRANCHES * branch
    if self.output_dropout.deterministic or not count:
      return None
    return layers.Noise.draw(rngs, batch, count)

  def _check(self, wave_BxT: jax.Array):
    if wave_BxT.ndim != 2 or not jnp.issubdtype(wave_BxT.dtype, jnp.floating):
      raise ValueError(
        'expected floating-point waves [batch, samples], got '
        f'{wave_BxT.dtype}{list(wave_BxT.shape)}'
      )
    if wave_BxT.shape[1] < self.config.min_samples:
      raise ValueError(
        f'waves of {wave_BxT.shape[1]} samples are too short: this model needs '
        f'at least {self.config.min_samples} (repeat shorter clips)'
      )


def _frontend(config: AasistConfig) -> sinc.SincFrontend:
  return sinc.SincFrontend(
    config.sinc_filters,
    config.sinc_taps,
    rate=config.sample_rate,
    pool=_POOL,
    learnable=config.frontend == 'learnable_sinc',
    mask_limit=config.freq_mask_limit if config.freq_mask else 0,
    param_dtype=config.param_dtype,
  )


def _normal(shape, config: AasistConfig, rngs: nnx.Rngs) -> nnx.Param:
  dtype = jnp.dtype(config.param_dtype)
  return nnx.Param(layers.normal()(rngs.params(), shape, dtype))
