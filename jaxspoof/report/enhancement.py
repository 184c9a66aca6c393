"""The page of a run that trained an enhancer."""

import pathlib

from jaxspoof.report import outcome
from jaxspoof.report.markup import Html, element, section, table

CURVES = (
  # key, title, whether it is measured once an epoch, factor
  ('train/loss', 'SI-SNR of training batches, dB', False, -1),
  ('dev/improvement', 'improvement on dev, dB', False, 1),
  ('train/lr', 'learning rate', False, 1),
  ('clips_per_s', 'clips per second', False, 1),
)


def page(workdir: pathlib.Path) -> str:
  """The page of a run, from its files; see `outcome.page`."""
  return outcome.page(
    workdir,
    _found,
    'Speech enhancement, no result yet',
    CURVES,
    'The highest improvement on dev selects the weights.',
  )


def _found(metrics: dict) -> tuple[str, Html]:
  title = (
    f'Speech enhancement: {metrics["improvement"]:+.2f} dB on '
    f'{metrics["headline"]}'
  )
  return title, _results(metrics)


def _results(metrics: dict) -> Html:
  rows = [
    [
      f'{split}, {condition}',
      f'{found["noisy"]:.2f}',
      f'{found["enhanced"]:.2f}',
      f'{found["improvement"]:+.2f}',
      f'{found["deviation"]:.2f}',
      f'{found["improved"]:.0%}',
      f'{found["clips"]:,}',
    ]
    for split, part in metrics['si_snr'].items()
    for condition, found in part.items()
  ]
  head = ['split, condition', 'noisy', 'enhanced', 'improvement']
  return section(
    'Before and after',
    element(
      'p',
      'Scale-invariant signal-to-noise ratio (SI-SNR) in dB to the clip before '
      'it was changed, mean over bona fide clips; the standard error is that '
      'of the improvement. The weights were selected by: '
      f'{metrics["selected_on"]}.',
    ),
    table(
      'SI-SNR by split and condition, dB',
      [*head, 'standard error', 'clips that improved', 'clips'],
      rows,
      class_='numbers',
    ),
  )
