"""What the bytes of an audio file say of themselves, before any decoding.

Decoders read what they can and stop without a word at whatever they do not
expect: at the end of a file that was cut, at the second of two files that were
joined, at a size that nobody filled in. What a file should hold is therefore
read here, from its container, and compared with what is there.
"""

import itertools
import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

EXPECTED = (
  'WAV, FLAC, MP3, Ogg (Vorbis, Opus or FLAC), AIFF, AU, CAF, W64 or NIST '
  'SPHERE audio'
)
WITH_CHUNKS = ('WAV', 'W64', 'AIFF', 'AU', 'CAF', 'NIST SPHERE')

# Formats that are known by their first bytes and decoded by `media`: a pattern,
# what it is called, and FFmpeg's name of it.
_MEDIA = (
  (rb'.{4}ftyp', 'MP4 (AAC, ALAC)', 'mov'),
  (rb'.{4}(moov|mdat|wide|free|skip)', 'QuickTime', 'mov'),
  (rb'#!AMR', 'AMR', 'amr'),
  (rb'\x1a\x45\xdf\xa3', 'WebM or Matroska', 'matroska'),
  (rb'\x30\x26\xb2\x75\x8e\x66\xcf\x11', 'WMA', 'asf'),
  (rb'\xff[\xf0\xf1\xf8\xf9]', 'AAC', 'aac'),
  (
    rb'\xff[\xe2-\xe7\xf2-\xf7\xfa-\xff]',
    'free-format or layer II MPEG audio',
    'mp3',
  ),
  (rb'\x0b\x77', 'AC-3', 'ac3'),
  (rb'MAC ', 'APE', 'ape'),
  (rb'wvpk', 'WavPack', 'wv'),
  (rb'Creative Voice', 'VOC', 'voc'),
  (rb'RIFF.{4}AVI ', 'AVI', 'avi'),
  (rb'FLV\x01', 'FLV', 'flv'),
  (rb'\x00\x00\x01\xba', 'MPEG program stream', 'mpeg'),
)
# Sizes of 32 bits that writers to a pipe put in place of one they cannot know.
_UNKNOWN_SIZES = (range(0x7FFF0000, 0x80000000), range(0xFFFF0000, 1 << 32))
_W64_CHUNK = b'\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a'


class AudioError(ValueError):
  """Audio that cannot be used; the message names the file and the reason."""


# ---------------------------------------------------------------- which one ---
def sniff(data: bytes) -> str:
  """Names the container by its first bytes; 'other' is none of `EXPECTED`."""
  start = id3_size(data)
  head = data[start : start + 36]
  if head[:4] in (b'RIFF', b'RF64', b'RIFX') and head[8:12] != b'AVI ':
    return 'WAV'
  if head[:16] == b'riff' + b'\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\0\0':
    return 'W64'
  if head[:4] == b'FORM' and head[8:12] in (b'AIFF', b'AIFC'):
    return 'AIFF'
  if head[:4] == b'fLaC':
    return 'FLAC'
  if head[:4] == b'OggS':
    return _sniff_ogg(head)
  if head[:4] in (b'.snd', b'dns.'):
    return 'AU'
  if head[:4] == b'caff':
    return 'CAF'
  if head[:7] == b'NIST_1A':
    return 'NIST SPHERE'
  if data[:3] == b'ID3' or _mp3_frame(head):
    return 'MP3'
  return 'other'


def _sniff_ogg(head: bytes) -> str:
  """Tells what an Ogg holds by the codec's mark in its first packet."""
  if head[28:35] == b'\x01vorbis':
    return 'Ogg Vorbis'
  if head[28:36] == b'OpusHead':
    return 'Ogg Opus'
  return 'Ogg FLAC' if head[28:33] == b'\x7fFLAC' else 'Ogg'


