"""Decoding: formats against soundfile, real clips, and every kind of damage."""

import hashlib
import io
import pickle
import struct

import numpy as np
import pytest
import soundfile

from jaxspoof import audio


def tone(seconds=0.5, rate=16_000, channels=1):
  """A few sines under a slow envelope, at -10 dBFS, and a little noise."""
  rng = np.random.default_rng(0)
  time = np.arange(int(seconds * rate)) / rate
  wave = sum(np.sin(2 * np.pi * f * time + f) for f in (180, 510, 1330)) / 10
  wave = wave * np.sin(np.pi * time / seconds) + rng.normal(0, 1e-3, time.size)
  gains = 1 - 0.5 * np.arange(channels)
  return (wave[:, None] * gains).astype(np.float32)


def encode(wave, container, subtype, rate=16_000):
  file = io.BytesIO()
  soundfile.write(file, wave, rate, format=container, subtype=subtype)
  return file.getvalue()


EXACT = [
  (container, subtype)
  for container in ('WAV', 'WAVEX')
  for subtype in ('PCM_U8 PCM_16 PCM_24 PCM_32 FLOAT DOUBLE ALAW ULAW'.split())
] + [
  ('WAV', 'IMA_ADPCM'),
  ('WAV', 'GSM610'),  # miniaudio has none: soundfile
  ('RF64', 'PCM_16'),
  ('W64', 'PCM_24'),
  ('AIFF', 'PCM_16'),
  ('AU', 'PCM_16'),
  ('NIST', 'PCM_16'),
  ('FLAC', 'PCM_S8'),
  ('FLAC', 'PCM_16'),
  ('FLAC', 'PCM_24'),
]


@pytest.mark.parametrize(('container', 'subtype'), EXACT)
def test_lossless_containers_decode_as_soundfile_decodes_them(
  container, subtype
):
  data = encode(tone(), container, subtype)
  expected, _ = soundfile.read(io.BytesIO(data), dtype='float32')
  wave, rate = audio.decode(data, 'clip')
  assert rate == 16_000
  assert wave.dtype == np.float32
  np.testing.assert_array_equal(wave, expected)


@pytest.mark.parametrize('channels', [1, 2])
@pytest.mark.parametrize(
  ('container', 'subtype'),
  [('MP3', 'MPEG_LAYER_III'), ('OGG', 'VORBIS'), ('OGG', 'OPUS')],
)
def test_lossy_codecs_keep_rate_channels_and_shape(
  container, subtype, channels
):
  rate = 48_000
  wave = tone(rate=rate, channels=channels)
  data = encode(wave, container, subtype, rate)
  decoded, decoded_rate = audio.decode(data, 'clip')
  expected, _ = soundfile.read(io.BytesIO(data), dtype='float32')
  assert decoded_rate == rate
  assert decoded.shape == expected.shape
  np.testing.assert_allclose(decoded, expected, atol=1e-4)
  assert np.corrcoef(decoded.ravel(), wave.ravel())[0, 1] > 0.99


def test_24_bit_flac_keeps_its_low_bits():
  steps = np.arange(-2000, 2000, dtype=np.int32) << 8  # one 24 bit step each
  wave, _ = audio.decode(encode(steps, 'FLAC', 'PCM_24'), 'clip')
  np.testing.assert_array_equal(wave, steps / np.float32(2**31))


def test_8_bit_silence_has_no_offset():
  silence = encode(np.zeros(100, np.float32), 'WAV', 'PCM_U8')
  assert not audio.load(silence).any()


def test_stereo_flac_and_channel_mean():
  wave = tone(channels=2)
  for container in ('WAV', 'FLAC'):
    data = encode(wave, container, 'PCM_16')
    stereo, _ = audio.decode(data, 'clip')
    assert stereo.shape == wave.shape
    mono = audio.load(data)
    np.testing.assert_allclose(mono, stereo.mean(1), atol=1e-7)
    assert mono.dtype == np.float32


@pytest.mark.parametrize('rate', [8_000, 22_050, 44_100, 48_000, 96_000])
def test_other_rates_become_16_khz(rate):
  data = encode(tone(1.0, rate), 'WAV', 'PCM_24', rate)
  wave, expected = audio.load(data), tone(1.0)[:, 0]
  assert abs(len(wave) - len(expected)) <= 1
  inner = slice(800, 15_200)
  error = wave[inner] - expected[inner]
  # The sines must agree; the noise of the two signals is not the same.
  assert np.sqrt(np.mean(error**2)) < 2e-3


def test_resampling_leaves_no_alias():
  rate, time = 48_000, np.arange(48_000) / 48_000
  high = 0.5 * np.sin(2 * np.pi * 10_000 * time)  # would land on 6 kHz
  wave = audio.load(encode(high, 'WAV', 'FLOAT', rate))
  assert np.abs(wave[800:-800]).max() < 1e-4


