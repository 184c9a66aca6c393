"""Classes of source tracing: one for each attack, and bona fide speech.

The known classes are the attacks of the train split. Everything else, and what
a corpus itself calls 'unknown', has the label after the last known one: it is
never trained on, and the right answer to it is `unknown`.
"""

import collections
import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

BONA_FIDE = '-'  # attack of bona fide clips in every corpus
UNKNOWN = 'unknown'  # attack of spoofs where a corpus does not say, or hides it
WORDS = {BONA_FIDE: 'bonafide'}  # what a class is called where it is shown


@dataclasses.dataclass(frozen=True)
class Classes:
  """The known classes, in the order of a model's outputs.

  Attributes:
    attacks: as the corpus names them, sorted; bona fide, '-', comes last.
  """

  attacks: tuple[str, ...]

  @classmethod
  def called(cls, names: Iterable[str]) -> 'Classes':
    """The classes with these names; the reverse of `names`."""
    attacks = {word: attack for attack, word in WORDS.items()}
    return cls(tuple(attacks.get(name, name) for name in names))

  @property
  def names(self) -> tuple[str, ...]:
    """What the classes are called: the attacks, then 'bonafide'."""
    return tuple(WORDS.get(attack, attack) for attack in self.attacks)

  @property
  def unknown(self) -> int:
    """The label of what is no known class: one more than the last."""
    return len(self.attacks)

  def label(self, attack: str) -> int:
    """The label of an attack."""
    return self._labels.get(attack, self.unknown)

  def labels(self, attacks: Iterable[str]) -> np.ndarray:
    """The labels of attacks, int32 [n].

    >>> Classes(('A01', 'A02', '-')).labels(['-', 'A02', 'A07'])
    array([2, 1, 3], dtype=int32)
    """
    labels = self._labels
    return np.array([labels.get(a, self.unknown) for a in attacks], np.int32)

  @property
  def _labels(self) -> Mapping[str, int]:
    return {attack: label for label, attack in enumerate(self.attacks)}


def known(attacks: Sequence[str], of: str) -> Classes:
  """The classes that a train split teaches.

  Args:
    attacks: attack of each clip of the split, '-' for bona fide.
    of: the split, as messages call it.

  Raises:
    ValueError: a spoof without the name of its attack, no bona fide clip, or
      no spoof.
  """
  counts = collections.Counter(map(str, attacks))
  spoofs = counts.total() - counts[BONA_FIDE]
  if nameless := sum(counts[name] for name in ('', UNKNOWN)):
    raise ValueError(
      f'{of}: {nameless:,} of {spoofs:,} spoofed clips have no attack label; '
      'source tracing is learned from the attack of each training clip: '
      'expected a corpus that has them (wav_folder: a column attack)'
    )
  found = sorted(name for name in counts if name != BONA_FIDE and counts[name])
  if not found or not counts[BONA_FIDE]:
    raise ValueError(
      f'{of}: {counts[BONA_FIDE]:,} bona fide clips, attacks: '
      f'{", ".join(found) or "none"}; source tracing needs bona fide speech '
      'and at least one attack'
    )
  return Classes((*found, BONA_FIDE))
