"""Several front ends heard side by side: features concatenated in each frame.

Such as the states of a self-supervised encoder beside cepstra, which hear what
the encoder was trained to pass over.

Letters in names: B batch, T samples, N frames, D features of a part, F of all.
"""

import collections
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from jaxspoof.frontends.ssl import parts as parts_lib


@dataclasses.dataclass(frozen=True)
class JoinedConfig:
  """What defines a `Joined`.

  Frames come at the smallest hop of the parts. A part with a larger one has
  each of its frames repeated, and what one part has more than another at the
  end is cut.

  Attributes:
    parts: at least two front ends: a config each, or a section, from which
      `frontends.resolve` makes it. A mapping of them counts in the order of
      its keys, sorted, and a section without a name has its key for one.
  """

  parts: tuple[Any, ...] = ()

  def __post_init__(self):
    """Makes configs of sections; raises ValueError if they do not fit."""
    given = self.parts
    if isinstance(given, Mapping):
      given = [(key, given[key]) for key in sorted(given)]
    else:
      given = list(enumerate(given))
    made = tuple(_resolved(part, key) for key, part in given)
    # The way to set a field of a frozen dataclass while it is made.
    object.__setattr__(self, 'parts', made)
    if not made:  # 'joined' without parts, as a table has it
      return
    if len(made) < 2:
      raise ValueError(f'parts: needs at least two front ends, got {len(made)}')
    for kind in map(_kind, made):
      if kind in ('joined', 'wave'):
        raise ValueError(f'parts: a front end {kind!r} cannot be one of them')
    if len(rates := {part.sample_rate for part in made}) > 1:
      said = ' and '.join(map(str, sorted(rates)))
      raise ValueError(f'parts: of {said} Hz, needs one sampling rate')
    hops = sorted({part.hop_length for part in made})
    if any(hop % hops[0] for hop in hops):
      said = ' and '.join(map(str, hops))
      raise ValueError(
        f'parts: hops of {said} samples, needs multiples of the smallest'
      )

  @property
  def known(self) -> tuple[Any, ...]:
    """The parts; raises ValueError where none have been named."""
    if not self.parts:
      raise ValueError(
        "front end 'joined' needs config.frontend.parts: at least two front "
        "ends, such as {'lfcc': {}, 'ssl': {'weights': 'PATH'}}"
      )
    return self.parts

  @property
  def named(self) -> dict[str, Any]:
    """The parts by the names that they have in the module."""
    found, count = {}, collections.Counter()
    for part in self.known:
      kind = _kind(part)
      count[kind] += 1
      number = count[kind]
      found[kind if number == 1 else f'{kind}_{number}'] = part
    return found

  @property
  def repeats(self) -> tuple[int, ...]:
    """How many frames one frame of each part becomes."""
    return tuple(part.hop_length // self.hop_length for part in self.known)

  @property
  def sample_rate(self) -> int:
    """Sampling rate of the waves in Hz."""
    return self.known[0].sample_rate

  @property
  def hop_length(self) -> int:
    """Samples from one frame to the next."""
    return min(part.hop_length for part in self.known)

  @property
  def features(self) -> int:
    """Number of features in a frame, of all parts."""
    return sum(part.features for part in self.known)

  @property
  def kept_features(self) -> int:
    """Number of values in a frame of what can be computed once."""
    return sum(map(_kept, self.known))

  def frames(self, samples: int) -> int:
    """Number of frames that a clip of this length gives."""
    return min(
      part.frames(samples) * repeat
      for part, repeat in zip(self.known, self.repeats, strict=True)
    )

  def samples_needed(self, frames: int) -> int:
    """Length in samples of the shortest clip that gives this many frames."""
    return max(
      part.samples_needed(-(-frames // repeat))
      for part, repeat in zip(self.known, self.repeats, strict=True)
    )


class Joined(nnx.Module):
  """The front end: waves to the features of all parts, side by side.

  Parts are attributes with the names of their kinds, such as `ssl`; a second
  one of a kind is `ssl_2`. A clip has the same features in a padded batch as
  alone, if it has with each part.
  """

  def __init__(self, config: JoinedConfig, rngs: nnx.Rngs | None = None):
    """Makes the parts, one after the other.

    Args:
      config: the config.
      rngs: random streams; needed if one of the parts has weights.

    Raises:
      ValueError: weights that cannot be read or used.
    """
    from jaxspoof import frontends  # which knows this file

    self.config = config
    for name, part in config.named.items():
      setattr(self, name, frontends.make(part, rngs=rngs))

  @property
  def parts(self) -> tuple[Any, ...]:
    """The front ends, in their order."""
    return tuple(getattr(self, name) for name in self.config.named)

  def __call__(
    self, wave_BxT: jax.Array, samples_B: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """Computes the features; the contract is `system.Frontend`."""
    return self._joined(
      [part(wave_BxT, samples_B) for part in self.parts], samples_B
    )

  def kept(
    self, wave_BxT: jax.Array, samples_B: jax.Array | None = None
  ) -> tuple[jax.Array, jax.Array]:
    """What can be computed once where all encoders are frozen.

    Returns:
      What each part keeps, or its features, side by side, `[B, N, F]`, F as
      `JoinedConfig.kept_features`; and the valid frames of each clip.
    """
    return self._joined(
      [getattr(part, 'kept', part)(wave_BxT, samples_B) for part in self.parts],
      samples_B,
    )

  def of_kept(self, kept_BxNxF: jax.Array) -> jax.Array:
    """The features, of what `kept` gave."""
    found, first = [], 0
    for part in self.parts:
      last = first + _kept(part.config)
      kept_BxNxD = kept_BxNxF[..., first:last]
      learned = hasattr(part, 'of_kept')
      found.append(part.of_kept(kept_BxNxD) if learned else kept_BxNxD)
      first = last
    return jnp.concatenate(found, -1)

  def merge(self) -> None:
    """Adds what parts have beside kernels to these: for inference."""
    for part in self.parts:
      if hasattr(part, 'merge'):
        part.merge()
    configs = tuple(part.config for part in self.parts)
    self.config = JoinedConfig(configs)

  def _joined(
    self, made: list[tuple[jax.Array, jax.Array]], samples_B: jax.Array | None
  ) -> tuple[jax.Array, jax.Array]:
    """Features and valid frames of each part, to those of all."""
    repeats = self.config.repeats
    rows = [
      jnp.repeat(features_BxNxD, repeat, axis=1)
      for (features_BxNxD, _), repeat in zip(made, repeats, strict=True)
    ]
    frames = min(row.shape[1] for row in rows)
    h_BxNxF = jnp.concatenate([row[:, :frames] for row in rows], -1)
    counts = [n * r for (_, n), r in zip(made, repeats, strict=True)]
    frames_B = jnp.stack(counts).min(0)
    if samples_B is None:
      return h_BxNxF, frames_B
    valid_BxNx1 = parts_lib.valid(frames_B, frames)
    return parts_lib.zeroed(h_BxNxF, valid_BxNx1), frames_B


def _kind(config: Any) -> str:
  from jaxspoof import frontends  # which knows this file

  return frontends.KINDS[type(config)]


def _kept(config: Any) -> int:
  """Values in a frame of what can be computed once with a part."""
  return getattr(config, 'kept_features', config.features)


def _resolved(part: Any, key: str | int) -> Any:
  """The config of a part; the key says which one it is."""
  from jaxspoof import frontends  # which knows this file

  where = f'parts.{key}' if isinstance(key, str) else f'parts[{key}]'
  if type(part) in frontends.KINDS:
    return part
  if not isinstance(part, Mapping | str):
    raise ValueError(f'{where}={part!r}: needs a front end or its section')
  section = frontends.said(part)
  if isinstance(key, str):
    section = {'name': key, **section}
  if not section.get('name'):
    raise ValueError(f'{where}: needs the name of a front end')
  try:
    return frontends.resolve(section, frontends.WaveConfig())
  except ValueError as error:
    said = str(error).removeprefix('config.').removeprefix('frontend: ')
    said = said.removeprefix('frontend.')
    raise ValueError(f'{where}: {said}') from error
