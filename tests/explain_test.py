"""Explanations: sums that are complete, regions, silencing, the picture."""

import dataclasses
import importlib.util
import io
import itertools
import json
import re

import matplotlib.image
import numpy as np
import pytest
import soundfile

from jaxspoof import explanations, models
from jaxspoof.audio import AudioError
from jaxspoof.detect import command, explained
from jaxspoof.detector import Detector
from jaxspoof.models import graph
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
    return (weights for _ in waves)

  def scores(waves):
    return np.stack(waves) @ weights

  heard = wave(0) + tone(0, 0.5, 2_100)
  given = explanations.attribute(heard, gradients, scores)
  assert given.score == pytest.approx(float(heard @ weights))
  # Each tile is silenced once, to a thirtieth.
  total = given.score * (1 - 10 ** (-30 / 20))
  assert given.tiles_TxF.sum() == pytest.approx(total, rel=1e-4)
  assert abs(given.error) < 1e-4 and given.steps == len(took) == 30
  assert given.tiles_TxF[3, 8] > 0.7 * total  # 192 to 256 ms, 2 to 2.25 kHz
  some = explanations.regions(given.tiles_TxF, 10.0)
  first, *_ = explanations.measured(heard, given, some, scores, 10.0)
  assert first.start <= 10.192 and 10.256 <= first.end <= 10.4
  assert first.low <= 2_000 and 2_250 <= first.high <= 2_500
  assert first.amount > 0 and 0.5 < first.share <= 1
  assert first.measured == pytest.approx(first.amount, rel=0.1)
  moved = explanations.deletion(heard, given, scores)
  assert moved.holds and moved.marked > 0.9 * total > 10 * moved.as_loud


def test_sums_are_complete_where_a_score_is_steep_and_tell_what_jumps():
  """A logarithm, which is steep near silence, and a jump."""

  def gradients(waves):
    return (2 * w / (float(w @ w) + 1e-4) for w in waves)

  def scores(waves):
    return np.array([np.log(float(w @ w) + 1e-4) for w in waves])

  given = explanations.attribute(wave(2), gradients, scores)
  assert given.tiles_TxF.sum() > 0.1
  assert abs(given.error) < 0.02 * given.tiles_TxF.sum()

  def jumps(waves):
    return np.array([float(w is waves[0]) for w in waves])

  def flat(waves):
    return (np.zeros_like(w) for w in waves)

  given = explanations.attribute(wave(2), flat, jumps)
  assert given.error == explanations.GROUPS and not given.tiles_TxF.any()
  # What is marked by a map of nothing is as good as any other.
  lost = explanations.deletion(wave(2), given, lambda waves: np.zeros(3))
  assert lost.marked == lost.as_loud == lost.random == 1.0 and not lost.holds


@pytest.mark.parametrize(
  ('moved', 'holds'),
  [
    ((2.0, 1.0, -3.0), True),
    ((2.0, 2.1, 0.0), False),
    ((2.0, 0.0, 2.1), False),
    ((-0.1, -2.0, -2.0), False),
  ],
)
def test_what_is_marked_has_to_carry_the_decision(moved, holds):
  assert explanations.Deletion(*moved).holds == holds


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
  assert abs(given.error) < 0.1 * np.abs(given.tiles_TxF).sum()
  again = detector.explain(wave(1), RATE)
  np.testing.assert_array_equal(again.attribution.tiles_TxF, given.tiles_TxF)
  # What is said of a region is so.
  region = found.regions[0]
  mask = np.zeros(given.tiles_TxF.shape, bool)
  times = (round(x / explanations.TIME) for x in (region.start, region.end))
  bands = (round(x / explanations.BAND) for x in (region.low, region.high))
  mask[slice(*times), slice(*bands)] = True
  quiet = explanations.silenced(found.wave, mask)
  llr = detector.known.calibration(float(detector.score([quiet])[0]))
  assert region.measured == pytest.approx(alone.llr - llr, abs=1e-4)
  assert found.deletion.holds


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
  assert 'speaks for    score' in text and 'check: when the' in text
  false = explanations.Deletion(0.1, 0.2, 0.0)
  false = dataclasses.replace(given, deletion=false)
  text = '\n'.join(explained.lines(false))
  assert 'THIS EXPLANATION DOES NOT HOLD: when the twentieth' in text
  assert b'this explanation does not hold' in explained.picture(false, 'x.svg')
  assert b'not calibrated' in explained.picture(given, 'x.svg')


def test_what_the_graphs_of_aasist_keep(found, tmp_path_factory):
  run = small_detectors.write(tmp_path_factory.mktemp('runs') / 'aasist')
  detector = Detector.load(run, batch=1)
  kept = detector._kept(wave(1))
  config = models.system(small_detectors.SMALL).model
  # One node of time for 3^7 samples, and one of frequency for three filters.
  assert kept.samples == 2_187 and kept.times.shape == (
    config.frames(SAMPLES)[-1],
  )
  assert kept.bands.shape == (23,) and kept.edges.shape == (24,)
  assert kept.edges[0] == 0 and 7_500 < kept.edges[-1] < 8_000
  for scores, ratio in (
    (kept.bands, config.pool_ratios[0]),
    (kept.times, config.pool_ratios[1]),
  ):
    assert (scores > 0).sum() == graph.kept_nodes(len(scores), ratio)
    assert scores.max() < 1
  # Of a wave that is repeated the first time is told.
  assert detector._kept(wave(1)[:4_000]).times.shape == (2,)
  assert found.kept is None and explained.values_of(found)['kept'] is None
  # As text, as values, and in the picture.
  with_it = dataclasses.replace(
    found,
    start=1.0,
    kept=kept._replace(times=np.array([0.0, 0.9, 0.4], np.float32)),
  )
  (line,) = (x for x in explained.lines(with_it) if x.startswith('graphs:'))
  assert 'kept are 2 of 3 nodes of time (best: 1.14 to 1.27 s' in line
  assert 'of 23 of frequency' in line
  values = explained.values_of(with_it)['kept']
  assert values['times'][1] == {'start': 1.273, 'end': 1.41, 'score': 0.4}
  assert json.loads(json.dumps(values)) == values
  drawn = matplotlib.image.imread(
    io.BytesIO(explained.picture(with_it, 'a.png'))
  )
  plain = matplotlib.image.imread(io.BytesIO(explained.picture(found, 'a.png')))
  assert green(drawn) > 500 > 10 > green(plain)


def green(pixels):
  """How many are."""
  red, middle, blue = pixels[..., 0], pixels[..., 1], pixels[..., 2]
  return int(((middle > red + 0.1) & (middle > blue + 0.1)).sum())


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
  for words in ('missed by', 'rank correlation', 'as loud', 'it holds'):
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
    'start', 'end', 'low', 'high', 'amount', 'share', 'measured',
  }  # fmt: skip
  assert {*given['silenced']} == {'marked', 'as_loud', 'random'}
  assert given['holds'] is True
  shares = [one['share'] for one in given['regions']]
  assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1


def test_pictures_are_the_same_bytes(found):
  for name in ('a.png', 'a.svg'):
    assert explained.picture(found, name) == explained.picture(found, name)


@pytest.mark.parametrize(
  ('more', 'message'),
  [
    (['why.gif'], 'expected a name that ends in .png, .svg'),
    (['why.png', '--input', 'a.wav', 'b.wav'], 'is of one recording; 2'),
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
