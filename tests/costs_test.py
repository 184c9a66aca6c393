"""minDCF, actDCF, both t-DCFs, Cllr, AUC and rates at a threshold."""

import doctest
import math

import numpy as np
import pytest

from jaxspoof.metrics import cllr, dcf, rates, tdcf
from jaxspoof.metrics import eer as eer_lib
from jaxspoof.score_files import asv_scores
from jaxspoof.score_files import scores as scores_lib

# The organisers' verification system of ASVspoof 5.
ORGANISERS = tdcf.AsvRates(
  miss=0.01880141010575793,
  false_alarm=0.01881016557566423,
  spoof_false_alarm=0.4607082907604729,
)


def random_case(rng, most=30):
  """Scores on a grid, so that ties occur; three different ones at least."""
  bonafide, spoof = rng.integers(2, most, 2)
  labels = rng.permutation(np.repeat([1, 0], [bonafide, spoof]))
  scores = rng.integers(0, rng.choice([2, 5, 1000]), len(labels)) / 8 + labels
  scores[:3] = [0.0, 0.25, 2.5]
  return scores, labels


def brute_force(scores, labels, cost):
  """The definition, one operating point after the other."""
  trials = sorted(zip(scores, 1 - labels, strict=True))
  bonafide, spoof = np.sum(labels == 1), np.sum(labels == 0)
  misses, rejected, best = 0, 0, (cost(0.0, 1.0), trials[0][0] - 0.001)
  for score, is_spoof in trials:
    misses, rejected = misses + (1 - is_spoof), rejected + is_spoof
    value = cost(misses / bonafide, (spoof - rejected) / spoof)
    if value < best[0]:
      best = value, score
  return best


def test_minima_equal_brute_force_on_random_cases_with_ties():
  rng = np.random.default_rng(0)
  for _ in range(1000):
    scores, labels = random_case(rng)
    costs = dcf.DcfCosts(rng.uniform(0.01, 0.9), *rng.uniform(0.1, 20, 2))
    found = dcf.min_dcf(scores, labels, costs)

    def cost(miss, alarm, costs=costs):
      wrong = costs.miss * (1 - costs.spoof_prior) * miss
      wrong = wrong + costs.false_alarm * costs.spoof_prior * alarm
      return wrong / min(
        costs.miss * (1 - costs.spoof_prior),
        costs.false_alarm * costs.spoof_prior,
      )

    value, _ = brute_force(scores, labels, cost)
    np.testing.assert_allclose(found.cost, value, rtol=1e-14)
    np.testing.assert_allclose(
      cost(*at(scores, labels, found.threshold)), value, rtol=1e-14
    )


def at(scores, labels, threshold):
  """Rates of the decision `score > threshold`."""
  accepted = scores > threshold
  return np.mean(~accepted[labels == 1]), np.mean(accepted[labels == 0])


def test_both_tandem_costs_equal_brute_force():
  rng = np.random.default_rng(1)
  for _ in range(1000):
    scores, labels = random_case(rng)
    asv = tdcf.AsvRates(*rng.uniform(0, 0.3, 2), rng.uniform(0.1, 1))

    def legacy(miss, alarm, asv=asv):
      weight = 0.9405 * (1 - asv.miss) - 0.0095 * 10 * asv.false_alarm
      other = 10 * 0.05 * asv.spoof_false_alarm
      return (weight * miss + other * alarm) / min(weight, other)

    def revised(miss, alarm, asv=asv):
      rest = 0.9405 * asv.miss + 0.0095 * 10 * asv.false_alarm
      weight, other = 0.9405 - rest, 0.05 * 10 * asv.spoof_false_alarm
      total = rest + weight * miss + other * alarm
      return total / (rest + min(weight, other))

    for function, cost in (
      (tdcf.min_tdcf_legacy, legacy),
      (tdcf.min_tdcf_revised, revised),
    ):
      found = function(scores, labels, asv)
      expected = brute_force(scores, labels, cost)
      np.testing.assert_allclose(found.cost, expected[0], rtol=1e-13)
      np.testing.assert_allclose(
        cost(*at(scores, labels, found.threshold)), expected[0], rtol=1e-13
      )


