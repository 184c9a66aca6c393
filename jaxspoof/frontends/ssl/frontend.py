"""A self-supervised encoder as a front end.

Letters in names: B batch, T samples, N frames, D width, S states.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.frontends import stft
from jaxspoof.frontends.ssl import parts
from jaxspoof.frontends.ssl import weights as weights_lib
from jaxspoof.frontends.ssl.architecture import ARCHITECTURES, Architecture
from jaxspoof.frontends.ssl.encoder import Encoder, States

OUTPUTS = ('last', 'layer', 'mix', 'all')
# What the variance of a wave is increased by before waves are divided by its
# root; None: they are left as they are.
NORMALISATIONS = {'none': None, 'huggingface': 1e-7, 'fairseq': 1e-5}
RANDOM = 'random:'

_WANTED = (
  "front end 'ssl' needs config.frontend.weights: a directory as Hugging Face "
  'has them (config.json and model.safetensors or pytorch_model.bin), or a '
  "file of fairseq, torchaudio or Microsoft's WavLM. Encoders are published at "
  'https://huggingface.co, such as facebook/wav2vec2-xls-r-300m, '
  'facebook/hubert-base-ls960 and microsoft/wavlm-base. For tests: random:'
  f'NAME, where NAME is one of {", ".join(ARCHITECTURES)}'
)


@dataclasses.dataclass(frozen=True)
class SslConfig:
  """What defines a front end that is a self-supervised encoder.

  Attributes:
    weights: a file or directory of weights, see `tensors.files`, or
      'random:NAME' for values drawn for an encoder of `ARCHITECTURES`.
    output: what the features are: 'last', what the last layer makes, behind
      the final norm; 'layer', the state number `layer`; 'mix', a sum of all
      states whose weights are learned (a softmax, equal at first); 'all', all
      states side by side, `(layers + 1) * width` features.
    layer: which state is taken with output='layer': 0 is the input of the first
      layer, n the output of the n-th. Layers after it are not computed.
    last_norm: whether the state of the last layer is taken behind the final
      norm of models that have one, as s3prl and transformers 4 do;
      transformers 5 takes it before.
    normalise_wave: 'none' leaves waves as they are. 'huggingface' and 'fairseq'
      bring each clip to mean 0 and variance 1; they differ in what is added to
      the variance. '' does as the weights say.
    pre_emphasis: the factor a in x[t] - a x[t - 1], applied before that; 0 for
      none.
    dtype: dtype of products, 'float32' or 'bfloat16'.
    param_dtype: dtype of the weights; frozen ones need half the memory in
      'bfloat16'.
    remat: whether the inside of layers is computed again for the gradient,
      which saves memory and costs a third more time.
    sample_rate: sampling rate of the waves in Hz; all published encoders take
      16,000.
    architecture: the encoder, an `Architecture` or a mapping of its fields;
      None takes what the weights say.
  """

  weights: str = ''
  output: str = 'last'
  layer: int = 0
  last_norm: bool = True
  normalise_wave: str = ''
  pre_emphasis: float = 0.0
  dtype: str = 'float32'
  param_dtype: str = 'float32'
  remat: bool = False
  sample_rate: int = 16_000
  architecture: Any = None

  def __post_init__(self):
    """Asks the weights for what is not given; raises ValueError if invalid."""
    if isinstance(self.architecture, Mapping):
      made = Architecture(**self.architecture)
      object.__setattr__(self, 'architecture', made)
    if self.weights and not (self.architecture and self.normalise_wave):
      self._ask_weights()
    self._need('output', self.output in OUTPUTS, f'one of {OUTPUTS}')
    known = ('', *NORMALISATIONS)
    fits = self.normalise_wave in known
    self._need('normalise_wave', fits, f'one of {", ".join(NORMALISATIONS)}')
    self._need('pre_emphasis', 0 <= self.pre_emphasis < 1, 'a value in [0, 1)')
    for name in ('dtype', 'param_dtype'):
      known = ('float32', 'bfloat16', 'float64')
      self._need(name, getattr(self, name) in known, f'one of {known}')
    if self.architecture is not None:
      last = self.architecture.layers
      self._need('layer', 0 <= self.layer <= last, f'0 to {last}')

  def _need(self, name: str, fulfilled: bool, wanted: str):
    if not fulfilled:
      raise ValueError(f'{name}={getattr(self, name)!r}: needs {wanted}')

  def _ask_weights(self):
    normalise = self.normalise_wave
    if self.is_random:
      name = self.weights.removeprefix(RANDOM)
      known = f'{RANDOM} and one of {", ".join(ARCHITECTURES)}'
      self._need('weights', name in ARCHITECTURES, known)
      found, normalise = ARCHITECTURES[name], normalise or 'none'
    else:
      source = weights_lib.describe(self.weights)
      found = source.architecture
      if not normalise and source.normalise is None:
        raise ValueError(
          f'{self.weights} does not say whether it expects normalised waves: '
          'set normalise_wave to none, huggingface or fairseq'
        )
      style = 'huggingface' if source.config else 'fairseq'
      normalise = normalise or (style if source.normalise else 'none')
    if self.architecture is None:
      object.__setattr__(self, 'architecture', found)
    object.__setattr__(self, 'normalise_wave', normalise)

  @property
  def is_random(self) -> bool:
    """Whether the encoder's values are drawn and not read."""
    return self.weights.startswith(RANDOM)

  @property
  def known(self) -> Architecture:
    """The architecture; raises ValueError where no weights have been named."""
    if self.architecture is None:
      raise ValueError(_WANTED)
    return self.architecture

  @property
  def built(self) -> Architecture:
    """The architecture without the layers that are not computed."""
    if self.output != 'layer':
      return self.known
    return dataclasses.replace(self.known, layers=max(self.layer, 1))

  @property
  def features(self) -> int:
    """Number of features in a frame."""
    states = self.known.layers + 1 if self.output == 'all' else 1
    return self.known.width * states

  @property
  def hop_length(self) -> int:
    """Samples from one frame to the next."""
    return self.known.hop_length

  def frames(self, samples: int) -> int:
    """Number of frames that a clip of this length gives."""
    return self.known.frames(samples)

  def samples_needed(self, frames: int) -> int:
    """Length in samples of the shortest clip that gives this many frames."""
    return self.known.samples_needed(frames)


