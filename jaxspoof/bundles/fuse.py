"""One detector of several: the weighted sum of their scores, in one bundle.

Letters in names: E size of an embedding, K classes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxspoof import config as config_lib
from jaxspoof import losses, models
from jaxspoof.bundles import card as card_lib
from jaxspoof.bundles.card import Card

BUCKET = 16_000  # samples, where no detector pads


def fuse(
  detectors: Mapping[str, tuple[Card, Mapping[str, np.ndarray]]],
  weights: Sequence[float] | None = None,
  name: str | None = None,
) -> tuple[Card, dict[str, np.ndarray]]:
  """Makes one bundle whose score is the weighted sum of those of several.

  Each hears what it heard alone. What comes out is not calibrated, and the
  recordings that it knows are not known: `bundle.fitted` follows.

  Args:
    detectors: card and tensors of each, by what it is called in messages.
    weights: factor on the score of each; None takes the slope of each one's
      calibration, so that what adds up are log-likelihood ratios.
    name: of the new detector; None joins the names of all.

  Returns:
    Card and tensors of the bundle.

  Raises:
    ValueError: there are less than two, one cannot be a part, or weights are
      not as many as detectors, or needed and missing.
  """
  if len(detectors) < 2:
    raise ValueError(f'{", ".join(detectors)}: expected two detectors or more')
  for where, (card, _) in detectors.items():
    _check(card, where, next(iter(detectors.values()))[0])
  if weights is None:
    weights = [_slope(card, where) for where, (card, _) in detectors.items()]
  if len(weights) != len(detectors) or not all(map(np.isfinite, weights)):
    raise ValueError(
      f'weights={list(weights)}: expected {len(detectors)} numbers, one for '
      'each detector'
    )
  cards = [card for card, _ in detectors.values()]
  parts, tensors, kernels, bias_K = [], {}, [], 0
  for i, (weight, (card, given)) in enumerate(
    zip(weights, detectors.values(), strict=True)
  ):
    head = f'params/{_system(card).kind.head_name}/'
    for path, array in given.items():
      kind, _, rest = path.partition('/')
      if kind in ('params', 'batch_stats') and not path.startswith(head):
        tensors[f'{kind}/part{i}/{rest}'] = array
    kernels.append(weight * given[f'{head}kernel'].astype(np.float32))
    bias_K = bias_K + weight * given[f'{head}bias'].astype(np.float32)
    parts.append(_part(card))
  tensors['params/head/kernel'] = np.concatenate(kernels).astype(np.float32)
  tensors['params/head/bias'] = bias_K.astype(np.float32)
  model = {'name': 'fused', 'parts': parts}
  system = models.system(model)
  padded = [card for card in cards if card.input.bucket is not None]
  return Card(
    name or '+'.join(card.name for card in cards),
    card_lib.System(
      model,
      models.frontends.as_section(system.frontend),
      cards[0].system.loss,
      cards[0].system.classes,
      system.parameters(),
    ),
    card_lib.Input(
      cards[0].input.sample_rate,
      max(card.input.samples for card in cards),
      max((card.input.bucket for card in padded), default=BUCKET),
      max((card.input.shortest for card in padded), default=1),
    ),
    card_lib.Weights('', 0),
    training={
      'fused': [
        {'of': c.name, 'factor': float(w), **c.training}
        for c, w in zip(cards, weights, strict=True)
      ]
    },
    licence='; '.join(dict.fromkeys(card.licence for card in cards)),
    notes=(
      *dict.fromkeys(note for card in cards for note in card.notes),
      'not calibrated: fused of others, whose calibrations do not hold for it',
    ),
  ), tensors


def _system(card: Card):
  return models.system(card.system.model, card.system.frontend)


def _part(card: Card) -> dict[str, Any]:
  """The section of `models.fused.FusedConfig` that a detector becomes."""
  return {
    'model': card.system.model,
    'frontend': card.system.frontend,
    'samples': card.input.samples,
    'padded': card.input.bucket is not None,
  }


def _check(card: Card, where: str, first: Card) -> None:
  """Raises ValueError for a detector that cannot be a part."""
  loss = config_lib.section(losses.LossConfig, card.system.loss, 'loss')
  head = losses.make(loss, len(card.system.classes)).head
  why = None
  if head != 'linear':
    why = f'its loss {loss.name!r} has a head of cosines, expected logits'
  elif card.encoder is not None:
    why = f'its encoder {card.encoder.weights} is not in the bundle'
  elif len(card.system.classes) != 2:
    why = f'it tells {len(card.system.classes)} classes apart, expected 2'
  elif card.system.classes != first.system.classes:
    said = ', '.join(card.system.classes)
    why = f'its classes are {said}, those of the first one are not'
  elif card.input.sample_rate != first.input.sample_rate:
    why = f'it takes {card.input.sample_rate} Hz, the first one does not'
  if why:
    raise ValueError(f'{where}: cannot be fused: {why}')


def _slope(card: Card, where: str) -> float:
  if card.calibration is None:
    raise ValueError(
      f'{where}: not calibrated, so it is not known what its score is worth: '
      'give --weights, or calibrate it before'
    )
  return card.calibration.slope
