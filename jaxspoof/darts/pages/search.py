"""The page of an architecture search, finished or not."""

import pathlib

import numpy as np

from jaxspoof.darts import spaces
from jaxspoof.darts.pages import cells, evolution
from jaxspoof.darts.spaces.genotype import KINDS, Genotype
from jaxspoof.report import background
from jaxspoof.report.markup import (
  Html,
  element,
  figure,
  join,
  percent,
  section,
  table,
)
from jaxspoof.report.page import document
from jaxspoof.runs import names
from jaxspoof.runs.names import RunError
from jaxspoof.runs.run import Run, metric_lines

CURVES = (
  # key, title, whether it is measured once an epoch, factor
  ('train/loss', 'training loss', False, 1),
  ('valid/loss', 'validation loss', True, 1),
  ('dev/loss', 'dev loss', True, 1),
  ('dev/eer', 'dev EER of the supernet, %', True, 100),
  ('entropy', 'entropy of the edges', True, 1),
  ('cost', 'expected cost', True, 1),
  ('arch/grad_norm', 'norm of the hypergradient', False, 1),
  ('train/lr', 'learning rate of the weights', False, 1),
  ('clips_per_s', 'clips per second', False, 1),
)


def page(workdir: pathlib.Path) -> str:
  """The page of a search; see `jaxspoof.report.write`."""
  return render(load(workdir))


def load(workdir: pathlib.Path) -> Run:
  """Reads the files of a search; it has no score files.

  Raises:
    RunError: a broken file.
  """
  notes: list[str] = []
  config, metrics, cost = (
    names.json_or_none(workdir / name)
    for name in (names.CONFIG, names.METRICS, names.COST)
  )
  if metrics is None:
    notes.append(
      'The search has not ended: the cells are those of the last epoch so far.'
    )
  lines = metric_lines(workdir / names.PROGRESS, notes)
  return Run(
    workdir=workdir,
    config=config or {},
    lines=lines,
    metrics=metrics,
    cost=cost,
    scores={},
    rates={},
    source_tracing=None,
    calibration=None,
    notes=notes,
  )


def render(run: Run) -> str:
  """The page of a search. The same run gives the same text."""
  genotype = _genotype(run)
  parts = [
    _cells(genotype),
    _failures(run),
    background.training(
      run, CURVES, 'Rings mark the lowest value; dev decides nothing.'
    ),
    *_evolution(run),
    _derived(run),
    background.cost(run),
    background.again(run),
  ]
  body = element(
    'body',
    _header(run, genotype),
    element('main', join(parts)),
    element(
      'footer',
      'Made from the files of the run’s folder; python -m jaxspoof.report '
      'makes it again.',
    ),
  )
  return document('Architecture search', body)


def _genotype(run: Run) -> Genotype | None:
  path = run.workdir / names.GENOTYPE
  if not path.is_file():
    return None
  try:
    return Genotype.load(path)
  except ValueError as error:
    raise RunError(str(error)) from error


def _header(run: Run, genotype: Genotype | None) -> Html:
  space = run.setting('model', 'space', 'not known')
  corpus = run.setting('data', 'name', 'corpus not known')
  headline = 'No cells yet'
  if genotype is not None:
    headline = f'Genotype {genotype.hash}'
  if run.metrics is not None:
    size = run.metrics['derived']
    headline = (
      f'{size["parameters"]:,} parameters, '
      f'{size["macs"]["total"] / 1e6:,.1f} million MACs'
    )
  return element(
    'header',
    element('h1', f'Architecture search in space “{space}” on {corpus}'),
    element('p', headline, class_='headline'),
    _outcome(run),
    *(element('p', note, class_='note') for note in run.notes),
  )


def _outcome(run: Run) -> Html | None:
  """First and last epoch in a sentence."""
  if run.metrics is None:
    return None
  first, last = run.metrics['first_epoch'], run.metrics['last_epoch']
  words = (
    f'From the first epoch to the last the validation loss went from '
    f'{first["valid/loss"]:.4f} to {last["valid/loss"]:.4f}, the entropy of '
    f'the edges from {first["entropy"]:.3f} to {last["entropy"]:.3f} (1: all '
    f'operations alike, 0: decided) and the expected cost from '
    f'{first["cost"]:.3f} to {last["cost"]:.3f} of the dearest network.'
  )
  if 'dev/eer' in last:
    words += (
      f' The supernet has an EER of {percent(last["dev/eer"])} on dev, which '
      'was watched and decided nothing.'
    )
  return element('p', words)


def _cells(genotype: Genotype | None) -> Html | None:
  if genotype is None:
    return None
  drawn = [
    figure(cells.cell(kind, genotype), f'The {kind} cell.') for kind in KINDS
  ]
  return section('The cells', element('div', *drawn, class_='wide'))


def _failures(run: Run) -> Html | None:
  if run.metrics is None:
    return None
  found = run.metrics['failures']
  if not found:
    words = (
      'None of the known ones: the cells are no collection of skip '
      'connections and have weights to learn, the weights of the operations '
      'are not all alike, and dev did not get worse again.'
    )
    return section('Failure modes', element('p', words))
  return section(
    'Failure modes', *(element('p', words, class_='note') for words in found)
  )


def _evolution(run: Run) -> list[Html]:
  """Architecture weights over time, a section for each cell."""
  lines = [line for line in run.lines if 'arch' in line]
  if not lines:
    return []
  space = spaces.space(run.setting('model', 'space', ''))
  epochs = [line['epoch'] for line in lines]
  parts = []
  for kind in KINDS:
    alpha = np.array([line['arch'][kind]['alpha'] for line in lines])
    words = (
      'Weight of each operation (softmax of alpha) on each edge, by epoch; '
      'an edge goes from one state to another, 0 and 1 are the inputs.'
    )
    beta = None
    if all('beta' in line['arch'][kind] for line in lines):
      beta = np.array([line['arch'][kind]['beta'] for line in lines])
      words += (
        ' Dotted: the weight of the edge (softmax of beta over those of its '
        'target). A node keeps the two edges whose product of both weights is '
        'largest.'
      )
    drawn = evolution.of_cell(kind, epochs, alpha, space.operations, beta)
    parts.append(
      section(
        f'Weights of the {kind} cell',
        element('div', figure(drawn, words), class_='wide'),
      )
    )
  return parts


def _derived(run: Run) -> Html | None:
  if run.metrics is None:
    return None
  size = run.metrics['derived']
  rows = [['parameters', f'{size["parameters"]:,}']]
  rows += [
    [f'MACs of a clip, {stage}', f'{count / 1e6:,.1f} million']
    for stage, count in size['macs'].items()
  ]
  if supernet := (run.cost or {}).get('supernet_parameters'):
    rows.append(['parameters of the supernet', f'{supernet:,}'])
  return section(
    'The derived network', table('Size', [], rows, class_='numbers')
  )
