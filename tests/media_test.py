"""Containers that PyAV decodes, in a process that a bad file may end."""

import io
import os
import signal
import threading

import numpy as np
import pytest

from jaxspoof import audio
from jaxspoof.audio import containers, media

av = pytest.importorskip('av', reason='the extra media is not installed')
RATE = 16_000


def speech(rate=RATE, channels=1, seconds=1.0):
  time = np.arange(int(seconds * rate)) / rate
  mono = 0.3 * np.sin(2 * np.pi * 220 * time) * (1 + np.sin(6 * time)) / 2
  gains = np.linspace(1, 0.5, channels)
  return (mono[None] * gains[:, None]).astype(np.float32)


def encode(
  container, codec, rate=RATE, channels=1, seconds=1.0, file=None, **options
):
  """A file as bytes, or in a place that is named."""
  file = file or io.BytesIO()
  layout = {1: 'mono', 2: 'stereo', 6: '5.1'}[channels]
  with av.open(file, 'w', format=container, **options) as out:
    stream = out.add_stream(codec, rate=rate, layout=layout)
    frame = av.AudioFrame.from_ndarray(
      speech(rate, channels, seconds), format='fltp', layout=layout
    )
    frame.sample_rate = rate
    if codec in ('wavpack', 'alac'):
      stream.codec_context.format = 's16p'
    stream.bit_rate = 64_000
    kind = stream.codec_context.format.name
    resampler = av.AudioResampler(
      kind, layout, rate, frame_size=stream.codec_context.frame_size or None
    )
    for part in [*resampler.resample(frame), *resampler.resample(None)]:
      out.mux(stream.encode(part))
    out.mux(stream.encode(None))
  return None if isinstance(file, str) else file.getvalue()


