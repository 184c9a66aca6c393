"""The decoders behind `audio.decode`: samples, and how many there should be.

FLAC and MP3 go through miniaudio (it reads FLACs that libsndfile 1.2.2 rejects,
and is faster), everything else through soundfile; Ogg Vorbis too, as damaged
headers of it crash miniaudio's decoder. What neither knows goes to `media`.
Neither is asked to convert anything:
rate, channels and precision are the file's own.
Both are asked for no more than what is wanted, so that the first seconds of a
long file cost no more than a short one.
"""

import hashlib
import io
import struct
from collections.abc import Callable
from typing import NamedTuple

import miniaudio
import numpy as np
import soundfile

from jaxspoof.audio import containers, media
from jaxspoof.audio.containers import EXPECTED, AudioError, sniff, suffix

__all__ = ['EXPECTED', 'AudioError', 'Decoded', 'read', 'sniff', 'suffix']

_BLOCK = 1 << 17  # samples decoded at once: headers do not decide on memory
_PROBE = 16  # samples that are read twice to see that no frame was left out


class Decoded(NamedTuple):
  """Samples of the beginning of a file, or of all of it.

  Attributes:
    wave: float32 [samples, channels], full scale 1.0.
    rate: in Hz.
    total: samples of the whole file, decoded or not.
    warnings: what is odd about the file, though it can be used.
  """

  wave: np.ndarray
  rate: int
  total: int
  warnings: tuple[str, ...] = ()


def read(
  data: bytes, name: str, verify: bool = True, seconds: float | None = None
) -> Decoded:
  """Decodes a file, and compares it with what its container declares.

  Args:
    data: the encoded file.
    name: what error messages call it.
    verify: also compare a FLAC's MD5 of all samples, where the file has one
      and all of it is decoded.
    seconds: how many seconds are decoded, from the start; None for all.

  Raises:
    AudioError: the file is of a kind that is not supported, is damaged or cut,
      or joins streams of different rates.
  """
  kind = sniff(data)
  if what := containers.media(data):
    return Decoded(*media.read(data, name, *what, seconds))
  if kind == 'other':
    raise AudioError(
      f'{name}: not audio (starts with {data[:16]!r}); expected {EXPECTED}'
    )
  bounds = containers.parts(kind, data, name)
  done: list[Decoded] = []
  for start, end in bounds:
    one = data if len(bounds) == 1 else data[start:end]
    wanted = None
    if seconds is not None:
      wanted = max(0.0, seconds - sum(len(d.wave) / d.rate for d in done))
    done.append(_read_one(one, name, verify, wanted))
  if len(done) == 1:
    return done[0]
  formats = dict.fromkeys((one.rate, one.wave.shape[1]) for one in done)
  if len(formats) > 1:
    listed = ' and '.join(f'{r} Hz with {c} channel(s)' for r, c in formats)
    raise AudioError(
      f'{name}: {len(done)} {kind} streams joined in one file, of {listed}; '
      'convert it, for example with: ffmpeg -i IN OUT.wav'
    )
  return Decoded(
    np.concatenate([one.wave for one in done]),
    done[0].rate,
    sum(one.total for one in done),
    (
      f'{len(done)} {kind} streams are joined in this file',
      *dict.fromkeys(warning for one in done for warning in one.warnings),
    ),
  )


def _read_one(
  data: bytes, name: str, verify: bool, seconds: float | None
) -> Decoded:
  """Decodes one stream; whatever a decoder raises becomes an AudioError."""
  kind = sniff(data)
  try:
    if kind.endswith('FLAC'):
      return _read_flac(kind, data, name, verify, seconds)
    if kind == 'MP3':
      return _read_mp3(data, name, seconds)
    return _read_soundfile(kind, data, name, seconds)
  except (AudioError, MemoryError):
    raise
  # Decoders in C have errors of all kinds for headers that lie.
  except Exception as error:
    what = f'a damaged {kind} file'
    if kind == 'WAV':
      encoding = containers.wav_encoding(data)
      what += f', or its encoding ({encoding}) is not supported'
    raise AudioError(
      f'{name}: {what} (starts with {data[:16]!r}); expected {EXPECTED}'
    ) from error


def _limit(seconds: float | None, rate: int) -> int | None:
  return None if seconds is None else int(np.ceil(seconds * rate))


