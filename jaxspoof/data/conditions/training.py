"""Conditions as augmentation: one of several, drawn for each clip and epoch."""

import dataclasses
import functools

import numpy as np

from jaxspoof.data import conditions

USUAL = (
  'clean',
  'noise:5..20',
  'babble:5..20',
  'room',
  'codec:alaw',
  'codec:mp3:32k',
  'codec:opus:16k',
)


@dataclasses.dataclass(frozen=True)
class ConditionsConfig:
  """Which conditions training clips are put under.

  Attributes:
    names: as `conditions.make` reads them; one of them is drawn for each clip,
      each time it is seen. A name that stands twice is drawn twice as often.
      None at all stands for `USUAL`.
    noise_dir: folder of own recordings of noise, music and speech; '' for
      synthetic ones.
    room_dir: folder of recorded room impulse responses, likewise.
  """

  names: tuple[str, ...] = ()
  noise_dir: str = ''
  room_dir: str = ''

  def __post_init__(self):
    # The rest is checked where clips are to be augmented: whoever scores with
    # the run later needs neither the recordings nor the codecs.
    if not all(isinstance(n, str) for n in self.names):
      raise ValueError(
        f'data.conditions.names={self.names!r}: expected names of conditions, '
        "such as ('clean', 'noise:5..20', 'codec:mp3:32k')"
      )


@functools.cache
def made(config: ConditionsConfig) -> tuple[conditions.Condition, ...]:
  """The conditions that a config names.

  Raises:
    ValueError: one that means nothing, or whose recordings or library are not
      on this machine.
  """
  folders = config.noise_dir, config.room_dir
  try:
    found = tuple(
      conditions.make(name, 0, *folders) for name in config.names or USUAL
    )
  except ValueError as error:
    raise ValueError(f'data.conditions.names: {error}') from error
  for condition in found:
    if condition.only is not None:
      raise ValueError(
        f'data.conditions.names: {condition.name!r}: expected a condition for '
        'clips of both classes, or it would tell them apart'
      )
  return found


def random_condition(
  wave: np.ndarray, rng: np.random.Generator, config: ConditionsConfig
) -> np.ndarray:
  """Puts a clip under one of the conditions of a config.

  Args:
    wave: float32 [n] at 16 kHz, n >= 1.
    rng: source of all chance.
    config: which conditions.

  Returns:
    float32 [m].
  """
  known = made(config)
  condition = known[rng.integers(len(known))]
  return condition.apply(wave, rng.integers(2**32, size=4).tolist())
