"""AASIST: a spoofing countermeasure on raw waveforms.

Jung, Heo, Tak, Shim, Chung, Lee, Yu, Evans 2022, "AASIST: Audio Anti-Spoofing
Using Integrated Spectro-Temporal Graph Attention Networks", arXiv 2110.01200.

A sinc filter bank makes an image of frequency by time, six residual blocks
make features of it, one graph over frequency and one over time attend to
them, and two branches with a master node join the graphs.

Letters in names: B batch, T samples, H frequency bands, W frames, C channels,
N nodes, D features of a node.
"""

import functools

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.frontends import sinc
from jaxspoof.models import graph
from jaxspoof.models.aasist_config import POOL, AasistConfig
from jaxspoof.models.aasist_encoder import Encoder
from jaxspoof.system import WAVES, Attention, Encoded, System


class Branch(nnx.Module):
  """Two heterogeneous attentions with pooling between them (section 2.3)."""

  def __init__(self, config: AasistConfig, rngs: nnx.Rngs):
    """Draws the parameters; uses the third temperature and pooling ratio."""
    attention = dict(
      temperature=config.temperatures[2],
      dropout=config.input_dropout,
      param_dtype=config.param_dtype,
      rngs=rngs,
      activated=config.activated,
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
      master_1x1xD, (temporal.shape[0], *master_1x1xD.shape[1:])
    )
    t, s, m = self.attention1(temporal, spectral, master, noise)
    t, s = self.pool_temporal(t, noise), self.pool_spectral(s, noise)
    t2, s2, m2 = self.attention2(t, s, m, noise)
    ways = (t + t2, s + s2, m + m2)
    ways = tuple(self.way_dropout(way, noise) for way in ways)
    assert noise is None or not noise.left, 'more numbers drawn than used'
    return ways


def _make_branches(config: AasistConfig, rngs: nnx.Rngs) -> Branch:
  """Branches stacked along a first axis of all their arrays."""
  made = [nnx.split(Branch(config, rngs)) for _ in range(config.branches)]
  graphdef, states = made[0][0], [state for _, state in made]
  return nnx.merge(graphdef, jax.tree.map(layers.stacked, *states))


class Graphs(System):
  """Graphs over frequency and over time, which two branches join.

  What a subclass makes of a clip before is an image of frequency by time.
  """

  head_name = 'output'

  def build_graphs(self, config, bands: int, rngs: nnx.Rngs) -> int:
    """Draws the parameters.

    Args:
      config: an `AasistConfig` or an `SslAasistConfig`.
      bands: number of spectral nodes.
      rngs: random streams; weights are drawn from `params`.

    Returns:
      Size of the embedding.
    """
    first, second = config.gat_dims
    channels = config.channels[-1]
    options = dict(param_dtype=config.param_dtype, rngs=rngs)
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
    self.position = _normal((1, bands, channels), config, rngs)
    self.master = _normal((config.branches, 1, 1, first), config, rngs)
    self.branches = _make_branches(config, rngs)
    self.output_dropout = layers.Dropout(config.output_dropout)
    return 5 * second

  def join(
    self,
    spectral: jax.Array,
    temporal: jax.Array,
    length: int,
    noise: layers.Noise | None,
  ) -> Encoded:
    """The embedding of nodes `[B, N, D]` before pooling.

    Args:
      spectral: nodes of frequency.
      temporal: nodes of time.
      length: of the clip, as `config.dropped` takes it.
      noise: see `noise`.

    Returns:
      Maximum and mean of the temporal nodes, maximum and mean of the spectral
      nodes, master node: `[B, 5 * gat_dims[1]]`.
    """
    spectral = self.pool_spectral(spectral, noise)
    temporal = self.pool_temporal(temporal, noise)
    parts = None
    if noise is not None:
      _, count = self.config.dropped(length)
      parts = noise.take((len(spectral), self.config.branches, count)).swapaxes(
        0, 1
      )
    # At once: half as many operations to compile and to launch.
    ways = layers.transformed(
      functools.partial(jax.vmap, in_axes=(0, None, None, 0, 0)),
      self.branches,
      temporal,
      spectral,
      self.master[...],
      parts,
    )
    # The max graph operation of section 2.3: the larger value of the branches.
    t, s, m = (way.max(0) for way in ways)
    hidden_BxD = jnp.concatenate(
      [jnp.abs(t).max(1), t.mean(1), jnp.abs(s).max(1), s.mean(1), m[:, 0]],
      axis=1,
    )
    seen_BxD = self.output_dropout(hidden_BxD, noise)
    assert noise is None or not noise.left, 'more numbers drawn than used'
    return Encoded(hidden_BxD, seen_BxD)

  def noise(
    self, batch: int, length: int, rngs: nnx.Rngs | None
  ) -> layers.Noise | None:
    """Random numbers for all dropout layers; None if dropout is off."""
    trunk, branch = self.config.dropped(length)
    count = trunk + self.config.branches * branch
    if self.output_dropout.deterministic or not count:
      return None
    return layers.Noise.draw(rngs, batch, count)


