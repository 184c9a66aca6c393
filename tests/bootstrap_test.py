import jax
import numpy as np
import pytest

from jaxspoof.metrics import bootstrap
from jaxspoof.metrics.eer import eer
from jaxspoof.score_files import scores as scores_lib

R = 48  # resamples: one number, so that little is compiled
DRAW = jax.jit(bootstrap.draw_units, static_argnums=2)


def case(bonafide=60, spoof=200, seed=0, levels=None):
  rng = np.random.default_rng(seed)
  labels = rng.permutation(np.repeat([1, 0], [bonafide, spoof]))
  scores = rng.normal(size=len(labels)) + 1.5 * labels
  if levels:
    scores = np.round(scores * levels) / levels
  return scores, labels


def plain_loop(scores, labels, key, resamples, groups=None):
  """Draw the same units, gather their trials, take the EER of what is there."""
  eers = []
  for one in jax.random.split(key, resamples):
    chosen = []
    keys = jax.random.split(one)
    for value, class_key in zip((1, 0), keys, strict=True):
      # Units in the order of `draw_units`: trials by rising score, groups by
      # name. Equal scores of a class are interchangeable.
      trials = np.flatnonzero(labels == value)
      trials = trials[np.argsort(scores[trials], kind='stable')]
      names = np.arange(len(trials)) if groups is None else groups[trials]
      distinct = np.unique(names)
      count = len(distinct)
      drawn = DRAW(class_key, np.uint32(count), 512)
      for unit in np.asarray(drawn)[:count]:
        chosen.extend(trials[names == distinct[unit]])
    eers.append(eer(scores[chosen], labels[chosen]).eer)
  return np.array(eers)


@pytest.mark.parametrize(
  ('bonafide', 'spoof', 'levels'),
  [(60, 200, None), (60, 200, 2), (7, 3, 1), (1, 4, None), (300, 40, 4)],
)
def test_equals_a_plain_loop_with_the_same_draws(bonafide, spoof, levels):
  scores, labels = case(bonafide, spoof, levels=levels)
  key = jax.random.key(3)
  found = bootstrap.resampled_eers(scores, labels, key=key, resamples=R)
  expected = plain_loop(scores, labels, key, R)
  np.testing.assert_array_equal(found, expected)
  low, high = bootstrap.bootstrap_eer(
    scores, labels, key=key, resamples=R, confidence=0.9
  )
  np.testing.assert_array_equal(
    (low, high), np.quantile(expected, [0.05, 0.95])
  )


def test_groups_are_drawn_whole():
  scores, labels = case(levels=3)
  rng = np.random.default_rng(1)
  speaker = rng.integers(0, 6, len(labels))
  attack = np.where(labels == 1, 0, rng.integers(1, 4, len(labels)))
  groups = np.array(
    [f's{s}/A{a}' for s, a in zip(speaker, attack, strict=True)]
  )
  key = jax.random.key(5)
  found = bootstrap.resampled_eers(
    scores, labels, key=key, resamples=R, groups=groups
  )
  np.testing.assert_array_equal(
    found, plain_loop(scores, labels, key, R, groups)
  )


def test_key_decides_and_nothing_else():
  scores, labels = case()
  one, two = jax.random.key(1), jax.random.key(2)
  first = bootstrap.resampled_eers(scores, labels, key=one, resamples=R)
  shuffled = np.random.default_rng(9).permutation(len(scores))
  again = bootstrap.resampled_eers(
    scores[shuffled], labels[shuffled], key=one, resamples=R
  )
  np.testing.assert_array_equal(first, again)
  other = bootstrap.resampled_eers(scores, labels, key=two, resamples=R)
  assert (first != other).any()
  # The padded length does not change what is drawn.
  short, long = (DRAW(one, np.uint32(100), size) for size in (128, 512))
  np.testing.assert_array_equal(short, long[:128])
  assert 0 <= long.min() and long.max() == 99


def test_interval_covers_the_true_eer_as_often_as_it_says():
  """Two normal classes whose EER is 1 - Phi(0.75) = 0.2266."""
  covered = 0
  for seed in range(100):
    scores, labels = case(200, 400, seed=seed)
    low, high = bootstrap.bootstrap_eer(
      scores, labels, key=jax.random.key(seed), resamples=R, confidence=0.8
    )
    covered += low <= 0.22663 <= high
  assert 66 <= covered <= 92  # 80 expected, standard deviation 4


def test_groups_widen_the_interval_where_trials_of_a_group_agree():
  rng = np.random.default_rng(0)
  speakers = np.repeat(np.arange(40), 25)
  labels = (speakers < 20).astype(np.int32)
  scores = rng.normal(size=40)[speakers] + 0.2 * rng.normal(size=1000) + labels
  key = jax.random.key(0)
  alone = bootstrap.bootstrap_eer(scores, labels, key=key, resamples=R)
  grouped = bootstrap.bootstrap_eer(
    scores, labels, key=key, resamples=R, groups=speakers
  )
  assert grouped.high - grouped.low > 2 * (alone.high - alone.low)


def test_real_scores(reference):
  """Normal approximation of the same interval: 1.06 % +- 0.17 points."""
  trials = scores_lib.read(reference / 'scores' / 'rawgat_mul.txt.gz')
  low, high = bootstrap.bootstrap_eer(
    trials.scores, trials.label, key=jax.random.key(0), resamples=R
  )
  assert low < 0.01060135 < high
  assert 0.002 < high - low < 0.005


@pytest.mark.parametrize(
  ('change', 'message'),
  [
    (dict(resamples=0), 'resamples must be at least 1; got 0'),
    (dict(confidence=95), r'confidence must lie in \(0, 1\); got 95'),
    (dict(groups=['a', 'b']), 'as long as the 260 scores'),
    (dict(labels=np.ones(260, int)), '260 bona fide and 0 spoof'),
  ],
)
def test_bad_arguments_are_errors(change, message):
  scores, labels = case()
  arguments = dict(scores=scores, labels=labels, key=jax.random.key(0))
  arguments = {**arguments, **change}
  with pytest.raises(ValueError, match=message):
    bootstrap.bootstrap_eer(
      arguments.pop('scores'), arguments.pop('labels'), **arguments
    )
