"""Every metric of one or more systems, with intervals, as JSON can hold it."""

import numpy as np

from jaxspoof.metrics import clustered
from jaxspoof.metrics.cllr import cllr
from jaxspoof.metrics.dcf import OFFICIAL, act_dcf, min_dcf
from jaxspoof.metrics.eer import eer_of
from jaxspoof.metrics.tdcf import (
  AsvRates,
  legacy_cost,
  min_tdcf_legacy,
  min_tdcf_revised,
  revised_cost,
)

# Metrics that have an interval, in the order of tables.
METRICS = (
  'eer',
  'min_tdcf_legacy',
  'min_tdcf_revised',
  'min_dcf',
  'act_dcf',
  'cllr',
)


def make(
  scores_KxN,
  label,
  *,
  speaker=None,
  attack=None,
  asv: AsvRates | None = None,
  resamples: int = 1000,
  confidence: float = 0.95,
  seed: int = 0,
) -> list[dict]:
  """Measure systems on the same trials and the same resamples.

  Args:
    scores_KxN: float, one row per system, higher = more bona fide.
    label: int [N], spoof 0, bona fide 1.
    speaker: str [N]; None = trials are resampled one by one.
    attack: str [N]; None = unknown.
    asv: errors of the verification system; None = no t-DCF.
    resamples: of the bootstrap.
    confidence: share of the resampled values inside an interval.
    seed: of the bootstrap.

  Returns:
    Of each system, error rates being fractions: the names of `METRICS` (None
    for what needs `asv`) and after each `..._interval` [low, high];
    `eer_threshold`; `per_attack` by name (`eer`, `interval`, `threshold`,
    `trials` = its spoof trials; against all bona fide trials, speakers
    resampled). From the second system on `difference`, what the first has
    more, by metric (`value`, `interval`, `share` of the resamples with that
    sign).

  Raises:
    ValueError: as for `eer` and `min_tdcf_legacy`.
  """
  options = dict(speaker=speaker, resamples=resamples, seed=seed)
  cards = [_measure(scores, label, asv) for scores in scores_KxN]
  minima = {'min_dcf': OFFICIAL.linear}
  if asv is not None:
    minima['min_tdcf_legacy'] = legacy_cost(asv)
    minima['min_tdcf_revised'] = revised_cost(asv)
  found = clustered.resampled_metrics(
    scores_KxN,
    label,
    attack=attack,
    minima=minima,
    actual={'act_dcf': OFFICIAL},
    **options,
  )
  for number, card in enumerate(cards):
    card['difference'] = {}
    for name, values in found.items():
      low_high = clustered.interval(values[number], confidence)
      card[f'{name}_interval'] = list(low_high)
      if number:
        compared = clustered.difference(
          cards[0][name], card[name], values[[0, number]], confidence
        )
        card['difference'][name] = {
          **compared._asdict(),
          'interval': list(compared.interval),
        }
  cards[0].pop('difference')
  rows = _per_attack(scores_KxN, label, attack, confidence, options)
  for card, per_attack in zip(cards, rows, strict=True):
    card['per_attack'] = per_attack
  return cards


def resampled(label, speaker=None, attack=None) -> str:
  """What the bootstrap draws of trials, in words; see `make`."""
  drawn = 'trials one by one'
  if speaker is not None:
    count = len(np.unique(speaker))
    drawn = f'{count} speaker{"s" * (count > 1)}'
  if attack is not None:
    count = len(np.unique(np.asarray(attack)[np.asarray(label) == 0]))
    drawn += f' and {count} attack{"s" * (count > 1)}'
  return drawn


def _measure(scores, label, asv: AsvRates | None) -> dict:
  """The metrics of one system on all trials."""
  found = eer_of(scores, label)
  card = dict.fromkeys(METRICS)
  card |= dict.fromkeys(f'{name}_interval' for name in METRICS)
  card |= {
    'eer': found.eer,
    'eer_threshold': found.threshold,
    'min_dcf': min_dcf(scores, label).cost,
    'act_dcf': act_dcf(scores, label),
    'cllr': cllr(scores, label),
  }
  if asv is not None:
    card['min_tdcf_legacy'] = min_tdcf_legacy(scores, label, asv).cost
    card['min_tdcf_revised'] = min_tdcf_revised(scores, label, asv).cost
  return card


def _per_attack(scores_KxN, label, attack, confidence, options) -> list[dict]:
  """Of each system EERs by attack."""
  rows = [{} for _ in scores_KxN]
  if attack is None:
    return rows
  speaker = options['speaker']
  for name in np.unique(attack[label == 0]).tolist():
    chosen = (label == 1) | (attack == name)
    part = scores_KxN[:, chosen], label[chosen]
    if speaker is not None:
      options = {**options, 'speaker': speaker[chosen]}
    resampled = clustered.resampled_metrics(*part, **options)['eer']
    for row, scores, values in zip(rows, part[0], resampled, strict=True):
      found = eer_of(scores, part[1])
      row[name] = {
        'eer': found.eer,
        'interval': list(clustered.interval(values, confidence)),
        'threshold': found.threshold,
        'trials': int(np.sum(part[1] == 0)),
      }
  return rows
