"""Decodes audio files to mono float32 at one sample rate, or says why not.

The container is told by its first bytes, never by the file name. Decoders
deliver the file's own rate, channels and precision; resampling and mixing down
happen here, where they can be seen.
"""

import mmap
import os
import pathlib
import select
import stat
from typing import NamedTuple

import numpy as np
import soxr

from jaxspoof.audio import containers, decoders
from jaxspoof.audio.containers import AudioError

SAMPLE_RATE = 16_000
MOMENT = SAMPLE_RATE // 50  # samples: the 20 ms that localisation tells apart
# Files that are looked for in folders: what can be read, and below it what
# cannot, but is a recording of somebody that must not be left out in silence.
EXTENSIONS = (
  '.aif', '.aifc', '.aiff', '.au', '.caf', '.flac', '.mp3', '.oga', '.ogg',
  '.opus', '.snd', '.sph', '.w64', '.wav',
)  # fmt: skip
OTHER_EXTENSIONS = (
  '.3gp', '.aac', '.ac3', '.amr', '.ape', '.m4a', '.m4b', '.mka', '.mkv',
  '.mov', '.mp2', '.mp4', '.spx', '.voc', '.weba', '.webm', '.wma', '.wv',
)  # fmt: skip

_RATES = (1_000, 768_000)  # Hz; outside it the header is wrong, not the speech
_CHANNELS = 64  # more of them than samples are a transposed array
_PEAK = 2.0  # lossy codecs overshoot 1.0 a little; wrong scales a lot
# The mean of channels that cancel, or of many silent ones and one that is not,
# is this much (power) below the loudest channel: 10 dB. Equal and unrelated
# channels reach that only when there are ten of them.
_CANCELLED = 0.1
# Soxr's filters reach less than this beyond a sample, so that the beginning of
# a file is resampled to the same bits as the whole of it.
_MARGIN = 0.5  # seconds
_MAPPED = 1 << 26  # bytes; larger files are mapped, so that a part can be read
_PIPE_WAIT = 10.0  # seconds for the other end of a FIFO to write


class Clip(NamedTuple):
  """Audio as models take it.

  Attributes:
    wave: float32 [samples], one channel, nominally in [-1, 1).
    seconds: length of the whole file, of which `wave` may be the beginning.
    warnings: what a listener to the scores should know of the file.
    start: where in the file `wave` begins, in seconds.
  """

  wave: np.ndarray
  seconds: float
  warnings: tuple[str, ...] = ()
  start: float = 0.0


def decode(
  data: bytes, name: str, verify: bool = True
) -> tuple[np.ndarray, int]:
  """Decodes a whole file held in memory.

  What the container declares is compared with what is there: a file that is
  damaged or cut is an error. So are two streams of different rates in one
  file; streams of one rate are read one after the other. MP3 has a declared
  length only where its encoder wrote an Info frame: without it, a cut one
  decodes to what is there.

  Args:
    data: The encoded file.
    name: What error messages call it.
    verify: Also compare a FLAC's MD5 of all samples, where the file has one.

  Returns:
    float32 [samples] or [samples, channels], full scale 1.0 (16 and 24 bit
    integers are exact; lossy codecs may overshoot), and the rate in Hz.

  Raises:
    AudioError: Empty, damaged, truncated, not supported or not audio at all.
  """
  found = _decode(data, name, verify, None)
  wave = found.wave
  return (wave[:, 0] if wave.shape[1] == 1 else wave), found.rate


def _decode(
  data: bytes, name: str, verify: bool, seconds: float | None
) -> decoders.Decoded:
  """Decodes the first seconds of a file as `decode` does, with warnings."""
  if not len(data):
    raise AudioError(f'{name}: the file is empty (0 bytes)')
  found = decoders.read(data, name, verify, seconds)
  if not len(found.wave):
    kind = containers.sniff(data)
    raise AudioError(f'{name}: the {kind} file holds no samples')
  check_rate(found.rate, name)
  check_samples(found.wave, name)
  return found


def read(
  source: str | os.PathLike | bytes | np.ndarray,
  name: str | None = None,
  rate: int = SAMPLE_RATE,
  verify: bool = True,
  samples: int | None = None,
  *,
  given_rate: int | None = None,
  channel: int | None = None,
) -> Clip:
  """Reads audio as one channel at one rate, and says what is odd about it.

  Channels are averaged; where they cancel, or all but one are silent, the
  loudest one is taken instead. Other rates are converted by soxr at its 'HQ'
  setting (20 bit precision, pass band to 0.91 of the lower Nyquist frequency),
  as librosa does by default. Audio at `rate` already is passed through
  untouched.

  Args:
    source: A path, the encoded file itself, or samples: [n] or [n, channels],
      floating point at full scale 1.0, or integers at that of their type.
    name: What error messages call it; the path by default.
    rate: Wanted sample rate in Hz.
    verify: See `decode`.
    samples: Of the beginning, at `rate`: no more than these, and a little for
      the filter, are decoded. They have the same bits as those of the whole
      file. None takes all of it.
    given_rate: Of samples, in Hz.
    channel: Which channel is taken, the first being 1; None averages.

  Raises:
    AudioError: Missing, unreadable, no such channel, or anything `decode`
      rejects.
  """
  seconds = None if samples is None else samples / rate + _MARGIN
  if isinstance(source, np.ndarray):
    name = name or 'samples'
    found = of_samples(source, given_rate, name, seconds)
  else:
    if not isinstance(source, bytes):
      name = name or str(source)
      source = open_bytes(pathlib.Path(source), name)
    name = name or 'audio'
    found = _decode(source, name, verify, seconds)
  if channel is None:
    wave, warnings = mix_down(found.wave)
  else:
    wave, warnings = take_channel(found.wave, channel, name), ()
  if found.rate != rate:
    wave = soxr.resample(wave, found.rate, rate, quality='HQ')
    if not len(wave):
      raise AudioError(f'{name}: too short to resample to {rate} Hz')
  return Clip(
    wave[:samples], found.total / found.rate, (*found.warnings, *warnings)
  )


