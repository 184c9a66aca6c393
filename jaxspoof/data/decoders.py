"""The containers behind `audio.decode`: which one it is, and its samples.

WAV, FLAC, MP3 and Ogg Vorbis go through miniaudio (it reads FLACs that
libsndfile 1.2.2 rejects, and is faster); everything else, and what miniaudio
refuses, goes through soundfile (Opus, AIFF, AU, NIST SPHERE, GSM in WAV ...).
Neither is asked to convert anything: rate, channels and precision are the
file's own.
"""

import hashlib
import io
import struct

import miniaudio
import numpy as np
import soundfile

EXPECTED = 'WAV, FLAC, MP3, Ogg Vorbis or Opus audio'


class AudioError(ValueError):
  """Audio that cannot be used; the message names the file and the reason."""


def sniff(data: bytes) -> str:
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


def suffix(data: bytes) -> str:
  """The suffix of a file with these bytes, such as '.wav'; '' if unknown."""
  kinds = {'WAV': '.wav', 'FLAC': '.flac', 'MP3': '.mp3', 'other': ''}
  return kinds.get(sniff(data), '.ogg')


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


def read(
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


def length(kind: str, data: bytes, name: str) -> tuple[int, int]:
  """Samples and rate in Hz from the header, decoding only where it is silent.

  Of lossy codecs the number of samples is an estimate.
  """
  readers = {
    'WAV': miniaudio.wav_get_info,
    'FLAC': miniaudio.flac_get_info,
    'MP3': miniaudio.mp3_get_info,
    'Ogg Vorbis': miniaudio.vorbis_get_info,
  }
  try:
    info = readers[kind](data)
    if info.num_frames > 0:
      return info.num_frames, info.sample_rate
  except (KeyError, miniaudio.DecodeError):
    pass
  wave, rate = read(kind, data, name, verify=False)
  return len(wave), rate


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
      f'{name}: {what} (starts with {data[:16]!r}); expected {EXPECTED}'
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
