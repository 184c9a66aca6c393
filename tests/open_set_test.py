"""Source tracing: against scikit-learn and against trying everything."""

import doctest
import warnings

import numpy as np
import pytest

from jaxspoof.metrics import open_set
from jaxspoof.metrics.open_set import figures

sklearn_metrics = pytest.importorskip('sklearn.metrics')


def random_trials(seed, count=80, classes=5, present=None):
  """Truth and answers that agree about half of the time."""
  rng = np.random.default_rng(seed)
  truth = rng.choice(present or classes, count)
  answers = np.where(rng.random(count) < 0.5, truth, rng.choice(classes, count))
  return truth, answers


def test_examples():
  assert not doctest.testmod(open_set).failed


@pytest.mark.parametrize('seed', range(6))
def test_figures_equal_scikit_learn(seed):
  truth, answers = random_trials(seed, count=20 + 20 * seed)
  found = figures(truth, answers, 5)
  every = list(range(5))
  np.testing.assert_array_equal(
    found.confusion, sklearn_metrics.confusion_matrix(truth, answers)
  )
  assert found.accuracy == sklearn_metrics.accuracy_score(truth, answers)
  for average, value in ((None, found.f1), ('macro', found.macro_f1)):
    np.testing.assert_allclose(
      sklearn_metrics.f1_score(truth, answers, labels=every, average=average),
      value,
      rtol=1e-12,
    )
  for name in ('precision', 'recall'):
    score = getattr(sklearn_metrics, f'{name}_score')
    np.testing.assert_allclose(
      score(truth, answers, labels=every, average=None, zero_division=0),
      getattr(found, name),
      rtol=1e-12,
    )


def test_a_class_without_trials_does_not_count_but_naming_it_is_wrong():
  truth, answers = np.array([0, 0, 1, 1]), np.array([0, 2, 1, 1])
  found = figures(truth, answers, 4)
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    expected = sklearn_metrics.f1_score(
      truth, answers, labels=[0, 1], average='macro'
    )
  assert found.macro_f1 == pytest.approx(expected) == (2 / 3 + 1) / 2
  assert found.accuracy == 0.75
  assert found.trials.tolist() == [2, 2, 0, 0]
  assert found.precision.tolist() == [1, 1, 0, 0]


def test_macro_f1_is_the_mean_of_f1_and_not_the_f1_of_means():
  truth, answers = random_trials(1)
  found = figures(truth, answers, 5)
  p, r = found.precision.mean(), found.recall.mean()
  assert abs(found.macro_f1 - 2 * p * r / (p + r)) > 1e-4


def test_majority_answers_with_the_commonest_training_class():
  found = open_set.majority([0, 1, 1, 2], [2, 0, 2, 2, 1], 4)
  assert found.accuracy == 0.25
  assert found.macro_f1 == pytest.approx(0.4 / 3)


@pytest.mark.parametrize(
  ('truth', 'answers', 'words'),
  [
    ([], [], 'at least 1'),
    ([0, 1], [0], r'one length.*\(2,\) and \(1,\)'),
    ([0, 3], [0, 1], r'truth must be integers 0 to 2; got \[0, 3\]'),
    ([0, 1], [-1, 1], 'answers must be integers 0 to 2'),
    ([0.0, 1.0], [0, 1], 'truth must be integers'),
  ],
)
def test_labels_that_do_not_fit(truth, answers, words):
  with pytest.raises(ValueError, match=words):
    figures(np.array(truth), np.array(answers), 3)


# -------------------------------------------------------------- open set ---
def brute_force(scores, truth, answers, classes):
  """The best macro-F1 of any threshold, and its lowest number of refusals."""
  edges = [-np.inf, *sorted(set(scores)), np.inf]
  found = []
  for low, high in zip(edges, edges[1:], strict=False):
    threshold = low / 2 + high / 2
    decided = open_set.decide(answers, scores, threshold, classes)
    value = figures(truth, decided, classes + 1).macro_f1
    found.append((value, -np.sum(decided == classes), threshold))
  return max(found)


@pytest.mark.parametrize('ties', [False, True])
@pytest.mark.parametrize('seed', range(8))
def test_threshold_with_unknown_dev_trials_is_the_best_of_all(seed, ties):
  rng = np.random.default_rng(seed)
  truth, answers = random_trials(seed, 60, classes=4)  # 3 is unknown
  answers = answers % 3
  scores = rng.normal(truth != 3, 1.0)
  if ties:
    scores = np.round(scores)
  threshold = open_set.choose_threshold(scores, truth, answers, 3)
  best, refused, expected = brute_force(scores, truth, answers, 3)
  decided = open_set.decide(answers, scores, threshold.value, 3)
  assert figures(truth, decided, 4).macro_f1 == pytest.approx(best, abs=1e-12)
  assert np.sum(decided == 3) == -refused
  assert threshold.value == expected
  assert f'{best:.4f}' in threshold.chosen_by


