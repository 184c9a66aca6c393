"""Conditions: what is done to recordings before a detector hears them.

They serve to test, and as augmentation in training. Each kind has a file here
and a line in `CONDITIONS`. One more is a function `(wave, value, rng) -> wave`:
it gets the whole clip (float32 [n] at 16 kHz, n > 0), before it is cut or
repeated to the length that is scored, and the value that its reader made of
what is spelt after the colon. Functions are numpy, scipy and the like, because
worker processes call them, and all chance comes from `rng`.
"""

import dataclasses
import functools
import hashlib
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxspoof.data.conditions import (
  babble,
  bands,
  clipping,
  codecs,
  denoise,
  enhance,
  gain,
  music,
  noise,
  rooms,
  sounds,
  timing,
  values,
)

CLEAN = 'clean'
# What a condition may begin with: the clips that it is for, by their label.
ONLY = {'spoof': 0, 'bonafide': 1}


class Kind(NamedTuple):
  """A kind of condition.

  Attributes:
    apply: `(wave, value, rng) -> wave`, float32 [m] of [n]; with `sound` it
      takes a fourth argument, the files of own recordings, which are none where
      it has to make the sound itself.
    read: makes the value of a text; see `values`.
    example: how it is spelt.
    sound: what it is made of: 'noise', 'music', 'speech' or 'room'.
    samples: how many samples come out of so many, at most; None for as many.
  """

  apply: Callable[..., np.ndarray]
  read: Callable[[str], Any]
  example: str
  sound: str | None = None
  samples: Callable[[int, Any], int] | None = None


def _at_most_as_long(samples: int, value: None) -> int:
  del value
  return samples


_SNR = values.decibels
CONDITIONS = {
  'noise': Kind(noise.noise, _SNR, 'noise:10', sounds.NOISE),
  'white': Kind(noise.white, _SNR, 'white:10'),
  'pink': Kind(noise.pink, _SNR, 'pink:10'),
  'brown': Kind(noise.brown, _SNR, 'brown:10'),
  'music': Kind(music.music, _SNR, 'music:0', sounds.MUSIC),
  'babble': Kind(babble.babble, _SNR, 'babble:5', sounds.SPEECH),
  'room': Kind(rooms.room, rooms.read, 'room:0.6', sounds.ROOM),
  'codec': Kind(codecs.codec, codecs.read, 'codec:mp3:32k'),
  'band': Kind(bands.band, bands.read_band, 'band:300-3400'),
  'resample': Kind(
    bands.resample, values.number(1_000, 16_000, 'Hz'), 'resample:8000'
  ),
  'clip': Kind(clipping.clip, values.number(0.001, 1), 'clip:0.3'),
  'trim': Kind(timing.trim, values.nothing, 'trim', samples=_at_most_as_long),
  'lead': Kind(
    timing.lead,
    values.number(0.01, 3_600, 's'),
    'lead:2',
    samples=timing.lead_samples,
  ),
  'speed': Kind(
    timing.speed,
    values.number(0.5, 2),
    'speed:1.1',
    samples=timing.speed_samples,
  ),
  'gain': Kind(gain.gain, values.decibels, 'gain:-20'),
  'denoise': Kind(denoise.denoise, values.nothing, 'denoise'),
  'enhance': Kind(enhance.enhance, enhance.read, 'enhance:WORKDIR'),
}


class Step(NamedTuple):
  """One of the things that a condition does.

  Attributes:
    kind: key of `CONDITIONS`.
    value: as its reader made it; a range is drawn from for each utterance.
    files: own recordings that it is made of.
    number: how many steps of the same kind came before it.
  """

  kind: str
  value: Any
  files: tuple[str, ...] = ()
  number: int = 0


