"""Whether a detector ranks samples whose truth is known: `--self_test`.

Weights of others may count the bona fide class from the other end than their
labels say. A bona fide and a spoofed sample tell.
"""

import json
import sys
from typing import NamedTuple

import numpy as np

from jaxspoof.detect import inputs
from jaxspoof.detector import Detector, Failure

WRONG = 3  # exit status: not more than half of the pairs are ranked rightly
_TRUTHS = ('bona fide', 'spoof')
_FEW = 10  # pairs that prove little


class Ranking(NamedTuple):
  """How a detector ranks samples.

  Attributes:
    pairs: of a bona fide and a spoofed sample, all with all.
    right: of how many the bona fide one has the higher score.
    equal: of how many both have the same score.
  """

  pairs: int
  right: int
  equal: int = 0

  @property
  def share(self) -> float:
    """Of pairs ranked rightly, in [0, 1]; equal ones count half."""
    return (self.right + self.equal / 2) / self.pairs


def rank(bona_fide: np.ndarray, spoof: np.ndarray) -> Ranking:
  """Compares each bona fide score [N] with each of spoofs [M]."""
  difference = np.subtract.outer(bona_fide, spoof)
  return Ranking(
    difference.size, int((difference > 0).sum()), int((difference == 0).sum())
  )


def show(detector: Detector, options) -> int:
  """Scores the samples, and prints whether they are ranked rightly.

  Args:
    detector: loaded.
    options: of the command line; `self_test` holds pairs of names.

  Returns:
    The exit status: 0 if more than half of the pairs are ranked rightly, else
    `WRONG`; 1 if a sample cannot be scored, of which nothing follows.
  """
  scores: dict[str, list[float]] = {truth: [] for truth in _TRUTHS}
  samples, failed = [], 0
  for place, truth in enumerate(_TRUTHS):
    paths, problems = inputs.expand(one[place] for one in options.self_test)
    found = [
      *problems,
      *detector.score_many(paths, channel=options.channel, names=paths),
    ]
    for result in found:
      if isinstance(result, Failure):
        failed += 1
        print(result.error, file=sys.stderr, flush=True)
        continue
      scores[truth].append(result.score)
      samples.append((result.path, truth, result.score))
  if failed:
    print('self-test: a sample cannot be scored', file=sys.stderr)
    return 1
  ranking = rank(*(np.array(scores[truth]) for truth in _TRUTHS))
  if options.json:
    print(json.dumps(_values(ranking, samples)))
  else:
    width = max(len(path) for path, *_ in [('file',), *samples])
    print(f'{"file":<{width}}  {"truth":<9}  {"score":>9}')
    for path, truth, score in samples:
      print(f'{path:<{width}}  {truth:<9}  {score:>9.3f}')
    print(said(ranking))
  return 0 if ranking.share > 0.5 else WRONG


def said(ranking: Ranking) -> str:
  """What follows, in a few sentences."""
  if ranking.pairs == 1:
    right = ('wrongly', 'rightly')[ranking.right]
    first = f'self-test: the pair is ranked {right}'
  else:
    first = (
      f'self-test: {ranking.right:,} of {ranking.pairs:,} pairs are ranked '
      'rightly'
    )
  if ranking.equal:
    first += f', {ranking.equal:,} have equal scores'
  lines = [first]
  if ranking.share < 0.5:
    lines.append(
      'the spoofed sample scores as more bona fide: if this holds for more '
      'pairs, the index of the bona fide class may be swapped; say '
      '--bonafide_label, if these are weights of others'
    )
  elif ranking.share == 0.5:
    lines.append('which a detector that knows nothing does, too')
  if ranking.pairs < _FEW:
    lines.append(
      'one that guesses ranks half of all pairs rightly: give several files, '
      'or folders'
    )
  return '; '.join(lines[:2]) + ''.join(f'\n{line}' for line in lines[2:])


def _values(ranking: Ranking, samples) -> dict:
  """The same for JSON."""
  return {
    'pairs': ranking.pairs,
    'right': ranking.right,
    'equal': ranking.equal,
    'share': ranking.share,
    'samples': [
      {'path': path, 'truth': truth, 'score': round(score, 6)}
      for path, truth, score in samples
    ],
  }
