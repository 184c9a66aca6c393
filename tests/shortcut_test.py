"""Nothing shallow may give the class away in the quickstart corpus.

If one of these fails the corpus is wrong, not the test: find the feature with
`python -m tfds_builders.quickstart.probe --per_attack` and repair the chain.
"""

import numpy as np
import pytest

from tests import fixtures_corpus
from tfds_builders import build
from tfds_builders.quickstart import probe

# Lowest EER in percent that a linear probe may reach. A probe that knows
# nothing has 50; in the corpus this one is modelled on, without conditioning,
# the scalars alone reached 17.
FLOORS = {
  'scalars': {'dev': 30.0, 'eval': 35.0, 'eval_hard': 35.0},
  'average log-mel bands': {'dev': 35.0, 'eval': 40.0, 'eval_hard': 40.0},
}


@pytest.fixture(scope='module')
def splits(request):
  """Features of the corpus: kept ones if they are of today's recipe."""
  names = ('train', *probe.SPLITS)
  with np.load(fixtures_corpus.FEATURES) as kept:
    if kept['recipe'] == fixtures_corpus.recipe():
      return {
        name: probe.Split(
          {f: kept[f'{name}/{f}'].astype(np.float64) for f in probe.FEATURES},
          kept[f'{name}/labels'].astype(np.int32),
          kept[f'{name}/attacks'],
        )
        for name in names
      }
  data_dir = request.getfixturevalue('quickstart_full')
  corpus = build.builder('quickstart', data_dir)
  return {name: probe.read(corpus, name) for name in names}


@pytest.mark.parametrize('name', FLOORS)
def test_linear_probe_stays_bad(splits, name):
  row = probe.row(name, splits)
  print(name, row)
  for split, floor in FLOORS[name].items():
    assert row[split] >= floor, f'{name} on {split}: {row[split]:.1f} %'


def test_probe_finds_a_planted_shortcut(splits):
  # The probe must be able to fail the corpus: spoofs 3 dB quieter.
  planted = {}
  for split, data in splits.items():
    features = {name: rows.copy() for name, rows in data.features.items()}
    quieter = data.labels == 0
    for name in ('level', 'active level', 'peak'):
      column = probe.SCALARS.index(name)
      features['scalars'][quieter, column] -= 3
    planted[split] = probe.Split(features, data.labels, data.attacks)
  row = probe.row('scalars', planted)
  assert row['dev'] < 25
  assert row['eval'] < 25


@pytest.mark.parametrize('split', ['train', 'dev', 'eval', 'eval_hard'])
def test_what_the_chain_fixes_is_the_same_for_both_classes(splits, split):
  data = splits[split]
  values = dict(zip(probe.SCALARS, data.features['scalars'].T, strict=True))
  spoof, real = data.labels == 0, data.labels == 1
  for name, tolerance in (
    ('seconds', 0.05),
    ('active level', 0.15),
    ('level', 0.15),
    ('low bit', 0.005),
    ('offset', 0.05),
  ):
    gap = values[name][spoof].mean() - values[name][real].mean()
    assert abs(gap) < tolerance, f'{name}: {gap:+.4f} on {split}'


def test_logistic_regression_agrees_with_a_known_optimum():
  # One feature, two classes of unit variance at +-1: the best weight of
  # balanced logistic regression is the log odds' slope, 2.
  rng = np.random.default_rng(0)
  labels = rng.integers(0, 2, 40_000)
  features = (rng.standard_normal(40_000) + 2 * labels - 1)[:, None]
  weights, offset = probe.fit(features, labels, penalty=0.0)
  assert weights[0] == pytest.approx(2, rel=0.05)
  assert offset == pytest.approx(0, abs=0.05)