class Ssl(nnx.Module):
  """The front end: waves to states of an encoder.

  Its weights are trained like all others, unless `optim.groups` freezes them:
  `('frontend/encoder/.*', {'frozen': True})`. A clip has the same features in a
  padded batch as alone.
  """

  def __init__(self, config: SslConfig, rngs: nnx.Rngs):
    """Reads the weights, or draws them.

    Args:
      config: the config, whose field `weights` is set.
      rngs: random streams; drawn weights come from `params`.

    Raises:
      CheckpointError (a ValueError): weights that cannot be read or used.
    """
    self.config = config
    options = dict(
      dtype=config.dtype, param_dtype=config.param_dtype, remat=config.remat
    )
    # Where only shapes are wanted there is nothing to read.
    abstract = isinstance(rngs.params(), jax.core.Tracer)
    if config.is_random or abstract:
      self.encoder = Encoder(config.built, rngs, **options)
    else:
      self.encoder = weights_lib.load(config.weights, config.built, **options)
    if config.output == 'mix':
      zeros = jnp.zeros((config.known.layers + 1,), jnp.float32)
      self.mix = nnx.Param(zeros)

  def __call__(
    self, wave_BxT: jax.Array, samples_B: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Computes the features; the contract is `system.Frontend`."""
    c = self.config
    if c.pre_emphasis:
      wave_BxT = stft.pre_emphasise(wave_BxT, c.pre_emphasis)
    epsilon = NORMALISATIONS[c.normalise_wave]
    if epsilon is not None:
      wave_BxT = normalised(wave_BxT, samples_B, epsilon)
    states = self.encoder(wave_BxT, samples_B, hidden=c.output != 'last')
    features = self._chosen(states)
    frames_B = states.frames
    if frames_B is None:
      batch, frames, _ = features.shape
      return features, jnp.full((batch,), frames, jnp.int32)
    valid_BxNx1 = parts.valid(frames_B, features.shape[1])
    return parts.zeroed(features, valid_BxNx1), frames_B

  def _chosen(self, states: States) -> jax.Array:
    """The features that `config.output` makes of the states."""
    c = self.config
    if c.output == 'last':
      return states.last
    hidden = states.hidden
    whole = len(hidden) == c.known.layers + 1
    if c.last_norm and c.known.pre_norm and whole:
      hidden = jnp.concatenate([hidden[:-1], states.last[None]])
    if c.output == 'layer':
      return hidden[c.layer]
    if c.output == 'mix':
      shares_S = jax.nn.softmax(self.mix[...]).astype(hidden.dtype)
      return jnp.einsum('s,sbnd->bnd', shares_S, hidden)
    states_, batch, frames, width = hidden.shape
    return jnp.moveaxis(hidden, 0, 2).reshape(batch, frames, states_ * width)


def normalised(
  wave_BxT: jax.Array, samples_B: jax.Array | None, epsilon: float
) -> jax.Array:
  """Each clip with mean 0 and variance 1, of its own samples alone.

  Args:
    wave_BxT: waves, padded or not.
    samples_B: number of valid samples of each clip; None if all are.
    epsilon: added to the variance before the root is taken.

  Returns:
    Waves of the same shape, 0 behind each clip's end.
  """
  x = wave_BxT.astype(layers.wide(wave_BxT.dtype))
  where = None
  if samples_B is not None:
    where = parts.valid(samples_B, x.shape[1])[..., 0]
  mean = x.mean(1, keepdims=True, where=where)
  var = jnp.square(x - mean).mean(1, keepdims=True, where=where)
  x = (x - mean) * jax.lax.rsqrt(var + epsilon)
  return x if where is None else jnp.where(where, x, 0)
