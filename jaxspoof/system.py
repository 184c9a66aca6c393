"""A system: front end, encoder and head, from a wave to outputs for the loss.

This is the contract that training, evaluation, detection, embedding, costs and
importers keep to; none of them knows a model by name.

  front end   waves to a sequence of features; see `Frontend`
  encoder     the sequence to an embedding; what a subclass of `System` adds
  head        the embedding to outputs; follows from the loss, see `heads`

A new model is a subclass that defines `build` and `encode`, with a config that
keeps to `EncoderConfig`, and one line in `models.MODELS`.

Letters in names: B batch, T samples, W frames, D features, E size of the
embedding, K outputs.
"""

import dataclasses
import functools
import math
import types
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof import arithmetic, frontends
from jaxspoof.blocks import layers
from jaxspoof.blocks.heads import Head
from jaxspoof.frontends import WaveConfig

FEATURES, WAVES = 'features', 'waves'


class FrontendConfig(Protocol):
  """What is known of a front end before it is made.

  Attributes:
    sample_rate: sampling rate of the waves that it takes, in Hz.
    hop_length: samples from one frame to the next.
    features: D, the number of features in a frame; 'wave' has no such field.
  """

  sample_rate: int
  hop_length: int
  features: int

  def frames(self, samples: int) -> int:
    """Number of frames that a clip of this length gives."""

  def samples_needed(self, frames: int) -> int:
    """Length in samples of the shortest clip that gives this many frames."""


class Frontend(Protocol):
  """Waves to a sequence of features.

  One without trained values is a plain object, equal to another of the same
  config; one with trained values is an `nnx.Module`.
  """

  config: FrontendConfig

  def __call__(
    self, wave_BxT: jax.Array, samples_B: jax.Array | None
  ) -> tuple[jax.Array, jax.Array]:
    """Computes features.

    Args:
      wave_BxT: waves in [-1, 1), float32 or wider.
      samples_B: int32, valid samples of each padded clip; None: all.

    Returns:
      Features `[B, W, D]`, and int32 `[B]`: the valid frames of each clip.
    """


class EncoderConfig(Protocol):
  """What is known of an encoder before it is made: frozen, with defaults.

  Attributes:
    own_frontend: config of the front end that is used unless a run asks for
      another one.
    min_frames: length of the shortest sequence that the encoder takes, in
      frames; for a model of waves, in samples.
    param_dtype: dtype of parameters and running statistics.
  """

  own_frontend: FrontendConfig
  min_frames: int
  param_dtype: str

  def check_frontend(self, frontend: FrontendConfig) -> None:
    """Raises ValueError for a front end whose features it cannot take."""


class Encoded(NamedTuple):
  """What an encoder makes of a batch.

  Attributes:
    embedding: the embeddings, `[B, E]`.
    seen: the input of the head: in training the embedding after dropout, else
      the embedding itself.
    tap: the input of an auxiliary head, in training; None if there is none.
  """

  embedding: jax.Array
  seen: jax.Array
  tap: jax.Array | None = None


class Answer(NamedTuple):
  """What a system says of a batch.

  Attributes:
    embedding: the embeddings before the head, `[B, E]`.
    outputs: outputs of the head, which the loss takes, `[B, K]`; float32, or
      float64 if the parameters are.
    auxiliary: outputs of an auxiliary head, `[B, K]`, in training; None if
      there is none. Their loss counts with `System.auxiliary_weight`.
  """

  embedding: jax.Array
  outputs: jax.Array
  auxiliary: jax.Array | None


class MomentAnswer(NamedTuple):
  """What a system that localises says of a batch.

  Attributes:
    embedding: the embeddings of clips, `[B, E]`, as `Answer` has them.
    outputs: outputs of the head for clips, `[B, K]`.
    moments: outputs of the head for each 20 ms (`audio.MOMENT` samples) from
      the beginning, `[B, N, K]`.
    count: int32 `[B]`, how many of them are of the clip and not of what it is
      padded with; None: all. What is left of a clip after the last is shorter
      than a moment.
  """

  embedding: jax.Array
  outputs: jax.Array
  moments: jax.Array
  count: jax.Array | None


