import gzip
import math

import numpy as np
import pytest
from scipy import stats

from benchmarks import bootstrap as benchmark
from jaxspoof.metrics import cllr, clustered, clusters, dcf, multiple, tdcf
from jaxspoof.metrics.eer import eer
from jaxspoof.score_files import scores as scores_lib

ASV = tdcf.AsvRates(0.02, 0.03, 0.7)
METRICS = {
  'eer': 'eer',
  'cllr': 'cllr',
  'min_dcf': dcf.OFFICIAL.linear,
  'min_tdcf_legacy': tdcf.legacy_cost(ASV),
  'min_tdcf_revised': tdcf.revised_cost(ASV),
  'act_dcf': dcf.OFFICIAL,
}


def case(speakers=8, attacks=4, trials=260, systems=2, seed=0, levels=None):
  """Some speakers are heard as bona fide only, some as spoof only."""
  rng = np.random.default_rng(seed)
  speaker = rng.integers(0, speakers, trials)
  label = (rng.random(trials) < 0.4).astype(np.int32)
  label[speaker == 0], label[speaker == 1] = 1, 0
  attack = np.where(label == 1, 99, rng.integers(0, attacks, trials))
  scores = rng.normal(size=(systems, trials)) + 1.5 * label
  scores += rng.normal(size=(systems, speakers))[:, speaker]
  if levels:
    scores = np.round(scores * levels) / levels
  names = np.array([f'S{n:03}' for n in range(speakers)])[speaker]
  return scores, label, names, np.array([f'A{n:02}' for n in attack])


def plain_loop(scores, label, speaker, attack, resamples, seed):
  """Gather the trials that were drawn and measure what is there."""
  cells = clusters.make_cells(label, speaker, attack)
  number = np.zeros(len(label), int)
  number[:] = cells.speaker[cells.of_trial]
  kinds = cells.attack[cells.of_trial]
  rows, index = [], 0
  while len(rows) < resamples:
    speakers, attacks = clusters.draw(cells, seed, index)
    index += 1
    chosen = []
    for one in speakers:
      trials = np.flatnonzero(number == one)
      chosen.extend(trials[label[trials] == 1])
      spoof = trials[label[trials] == 0]
      if attack is None:
        chosen.extend(spoof)
      for kind in attacks:
        chosen.extend(spoof[kinds[spoof] == kind])
    given = scores[chosen], label[chosen]
    if 0 < given[1].sum() < len(chosen):
      rows.append(measure(*given))
  return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def measure(scores, label):
  return {
    'eer': eer(scores, label).eer,
    'cllr': cllr.cllr(scores, label),
    'min_dcf': dcf.min_dcf(scores, label).cost,
    'min_tdcf_legacy': tdcf.min_tdcf_legacy(scores, label, ASV).cost,
    'min_tdcf_revised': tdcf.min_tdcf_revised(scores, label, ASV).cost,
    'act_dcf': dcf.act_dcf(scores, label),
  }


@pytest.mark.parametrize('levels', [None, 2])
@pytest.mark.parametrize('use_speaker', [True, False])
@pytest.mark.parametrize('use_attack', [True, False])
def test_equals_a_plain_loop_with_the_same_draws(
  levels, use_speaker, use_attack
):
  scores, label, speaker, attack = case(levels=levels)
  speaker = speaker if use_speaker else None
  attack = attack if use_attack else None
  found = clustered.resampled_metrics(
    scores,
    label,
    speaker=speaker,
    attack=attack,
    metrics=METRICS,
    resamples=30,
    seed=3,
  )
  for row in range(2):
    expected = plain_loop(scores[row], label, speaker, attack, 30, seed=3)
    assert list(found) == list(expected)
    for name, values in expected.items():
      if name in ('cllr', 'act_dcf'):  # summed in another order
        np.testing.assert_allclose(found[name][row], values, rtol=1e-12)
      else:
        np.testing.assert_array_equal(found[name][row], values, name)


@pytest.mark.parametrize('seed', range(6))
def test_few_trials_and_many_ties(seed):
  """A class may die out: such a resample is drawn anew, for all systems."""
  scores, label, speaker, attack = case(3, 3, 12, seed=seed, levels=1)
  keep = (speaker != 'S000') | (np.arange(12) < 4)
  scores, label = scores[:, keep], label[keep]
  speaker, attack = speaker[keep], attack[keep]
  label[0] = 1
  found = clustered.resampled_metrics(
    scores, label, speaker=speaker, attack=attack, resamples=50, seed=seed
  )
  for row in range(2):
    cells = plain_eers(scores[row], label, speaker, attack, 50, seed)
    np.testing.assert_array_equal(found['eer'][row], cells)


def plain_eers(scores, label, speaker, attack, resamples, seed):
  """As `plain_loop`, with weights in place of gathered trials."""
  cells = clusters.make_cells(label, speaker, attack)
  eers, index = [], 0
  while len(eers) < resamples:
    weight = clusters.weights(cells, seed, [index])[0][cells.of_trial]
    index += 1
    chosen = np.repeat(np.arange(len(label)), weight.astype(int))
    if len(set(label[chosen])) == 2:
      eers.append(eer(scores[chosen], label[chosen]).eer)
  return np.array(eers)