def test_a_threshold_between_neighbours_in_float32_divides_them():
  """Rounded to float32 the middle of one of the two gaps is its lower end."""
  scores = [np.float32(0.999)]
  for _ in range(2):
    scores.append(np.nextafter(scores[-1], np.float32(1)))
  for pair in (scores[:2], scores[1:]):
    middle = float(np.mean(pair, dtype=np.float64))
    decided = open_set.decide(np.zeros(2, int), np.array(pair), middle, 1)
    np.testing.assert_array_equal(decided, [1, 0])


def test_threshold_may_refuse_nothing_or_everything():
  answers = np.array([0, 1, 0, 1])
  truth = np.array([0, 1, 2, 1])
  scores = np.array([1.0, 2.0, 9.0, 3.0])  # the unknown one seems known best
  found = open_set.choose_threshold(scores, truth, answers, 2)
  assert found.value == -np.inf
  found = open_set.choose_threshold(scores, truth * 0 + 2, answers, 2)
  assert found.value == np.inf


@pytest.mark.parametrize('quantile', [0.0, 0.05, 0.31, 0.99])
def test_threshold_without_unknown_dev_trials_is_a_quantile(quantile):
  rng = np.random.default_rng(0)
  truth, answers = random_trials(0, 40, classes=3)
  scores = rng.permutation(40).astype(float)
  found = open_set.choose_threshold(scores, truth, answers, 3, quantile)
  refused = np.sum(open_set.decide(answers, scores, found.value, 3) == 3)
  assert refused == int(40 * quantile)
  # Any larger threshold refuses more.
  assert np.sum(scores < np.nextafter(found.value, 99)) == refused + 1
  assert 'dev has no unknown' in found.chosen_by


def test_quantile_refuses_equal_scores_together():
  labels = np.zeros(20, int)
  found = open_set.choose_threshold(np.ones(20), labels, labels, 1, 0.5)
  decided = open_set.decide(labels, np.ones(20), found.value, 1)
  assert not np.any(decided == 1)


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    ({'scores': [0.0, np.nan]}, '2 finite scores.* 1 not finite'),
    ({'scores': [0.0]}, r'2 finite scores, got shape \(1,\)'),
    ({'quantile': 1.0}, 'quantile=1.0: expected a share'),
    ({'truth': np.array([0, 5])}, 'integers 0 to 2'),
  ],
)
def test_threshold_needs_sound_trials(change, words):
  arguments = {
    'scores': [0.0, 1.0],
    'truth': np.array([0, 1]),
    'answers': np.array([0, 1]),
    'classes': 2,
  }
  with pytest.raises(ValueError, match=words):
    open_set.choose_threshold(**{**arguments, **change})


def test_auroc_counts_pairs_and_halves_ties():
  rng = np.random.default_rng(0)
  truth = rng.choice(4, 50)
  scores = np.round(rng.normal(truth != 3, 1.0), 1)
  known, unknown = scores[truth != 3], scores[truth == 3]
  pairs = np.sign(known[:, None] - unknown[None]) / 2 + 0.5
  assert open_set.auroc(scores, truth, 3) == pytest.approx(pairs.mean())
  expected = sklearn_metrics.roc_auc_score(truth != 3, scores)
  assert open_set.auroc(scores, truth, 3) == pytest.approx(expected)
  assert open_set.auroc(scores, truth, 9) is None
  assert open_set.auroc([1.0, 2.0], [9, 9], 9) is None


# ------------------------------------------------------- nearest neighbours ---
@pytest.mark.parametrize('k', [1, 3, 11, 50])
def test_nearest_equals_sorting_all_cosines(k, monkeypatch):
  monkeypatch.setattr(open_set, '_BLOCK', 40)  # several blocks
  rng = np.random.default_rng(k)
  train, test = rng.normal(size=(11, 6)), rng.normal(size=(9, 6))
  found = open_set.nearest(train, test, k)
  assert found.dtype == np.float32 and found.shape == (9,)
  for row, value in zip(test, found, strict=True):
    cosines = sorted(
      (row @ t / np.linalg.norm(row) / np.linalg.norm(t) for t in train),
      reverse=True,
    )
    assert value == pytest.approx(cosines[min(k, 11) - 1], abs=1e-6)


def test_nearest_does_not_depend_on_length_and_takes_zeros():
  rng = np.random.default_rng(0)
  train, test = rng.normal(size=(20, 4)), rng.normal(size=(5, 4))
  np.testing.assert_allclose(
    open_set.nearest(7 * train, 0.1 * test),
    open_set.nearest(train, test),
    atol=1e-6,
  )
  assert open_set.nearest(train, np.zeros((2, 4))).tolist() == [0, 0]
  assert open_set.nearest(train, np.zeros((0, 4))).shape == (0,)


@pytest.mark.parametrize(
  ('train', 'test', 'k', 'words'),
  [
    ((3, 4), (3, 4), 0, 'k=0 neighbours among 3'),
    ((0, 4), (3, 4), 1, 'among 0 training clips'),
    ((3, 4), (3, 5), 1, 'embeddings of 4 and of 5 numbers'),
  ],
)
def test_nearest_needs_neighbours_of_one_model(train, test, k, words):
  with pytest.raises(ValueError, match=words):
    open_set.nearest(np.ones(train), np.ones(test), k)