def _in_blocks(
  read_block: Callable[[int], np.ndarray], limit: int | None
) -> np.ndarray:
  """Reads blocks until one comes back short, or `limit` samples are read."""
  blocks, left = [], limit
  while True:
    wanted = _BLOCK if left is None else min(left, _BLOCK)
    block = read_block(wanted)
    blocks.append(block)
    left = None if left is None else left - len(block)
    if len(block) < wanted or left == 0:
      return blocks[0] if len(blocks) == 1 else np.concatenate(blocks)


# ---------------------------------------------------------------- soundfile ---
def _read_soundfile(
  kind: str, data: bytes, name: str, seconds: float | None
) -> Decoded:
  data, warnings = _mended_sizes(kind, data, name)
  if kind.startswith('Ogg'):
    warnings += _check_end(data, name)
  # A map of a large file is read as a file is: BytesIO would copy it.
  source = io.BytesIO(data) if isinstance(data, bytes) else data
  with soundfile.SoundFile(source) as file:
    rate, declared = file.samplerate, len(file)
    limit = _limit(seconds, rate)
    # Some codecs (GSM) cannot seek, and then want the length named.
    if not file.seekable():
      limit = declared if limit is None else min(limit, declared)

    def read_block(count: int) -> np.ndarray:
      return file.read(count, dtype='float32', always_2d=True)

    wave = _in_blocks(read_block, limit)
  wanted = declared if limit is None else min(limit, declared)
  _check_length(len(wave), wanted, kind, name)
  return Decoded(wave, rate, declared, warnings)


def _mended_sizes(
  kind: str, data: bytes, name: str
) -> tuple[bytes, tuple[str, ...]]:
  """Compares the size of the samples with what is there.

  Recorders that were cut off leave a size of 0, and some old ones count the
  header too: players read such files, and so does this, with a warning.
  """
  if kind not in containers.WITH_CHUNKS:
    return data, ()
  found = containers.samples_of(kind, data)
  if found is None:
    raise AudioError(f'{name}: damaged {kind} (no samples in it)')
  there = len(data) - found.start
  if found.size is None:
    return data, ()
  if found.size == 0 and there > 0 and kind == 'WAV':
    if containers.is_chunk_list(data, found.start):
      return data, ()
    at, size_format = found.field
    data = bytearray(data)
    struct.pack_into(size_format, data, at, min(there, 0xFFFFFFFF))
    return bytes(data), (
      'its header says 0 bytes of samples, as of a recorder that was cut off; '
      'read to its end',
    )
  missing = found.size - there
  if kind == 'WAV' and missing == found.start:
    return data, (
      f'its header counts itself: {missing} bytes of samples more than there '
      'are',
    )
  _check_length(there, found.size, kind, name, 'bytes')
  return data, ()


# --------------------------------------------------------------------- FLAC ---
def _read_flac(
  kind: str, data: bytes, name: str, verify: bool, seconds: float | None
) -> Decoded:
  """Decodes straight into numpy: a third faster than miniaudio's own reader.

  A frame with a wrong checksum is left out by the decoder, so a short count
  means damage as well as a cut.
  """
  warnings = _check_end(data, name) if kind == 'Ogg FLAC' else ()
  ffi, lib = miniaudio.ffi, miniaudio.lib
  encoded = ffi.from_buffer(data)
  flac = lib.ma_dr_flac_open_memory(encoded, len(data), ffi.NULL)
  if not flac:
    raise miniaudio.DecodeError('not a FLAC stream')
  try:
    declared, channels = flac.totalPCMFrameCount, flac.channels
    rate, bits = flac.sampleRate, flac.bitsPerSample

    def read_block(count: int) -> np.ndarray:
      block = np.empty((count, channels), np.int32)
      pointer = ffi.cast('ma_dr_flac_int32 *', ffi.from_buffer(block))
      return block[: lib.ma_dr_flac_read_pcm_frames_s32(flac, count, pointer)]

    # One in Ogg is read whole: its end cannot be found without.
    wanted = _limit(seconds, rate)
    limit = wanted if kind == 'FLAC' else None
    wave = _in_blocks(read_block, limit)
    if not declared:  # written to a pipe: the header does not know the length
      declared = len(wave)
      while len(wave) == limit and (more := len(read_block(_BLOCK))):
        declared += more
    expected = declared if limit is None else min(limit, declared)
    _check_length(len(wave), expected, kind, name)
    if 0 < len(wave) < declared:
      _check_flac_frames(flac, len(wave), declared, read_block, kind, name)
  finally:
    lib.ma_dr_flac_close(flac)
  if verify and len(wave) == declared:
    _check_md5(data, wave, bits, name)
  scale = np.float32(2**-31)
  wave = wave[:wanted]
  wave = np.multiply(wave, scale, dtype=np.float32, casting='unsafe')
  return Decoded(wave, rate, declared, warnings)


