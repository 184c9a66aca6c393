"""SLS: a gated sum of the layers of an encoder.

Zhang, Wen, Hu 2024, "Audio Deepfake Detection with Self-Supervised XLS-R and
SLS Classifier", ACM Multimedia; github.com/QiShanZhang/SLSforASVspoof-2021-DF.

Letters in names: B batch, N frames, S states, D width of a state, E size of the
embedding.
"""

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.models.back_end import BackEndConfig
from jaxspoof.ops import pool
from jaxspoof.system import Answer, Encoded, System

POOL = 3  # frames, and values of a frame, that become one


@dataclasses.dataclass(frozen=True)
class SlsConfig(BackEndConfig):
  """What defines the back end; the defaults are the published one.

  Attributes:
    frames: number of frames that are looked at: 201 are 64,600 samples. A
      shorter sequence is repeated, a longer one is cut.
    embedding: size of the embedding.
    selu_outputs: whether logits go through a SELU, as the original's do.
    param_dtype: dtype of the parameters, 'float32' or 'float64'.
  """

  frames: int = 201
  embedding: int = 1024
  selu_outputs: bool = True
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    if self.frames < POOL or self.embedding < 1:
      raise ValueError(
        f'frames={self.frames}, embedding={self.embedding}: needs at least '
        f'{POOL} and 1'
      )

  def check_frontend(self, frontend) -> None:
    """Raises ValueError for states with too few values to pool."""
    if frontend.features < POOL:
      raise ValueError(
        f'front end of {frontend.features} features: needs at least {POOL}'
      )


class Sls(System):
  """The back end: states of an encoder side by side in, an embedding out.

  The state that enters the first layer is left out. Features of a front end
  that has no states, or gives one of them, are taken for one state.
  """

  def build(self, config: SlsConfig, rngs: nnx.Rngs) -> int:
    """Draws the parameters as the original does."""
    frontend = self.frontend.config
    options = dict(param_dtype=config.param_dtype, rngs=rngs)
    self.states = getattr(frontend, 'states', 1)
    width = frontend.features // self.states
    self.gate = layers.linear(width, 1, **options)
    self.first_norm = layers.BatchNorm(1, param_dtype=config.param_dtype)
    size = (config.frames // POOL) * (width // POOL)
    self.hidden = layers.linear(size, config.embedding, **options)
    return config.embedding

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Encoded:
    """The embedding of features, `[B, embedding]`."""
    del frames_B, rngs  # None: clips have one length
    batch, frames, _ = features.shape
    if frames != self.config.frames:
      index = jnp.arange(self.config.frames, dtype=jnp.int32) % frames
      features = jnp.take(features, index, 1)
    h_BxNxSxD = features.reshape(batch, self.config.frames, self.states, -1)
    if self.states > 1:
      h_BxNxSxD = h_BxNxSxD[:, :, 1:]
    with jax.named_scope('sum'):
      share_BxSx1 = jax.nn.sigmoid(self.gate(h_BxNxSxD.mean(1)))
      h_BxNxD = jnp.einsum('bs,bnsd->bnd', share_BxSx1[..., 0], h_BxNxSxD)
    with jax.named_scope('hidden'):
      h = self.first_norm.then_selu(h_BxNxD[..., None])[..., 0]
      h = pool.max_pool_image(h, POOL)
      embedding_BxE = jax.nn.selu(self.hidden(h.reshape(batch, -1)))
    return Encoded(embedding_BxE, embedding_BxE)

  def answer(self, *args, **options) -> Answer:
    """Computes embedding and outputs; see `System.answer`."""
    found = super().answer(*args, **options)
    # Cosines, which other losses take, are left alone.
    if self.config.selu_outputs and isinstance(self.head, nnx.Linear):
      return found._replace(outputs=jax.nn.selu(found.outputs))
    return found
