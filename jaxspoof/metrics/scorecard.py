"""Every metric of one or more systems, with intervals, as JSON can hold it."""

import numpy as np

from jaxspoof.metrics import clustered, table
from jaxspoof.metrics.det import equal_error
from jaxspoof.metrics.table import METRICS
from jaxspoof.metrics.tdcf import AsvRates
from jaxspoof.metrics.trials import Undefined
from jaxspoof.score_files.asv_scores import AsvScores


def make(
  scores_KxN,
  label,
  *,
  speaker=None,
  attack=None,
  asv: AsvScores | AsvRates | None = None,
  resamples: int = 1000,
  confidence: float = 0.95,
  seed: int = 0,
  expanded: bool = True,
) -> list[dict]:
  """Measure systems on the same trials and the same resamples.

  Args:
    scores_KxN: float, one row per system, higher = more bona fide.
    label: int [N], spoof 0, bona fide 1.
    speaker: str [N]; None = trials are resampled one by one.
    attack: str [N]; None = unknown.
    asv: scores of the verification system, or its errors where no more is
      known, or None; see what metrics of `table.METRICS` need.
    resamples: number of bootstrap resamples.
    confidence: how often an interval is to hold the truth.
    seed: seed of the random draws of the bootstrap.
    expanded: False gives plain percentiles, as records of before have them;
      see `clustered.interval`.

  Returns:
    A dictionary for each system. Error rates are fractions.

    - each name in `METRICS`: its value, or None if it needs scores of a
      verification system that are not known;
    - `NAME_interval`, of each metric that is resampled: [low, high];
    - `undefined`, only if there are any: why a metric has no value, by name;
    - `eer_threshold`: the score at which misses and false alarms are closest;
    - `asv`: the error rates of the verification system, or None;
    - `per_attack`, by the name of the attack: `eer`, `interval`, `threshold`
      and `trials`, of its spoof trials against all bona fide ones. Here only
      speakers are resampled.
    - `difference`, not of the first system: the first system's metrics minus
      this one's, by name: `value`, `interval`, and `share`, the share of the
      resamples in which the difference has this sign.

  Raises:
    ValueError: scores or labels are invalid, see `eer.eer`, or the verification
      system errs too much for a t-DCF, see `tdcf.legacy_cost`.
  """
  options = dict(speaker=speaker, resamples=resamples, seed=seed)
  systems = [table.scored(scores, label, asv) for scores in scores_KxN]
  cards = [_measure(scored) for scored in systems]
  rates = systems[0].asv_rates
  forms = {
    name: form
    for name, form in table.forms(rates).items()
    if all(card[name] is not None for card in cards)
  }
  found = clustered.resampled_metrics(
    scores_KxN,
    label,
    attack=attack,
    metrics=forms,
    **options,
  )
  clusters = None
  if expanded:
    clusters = clustered.clusters_of(label, speaker, attack)
  for number, card in enumerate(cards):
    card['difference'] = {}
    for name, values in found.items():
      low_high = clustered.interval(
        values[number], confidence, clusters=clusters
      )
      card[f'{name}_interval'] = list(low_high)
      if number:
        compared = clustered.difference(
          cards[0][name],
          card[name],
          values[[0, number]],
          confidence,
          clusters=clusters,
        )
        card['difference'][name] = {
          **compared._asdict(),
          'interval': list(compared.interval),
        }
  cards[0].pop('difference')
  rows = _per_attack(scores_KxN, label, attack, confidence, expanded, options)
  for card, per_attack in zip(cards, rows, strict=True):
    card['per_attack'] = per_attack
    card['asv'] = rates and rates._asdict()
  return cards


def _measure(scored: table.Scored) -> dict:
  """The metrics of one system on all trials."""
  card: dict = {}
  for name, metric in METRICS.items():
    try:
      card[name] = metric.value(scored)
    except Undefined as error:
      card[name] = None
      card.setdefault('undefined', {})[name] = str(error)
    if metric.resampled:
      card[f'{name}_interval'] = None
  card['eer_threshold'] = equal_error(scored.scores, scored.label).threshold
  return card


def _per_attack(
  scores_KxN, label, attack, confidence, expanded, options
) -> list[dict]:
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
    clusters = None
    if expanded:
      clusters = clustered.clusters_of(part[1], options['speaker'])
    for row, scores, values in zip(rows, part[0], resampled, strict=True):
      found = equal_error(scores, part[1])
      row[name] = {
        'eer': found.eer,
        'interval': list(
          clustered.interval(values, confidence, clusters=clusters)
        ),
        'threshold': found.threshold,
        'trials': int(np.sum(part[1] == 0)),
      }
  return rows
