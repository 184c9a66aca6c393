"""Explanations: sums that are complete, regions, silencing, the picture."""

import importlib.util
import itertools
import json
import re

import matplotlib.image
import numpy as np
import pytest
import soundfile

from jaxspoof import explanations
from jaxspoof.audio import AudioError
from jaxspoof.detect import command, explained
from jaxspoof.detector import Detector
from tests import small_detectors
from tests.small_detectors import PADDED, RATE, SAMPLES, wave

pytestmark = pytest.mark.usefixtures('programs')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  return small_detectors.write(
    tmp_path_factory.mktemp('runs') / 'small', model=PADDED
  )


@pytest.fixture(scope='module')
def detector(run):
  return Detector.load(run, batch=4)


@pytest.fixture(scope='module')
def found(detector):
  return detector.explain(wave(1), RATE)


@pytest.fixture(scope='module')
def any_length(tmp_path_factory):
  run = small_detectors.write(
    tmp_path_factory.mktemp('runs') / 'padded',
    calibrated=False,
    model=PADDED,
    padded=True,
    bucket=4_000,
  )
  return Detector.load(run, batch=2)


# ------------------------------------------------------------------ tiles ---
@pytest.mark.parametrize('samples', [1_600, 8_000, 8_001, 10_239, 10_241])
def test_products_of_tiles_sum_to_those_of_samples(samples):
  rng = np.random.default_rng(samples)
  one, other = rng.normal(size=(2, samples))
  products = explanations.products(one, other)
  assert products.sum() == pytest.approx(one @ other, abs=1e-8)
  tiles = explanations.in_tiles(products, samples)
  assert tiles.shape == (-(-samples // 1024), 32)
  assert tiles.sum() == pytest.approx(one @ other, abs=1e-8)


def tone(start, end, hertz):
  """Half a second of silence, but for a tone from start to end, in seconds."""
  time = np.arange(SAMPLES) / RATE
  sound = np.sin(2 * np.pi * hertz * time) * ((time >= start) & (time < end))
  return sound.astype(np.float32)


def test_a_linear_score_is_where_its_weights_are():
  weights = tone(0.192, 0.256, 2_100) * 0.01
  took = []

  def gradients(waves):
    took.extend(waves)
    return ((float(w @ weights), weights) for w in waves)

  heard = wave(0) + tone(0, 0.5, 2_100)
  given = explanations.attribute(heard, gradients)
  assert given.score == pytest.approx(float(heard @ weights))
  total = given.score - given.baseline
  assert given.tiles_TxF.sum() == pytest.approx(total, rel=1e-5)
  assert abs(given.error) < 1e-5 and given.steps == len(took) == 9
  assert given.tiles_TxF[3, 8] > 0.7 * total  # 192 to 256 ms, 2 to 2.25 kHz
  first = explanations.regions(given.tiles_TxF, 10.0)[0]
  assert first.start <= 10.192 and 10.256 <= first.end <= 10.4
  assert first.low <= 2_000 and 2_250 <= first.high <= 2_500
  assert first.amount > 0 and 0.5 < first.share <= 1


def test_steps_are_taken_where_a_score_is_steep():
  """A logarithm, which is steep near the baseline, and a jump."""

  def gradients(waves):
    for w in waves:
      energy = float(w @ w)
      yield np.log(energy + 1e-4), 2 * w / (energy + 1e-4)

  given = explanations.attribute(wave(2), gradients)
  assert 9 < given.steps <= explanations.MOST + 8
  assert abs(given.error) < 0.02 * (given.score - given.baseline)

  def jumps(waves):
    return ((float(np.abs(w).max() > 0.05), np.zeros_like(w)) for w in waves)

  given = explanations.attribute(wave(2), jumps)
  assert given.error == 1.0 and not given.tiles_TxF.any()  # and it ends


def test_the_rectangle_of_the_largest_sum():
  rng = np.random.default_rng(0)
  for _ in range(20):
    values = rng.normal(size=(5, 4))
    best, (t0, t1, f0, f1) = explanations._rectangle(values)
    ends = [itertools.combinations(range(n + 1), 2) for n in values.shape]
    brute = max(
      values[a:b, c:d].sum() for (a, b), (c, d) in itertools.product(*ends)
    )
    assert best == pytest.approx(brute)
    assert values[t0:t1, f0:f1].sum() == pytest.approx(brute)


def test_regions_of_both_classes():
  tiles = np.full((20, 32), 0.01)
  tiles[2:5, 3:6], tiles[10:12, 20:30] = -3.0, 2.0
  first, second = explanations.regions(tiles, 1.0)
  assert first.amount == pytest.approx(40) and second.amount == pytest.approx(
    -27
  )
  assert (second.start, second.end) == pytest.approx((1 + 0.128, 1 + 0.32))
  assert (second.low, second.high) == (750, 1_500)
  assert second.share == pytest.approx(27 / np.abs(tiles).sum())
  assert not explanations.regions(np.zeros((3, 32)))


def test_what_is_silenced_and_what_is_not():
  heard = tone(0, 0.5, 1_000) + tone(0, 0.5, 4_000)
  nothing = np.zeros((8, 32), bool)
  np.testing.assert_allclose(
    explanations.silenced(heard, nothing), heard, atol=1e-6
  )
  nothing[:, 3:5] = True
  quiet = explanations.silenced(heard, nothing)
  inner = slice(256, -256)  # a tone that begins suddenly is wide
  np.testing.assert_allclose(quiet[inner], tone(0, 0.5, 4_000)[inner], atol=0.1)


# --------------------------------------------------------------- detector ---
def test_gradients_are_those_of_finite_differences(detector, any_length):
  """Of waves that are repeated, padded, or as long as the model takes."""
  for one, samples in itertools.product((detector, any_length), (3_000, 8_000)):
    waves = [wave(seed)[:samples] for seed in range(3)]
    answers = list(one._gradients(waves))
    scores = [score for score, _ in answers]
    np.testing.assert_allclose(scores, one.score(waves), atol=1e-5)
    for heard, (_, gradient) in zip(waves, answers, strict=True):
      way = np.float32(1e-3) * wave(9)[:samples]
      up, down = one.score([heard + way, heard - way])
      assert gradient.shape == heard.shape
      assert float(gradient @ way) == pytest.approx(
        (up - down) / 2, rel=0.1, abs=2e-5
      )


def test_an_explanation_is_of_what_is_scored(detector, found):
  alone = detector.score(wave(1), RATE)
  assert found.detection.llr == pytest.approx(alone.llr, abs=1e-5)
  given = found.attribution
  assert given.score == pytest.approx(alone.llr, abs=1e-4)
  missed = given.score - given.baseline - given.tiles_TxF.sum()
  assert given.error == pytest.approx(missed, abs=1e-6)
  assert abs(missed) < 0.05 * np.abs(given.tiles_TxF).sum()
  again = detector.explain(wave(1), RATE)
  np.testing.assert_array_equal(again.attribution.tiles_TxF, given.tiles_TxF)


def test_times_are_those_of_the_recording(detector, found):
  late = np.concatenate([np.zeros(2 * RATE, np.float32), wave(1)])
  again = detector.explain(late, RATE)
  assert again.start == pytest.approx(2, abs=0.03)
  assert again.regions[0].start >= again.start > found.regions[0].start


def test_uncalibrated_detectors_explain_their_score(any_length):
  given = any_length.explain(wave(1), RATE)
  assert given.attribution.score == pytest.approx(
    given.detection.score, abs=1e-5
  )
  text = '\n'.join(explained.lines(given))
  assert 'speaks for    score' in text
  assert b'not calibrated' in explained.picture(given, 'x.svg')


def test_nothing_to_explain(detector):
  with pytest.raises(AudioError, match='samples: holds no sound'):
    detector.explain(np.zeros(RATE, np.float32), RATE)


def test_the_benchmark_prints_its_table(repository, here, run, capsys):
  path = repository / 'benchmarks' / 'explain.py'
  spec = importlib.util.spec_from_file_location('explain', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  module.main([str(run), '--input=.', '--clips=1'])
  text = capsys.readouterr().out
  assert '1 clips of .' in text
  for words in ('missed by the sum', 'rank correlation', 'as loud', 'random'):
    assert re.search(words + r'.*\d', text), words


# ---------------------------------------------------------------- command ---
@pytest.fixture
def here(run, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr('jaxspoof.machine.programs.keep', lambda: None)
  soundfile.write('a.wav', wave(1), RATE)
  return ['--checkpoint', str(run), '--input', 'a.wav', '--explain']


def test_the_command_draws_and_says_it(here, capsys):
  assert command.main([*here, 'why.png']) == 0
  pixels = matplotlib.image.imread('why.png')[..., :3]
  assert pixels.shape == (600, 1200, 3)
  hue = pixels[100:400, 200:1000]
  assert (hue[..., 0] - hue[..., 2]).max() > 0.3  # spoof, and bona fide:
  assert (hue[..., 2] - hue[..., 0]).max() > 0.3
  text = capsys.readouterr().out
  assert 'speaks for' in text and 'share' in text and 'kHz' in text
  assert command.main([*here, 'why.png', '--json']) == 0
  line = json.loads(capsys.readouterr().out)
  given = line['explanation']
  assert given['of'] == 'LLR' and line['path'] == 'a.wav'
  assert given['value'] == pytest.approx(line['llr'], abs=1e-3)
  assert {*given['regions'][0]} == {
    'start', 'end', 'low', 'high', 'amount', 'share',
  }  # fmt: skip
  shares = [one['share'] for one in given['regions']]
  assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1


def test_pictures_are_the_same_bytes(found):
  for name in ('a.png', 'a.svg'):
    assert explained.picture(found, name) == explained.picture(found, name)


@pytest.mark.parametrize(
  ('more', 'message'),
  [
    (['why.gif'], 'expected a name that ends in .png, .svg'),
    (['why.png', '--input', 'a.wav', 'a.wav'], 'is of one recording; 2'),
    (['why.png', '--csv'], 'CSV has no place for it'),
    (['why.png', '--timeline'], 'it goes with none of'),
  ],
)
def test_what_cannot_be_asked_for(here, more, message, capsys):
  try:
    status = command.main([*here, *more])
  except SystemExit as error:
    status = error.code
  assert status == 2
  assert message in ' '.join(capsys.readouterr().err.split())


def test_a_recording_that_cannot_be_read(here, capsys):
  assert command.main([*here, 'why.png', '--input', 'none.wav']) == 1
  assert 'none.wav' in capsys.readouterr().err
