"""Test conditions: what they do to a wave, and what the chance depends on."""

import io

import numpy as np
import pytest
import soundfile

from jaxspoof.data import conditions, pipeline

RATE = 16_000
NOISE = conditions.make('noise:10', seed=7)


def wave(seed=0, samples=9_000, level=0.1):
  rng = np.random.default_rng(seed)
  return rng.normal(0, level, samples).astype(np.float32)


def decibels(signal, noise):
  powers = [np.mean(np.square(x, dtype=np.float64)) for x in (signal, noise)]
  return 10 * np.log10(powers[0] / powers[1])


@pytest.fixture(scope='module')
def records():
  found = []
  for i in range(7):
    file = io.BytesIO()
    clip = wave(i, 2_000 + 900 * i)
    soundfile.write(file, clip, RATE, 'FLOAT', format='WAV')
    record = {'audio': file.getvalue(), 'utterance': f'u{i}'.encode()}
    found.append({**record, 'label': i % 2, 'speaker': b's', 'attack': b'-'})
  return found


# ------------------------------------------------------------- functions ---
@pytest.mark.parametrize('snr', [-5, 0, 10, 37.5])
@pytest.mark.parametrize('samples', [40, 9_000])
def test_noise_has_the_ratio_that_was_asked_for(snr, samples):
  clean = wave(1, samples)
  noisy = conditions.make(f'noise:{snr}')(clean, 'u')
  assert noisy.dtype == np.float32 and noisy.shape == clean.shape
  assert decibels(clean, noisy.astype(float) - clean) == pytest.approx(
    snr, abs=0.1
  )


def test_noise_is_white_and_gaussian():
  clean = wave(1, 2**15)
  noise = conditions.make('noise:0')(clean, 'u') - clean
  assert abs(np.corrcoef(noise, clean)[0, 1]) < 0.03
  power = np.abs(np.fft.rfft(noise)[1:].reshape(16, -1)) ** 2
  bands = power.mean(axis=1) / power.mean()
  np.testing.assert_allclose(bands, 1, atol=0.15)  # 5 standard deviations
  assert np.mean((noise / noise.std()) ** 4) == pytest.approx(3, abs=0.15)


def test_noise_to_silence_is_none():
  silence = np.zeros(100, np.float32)
  np.testing.assert_array_equal(NOISE(silence, 'u'), silence)


@pytest.mark.parametrize(
  ('spelt', 'factor'), [('gain:-20', 0.1), ('gain:20', 10), ('gain:0', 1)]
)
def test_gain_is_exact_and_clips_nothing(spelt, factor):
  clean = wave(level=0.5)
  found = conditions.make(spelt)(clean, 'u')
  assert found.dtype == np.float32
  np.testing.assert_array_equal(found, clean * np.float32(factor))


def test_conditions_follow_each_other():
  clean, both = wave(), conditions.make('gain:-6+noise:10+gain:6')
  first = conditions.make('gain:-6')(clean, 'u')
  noise = conditions.make('gain:-6')(both(clean, 'u'), 'u') - first
  assert decibels(first, noise) == pytest.approx(10, abs=0.1)
  np.testing.assert_array_equal(conditions.make('clean')(clean, 'u'), clean)


@pytest.mark.parametrize('name', conditions.CONDITIONS)
def test_every_condition_keeps_length_type_and_input(name):
  for samples in (1, 16, 9_000):
    clean = wave(2, samples)
    before = clean.copy()
    found = conditions.make(f'{name}:10')(clean, 'u')
    assert found.shape == clean.shape and found.dtype == np.float32
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(clean, before)


# ---------------------------------------------------------------- chance ---
def test_chance_is_that_of_seed_and_utterance():
  clean = wave()
  np.testing.assert_array_equal(NOISE(clean, 'a'), NOISE(clean, 'a'))
  others = NOISE(clean, 'b'), conditions.make('noise:10', 8)(clean, 'a')
  for other in others:
    noise = NOISE(clean, 'a') - clean, other - clean
    assert abs(np.corrcoef(*noise)[0, 1]) < 0.05
  # The same noise at another level: conditions differ in their values alone.
  louder = conditions.make('noise:0', 7)(clean, 'a') - clean
  noise = NOISE(clean, 'a') - clean
  np.testing.assert_allclose(louder, noise * 10**0.5, atol=1e-6)


def by_utterance(records, **options):
  """First samples of each clip, by the name of its utterance."""
  found = {}
  for batch in pipeline.eval_batches(
    records, samples=5_000, condition=NOISE, **options
  ):
    for row in np.flatnonzero(batch['mask']):
      name = records[batch['index'][row]]['utterance'].decode()
      assert name not in found
      found[name] = batch['wave'][row]
  return found


@pytest.mark.parametrize(
  'options',
  [
    {'batch': 1},
    {'batch': 4},
    {'batch': 3, 'workers': 1},
    {'batch': 2, 'bucket': 1_000, 'shortest': 100},
  ],
  ids=str,
)
def test_an_utterance_gets_the_same_noise_in_any_batch(records, options):
  for order in (records, records[::-1]):
    found = by_utterance(order, **options)
    assert sorted(found) == [f'u{i}' for i in range(7)]
    for i in range(7):
      expected = NOISE(wave(i, 2_000 + 900 * i), f'u{i}')
      got = found[f'u{i}']
      if 'bucket' in options:
        got = got[: len(expected)]
        np.testing.assert_array_equal(got, expected[: len(got)])
      else:
        expected = np.resize(expected, 5_000)
        np.testing.assert_array_equal(got, expected)
    if 'workers' in options:  # processes are slow to start
      break


# ------------------------------------------------------------- bad input ---
@pytest.mark.parametrize(
  ('spelt', 'words'),
  [
    ('nose:10', "'nose:10' is unknown; expected 'clean', or NAME:VALUE, NAME"),
    ('', "condition '': '' is unknown"),
    ('clean+gain:3', "'clean' is unknown"),
    ('clean:3', "'clean:3' is unknown"),
    ('noise', 'expected noise:NUMBER, such as noise:10'),
    ('noise:ten', 'expected noise:NUMBER'),
    ('gain:nan', 'expected gain:NUMBER'),
    ('gain:1e3', 'gain:1e3.: 1000 dB: expected -100 to 100 dB'),
    ('gain:3+noise:-200', 'noise:-200.: -200 dB: expected -100'),
  ],
)
def test_conditions_that_mean_nothing(spelt, words):
  with pytest.raises(ValueError, match=words):
    conditions.make(spelt)