def load(
  source: str | os.PathLike | bytes,
  name: str | None = None,
  rate: int = SAMPLE_RATE,
  verify: bool = True,
) -> np.ndarray:
  """The wave of the whole file that `read` gives: float32 [samples]."""
  return read(source, name, rate, verify).wave


def length(data: bytes, name: str) -> int:
  """About how many samples `load` would give, mostly from the header alone.

  Args:
    data: The encoded file.
    name: What error messages call it.

  Raises:
    AudioError: Empty, or not audio at all.
  """
  if not data:
    raise AudioError(f'{name}: the file is empty (0 bytes)')
  found = decoders.read(data, name, verify=False, seconds=0.0)
  return -(-found.total * SAMPLE_RATE // found.rate)


class Found(NamedTuple):
  """What is below a directory.

  Attributes:
    files: recordings, sorted; whether they can be read will be seen.
    problems: (path, what is wrong) of folders, links and files that cannot
      even be looked at.
    others: files that are no recordings.
  """

  files: list[str]
  problems: list[tuple[str, str]]
  others: list[str]


def find(directory: str | os.PathLike) -> Found:
  """Recordings below a directory, each file accounted for.

  Recordings are told by their extension, and where it is another one, by their
  first bytes. Links to folders are followed; a folder that is reached in
  several ways is searched once. Names that begin with a dot are left out:
  copies from some systems hold a `._clip.wav` that is no audio beside each
  `clip.wav`.
  """
  found, seen = Found([], [], []), set()
  folders, links = [os.fspath(directory)], []
  while folders or links:
    # Links come last, so that a folder keeps its own name.
    folder = folders.pop() if folders else links.pop(0)
    try:
      status = os.stat(folder)
      if (identity := (status.st_dev, status.st_ino)) in seen:
        continue
      seen.add(identity)
      with os.scandir(folder) as entries:
        entries = [entry for entry in entries if entry.name[0] != '.']
    except OSError as error:
      problem = f'{folder}: cannot be searched ({error.strerror})'
      found.problems.append((folder, problem))
      continue
    for entry in sorted(entries, key=lambda entry: entry.name):
      if entry.is_dir():
        (links if entry.is_symlink() else folders).append(entry.path)
      else:
        _sort_in(entry.path, found)
  found.files.sort()
  found.others.sort()
  return found


def _sort_in(path: str, found: Found) -> None:
  """Puts a file into the list where it belongs."""
  if path.lower().endswith(EXTENSIONS + OTHER_EXTENSIONS):
    found.files.append(path)
    return
  try:
    if not stat.S_ISREG(os.stat(path).st_mode):
      found.problems.append((path, f'{path}: neither a file nor a folder'))
      return
    with open(path, 'rb') as file:
      head = file.read(36)
  except OSError as error:
    problem = f'{path}: cannot be read ({error.strerror})'
    found.problems.append((path, problem))
    return
  (found.files if containers.is_audio(head) else found.others).append(path)


def fill(
  out: np.ndarray, wave: np.ndarray, rng: np.random.Generator | None = None
) -> None:
  """Cuts a clip to a fixed length, repeating it first where it is too short.

  Args:
    out: float32 [samples], which is overwritten.
    wave: float32 [n], n >= 1.
    rng: draws the start of the cut uniformly; without it the first samples are
      taken. A clip that is too short always starts at its beginning, as in the
      original AASIST.
  """
  if not len(wave):
    raise ValueError('a clip of no samples cannot be repeated')
  extra = len(wave) - len(out)
  if extra >= 0:
    start = 0 if rng is None else int(rng.integers(extra + 1))
    out[:] = wave[start : start + len(out)]
    return
  out[: len(wave)] = wave
  done = len(wave)
  while done < len(out):  # what is there doubles
    more = min(done, len(out) - done)
    out[done : done + more] = out[:more]
    done += more


def pad(
  out: np.ndarray,
  wave: np.ndarray,
  shortest: int,
  rng: np.random.Generator | None = None,
) -> int:
  """Crops a clip into an existing array, or follows a short one by zeros.

  Args:
    out: float32 [samples], which is overwritten.
    wave: float32 [n], n >= 1.
    shortest: a clip of fewer samples than the model needs, which is this many,
      is repeated until it has them.
    rng: draws the start of the crop; None takes the first samples.

  Returns:
    The number of samples at the start of `out` that are not padding.
  """
  count = min(max(len(wave), shortest), len(out))
  fill(out[:count], wave, rng)
  out[count:] = 0
  return count


def open_bytes(path: pathlib.Path, name: str) -> bytes:
  """The content of a file; of a large one a map, of which parts are read."""
  try:
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
      raise AudioError(
        f'{name}: a directory, expected a file of {containers.EXPECTED}'
      )
    if stat.S_ISFIFO(mode):
      return _read_pipe(path, name)
    if not stat.S_ISREG(mode) and not stat.S_ISCHR(mode):
      raise AudioError(f'{name}: neither a file nor a pipe')
    with path.open('rb') as file:
      if os.fstat(file.fileno()).st_size <= _MAPPED:
        return file.read()
      return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
  except FileNotFoundError as error:
    raise AudioError(f'{name}: no such file') from error
  except OSError as error:
    raise AudioError(f'{name}: cannot be read ({error.strerror})') from error


def _read_pipe(path: pathlib.Path, name: str) -> bytes:
  """All that comes out of a pipe; one that nobody writes to is no audio."""
  descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
  with open(descriptor, 'rb') as file:
    ready, _, _ = select.select([file], [], [], _PIPE_WAIT)
    if not ready:
      raise AudioError(
        f'{name}: a pipe that nobody has written to for {_PIPE_WAIT:.0f} s'
      )
    os.set_blocking(descriptor, True)
    return file.read()


def decode_whole(data, name: str) -> decoders.Decoded:
  """What `decode` decodes, [samples, channels], with its warnings."""
  return _decode(data, name, True, None)


def of_samples(
  samples: np.ndarray,
  rate: int | None,
  name: str,
  seconds: float | None = None,
) -> decoders.Decoded:
  """Samples of a program as those of a file."""
  if rate is None:
    raise AudioError(f'{name}: the rate of samples is needed, in Hz')
  check_rate(rate, name)
  if samples.ndim not in (1, 2) or not samples.size:
    raise AudioError(
      f'{name}: of shape {samples.shape}, expected [samples] or [samples, '
      'channels]'
    )
  wave = samples.reshape(len(samples), -1)
  if wave.shape[1] > max(len(wave), _CHANNELS):
    raise AudioError(
      f'{name}: of shape {samples.shape}, expected [samples, channels]; '
      'transpose them'
    )
  total = len(wave)
  if seconds is not None:
    wave = wave[: int(np.ceil(seconds * rate))]
  if np.issubdtype(wave.dtype, np.signedinteger):
    wave = wave.astype(np.float64) / -float(np.iinfo(wave.dtype).min)
  elif not np.issubdtype(wave.dtype, np.floating):
    raise AudioError(
      f'{name}: samples of {wave.dtype}, expected floating point or signed '
      'integers'
    )
  wave = wave.astype(np.float32)
  check_samples(wave, name)
  return decoders.Decoded(wave, rate, total)


def take_channel(wave: np.ndarray, channel: int, name: str) -> np.ndarray:
  """One channel of [samples, channels], the first being 1."""
  count = wave.shape[1]
  if not 1 <= channel <= count:
    raise AudioError(
      f'{name}: no channel {channel}, it has {count}'
      + (', numbered from 1' if channel < 1 else '')
    )
  return np.ascontiguousarray(wave[:, channel - 1])


def mix_down(wave: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
  """[samples, channels] to [samples], and a warning where it is no mean."""
  channels = wave.shape[1]
  if channels == 1:
    return wave[:, 0], ()
  mean = wave.mean(axis=1, dtype=np.float32)
  powers = [float(np.square(wave[:, c]).mean()) for c in range(channels)]
  loudest = int(np.argmax(powers))
  if np.square(mean).mean() >= _CANCELLED * powers[loudest]:
    return mean, ()
  return np.ascontiguousarray(wave[:, loudest]), (
    f'the mean of its {channels} channels is nearly silent, as they cancel or '
    f'all but one are; channel {loudest + 1} alone is taken',
  )


def check_rate(rate: int, name: str) -> None:
  """Raises AudioError for a rate that no recording has."""
  if not _RATES[0] <= rate <= _RATES[1]:
    raise AudioError(
      f'{name}: sample rate {rate} Hz, expected {_RATES[0]} to {_RATES[1]} Hz'
    )


def check_samples(wave: np.ndarray, name: str) -> None:
  """Raises AudioError for samples that no recording has."""
  peak = max(float(wave.max()), -float(wave.min()))  # NaN stays NaN
  if not np.isfinite(peak):
    raise AudioError(f'{name}: holds samples that are not finite numbers')
  if peak > _PEAK:
    raise AudioError(
      f'{name}: samples reach {peak:g}, expected full scale 1.0 (another scale,'
      ' or integers written as floats?); scale it and try again'
    )
