"""What a bootstrap over speakers and attacks draws, and what is drawn.

A spoof trial counts as often as its speaker times as often as its attack was
drawn, a bona fide trial as often as its speaker. Trials of one class, speaker
and attack thus form a cell and count alike.

Shapes: N = trials, C = cells, B = resamples.
"""

from typing import NamedTuple

import numpy as np


class Cells(NamedTuple):
  """Trials of one class, speaker and attack: what is weighted alike.

  Attributes:
    of_trial: int [N], the cell of each trial.
    bonafide: bool [C].
    speaker: int [C]; speakers of one stratum follow one another.
    attack: int [C]; the number of attacks for bona fide.
    strata: speakers heard as bona fide only, as both, as spoof only. Each is
      drawn from by itself, so that no class dies out by chance.
    attacks: number of attacks.
  """

  of_trial: np.ndarray
  bonafide: np.ndarray
  speaker: np.ndarray
  attack: np.ndarray
  strata: tuple[int, int, int]
  attacks: int


def make_cells(labels, speaker=None, attack=None) -> Cells:
  """Number speakers, attacks and cells.

  Args:
    labels: int or bool [N], spoof 0, bona fide 1.
    speaker: [N] of any sortable type; None makes each trial a speaker.
    attack: [N] of any sortable type, not read for bona fide trials; None takes
      all spoofs for one attack.

  Raises:
    ValueError: a column of another length.
  """
  bonafide_N = np.asarray(labels) == 1
  count = len(bonafide_N)
  speaker = np.arange(count) if speaker is None else np.asarray(speaker)
  names = np.zeros(count) if attack is None else np.asarray(attack)
  for name, column in (('speaker', speaker), ('attack', names)):
    if column.shape != (count,):
      raise ValueError(
        f'{name} must be a vector as long as the {count} labels; got shape '
        f'{column.shape}'
      )
  speaker_N, strata = _speakers(speaker, bonafide_N)
  distinct, inverse = np.unique(names[~bonafide_N], return_inverse=True)
  attack_N = np.full(count, len(distinct))
  # Where attacks are kept, they weigh 1 as bona fide trials do.
  if attack is not None:
    attack_N[~bonafide_N] = inverse
  # One number per pair and class, which np.unique makes consecutive.
  pair_N = (speaker_N * (len(distinct) + 1) + attack_N) * 2 + bonafide_N
  _, first, of_trial = np.unique(pair_N, return_index=True, return_inverse=True)
  return Cells(
    of_trial,
    bonafide_N[first],
    speaker_N[first],
    attack_N[first],
    strata,
    len(distinct),
  )


def _speakers(names, bonafide_N):
  """Number speakers stratum by stratum: (int [N], speakers per stratum)."""
  distinct, inverse = np.unique(names, return_inverse=True)
  counts = np.bincount(inverse, bonafide_N, len(distinct))
  trials = np.bincount(inverse, minlength=len(distinct))
  # Bona fide only 0, both 1, spoof only 2.
  stratum = np.where(counts == trials, 0, np.where(counts > 0, 1, 2))
  number = np.empty(len(distinct), np.int64)
  number[np.argsort(stratum, kind='stable')] = np.arange(len(distinct))
  return number[inverse], tuple(np.bincount(stratum, minlength=3).tolist())


def draw(cells: Cells, seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
  """Which speakers and attacks make up one resample.

  Args:
    cells: from `make_cells`.
    seed: at least 0; the same seed and index draw the same.
    index: number of the resample, at least 0.

  Returns:
    (speakers drawn, attacks drawn), int vectors with repetition.
  """
  random = np.random.default_rng([seed, index])
  starts = np.cumsum([0, *cells.strata[:2]])
  speakers = [
    random.integers(start, start + count, count)
    for start, count in zip(starts, cells.strata, strict=True)
    if count
  ]
  return np.concatenate(speakers), random.integers(
    cells.attacks, size=cells.attacks
  )


def weights(cells: Cells, seed: int, index_B) -> np.ndarray:
  """How often each cell counts in each resample.

  Args:
    cells: from `make_cells`.
    seed: at least 0; the same seed and number draw the same resample.
    index_B: int, numbers of the resamples.

  Returns:
    float64 [B, C], whole numbers.
  """
  speakers = sum(cells.strata)
  weight_BxC = np.empty((len(index_B), len(cells.bonafide)))
  for row, index in enumerate(index_B):
    drawn, drawn_attacks = draw(cells, seed, index)
    of_speaker = np.bincount(drawn, minlength=speakers)
    of_attack = np.bincount(drawn_attacks, minlength=cells.attacks + 1)
    of_attack[cells.attacks] = 1  # stands for bona fide
    weight_BxC[row] = of_speaker[cells.speaker]
    weight_BxC[row] *= of_attack[cells.attack]
  return weight_BxC
