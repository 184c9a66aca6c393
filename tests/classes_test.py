"""Which classes a train split teaches, and what is none of them."""

import doctest

import numpy as np
import pytest

from jaxspoof import classes


def test_examples():
  assert not doctest.testmod(classes).failed


def test_classes_are_the_attacks_of_train_and_bona_fide_last():
  made = classes.known(['A02', '-', 'A01', 'A02', '-'], 'train')
  assert made.attacks == ('A01', 'A02', '-')
  assert made.names == ('A01', 'A02', 'bonafide')
  assert classes.Classes.called(made.names) == made
  assert [made.label(a) for a in ('A01', 'A02', '-')] == [0, 1, 2]


def test_everything_else_is_unknown():
  made = classes.known(np.array(['A02', '-']), 'train')
  assert made.unknown == 2
  found = made.labels(np.array(['A07', 'unknown', 'bonafide', '', 'A02']))
  np.testing.assert_array_equal(found, [2, 2, 2, 2, 0])
  assert found.dtype == np.int32


@pytest.mark.parametrize('missing', ['unknown', ''])
def test_a_corpus_without_attack_labels(missing):
  attacks = [missing, '-', missing, 'A01']
  expected = 'quickstart train: 2 of 3 spoofed clips have no attack label'
  with pytest.raises(ValueError, match=expected):
    classes.known(attacks, 'quickstart train')


@pytest.mark.parametrize(
  ('attacks', 'words'),
  [
    (['-', '-'], '2 bona fide clips, attacks: none'),
    (['A01', 'A02'], '0 bona fide clips, attacks: A01, A02'),
    ([], '0 bona fide clips, attacks: none'),
  ],
)
def test_both_kinds_of_speech_are_needed(attacks, words):
  with pytest.raises(ValueError, match=f'train: {words}; .*at least one att'):
    classes.known(attacks, 'train')
