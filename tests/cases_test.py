"""Files of users that once went wrong, each as it came from outside.

The faults are tested as kinds where they are mended; here the files themselves
are read, so that none of them comes back.
"""

import numpy as np
import pytest

from jaxspoof import audio, detector
from jaxspoof.audio import signal_checks
from jaxspoof.metrics import __main__ as metrics
from tfds_builders import build

RATE, SAMPLES = 16_000, 64_600  # what AASIST scores


@pytest.fixture(scope='module')
def speech(cases):
  """The clip that the others were made of."""
  clip = signal_checks.read(cases / 'audio' / 'speech.flac', samples=SAMPLES)
  assert clip.warnings == ()
  return clip.wave


@pytest.mark.parametrize(
  ('name', 'seconds', 'words'),
  [
    ('five_seconds_of_silence_first.flac', 7.4, 'first 5.00 s hold no sound'),
    ('antiphase_stereo.flac', 2.4, '2 channels is nearly silent'),
    ('centre_of_5_1.flac', 2.4, '6 channels is nearly silent'),
    ('joined_same_rate.mp3', 2.4, '2 MP3 streams are joined'),
    ('chained.opus', 2.4, '2 Ogg Opus streams are joined'),
    ('data_size_zero.wav', 1.0, 'says 0 bytes of samples'),
    ('data_size_44_too_large.wav', 1.0, '44 bytes of samples more'),
  ],
)
def test_audio_that_is_scored_with_a_warning(
  cases, speech, name, seconds, words
):
  clip = signal_checks.read(cases / 'audio' / name, samples=SAMPLES)
  assert clip.seconds == pytest.approx(seconds, abs=0.2)
  (warning,) = clip.warnings
  assert words in warning
  expected = speech[: round(seconds * RATE)]
  if name.endswith(('flac', 'wav')):
    np.testing.assert_array_equal(clip.wave, expected)
  else:
    assert abs(len(clip.wave) - len(expected)) < 0.2 * RATE


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('digital_silence.flac', 'holds no sound'),
    ('float_16_bit.wav', '16-bit float.* not supported'),
    ('float_peak_8.wav', 'samples reach 8, expected full scale'),
    ('joined_two_rates.mp3', '2 MP3 streams joined.*16000 Hz.*44100 Hz'),
    ('cut.aiff', 'truncated or damaged AIFF'),
    ('cut_rf64.wav', 'truncated or damaged WAV'),
    ('pcm_64_bit.wav', '64-bit integer.* not supported'),
    ('one_sample.wav', 'too short to judge'),
    ('ten_milliseconds.wav', 'too short to judge'),
  ],
)
def test_audio_that_is_refused(cases, name, words):
  with pytest.raises(audio.AudioError, match=f'{name}: .*{words}'):
    signal_checks.read(cases / 'audio' / name, samples=SAMPLES)


@pytest.mark.parametrize('name', ['voice.m4a', 'voice.amr', 'voice.webm'])
def test_what_phones_and_browsers_record(cases, speech, name):
  pytest.importorskip('av', reason='the extra media is not installed')
  clip = signal_checks.read(cases / 'audio' / name, samples=SAMPLES)
  assert clip.seconds == pytest.approx(2.4, abs=0.05) and not clip.warnings
  assert abs(len(clip.wave) - len(speech)) < 0.05 * RATE
  # The same speech: codecs change waves, not how loud it is when.
  loud = [
    np.sqrt(np.square(x[:30_000].reshape(-1, 1500)).mean(1))
    for x in (clip.wave, speech)
  ]
  assert np.corrcoef(*loud)[0, 1] > 0.95


def test_weights_as_lightning_saves_them(cases):
  path = cases / 'checkpoint' / 'saved_by_lightning.ckpt'
  assert detector.Detector.load(path).model == 'aasist_l'


@pytest.mark.parametrize(
  ('scores', 'protocol', 'bonafide', 'spoof'),
  [
    ('two_columns.txt', 'trial_metadata_2021.txt', 8, 24),
    ('with_suffix.txt', 'protocol.txt', 10, 30),
    ('blank_last_line.txt', 'protocol.txt', 10, 30),
    ('asvspoof5_scores.tsv', 'asvspoof5_key.tsv', 10, 30),
    ('detector_output.jsonl', 'protocol.txt', 10, 30),
  ],
)
def test_score_files(cases, scores, protocol, bonafide, spoof):
  folder = cases / 'scores'
  options = metrics.parser().parse_args(
    [
      str(folder / scores),
      f'--protocol={folder / protocol}',
      '--resamples=10',
    ]
  )
  found = metrics.measure(options)['trials']
  assert (found['bonafide'], found['spoof']) == (bonafide, spoof)


@pytest.mark.parametrize(
  ('name', 'words'),
  [
    ('same_audio_in_train_and_eval', 'same audio is in several splits, 2 rec'),
    ('windows_paths', ''),
    ('file_column_pipes', ''),
  ],
)
def test_tables(cases, tmp_path, capsys, name, words):
  table = cases / 'table' / f'{name}.csv'
  build.build(f'wav_folder/{name}', tmp_path, manifest=table)
  said = capsys.readouterr().out
  assert words in said and ('warning' in said) == bool(words)