def test_16_khz_audio_is_passed_through_bit_for_bit(tmp_path):
  pcm = (tone()[:, 0] * 30_000).astype(np.int16)
  path = tmp_path / 'clip.wav'
  path.write_bytes(encode(pcm, 'WAV', 'PCM_16'))
  np.testing.assert_array_equal(audio.load(path) * 32768, pcm)
  np.testing.assert_array_equal(audio.load(str(path)) * 32768, pcm)


def test_id3_tag_in_front_is_skipped():
  tag = b'ID3\x04\x00\x00\x00\x00\x01\x00' + bytes(128)
  for container, subtype in (('FLAC', 'PCM_16'), ('MP3', 'MPEG_LAYER_III')):
    data = encode(tone(), container, subtype)
    tagged, _ = audio.decode(tag + data, 'clip')
    np.testing.assert_array_equal(tagged, audio.decode(data, 'clip')[0])


def real_clips(reference):
  clips = sorted((reference / 'audio').glob('*.flac'))
  assert len(clips) == 7
  return clips


def test_real_clips_match_the_md5_of_their_headers(reference):
  """Two of them, DF_E_2000027 and 32, fail in libsndfile 1.2.2."""
  for path in real_clips(reference):
    data = path.read_bytes()
    wave = audio.load(path)
    pcm = np.rint(wave * 32768).astype('<i2')
    np.testing.assert_array_equal(pcm / np.float32(32768), wave)
    assert hashlib.md5(pcm).digest() == data[26:42], path.name