def test_seed_decides_and_not_the_order_of_trials():
  scores, label, speaker, attack = case()
  given = dict(resamples=20, metrics=METRICS)
  first = clustered.resampled_metrics(
    scores, label, speaker=speaker, attack=attack, **given
  )
  mixed = np.random.default_rng(1).permutation(len(label))
  again = clustered.resampled_metrics(
    scores[::-1, mixed],
    label[mixed],
    speaker=speaker[mixed],
    attack=attack[mixed],
    **given,
  )
  for name in METRICS.keys() - {'cllr', 'act_dcf'}:  # sums, in another order
    np.testing.assert_array_equal(first[name], again[name][::-1])
  other = clustered.resampled_metrics(
    scores, label, speaker=speaker, attack=attack, seed=1, **given
  )
  assert (first['eer'] != other['eer']).any()
  # More resamples begin with the same ones.
  more = clustered.resampled_metrics(
    scores, label, speaker=speaker, attack=attack, resamples=100
  )
  np.testing.assert_array_equal(more['eer'][:, :20], first['eer'])


def test_strata_keep_speakers_of_a_role_together():
  _, label, speaker, attack = case()
  cells = clusters.make_cells(label, speaker, attack)
  assert cells.strata == (1, 6, 1) and cells.attacks == 4
  for index in range(20):
    speakers, attacks = clusters.draw(cells, 0, index)
    assert len(speakers) == 8 and len(attacks) == 4
    assert speakers[0] == 0 and speakers[-1] == 7
    assert set(speakers[1:7]) <= set(range(1, 7))
  # Of a cell all trials have one label, speaker and attack.
  for column in (label, speaker):
    pairs = set(zip(cells.of_trial, column, strict=True))
    assert len(pairs) == len(cells.bonafide)


def test_a_system_does_not_differ_from_itself():
  scores, label, speaker, attack = case()
  twice = np.stack([scores[0], scores[0]])
  found = clustered.resampled_metrics(
    twice, label, speaker=speaker, attack=attack, resamples=20
  )
  value = eer(scores[0], label).eer
  same = clustered.difference(value, value, found['eer'], clusters=4)
  assert same == (0.0, (0.0, 0.0), 1.0)


def test_pairing_sees_what_separate_intervals_do_not():
  """The second system adds a little noise: always worse, by little."""
  rng = np.random.default_rng(0)
  scores, label, speaker, attack = case(30, 12, trials=6000)
  scores[1] = scores[0] + 1.2 * rng.normal(size=6000)
  found = clustered.resampled_metrics(
    scores, label, speaker=speaker, attack=attack, resamples=200
  )['eer']
  first, second = (eer(row, label).eer for row in scores)
  apart = clustered.difference(first, second, found, clusters=12)
  assert apart.interval.low <= apart.value <= apart.interval.high < 0
  assert apart.share > 0.98
  one, two = (clustered.interval(row, clusters=12) for row in found)
  assert one.high > two.low  # the intervals of the systems overlap
  half = clustered.interval(found[0], 0.5, clusters=12)
  assert one.low < half.low < half.high < one.high


def test_speakers_and_attacks_widen_the_interval(reference):
  """Real scores; EERs of the sample lie inside."""
  folder = reference / 'scores'
  trials = scores_lib.read(folder / 'rawgat_mul.txt.gz')
  with gzip.open(folder / 'ASVspoof2019.LA.cm.eval.trl.txt.gz', 'rt') as lines:
    speaker_of = {u: s for s, u, *_ in map(str.split, lines)}
  speaker = np.array([speaker_of[u] for u in trials.utterance])
  widths = []
  for given in (
    dict(),
    dict(speaker=speaker),
    dict(speaker=speaker, attack=trials.attack),
  ):
    found = clustered.resampled_metrics(
      trials.scores[None], trials.label, resamples=100, **given
    )
    low, high = clustered.interval(found['eer'][0], clusters=None)
    assert low < 0.01060135 < high
    widths.append(high - low)
  given = trials.scores, trials.label, speaker, trials.attack
  np.testing.assert_array_equal(found['eer'][0, :3], plain_eers(*given, 3, 0))
  assert 1.5 * widths[0] < widths[1] < widths[2] / 1.5


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(resamples=0), 'resamples must be at least 1; got 0'),
    (dict(speaker=['a']), r'speaker must be .* the 260 labels; .*\(1,\)'),
    (dict(attack=['a']), r'attack must be .* the 260 labels'),
    (dict(labels=np.ones(260, int)), '260 bona fide and 0 spoof'),
  ],
)
def test_bad_arguments_are_errors(change, message):
  scores, label, _, _ = case()
  arguments = {'labels': label, **change}
  with pytest.raises(ValueError, match=message):
    clustered.resampled_metrics(scores, arguments.pop('labels'), **arguments)


