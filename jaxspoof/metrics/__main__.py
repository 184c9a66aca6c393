"""Measures score files; see --help."""

import argparse
import sys

import numpy as np

from jaxspoof.machine import interrupts

EXAMPLES = """examples:
  python -m jaxspoof.metrics scores/eval.txt
  python -m jaxspoof.metrics scores.txt.gz \\
      --protocol=ASVspoof2019.LA.cm.eval.trl.txt \\
      --asv_scores=ASVspoof2019.LA.asv.eval.gi.trl.scores.txt --json=out.json
  python -m jaxspoof.metrics a.txt --against=b.txt --protocol=eval.trl.txt

A score file has lines UTTERANCE SCORE, UTTERANCE SCORE KEY or UTTERANCE SYSTEM
KEY SCORE, or is what detect.py --json prints. A protocol has lines SPEAKER
UTTERANCE ENVIRONMENT SYSTEM KEY, or is a key file of ASVspoof 2021 or 5. Each
may have a header that names its columns, and may be gzipped. Higher scores must
mean bona fide: --negate turns them round."""


def main(argv: list[str] | None = None) -> int:
  """Measures what the command line names; returns the exit status."""
  options = parser().parse_args(argv)
  # Here and not above: --help answers at once.
  from jaxspoof.machine import files, programs

  programs.keep()
  try:
    result = measure(options)
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  for warning in result['warnings']:
    print(f'warning: {warning}', file=sys.stderr)
  print('\n'.join(table(result)))
  if options.json:
    files.write_json(options.json, result)
  return 0


