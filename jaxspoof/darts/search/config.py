"""Configuration of an architecture search as frozen dataclasses."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import optax

from jaxspoof import losses, models
from jaxspoof.config import (
  DataConfig,
  MeshConfig,
  check_splits,
  job_section,
)
from jaxspoof.darts.search import bilevel
from jaxspoof.runs.workdir import DETECTION
from jaxspoof.system import SystemConfig

# Under the root of Adam's second moment: keeps its derivative finite at 0.
EPS_ROOT = 1e-12


def _one_of(field: str, value, known) -> None:
  if value not in known:
    raise ValueError(f'{field}={value!r}: expected one of {", ".join(known)}')


def _at_least(field: str, value) -> None:
  if not value >= 0:
    raise ValueError(f'{field}={value!r}: expected a number of at least 0')


def _above(field: str, value) -> None:
  if not value > 0:
    raise ValueError(f'{field}={value!r}: expected a number above 0')


def _fraction(field: str, value) -> None:
  if not 0 <= value < 1:
    raise ValueError(f'{field}={value!r}: expected 0 or more and below 1')


@dataclasses.dataclass(frozen=True)
class WeightsConfig:
  """Optimiser of the supernet's weights, the inner one, on a cosine schedule.

  Attributes:
    optimizer: 'sgd' as in DARTS, or 'adam' as in the anti-spoofing searches of
      Ge et al. 2021.
    learning_rate: learning rate at step 0.
    learning_rate_min: learning rate that the last step approaches.
    momentum: momentum of SGD, or decay of Adam's first moment (beta 1).
    weight_decay: L2 coefficient: that many times the weight is added to its
      gradient.
    clip_norm: largest norm of the whole gradient; longer ones are scaled down.
      0 switches clipping off.
  """

  optimizer: str = 'sgd'
  learning_rate: float = 0.025
  learning_rate_min: float = 0.001
  momentum: float = 0.9
  weight_decay: float = 3e-4
  clip_norm: float = 5.0

  def __post_init__(self):
    _one_of('weights.optimizer', self.optimizer, ('sgd', 'adam'))
    _above('weights.learning_rate', self.learning_rate)
    for name in ('learning_rate_min', 'weight_decay', 'clip_norm'):
      _at_least(f'weights.{name}', getattr(self, name))
    _fraction('weights.momentum', self.momentum)


@dataclasses.dataclass(frozen=True)
class ArchConfig:
  """How the architecture moves.

  Attributes:
    order: how the gradient of the architecture is computed, a key of
      `bilevel.ORDERS`: 'first', 'exact' or 'finite_difference'.
    learning_rate: learning rate of Adam, which moves the architecture.
    b1: decay of Adam's first moment.
    b2: decay of Adam's second moment.
    weight_decay: L2 coefficient: that many times the logit is added to its
      gradient.
    warmup_epochs: number of epochs at the start in which only weights move.
    temperature: temperature of the softmax over operations at the start.
    temperature_min: temperature of this softmax at the last step.
    gumbel: if True the weights of operations are sampled (Gumbel-softmax).
    entropy_weight: factor on the mean entropy of the edges, 0 to 1, in the
      validation loss; above 0 drives the edges to a decision.
  """

  order: str = 'first'
  learning_rate: float = 6e-4
  b1: float = 0.5
  b2: float = 0.999
  weight_decay: float = 1e-3
  warmup_epochs: int = 10
  temperature: float = 1.0
  temperature_min: float = 1.0
  gumbel: bool = False
  entropy_weight: float = 0.0

  def __post_init__(self):
    _one_of('arch.order', self.order, bilevel.ORDERS)
    for name in ('learning_rate', 'temperature', 'temperature_min'):
      _above(f'arch.{name}', getattr(self, name))
    for name in ('weight_decay', 'warmup_epochs', 'entropy_weight'):
      _at_least(f'arch.{name}', getattr(self, name))
    for name in ('b1', 'b2'):
      _fraction(f'arch.{name}', getattr(self, name))


@dataclasses.dataclass(frozen=True)
class SearchConfig:
  """An architecture search.

  Attributes:
    model: fields of the supernet's config; `head` and `classes` follow from the
      loss and the task and must not be among them.
    data: corpus, splits and batches. The split `train` is divided into two
      halves; `dev` is watched and decides nothing, and may be ''; `eval` is not
      read.
    seed: seed of weights, halves, order, crops and dropout.
    epochs: number of passes over the half that the weights are trained on.
    frontend: front end of the supernet, as in `RunConfig`; '' is that of the
      search space.
    cost: which cost of the derived network is meant, 'macs' or 'parameters'.
    cost_weight: factor on the expected cost of the architecture in the
      validation loss; the most expensive architecture has the cost 1.
    weights: optimiser of the weights.
    arch: optimiser of the architecture.
    loss: the loss of both levels; the last layer of the supernet follows.
    mesh: the devices that the batch is divided over.
    checkpoint_every: number of steps between checkpoints; the end of each epoch
      is one too.
    log_every: number of steps between lines of the log.
  """

  model: Mapping[str, Any]
  data: DataConfig
  frontend: Mapping[str, Any] | str = ''
  seed: int = 1234
  epochs: int = 50
  cost: str = 'macs'
  cost_weight: float = 0.0
  weights: WeightsConfig = WeightsConfig()
  arch: ArchConfig = ArchConfig()
  loss: losses.LossConfig = losses.LossConfig()
  mesh: MeshConfig = MeshConfig()
  checkpoint_every: int = 500
  log_every: int = 50

  def __post_init__(self):
    _one_of('cost', self.cost, ('macs', 'parameters'))
    _at_least('cost_weight', self.cost_weight)
    for name in ('epochs', 'checkpoint_every', 'log_every'):
      _above(name, getattr(self, name))
    if self.data.features_cache is not None:
      raise ValueError(
        f'data.features_cache={self.data.features_cache!r}: a supernet has no '
        'frozen encoder, expected None'
      )
    if self.data.padded:
      raise ValueError(
        'data.padded=True: a supernet takes clips of one length, expected False'
      )
    if self.arch.warmup_epochs >= self.epochs:
      raise ValueError(
        f'arch.warmup_epochs={self.arch.warmup_epochs}: expected fewer than '
        f'the {self.epochs} epochs, or the architecture never moves'
      )


def search_config(values: Mapping[str, Any]) -> SearchConfig:
  """The typed config of a search from its dictionary.

  Raises:
    ValueError: an unknown or missing field, or a value that cannot be; names
      the field, the value and what was expected.
  """
  config = job_section(SearchConfig, values)
  check_splits(config.data)
  losses.make(config.loss)
  return config


def supernet_config(config: SearchConfig) -> SystemConfig:
  """The typed config of the supernet; ValueError names a wrong field."""
  return models.system(
    config.model,
    config.frontend,
    head=losses.make(config.loss).head,
    classes=len(DETECTION),
  )


def weights_schedule(config: WeightsConfig, steps: int) -> optax.Schedule:
  """Learning rate of the weights for each of `steps` steps."""
  return optax.cosine_decay_schedule(
    config.learning_rate, steps, config.learning_rate_min / config.learning_rate
  )


def weights_optimiser(
  config: WeightsConfig, steps: int
) -> optax.GradientTransformation:
  """Update rule of the weights; can be differentiated through."""
  rate = weights_schedule(config, steps)
  if config.optimizer == 'sgd':
    rule = optax.sgd(rate, momentum=config.momentum)
  else:
    rule = optax.adam(rate, b1=config.momentum, eps_root=EPS_ROOT)
  clip = [optax.clip_by_global_norm(config.clip_norm)]
  return optax.chain(
    *(clip if config.clip_norm else []),
    optax.add_decayed_weights(config.weight_decay),
    rule,
  )


def arch_optimiser(config: ArchConfig) -> optax.GradientTransformation:
  """Update rule of the architecture."""
  return optax.chain(
    optax.add_decayed_weights(config.weight_decay),
    optax.adam(config.learning_rate, b1=config.b1, b2=config.b2),
  )