def test_speakers_and_attacks_that_may_miss_each_other():
  """Two spoofs, each of its own speaker and attack: 1 in 8 draws has none."""
  label = np.array([1, 0, 0])
  speaker, attack = np.array(['a', 'b', 'c']), np.array(['-', 'x', 'y'])
  cells = clusters.make_cells(label, speaker, attack)
  empty = (clusters.weights(cells, 0, range(800))[:, ~cells.bonafide] == 0).all(
    1
  )
  assert 70 < empty.sum() < 130  # 100 expected, standard deviation 9
  found = clustered.resampled_metrics(
    np.array([[2.0, 1.0, 0.0]]),
    label,
    speaker=speaker,
    attack=attack,
    resamples=200,
  )
  assert found['eer'].shape == (1, 200) and (found['eer'] == 0).all()


@pytest.mark.parametrize('columns', ['both', 'speaker', 'attack', 'neither'])
def test_intervals_equal_those_of_a_plain_loop(columns):
  """Student's quantile and the sample's shrinking, written out."""
  scores, label, speaker, attack = case()
  speaker = speaker if columns in ('both', 'speaker') else None
  attack = attack if columns in ('both', 'attack') else None
  eers = plain_loop(scores[0], label, speaker, attack, 40, seed=0)['eer']
  (found,) = clustered.resampled_metrics(
    scores[:1], label, speaker=speaker, attack=attack, resamples=40
  )['eer']
  # Seven speakers are heard as bona fide, as many spoofed, by four attacks.
  count = {
    'both': 4, 'speaker': 7, 'attack': 4, 'neither': int(label.sum())
  }[columns]  # fmt: skip
  number = clustered.clusters_of(label, speaker, attack)
  assert number == count
  reach = stats.t(count - 1).ppf(0.975) / math.sqrt(1 - 1 / count)
  tail = stats.norm.cdf(-reach)
  expected = np.quantile(eers, [tail, 1 - tail])
  given = clustered.interval(found, clusters=number)
  np.testing.assert_allclose(given, expected, rtol=1e-12)
  plain = clustered.interval(found, clusters=None)
  expected = np.quantile(eers, [0.025, 0.975])
  np.testing.assert_allclose(plain, expected, rtol=1e-12)
  assert given.low <= plain.low <= plain.high <= given.high


def test_what_there_is_one_of_is_no_cluster():
  label = np.array([1, 1, 0, 0, 0])
  one, three = np.array(['a'] * 5), np.array(['-', '-', 'x', 'y', 'z'])
  assert clustered.clusters_of(label, one, three) == 3
  assert clustered.clusters_of(label, one, one) == 5
  assert clustered.clusters_of(label) == 2


def test_intervals_hold_the_truth():
  """Fewer tests than docs/metrics.md reports, where plain ones fall short."""
  for true in (0.01, 0.2):
    (plain, narrow), (share, width) = benchmark.coverage(
      20, 6, true, 100, 400, ('speakers and attacks', 'the same, expanded')
    )
    assert share > 0.92 and share > plain + 0.02
    assert 1.2 < width / narrow < 1.6


def test_p_agrees_with_the_interval():
  """Of shifted resamples p is 0.05 where the interval just reaches zero."""
  values = np.random.default_rng(0).normal(size=99_999)
  for number in (6, 13, 48):
    low, high = clustered.interval(values, clusters=number)
    for end in (low, high):
      p = multiple.sign_p(values - end, clusters=number)
      assert p == pytest.approx(0.05, rel=0.02)
  plain = multiple.sign_p(values - 1, clusters=None)
  assert multiple.sign_p(values - 1, clusters=10**6) == pytest.approx(
    plain, rel=1e-3
  )


def test_confidence_is_a_fraction():
  with pytest.raises(ValueError, match=r'confidence must lie in \(0, 1\)'):
    clustered.interval([1.0], 95, clusters=None)


# ------------------------------------------------------- many comparisons ---
def test_p_values_count_resamples_on_the_rarer_side():
  values = np.arange(-2, 97) + 0.5  # 99 of them, two below zero
  for same, p in (
    (values, 0.06),
    (-values, 0.06),
    (np.zeros(99), 1),
    (np.ones(999), 0.002),
  ):
    assert multiple.sign_p(same, clusters=None) == pytest.approx(p)


def test_p_values_corrected_for_their_number():
  """By hand: the least times four, the next times three, never falling."""
  found = multiple.holm([0.03, 0.01, 0.5, 0.015])
  np.testing.assert_allclose(found, [0.06, 0.04, 0.5, 0.045])
  assert multiple.holm([0.4, 0.6]) == [0.8, 0.8]
  assert multiple.holm([]) == []


def test_no_difference_is_significant_by_chance_alone():
  """Of tables of ten systems that are alike, one in twenty at most."""
  rng = np.random.default_rng(2)
  wrong = 0
  for _ in range(400):
    centre_K = rng.normal(size=(10, 1))
    draws_KxR = centre_K + rng.normal(size=(10, 999))
    p = [multiple.sign_p(row, clusters=None) for row in draws_KxR]
    wrong += min(multiple.holm(p)) < 0.05
  assert wrong / 400 < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 400)
