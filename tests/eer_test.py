import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxspoof.metrics import crossing, det
from jaxspoof.metrics import eer as eer_lib
from jaxspoof.score_files import scores as scores_lib


def brute_force(scores, labels):
  """The definition, one operating point after the other."""
  trials = [(s, 0 if y else 1) for s, y in zip(scores, labels, strict=True)]
  trials.sort()
  bonafide = sum(kind == 0 for _, kind in trials)
  spoof = len(trials) - bonafide
  misses, rejected, best = 0, 0, (abs(0 / bonafide - 1.0), 0.5, None)
  for score, kind in trials:
    misses, rejected = misses + (kind == 0), rejected + (kind == 1)
    frr, far = misses / bonafide, (spoof - rejected) / spoof
    if abs(frr - far) < best[0]:
      best = abs(frr - far), (frr + far) / 2, score
  threshold = trials[0][0] - 0.001 if best[2] is None else best[2]
  return best[1], threshold


def random_case(rng, most=40):
  """Scores on a coarse grid, so that ties within and between classes occur."""
  bonafide, spoof = rng.integers(1, most, 2)
  labels = rng.permutation(np.repeat([1, 0], [bonafide, spoof]))
  levels = rng.choice([1, 3, 10, 1000])
  return rng.integers(0, levels, len(labels)) / 8 + labels, labels


@pytest.mark.parametrize(
  ('bonafide', 'spoof', 'value', 'threshold'),
  [
    ([1, 1, 1], [1, 1, 1], 1.0, 1),
    ([0, 1, 2, 3], [0, 1, 2, 3], 0.5, 1),
    ([1, 2, 3], [0, 1, 2], 1 / 3, 1),
    ([2, 3], [0, 1], 0.0, 1),
    ([0, 1], [2, 3], 1.0, 1),
    # Misses 1/2, false alarms 1 come first; then 1/2 and 0, equally close.
    ([0, 2], [1], 0.75, 0),
  ],
)
def test_small_cases_of_the_official_convention(
  bonafide, spoof, value, threshold
):
  scores = np.array([*bonafide, *spoof], np.float64)
  labels = np.repeat([1, 0], [len(bonafide), len(spoof)])
  assert eer_lib.eer(scores, labels) == (value, threshold)
  assert eer_lib.eer(scores[::-1], labels[::-1]) == (value, threshold)
  traced = jax.jit(eer_lib.eer)(scores, labels)
  np.testing.assert_allclose(traced, (value, threshold), rtol=1e-6)


def test_accepting_everything_is_the_first_point():
  curve = det.det_curve([3.0, 5.0, 4.0], [1, 1, 0])
  np.testing.assert_array_equal(curve.miss, [0, 0.5, 0.5, 1])
  np.testing.assert_array_equal(curve.false_alarm, [1, 1, 0, 0])
  np.testing.assert_array_equal(curve.threshold, [3 - 0.001, 3, 4, 5])


def test_equals_brute_force_on_random_cases_with_ties():
  rng = np.random.default_rng(0)
  for _ in range(3000):
    scores, labels = random_case(rng)
    expected = brute_force(scores, labels)
    assert eer_lib.eer(scores, labels) == expected
    assert det.equal_error(scores, labels) == expected  # what pages use


def test_traced_equals_brute_force_with_mask_and_ties():
  rng = np.random.default_rng(1)
  cases = [random_case(rng) for _ in range(3000)]
  scores = rng.normal(size=(3000, 80)).astype(np.float32)
  labels = rng.integers(0, 2, (3000, 80))
  mask = np.zeros((3000, 80), bool)
  for row, (s, y) in enumerate(cases):
    places = rng.permutation(80)[: len(s)]
    scores[row, places], labels[row, places] = s, y
    mask[row, places] = True
  found = jax.jit(jax.vmap(eer_lib.eer))(scores, labels, mask)
  expected = np.array([brute_force(s, y) for s, y in cases])
  np.testing.assert_array_equal(found.eer, expected[:, 0].astype(np.float32))
  np.testing.assert_allclose(found.threshold, expected[:, 1], rtol=1e-6)
  assert found.eer.dtype == found.threshold.dtype == jnp.float32


def test_padded_values_are_never_read():
  scores = jnp.array([2.0, jnp.nan, 1.0, 3.0, jnp.inf])
  labels = jnp.array([1, 0, 0, 1, 1])
  mask = jnp.array([True, False, True, True, False])
  assert tuple(jax.jit(eer_lib.eer)(scores, labels, mask)) == (0.0, 1.0)
  assert eer_lib.eer(scores, labels, mask) == (0.0, 1.0)


def test_det_curve_is_the_cumulative_count():
  rng = np.random.default_rng(2)
  scores, labels = random_case(rng, most=200)
  host = det.det_curve(scores, labels)
  assert len(host.miss) == len(scores) + 1
  gap = np.abs(host.miss - host.false_alarm)
  at = np.argmin(gap)
  expected = eer_lib.eer(scores, labels)
  assert (host.miss[at] + host.false_alarm[at]) / 2 == expected.eer
  assert host.threshold[at] == expected.threshold