@dataclasses.dataclass(frozen=True)
class Condition:
  """A condition with its value; may be pickled.

  Attributes:
    name: as it was spelt, such as 'noise:10'.
    steps: what is done, in order; nothing for 'clean'.
    seed: seed of everything that is drawn at random.
    only: label of the clips that it is done to, 0 spoof or 1 bona fide; the
      others stay as they are. None: all.
  """

  name: str
  steps: tuple[Step, ...]
  seed: int = 0
  only: int | None = None

  def __call__(
    self, wave: np.ndarray, utterance: str, label: int | None = None
  ) -> np.ndarray:
    """The wave of an utterance under this condition: float32 [m] of [n].

    What is drawn depends on the seed and on the name of the utterance alone:
    batch, order, split and worker processes change nothing. Conditions that
    differ in their values draw the same, so that they differ in these alone,
    and a step draws the same whatever comes before it.
    """
    if self.only is not None and label is None:
      raise ValueError(
        f'condition {self.name!r} needs the label of utterance {utterance!r}'
      )
    if self.only not in (None, label):
      return wave
    digest = hashlib.sha256(utterance.encode()).digest()
    return self.apply(wave, [self.seed, *np.frombuffer(digest, '<u4').tolist()])

  def apply(self, wave: np.ndarray, entropy: list[int]) -> np.ndarray:
    """The wave under this condition, with all chance from some numbers."""
    for step in self.steps:
      kind = CONDITIONS[step.kind]
      name = int.from_bytes(step.kind.encode(), 'little')
      rng = np.random.default_rng([*entropy, name, step.number])
      value = values.drawn(step.value, rng)
      own = () if kind.sound is None else (step.files,)
      wave = np.asarray(kind.apply(wave, value, rng, *own), np.float32)
    return wave

  def samples(self, count: int) -> int:
    """How many samples come out of a clip of `count`, at most."""
    untouched = 0 if self.only is None else count
    for step in self.steps:
      if (longest := CONDITIONS[step.kind].samples) is not None:
        value = step.value
        ends = (
          (value.low, value.high)
          if isinstance(value, values.Range)
          else (value,)
        )
        count = max(longest(count, end) for end in ends)
    return max(count, untouched)

  @property
  def synthetic(self) -> tuple[str, ...]:
    """Sounds that are synthetic for want of recordings, such as 'noise'."""
    sounds_of = {
      CONDITIONS[step.kind].sound: None for step in self.steps if not step.files
    }
    return tuple(sound for sound in sounds_of if sound is not None)


@functools.cache
def make(
  spelt: str, seed: int = 0, noise_dir: str = '', room_dir: str = ''
) -> Condition:
  """Reads a condition.

  Args:
    spelt: 'clean'; 'NAME:VALUE' of `CONDITIONS`, such as 'noise:10' or
      'codec:mp3:32k'; or several that follow each other, joined by '+'. For
      most numbers a range LOW..HIGH may stand, such as 'noise:0..20'. Before
      all of it 'spoof=' or 'bonafide=' may stand: what is done to these alone.
    seed: seed of everything that is drawn at random.
    noise_dir: folder of own recordings of noise, music and speech; see
      `sounds`. '' for synthetic ones.
    room_dir: folder of recorded room impulse responses; likewise.

  Raises:
    ValueError: it is spelt otherwise, its value means nothing, or there are no
      such recordings.
  """
  if spelt == CLEAN:
    return Condition(spelt, (), seed)
  folders = sounds.Folders(noise_dir, room_dir)
  steps, counts = [], {}
  before, marked, rest = spelt.partition('=')
  only = ONLY.get(before) if marked else None
  for part in (spelt if only is None else rest).split('+'):
    name, _, text = part.partition(':')
    if name not in CONDITIONS:
      raise ValueError(
        f'condition {spelt!r}: {part!r} is unknown; expected {CLEAN!r}, or '
        f'NAME:VALUE, NAME being {" or ".join(CONDITIONS)}'
      )
    kind = CONDITIONS[name]
    try:
      value = kind.read(text)
      # A reverberation time describes a synthetic room.
      own = kind.sound and not (kind.sound == sounds.ROOM and value)
      files = folders.files(kind.sound) if own else ()
    except ValueError as error:
      raise ValueError(
        f'condition {spelt!r}: {part!r}: {error}; such as {kind.example}'
      ) from error
    number = counts[name] = counts.get(name, -1) + 1
    steps.append(Step(name, value, files, number))
  return Condition(spelt, tuple(steps), seed, only)
