"""Decodes audio files to mono float32 at one sample rate, or says why not.

The container is told by its first bytes, never by the file name. WAV, FLAC,
MP3 and Ogg Vorbis go through miniaudio (it reads FLACs that libsndfile 1.2.2
rejects, and is faster); everything else, and what miniaudio refuses, goes
through soundfile (Opus, AIFF, AU, NIST SPHERE, GSM in WAV ...). Decoders
deliver the file's own rate, channels and precision; resampling and mixing down
happen here, where they can be seen.
"""

import hashlib
import io
import os
import pathlib
import struct

import miniaudio
import numpy as np
import soundfile
import soxr

SAMPLE_RATE = 16_000
EXTENSIONS = ('.flac', '.mp3', '.oga', '.ogg', '.opus', '.wav')

_EXPECTED = 'WAV, FLAC, MP3, Ogg Vorbis or Opus audio'
_RATES = (1_000, 768_000)  # Hz; outside it the header is wrong, not the speech
_PEAK = 16.0  # lossy codecs overshoot 1.0 a little; integers in floats a lot


class AudioError(ValueError):
  """Audio that cannot be used; the message names the file and the reason."""


def decode(
  data: bytes, name: str, verify: bool = True
) -> tuple[np.ndarray, int]:
  """Decodes a whole file held in memory.

  A damaged or cut FLAC is always an error: each frame's checksum and the number
  of samples are compared with the header. So is a WAV or Ogg that ends before
  the length it declares. MP3 has no reliable length: a cut one decodes to what
  is there.

  Args:
    data: The encoded file.
    name: What error messages call it.
    verify: Also compare a FLAC's MD5 of all samples, where the file has one.

  Returns:
    float32 [samples] or [samples, channels], full scale 1.0 (16 and 24 bit
    integers are exact; lossy codecs may overshoot), and the rate in Hz.

  Raises:
    AudioError: Empty, damaged, truncated or not audio at all.
  """
  if not data:
    raise AudioError(f'{name}: the file is empty (0 bytes)')
  kind = _sniff(data)
  wave, rate = _read(kind, data, name, verify)
  if not len(wave):
    raise AudioError(f'{name}: the {kind} file holds no samples')
  if not _RATES[0] <= rate <= _RATES[1]:
    raise AudioError(
      f'{name}: sample rate {rate} Hz, expected {_RATES[0]} to {_RATES[1]} Hz'
    )
  _check_samples(wave, name)
  return (wave[:, 0] if wave.shape[1] == 1 else wave), rate


def load(
  source: str | os.PathLike | bytes,
  name: str | None = None,
  rate: int = SAMPLE_RATE,
  verify: bool = True,
) -> np.ndarray:
  """Loads audio as one channel at one rate.

  Channels are averaged; other rates are converted by soxr at its 'HQ' setting
  (20 bit precision, pass band to 0.91 of the lower Nyquist frequency), as
  librosa does by default. Audio at `rate` already is passed through untouched.

  Args:
    source: A path, or the encoded file itself.
    name: What error messages call it; the path by default.
    rate: Wanted sample rate in Hz.
    verify: See `decode`.

  Returns:
    float32 [samples], nominally in [-1, 1).

  Raises:
    AudioError: Missing, unreadable, or anything `decode` rejects.
  """
  if not isinstance(source, bytes):
    name = name or str(source)
    source = _read_file(pathlib.Path(source), name)
  name = name or 'audio'
  wave, source_rate = decode(source, name, verify)
  if wave.ndim == 2:
    wave = wave.mean(axis=1, dtype=np.float32)
  if source_rate != rate:
    wave = soxr.resample(wave, source_rate, rate, quality='HQ')
    if not len(wave):
      raise AudioError(f'{name}: too short to resample to {rate} Hz')
  return wave


def find(directory: str | os.PathLike) -> list[str]:
  """Files with one of `EXTENSIONS` below a directory, in sorted order.

  Names that begin with a dot are left out: copies from some systems hold a
  `._clip.wav` that is no audio beside each `clip.wav`.
  """
  return sorted(
    os.path.join(folder, file)
    for folder, _, files in os.walk(directory)
    for file in files
    if file.lower().endswith(EXTENSIONS) and not file.startswith('.')
  )


