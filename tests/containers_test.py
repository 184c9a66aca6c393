"""What a file holds is read whole or refused: joined, cut, lying, foreign."""

import io
import os
import struct
import threading
import zlib

import numpy as np
import pytest
import soundfile

from jaxspoof import audio
from jaxspoof.audio import containers, decoders

RATE = 16_000


def speech(seconds=0.5, rate=RATE, seed=0, channels=1):
  """Noise under a slow envelope: no two frames of it are alike."""
  rng = np.random.default_rng(seed)
  count = int(seconds * rate)
  envelope = 0.5 + 0.4 * np.sin(np.arange(count) / 500)
  wave = 0.2 * envelope[:, None] * rng.standard_normal((count, channels))
  return wave.astype(np.float32)


def encode(wave, container, subtype, rate=RATE, **options):
  file = io.BytesIO()
  soundfile.write(
    file, wave, rate, format=container, subtype=subtype, **options
  )
  return file.getvalue()


ENCODINGS = {
  'wav': ('WAV', 'PCM_16'),
  'rf64': ('RF64', 'PCM_16'),
  'w64': ('W64', 'PCM_16'),
  'aiff': ('AIFF', 'PCM_16'),
  'au': ('AU', 'PCM_16'),
  'caf': ('CAF', 'PCM_16'),
  'sphere': ('NIST', 'PCM_16'),
  'flac': ('FLAC', 'PCM_16'),
  'mp3': ('MP3', 'MPEG_LAYER_III'),
  'vorbis': ('OGG', 'VORBIS'),
  'opus': ('OGG', 'OPUS'),
}


def encoded(name, wave=None, rate=RATE):
  """A clip in one of the containers, and in two that soundfile cannot write."""
  wave = speech(rate=rate) if wave is None else wave
  if name == 'rifx':
    return encode(wave, 'WAV', 'PCM_16', rate, endian='BIG')
  if name == 'ogg_flac':
    return ogg_flac(encode(wave, 'FLAC', 'PCM_16', rate))
  return encode(wave, *ENCODINGS[name], rate)


KINDS = (*ENCODINGS, 'rifx', 'ogg_flac')