class Aasist(Graphs):
  """The countermeasure: waves in, a spoof and a bona fide logit out.

  Works for any number of samples from `min_samples` (2,315 for the published
  model, 0.14 s; it was trained on 64,600), all clips of a batch of one length.
  Its sinc bank, whose output it takes for an image, is a layer of its own.
  """

  takes = WAVES

  def build(self, config: AasistConfig, rngs: nnx.Rngs) -> int:
    """Draws the parameters as the original does."""
    self.frontend = _frontend(config)
    self.first_norm = layers.BatchNorm(1, param_dtype=config.param_dtype)
    self.encoder = Encoder(config, rngs)
    return self.build_graphs(config, config.bands, rngs)

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Encoded:
    """The embedding of waves `[B, T]`, see `join`."""
    del frames_B  # None: clips have one length
    batch, samples = features.shape
    noise = self.noise(batch, samples, rngs)
    h_BxHxWxC = self.image(features, rngs)
    with jax.named_scope('graph'):
      nodes = self.attend(h_BxHxWxC, noise)
      return self.join(*nodes, samples, noise)

  def attention(
    self, wave_BxT: jax.Array, samples: jax.Array | None = None
  ) -> Attention:
    """What its graphs keep of waves `[B, T]`; see `System.attention`."""
    spectral, temporal = self.attend(self.image(self.features(wave_BxT)[0]))
    config = self.config
    edges = sinc.mel_edges(config.sinc_filters, config.sample_rate)[::POOL]
    return Attention(
      self.pool_temporal.kept(temporal),
      self.pool_spectral.kept(spectral),
      jnp.int32(POOL ** (1 + len(config.channels))),
      jnp.asarray(edges[: config.bands + 1], jnp.float32),
    )

  def image(
    self, wave_BxT: jax.Array, rngs: nnx.Rngs | None = None
  ) -> jax.Array:
    """The output of the residual encoder, `[B, bands, frames, channels]`."""
    dtype = jnp.dtype(self.config.dtype)
    # Bands are differences of neighbouring samples: too fine for bfloat16.
    wave_BxT = wave_BxT.astype(layers.wide(dtype))
    with jax.named_scope('sinc'):
      h_BxWxH = self.frontend(wave_BxT, rngs)
    with jax.named_scope('encoder'):
      h_BxHxWxC = h_BxWxH.mT[..., None]
      h_BxHxWxC = self.first_norm.then_selu(h_BxHxWxC)
      return self.encoder(h_BxHxWxC.astype(dtype))

  def attend(
    self, h_BxHxWxC: jax.Array, noise: layers.Noise | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Spectral `[B, H, D]` and temporal `[B, W, D]` nodes before pooling."""
    # The strongest response of either sign, over time for the nodes of
    # frequency and over frequency for the nodes of time.
    h = jnp.abs(h_BxHxWxC)
    h_BxHxC, h_BxWxC = (
      v.astype(layers.wide(h.dtype)) for v in (h.max(2), h.max(1))
    )
    spectral = self.attention_spectral(h_BxHxC + self.position[...], noise)
    return spectral, self.attention_temporal(h_BxWxC, noise)


def _frontend(config: AasistConfig) -> sinc.SincFrontend:
  return sinc.SincFrontend(
    config.sinc_filters,
    config.sinc_taps,
    rate=config.sample_rate,
    pool=POOL,
    learnable=config.frontend == 'learnable_sinc',
    mask_limit=config.freq_mask_limit if config.freq_mask else 0,
    param_dtype=config.param_dtype,
  )


def _normal(shape, config: AasistConfig, rngs: nnx.Rngs) -> nnx.Param:
  dtype = jnp.dtype(config.param_dtype)
  return nnx.Param(layers.normal()(rngs.params(), shape, dtype))
