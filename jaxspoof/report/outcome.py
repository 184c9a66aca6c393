"""The page of a job that ends in one table: result, training, cost, command."""

import pathlib
from collections.abc import Callable, Sequence

from jaxspoof.report import background
from jaxspoof.report.markup import Html, element
from jaxspoof.report.page import document
from jaxspoof.runs import names
from jaxspoof.runs.names import RunError
from jaxspoof.runs.run import Run, metric_lines


def page(
  workdir: pathlib.Path,
  results: Callable[[dict], tuple[str, Html]],
  waiting: str,
  curves: Sequence[tuple[str, str, bool, float]],
  selects: str,
) -> str:
  """The page of a run, from its files; it may not have ended.

  Args:
    workdir: of the run.
    results: makes the title of the page and its first section of what
      `metrics.json` holds.
    waiting: the title as long as there is no result.
    curves: see `background.training`.
    selects: which value on dev selects the weights, as a sentence.

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
  title, sections = waiting, []
  if metrics is not None:
    try:
      title, found = results(metrics)
    except (KeyError, TypeError, ValueError) as error:
      raise RunError(
        f'{workdir / names.METRICS}: a field is missing or of another type '
        f'({type(error).__name__}: {error})'
      ) from error
    sections = [found]
  body = element(
    'body',
    element(
      'header',
      element('h1', title),
      *(element('p', text, class_='note') for text in notes),
    ),
    element(
      'main',
      *sections,
      background.training(run, curves, selects),
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