def crop_or_repeat(
  wave: np.ndarray, samples: int, rng: np.random.Generator | None = None
) -> np.ndarray:
  """Cuts a clip to a fixed length, repeating it first where it is too short.

  Args:
    wave: float32 [n], n >= 1.
    samples: Wanted length.
    rng: Draws the start of the cut uniformly; without it the first samples are
      taken. A clip that is too short always starts at its beginning, as in the
      original AASIST.

  Returns:
    float32 [samples].
  """
  out = np.empty(samples, np.float32)
  fill(out, wave, rng)
  return out


def fill(
  out: np.ndarray, wave: np.ndarray, rng: np.random.Generator | None = None
) -> None:
  """As `crop_or_repeat`, into a float32 [samples] that is there already."""
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


def _read_file(path: pathlib.Path, name: str) -> bytes:
  if path.is_dir():
    raise AudioError(f'{name}: a directory, expected a file of {_EXPECTED}')
  try:
    return path.read_bytes()
  except FileNotFoundError as error:
    raise AudioError(f'{name}: no such file') from error
  except OSError as error:
    raise AudioError(f'{name}: cannot be read ({error.strerror})') from error


def _sniff(data: bytes) -> str:
  """Names the container by its first bytes; 'other' is left to soundfile."""
  head = data[_id3_size(data) :][:36]
  if head[:4] in (b'RIFF', b'RF64', b'RIFX', b'riff'):
    return 'WAV'
  if head[:4] == b'fLaC' or head[28:33] == b'\x7fFLAC':
    return 'FLAC'
  if head[:4] == b'OggS':
    return 'Ogg Vorbis' if head[28:35] == b'\x01vorbis' else 'Ogg'
  if data[:3] == b'ID3' or _is_mp3_header(head):
    return 'MP3'
  return 'other'


def _id3_size(data: bytes) -> int:
  """Bytes of the ID3v2 tag in front, which both MP3 and FLAC may carry."""
  if data[:3] != b'ID3' or len(data) < 10:
    return 0
  a, b, c, d = data[6:10]
  return 10 + (a << 21 | b << 14 | c << 7 | d)


def _is_mp3_header(head: bytes) -> bool:
  """Sync word, a valid version, layer III, bit rate and sample rate."""
  if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
    return False
  return head[1] & 0x18 != 0x08 and head[2] >> 4 != 15 and head[2] & 12 != 12


def _read(
  kind: str, data: bytes, name: str, verify: bool
) -> tuple[np.ndarray, int]:
  """Returns float32 [samples, channels] and the rate in Hz."""
  if kind.startswith('Ogg'):
    _check_last_page(data, name)
  try:
    if kind == 'FLAC':
      return _read_flac(data, name, verify)
    if kind == 'WAV':
      return _read_wav(data, name)
    if kind == 'MP3':
      return _to_array(miniaudio.mp3_read_f32(data))
    if kind == 'Ogg Vorbis':
      return _read_vorbis(data)
  except miniaudio.DecodeError:
    pass  # soundfile knows more encodings; its error is the one to report
  return _read_soundfile(kind, data, name)


def _read_soundfile(
  kind: str, data: bytes, name: str
) -> tuple[np.ndarray, int]:
  try:
    with soundfile.SoundFile(io.BytesIO(data)) as file:
      declared = len(file)
      # Some codecs (GSM) cannot seek, and then want the length named.
      frames = -1 if file.seekable() else declared
      wave = file.read(frames, dtype='float32', always_2d=True)
      rate = file.samplerate
  except (soundfile.SoundFileError, ValueError) as error:
    what = 'not audio' if kind == 'other' else f'a damaged {kind} file'
    raise AudioError(
      f'{name}: {what} (starts with {data[:16]!r}); expected {_EXPECTED}'
    ) from error
  if kind == 'FLAC':
    _check_length(len(wave), declared, kind, name)
  return wave, rate