def suffix(data: bytes) -> str:
  """The suffix of a file with these bytes, such as '.wav'; '' if unknown."""
  kinds = {
    'WAV': '.wav',
    'W64': '.w64',
    'AIFF': '.aiff',
    'AU': '.au',
    'CAF': '.caf',
    'NIST SPHERE': '.sph',
    'FLAC': '.flac',
    'MP3': '.mp3',
    'other': '',
  }
  return kinds.get(sniff(data), '.ogg')


def media(data: bytes) -> tuple[str, str] | None:
  """What a file is that `audio.media` decodes, and FFmpeg's name of it."""
  kind = sniff(data)
  if kind == 'Ogg':
    return 'Ogg without Vorbis, Opus or FLAC', 'ogg'
  if kind != 'other':
    return None
  for pattern, name, demuxer in _MEDIA:
    if re.match(pattern, data[:32], re.DOTALL):
      return name, demuxer
  return None


def is_audio(head: bytes) -> bool:
  """Whether a file that begins with these bytes is some kind of recording."""
  return sniff(head) != 'other' or media(head) is not None


def id3_size(data: bytes) -> int:
  """Bytes of the ID3v2 tag in front, which both MP3 and FLAC may carry."""
  if data[:3] != b'ID3' or len(data) < 10:
    return 0
  a, b, c, d = data[6:10]
  return 10 + (a << 21 | b << 14 | c << 7 | d)


# -------------------------------------------------------- chunks with sizes ---
class Samples(NamedTuple):
  """Where a container says that its samples are.

  Attributes:
    start: first byte of the samples.
    size: bytes that the header declares; None where it does not know.
    field: (first byte, format for struct) of the size itself.
    end: where this file ends by its own account, and another may begin.
  """

  start: int
  size: int | None
  field: tuple[int, str]
  end: int


def samples_of(kind: str, data: bytes) -> Samples | None:
  """Looks for the samples of a container in `WITH_CHUNKS`; None: not found."""
  try:
    if kind == 'AU':
      return _au(data)
    if kind == 'NIST SPHERE':
      return _sphere(data)
    return _chunked(kind, data)
  except (struct.error, ValueError):  # the header itself is cut or no header
    return None


def _chunked(kind: str, data: bytes) -> Samples | None:
  """Walks the chunks of WAV, RIFX, RF64, W64, AIFF and CAF to the samples."""
  order = '>' if data[:4] in (b'RIFX', b'FORM', b'caff') else '<'
  tag_bytes, size_format, align, first = {
    'W64': (16, 'Q', 8, 40),
    'CAF': (4, 'Q', 1, 8),
  }.get(kind, (4, 'I', 2, 12))
  wanted = {'AIFF': b'SSND', 'W64': b'data' + _W64_CHUNK}.get(kind, b'data')
  size_format = order + size_format
  header, end = tag_bytes + struct.calcsize(size_format), len(data)
  if kind in ('WAV', 'AIFF'):
    end = 8 + struct.unpack_from(order + 'I', data, 4)[0]
  elif kind == 'W64':
    end = struct.unpack_from('<Q', data, 16)[0]
  start, long_size = first, None
  while start + header <= len(data):
    tag = data[start : start + tag_bytes]
    field = (start + tag_bytes, size_format)
    (size,) = struct.unpack_from(size_format, data, start + tag_bytes)
    start += header
    if kind == 'W64':  # counts its header too
      size -= header
    if tag == b'ds64' and data[:4] == b'RF64':
      riff, long_size = struct.unpack_from('<QQ', data, start)
      end = 8 + riff
    elif tag == wanted:
      if long_size is not None and size == 0xFFFFFFFF:
        size, field = long_size, None
      known = _known(size, size_format)
      if kind == 'CAF' and known is not None:  # says nothing of the whole file
        end = start + known
      return Samples(start, known, field, end)
    if size < 0 or tag == wanted:
      return None
    start += size + -size % align
  return None


def _known(size: int, size_format: str) -> int | None:
  """A size, or None for the marks of 'up to the end'."""
  if size_format[1] == 'Q':
    return size if 0 <= size < 1 << 62 else None
  return None if any(size in sizes for sizes in _UNKNOWN_SIZES) else size


