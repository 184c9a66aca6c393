"""What a log-likelihood ratio means for a person who has to decide."""

import dataclasses
import math

BONA_FIDE, SPOOF, UNCERTAIN = 'bona fide', 'spoof', 'uncertain'
PRIOR = 0.5  # of a spoof, where the user says nothing
SURE = 0.8  # a verdict needs this probability at least

NOT_CALIBRATED = (
  'the detector is not calibrated: its score has no threshold and is no '
  'probability'
)


@dataclasses.dataclass(frozen=True)
class Rule:
  """How decisions are made.

  Without a threshold the verdict is the class whose probability, at the prior,
  is at least `SURE`; between them it is uncertain. With one, speech is bona
  fide from the threshold on; below it, it is a spoof where that is the more
  probable class at the prior, else uncertain.

  Attributes:
    prior: probability of a spoof before anything was heard, in (0, 1).
    threshold: a log-likelihood ratio in nats, from `--target_far`; None for
      none.
  """

  prior: float = PRIOR
  threshold: float | None = None

  def __post_init__(self):
    if not 0 < self.prior < 1:
      raise ValueError(
        f'prior={self.prior}: expected the probability of a spoof, between 0 '
        'and 1'
      )

  def p_spoof(self, llr: float) -> float:
    """Probability of a spoof, given a log-likelihood ratio of bona fide."""
    odds = math.log(self.prior / (1 - self.prior)) - llr
    if odds >= 0:
      return 1 / (1 + math.exp(-min(odds, 700)))
    return math.exp(max(odds, -700)) / (1 + math.exp(max(odds, -700)))

  def undecided(self) -> tuple[float, float]:
    """The probabilities of a spoof between which nothing is decided."""
    if self.threshold is None:
      return 1 - SURE, SURE
    accepted = self.p_spoof(self.threshold)
    return accepted, max(accepted, 0.5)

  def decide(self, llr: float) -> tuple[str, str | None]:
    """The verdict, and if it is uncertain, why."""
    p_spoof = self.p_spoof(llr)
    if self.threshold is None:
      if p_spoof >= SURE:
        return SPOOF, None
      if 1 - p_spoof >= SURE:
        return BONA_FIDE, None
      return UNCERTAIN, (
        f'undecided: neither class has a probability of {SURE:.0%} at a prior '
        f'of {self.prior:g}'
      )
    if llr >= self.threshold:
      return BONA_FIDE, None
    if p_spoof > 0.5:
      return SPOOF, None
    return UNCERTAIN, (
      'undecided: more probably bona fide, but below the threshold of the '
      f'false-alarm rate (LLR {self.threshold:.2f})'
    )
