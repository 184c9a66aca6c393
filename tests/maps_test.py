"""Pictures of source tracing, and the numbers behind them."""

import re

import numpy as np
import pytest

from jaxspoof.report import curves, maps
from jaxspoof.report.drawing import CLASSES, VARIABLES

EVIL = '<b>$x_1$ & "'


def spread(attacks=18, size=24):
  """Embeddings of many attacks in three splits."""
  rng = np.random.default_rng(0)
  names = [f'A{n:02d}' for n in range(1, attacks)]
  rows = []
  for split, chosen in (
    ('train', [*names[:6], '-']),
    ('dev', [*names[:6], '-']),
    ('eval', [*names[6:], 'unknown', '-']),
  ):
    for attack in chosen:
      middle = np.random.default_rng(sum(map(ord, attack))).normal(size=size)
      rows += [(middle + rng.normal(0, 0.2, size), attack, split)] * 2
  return map(np.array, zip(*rows, strict=True))


def test_map_names_attacks_splits_and_axes():
  vectors, attack, split = spread()
  svg = maps.embeddings('x', vectors, attack, split, 'train')
  assert svg == maps.embeddings('x', vectors, attack, split, 'train')
  words = re.findall(r'<text[^>]*>([^<]*)', svg)
  for name in [f'A{n:02d}' for n in range(1, 18)] + ['bonafide', 'unknown']:
    assert words.count(name) == 2, name  # beside its points, in the legend
  assert [w for w in words if w in ('train', 'dev', 'eval')] == [
    'train', 'dev', 'eval'
  ]  # fmt: skip
  assert sum(w.startswith('axis 1, ') for w in words) == 1
  assert sum(w.startswith('axis 2, ') for w in words) == 1
  assert not any(color in svg for color in VARIABLES)  # all are the page's
  for number in range(1, len(CLASSES) + 1):
    assert f'var(--class{number})' in svg


def test_further_axes_have_their_numbers_and_less_variance():
  vectors, attack, split = spread()
  shares = []
  for first in (1, 3):
    svg = maps.embeddings(f'{first}', vectors, attack, split, 'train', first)
    found = re.findall(rf'axis {first}, (\d+)', svg)
    shares.append(int(found[0]))
  assert shares[0] > shares[1] > 0


def test_big_maps_are_thinned_and_small_groups_stay():
  rng = np.random.default_rng(0)
  attack = np.repeat(['-', 'A01', 'A02'], [30_000, 5_000, 7])
  vectors = rng.normal(size=(len(attack), 4))
  svg = maps.embeddings(
    'x', vectors, attack, np.full(len(attack), 'train'), 'train'
  )
  assert len(svg) < 300_000
  kept = curves.thin_groups(attack, 900)
  counts = {a: int(np.sum(attack[kept] == a)) for a in set(attack)}
  assert counts['A02'] == 7
  assert 440 < counts['A01'] <= counts['-'] < 460
  assert len(set(kept.tolist())) == len(kept)
  assert kept.max() == len(attack) - 1 and np.all(np.diff(kept) > 0)


def test_names_are_escaped_and_taken_literally():
  vectors = np.eye(6)
  attack = np.array([EVIL, EVIL, EVIL, '-', '-', '-'])
  svg = maps.embeddings('x', vectors, attack, np.full(6, EVIL), EVIL)
  assert '<b>' not in svg and '&lt;b&gt;$x_1$ &amp; ' in svg


def test_labels_are_moved_apart():
  at = np.array([[0.5, 0.5]] * 4 + [[0.1, 0.5]])
  found = maps._apart(at, [3] * 5)
  np.testing.assert_array_equal(found[:, 0], at[:, 0])
  assert np.all(np.diff(np.sort(found[:4, 1])) > 0.05)
  assert found[4, 1] == 0.5  # nothing is near it
  assert np.all((0 < found) & (found < 1))


def test_confusion_shows_counts_and_shares():
  counts = [[9, 1, 0], [0, 0, 5], [2, 1, 1_234]]
  svg = maps.confusion(
    'eval', ['A01', EVIL, 'bonafide'], ['A01', 'bonafide', 'unknown'], counts,
    np.eye(3, dtype=bool),
  )  # fmt: skip
  words = re.findall(r'<text[^>]*>([^<]*)', svg)
  numbers = [w for w in words if re.fullmatch(r'[\d,]+', w)]
  assert sorted(numbers) == ['1', '1', '1,234', '2', '5', '9']
  space = '\N{NO-BREAK SPACE}'
  for right in (
    f'90{space}% of 10',
    f'0{space}% of 5',
    f'100{space}% of 1,237',
  ):
    assert right in words
  assert 'bonafide A01 2, bonafide 1, unknown 1234' in svg
  assert '<b>' not in svg


def test_an_attack_without_trials_divides_by_nothing():
  svg = maps.confusion('x', ['a', 'b'], ['a', 'b'], np.zeros((2, 2)), np.eye(2))
  assert svg.count('% of 0') == 2


@pytest.mark.parametrize('size', [2, 5])
def test_principal_axes_are_the_directions_of_variance(size):
  rng = np.random.default_rng(0)
  deviations = 2.0 ** -np.arange(size)
  turn, _ = np.linalg.qr(rng.normal(size=(size, size)))
  x = rng.normal(size=(4_000, size)) * deviations @ turn.T + 3
  mean, axes, shares = curves.principal_axes(x, 2)
  np.testing.assert_allclose(mean, x.mean(axis=0))
  np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)
  np.testing.assert_allclose(np.abs(axes @ turn[:, :2]), np.eye(2), atol=0.05)
  variances = ((x - mean) @ axes.T).var(axis=0) / x.var(axis=0).sum()
  np.testing.assert_allclose(shares, variances)
  assert np.all(axes[np.arange(2), np.abs(axes).argmax(axis=1)] > 0)


def test_principal_axes_of_one_point():
  mean, axes, shares = curves.principal_axes(np.ones((1, 3)), 1)
  assert mean.tolist() == [1, 1, 1] and np.isfinite(axes).all()
  assert shares.tolist() == [0]
