"""Losses: pure functions of a model's outputs and the labels.

A loss also says what its outputs are (`head`, see `models.heads`) and what the
score of a clip is, which never contains a margin. The last class is bona fide.

Letters in names: B batch, K classes.
"""

import dataclasses
import math
from typing import ClassVar, Protocol

import jax
import jax.numpy as jnp

_INSIDE = 1e-7  # cosines stay this far from -1 and 1, where a sine has no slope


class Loss(Protocol):
  """What a training job needs to know of a loss.

  Attributes:
    head: key of `models.heads.HEADS`: the kind of outputs it takes.
    meaning: what a score is, in words.
  """

  head: ClassVar[str]
  meaning: ClassVar[str]

  def __call__(self, outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Scalar loss of a batch: outputs [B, K], labels int32 [B]."""

  def score(self, outputs: jax.Array) -> jax.Array:
    """Score [B] of each clip from its outputs; higher = bona fide."""


@dataclasses.dataclass(frozen=True)
class CrossEntropy:
  """Class-weighted cross-entropy.

  The weighted mean `sum_i w[y_i] nll_i / sum_i w[y_i]`, as
  `torch.nn.CrossEntropyLoss(weight=w)` defines it: the sum of the weights that
  occur is the divisor, not the batch size.

  The score is the log-odds of bona fide: its logit minus the log of the sum of
  the exponentials of the others; of two classes their difference.

  Attributes:
    weights: one positive number per class, () for equal ones; AASIST uses
      (0.1, 0.9) for (spoof, bona fide).
  """

  head: ClassVar[str] = 'linear'
  meaning: ClassVar[str] = 'log-odds of bona fide'
  weights: tuple[float, ...] = ()

  def __call__(self, outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Scalar; outputs are logits [B, K]."""
    return weighted_mean(nll(outputs, labels), labels, self.weights)

  def score(self, outputs: jax.Array) -> jax.Array:
    """Log-odds of bona fide, [B]."""
    return log_odds(outputs)


@dataclasses.dataclass(frozen=True)
class Focal:
  """Focal loss (Lin et al. 2017, arXiv 1708.02002, equation 5).

  `(1 - p)^gamma * nll`, p the probability of the true class, as a weighted
  mean like that of `CrossEntropy`; the score is the same too.

  Attributes:
    gamma: how strongly clips that are right already are left aside; 0 is
      cross-entropy.
    weights: as for `CrossEntropy`.
  """

  head: ClassVar[str] = 'linear'
  meaning: ClassVar[str] = 'log-odds of bona fide'
  gamma: float = 2.0
  weights: tuple[float, ...] = ()

  def __post_init__(self):
    need('gamma', self.gamma, self.gamma >= 0, 'at least 0')

  def __call__(self, outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Scalar; outputs are logits [B, K]."""
    value = nll(outputs, labels)
    # 1 - p without cancellation, and a slope at p = 1 for any gamma.
    rest = jnp.maximum(-jnp.expm1(-value), jnp.finfo(value.dtype).tiny)
    return weighted_mean(rest**self.gamma * value, labels, self.weights)

  def score(self, outputs: jax.Array) -> jax.Array:
    """Log-odds of bona fide, [B]."""
    return log_odds(outputs)


@dataclasses.dataclass(frozen=True)
class AamSoftmax:
  """Additive angular margin (ArcFace, Deng et al. 2019, arXiv 1801.07698).

  The true class's cosine becomes cos(angle + margin), all are multiplied by
  `scale`, then cross-entropy. Where the angle is beyond pi - margin, the cosine
  is lowered by `margin * sin(margin)` instead, so that it stays monotonic.

  The score is the log-odds of bona fide of the scaled cosines, no margin.

  Attributes:
    margin: radians, 0 to pi / 2.
    scale: inverse temperature, above 0.
    easy_margin: apply the margin only to angles below 90 degrees.
    weights: as for `CrossEntropy`.
  """

  head: ClassVar[str] = 'cosine'
  meaning: ClassVar[str] = 'log-odds of bona fide, of scaled cosines'
  margin: float = 0.2
  scale: float = 30.0
  easy_margin: bool = False
  weights: tuple[float, ...] = ()

  def __post_init__(self):
    fits = 0 <= self.margin <= math.pi / 2
    need('margin', self.margin, fits, 'radians from 0 to pi / 2')
    need('scale', self.scale, self.scale > 0, 'above 0')

  def __call__(self, outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Scalar; outputs are cosines [B, K]."""
    cosine = jnp.clip(outputs, -1 + _INSIDE, 1 - _INSIDE)
    sine = jnp.sqrt(1 - jnp.square(cosine))
    turned = cosine * math.cos(self.margin) - sine * math.sin(self.margin)
    if self.easy_margin:
      turned = jnp.where(cosine > 0, turned, cosine)
    else:
      lowered = cosine - self.margin * math.sin(self.margin)
      beyond = cosine <= math.cos(math.pi - self.margin)
      turned = jnp.where(beyond, lowered, turned)
    logits = self.scale * jnp.where(one_hot(labels, cosine), turned, cosine)
    return weighted_mean(nll(logits, labels), labels, self.weights)

  def score(self, outputs: jax.Array) -> jax.Array:
    """Log-odds of bona fide, [B]."""
    return log_odds(self.scale * outputs)


@dataclasses.dataclass(frozen=True)
class AmSoftmax:
  """Additive margin (AM-softmax, Wang et al. 2018, arXiv 1801.05599).

  The true class's cosine is lowered by `margin`, all are multiplied by `scale`,
  then cross-entropy. The score is that of `AamSoftmax`.

  Attributes:
    margin: of the cosine, 0 to 2.
    scale: inverse temperature, above 0.
    weights: as for `CrossEntropy`.
  """

  head: ClassVar[str] = 'cosine'
  meaning: ClassVar[str] = 'log-odds of bona fide, of scaled cosines'
  margin: float = 0.2
  scale: float = 30.0
  weights: tuple[float, ...] = ()

  def __post_init__(self):
    need('margin', self.margin, 0 <= self.margin < 2, 'at least 0, below 2')
    need('scale', self.scale, self.scale > 0, 'above 0')

  def __call__(self, outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Scalar; outputs are cosines [B, K]."""
    lowered = jnp.where(
      one_hot(labels, outputs), outputs - self.margin, outputs
    )
    logits = self.scale * lowered
    return weighted_mean(nll(logits, labels), labels, self.weights)

  def score(self, outputs: jax.Array) -> jax.Array:
    """Log-odds of bona fide, [B]."""
    return log_odds(self.scale * outputs)


@dataclasses.dataclass(frozen=True)
class OcSoftmax:
  """One-class softmax (Zhang et al. 2021, arXiv 2010.13995, equation 4).

  One vector stands for bona fide speech. Mean of
  `log(1 + exp(scale * (m - cos)))` over bona fide clips, m `margin_bona_fide`,
  and of `log(1 + exp(scale * (cos - m)))` over spoofs, m `margin_spoof`.

  The score is the cosine, in [-1, 1]: the loss defines no log-odds.

  Attributes:
    margin_bona_fide: cosine that bona fide clips are to reach.
    margin_spoof: cosine that spoofs are to stay below.
    scale: above 0.
  """

  head: ClassVar[str] = 'one_class'
  meaning: ClassVar[str] = 'cosine to bona fide speech'
  margin_bona_fide: float = 0.9
  margin_spoof: float = 0.2
  scale: float = 20.0

  def __post_init__(self):
    need('scale', self.scale, self.scale > 0, 'above 0')
    for name in ('margin_spoof', 'margin_bona_fide'):
      value = getattr(self, name)
      need(name, value, -1 <= value <= 1, 'a cosine, -1 to 1')
    fits = self.margin_spoof <= self.margin_bona_fide
    need('margin_spoof', self.margin_spoof, fits, 'at most margin_bona_fide')

  def __call__(self, outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Scalar; outputs are cosines [B, 1], labels 1 for bona fide."""
    cosine = outputs[:, 0]
    short = self.margin_bona_fide - cosine
    over = cosine - self.margin_spoof
    lacking = jnp.where(labels == 1, short, over)
    return jnp.mean(jax.nn.softplus(self.scale * lacking))

  def score(self, outputs: jax.Array) -> jax.Array:
    """Cosine to the vector of bona fide speech, [B]."""
    return outputs[:, 0]


@dataclasses.dataclass(frozen=True)
class P2SGrad:
  """Probability-to-similarity loss (Wang & Yamagishi 2021, arXiv 2103.11326).

  Mean over clips and classes of the squared difference between the cosine and
  1 for the true class, 0 for the others.

  The score is the cosine to the vector of bona fide speech, in [-1, 1], as in
  the paper: the loss defines no log-odds.
  """

  head: ClassVar[str] = 'cosine'
  meaning: ClassVar[str] = 'cosine to bona fide speech'

  def __call__(self, outputs: jax.Array, labels: jax.Array) -> jax.Array:
    """Scalar; outputs are cosines [B, K]."""
    wanted = one_hot(labels, outputs).astype(outputs.dtype)
    return jnp.mean(jnp.square(outputs - wanted))

  def score(self, outputs: jax.Array) -> jax.Array:
    """Cosine to the vector of bona fide speech, [B]."""
    return outputs[:, -1]


LOSSES: dict[str, type] = {
  'weighted_cross_entropy': CrossEntropy,
  'focal': Focal,
  'aam_softmax': AamSoftmax,
  'am_softmax': AmSoftmax,
  'oc_softmax': OcSoftmax,
  'p2sgrad': P2SGrad,
}


@dataclasses.dataclass(frozen=True)
class LossConfig:
  """Loss by name, and those of its fields that differ from its defaults.

  Attributes:
    name: key of `LOSSES`.
    weights: of the classes (spoof, bona fide); () for equal ones.
    margin: of the margin losses; None for their default, as below.
    scale: of the losses of cosines.
    easy_margin: of 'aam_softmax'.
    margin_bona_fide: of 'oc_softmax'.
    margin_spoof: of 'oc_softmax'.
    gamma: of 'focal'.
  """

  name: str = 'weighted_cross_entropy'
  weights: tuple[float, ...] = ()
  margin: float | None = None
  scale: float | None = None
  easy_margin: bool | None = None
  margin_bona_fide: float | None = None
  margin_spoof: float | None = None
  gamma: float | None = None

  def __post_init__(self):
    """Refuses an unknown loss, and fields or values that it cannot have."""
    if self.name not in LOSSES:
      raise ValueError(
        f'loss.name={self.name!r} is unknown; known: {", ".join(LOSSES)}'
      )
    known = {field.name for field in dataclasses.fields(LOSSES[self.name])}
    if extra := sorted(set(self.given) - known):
      raise ValueError(
        f'loss.{extra[0]}={self.given[extra[0]]!r} is set, but {self.name} has '
        f'no {extra[0]}; it has: {", ".join(sorted(known)) or "no fields"}'
      )
    LOSSES[self.name](**self.given)  # refuses values that cannot be

  @property
  def given(self) -> dict:
    """The fields that are set."""
    fields = {k: v for k, v in vars(self).items() if k != 'name'}
    return {k: v for k, v in fields.items() if v is not None and v != ()}


def make(config: LossConfig, classes: int = 2) -> Loss:
  """The loss that a config describes.

  Raises:
    ValueError: weights that are not one per class, or a loss of two classes for
      more.
  """
  kind, given = LOSSES[config.name], config.given
  weights = given.get('weights', ())
  if weights and (len(weights) != classes or min(weights) <= 0):
    raise ValueError(
      f'loss.weights={weights}: needs {classes} numbers above 0, one per class'
    )
  if kind.head == 'one_class' and classes != 2:
    raise ValueError(f'{config.name} is for 2 classes, there are {classes}')
  return kind(**given)


# ------------------------------------------------------------------- parts ---
def nll(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Negative log-likelihood of the true class, [B]."""
  log_p = jax.nn.log_softmax(logits, axis=-1)
  return -jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]


def log_odds(logits: jax.Array) -> jax.Array:
  """Log-odds of the last class, [B]."""
  *others, last = jnp.moveaxis(logits, -1, 0)
  if len(others) == 1:
    return last - others[0]
  return last - jax.nn.logsumexp(jnp.stack(others), axis=0)


def weighted_mean(
  values: jax.Array, labels: jax.Array, weights: tuple[float, ...]
) -> jax.Array:
  """Mean of values [B], each with the weight of its class."""
  if not weights:
    return jnp.mean(values)
  weight = jnp.asarray(weights, values.dtype)[labels]
  return jnp.sum(weight * values) / jnp.sum(weight)


def one_hot(labels: jax.Array, outputs: jax.Array) -> jax.Array:
  """Bool [B, K], true at the label."""
  classes = jnp.arange(outputs.shape[-1], dtype=labels.dtype)
  return labels[:, None] == classes[None]


def need(name: str, value, fulfilled: bool, wanted: str) -> None:
  """Raises ValueError for a field of a loss that cannot be."""
  if not fulfilled:
    raise ValueError(f'loss.{name}={value}: needs {wanted}')