def test_weights_are_those_of_the_organisers():
  cost = tdcf.revised_cost(ORGANISERS)
  assert round(cost.constant, 8) == 0.01946969
  assert round(cost.miss, 8) == 0.92103031
  assert round(cost.false_alarm, 8) == 0.23035415
  assert round(dcf.OFFICIAL.threshold, 6) == -0.641854
  assert dcf.OFFICIAL.linear == dcf.LinearCost(0.0, 0.95, 0.5, 0.5)


def test_all_equal_scores():
  scores, labels = np.ones(6), np.repeat([1, 0], 3)
  assert dcf.min_dcf(scores, labels).cost == 1
  assert rates.auc(scores, labels) == 0.5
  assert dcf.act_dcf(scores, labels) == 1  # accepts everything
  assert cllr.cllr(0 * scores, labels) == 1
  for function in (tdcf.min_tdcf_legacy, tdcf.min_tdcf_revised):
    with pytest.raises(ValueError, match=r'soft scores.*got 1: are they'):
      function(scores, labels, ORGANISERS)
    with pytest.raises(ValueError, match='got 2: are they decisions'):
      function(labels * 1.0, labels, ORGANISERS)


def test_actual_cost_at_the_threshold_itself_accepts():
  threshold = dcf.OFFICIAL.threshold
  labels = np.array([1, 1, 0, 0])
  scores = np.array([threshold, np.nextafter(threshold, -9), threshold, -9.0])
  assert rates.error_rates(scores, labels, threshold) == (0.5, 0.5)
  assert dcf.act_dcf(scores, labels) == (0.95 * 0.5 + 0.5 * 0.5) / 0.5
  assert dcf.act_dcf([-5.0, 5.0], [1, 0]) == pytest.approx(1.45 / 0.5)


def test_cllr_of_enormous_scores_is_finite():
  assert cllr.cllr([2000.0, -2000.0], [1, 0]) == 0
  wrong = cllr.cllr([-2000.0, 2000.0], [1, 0])
  np.testing.assert_allclose(wrong, 2000 / math.log(2), rtol=1e-15)
  one = 0.5 * (math.log2(1 + math.exp(-1.5)) + math.log2(1 + math.exp(0.5)))
  np.testing.assert_allclose(cllr.cllr([1.5, 0.5], [1, 0]), one, rtol=1e-15)


def test_auc_counts_pairs():
  rng = np.random.default_rng(3)
  for _ in range(300):
    scores, labels = random_case(rng)
    gap = scores[labels == 1][:, None] - scores[labels == 0]
    expected = np.mean((gap > 0) + 0.5 * (gap == 0))
    np.testing.assert_allclose(rates.auc(scores, labels), expected, rtol=1e-14)
    mask = rng.random(len(labels)) < 0.8
    mask[[labels.argmax(), labels.argmin()]] = True
    kept = rates.auc(scores[mask], labels[mask])
    assert rates.auc(scores, labels, mask) == kept


@pytest.mark.parametrize(
  ('function', 'name'),
  [
    (dcf.min_dcf, 'minDCF'),
    (dcf.act_dcf, 'actDCF'),
    (cllr.cllr, 'Cllr'),
    (rates.auc, 'auc'),
    (lambda s, y: rates.error_rates(s, y, 0.0), 'error rates'),
    (lambda s, y: tdcf.min_tdcf_legacy(s, y, ORGANISERS), 't-DCF'),
    (lambda s, y: tdcf.min_tdcf_revised(s, y, ORGANISERS), 't-DCF'),
  ],
)
def test_input_without_a_value_is_an_error(function, name):
  with pytest.raises(ValueError, match=f'{name}: .*2 bona fide and 0 spoof'):
    function([1.0, 2.0], [1, 1])
  with pytest.raises(ValueError, match=f'{name}: .*at index 1: nan'):
    function([1.0, np.nan], [1, 0])
  with pytest.raises(ValueError, match=f'{name}: .*one length'):
    function([1.0], [1, 0])