def _au(data: bytes) -> Samples:
  order = '>' if data[:4] == b'.snd' else '<'
  start, size = struct.unpack_from(order + 'II', data, 4)
  known = _known(size, order + 'I')
  end = len(data) if known is None else start + size
  return Samples(start, known, (8, order + 'I'), end)


def _sphere(data: bytes) -> Samples:
  start = int(data[8:16])
  header = data[:start]
  size = 1
  for name in (b'sample_count', b'sample_n_bytes', b'channel_count'):
    found = re.search(rb'\n' + name + rb' -i (\d{1,12})\n', header)
    if found is None:  # compressed ones do without
      return Samples(start, None, None, len(data))
    size *= int(found[1])
  return Samples(start, size, None, start + size)


def is_chunk_list(data: bytes, start: int) -> bool:
  """Whether there are whole RIFF chunks from here to the end of the file."""
  while start < len(data):
    if not re.fullmatch(rb'[ -~]{4}', data[start : start + 4]):
      return False
    if start + 8 > len(data):
      return False
    (size,) = struct.unpack_from('<I', data, start + 4)
    start += 8 + size + size % 2
  return start - len(data) in (0, 1)


def wav_encoding(data: bytes) -> str:
  """The sample format of a WAV in words, such as '16-bit float'."""
  at = data[:4096].find(b'fmt ')
  if at < 0 or len(data) < at + 24:
    return 'unknown'
  order = '>' if data[:4] == b'RIFX' else '<'
  tag, bits = (
    struct.unpack_from(order + 'H', data, at + 8 + offset)[0]
    for offset in (0, 14)
  )
  if tag == 0xFFFE and len(data) >= at + 34:  # WAVE_FORMAT_EXTENSIBLE
    (tag,) = struct.unpack_from(order + 'H', data, at + 32)
  names = {1: 'integer', 3: 'float', 6: 'A-law', 7: 'mu-law', 0x55: 'MP3'}
  return f'{bits}-bit {names.get(tag, f"format {tag:#x}")}'


# ------------------------------------------------------------- joined files ---
def parts(kind: str, data: bytes, name: str) -> list[tuple[int, int]]:
  """First and last byte + 1 of each stream, where several are in one file.

  Files that were joined by `cat`, recorders that append, and stream recorders
  (chained Ogg) make such files; decoders read the first stream only.

  Raises:
    AudioError: an Ogg that is damaged or cut.
  """
  if kind == 'MP3':
    starts = _mp3_starts(data)
  elif kind.startswith('Ogg'):
    starts = _ogg_starts(data, name)
  elif kind == 'FLAC':
    found = re.finditer(rb'fLaC[\x00\x80]\x00\x00\x22', data)
    starts = [0, *[match.start() for match in found][1:]]
  else:
    starts = _chunk_starts(kind, data)
  return list(itertools.pairwise([*starts, len(data)]))


def _chunk_starts(kind: str, data: bytes) -> list[int]:
  """Where files of the same kind begin that were joined to the first."""
  starts, magic = [0], data[:4]
  while True:
    rest = data if starts == [0] else data[starts[-1] :]
    found = samples_of(kind, rest)
    if found is None or not 0 < found.end < len(rest):
      return starts
    ends = [found.end, found.end + found.end % 2]
    at = [end for end in ends if rest[end : end + 4] == magic]
    if not at:
      return starts
    starts.append(starts[-1] + at[0])


class Page(NamedTuple):
  """One page of an Ogg file."""

  start: int
  end: int
  first: bool  # of its stream
  last: bool  # of its stream
  position: int  # samples up to its end; -1 where no packet ends