def _check_flac_frames(flac, start, declared, read_block, kind, name) -> None:
  """Looks whether the part that was decoded, and the end, are all there.

  Seeking goes by the numbers of the frames: it finds other samples than
  reading on where a frame was left out. Several frames are tried, as one that
  is damaged itself cannot be found.
  """
  seek = miniaudio.lib.ma_dr_flac_seek_to_pcm_frame
  size = flac.maxBlockSizeInPCMFrames
  ahead = read_block(4 * size)
  whole = len(ahead) == min(4 * size, declared - start)
  for at in range(0, len(ahead), size):
    part = ahead[at : at + _PROBE]
    whole &= bool(seek(flac, start + at))
    whole &= np.array_equal(read_block(len(part)), part)
  if not (whole and seek(flac, declared - 1) and len(read_block(1))):
    raise AudioError(
      f'{name}: truncated or damaged {kind} (not all of its {declared} '
      'samples are there)'
    )


def _check_md5(data: bytes, wave: np.ndarray, bits: int, name: str) -> None:
  """Compares the samples with STREAMINFO's MD5 (16 zero bytes: none)."""
  start = containers.id3_size(data)
  stored = data[start + 26 : start + 42]
  if data[start : start + 4] != b'fLaC' or not any(stored):
    return
  pcm = wave >> (32 - bits)
  if 8 < bits <= 16:
    pcm = pcm.astype('<i2')
  else:
    octets = pcm.astype('<i4').view(np.uint8).reshape(-1, 4)
    pcm = np.ascontiguousarray(octets[:, : (bits + 7) // 8])
  if hashlib.md5(pcm).digest() != stored:
    raise AudioError(f'{name}: damaged FLAC (its samples fail their MD5 sum)')


# ---------------------------------------------------------------- MP3, Ogg ---
def _read_mp3(data: bytes, name: str, seconds: float | None) -> Decoded:
  """Decodes the frames that are wanted, and counts them all."""
  frames = list(containers.mp3_frames(data))
  if not frames:
    raise miniaudio.DecodeError('no MP3 frames')
  start, first = frames[0]
  count, trimmed = len(frames), 0
  if info := containers.mp3_info(data, start, first):
    count -= 1  # the Info frame itself
    if info[7] & 1:
      (declared,) = struct.unpack_from('>I', info, 8)
      _check_length(count + 1, declared, 'MP3', name, 'frames')
    trimmed = _mp3_trimmed(info)
  total = max(count * first.samples - trimmed, 0)
  limit = _limit(seconds, first.rate)
  # Three frames more: Info, the decoder's delay, and the bit reservoir.
  needed = len(frames)
  if limit is not None:
    needed = -(-(limit + trimmed) // first.samples) + 3
  if needed < len(frames):
    data = data[: frames[needed][0]]
  wave, rate = _to_array(miniaudio.mp3_read_f32(bytes(data)))
  if limit is None or needed >= len(frames):
    total = len(wave)
  return Decoded(wave[:limit], rate, total)


def _mp3_trimmed(info: bytes) -> int:
  """Samples that LAME added at both ends, which the decoder leaves out."""
  at = 8 + sum(
    size for bit, size in enumerate((4, 4, 100, 4)) if info[7] >> bit & 1
  )
  lame = info[at : at + 24]
  if len(lame) < 24 or not lame[:1].isalpha():
    return 0
  packed = int.from_bytes(lame[21:24], 'big')
  return (packed >> 12) + (packed & 0xFFF)


def _check_end(data: bytes, name: str) -> tuple[str, ...]:
  """Walks the pages of an Ogg; warns where the last one is not marked so."""
  for page in containers.ogg_pages(data, name):
    last = page.last
  if last:
    return ()
  return ('it ends without the mark of an end: cut, or recorded from a stream',)


def _to_array(sound: miniaudio.DecodedSoundFile) -> tuple[np.ndarray, int]:
  wave = np.frombuffer(sound.samples, np.float32).reshape(-1, sound.nchannels)
  return wave, sound.sample_rate


def _check_length(
  found: int, declared: int, kind: str, name: str, unit: str = 'samples'
) -> None:
  if found < declared:
    raise AudioError(
      f'{name}: truncated or damaged {kind}'
      f' ({found} of {declared} {unit} are there)'
    )