def test_float64_scores_are_not_merged():
  """In float32 the four scores would be one value, and the EER 1."""
  scores = 1 + np.array([3, 2, 1, 0]) * 1e-12
  found = eer_lib.eer(scores, [1, 1, 0, 0])
  assert found == (0.0, scores[2])
  assert eer_lib.eer(scores.astype(np.float32), [1, 1, 0, 0]).eer == 1.0


def test_negative_and_positive_zero_are_equal():
  for zeros in ([0.0, -0.0], [-0.0, 0.0]):
    scores = np.array([*zeros, 1.0, -1.0], np.float32)
    labels = np.array([1, 0, 1, 0])
    expected = brute_force(scores, labels)
    assert eer_lib.eer(scores, labels) == expected
    traced = jax.jit(eer_lib.eer)(scores, labels)
    np.testing.assert_allclose(traced, expected)


def test_counts_are_exact_beyond_float32():
  """2**25 trials: a float32 running sum would stop at 2**24."""
  count = 2**25
  flags = np.zeros(count, bool)
  flags[count // 2 :] = True  # perfectly separated, bona fide on top
  flags[-1], flags[0] = False, True  # but for one trial of each class
  point = jax.jit(crossing.find_crossing)(np.ones(count, np.int32), flags)
  assert (point.next_misses, point.next_false_alarms) == (1, 1)
  assert (point.bonafide, point.spoof) == (count // 2, count // 2)
  assert crossing.host_eer(point) == (2.0**-24, count // 2 - 1)


def test_with_64_bits_switched_on():
  scores, labels = random_case(np.random.default_rng(4))
  expected = brute_force(scores, labels)
  with jax.enable_x64(True):
    assert eer_lib.eer(scores, labels) == expected
    traced = jax.jit(eer_lib.eer)(scores, labels)
  np.testing.assert_allclose(traced, expected, rtol=1e-6)
  assert traced.eer.dtype == jnp.float32


def test_many_lengths_compile_few_programs():
  rng = np.random.default_rng(3)
  eer_lib.eer(*random_case(rng))
  before = eer_lib._jitted_crossing._cache_size()
  for length in range(300, 8000, 37):
    labels = np.arange(length) % 2
    eer_lib.eer(rng.normal(size=length), labels)
  assert eer_lib._jitted_crossing._cache_size() - before <= 2


@pytest.mark.parametrize(
  ('scores', 'labels', 'message'),
  [
    ([], [], '0 bona fide and 0 spoof'),
    ([1.0, 2.0], [1, 1], '2 bona fide and 0 spoof'),
    ([1.0, 2.0], [0, 0], '0 bona fide and 2 spoof'),
    ([1.0, 2.0], [0, 2], r'labels must be 0 \(spoof\) or 1 .*\[0, 2\]'),
    ([1.0, np.nan, 0.0], [0, 1, 1], '1 of 3 are not, the first at index 1'),
    ([1.0, -np.inf], [0, 1], 'must be finite.*-inf'),
    ([1.0], [0, 1], r'one length.*\(1,\), \(2,\)'),
  ],
)
def test_input_without_an_eer_is_an_error(scores, labels, message):
  functions = (eer_lib.eer, eer_lib.eer_of, det.equal_error, det.det_curve)
  for function in functions:
    with pytest.raises(ValueError, match=message):
      function(scores, labels)


@pytest.mark.parametrize(
  ('scores', 'labels'),
  [
    ([1.0, 2.0], [1, 1]),
    ([1.0, 2.0], [0, 0]),
    ([1.0, np.nan], [0, 1]),
    ([1.0, np.inf], [0, 1]),
  ],
)
def test_traced_input_without_an_eer_is_nan(scores, labels):
  scores, labels = jnp.array(scores), jnp.array(labels)
  assert np.isnan(jax.jit(eer_lib.eer)(scores, labels)).all()
  none = jnp.zeros(2, bool)
  assert np.isnan(jax.jit(eer_lib.eer)(scores, labels, none)).all()


@pytest.mark.parametrize(
  ('name', 'sign', 'value', 'threshold'),
  [
    ('rawgat_mul', 1, 1.060135, 1.451266),
    ('rawgat_add', 1, 1.158596, 1.745121),
    ('air1028_ocsoftmax', -1, 2.177987, 0.990653),
  ],
)
def test_published_scores(reference, name, sign, value, threshold):
  trials = scores_lib.read(reference / 'scores' / f'{name}.txt.gz')
  scores = sign * trials.scores
  found = eer_lib.eer(scores, trials.label)
  assert found == det.equal_error(scores, trials.label)
  assert round(100 * found.eer, 6) == value
  assert round(found.threshold, 6) == threshold
  traced = jax.jit(eer_lib.eer)(scores.astype(np.float32), trials.label)
  np.testing.assert_allclose(traced, found, rtol=1e-6)


@pytest.mark.parametrize('module', [eer_lib, det])
def test_examples_in_docstrings(module):
  found = doctest.testmod(module)
  assert found.attempted and not found.failed
