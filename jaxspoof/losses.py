"""Losses: pure functions of a model's outputs and the labels.

A loss also says which kind of outputs it expects from the model's last layer
(`head`, a key of `HEADS`), and how the score of a clip is computed from these
outputs. Margins make training harder on purpose and are not part of a score.
The last class is always bona fide speech; in detection class 0 is spoof.

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
    head: the kind of outputs that the loss takes, a key of `HEADS`: 'linear'
      for logits, 'cosine' for cosines, 'one_class' for a single cosine.
    meaning: what the score of a clip is, in words for a person.
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

  The loss is the weighted mean `sum_i w[y_i] nll_i / sum_i w[y_i]`, as
  `torch.nn.CrossEntropyLoss(weight=w)` defines it: it is divided by the sum of
  the weights of the clips in the batch, not by their number.

  The score is the log-odds of bona fide: its logit minus the logarithm of the
  summed exponentials of all other logits. With two classes that is the logit of
  bona fide minus the logit of spoof.

  Attributes:
    weights: one positive number per class; () weighs all classes alike. AASIST
      uses (0.1, 0.9) for (spoof, bona fide).
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

  A clip whose true class has the probability p costs `-(1 - p)^gamma * log(p)`.
  The loss is the weighted mean of these, as in `CrossEntropy`, and so is the
  score: the log-odds of bona fide.

  Attributes:
    gamma: how strongly clips that are classified well already are neglected;
      0 makes the loss a cross-entropy.
    weights: one positive number per class; () weighs all classes alike.
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
    # 1 - p is computed without cancellation, and kept above 0: at 0 the slope
    # of x**gamma would be infinite for gamma < 1.
    rest = jnp.maximum(-jnp.expm1(-value), jnp.finfo(value.dtype).tiny)
    return weighted_mean(rest**self.gamma * value, labels, self.weights)

  def score(self, outputs: jax.Array) -> jax.Array:
    """Log-odds of bona fide, [B]."""
    return log_odds(outputs)


@dataclasses.dataclass(frozen=True)
class AamSoftmax:
  """Additive angular margin (ArcFace, Deng et al. 2019, arXiv 1801.07698).

  The cosine of the true class is replaced by cos(angle + margin), then all
  cosines are multiplied by `scale` and go into a cross-entropy. Where the angle
  is beyond pi - margin, cos(angle + margin) would rise again; there the cosine
  is lowered by `margin * sin(margin)` instead, so that it keeps falling.

  The score is the log-odds of bona fide of the scaled cosines, without margin.

  Attributes:
    margin: in radians, 0 to pi / 2.
    scale: factor on all cosines (an inverse temperature), above 0.
    easy_margin: if True, only angles below 90 degrees get the margin.
    weights: one positive number per class; () weighs all classes alike.
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
    # cos(a + m) = cos(a) cos(m) - sin(a) sin(m), so that no angle is computed.
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

  The cosine of the true class is lowered by `margin`, then all cosines are
  multiplied by `scale` and go into a cross-entropy. The score is the log-odds
  of bona fide of the scaled cosines, without margin.

  Attributes:
    margin: by which the cosine is lowered, 0 to 2.
    scale: factor on all cosines (an inverse temperature), above 0.
    weights: one positive number per class; () weighs all classes alike.
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

  One vector stands for bona fide speech, and `cos` is the cosine between it and
  the embedding of a clip. A bona fide clip costs
  `log(1 + exp(scale * (margin_bona_fide - cos)))`, a spoof
  `log(1 + exp(scale * (cos - margin_spoof)))`; the loss is the mean over clips.

  The score is the cosine itself, in [-1, 1], because the loss defines no
  log-odds.

  Attributes:
    margin_bona_fide: cosine that bona fide clips are to reach.
    margin_spoof: cosine that spoofs are to stay below.
    scale: how sharply the loss bends at the margins, above 0.
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

  The cosine of the true class should be 1, that of the other classes 0; the
  loss is the mean squared error over clips and classes.

  The score is the cosine to the vector of bona fide speech, in [-1, 1], as in
  the paper, because the loss defines no log-odds.
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
  """The section `loss` of a config: a loss by name, and changes to its fields.

  A field that is None keeps the default of the loss. A field that the named
  loss does not have must be None.

  Attributes:
    name: a key of `LOSSES`.
    weights: weights of the classes (spoof, bona fide); () weighs them alike.
    margin: margin of 'aam_softmax' (radians) or 'am_softmax' (of the cosine).
    scale: factor on the cosines of 'aam_softmax', 'am_softmax', 'oc_softmax'.
    easy_margin: see `AamSoftmax`.
    margin_bona_fide: see `OcSoftmax`.
    margin_spoof: see `OcSoftmax`.
    gamma: see `Focal`.
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
    """The fields that are set, without the name: arguments of the loss."""
    fields = {k: v for k, v in vars(self).items() if k != 'name'}
    return {k: v for k, v in fields.items() if v is not None and v != ()}


def make(config: LossConfig, classes: int = 2) -> Loss:
  """Makes the loss that a config describes.

  Args:
    config: the section `loss` of a run's config.
    classes: number of classes that the model tells apart.

  Raises:
    ValueError: there is not one weight per class, or the loss is defined for
      two classes only and there are more.
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
  """Negative log-likelihood of each clip's true class, [B], in nats."""
  log_p = jax.nn.log_softmax(logits, axis=-1)
  return -jnp.take_along_axis(log_p, labels[:, None], axis=-1)[:, 0]


def log_odds(logits: jax.Array) -> jax.Array:
  """Log-odds of the last class against all others, [B], in nats."""
  last = logits[..., -1]
  if logits.shape[-1] == 2:  # without JAX of what is on the host already
    return last - logits[..., 0]
  return last - jax.nn.logsumexp(logits[..., :-1], axis=-1)


def weighted_mean(
  values: jax.Array, labels: jax.Array, weights: tuple[float, ...]
) -> jax.Array:
  """Mean of one value per clip, [B], each with the weight of its class."""
  if not weights:
    return jnp.mean(values)
  weight = jnp.asarray(weights, values.dtype)[labels]
  return jnp.sum(weight * values) / jnp.sum(weight)


def one_hot(labels: jax.Array, outputs: jax.Array) -> jax.Array:
  """Bool [B, K], True in the column of each clip's label."""
  classes = jnp.arange(outputs.shape[-1], dtype=labels.dtype)
  return labels[:, None] == classes[None]


def need(name: str, value, fulfilled: bool, wanted: str) -> None:
  """Raises a ValueError that names a field of a loss unless it is valid.

  Args:
    name: of the field.
    value: of the field.
    fulfilled: whether the value is valid.
    wanted: which values are, in words.
  """
  if not fulfilled:
    raise ValueError(f'loss.{name}={value}: needs {wanted}')
