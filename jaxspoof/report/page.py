"""Puts the parts of the report together."""

import base64
import hashlib

from jaxspoof.report import (
  background,
  decisions,
  localisation,
  results,
  tracing,
)
from jaxspoof.report.markup import Html, element, join, percent
from jaxspoof.report.style import CSS
from jaxspoof.runs.run import Run, load

PARTS = (
  tracing.figures,
  tracing.confusions,
  tracing.maps,
  localisation.figures,
  localisation.clips,
  results.splits,
  results.errors,
  results.attacks,
  decisions.costs,
  decisions.calibration,
  background.training,
  background.selection,
  background.cost,
  background.again,
)


def page(workdir) -> str:
  """The page of a run; see `jaxspoof.report.write`."""
  return render(load(workdir))


def render(run: Run) -> str:
  """The page of a run as HTML. The same run always gives the same text."""
  title = 'Report, no result yet'
  if run.metrics is not None:
    title = f'EER {percent(run.metrics["eer"])} on {next(iter(run.summaries))}'
  if run.source_tracing is not None:
    title = tracing.title(run)
  body = element(
    'body',
    results.header(run),
    element('main', join(part(run) for part in PARTS)),
    element(
      'footer',
      'Made from the files of the run’s folder; python -m jaxspoof.report '
      'makes it again.',
    ),
  )
  return document(title, body)


def document(title: str, body: Html, script: str = '') -> str:
  """A whole page that loads nothing from anywhere.

  Args:
    title: of the window.
    body: the element.
    script: the one program that the page may run; most have none.
  """
  allowed = "default-src 'none'; style-src 'unsafe-inline'"
  if script:
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest())
    allowed += f"; script-src 'sha256-{digest.decode()}'"
    body = join([body, element('script', Html(script))])
  head = element(
    'head',
    Html('<meta charset="utf-8">'),
    Html('<meta name="viewport" content="width=device-width">'),
    # Nothing is loaded from anywhere, whatever the files may hold.
    Html(f'<meta http-equiv="Content-Security-Policy" content="{allowed}">'),
    element('title', f'{title} - jaxspoof'),
    element('style', Html(CSS)),
  )
  page = element('html', head, body, lang='en')
  return f'<!DOCTYPE html>\n{page}\n'