@pytest.mark.parametrize(
  ('container', 'codec', 'rate', 'channels', 'kind'),
  [
    ('ipod', 'aac', 44_100, 2, 'MP4'),
    ('mp4', 'aac', 16_000, 1, 'MP4'),
    ('ipod', 'alac', 16_000, 1, 'MP4'),
    ('mov', 'pcm_s16le', 48_000, 1, 'MP4'),
    ('adts', 'aac', 16_000, 1, 'AAC'),
    ('webm', 'libopus', 48_000, 1, 'WebM'),
    ('matroska', 'pcm_s24le', 16_000, 6, 'WebM'),
    ('asf', 'wmav2', 44_100, 2, 'WMA'),
    ('avi', 'pcm_s16le', 16_000, 1, 'AVI'),
    ('mp2', 'mp2', 44_100, 1, 'free-format or layer II'),
    ('ac3', 'ac3', 48_000, 6, 'AC-3'),
    ('wv', 'wavpack', 16_000, 1, 'WavPack'),
    ('voc', 'pcm_u8', 8_000, 1, 'VOC'),
    ('flv', 'aac', 44_100, 1, 'FLV'),
  ],
)
def test_what_others_write_is_read(container, codec, rate, channels, kind):
  data = encode(container, codec, rate, channels)
  assert containers.media(data)[0].startswith(kind)
  assert containers.is_audio(data[:36])
  wave, found = audio.decode(data, 'clip')
  assert found == rate and wave.reshape(len(wave), -1).shape[1] == channels
  clip = audio.read(data)
  assert clip.seconds == pytest.approx(1, abs=0.12) and not clip.warnings
  # The same sound: of those that are delayed, at the delay that fits best.
  expected = speech(RATE, channels).mean(axis=0)
  size = 1 << 15
  spectra = [np.fft.rfft(x[:RATE], size) for x in (clip.wave, expected)]
  cross = np.fft.irfft(spectra[0] * np.conj(spectra[1]))
  norm = np.linalg.norm(clip.wave[:RATE]) * np.linalg.norm(expected)
  assert cross.max() / norm > 0.94
  first = audio.read(data, samples=RATE // 4)
  np.testing.assert_allclose(first.wave, clip.wave[: RATE // 4], atol=1e-6)
  assert first.seconds == pytest.approx(1, abs=0.15)


def test_lossless_ones_are_exact():
  for container, codec in (('ipod', 'alac'), ('wv', 'wavpack')):
    wave, _ = audio.decode(encode(container, codec), 'clip')
    np.testing.assert_allclose(wave, speech()[0], atol=2**-15)


def test_damage_is_told(tmp_path):
  path = str(tmp_path / 'a.mp4')  # it is opened twice
  encode('mp4', 'aac', file=path, options={'movflags': 'faststart'})
  with open(path, 'rb') as file:
    data = file.read()
  for size in (len(data) * 6 // 10, 200):
    with pytest.raises(audio.AudioError, match='clip: MP4.*(damag|no sound)'):
      audio.decode(data[:size], 'clip')
  head = b'\x1a\x45\xdf\xa3'
  with pytest.raises(audio.AudioError, match='clip: WebM or Matroska: damaged'):
    audio.decode(head + bytes(1000), 'clip')
  with pytest.raises(audio.AudioError, match='clip: not audio'):
    audio.decode(b'these are words' * 20, 'clip')


def test_random_damage_ends_nothing():
  """Any answer is fine: an error, or samples."""
  data = encode('mp4', 'aac')
  rng = np.random.default_rng(0)
  for _ in range(30):
    bad = bytearray(data)
    for at in rng.integers(16, len(bad), 20):
      bad[at] = rng.integers(256)
    try:
      audio.decode(bytes(bad), 'clip')
    except audio.AudioError as error:
      assert str(error).startswith('clip: ')


def test_a_decoder_that_crashes_takes_nothing_along():
  data = encode('mp4', 'aac')
  audio.decode(data, 'clip')
  worker = media._IDLE.queue[-1]
  os.kill(worker._process.pid, signal.SIGSTOP)
  threading.Timer(0.3, os.kill, (worker._process.pid, signal.SIGKILL)).start()
  with pytest.raises(audio.AudioError, match='harm: its decoder crashed'):
    audio.decode(data, 'clip')
  assert len(audio.decode(data, 'clip')[0])  # by another one


def test_a_decoder_that_takes_too_long_is_ended(monkeypatch):
  data = encode('mp4', 'aac')
  audio.decode(data, 'clip')
  monkeypatch.setattr(media, 'SLOWEST', 0.3)
  os.kill(media._IDLE.queue[-1]._process.pid, signal.SIGSTOP)
  with pytest.raises(audio.AudioError, match='its decoder took longer than'):
    audio.decode(data, 'clip')


def test_what_decodes_to_too_much_is_refused(monkeypatch):
  data = encode('ipod', 'alac', seconds=30)
  monkeypatch.setattr(media, 'LARGEST', 1_000_000)
  monkeypatch.setattr(
    media, '_START', media._START.replace(str(1 << 30), '1000000')
  )
  media.close()
  with pytest.raises(audio.AudioError, match='to more than 1,000,000 bytes'):
    audio.decode(data, 'clip')
  # A part of it is not too much.
  assert len(audio.read(data, samples=RATE).wave) == RATE
  media.close()


def test_the_length_is_known_without_decoding():
  for container, codec in (('ipod', 'alac'), ('mp4', 'aac'), ('webm', 'opus')):
    data = encode(container, codec, seconds=3)
    assert audio.length(data, 'clip') == pytest.approx(3 * RATE, abs=0.1 * RATE)


def test_without_the_package_the_error_says_what_to_install(monkeypatch):
  data = encode('mp4', 'aac')
  monkeypatch.setattr(media, 'available', lambda: False)
  with pytest.raises(
    audio.AudioError, match=r'clip: MP4.*pip install "jaxspoof\[media\]".*ffmp'
  ):
    audio.decode(data, 'clip')


def test_several_threads_have_several_decoders():
  data = encode('mp4', 'aac')
  expected, _ = audio.decode(data, 'clip')
  found = []
  threads = [
    threading.Thread(target=lambda: found.append(audio.decode(data, 'x')[0]))
    for _ in range(6)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(found) == 6
  for wave in found:
    np.testing.assert_array_equal(wave, expected)
