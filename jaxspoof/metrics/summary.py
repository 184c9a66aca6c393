"""Everything `metrics.json` says about the scores of one split."""

import jax
import numpy as np

from jaxspoof.metrics.bootstrap import bootstrap_eer
from jaxspoof.metrics.eer import Eer, eer_of

CONFIDENCE = 0.95


def summarise(
  utterance,
  attack,
  label,
  scores,
  *,
  split: str,
  selected_on: str,
  corpus: str,
  seed: int = 0,
  resamples: int = 1000,
) -> dict:
  """Summarise the scores of one split.

  Args:
    utterance: str [N], unique.
    attack: str [N]; not read for bona fide trials.
    label: int [N], spoof 0, bona fide 1.
    scores: float [N], higher = more bona fide.
    split: name of the split the trials are from.
    selected_on: what the model was selected by, in words.
    corpus: name of the corpus.
    seed: of the bootstrap.
    resamples: of the bootstrap.

  Returns:
    What JSON can hold. All error rates are fractions, as `unit` says:
    `eer`, `eer_interval` [low, high], `eer_threshold`, `trials` (`total`,
    `bonafide`, `spoof`), `per_attack` by name (`eer`, `interval`,
    `threshold`, `trials` = spoof trials of it; against all bona fide trials),
    `confidence`, `resamples`, `resampled`, `seed`, `corpus`, `split`,
    `selected_on`, `unit`.

  Raises:
    ValueError: an utterance scored twice, columns of unequal length, and
      whatever `eer` does not accept.
  """
  columns = [np.asarray(c) for c in (utterance, attack, label, scores)]
  _check(*columns, split)
  _, attack, label, scores = columns
  key = jax.random.key(seed)

  def rates(chosen, key) -> tuple[Eer, list[float]]:
    part = scores[chosen], label[chosen]
    return eer_of(*part), list(
      bootstrap_eer(*part, key=key, resamples=resamples, confidence=CONFIDENCE)
    )

  pooled, interval = rates(np.ones(len(label), bool), key)
  per_attack = {}
  for number, name in enumerate(np.unique(attack[label == 0]).tolist(), 1):
    spoof = (label == 0) & (attack == name)
    found, low_high = rates(
      spoof | (label == 1), jax.random.fold_in(key, number)
    )
    per_attack[name] = {
      'eer': found.eer,
      'interval': low_high,
      'threshold': found.threshold,
      'trials': int(spoof.sum()),
    }
  return {
    'corpus': corpus,
    'split': split,
    'eer': pooled.eer,
    'eer_interval': interval,
    'eer_threshold': pooled.threshold,
    'unit': 'fraction',
    'trials': {
      'total': len(label),
      'bonafide': int(np.sum(label == 1)),
      'spoof': int(np.sum(label == 0)),
    },
    'per_attack': per_attack,
    'selected_on': selected_on,
    'confidence': CONFIDENCE,
    'resamples': resamples,
    'resampled': 'trials, bona fide and spoof separately',
    'seed': seed,
  }


def _check(utterance, attack, label, scores, split):
  shapes = [x.shape for x in (utterance, attack, label, scores)]
  if len(set(shapes)) > 1:
    raise ValueError(
      f'summarise, split {split!r}: utterance, attack, label and scores must '
      f'be vectors of one length; got shapes {shapes}'
    )
  names, counts = np.unique(utterance, return_counts=True)
  if (counts > 1).any():
    twice = names[counts > 1]
    raise ValueError(
      f'summarise, split {split!r}: {len(twice)} utterances are scored more '
      f'than once, first {twice[:10].tolist()}'
    )
