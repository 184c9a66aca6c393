"""The page of a run that trained an enhancer."""

import pathlib

from jaxspoof.report import background
from jaxspoof.report.markup import Html, element, section, table
from jaxspoof.report.page import document
from jaxspoof.runs import names
from jaxspoof.runs.names import RunError
from jaxspoof.runs.run import Run, metric_lines

CURVES = (
  # key, title, whether it is measured once an epoch, factor
  ('train/loss', 'SI-SNR of training batches, dB', False, -1),
  ('dev/improvement', 'improvement on dev, dB', False, 1),
  ('train/lr', 'learning rate', False, 1),
  ('clips_per_s', 'clips per second', False, 1),
)


def page(workdir: pathlib.Path) -> str:
  """The page of a run, from its files; it may not have ended.

  Raises:
    RunError: a file of the run is broken.
  """
  workdir = pathlib.Path(workdir)
  metrics, config, cost = (
    names.json_or_none(workdir / name)
    for name in (names.METRICS, names.CONFIG, names.COST)
  )
  notes: list[str] = []
  lines = metric_lines(workdir / names.PROGRESS, notes)
  run = Run(
    workdir, config or {}, lines, None, cost, {}, {}, None, None, notes
  )  # fmt: skip
  title = 'Speech enhancement, no result yet'
  results = []
  if metrics is not None:
    try:
      title = (
        f'Speech enhancement: {metrics["improvement"]:+.2f} dB on '
        f'{metrics["headline"]}'
      )
      results = [_results(metrics)]
    except (KeyError, TypeError, ValueError) as error:
      raise RunError(
        f'{workdir / names.METRICS}: a field is missing or of another type '
        f'({type(error).__name__}: {error})'
      ) from error
  body = element(
    'body',
    element(
      'header',
      element('h1', title),
      *(element('p', text, class_='note') for text in notes),
    ),
    element(
      'main',
      *results,
      background.training(
        run, CURVES, 'The highest improvement on dev selects the weights.'
      ),
      background.cost(run),
      background.again(run),
    ),
    element(
      'footer',
      'Made from the files of the run’s folder; python -m jaxspoof.report '
      'makes it again.',
    ),
  )
  return document(title, body)


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
