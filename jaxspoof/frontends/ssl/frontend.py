"""wav2vec 2.0, HuBERT and WavLM as front ends.

Letters in names: B batch, T samples.
"""

import dataclasses
from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers
from jaxspoof.frontends import stft
from jaxspoof.frontends.ssl import parts
from jaxspoof.frontends.ssl import weights as weights_lib
from jaxspoof.frontends.ssl.architecture import ARCHITECTURES, Architecture
from jaxspoof.frontends.ssl.encoder import Encoder
from jaxspoof.frontends.ssl.states import StatesConfig, StatesFrontend

# What the variance of a wave is increased by before waves are divided by its
# root; None: they are left as they are.
NORMALISATIONS = {'none': None, 'huggingface': 1e-7, 'fairseq': 1e-5}


@dataclasses.dataclass(frozen=True)
class SslConfig(StatesConfig):
  """What defines a front end that is a self-supervised encoder.

  Attributes:
    normalise_wave: 'none' leaves waves as they are. 'huggingface' and 'fairseq'
      bring each clip to mean 0 and variance 1; they differ in what is added to
      the variance. '' does as the weights say.
    pre_emphasis: the factor a in x[t] - a x[t - 1], applied before that; 0 for
      none. The others are those of `StatesConfig`.
  """

  normalise_wave: str = ''
  pre_emphasis: float = 0.0

  kind: ClassVar = Architecture
  named: ClassVar = ARCHITECTURES
  wanted: ClassVar = (
    "front end 'ssl' needs config.frontend.weights: a directory as Hugging "
    'Face has them (config.json and model.safetensors or pytorch_model.bin), '
    "or a file of fairseq, torchaudio or Microsoft's WavLM. Encoders are "
    'published at https://huggingface.co, such as '
    'facebook/wav2vec2-xls-r-300m, facebook/hubert-base-ls960 and '
    'microsoft/wavlm-base. For tests: random:NAME, where NAME is one of '
    f'{", ".join(ARCHITECTURES)}'
  )

  def __post_init__(self):
    """Raises ValueError for values that cannot work."""
    super().__post_init__()
    fits = self.normalise_wave in ('', *NORMALISATIONS)
    self._need('normalise_wave', fits, f'one of {", ".join(NORMALISATIONS)}')
    self._need('pre_emphasis', 0 <= self.pre_emphasis < 1, 'a value in [0, 1)')

  def _settled(self) -> bool:
    return bool(self.architecture and self.normalise_wave)

  def _ask_weights(self):
    normalise = self.normalise_wave
    if self.is_random:
      found, normalise = self._random(), normalise or 'none'
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
    self._set(architecture=self.architecture or found, normalise_wave=normalise)


class Ssl(StatesFrontend):
  """The front end: waves to states of wav2vec 2.0, HuBERT or WavLM."""

  def drawn(self, rngs: nnx.Rngs) -> Encoder:
    """An encoder of random values."""
    return Encoder(self.config.built, rngs, **self._options())

  def read(self) -> Encoder:
    """The encoder with the weights that the config names."""
    c = self.config
    return weights_lib.load(c.weights, c.built, **self._options())

  def prepared(
    self, wave_BxT: jax.Array, samples_B: jax.Array | None
  ) -> jax.Array:
    """The waves with pre-emphasis and normalised, as the config says."""
    if self.config.pre_emphasis:
      wave_BxT = stft.pre_emphasise(wave_BxT, self.config.pre_emphasis)
    epsilon = NORMALISATIONS[self.config.normalise_wave]
    if epsilon is None:
      return wave_BxT
    return normalised(wave_BxT, samples_B, epsilon)

  def _options(self):
    c = self.config
    names = ('dtype', 'param_dtype', 'remat', 'split')
    return {name: getattr(c, name) for name in names}


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
