"""What front ends have in common whose features are states of an encoder.

Letters in names: B batch, T samples, N frames, D width, S states.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.frontends.ssl import parts
from jaxspoof.frontends.ssl.lora import Lora, LoraConfig

OUTPUTS = ('last', 'layer', 'mix', 'all')
RANDOM = 'random:'


class States(NamedTuple):
  """What an encoder makes of a batch.

  Attributes:
    last: output of the last layer, `[B, N, D]`, behind the final norm if the
      encoder has one.
    hidden: input of the first layer and output of each layer, before the final
      norm, `[L + 1, B, N, D]`; None unless it was asked for.
    frames: int32 `[B]`, number of valid frames of each clip; None if all are.
  """

  last: jax.Array
  hidden: jax.Array | None
  frames: jax.Array | None


@dataclasses.dataclass(frozen=True)
class StatesConfig:
  """What defines a front end whose features are states of an encoder.

  A subclass names its architectures, and says what else its weights tell.

  Attributes:
    weights: a file or directory of weights, see `tensors.files`, or
      'random:NAME' for values drawn for one of the architectures with a name.
    output: what the features are: 'last', what the last layer makes, behind
      the final norm; 'layer', the state number `layer`; 'mix', a sum of all
      states whose weights are learned (a softmax, equal at first); 'all', all
      states side by side, `(layers + 1) * width` features.
    layer: which state is taken with output='layer': 0 is the input of the first
      layer, n the output of the n-th. Layers after it are not computed.
    only: numbers, from the lowest, of the states that output='all' puts side
      by side; layers after the last of them are not computed. (): all states.
    last_norm: whether the state of the last layer is taken behind the final
      norm of models that have one, as s3prl and transformers 4 do;
      transformers 5 takes it before.
    dtype: dtype of products, 'float32' or 'bfloat16'.
    param_dtype: dtype of the weights; frozen ones need half the memory in
      'bfloat16'.
    remat: whether the inside of layers is computed again for the gradient,
      which saves memory and costs a third more time.
    sample_rate: sampling rate of the waves in Hz; all published encoders take
      16,000.
    architecture: the encoder, an architecture or a mapping of its fields; None
      takes what the weights say.
    split: how many layers are called `encoder/layers`; the others are called
      `encoder/upper`, so that `optim.groups` can tell them apart. None: all
      are `encoder/layers`.
    lora: thin matrices `lora/.*` that are trained in place of kernels of the
      encoder, a `LoraConfig` or a mapping of its fields; None for none.
  """

  weights: str = ''
  output: str = 'last'
  layer: int = 0
  only: tuple[int, ...] = ()
  last_norm: bool = True
  dtype: str = 'float32'
  param_dtype: str = 'float32'
  remat: bool = False
  sample_rate: int = 16_000
  architecture: Any = None
  split: int | None = None
  lora: Any = None

  kind: ClassVar[type]  # of the architecture
  named: ClassVar[Mapping[str, Any]]  # architectures for random weights
  wanted: ClassVar[str]  # what a front end without weights lacks

  def __post_init__(self):
    """Asks the weights for what is not given; raises ValueError if invalid."""
    if isinstance(self.architecture, Mapping):
      self._set(architecture=self.kind(**self.architecture))
    if isinstance(self.lora, Mapping):
      self._set(lora=LoraConfig(**self.lora))
    if self.weights and not self._settled():
      self._ask_weights()
    self._set(only=tuple(self.only))  # a run's JSON has lists
    self._need('output', self.output in OUTPUTS, f'one of {OUTPUTS}')
    goes = not self.only or self.output == 'all'
    self._need('only', goes, "output='all', or ()")
    for name in ('dtype', 'param_dtype'):
      known = ('float32', 'bfloat16', 'float64')
      self._need(name, getattr(self, name) in known, f'one of {known}')
    if self.architecture is not None:
      last = self.architecture.layers
      self._need('layer', 0 <= self.layer <= last, f'0 to {last}')
      rising = list(self.only) == sorted(set(self.only))
      inside = all(0 <= number <= last for number in self.only)
      self._need('only', rising and inside, f'rising numbers from 0 to {last}')
      last = self.built.layers
      fits = self.split is None or 0 < self.split < last
      self._need('split', fits, f'1 to {last - 1}, less than all layers')

  def _need(self, name: str, fulfilled: bool, wanted: str):
    if not fulfilled:
      raise ValueError(f'{name}={getattr(self, name)!r}: needs {wanted}')

  def _set(self, **fields):
    for name, value in fields.items():
      # The way to set a field of a frozen dataclass while it is made.
      object.__setattr__(self, name, value)

  def _settled(self) -> bool:
    """Whether nothing is left that the weights would have to say."""
    return self.architecture is not None

  def _ask_weights(self):
    """Sets the fields that the weights say."""
    raise NotImplementedError

  def _random(self):
    """The architecture that 'random:NAME' names."""
    name = self.weights.removeprefix(RANDOM)
    known = f'{RANDOM} and one of {", ".join(self.named)}'
    self._need('weights', name in self.named, known)
    return self.named[name]

  @property
  def is_random(self) -> bool:
    """Whether the encoder's values are drawn and not read."""
    return self.weights.startswith(RANDOM)

  @property
  def known(self):
    """The architecture; raises ValueError where no weights have been named."""
    if self.architecture is None:
      raise ValueError(self.wanted)
    return self.architecture

  @property
  def built(self):
    """The architecture without the layers that are not computed."""
    last = (
      self.layer if self.output == 'layer' else max(self.only, default=None)
    )
    if last is None:
      return self.known
    return dataclasses.replace(self.known, layers=max(last, 1))

  @property
  def states(self) -> int:
    """How many states lie side by side in a frame."""
    if self.output != 'all':
      return 1
    return len(self.only) or self.known.layers + 1

  @property
  def features(self) -> int:
    """Number of features in a frame."""
    return self.known.width * self.states

  @property
  def kept_features(self) -> int:
    """Number of values in a frame of what can be computed once."""
    states = self.known.layers + 1 if self.output == 'mix' else self.states
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


