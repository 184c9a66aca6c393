"""Everything `metrics.json` says about the scores of one split."""

import numpy as np

from jaxspoof.metrics import clustered, scorecard, tdcf
from jaxspoof.score_files.asv_scores import AsvScores

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
  speaker=None,
  asv: AsvScores | tdcf.AsvRates | None = None,
  seed: int = 0,
  resamples: int = 1000,
  expanded: bool = True,
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
    speaker: str [N]; None or '-' everywhere where speakers are unknown.
    asv: scores of the verification system of the corpus, or its errors where
      no more is known; None = no metric that needs them, as of scores that are
      all but equal.
    seed: seed of the random draws of the bootstrap.
    resamples: number of bootstrap resamples.
    expanded: see `scorecard.make`.

  Returns:
    What JSON can hold. All error rates are fractions, as `unit` says: what
    `scorecard.make` says of a system, `trials` (`total`, `bonafide`,
    `spoof`), `confidence`, `resamples`, `resampled` (what was drawn, in
    words), `intervals` (of what kind; absent if not expanded), `seed`,
    `corpus`, `split`, `selected_on`, `unit`.

  Raises:
    ValueError: an utterance scored twice, columns of unequal length, and
      whatever `eer` does not accept.
  """
  columns = [np.asarray(c) for c in (utterance, attack, label, scores)]
  _check(*columns, split)
  _, attack, label, scores = columns
  if speaker is not None:
    speaker = np.asarray(speaker)
    speaker = None if np.all(speaker == '-') else speaker
  if len(np.unique(scores)) < tdcf.FEWEST_SCORES:
    asv = None  # a model that says the same of all: its run still has an end
  (card,) = scorecard.make(
    scores[None].astype(np.float64),
    label,
    speaker=speaker,
    attack=attack,
    asv=asv,
    resamples=resamples,
    confidence=CONFIDENCE,
    seed=seed,
    expanded=expanded,
  )
  return {
    'corpus': corpus,
    'split': split,
    **card,
    'unit': 'fraction',
    'trials': {
      'total': len(label),
      'bonafide': int(np.sum(label == 1)),
      'spoof': int(np.sum(label == 0)),
    },
    'selected_on': selected_on,
    'confidence': CONFIDENCE,
    'resamples': resamples,
    'resampled': clustered.resampled(label, speaker, attack),
    **({'intervals': clustered.EXPANDED} if expanded else {}),
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
