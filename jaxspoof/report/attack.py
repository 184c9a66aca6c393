"""The page of a run that tuned an enhancer against a detector."""

import pathlib

from jaxspoof.report import outcome
from jaxspoof.report.markup import (
  Html,
  element,
  interval,
  percent,
  section,
  table,
)

CURVES = (
  # key, title, whether it is measured once an epoch, factor
  ('train/loss', 'detector loss less weighted SI-SNR', False, 1),
  ('dev/detector_loss', 'detector loss on dev, label bona fide', True, 1),
  ('dev/si_snr', 'SI-SNR to the input on dev, dB', True, 1),
  ('train/lr', 'learning rate', False, 1),
  ('clips_per_s', 'clips per second', False, 1),
)
ROWS = {
  'before': 'as they are',
  'start': 'spoofs behind the enhancer before it was tuned',
  'attacked': 'spoofs behind the enhancer tuned against this detector',
}


def page(workdir: pathlib.Path) -> str:
  """The page of a run, from its files; see `outcome.page`."""
  return outcome.page(
    workdir,
    _found,
    'An enhancer against a detector, no result yet',
    CURVES,
    'The lowest of the first, taken on dev, selects.',
  )


def _found(metrics: dict) -> tuple[str, Html]:
  rows = {row['row']: row for row in metrics['si_snr'][metrics['headline']]}
  title = (
    f'{metrics["checkpoint"]["model"]} behind an enhancer tuned against it: '
    f'EER {percent(rows["before"]["eer"])} before, '
    f'{percent(rows["attacked"]["eer"])} after'
  )
  return title, _results(metrics)


def _results(metrics: dict) -> Html:
  against = metrics['checkpoint']
  return section(
    'Before and after',
    element(
      'p',
      f'The detector is {against["model"]} of {against["path"]}, and was not '
      'changed. The enhancer was tuned on spoofed clips of the train split so '
      'that this detector takes them for bona fide speech; one dB of '
      'scale-invariant signal-to-noise ratio (SI-SNR) to what went in, over '
      'the beginning of clips, was '
      f'worth {metrics["weight"]:g} of the detector’s loss. It began as '
      f'{metrics["start"]}. Selected by: {metrics["selected_on"]}. Whoever '
      'tunes knows the detector; a detector that stands this is not thereby '
      'safe from other attacks. Its scores are in the folder evaluation, with '
      'a page of their own.',
    ),
    table(
      'EER of the detector, and how close the spoofs stay to what they were',
      [
        'split',
        'clips',
        'EER',
        'interval',
        'less the first',
        'SI-SNR, dB',
        'standard error',
      ],
      [
        _row(split, row)
        for split, rows in metrics['si_snr'].items()
        for row in rows
      ],
      class_='numbers',
    ),
  )


def _row(split: str, row: dict) -> list[str]:
  less = ratio = deviation = ''
  if (change := row.get('less_first')) is not None:
    low, high = (100 * end for end in change['interval'])
    less = f'{100 * change["value"]:+.2f} ({low:+.2f} to {high:+.2f})'
  if 'si_snr' in row:
    ratio, deviation = f'{row["si_snr"]:.2f}', f'{row["deviation"]:.2f}'
  return [
    split,
    ROWS[row['row']],
    percent(row['eer']),
    interval(row['eer_interval']),
    less,
    ratio,
    deviation,
  ]
