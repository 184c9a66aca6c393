"""What holds no signal is never scored without a word."""

import io
import re

import numpy as np
import pytest
import soundfile

from jaxspoof import audio
from jaxspoof.audio import signal_checks

RATE, SAMPLES = 16_000, 8_000
SPEECH = (0.1 * np.random.default_rng(0).standard_normal(2 * RATE)).astype(
  np.float32
)
SILENCE = np.zeros(2 * RATE, np.float32)


def wav(*parts):
  file = io.BytesIO()
  wave = np.concatenate(parts)
  soundfile.write(file, wave, RATE, format='WAV', subtype='FLOAT')
  return file.getvalue()


def test_speech_is_read_without_a_word():
  clip = signal_checks.read(wav(SPEECH), samples=SAMPLES)
  np.testing.assert_array_equal(clip.wave, SPEECH[:SAMPLES])
  assert (clip.seconds, clip.warnings) == (2.0, ())
  for gain in (1, 9, 0.1):
    assert signal_checks.doubts(SPEECH * np.float32(gain)) == ()


@pytest.mark.parametrize(
  ('wave', 'words'),
  [
    (SILENCE, 'holds no sound in 2.00 s .*-80 dB.*nothing to score'),
    (SILENCE + np.float32(0.3), 'holds no sound'),  # an offset
    (SPEECH * np.float32(1e-5), 'holds no sound'),
    (SPEECH[:1], r'too short to judge \(0.0625 ms, expected at least 100\)'),
    (SPEECH[:160], r'too short to judge \(10 ms'),
    (SPEECH * np.float32(30), 'samples reach .*, expected full scale 1.0'),
  ],
)
def test_what_cannot_be_scored_is_an_error(wave, words):
  with pytest.raises(audio.AudioError, match='clip: .*' + words):
    signal_checks.read(wav(wave), 'clip', samples=SAMPLES)


@pytest.mark.parametrize(
  ('parts', 'words'),
  [
    ((SPEECH[:3_200],), 'only 0.20 s long'),
    ((SPEECH[:1_600], SILENCE), 'only 0.10 of the 0.50 s that are scored hold'),
    ((SPEECH * np.float32(0.003),), r'very quiet: its peak is at -\d\d dB'),
  ],
)
def test_what_is_doubtful_has_a_warning(parts, words):
  clip = signal_checks.read(wav(*parts), samples=SAMPLES)
  (warning,) = clip.warnings
  assert re.search(words, warning)


def test_silence_before_the_speech_is_passed_over():
  clip = signal_checks.read(wav(SILENCE, SPEECH), samples=SAMPLES)
  np.testing.assert_array_equal(clip.wave, SPEECH[:SAMPLES])
  assert clip.seconds == 4.0
  assert clip.warnings == (
    'the first 2.00 s hold no sound; what follows is scored',
  )
  # A pause at the beginning that leaves speech to score changes nothing.
  clip = signal_checks.read(wav(SILENCE[:4_000], SPEECH), samples=SAMPLES)
  assert not clip.wave[:4_000].any() and clip.warnings == ()