@pytest.mark.parametrize(
  ('make', 'message'),
  [
    (lambda: dcf.DcfCosts(spoof_prior=1.0), 'spoof_prior must lie in'),
    (lambda: dcf.DcfCosts(miss=0.0), 'costs must be above 0'),
    (lambda: tdcf.Priors(0.9, 0.05, 0.06), 'sum to 1'),
    (lambda: tdcf.Priors(1.1, -0.15, 0.05), 'at least 0'),
    (lambda: tdcf.LegacyCosts(cm_miss=-1.0), 'costs must be at least 0'),
    (lambda: tdcf.RevisedCosts(miss=math.nan), 'costs must be at least 0'),
    (
      lambda: tdcf.legacy_cost(tdcf.AsvRates(1.0, 0.5, 0.5)),
      'legacy t-DCF: .*must not be negative',
    ),
    (
      lambda: tdcf.revised_cost(tdcf.AsvRates(1.0, 0.5, 0.5)),
      'revised t-DCF: .*must not be negative',
    ),
    (
      lambda: tdcf.legacy_cost(tdcf.AsvRates(0.1, 0.1, 0.0)),
      'default cost above 0',
    ),
    (lambda: tdcf.asv_rates([1.0], [], [0.0]), 'nontarget .*not empty'),
    (
      lambda: tdcf.asv_rates([1.0], [0.0], [np.inf]),
      'spoof .*1 of them not finite',
    ),
  ],
)
def test_costs_that_make_no_sense_are_errors(make, message):
  with pytest.raises(ValueError, match=message):
    make()


def test_verification_at_its_threshold():
  found = tdcf.asv_rates([1.0, 2.0, 3.0], [0.0, 1.0, 2.0], [1.0, 5.0, 0.5])
  assert (found.eer, found.threshold) == (1 / 3, 1.0)
  assert found.miss == 0.0  # 1.0 is on the threshold: accepted
  assert found.false_alarm == found.spoof_false_alarm == 2 / 3


@pytest.fixture(scope='module')
def asv(reference):
  name = 'ASVspoof2019.LA.asv.eval.gi.trl.scores.txt.gz'
  found = asv_scores.read(reference / 'scores' / name)
  assert [len(x) for x in found] == [5370, 33327, 63882, 63882]
  return tdcf.asv_rates(found.target, found.nontarget, found.spoof)


def test_official_verification_scores(asv):
  assert round(100 * asv.eer, 6) == 2.457784
  assert round(asv.threshold, 6) == -5.680051
  assert round(asv.false_alarm, 8) == 0.02460467
  assert round(asv.miss, 8) == 0.02458101
  assert round(1 - asv.spoof_false_alarm, 8) == 0.23934755
  legacy, revised = tdcf.legacy_cost(asv), tdcf.revised_cost(asv)
  assert round(legacy.miss, 8) == round(revised.miss, 8) == 0.91504412
  assert round(legacy.false_alarm, 8) == 0.38032623
  assert round(revised.constant, 8) == 0.02545588


@pytest.mark.parametrize(
  ('name', 'sign', 'expected'),
  [
    (
      'rawgat_mul',
      1,
      (1.060135, 1.451266, 0.033539, 0.094168, 0.029893, 0.044395, 0.066252),
    ),
    (
      'rawgat_add',
      1,
      (1.158596, 1.745121, 0.037372, 0.097760, 0.032281, 0.046674, 0.078080),
    ),
    (
      'air1028_ocsoftmax',
      -1,
      (2.177987, 0.990653, 0.055816, 0.115047, 0.051856, 0.079201, 0.503788),
    ),
  ],
)
def test_published_scores(reference, asv, name, sign, expected):
  """Figures of the official functions, to the last digit that they print."""
  trials = scores_lib.read(reference / 'scores' / f'{name}.txt.gz')
  given = sign * trials.scores, trials.label
  value, threshold = eer_lib.eer(*given)
  found = (
    100 * value,
    threshold,
    tdcf.min_tdcf_legacy(*given, asv).cost,
    tdcf.min_tdcf_revised(*given, asv).cost,
    dcf.min_dcf(*given).cost,
    dcf.act_dcf(*given),
    cllr.cllr(*given),
  )
  assert tuple(round(x, 6) for x in found) == expected


@pytest.mark.parametrize('module', [dcf, cllr, rates])
def test_examples_in_docstrings(module):
  found = doctest.testmod(module)
  assert found.attempted and not found.failed
