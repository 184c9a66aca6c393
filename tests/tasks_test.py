"""Tasks: a dev split on which there is nothing to select by is refused."""

import numpy as np
import pytest

from jaxspoof.classes import Classes
from jaxspoof.data.source import Trials
from jaxspoof.training import tasks

KNOWN = Classes(('A01', 'A02', '-'))


def trials(*attacks):
  names = np.array([f'u{n}' for n in range(len(attacks))])
  attack = np.array(attacks)
  return Trials(names, names, attack, (attack == '-').astype(np.int32))


@pytest.mark.parametrize(
  ('task', 'attacks', 'message'),
  [
    (
      tasks.Detection(),
      ('A01', 'A07'),
      'toy dev holds 2 trials, none of them bona fide: an EER needs both',
    ),
    (
      tasks.Detection(),
      ('-',),
      'toy dev holds 1 trials, none of them spoof: an EER needs both',
    ),
    (
      tasks.SourceTracing(KNOWN),
      ('A01', 'A02'),
      'toy dev holds 2 trials, none of them bona fide: an EER needs both',
    ),
    (
      tasks.SourceTracing(Classes(('A01', 'A02'))),
      ('A07', '-'),
      r'no trial of toy dev is of a class that train knows \(A01, A02\)',
    ),
  ],
)
def test_a_dev_split_without_an_error_is_refused(task, attacks, message):
  with pytest.raises(ValueError, match=message):
    task.check(trials(*attacks), 'toy dev')
  task.check(trials(*attacks, '-', 'A01'), 'toy dev')