def _read_flac(data: bytes, name: str, verify: bool) -> tuple[np.ndarray, int]:
  """Decodes straight into numpy: a third faster than miniaudio's own reader.

  A frame with a wrong checksum is left out by the decoder, so a short count
  means damage as well as a cut.
  """
  ffi, lib = miniaudio.ffi, miniaudio.lib
  encoded = ffi.from_buffer(data)
  flac = lib.ma_dr_flac_open_memory(encoded, len(data), ffi.NULL)
  if not flac:
    raise miniaudio.DecodeError('not a FLAC stream')
  try:
    declared, channels = flac.totalPCMFrameCount, flac.channels
    rate, bits = flac.sampleRate, flac.bitsPerSample
    if not declared:  # written to a pipe: the header does not know the length
      return _to_array(miniaudio.flac_read_f32(data))
    # Before memory is asked for: a frame is at most 65,535 samples and at
    # least 11 bytes, so a damaged header cannot ask for more than this.
    if declared > len(data) * 6_000:
      raise AudioError(f'{name}: damaged FLAC header ({declared} samples)')
    wave = np.empty((declared, channels), np.int32)
    pointer = ffi.cast('ma_dr_flac_int32 *', ffi.from_buffer(wave))
    count = lib.ma_dr_flac_read_pcm_frames_s32(flac, declared, pointer)
  finally:
    lib.ma_dr_flac_close(flac)
  _check_length(count, declared, 'FLAC', name)
  if verify:
    _check_md5(data, wave, bits, name)
  scale = np.float32(2**-31)
  return np.multiply(wave, scale, dtype=np.float32, casting='unsafe'), rate


def _check_md5(data: bytes, wave: np.ndarray, bits: int, name: str) -> None:
  """Compares the samples with STREAMINFO's MD5 (16 zero bytes: none)."""
  start = _id3_size(data)
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


def _read_wav(data: bytes, name: str) -> tuple[np.ndarray, int]:
  _check_wav_size(data, name)
  info = miniaudio.wav_get_info(data)
  if info.sample_format == miniaudio.SampleFormat.UNSIGNED8:
    # dr_wav's float path puts 8 bit silence (128) at +0.004; 16 bit is exact.
    wave, rate = _to_array(miniaudio.wav_read_s16(data), np.int16)
    return wave.astype(np.float32) * np.float32(2**-15), rate
  return _to_array(miniaudio.wav_read_f32(data))


def _check_wav_size(data: bytes, name: str) -> None:
  """Walks the chunks to 'data' and compares its size with what is there."""
  if data[:4] != b'RIFF':
    return
  start = 12
  while start + 8 <= len(data):
    tag, size = struct.unpack_from('<4sI', data, start)
    start += 8
    if tag == b'data':
      # Writers to a pipe put the largest size they can: it means 'to the end'.
      if size < 0x7FFF0000:
        _check_length(len(data) - start, size, 'WAV', name, 'bytes')
      return
    start += size + size % 2


def _read_vorbis(data: bytes) -> tuple[np.ndarray, int]:
  """Asks for the file's own channels and rate, so nothing is converted."""
  info = miniaudio.vorbis_get_info(data)
  float32 = miniaudio.SampleFormat.FLOAT32
  return _to_array(
    miniaudio.decode(data, float32, info.nchannels, info.sample_rate)
  )


def _check_last_page(data: bytes, name: str) -> None:
  """Compares the last Ogg page with the size its segment table gives."""
  page = data[data.rfind(b'OggS') :]
  segments = page[26] if len(page) > 26 else 255
  size = 27 + segments + sum(page[27 : 27 + segments])
  _check_length(len(page), size, 'Ogg', name, 'bytes of its last page')


def _to_array(
  sound: miniaudio.DecodedSoundFile, dtype: type = np.float32
) -> tuple[np.ndarray, int]:
  wave = np.frombuffer(sound.samples, dtype).reshape(-1, sound.nchannels)
  return wave, sound.sample_rate


def _check_length(
  found: int, declared: int, kind: str, name: str, unit: str = 'samples'
) -> None:
  if found < declared:
    raise AudioError(
      f'{name}: truncated or damaged {kind}'
      f' ({found} of {declared} {unit} are there)'
    )


def _check_samples(wave: np.ndarray, name: str) -> None:
  peak = max(float(wave.max()), -float(wave.min()))  # NaN stays NaN
  if not np.isfinite(peak):
    raise AudioError(f'{name}: holds samples that are not finite numbers')
  if peak > _PEAK:
    raise AudioError(
      f'{name}: samples reach {peak:g}, expected full scale 1.0'
      ' (integers written as floats?)'
    )
