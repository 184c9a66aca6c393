"""Whether a recording is of the kind that a detector knows: real sounds."""

import numpy as np
import pytest
import scipy.signal
import soxr

from jaxspoof.audio.measures import MEASURES, measure
from jaxspoof.bundles import domain
from tests import measured_speech

RATE, SAMPLES = measured_speech.RATE, measured_speech.SAMPLES


def at_level(rng, wave):
  """At a level that speech of the corpus has: it shall not give it away."""
  power = np.sqrt(np.mean(np.square(wave)))
  return (wave / power * 10 ** (rng.uniform(-27, -24) / 20)).astype(np.float32)


def tone(rng):
  time = np.arange(SAMPLES) / RATE
  first, last = np.exp(rng.uniform(np.log(80), np.log(6000), 2))
  kinds = (
    lambda: np.sin(2 * np.pi * first * time),
    lambda: scipy.signal.chirp(time, first, time[-1], last),
    lambda: scipy.signal.square(2 * np.pi * first / 4 * time),
  )
  wave = kinds[rng.integers(3)]()
  return at_level(rng, wave + 1e-3 * rng.normal(size=SAMPLES))


def noise(rng):
  spectrum = np.fft.rfft(rng.normal(size=SAMPLES))
  slope = rng.choice([0.0, 0.5, 1.0])  # white, pink, brown
  wave = np.fft.irfft(spectrum / (1 + np.arange(len(spectrum))) ** slope)
  slow = 1 + 0.9 * np.sin(
    2 * np.pi * rng.uniform(0.5, 6) * np.arange(SAMPLES) / RATE
  )
  return at_level(rng, wave * slow)


def music(rng):
  """Chords and beats, of plucked or held notes."""
  wave, beat = np.zeros(SAMPLES), rng.uniform(0.15, 0.5)
  root, held = rng.uniform(110, 220), rng.random() < 0.5
  for start in np.arange(0, 2, beat):
    first = int(start * RATE)
    time = np.arange(min(SAMPLES - first, int(2 * beat * RATE))) / RATE
    for step in rng.choice([0, 2, 4, 5, 7, 9, 12], 3, replace=False):
      pitch = root * 2 ** (step / 12)
      parts = np.arange(1, 10)[:, None]
      note = (np.sin(2 * np.pi * pitch * parts * time) / parts).sum(0)
      fall = np.minimum(1, time / 0.05) if held else np.exp(-4 * time)
      wave[first : first + len(time)] += note * fall
    if not held:
      hit = rng.normal(size=len(time)) * np.exp(-50 * time)
      wave[first : first + len(time)] += hit
  return at_level(rng, wave + 1e-3 * rng.normal(size=SAMPLES))


@pytest.fixture(scope='module')
def measured(request):
  """Measures of dev clips of the corpus, some of them as telephone speech."""
  found = measured_speech.kept()
  if found is None:
    found = measured_speech.measure(request.getfixturevalue('quickstart_full'))
  return {
    name: [dict(zip(MEASURES, row, strict=True)) for row in rows.tolist()]
    for name, rows in found.items()
  }


@pytest.fixture(scope='module')
def known(measured):
  return domain.fit(measured['speech'][::2])


def flagged(known, measured):
  return np.mean([bool(known.doubts(clip)) for clip in measured])


@pytest.mark.parametrize('kind', [tone, noise, music])
def test_what_is_no_speech_is_told_by_its_sound_alone(known, kind):
  rng = np.random.default_rng(0)
  assert flagged(known, [measure(kind(rng)) for _ in range(30)]) >= 0.9


def test_telephone_speech_is_told_and_other_speech_of_the_corpus_is_not(
  known, measured
):
  assert flagged(known, measured['speech'][1::2]) <= 0.05
  assert flagged(known, measured['telephone']) >= 0.9


def test_measures_are_what_they_say():
  time = np.arange(RATE) / RATE
  half = np.where(time < 0.5, 0.1 * np.sin(2 * np.pi * 200 * time), 0)
  half += 1e-5 * np.random.default_rng(0).normal(size=RATE)
  found = measure(half.astype(np.float32))
  assert list(found) == list(MEASURES)
  assert found['duration'] == 1
  assert found['level'] == pytest.approx(-23, abs=0.3)  # 0.1 / sqrt(2)
  assert found['speech_share'] == pytest.approx(50, abs=4)
  assert found['voiced_share'] > 95
  assert found['snr'] == pytest.approx(75, abs=4)
  assert found['clipping'] < 2
  clipped = measure(np.clip(5 * half, -0.1, 0.1).astype(np.float32))
  assert clipped['clipping'] > 30
  white = np.random.default_rng(0).normal(0, 0.1, RATE).astype(np.float32)
  assert measure(white)['bandwidth'] > 7.9
  assert measure(white)['flatness'] == pytest.approx(-2.5, abs=0.5)
  low = soxr.resample(soxr.resample(white, RATE, 6_000), 6_000, RATE)
  assert measure(low)['bandwidth'] == pytest.approx(3, abs=0.2)
  for wave in (np.zeros(9, np.float32), np.ones(1, np.float32)):
    assert np.isfinite(list(measure(wave).values())).all()


def test_embeddings_that_are_far_are_told():
  rng = np.random.default_rng(0)
  label = np.arange(300) % 3 == 0
  # Clips differ in a few directions, and much by their class.
  basis = rng.normal(size=(4, 40))
  known = rng.normal(size=(300, 4)) @ basis + 6 * label[:, None]
  known += 0.05 * rng.normal(size=known.shape)
  measured = [{name: 1.0 for name in MEASURES}] * 300
  found = domain.fit(measured, known, label)
  again = rng.normal(size=(400, 4)) @ basis + 6 * (rng.random((400, 1)) < 0.5)
  again += 0.05 * rng.normal(size=again.shape)
  assert np.mean(found.space.distance(again) > found.limit) < 0.05
  between = rng.normal(size=(50, 4)) @ basis + 3
  beside = again[:50] + rng.normal(size=(50, 40))
  for far in (between, beside, again[:50] * 4):
    assert np.mean(found.space.distance(far) > found.limit) > 0.9
  (said,) = found.doubts(measured[0], beside[0])
  assert said.startswith('sounds unlike the recordings of the training domain')
  assert domain.fit(measured[:19]) is None
