"""Recordings of any length, block by block: memory does not grow with them."""

import io
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import soundfile
import soxr

from jaxspoof import audio
from jaxspoof.audio import containers, media
from jaxspoof.audio.containers import AudioError

_BLOCK = 1 << 16  # samples of the file that are decoded at once
_HEAD = 1 << 16  # bytes that tell what a file is
# Of these several streams in one file are known by a walk through all of it;
# others are read by soundfile to their end.
_WHOLE = 64 << 20  # bytes; smaller files that join streams are decoded whole

# Raw samples by name: their type, and what full scale is.
FORMATS = {
  's16le': ('<i2', 2**15),
  's24le': (None, 2**23),
  's32le': ('<i4', 2**31),
  'f32le': ('<f4', 1),
}


def blocks(
  source: str | os.PathLike | bytes | np.ndarray,
  name: str | None = None,
  *,
  rate: int | None = None,
  channel: int | None = None,
  heard: Callable[[str], None] = lambda warning: None,
) -> Iterator[np.ndarray]:
  """Yields the whole of a recording as one channel at `audio.SAMPLE_RATE`.

  Args:
    source: a path, the encoded file itself, or samples as `audio.read` takes
      them.
    name: what messages call it; the path by default.
    rate: of samples, in Hz.
    channel: which channel is taken, the first being 1; None averages.
    heard: is called with what is odd about the recording, each thing once.

  Yields:
    float32 [n], n > 0, of about four seconds or less.

  Raises:
    AudioError: as `audio.read`, but that a file is cut is known at its end.
  """
  if isinstance(source, bytes | np.ndarray):
    name = name or 'samples'
  name = name or str(source)
  said: set[str] = set()

  def say(warning: str) -> None:
    if warning not in said:
      said.add(warning)
      heard(warning)

  found = (
    _of_samples(source, rate, name)
    if isinstance(source, np.ndarray)
    else _of_file(source, name, say)
  )
  yield from resampled(mixed(found, name, channel, say))


def mixed(
  found: Iterable[tuple[np.ndarray, int]],
  name: str,
  channel: int | None,
  heard: Callable[[str], None],
) -> Iterator[tuple[np.ndarray, int]]:
  """One channel [n] of each block [n, channels], checked; rates pass."""
  for wave, rate in found:
    audio.check_rate(rate, name)
    if not len(wave):
      continue
    audio.check_samples(wave, name)
    if channel is not None:
      yield audio.take_channel(wave, channel, name), rate
      continue
    mono, warnings = audio.mix_down(wave)
    for warning in warnings:
      heard(f'in places {warning}')
    yield mono, rate


def resampled(
  found: Iterable[tuple[np.ndarray, int]],
) -> Iterator[np.ndarray]:
  """Blocks [n] at their rate, as blocks at `audio.SAMPLE_RATE`."""
  stream = None
  for wave, rate in found:
    if rate != audio.SAMPLE_RATE:
      if stream is None:
        stream = soxr.ResampleStream(
          rate, audio.SAMPLE_RATE, 1, 'float32', 'HQ'
        )
      wave = stream.resample_chunk(np.ascontiguousarray(wave))
    if len(wave):
      yield wave
  if stream is not None:
    rest = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    if len(rest):
      yield rest


def raw(
  read: Callable[[int], bytes], form: str, channels: int, rate: int
) -> Iterator[tuple[np.ndarray, int]]:
  """Raw samples, as a microphone gives them, as soon as they come.

  Args:
    read: gives at most so many bytes, and none at the end.
    form: a key of `FORMATS`.
    channels: their number.
    rate: in Hz.

  Yields:
    float32 [n, channels] and the rate.
  """
  kind, scale = FORMATS[form]
  width = 3 if kind is None else np.dtype(kind).itemsize
  frame, left = width * channels, b''
  while data := read(_BLOCK):
    data = left + data
    whole = len(data) // frame * frame
    data, left = data[:whole], data[whole:]
    if not whole:
      continue
    if kind is None:  # 24 bits, in the upper bytes of 32
      octets = np.zeros((whole // 3, 4), np.uint8)
      octets[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
      samples = octets.view('<i4')[:, 0] / np.float64(2**31)
    else:
      samples = np.frombuffer(data, kind) / np.float64(scale)
    yield samples.astype(np.float32).reshape(-1, channels), rate


def _of_samples(samples, rate, name) -> Iterator[tuple[np.ndarray, int]]:
  found = audio.of_samples(samples, rate, name)
  for start in range(0, len(found.wave), _BLOCK):
    yield found.wave[start : start + _BLOCK], found.rate


def _of_file(
  source: str | os.PathLike | bytes, name: str, heard
) -> Iterator[tuple[np.ndarray, int]]:
  data = source
  if not isinstance(data, bytes):
    data = audio.open_bytes(pathlib.Path(source), name)
  if not len(data):
    raise AudioError(f'{name}: the file is empty (0 bytes)')
  if what := containers.media(data[:_HEAD]):
    yield from media.stream(data, name, *what, heard)
    return
  kind = containers.sniff(data[:_HEAD])
  joined = kind != 'other' and len(containers.parts(kind, data, name)) > 1
  if kind == 'other' or joined or len(data) <= _WHOLE // 16:
    if joined and len(data) > _WHOLE:
      raise AudioError(
        f'{name}: several {kind} streams joined in a file of '
        f'{len(data) >> 20} MiB; convert it, for example with: ffmpeg -i IN '
        'OUT.wav'
      )
    found = audio.decode_whole(data, name)  # also says what is wrong with it
    for warning in found.warnings:
      heard(warning)
    for start in range(0, len(found.wave), _BLOCK):
      yield found.wave[start : start + _BLOCK], found.rate
    return
  yield from _of_soundfile(source, name, kind)


def _of_soundfile(source, name, kind) -> Iterator[tuple[np.ndarray, int]]:
  file = io.BytesIO(source) if isinstance(source, bytes) else source
  try:
    with soundfile.SoundFile(file) as file:
      count, declared = 0, len(file)
      for wave in file.blocks(_BLOCK, dtype='float32', always_2d=True):
        count += len(wave)
        yield wave, file.samplerate
  except (soundfile.LibsndfileError, RuntimeError) as error:
    raise AudioError(f'{name}: a damaged {kind} file ({error})') from error
  if count < declared:
    raise AudioError(
      f'{name}: truncated or damaged {kind} ({count} of {declared} samples are '
      'there)'
    )