def test_cut_flac_is_an_error_at_any_length():
  data = encode(tone(), 'FLAC', 'PCM_16')
  for size in [*range(1, 300, 7), *range(300, len(data), 211), len(data) - 1]:
    with pytest.raises(audio.AudioError, match='^clip: '):
      audio.decode(data[:size], 'clip', verify=False)
  with pytest.raises(audio.AudioError, match='truncated or damaged FLAC'):
    audio.decode(data[: len(data) // 2], 'clip')


def test_cut_real_clips_are_errors(reference):
  for path in real_clips(reference):
    data = path.read_bytes()
    with pytest.raises(audio.AudioError, match='truncated or damaged FLAC'):
      audio.decode(data[: len(data) * 3 // 4], path.name)


@pytest.mark.parametrize('verify', [True, False])
def test_a_flipped_bit_in_flac_audio_is_never_silent(verify):
  """The frame checksums find it even where the MD5 is not compared."""
  data = encode(tone(0.3), 'FLAC', 'PCM_16')
  start = data.index(b'\xff\xf8')  # the first frame
  rng = np.random.default_rng(1)
  for position in rng.integers(start, len(data), 200):
    damaged = bytearray(data)
    damaged[position] ^= 1 << rng.integers(8)
    with pytest.raises(audio.AudioError, match='^clip: '):
      audio.decode(bytes(damaged), 'clip', verify=verify)


def test_md5_is_compared_on_request():
  for subtype in ('PCM_S8', 'PCM_16', 'PCM_24'):
    data = bytearray(encode(tone(channels=2), 'FLAC', subtype))
    audio.decode(bytes(data), 'clip')
    data[30] ^= 1  # inside STREAMINFO's MD5
    with pytest.raises(audio.AudioError, match='clip: damaged FLAC .*MD5'):
      audio.decode(bytes(data), 'clip')
    audio.decode(bytes(data), 'clip', verify=False)
    data[26:42] = bytes(16)  # an encoder that wrote no MD5
    audio.decode(bytes(data), 'clip')


def test_flac_of_unknown_length():
  data = bytearray(encode(tone(), 'FLAC', 'PCM_16'))
  whole, _ = audio.decode(bytes(data), 'clip')
  data[21] &= 0xF0  # STREAMINFO's 36 bits of total samples
  data[22:26] = bytes(4)
  streamed, _ = audio.decode(bytes(data), 'clip')
  np.testing.assert_array_equal(streamed, whole)


def test_flac_header_that_asks_for_too_much_memory():
  data = bytearray(encode(tone(), 'FLAC', 'PCM_16'))
  data[21] |= 0x0F
  with pytest.raises(
    audio.AudioError, match='damaged FLAC .*8000 of 64424517440'
  ):
    audio.decode(bytes(data), 'clip')


def test_cut_wav_and_ogg_are_errors():
  data = encode(tone(), 'WAV', 'PCM_16')
  for size in (len(data) // 2, len(data) - 1):
    with pytest.raises(audio.AudioError, match='damaged WAV .* bytes'):
      audio.decode(data[:size], 'clip')
  for subtype in ('VORBIS', 'OPUS'):
    data = encode(tone(), 'OGG', subtype)
    for size in (len(data) // 2, len(data) - 1):
      with pytest.raises(audio.AudioError, match='damaged Ogg'):
        audio.decode(data[:size], 'clip')


def test_wav_written_to_a_pipe_is_read_to_its_end():
  data = encode(tone(), 'WAV', 'PCM_16')
  at = data.index(b'data') + 4
  streamed = data[:at] + struct.pack('<I', 0xFFFFFFFF) + data[at + 4 :]
  np.testing.assert_array_equal(
    audio.decode(streamed, 'clip')[0], audio.decode(data, 'clip')[0]
  )


def test_empty_audio():
  with pytest.raises(audio.AudioError, match=r'clip: .* empty \(0 bytes\)'):
    audio.decode(b'', 'clip')
  nothing = np.zeros((0, 1), np.float32)
  for container, subtype in (('WAV', 'PCM_16'), ('FLAC', 'PCM_16')):
    with pytest.raises(audio.AudioError, match='clip: .*'):
      audio.decode(encode(nothing, container, subtype), 'clip')
  with pytest.raises(audio.AudioError, match='WAV file holds no samples'):
    audio.decode(encode(nothing, 'WAV', 'PCM_16'), 'clip')


@pytest.mark.parametrize(
  'data',
  [b'these are words\n' * 50, bytes(4000), b'RIFF', b'OggS', b'ID3', b'fLaC'],
)
def test_what_is_not_audio(tmp_path, data):
  path = tmp_path / 'notes.wav'
  path.write_bytes(data)
  with pytest.raises(audio.AudioError, match=r'notes\.wav: .*'):
    audio.load(path)


def test_text_named_wav_says_what_was_expected(tmp_path):
  path = tmp_path / 'notes.wav'
  path.write_text('these are words\n' * 50)
  expected = r"notes\.wav: not audio .*b'these are words.*expected WAV, FLAC"
  with pytest.raises(audio.AudioError, match=expected):
    audio.load(path)


def test_random_bytes_never_become_audio_by_accident():
  rng = np.random.default_rng(2)
  for head in (b'', b'RIFF', b'fLaC', b'OggS', b'\xff\xfb\x90\x00'):
    for _ in range(20):
      with pytest.raises(audio.AudioError):
        audio.decode(head + rng.bytes(2000), 'noise')


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_samples_that_are_not_finite(bad):
  wave = tone()
  wave[100] = bad
  data = encode(wave, 'WAV', 'FLOAT')
  with pytest.raises(audio.AudioError, match='clip: .*not finite'):
    audio.decode(data, 'clip')


def test_integers_written_as_floats():
  data = encode(tone() * 32768, 'WAV', 'FLOAT')
  with pytest.raises(audio.AudioError, match=r'expected full scale 1\.0'):
    audio.decode(data, 'clip')


def test_impossible_sample_rate():
  data = encode(tone(), 'WAV', 'PCM_16', rate=10)
  with pytest.raises(audio.AudioError, match='sample rate 10 Hz, expected'):
    audio.decode(data, 'clip')


def test_missing_file_and_directory(tmp_path):
  with pytest.raises(audio.AudioError, match=r'gone\.wav: no such file'):
    audio.load(tmp_path / 'gone.wav')
  with pytest.raises(audio.AudioError, match='a directory, expected'):
    audio.load(tmp_path)
  assert issubclass(audio.AudioError, ValueError)


def test_errors_travel_between_processes():
  error = pickle.loads(pickle.dumps(audio.AudioError('clip: bad')))
  assert isinstance(error, audio.AudioError)
  assert str(error) == 'clip: bad'


def filled(wave, samples, rng=None):
  out = np.empty(samples, np.float32)
  audio.fill(out, wave, rng)
  return out


def test_clips_are_cut_or_repeated():
  wave = np.arange(10, dtype=np.float32)
  np.testing.assert_array_equal(filled(wave, 4), [0, 1, 2, 3])
  np.testing.assert_array_equal(filled(wave, 10), wave)
  repeated = [*range(10), *range(10), 0, 1, 2]
  np.testing.assert_array_equal(filled(wave, 23), repeated)
  rng = np.random.default_rng(0)
  np.testing.assert_array_equal(filled(wave, 10, rng), wave)
  np.testing.assert_array_equal(filled(wave, 23, rng), repeated)
  starts = {int(filled(wave, 4, rng)[0]) for _ in range(300)}
  assert starts == set(range(7))  # the last start is drawn too
  with pytest.raises(ValueError, match='no samples cannot be repeated'):
    filled(wave[:0], 4)
