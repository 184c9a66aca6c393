"""a-DCF, t-EER and the reader of verification scores."""

import gzip

import numpy as np
import pytest

from jaxspoof.metrics import scorecard, tandem, tdcf
from jaxspoof.metrics.trials import Undefined
from jaxspoof.score_files import asv_scores
from jaxspoof.score_files import scores as scores_lib


def three_classes(rng, levels=None):
  """Scores of targets, nontargets and spoofs; on a grid if levels are given."""
  means = (2.0, 0.0, rng.uniform(0.0, 2.0))
  parts = [rng.normal(mean, 1, rng.integers(3, 25)) for mean in means]
  return [np.round(x * levels) / levels if levels else x for x in parts]


def rejected_shares(*classes):
  """Rates at each point of the official order, the definition in loops."""
  trials = sorted((s, kind) for kind, x in enumerate(classes) for s in x)
  counts, points = [0, 0, 0], [(0.0, 1.0, 1.0, trials[0][0] - 1e-8)]
  sizes = [len(x) for x in classes]
  for score, kind in trials:
    counts[kind] += 1
    shares = [(n - c) / n for n, c in zip(sizes, counts, strict=True)]
    points.append((counts[0] / sizes[0], shares[1], shares[2], score))
  return points


@pytest.mark.parametrize('levels', [None, 2, 1])
def test_a_dcf_is_its_definition(levels):
  rng = np.random.default_rng(0)
  for _ in range(300):
    classes = three_classes(rng, levels)
    best = min(
      (0.9405 * miss + 0.095 * alarm + 0.5 * spoof) / min(0.9405, 0.595)
      for miss, alarm, spoof, _ in rejected_shares(*classes)
    )
    found = tandem.a_dcf(*classes)
    np.testing.assert_allclose(found.cost, best, rtol=1e-13)
    target, nontarget, spoof = (x > found.threshold for x in classes)
    cost = 0.9405 * np.mean(~target) + 0.095 * np.mean(nontarget)
    cost = (cost + 0.5 * np.mean(spoof)) / 0.595
    np.testing.assert_allclose(found.cost, cost, rtol=1e-13)


def test_a_dcf_with_other_costs():
  costs = tandem.ADcfCosts(1.0, 10.0, 20.0, tdcf.Priors(0.9, 0.05, 0.05))
  found = tandem.a_dcf([1.0, 3.0], [0.0, 2.0], [-1.0, 0.5], costs)
  # At 0.5: misses 0, nontargets 1/2, spoofs 0; default 0.9 is the lesser.
  assert found.threshold == 0.5
  np.testing.assert_allclose(found.cost, 0.25 / 0.9, rtol=1e-14)
  assert tandem.a_dcf([1.0], [0.0], [0.0], costs) == (0.0, 0.0)


def brute_t_eer(bonafide, cm_spoof, target, nontarget, spoof, rho):
  """The definition: every pair of thresholds."""
  cm = rejected_shares(bonafide, cm_spoof, [9e9])
  cm[0] = (*cm[0][:3], min(*bonafide, *cm_spoof) - 0.001)
  cm = cm[:-1]  # without the stand-in for a third class
  best, gap = None, np.inf
  for miss, alarm, passes, threshold in rejected_shares(
    target, nontarget, spoof
  ):
    if not miss < (1 - rho) * alarm + rho * passes:
      continue
    apart = []
    for cm_miss, cm_alarm, _, _ in cm:
      alarms = (1 - rho) * (1 - cm_miss) * alarm + rho * cm_alarm * passes
      apart.append(abs(cm_miss + (1 - cm_miss) * miss - alarms))
    cm_miss, cm_alarm, _, cm_threshold = cm[int(np.argmin(apart))]
    if passes == 0 or cm_miss == 1:
      continue  # the ratios are infinite
    distance = abs(alarm / passes - cm_alarm / (1 - cm_miss))
    if distance < gap:
      best, gap = (passes * cm_alarm, cm_threshold, threshold), distance
  return best


@pytest.mark.parametrize('rho', [0.5, 0.3])
def test_t_eer_is_its_definition(rho):
  rng = np.random.default_rng(1)
  compared = 0
  for number in range(300):
    levels = [None, 3][number % 2]
    classes = three_classes(rng, levels)
    _, cm_spoof, bonafide = three_classes(rng, levels)
    bonafide = bonafide + 1.5
    expected = brute_t_eer(bonafide, cm_spoof, *classes, rho)
    if expected is None:
      with pytest.raises(Undefined, match='at no pair of thresholds'):
        tandem.t_eer(bonafide, cm_spoof, *classes, rho)
      continue
    found = tandem.t_eer(bonafide, cm_spoof, *classes, rho)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    compared += 1
  assert compared > 250


