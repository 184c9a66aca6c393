"""What a FLAC file says about itself, and whether it is true."""

import dataclasses
import hashlib

import miniaudio

_HEADER = 42  # marker, block header, STREAMINFO


@dataclasses.dataclass(frozen=True)
class StreamInfo:
  """The STREAMINFO block (RFC 9639, section 8.2).

  Attributes:
    rate: samples per second.
    channels: number of channels, 1 to 8.
    bits: bits per sample.
    samples: samples per channel, 0 if the file does not say.
    md5: checksum of the decoded samples, zero bytes if the file does not say.
  """

  rate: int
  channels: int
  bits: int
  samples: int
  md5: bytes


def stream_info(data: bytes, name: str) -> StreamInfo:
  """Reads the header of a FLAC file.

  Raises:
    ValueError: `data` is not a FLAC file; the message begins with `name`.
  """
  if data[:4] != b'fLaC' or len(data) < _HEADER:
    raise ValueError(f'{name}: expected a FLAC file, got {data[:4]!r}...')
  packed = int.from_bytes(data[18:26], 'big')
  return StreamInfo(
    rate=packed >> 44,
    channels=(packed >> 41 & 0b111) + 1,
    bits=(packed >> 36 & 0b11111) + 1,
    samples=packed & (1 << 36) - 1,
    md5=data[26:42],
  )


def verify(data: bytes, name: str) -> StreamInfo:
  """Decodes a 16-bit FLAC file and compares with the checksum inside it.

  Returns:
    Its stream info.

  Raises:
    ValueError: not a 16-bit FLAC file, damaged, or with no checksum.
  """
  info = stream_info(data, name)
  if info.bits != 16 or not any(info.md5):
    raise ValueError(f'{name}: expected 16 bits and an MD5, got {info}')
  try:
    samples = miniaudio.flac_read_s16(data).samples
  except miniaudio.DecodeError as error:
    raise ValueError(f'{name}: the FLAC file does not decode') from error
  if hashlib.md5(samples.tobytes()).digest() != info.md5:
    raise ValueError(
      f'{name}: the decoded samples differ from the MD5 in the FLAC header; '
      'expected an undamaged file'
    )
  return info