def parser() -> argparse.ArgumentParser:
  """The command line."""
  made = argparse.ArgumentParser(
    prog='python -m jaxspoof.metrics',
    description='Computes the EER and other metrics of score files, with '
    'intervals from a\nbootstrap over speakers and attacks.',
    epilog=EXAMPLES,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = made.add_argument
  add('scores', metavar='SCORES', help='score file to measure')
  add(
    '--protocol',
    help='file that says what each trial is: its label, attack and speaker.'
    ' Needed if the score file has no labels',
  )
  add(
    '--phase',
    help='which trials of the protocol are measured, if it has several phases,'
    ' as those of ASVspoof 2021 have: progress, eval (the default) or hidden',
  )
  add(
    '--asv_scores',
    help='score file of a speaker verification system (ASV), for the metrics '
    'of both systems together: t-DCF, t-EER',
  )
  add(
    '--asv_protocol',
    help='file that says what the trials of --asv_scores are, if that file '
    'does not, as in ASVspoof 2021',
  )
  add(
    '--negate',
    action='store_true',
    help='use this if a higher score in SCORES means spoof',
  )
  add(
    '--against',
    metavar='SCORES',
    help='score file of a second system on the same trials, to compare with',
  )
  add(
    '--negate_against',
    action='store_true',
    help='use this if a higher score in the file of --against means spoof',
  )
  add(
    '--by_speaker',
    action='store_true',
    help='also the EER of each speaker of whom there are trials of both classes'
    ' (in demo_pages: of each page), and their mean: what a detector tells'
    ' beyond who or what was recorded. Needs a protocol that names speakers',
  )
  add('--json', metavar='OUT', help='also write all figures to this JSON file')
  add(
    '--resamples',
    type=int,
    default=1000,
    help='number of bootstrap resamples for the intervals (default: 1000)',
  )
  add(
    '--confidence',
    type=float,
    default=0.95,
    help='confidence of the intervals (default: 0.95)',
  )
  add(
    '--seed',
    type=int,
    default=0,
    help='seed of the random draws of the bootstrap (default: 0)',
  )
  return made


def measure(options) -> dict:
  """What --json writes.

  Args:
    options: as `parser` gives them.

  Returns:
    What `scorecard.make` says of the first file, beside `scores` (its name),
    `trials`, `unit`, `resampled`, `confidence`, `resamples`, `seed` and
    `warnings`; `against` holds the same of the second file and `difference`,
    `per_speaker` what the function of that name gives.

  Raises:
    ValueError: a file that breaks its format, or options without a meaning.
    OSError: a file that cannot be read.
  """
  from jaxspoof.metrics import clustered, scorecard
  from jaxspoof.score_files import asv_scores, protocols, score_lists

  protocol, others, part = None, (), None
  if options.protocol:
    protocol = protocols.read(options.protocol)
    protocol, others, part = of_phase(protocol, options)
  elif options.phase:
    raise ValueError('--phase is of a protocol; expected --protocol=FILE too')
  trials = score_lists.read(options.scores, protocol, others)
  systems = [-trials.scores if options.negate else trials.scores]
  if options.against:
    other = score_lists.read(options.against, protocol, others)
    paired = score_lists.paired_scores(
      trials, other, options.scores, options.against
    )
    systems.append(-paired if options.negate_against else paired)
  asv = options.asv_scores and asv_scores.read(
    options.asv_scores, options.asv_protocol, options.phase or 'eval'
  )
  cards = scorecard.make(
    np.stack(systems),
    trials.label,
    speaker=trials.speaker,
    attack=trials.attack,
    asv=asv or None,
    resamples=options.resamples,
    confidence=options.confidence,
    seed=options.seed,
  )
  files = [options.scores, options.against][: len(cards)]
  result = {
    'scores': str(options.scores),
    **cards[0],
    'trials': {
      'total': len(trials.label),
      'bonafide': int(np.sum(trials.label == 1)),
      'spoof': int(np.sum(trials.label == 0)),
    },
    'protocol': part,
    'unit': 'fraction',
    'resampled': clustered.resampled(
      trials.label, trials.speaker, trials.attack
    ),
    'intervals': clustered.EXPANDED,
    'confidence': options.confidence,
    'resamples': options.resamples,
    'seed': options.seed,
    'warnings': [*trials.notes, *warnings(files, systems, cards, trials)],
  }
  if options.against:
    result['against'] = {'scores': str(options.against), **cards[1]}
  if options.by_speaker:
    result['per_speaker'] = per_speaker(trials, systems)
  return result


def per_speaker(trials, systems) -> dict:
  """EERs of speakers of whom there are trials of both classes.

  Args:
    trials: with labels and speakers.
    systems: scores of each system, float [N].

  Returns:
    `eer`, a dictionary from speaker to the EER of each system, and `mean`, of
    each system.

  Raises:
    ValueError: speakers are unknown, or there is none with both classes.
  """
  from jaxspoof.metrics.det import equal_error

  if trials.speaker is None:
    raise ValueError(
      '--by_speaker: expected a protocol that names speakers (--protocol=FILE)'
    )
  found = {}
  for speaker in np.unique(trials.speaker):
    own = trials.speaker == speaker
    label = trials.label[own]
    if 0 < label.sum() < len(label):
      found[str(speaker)] = [equal_error(s[own], label).eer for s in systems]
  if not found:
    raise ValueError('--by_speaker: no speaker has trials of both classes')
  return {'eer': found, 'mean': np.mean([*found.values()], 0).tolist()}


def of_phase(protocol, options):
  """The part of a protocol that is measured.

  Returns:
    (its trials; utterances of the other phases; in words, for the result: the
    `phase`, trials of all `phases`, the `conditions`, or None where the
    protocol has neither).

  Raises:
    ValueError: a phase that the protocol does not have.
  """
  others, part = (), {}
  if protocol.phase is not None:
    names, counts = np.unique(protocol.phase, return_counts=True)
    phases = dict(zip(names.tolist(), counts.tolist(), strict=True))
    phase = options.phase or 'eval'
    if phase not in phases:
      raise ValueError(
        f'{options.protocol} has no phase {phase!r}; it has '
        f'{", ".join(phases)}: say --phase=NAME'
      )
    chosen = protocol.phase == phase
    others = protocol.utterance[~chosen].tolist()
    protocol = protocol.of(chosen)
    part |= {'phase': phase, 'phases': phases}
  elif options.phase:
    raise ValueError(f'{options.protocol} has no phases; leave out --phase')
  if protocol.condition is not None:
    part['conditions'] = np.unique(protocol.condition).tolist()
  return protocol, others, part or None


def warnings(files, systems, cards, trials) -> list[str]:
  """What a reader of the figures should know."""
  from jaxspoof.metrics import eer
  from jaxspoof.metrics import trials as trials_lib

  found = [
    f'{file}: EER {card["eer"]:.2%} is above 50 %: the scores look negated; '
    'higher must mean bona fide (see --negate)'
    for file, card in zip(files, cards, strict=True)
    if card['eer'] > 0.5
  ]
  for file, scores, card in zip(files, systems, cards, strict=True):
    if tied := trials_lib.ties(scores, trials.label):
      other = eer.eer_of(tied.optimistic, trials.label).eer
      found.append(
        f'{file}: {tied.trials:,} of {len(scores):,} scores are shared by bona '
        f'fide and spoof trials, most often {tied.score:g} ({tied.most:,} '
        'trials); of equal scores the bona fide ones are rejected first, which '
        f'gives an EER of {card["eer"]:.2%}; the other order gives {other:.2%}'
      )
    found += [f'{file}: {why}' for why in card.get('undefined', {}).values()]
  if trials.speaker is None:
    found.append(
      'speakers are unknown without a protocol that names them: intervals are '
      'too narrow if trials of one speaker agree'
    )
  return found


def table(result: dict) -> list[str]:
  """Lines for a person; error rates in percent."""
  from jaxspoof.metrics.table import METRICS

  trials, other = result['trials'], result.get('against')
  percent = f'{100 * result["confidence"]:g} %'
  lines = [
    f'{result["scores"]}: {trials["total"]:,} trials, '
    f'{trials["bonafide"]:,} bona fide and {trials["spoof"]:,} spoof',
    f'in brackets: {percent} interval, {result["resamples"]:,} resamples of '
    f'{result["resampled"]}',
  ]
  part = result['protocol'] or {}
  if 'phase' in part:
    left = {k: n for k, n in part['phases'].items() if k != part['phase']}
    shown = ', '.join(f'{n:,} trials of {k}' for k, n in left.items())
    lines.append(
      f'phase {part["phase"]} of the protocol; left out: {shown or "none"}'
    )
  if 'conditions' in part:
    lines.append(f'conditions, pooled: {", ".join(part["conditions"])}')
  if other:
    lines.append(f'against: {other["scores"]}, on the same resamples')
  lines.append('')
  for metric in METRICS.values():
    cards = [card for card in (result, other) if card]
    if all(card[metric.name] is None for card in cards):
      continue
    cells = [_cell(metric, card) for card in cards]
    if other:
      cells.append(_difference(metric, *cards))
    lines.append('  '.join([f'{metric.label:22}', *cells]).rstrip())
  lines.append(f'{"threshold of the EER":22}  {result["eer_threshold"]:8.6g}')
  if result['per_attack']:
    lines += ['', 'EER % by attack']
  for attack, row in result['per_attack'].items():
    cards = [row, other['per_attack'][attack]] if other else [row]
    shown = [
      _rate(one['eer'], one['interval'], 100, '8.4f', '.2f') for one in cards
    ]
    count = f'{row["trials"]:,} trials'
    lines.append('  '.join([f'{attack:22}', *shown, count]))
  if by_speaker := result.get('per_speaker'):
    lines += ['', 'EER % by speaker, of those with trials of both classes']
    rows = by_speaker['eer'] | {
      f'mean of {len(by_speaker["eer"])}': by_speaker['mean']
    }
    for name, values in rows.items():
      lines.append(f'{name:40}' + ''.join(f'  {100 * v:8.4f}' for v in values))
  return lines


def _cell(metric, card) -> str:
  value, ends = card[metric.name], card.get(f'{metric.name}_interval')
  if value is None:
    return f'{"not defined":27}'
  if ends is None:
    return f'{metric.scale * value:8.6f} {"":18}'
  digits = '.3f' if metric.unit == '%' else '.4f'
  return _rate(value, ends, metric.scale, '8.6f', digits)


def _rate(value, interval, scale, digits, interval_digits) -> str:
  low, high = (format(scale * x, interval_digits) for x in interval)
  return f'{format(scale * value, digits)} {f"[{low}, {high}]":18}'


def _difference(metric, first, second) -> str:
  name, scale = metric.name, metric.scale
  if None in (first[name], second[name]):
    return ''
  said = f'difference {scale * (first[name] - second[name]):+.4f}'
  if name not in second['difference']:
    return said
  found = second['difference'][name]
  low, high = (scale * x for x in found['interval'])
  return f'{said} [{low:+.4f}, {high:+.4f}], this sign in {found["share"]:.1%}'


if __name__ == '__main__':
  sys.exit(interrupts.call(main))