def ogg_pages(data: bytes, name: str) -> Iterator[Page]:
  """Yields the pages of an Ogg file.

  Raises:
    AudioError: bytes that are in no page, or a page that is cut.
  """
  start = id3_size(data)
  while start < len(data):
    if data[start : start + 4] != b'OggS':
      if start and data.find(b'OggS', start) < 0 and len(data) - start < 4096:
        return  # a tag at the end
      raise AudioError(f'{name}: damaged Ogg (no page at byte {start})')
    there = len(data) - start
    segments = data[start + 26] if there > 26 else 255
    size = 27 + segments + sum(data[start + 27 : start + 27 + segments])
    if there < size:
      raise AudioError(
        f'{name}: truncated or damaged Ogg ({there} of {size} bytes of its '
        'last page are there)'
      )
    flags, position = struct.unpack_from('<Bq', data, start + 5)
    yield Page(start, start + size, bool(flags & 2), bool(flags & 4), position)
    start += size


def _ogg_starts(data: bytes, name: str) -> list[int]:
  """Where the links of a chained Ogg begin: after a stream with data."""
  starts, carried = [0], False
  for page in ogg_pages(data, name):
    if page.first and carried:
      starts.append(page.start)
    carried = not page.first
  return starts


# ---------------------------------------------------------------------- MP3 ---
_MP3_RATES = {  # Hz, by the two bits of the version
  3: (44_100, 48_000, 32_000),
  2: (22_050, 24_000, 16_000),
  0: (11_025, 12_000, 8_000),
}
_KBIT_1 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBIT_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)


class Mp3Frame(NamedTuple):
  """What the four bytes of a frame's header say."""

  size: int  # bytes
  rate: int  # Hz
  channels: int
  samples: int  # per channel
  info: int  # where an Info frame has its mark


def _mp3_frame(head: bytes) -> Mp3Frame | None:
  """Parses a header of layer III; None where there is none."""
  if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE6 != 0xE2:
    return None
  version, rate, kbit = head[1] >> 3 & 3, head[2] >> 2 & 3, head[2] >> 4
  if version == 1 or rate == 3 or kbit in (0, 15):
    return None
  hertz = _MP3_RATES[version][rate]
  mono = head[3] >> 6 == 3
  if version == 3:
    size = 144_000 * _KBIT_1[kbit - 1] // hertz
    side = 17 if mono else 32
  else:
    size = 72_000 * _KBIT_2[kbit - 1] // hertz
    side = 9 if mono else 17
  return Mp3Frame(
    size + (head[2] >> 1 & 1),
    hertz,
    1 if mono else 2,
    1152 if version == 3 else 576,
    4 + side,
  )


def mp3_frames(data: bytes) -> Iterator[tuple[int, Mp3Frame]]:
  """Yields where each frame starts, and its header.

  A frame counts where another one, a tag or the end of the file follows:
  between frames anything may look like a header.
  """
  start = 0
  while start < len(data) - 3:
    if data[start : start + 3] == b'ID3':
      start += max(id3_size(data[start : start + 10]), 3)
      continue
    frame = _mp3_frame(data[start : start + 4])
    after = start + frame.size if frame else 0
    if frame and (
      after >= len(data) - 3
      or data[after : after + 3] in (b'ID3', b'TAG', b'APE')
      or _mp3_frame(data[after : after + 4])
    ):
      yield start, frame
      start = after
      continue
    start = data.find(b'\xff', start + 1)
    if start < 0:
      return


def mp3_info(data: bytes, start: int, frame: Mp3Frame) -> bytes | None:
  """The mark and content of an Info frame (Xing, LAME); None: another one."""
  at = start + frame.info
  if data[at : at + 4] in (b'Info', b'Xing'):
    return data[at : start + frame.size]
  return None


def _mp3_starts(data: bytes) -> list[int]:
  """Where the MP3 streams begin: at a tag, an Info frame or another rate."""
  starts, before, end = [0], None, 0
  for start, frame in mp3_frames(data):
    if before is not None and (
      (frame.rate, frame.channels) != (before.rate, before.channels)
      or data[end : end + 3] == b'ID3'
      or mp3_info(data, start, frame)
    ):
      # The tag between two streams belongs to the second.
      starts.append(end if data[end : end + 3] == b'ID3' else start)
    before, end = frame, start + frame.size
  return starts