def ogg_flac(flac):
  """Puts a native FLAC into Ogg pages."""
  head, frames = flac[:42], flac[flac.index(b'\xff\xf8') :]
  first = b'\x7fFLAC\x01\x00\x00\x01' + head[:4] + b'\0' + head[5:]
  comment = b'\x84' + struct.pack('>I', 8)[1:] + bytes(8)
  packets = [first, comment]
  packets += [frames[i : i + 4000] for i in range(0, len(frames), 4000)]
  pages = []
  for number, packet in enumerate(packets):
    flags = 2 * (number == 0) + 4 * (number == len(packets) - 1)
    lacing = bytes([255] * (len(packet) // 255) + [len(packet) % 255])
    page = bytearray(
      struct.pack('<4sBBqIIIB', b'OggS', 0, flags, 0, 7, number, 0, len(lacing))
      + lacing
      + packet
    )
    page[22:26] = struct.pack('<I', ogg_checksum(page))
    pages.append(bytes(page))
  return b''.join(pages)


def ogg_checksum(page):
  """CRC-32 of Ogg: not reflected, neither begun nor ended with ones."""
  flip = bytes(int(f'{n:08b}'[::-1], 2) for n in range(256))
  # zlib's, of bytes with their bits turned round, without its two inversions.
  crc = zlib.crc32(bytes(page).translate(flip), 0xFFFFFFFF) ^ 0xFFFFFFFF
  return int(f'{crc:032b}'[::-1], 2)


# -------------------------------------------------------- whole or refused ---
@pytest.mark.parametrize('kind', KINDS)
def test_whole_files_are_read_without_a_word(kind):
  data = encoded(kind)
  found = decoders.read(data, 'clip')
  assert (found.wave.shape, found.rate, found.total) == (
    (8_000, 1),
    RATE,
    8_000,
  )
  assert found.warnings == ()
  assert np.corrcoef(found.wave[:, 0], speech()[:, 0])[0, 1] > 0.85
  assert containers.sniff(data[:36]) not in ('other', 'Ogg')
  assert audio.length(data, 'clip') == pytest.approx(8_000, abs=1_200)


@pytest.mark.parametrize('kind', KINDS)
def test_files_cut_at_40_percent_are_errors(kind):
  data = encoded(kind, speech(2.0))
  for seconds in (None, 0.3):  # what is scored may all be there
    with pytest.raises(audio.AudioError, match='clip: truncated or damaged'):
      decoders.read(data[: len(data) * 2 // 5], 'clip', seconds=seconds)


@pytest.mark.parametrize('kind', ['vorbis', 'opus', 'ogg_flac'])
def test_an_ogg_cut_between_pages_has_a_warning_or_is_an_error(kind):
  data = encoded(kind, speech(3.0))
  pages = list(containers.ogg_pages(data, 'clip'))
  cut = data[: pages[-2].end]
  if kind == 'ogg_flac':
    with pytest.raises(audio.AudioError, match='truncated or damaged Ogg FLAC'):
      decoders.read(cut, 'clip')
  else:  # recorders of streams leave such files
    (warning,) = decoders.read(cut, 'clip').warnings
    assert 'without the mark of an end' in warning


@pytest.mark.parametrize('kind', KINDS)
def test_joined_files_are_read_to_the_end(kind):
  """`cat a b > c`; decoders stop after the first."""
  parts = [encoded(kind, speech(0.5, seed=seed)) for seed in (1, 2, 3)]
  found = decoders.read(b''.join(parts), 'clip')
  alone = [decoders.read(part, 'clip') for part in parts]
  np.testing.assert_array_equal(
    found.wave, np.concatenate([one.wave for one in alone])
  )
  assert found.total == 24_000
  assert '3 ' in found.warnings[0] and 'joined' in found.warnings[0]
  # Of a part that ends in the second stream, no more is decoded.
  part = decoders.read(b''.join(parts), 'clip', seconds=0.75)
  np.testing.assert_array_equal(part.wave, found.wave[:12_000])
  assert abs(part.total - 24_000) <= 1_152


@pytest.mark.parametrize('kind', ['wav', 'flac', 'mp3', 'vorbis', 'opus'])
def test_joined_files_of_two_rates_are_refused(kind):
  data = encoded(kind) + encoded(kind, rate=48_000)
  with pytest.raises(
    audio.AudioError, match='2 .* joined .*16000 Hz.* and 48000 Hz'
  ):
    decoders.read(data, 'clip')


def test_two_rates_of_mp3_without_info_frames():
  """As encoders of streams write them: nothing but frames."""
  parts = []
  for rate in (16_000, 44_100):
    data = encoded('mp3', rate=rate)
    (_, second, *_) = containers.mp3_frames(data)
    parts.append(data[second[0] :])
  with pytest.raises(audio.AudioError, match='16000 Hz.* and 44100 Hz'):
    decoders.read(b''.join(parts), 'clip')
  bare = decoders.read(parts[0], 'clip')
  assert bare.rate == 16_000 and bare.warnings == ()


# ---------------------------------------------------- only what is wanted ---
@pytest.mark.parametrize('rate', [16_000, 44_100])
@pytest.mark.parametrize('kind', KINDS)
def test_the_beginning_has_the_bits_of_the_whole(kind, rate):
  if kind == 'opus' and rate == 44_100:
    rate = 48_000
  data = encoded(kind, speech(3.0, rate), rate)
  whole = audio.load(data)
  part = audio.read(data, samples=12_345)
  np.testing.assert_array_equal(part.wave, whole[:12_345])
  assert part.seconds == pytest.approx(3.0, abs=0.1)


def test_the_beginning_of_a_long_file_costs_no_more(tmp_path):
  """Two hours of stereo: a file with a hole, of which 2 s are looked at."""
  wave = speech(5.0, 48_000, channels=2)
  data = encode(wave, 'WAV', 'PCM_16', 48_000)
  at = data.index(b'data') + 4
  size = 7200 * 48_000 * 4
  path = tmp_path / 'meeting.wav'
  path.write_bytes(
    data[:4]
    + struct.pack('<I', size + at - 4)
    + data[8:at]
    + struct.pack('<I', size)
    + data[at + 4 :]
  )
  os.truncate(path, at + 4 + size)
  clip = audio.read(path, samples=32_000)
  assert clip.seconds == 7200
  np.testing.assert_array_equal(clip.wave, audio.load(data)[:32_000])


@pytest.mark.parametrize('declared', [True, False])
def test_damage_in_the_beginning_of_a_flac_is_found(declared):
  """A frame that is left out would shift what follows."""
  data = bytearray(encoded('flac', speech(3.0)))
  if not declared:  # written to a pipe, and without the MD5
    data[21] &= 0xF0
    data[22:42] = bytes(20)
  whole = decoders.read(bytes(data), 'clip').wave
  rng = np.random.default_rng(0)
  start = data.index(b'\xff\xf8')
  found = 0
  for position in rng.integers(start, len(data) // 2, 40):
    damaged = bytearray(data)
    damaged[position] ^= 1 << rng.integers(8)
    try:
      wave = decoders.read(bytes(damaged), 'clip', seconds=1.0).wave
    except audio.AudioError:
      found += 1
    else:
      np.testing.assert_array_equal(wave, whole[:16_000])
  assert found > 10


# ------------------------------------------------------------- sizes lie ---
def wav(samples=8_000, size=None, riff=None):
  data = encode(speech()[:samples], 'WAV', 'PCM_16')
  if size is not None:
    data = data[:40] + struct.pack('<I', size) + data[44:]
  if riff is not None:
    data = data[:4] + struct.pack('<I', riff) + data[8:]
  return data


@pytest.mark.parametrize(
  ('data', 'warning'),
  [
    (wav(size=0, riff=0), 'says 0 bytes of samples'),
    (wav(size=16_044, riff=16_080), '44 bytes of samples more than there are'),
  ],
)
def test_sizes_that_players_forgive_have_a_warning(data, warning):
  found = decoders.read(data, 'clip')
  np.testing.assert_array_equal(found.wave, decoders.read(wav(), '').wave)
  assert warning in found.warnings[0]


def test_an_empty_wav_with_a_tag_behind_is_still_empty():
  data = wav()[:40] + struct.pack('<I', 0) + b'LIST' + struct.pack('<I', 4)
  with pytest.raises(audio.AudioError, match='holds no samples'):
    audio.decode(data + b'INFO', 'clip')


# ----------------------------------------------- what no decoder can read ---
def foreign_wav(tag, bits):
  data = bytearray(wav())
  struct.pack_into('<H', data, 20, tag)
  struct.pack_into('<IHH', data, 28, RATE * bits // 8, bits // 8, bits)
  return bytes(data)


@pytest.mark.parametrize(
  ('tag', 'bits', 'words'),
  [
    (3, 16, '16-bit float'),  # decoded to zeros once
    (1, 64, '64-bit integer'),  # an error that was none of ours once
    (0x161, 16, '16-bit format 0x161'),
  ],
)
def test_sample_formats_that_no_decoder_knows_are_named(tag, bits, words):
  with pytest.raises(audio.AudioError, match=f'clip: .*{words}.*not supported'):
    audio.decode(foreign_wav(tag, bits), 'clip')


@pytest.mark.parametrize(
  ('head', 'words'),
  [
    (b'\0\0\0\x1cftypM4A \0\0\2\0', 'MP4'),
    (b'#!AMR\n\4\1', 'AMR'),
    (b'\x1a\x45\xdf\xa3\x9fB\x86\x81', 'WebM'),
    (b'\xff\xf1\x50\x80', 'AAC'),
    (b'OggS\0\2' + bytes(20) + b'\1\x1eSpeex   ', 'Ogg without'),
  ],
)
def test_recordings_of_other_kinds_are_named(monkeypatch, head, words):
  monkeypatch.setattr(audio.decoders.media, 'available', lambda: False)
  expected = f'clip: {words}.*needs the package av.*ffmpeg -i IN OUT.wav'
  with pytest.raises(audio.AudioError, match=expected):
    audio.decode(head + bytes(100), 'clip')


# ------------------------------------------------- channels, files, folders ---
@pytest.mark.parametrize(
  ('gains', 'loudest'), [((1, -1), 0), ((0, 0, 1, 0, 0, 0), 2)]
)
def test_channels_that_cancel_or_are_silent(gains, loudest):
  mono = speech()
  data = encode(mono * np.float32(gains), 'WAV', 'FLOAT')
  clip = audio.read(data)
  np.testing.assert_array_equal(clip.wave, mono[:, 0])
  assert f'channel {loudest + 1} alone is taken' in clip.warnings[0]


@pytest.mark.parametrize('gains', [(1, 0), (1, 1), (1, 0.5, -0.5)])
def test_other_channels_are_averaged_without_a_word(gains):
  data = encode(speech() * np.float32(gains), 'WAV', 'FLOAT')
  clip = audio.read(data)
  expected = speech()[:, 0] * np.float32(np.mean(gains))
  np.testing.assert_allclose(clip.wave, expected, atol=1e-6)
  assert clip.warnings == ()


def test_every_file_below_a_folder_is_found_once(tmp_path):
  inside, elsewhere = tmp_path / 'in', tmp_path / 'elsewhere'
  for name in ('in/a.flac', 'in/b.M4A', 'in/c.amr', 'elsewhere/d.wav'):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b'x')
  (inside / 'notes.txt').write_text('words')
  (inside / 'no_suffix').write_bytes(encoded('aiff'))
  (inside / '.hidden.wav').touch()
  os.mkfifo(inside / 'pipe')
  for name, target in (
    ('speaker_2', elsewhere),
    ('again', elsewhere),
    ('loop', inside),
    ('gone', tmp_path / 'nowhere'),
  ):
    (inside / name).symlink_to(target)
  found = audio.find(inside)
  names = [os.path.relpath(path, inside) for path in found.files]
  assert names == ['a.flac', 'again/d.wav', 'b.M4A', 'c.amr', 'no_suffix']
  assert [os.path.basename(path) for path in found.others] == ['notes.txt']
  reasons = {os.path.basename(path): why for path, why in found.problems}
  assert 'neither a file nor a folder' in reasons.pop('pipe')
  assert 'cannot be read (No such file' in reasons.pop('gone')
  assert not reasons


def test_a_folder_that_cannot_be_searched_is_a_problem(tmp_path, monkeypatch):
  """Root can search everything, so that the system has to be played."""
  (tmp_path / 'locked').mkdir()
  (tmp_path / 'a.wav').touch()
  scan = os.scandir

  def refuse(folder):
    if str(folder).endswith('locked'):
      raise PermissionError(13, 'Permission denied')
    return scan(folder)

  monkeypatch.setattr(os, 'scandir', refuse)
  found = audio.find(tmp_path)
  assert found.files == [str(tmp_path / 'a.wav')]
  ((path, why),) = found.problems
  assert path == str(tmp_path / 'locked')
  assert why == f'{path}: cannot be searched (Permission denied)'


def test_pipes_are_read_and_never_waited_for_in_vain(tmp_path, monkeypatch):
  path = tmp_path / 'pipe.wav'
  os.mkfifo(path)
  monkeypatch.setattr(audio, '_PIPE_WAIT', 0.2)
  with pytest.raises(audio.AudioError, match='empty|nobody has written'):
    audio.load(path)
  monkeypatch.setattr(audio, '_PIPE_WAIT', 10)
  writer = threading.Thread(target=path.write_bytes, args=(wav(),))
  writer.start()
  np.testing.assert_array_equal(audio.load(path), audio.load(wav()))
  writer.join()


# ------------------------------------------------------------------- fuzz ---
LIES = (b'\0\0\0\0', b'\0\0\0\1', b'\x7f\xff\xff\xff', b'\xff\xff\xff\xff')


def damaged(whole, rng):
  """The clip with a few bytes of its header changed, left out or cut off."""
  data = bytearray(whole)
  for _ in range(rng.integers(1, 4)):
    at = int(rng.integers(min(len(data), 200)))
    match rng.choice(4, p=(0.5, 0.3, 0.15, 0.05)):
      case 0:
        data[at] = rng.integers(256)
      case 1:
        data[at : at + 4] = LIES[rng.integers(4)]
      case 2:
        del data[at : at + int(rng.integers(1, 9))]
      case 3:
        del data[int(rng.integers(20, len(data) + 20)) :]
  return bytes(data)


def resealed(data):
  """The checksums of an Ogg made right: else its decoder looks at nothing."""
  data = bytearray(data)
  try:
    for page in containers.ogg_pages(bytes(data), ''):
      data[page.start + 22 : page.start + 26] = bytes(4)
      checksum = ogg_checksum(data[page.start : page.end])
      data[page.start + 22 : page.start + 26] = struct.pack('<I', checksum)
  except audio.AudioError:
    pass
  return bytes(data)


@pytest.mark.parametrize('kind', KINDS)
def test_damaged_headers_give_samples_or_an_error(kind):
  """Never a crash, another exception, or memory that the file cannot fill."""
  rng = np.random.default_rng(sum(map(ord, kind)))
  whole = encoded(kind, speech(0.1))
  outcomes = {'read': 0, 'refused': 0}
  for number in range(50):
    data = damaged(whole, rng)
    if kind in ('vorbis', 'opus', 'ogg_flac'):
      data = resealed(data)
    try:
      clip = audio.read(data, 'clip', samples=None if number % 2 else 800)
    except ValueError as error:
      assert str(error).startswith('clip: ')
      outcomes['refused'] += 1
    else:
      assert clip.wave.ndim == 1 and np.isfinite(clip.wave).all()
      assert 0 < len(clip.wave) < 100 * len(whole)
      outcomes['read'] += 1
  assert all(outcomes.values()), outcomes
