"""Several systems as one: their embeddings side by side, under one head.

Systems that hear different things err on different recordings, and the sum of
their scores errs less often than each. Where heads are linear, the weighted sum
of the outputs of systems is what one linear head makes of all their embeddings
side by side; `bundles.fuse` makes it of trained detectors, each of which is
given here what it was given alone. It can as well be trained like any model.

Letters in names: B batch, T samples, E size of an embedding.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.frontends import WaveConfig
from jaxspoof.system import WAVES, Encoded, FrontendConfig, System, SystemConfig


@dataclasses.dataclass(frozen=True)
class Part:
  """One of the systems.

  Attributes:
    system: front end and encoder; its head, a linear one, is not used.
    samples: it hears so many samples of each clip at most, from its start.
    padded: whether it hears shorter clips as they are, as a model of clips of
      any length can; else they are repeated to `samples`.
  """

  system: SystemConfig
  samples: int
  padded: bool = False

  def __post_init__(self):
    """Raises ValueError for what the system cannot be given."""
    name = self.system.kind.__name__
    if self.padded and not self.system.kind.variable_length:
      raise ValueError(
        f'padded=True: {name} takes clips of one length, expected False'
      )
    if self.samples < self.system.min_samples:
      raise ValueError(
        f'samples={self.samples}: {name} needs at least '
        f'{self.system.min_samples}'
      )


@dataclasses.dataclass(frozen=True)
class FusedConfig:
  """What defines a `Fused`.

  Attributes:
    parts: at least two, each a `Part` or a section with the fields `samples`
      and `padded`, and in place of `system` the sections `model` and `frontend`
      as a run's config has them.
    param_dtype: dtype of the head.
  """

  parts: tuple[Any, ...] = ()
  param_dtype: str = 'float32'

  def __post_init__(self):
    """Makes parts of sections; raises ValueError if they cannot work."""
    made = tuple(_part(i, given) for i, given in enumerate(self.parts))
    # The way to set a field of a frozen dataclass while it is made.
    object.__setattr__(self, 'parts', made)
    if len(made) == 1:
      raise ValueError('config.model.parts: needs at least two systems, got 1')

  @property
  def known(self) -> tuple[Part, ...]:
    """The parts; raises ValueError where none have been named."""
    if not self.parts:
      raise ValueError(
        "model 'fused' needs config.model.parts: at least two systems, such as "
        "{'model': {'name': 'lcnn'}, 'samples': 64600}"
      )
    return self.parts

  @property
  def own_frontend(self) -> WaveConfig:
    """Waves: each part has a front end of its own."""
    return WaveConfig()

  @property
  def min_frames(self) -> int:
    """Samples that every part takes; what repeats clips takes a single one."""
    return max(p.system.min_samples if p.padded else 1 for p in self.known)

  def check_frontend(self, frontend: FrontendConfig) -> None:
    """Takes waves."""


class Fused(System):
  """Waves in, the outputs of a head on the embeddings of all parts out.

  Parts are attributes: `part0`, `part1` and so on.
  """

  takes = WAVES
  variable_length = True

  def build(self, config: FusedConfig, rngs: nnx.Rngs) -> int:
    """Makes the parts, without their heads."""
    size = 0
    for i, part in enumerate(config.known):
      made = part.system.make(rngs)
      size += getattr(made, made.head_name).kernel.shape[0]
      delattr(made, made.head_name)
      setattr(self, f'part{i}', made)
    return size

  def encode(
    self,
    features: jax.Array,
    frames_B: jax.Array | None = None,
    rngs: nnx.Rngs | None = None,
  ) -> Encoded:
    """The embeddings of the parts side by side; arguments are waves."""
    found = []
    for i, part in enumerate(self.config.known):
      system = getattr(self, f'part{i}')
      with jax.named_scope(f'part{i}'):
        given = system.features(*_heard(features, frames_B, part))
        found.append(system.encode(*given, rngs))
    embedding_BxE, seen_BxE = (
      jnp.concatenate([getattr(one, name) for one in found], -1)
      for name in ('embedding', 'seen')
    )
    return Encoded(embedding_BxE, seen_BxE)


def _part(number: int, given: Any) -> Part:
  """A part from its section."""
  if not isinstance(given, Mapping):
    return given
  from jaxspoof import models  # which knows this file

  section = dict(given)
  where = f'config.model.parts[{number}]'
  if missing := {'model', 'samples'} - set(section):
    raise ValueError(f'{where}: expected the field {min(missing)}')
  sections = section.pop('model'), section.pop('frontend', '')
  if extra := set(section) - {'samples', 'padded'}:
    raise ValueError(
      f'{where}: unknown field {min(extra)}; it has model, frontend, samples '
      'and padded'
    )
  try:
    return Part(models.system(*sections), **section)
  except (ValueError, TypeError) as error:
    raise ValueError(f'{where}: {error}') from error


def _heard(
  wave_BxT: jax.Array, samples_B: jax.Array | None, part: Part
) -> tuple[jax.Array, jax.Array | None]:
  """What a part is given of clips: waves, and valid samples if it pads."""
  length = wave_BxT.shape[1]
  if part.padded:
    wave_BxT = wave_BxT[:, : part.samples]
    if samples_B is None:
      return wave_BxT, None
    return wave_BxT, jnp.minimum(samples_B, part.samples)
  # A clip is the same whatever it is padded to: never the batch's length.
  source_1xS = jnp.arange(part.samples, dtype=jnp.int32)[None]
  if samples_B is None:
    return wave_BxT[:, source_1xS[0] % length], None
  return (
    jnp.take_along_axis(
      wave_BxT, source_1xS % samples_B[:, None], 1, mode='clip'
    ),
    None,
  )
