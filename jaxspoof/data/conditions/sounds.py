"""Own recordings of noise and rooms: which files of a folder are what.

Two layouts are known, and found anywhere below the folder that is named:

  MUSAN        noise/, music/ and speech/, as in the corpus of that name
  RIRS_NOISES  simulated_rirs/ and real_rirs_isotropic_noises/, whose
               recordings of noise have 'noise' in their names, and
               pointsource_noises/

In any other folder all recordings are noise, or rooms: what it was named for.
"""

import contextlib
import dataclasses
import functools
import pathlib

import numpy as np
import soundfile
import soxr

from jaxspoof import audio

# What conditions are made of, and the field of `Folders` that it is in.
NOISE, MUSIC, SPEECH, ROOM = 'noise', 'music', 'speech', 'room'
_TRIES = 20  # draws before a folder is said to hold nothing but silence


@dataclasses.dataclass(frozen=True)
class Folders:
  """Folders of own recordings.

  Attributes:
    noise_dir: of noise, music and speech; '' for synthetic ones.
    room_dir: of room impulse responses; '' for synthetic ones.
  """

  noise_dir: str = ''
  room_dir: str = ''

  def files(self, sound: str) -> tuple[str, ...]:
    """Recordings of a sound; empty where synthetic ones take their place.

    Args:
      sound: 'noise', 'music', 'speech' or 'room'.

    Raises:
      ValueError: no such folder, or a folder without such recordings.
    """
    field = 'room_dir' if sound == ROOM else 'noise_dir'
    folder = getattr(self, field)
    if not folder:
      return ()
    sorted_in = _listed(folder, field == 'room_dir')
    if not sorted_in[sound]:
      counts = ', '.join(f'{len(v)} of {k}' for k, v in sorted_in.items() if v)
      raise ValueError(
        f'{field}={folder!r} holds no recordings of {sound} (found '
        f'{counts or "no recordings at all"}); expected a folder of {sound}, '
        'or the layout of MUSAN or RIRS_NOISES'
      )
    return sorted_in[sound]


@functools.cache
def _listed(folder: str, rooms: bool) -> dict[str, tuple[str, ...]]:
  """Recordings below a folder by what they are."""
  if not pathlib.Path(folder).is_dir():
    raise ValueError(f'{folder}: no such folder')
  found = audio.find(folder)
  if found.problems:
    raise ValueError(found.problems[0][1])
  sorted_in = {sound: [] for sound in (NOISE, MUSIC, SPEECH, ROOM)}
  for file in found.files:
    inside = pathlib.PurePath(file).relative_to(folder)
    sorted_in[_sound_of(pathlib.PurePath(folder, inside), rooms)].append(file)
  return {sound: tuple(files) for sound, files in sorted_in.items()}


def _sound_of(path: pathlib.PurePath, rooms: bool) -> str:
  folders = path.parts[:-1]
  if 'simulated_rirs' in folders:
    return ROOM
  if 'pointsource_noises' in folders:
    return NOISE
  if 'real_rirs_isotropic_noises' in folders:
    return NOISE if 'noise' in path.stem else ROOM
  if rooms:
    return ROOM
  # The innermost counts: MUSAN may lie in a folder that is called noise.
  named = [part for part in folders if part in (NOISE, MUSIC, SPEECH)]
  return named[-1] if named else NOISE


def cut(
  files: tuple[str, ...], samples: int, rng: np.random.Generator
) -> np.ndarray:
  """A random part of a random recording, repeated if that is too short.

  Args:
    files: recordings, of which one is drawn.
    samples: of the part.
    rng: source of all chance.

  Returns:
    float32 [samples] at 16 kHz, not silent.

  Raises:
    AudioError: a recording that cannot be read, or nothing but silence.
  """
  out = np.empty(samples, np.float32)
  for _ in range(_TRIES):
    path = files[rng.integers(len(files))]
    audio.fill(out, _part(path, samples, rng), rng)
    if out.any():
      return out
  raise audio.AudioError(
    f'{path}: nothing but silence in {_TRIES} parts of this and other '
    'recordings of noise; expected sound'
  )


def _part(path: str, samples: int, rng: np.random.Generator) -> np.ndarray:
  """At least that much of a recording, or all of it if it is shorter."""
  # A WAV of MUSAN has minutes: of those the part alone is read. Others are
  # decoded from their beginning anyway.
  if path.lower().endswith('.wav'):
    with (
      contextlib.suppress(soundfile.LibsndfileError),  # said better below
      soundfile.SoundFile(path) as file,
    ):
      at_rate = file.samplerate == audio.SAMPLE_RATE and file.seekable()
      if at_rate and len(file) > samples:
        file.seek(int(rng.integers(len(file) - samples + 1)))
        wave = file.read(samples, dtype='float32', always_2d=True)
        return np.ascontiguousarray(wave[:, 0])
  return audio.load(path)


@functools.lru_cache(maxsize=64)
def impulse_response(path: str) -> np.ndarray:
  """A recorded room: float32 [taps], of its first channel."""
  taps, rate = audio.decode(pathlib.Path(path).read_bytes(), path)
  # Channels are microphones: their mean would be a room that does not exist.
  taps = taps if taps.ndim == 1 else np.ascontiguousarray(taps[:, 0])
  if rate != audio.SAMPLE_RATE:
    taps = soxr.resample(taps, rate, audio.SAMPLE_RATE, quality='HQ')
  if not taps.any():
    raise audio.AudioError(f'{path}: a silent impulse response')
  return taps
