"""Two halves that share no speaker."""

import numpy as np
import pytest

from jaxspoof.darts.search import halves
from jaxspoof.data import pipeline


def trials_of(counts):
  """Trials of speakers with (spoof, bona fide) clips each."""
  rows = [
    (f'speaker{s}', label)
    for s, pair in enumerate(counts)
    for label, count in enumerate(pair)
    for _ in range(count)
  ]
  rows = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
  speaker, label = map(np.array, zip(*rows, strict=True))
  name = np.array([f'u{n}' for n in range(len(rows))])
  attack = np.where(label == 1, '-', 'A01')
  return pipeline.Trials(name, speaker, attack, label.astype(np.int32))


def random_counts(rng):
  """Speakers of one class and of both; at least two of each class."""
  counts = rng.integers(0, 40, (rng.integers(4, 25), 2))
  counts *= rng.random(counts.shape) < 0.6
  counts[:2, 0] += 1
  counts[rng.permutation(len(counts))[:2], 1] += 1
  return counts


@pytest.mark.parametrize('seed', range(40))
def test_halves_of_random_corpora(seed):
  known = trials_of(random_counts(np.random.default_rng(seed)))
  a, b = halves.halves(known, seed)
  both = np.sort(np.concatenate([a, b]))
  np.testing.assert_array_equal(both, np.arange(len(known)))
  assert not set(known.speaker[a]) & set(known.speaker[b])
  assert set(known.label[a]) == set(known.label[b]) == {0, 1}


def test_halves_are_about_equal_in_both_classes():
  """20 speakers of unequal size, as in ASVspoof 2019 LA train."""
  rng = np.random.default_rng(0)
  counts = rng.integers(20, 200, (20, 2)) * [9, 1]
  known = trials_of(counts)
  a, b = halves.halves(known)
  for label in (0, 1):
    share = np.sum(known.label[a] == label) / np.sum(known.label == label)
    assert 0.45 < share < 0.55
  np.testing.assert_array_equal(a, halves.halves(known)[0])
  assert len({tuple(halves.halves(known, s)[0]) for s in range(9)}) > 1


def test_two_speakers_of_each_class_suffice():
  for counts in ([(3, 0), (3, 0), (0, 3), (0, 3)], [(2, 2), (1, 0), (0, 1)]):
    known = trials_of(counts)
    for half in halves.halves(known):
      assert set(known.label[half]) == {0, 1}


@pytest.mark.parametrize(
  ('counts', 'message'),
  [
    ([(5, 0), (5, 0)], 'holds 10 records, none of them bona fide: expected bo'),
    ([(0, 5), (0, 5)], 'none of them spoof'),
    ([(5, 5)], 'too small to halve: its bona fide records are of 1 speaker, e'),
    ([(5, 5), (0, 5)], 'its spoof records are of 1 speaker, expected 2 or mor'),
  ],
)
def test_what_cannot_be_halved_is_refused(counts, message):
  with pytest.raises(ValueError, match=f'mine train .*{message}'):
    halves.halves(trials_of(counts), name='mine train')


def test_sources_keep_their_records_and_their_name():
  known = trials_of([(3, 3), (3, 3)])
  records = [
    dict(utterance=u, speaker=s, attack=a, label=label)
    for u, s, a, label in zip(
      known.utterance, known.speaker, known.attack, known.label, strict=True
    )
  ]
  source = pipeline.Source(records, 'mine', 'train')
  first, second = halves.halve(source)
  assert (first.name, first.split) == ('mine', 'train, half 1')
  names = [pipeline.trials(half).utterance for half in (first, second)]
  assert set(np.concatenate(names)) == set(known.utterance)
  assert len(names[0]) == len(names[1]) == 6