def test_t_eer_of_published_scores(reference):
  """At the point both tandem errors are equal, whatever the spoofs' share."""
  folder = reference / 'scores'
  trials = scores_lib.read(folder / 'rawgat_mul.txt.gz')
  asv = asv_scores.read(
    folder / 'ASVspoof2019.LA.asv.eval.gi.trl.scores.txt.gz'
  )
  bonafide = trials.scores[trials.label == 1]
  spoofs = trials.scores[trials.label == 0]
  found = tandem.t_eer(bonafide, spoofs, *asv[:3])
  miss = np.mean(bonafide <= found.cm_threshold)
  alarm = np.mean(spoofs > found.cm_threshold)
  asv_miss = np.mean(asv.target <= found.asv_threshold)
  nontarget = np.mean(asv.nontarget > found.asv_threshold)
  spoof = np.mean(asv.spoof > found.asv_threshold)
  tandem_miss = miss + (1 - miss) * asv_miss
  np.testing.assert_allclose(found.eer, spoof * alarm, rtol=1e-3)
  np.testing.assert_allclose((1 - miss) * nontarget, found.eer, rtol=2e-3)
  np.testing.assert_allclose(tandem_miss, found.eer, rtol=2e-3)
  other = tandem.t_eer(bonafide, spoofs, *asv[:3], rho=0.8)
  np.testing.assert_allclose(other.eer, found.eer, rtol=5e-3)


def test_scores_without_a_value_are_told_apart_from_errors():
  """Decisions have no t-DCF; another system has one, and no difference."""
  asv = asv_scores.AsvScores(
    *(np.array(x) for x in ([2.0, 3.0], [0.0, 1.0], [0.5, 2.5], ['A', 'A']))
  )
  label = np.array([1, 1, 0, 0])
  cards = scorecard.make(
    np.array([[-1.0, -1.0, 1.0, 1.0], [3.0, 2.0, 1.0, 0.0]]),
    label,
    asv=asv,
    resamples=20,
  )
  assert cards[0]['min_tdcf_legacy'] is None
  assert 'are they decisions?' in cards[0]['undefined']['min_tdcf_legacy']
  assert 'undefined' not in cards[1]
  assert 'min_tdcf_legacy' not in cards[1]['difference']
  assert cards[1]['min_tdcf_legacy'] == 0.0


@pytest.mark.parametrize(
  ('call', 'message'),
  [
    (lambda: tandem.a_dcf([], [0.0], [0.0]), 'a-DCF: target .*not empty'),
    (lambda: tandem.a_dcf([1.0], [np.nan], [0.0]), 'a-DCF: nontarget'),
    (lambda: tandem.ADcfCosts(miss=0.0), 'costs must be above 0'),
    (
      lambda: tandem.t_eer([1.0], [0.0], [1.0], [0.0], [0.0], rho=1.0),
      r'rho must lie in \(0, 1\)',
    ),
    (
      lambda: tandem.t_eer([1.0], [], [1.0], [0.0], [0.0]),
      't-EER: needs bona fide and spoof trials; got 1 bona fide and 0',
    ),
    (
      lambda: tandem.t_eer([1.0], [0.0], [1.0], [0.0], [-1.0, np.inf]),
      't-EER: spoof scores must be .* finite',
    ),
  ],
)
def test_bad_arguments_are_errors(call, message):
  with pytest.raises(ValueError, match=message):
    call()


def test_verification_scores_are_read(tmp_path):
  path = tmp_path / 'asv.txt.gz'
  with gzip.open(path, 'wt') as file:
    file.write(
      'bonafide target 7.98\nbonafide nontarget -1e1\nA14 spoof 2\n'
      'A15 spoof 3.5\n'
    )
  found = asv_scores.read(path)
  assert [x.tolist() for x in found] == [
    [7.98],
    [-10.0],
    [2.0, 3.5],
    ['A14', 'A15'],
  ]
  assert found.spoof.dtype == np.float64


def test_broken_verification_scores_are_listed(tmp_path):
  path = tmp_path / 'asv.txt'
  path.write_text(
    'bonafide target 1\nbonafide spoof 2\nA01 target 3\nA01 spoof nan\n'
    'bonafide other 1\nbonafide target\nbonafide target 1_0\n'
  )
  with pytest.raises(scores_lib.ScoreFileError) as caught:
    asv_scores.read(path)
  assert str(caught.value).splitlines() == [
    f'{path}: 8 problem(s); expected lines CM_KEY ASV_KEY SCORE, ASV_KEY being '
    'target, nontarget or spoof',
    "  line 2: CM_KEY 'bonafide' and ASV_KEY 'spoof' contradict each other: "
    "'bonafide spoof 2'",
    "  line 3: CM_KEY 'A01' and ASV_KEY 'target' contradict each other: "
    "'A01 target 3'",
    "  line 4: score nan is not finite: 'A01 spoof nan'",
    "  line 5: ASV_KEY 'other': 'bonafide other 1'",
    "  line 6: 2 columns: 'bonafide target'",
    "  line 7: score '1_0' is not a number: 'bonafide target 1_0'",
    '  no nontarget trial',
    '  no spoof trial',
  ]


@pytest.mark.parametrize(
  ('content', 'message'), [(b'', 'empty'), (b'\xff\xfe\x00', 'not a text file')]
)
def test_files_without_verification_scores(tmp_path, content, message):
  path = tmp_path / 'asv.txt'
  path.write_bytes(content)
  with pytest.raises(scores_lib.ScoreFileError, match=message):
    asv_scores.read(path)