class StatesFrontend(nnx.Module):
  """The front end: waves to states of an encoder.

  Its weights are trained like all others, unless `optim.groups` freezes them:
  `('frontend/encoder/.*', {'frozen': True})`, which leaves those of `lora`. A
  clip has the same features in a padded batch as alone.
  """

  def __init__(self, config: StatesConfig, rngs: nnx.Rngs):
    """Reads the weights, or draws them.

    Args:
      config: the config, whose field `weights` is set.
      rngs: random streams; drawn weights come from `params`.

    Raises:
      CheckpointError (a ValueError): weights that cannot be read or used.
    """
    self.config = config
    # Where only shapes are wanted there is nothing to read.
    abstract = isinstance(rngs.params(), jax.core.Tracer)
    if config.is_random or abstract:
      self.encoder = self.drawn(rngs)
    else:
      self.encoder = self.read()
    if config.output == 'mix':
      zeros = jnp.zeros((config.known.layers + 1,), jnp.float32)
      self.mix = nnx.Param(zeros)
    if config.lora is not None:
      self.lora = Lora(config.lora, config.built, rngs)

  def drawn(self, rngs: nnx.Rngs) -> nnx.Module:
    """An encoder of random values."""
    raise NotImplementedError

  def read(self) -> nnx.Module:
    """The encoder with the weights that the config names."""
    raise NotImplementedError

  def prepared(
    self, wave_BxT: jax.Array, samples_B: jax.Array | None
  ) -> jax.Array:
    """What the encoder is given of waves: here the waves themselves."""
    del samples_B
    return wave_BxT

  def __call__(
    self, wave_BxT: jax.Array, samples_B: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Computes the features; the contract is `system.Frontend`."""
    return self._features(wave_BxT, samples_B, self.config.output)

  def kept(
    self, wave_BxT: jax.Array, samples_B: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """What can be computed once where the encoder is frozen.

    Returns:
      The features before anything trained is done to them, `[B, N, F]`, F as
      `StatesConfig.kept_features`; and the valid frames of each clip.
    """
    output = self.config.output
    output = 'all' if output == 'mix' else output
    return self._features(wave_BxT, samples_B, output)

  def of_kept(self, kept_BxNxF: jax.Array) -> jax.Array:
    """The features, of what `kept` gave."""
    if self.config.output != 'mix':
      return kept_BxNxF
    batch, frames, _ = kept_BxNxF.shape
    shares_S = jax.nn.softmax(self.mix[...]).astype(kept_BxNxF.dtype)
    h_BxNxSxD = kept_BxNxF.reshape(batch, frames, len(shares_S), -1)
    return jnp.einsum('s,bnsd->bnd', shares_S, h_BxNxSxD)

  def merge(self) -> None:
    """Adds what `lora` adds to the kernels themselves: for inference."""
    if self.config.lora is None:
      return
    first = 0
    for name in self.encoder.stacks:
      stack = getattr(self.encoder, name)
      last = first + len(stack.query.bias)
      for target, pair in self.lora.weights().items():
        kernel = getattr(stack, target).kernel
        a, b = (pair[f'lora_{k}'][first:last] for k in 'ab')
        added = jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
        kernel.set_value((kernel[...] + added).astype(kernel.dtype))
      first = last
    self.config = dataclasses.replace(self.config, lora=None)
    del self.lora

  def _features(self, wave_BxT, samples_B, output: str):
    wave_BxT = self.prepared(wave_BxT, samples_B)
    lora = None if self.config.lora is None else self.lora.weights()
    states = self.encoder(
      wave_BxT, samples_B, hidden=output != 'last', lora=lora
    )
    features = self._chosen(states, output)
    frames_B = states.frames
    if frames_B is None:
      batch, frames, _ = features.shape
      return features, jnp.full((batch,), frames, jnp.int32)
    valid_BxNx1 = parts.valid(frames_B, features.shape[1])
    return parts.zeroed(features, valid_BxNx1), frames_B

  def _chosen(self, states: States, output: str) -> jax.Array:
    """The features that an output, one of `OUTPUTS`, makes of the states."""
    c = self.config
    if output == 'last':
      return states.last
    hidden = states.hidden
    whole = len(hidden) == c.known.layers + 1
    if c.last_norm and c.known.pre_norm and whole:
      hidden = jnp.concatenate([hidden[:-1], states.last[None]])
    if output == 'layer':
      return hidden[c.layer]
    if output == 'mix':
      shares_S = jax.nn.softmax(self.mix[...]).astype(hidden.dtype)
      return jnp.einsum('s,sbnd->bnd', shares_S, hidden)
    if c.only and output == 'all':
      hidden = hidden[jnp.array(c.only)]
    states_, batch, frames, width = hidden.shape
    return jnp.moveaxis(hidden, 0, 2).reshape(batch, frames, states_ * width)