class Kept(NamedTuple):
  """What `System.kept` makes of a clip, before it is made.

  Attributes:
    frames: number of its frames.
    features: number of values in a frame.
    dtype: in which they are kept.
    of: what else they depend on than front end and clip.
  """

  frames: int
  features: int
  dtype: str = 'bfloat16'
  of: Mapping[str, Any] = types.MappingProxyType({})


class Attention(NamedTuple):
  """Which nodes of time and of frequency a system's graphs keep.

  Attributes:
    times: score of each node of time, above 0 to 1, `[B, W]`; 0 of those that
      pooling leaves out.
    bands: likewise of each node of frequency, `[B, H]`.
    samples: int32, how many of a wave a node of time stands for.
    edges: `[H + 1]`, in Hz: node i of frequency lies between edges i and i + 1.
  """

  times: jax.Array
  bands: jax.Array
  samples: jax.Array
  edges: jax.Array


class System(nnx.Module):
  """Waves in, outputs for the loss out.

  A new module is in training mode: dropout, batch statistics. For evaluation
  take `nnx.view(model, deterministic=True, use_running_average=True)`.

  A subclass defines `build`, which makes its layers, and `encode`, which calls
  them. Front end and head are made here.

  Attributes:
    takes: what `encode` is given: 'features', which a front end has made, or
      'waves', if the model has layers of its own in place of a front end.
    variable_length: whether the clips of a batch may be padded. If so, a clip
      must get the same outputs in any batch as alone.
    head_name: name of the attribute that holds the head. It becomes part of the
      names of weights in files, and older models have other names there.
    counts_features: whether the arithmetic of a front end without trained
      values is counted as part of the model.
    localises: whether it also says of each 20 ms of a clip what it is. If so,
      it defines `sequence` and `pool`, and its `encode` is the one after the
      other.
    config: the config of the encoder, an `EncoderConfig`.
    frontend: a `Frontend`; a model of waves may have a layer of this name.
  """

  takes: ClassVar[str] = FEATURES
  variable_length: ClassVar[bool] = False
  head_name: ClassVar[str] = 'head'
  counts_features: ClassVar[bool] = True
  localises: ClassVar[bool] = False

  def __init__(
    self,
    config: Any,
    rngs: nnx.Rngs,
    *,
    frontend: FrontendConfig | None = None,
    head: Head = Head(),  # noqa: B008 (frozen)
  ):
    """Makes front end, encoder and head, and draws their parameters.

    Args:
      config: config of the encoder.
      rngs: random streams; weights are drawn from `params`.
      frontend: config of the front end; None takes the encoder's own.
      head: kind of the last layer, and how many classes it knows.

    Raises:
      ValueError: the two do not go together.
    """
    frontend = config.own_frontend if frontend is None else frontend
    check_pair(type(self), config, frontend)
    self.config, self.deterministic = config, False
    self.min_samples = frontend.samples_needed(config.min_frames)
    if self.takes == FEATURES:
      self.frontend = frontends.make(frontend, rngs=rngs)
    options = dict(param_dtype=config.param_dtype, rngs=rngs)
    # The head last: in this order weights have always been drawn.
    made = head.make(self.build(config, rngs), **options)
    setattr(self, self.head_name, made)

  def set_view(
    self,
    deterministic: bool | None = None,
    use_running_average: bool | None = None,
    momentum: float | None = None,
  ):
    """Sets the mode, for `nnx.view`, also if no layer has modes.

    Args:
      deterministic: if True, nothing random is done.
      use_running_average: left to the layers that normalise.
      momentum: likewise.
    """
    del use_running_average, momentum
    if deterministic is not None:
      self.deterministic = deterministic

  @property
  def auxiliary_weight(self) -> float:
    """Weight of the loss of an auxiliary head."""
    return 0.0

  def __call__(
    self,
    wave_BxT: jax.Array,
    samples: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
    **options,
  ) -> jax.Array:
    """Scores waves.

    Args:
      wave_BxT: floating-point waves in [-1, 1) at the front end's rate.
      samples: int32 `[B]`, valid samples of each padded clip, at least
        `min_samples`; None: all. For models of `variable_length`.
      rngs: streams `dropout` and `mask`, for as far as the config has them;
        needed in training mode only.
      **options: of the model's `encode`.

    Returns:
      Outputs of the head, `[B, K]`: see `Answer`.

    Raises:
      ValueError: waves that are not `[B, T]`, not floating point or too short,
        or padded ones for a model that takes none.
    """
    return self.answer(wave_BxT, samples, rngs, **options).outputs

  def embed(
    self,
    wave_BxT: jax.Array,
    samples: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
    **options,
  ) -> jax.Array:
    """The embedding before the head, `[B, E]`; arguments as in a call."""
    features, frames_B = self.features(wave_BxT, samples)
    return self.encode(features, frames_B, rngs, **options).embedding

  def answer(
    self,
    wave_BxT: jax.Array,
    samples: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
    *,
    kept: tuple[jax.Array, jax.Array | None] | None = None,
    **options,
  ) -> Answer:
    """Computes embedding and outputs, with the arguments of a call.

    Args:
      wave_BxT: see `__call__`.
      samples: likewise.
      rngs: likewise.
      kept: what `kept` made of waves before, which takes their place,
        `[B, W, F]`, and the valid frames of each clip, or None.
      **options: of the model's `encode`.
    """
    if kept is None:
      features, frames_B = self.features(wave_BxT, samples)
    else:
      features, frames_B = self.of_kept(*kept)
    encoded = self.encode(features, frames_B, rngs, **options)
    # Scopes are the stages that `arithmetic.count` reports on.
    with jax.named_scope('head'):
      outputs_BxK = getattr(self, self.head_name)(encoded.seen)
      auxiliary_BxK = None
      if encoded.tap is not None:
        auxiliary_BxK = self.auxiliary(encoded.tap)
    return Answer(encoded.embedding, outputs_BxK, auxiliary_BxK)

  def attention(
    self, wave_BxT: jax.Array, samples: jax.Array | None = None
  ) -> Attention | None:
    """What its graphs keep of clips; None of systems without such graphs.

    Args:
      wave_BxT: see `__call__`.
      samples: likewise.
    """
    return None

  def answer_moments(
    self,
    wave_BxT: jax.Array,
    samples: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> MomentAnswer:
    """Says of clips and of each of their moments what they are.

    Args:
      wave_BxT: see `__call__`, as for the others.
      samples: likewise.
      rngs: likewise.

    Raises:
      NotImplementedError: a model that does not localise.
    """
    features, frames_B = self.features(wave_BxT, samples)
    sequence_BxNxE, count_B = self.sequence(features, frames_B, rngs)
    moments_BxNxK = self.head_of_each(sequence_BxNxE)
    embedding_BxE = self.pool(sequence_BxNxE, moments_BxNxK, count_B)
    outputs_BxK = getattr(self, self.head_name)(embedding_BxE)
    return MomentAnswer(embedding_BxE, outputs_BxK, moments_BxNxK, count_B)

  def head_of_each(self, sequence_BxNxE: jax.Array) -> jax.Array:
    """Outputs of the head for each moment, `[B, N, K]`."""
    batch, count, size = sequence_BxNxE.shape
    with jax.named_scope('head'):
      each = sequence_BxNxE.reshape(batch * count, size)
      outputs = getattr(self, self.head_name)(each)
    return outputs.reshape(batch, count, -1)

  def sequence(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> tuple[jax.Array, jax.Array | None]:
    """What the head is given of each moment; a model that localises has it.

    Args:
      features: as for `encode`, and so are the others.
      frames_B: valid frames.
      rngs: random streams.

    Returns:
      `[B, N, E]`, of moments of `audio.MOMENT` samples from the beginning on;
      and int32 `[B]`, how many are valid, or None: all.
    """
    raise NotImplementedError(
      f'{type(self).__name__} does not localise: it has no outputs over time'
    )

  def pool(
    self,
    sequence_BxNxE: jax.Array,
    outputs_BxNxK: jax.Array,
    count_B: jax.Array | None = None,
  ) -> jax.Array:
    """The embedding of clips from `sequence` and what the head makes of it.

    Args:
      sequence_BxNxE: of each moment.
      outputs_BxNxK: of the head, for each moment.
      count_B: valid moments of each clip; None: all.

    Returns:
      `[B, E]`.
    """
    raise NotImplementedError(
      f'{type(self).__name__} does not localise: it has no outputs over time'
    )

  def features(
    self, wave_BxT: jax.Array, samples: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array | None]:
    """The input of the encoder.

    Returns:
      Features, and the number of valid frames of each clip, or None if all
      frames are valid. For a model of waves: the waves, and valid samples.
    """
    self._check(wave_BxT, samples)
    # Energies and their logarithms are too fine for bfloat16.
    wave_BxT = wave_BxT.astype(layers.wide(wave_BxT.dtype))
    if self.takes == WAVES:
      return wave_BxT, samples
    with jax.named_scope('frontend'):
      features, frames_B = self.frontend(wave_BxT, samples)
    return features, None if samples is None else frames_B

  @classmethod
  def keeps(cls, config: Any, frontend: FrontendConfig, samples: int) -> Kept:
    """What `kept` makes of a clip.

    Args:
      config: config of the encoder.
      frontend: config of the front end, which has an encoder of its own.
      samples: length of the clip.
    """
    del config
    return Kept(frontend.frames(samples), frontend.kept_features)

  def kept(
    self, wave_BxT: jax.Array, samples: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """What is the same in every step if the front end's encoders are frozen.

    Returns:
      `[B, W, F]`, W and F as `keeps` says, and int32 `[B]`: the valid frames.
    """
    return self.frontend.kept(wave_BxT, samples)

  def of_kept(
    self, kept_BxWxF: jax.Array, frames_B: jax.Array | None
  ) -> tuple[jax.Array, jax.Array | None]:
    """The input of the encoder, of what `kept` made before."""
    with jax.named_scope('frontend'):
      kept_BxWxF = kept_BxWxF.astype(layers.wide(kept_BxWxF.dtype))
      return self.frontend.of_kept(kept_BxWxF), frames_B

  def build(self, config: Any, rngs: nnx.Rngs) -> int:
    """Makes the layers of the encoder, which each model defines.

    Args:
      config: config of the encoder.
      rngs: random streams; weights are drawn from `params`.

    Returns:
      E, the size of the embedding; the head is made for it.
    """
    raise NotImplementedError(f'{type(self).__name__} does not define build')

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Encoded:
    """The encoder at work, which each model defines.

    Args:
      features: `[B, W, D]`, float32 or wider; of a model of waves `[B, T]`.
      frames_B: int32, valid frames (samples) of each clip; None: all.
      rngs: random streams, as for `__call__`.
    """
    raise NotImplementedError(f'{type(self).__name__} does not define encode')

  def _check(self, wave_BxT: jax.Array, samples: jax.Array | None):
    if wave_BxT.ndim != 2 or not jnp.issubdtype(wave_BxT.dtype, jnp.floating):
      raise ValueError(
        'expected floating-point waves [batch, samples], got '
        f'{wave_BxT.dtype}{list(wave_BxT.shape)}'
      )
    if wave_BxT.shape[1] < self.min_samples:
      raise ValueError(
        f'waves of {wave_BxT.shape[1]} samples are too short: this model needs '
        f'at least {self.min_samples} (repeat shorter clips)'
      )
    if samples is not None and not self.variable_length:
      raise ValueError(
        'this model scores clips of one length: samples must be None (crop or '
        'repeat clips, do not pad them)'
      )


def check_pair(
  kind: type[System], config: Any, frontend: FrontendConfig
) -> None:
  """Raises ValueError unless an encoder takes what a front end makes.

  Args:
    kind: class of the model.
    config: config of the model.
    frontend: config of the front end.
  """
  own = frontends.KINDS[type(config.own_frontend)]
  name = frontends.KINDS[type(frontend)]
  if (kind.takes == WAVES) != isinstance(frontend, WaveConfig):
    wanted = (
      "takes waves, expected 'wave'"
      if kind.takes == WAVES
      else f'takes a sequence of features, expected one such as {own!r}'
    )
    raise ValueError(f'front end {name!r}: {kind.__name__} {wanted}')
  if frontend.sample_rate != config.own_frontend.sample_rate:
    raise ValueError(
      f'front end of {frontend.sample_rate} Hz: {kind.__name__} takes '
      f'{config.own_frontend.sample_rate} Hz'
    )
  config.check_frontend(frontend)


@dataclasses.dataclass(frozen=True)
class SystemConfig:
  """What defines a system.

  Attributes:
    kind: class of the model, a subclass of `System`.
    model: config of the model.
    frontend: config of the front end; None takes the model's own.
    head: kind of the last layer, and how many classes it knows.
  """

  kind: type[System]
  model: Any
  frontend: Any = None
  head: Head = Head()

  def __post_init__(self):
    """Raises ValueError if front end and encoder do not go together."""
    if self.frontend is None:
      # The way to set a field of a frozen dataclass while it is made.
      object.__setattr__(self, 'frontend', self.model.own_frontend)
    check_pair(self.kind, self.model, self.frontend)

  @property
  def min_samples(self) -> int:
    """Length in samples of the shortest clip that can be scored."""
    return self.frontend.samples_needed(self.model.min_frames)

  def make(self, rngs: nnx.Rngs) -> System:
    """The module; draws its weights from the stream `params`."""
    return self.kind(self.model, rngs, frontend=self.frontend, head=self.head)

  def abstract(self) -> System:
    """The module with arrays that have shapes but no values."""
    return nnx.clone(_abstract(self))

  def keeps(self, samples: int) -> Kept:
    """What `System.kept` makes of a clip of so many samples."""
    return self.kind.keeps(self.model, self.frontend, samples)

  def parameters(self) -> int:
    """Number of trained values."""
    return parameters(self.abstract())

  def macs(self, samples: int) -> dict[str, int]:
    """Counts the multiply-accumulates (MACs) of scoring one clip.

    Args:
      samples: length of the clip.

    Returns:
      MACs by stage of the system, such as 'frontend' and 'head', and their sum,
      'total'.

    Raises:
      ValueError: the clip is too short for the model.
    """
    model = nnx.view(
      self.abstract(), deterministic=True, use_running_average=True
    )
    graphdef, arrays = nnx.split(model)
    stages = arithmetic.count(
      lambda arrays, wave: nnx.merge(graphdef, arrays)(wave),
      arrays,
      jax.ShapeDtypeStruct((1, samples), jnp.float32),
    )
    spectral = isinstance(self.frontend, frontends.SpectralConfig)
    if spectral and not model.counts_features:
      stages['frontend'] = 0
    return {**stages, 'total': sum(stages.values())}


@functools.cache  # to trace a module takes up to a second
def _abstract(system: SystemConfig) -> System:
  return nnx.eval_shape(lambda: system.make(nnx.Rngs(0)))


def parameters(model: nnx.Module) -> int:
  """Number of trained values of a model, which may be abstract."""
  arrays = jax.tree.leaves(nnx.to_pure_dict(nnx.state(model, nnx.Param)))
  return sum(math.prod(array.shape) for array in arrays)
