"""One self-contained page about a run, made from the files of its workdir.

  curves.py      numbers of the pictures: thinned DET curves, histograms
  charts.py      the pictures; drawing.py: as SVG in the style of the page
  markup.py      HTML that escapes whatever comes from a file
  results.py     parts of the page: the result
  tracing.py     parts of the page: which attack it was; maps.py: its pictures
  localisation.py parts of the page: where clips are spoofed
  decisions.py   parts of the page: costs of decisions, calibration
  background.py  parts of the page: training, selection, cost, versions
  page.py        puts them together
  comparison.py  another page: several runs beside each other
  evaluation.py  another page: one checkpoint under several conditions
  enhancement.py another page: the training of an enhancer
  attack.py      another page: one that was tuned against a detector
  sweep.py       another page: the table of a benchmark
  sweep_texts.py the same as CSV, Markdown and LaTeX

`python -m jaxspoof.report WORKDIR` makes the page again, `python -m
jaxspoof.report WORKDIR WORKDIR --out=compare.html` compares runs.
"""

import importlib
import pathlib

from jaxspoof.machine.files import write_atomically
from jaxspoof.runs import names
from jaxspoof.runs.run import checked_folder

# The page of a job, by name: the search, which uses parts of this package,
# has its own.
PAGES = {
  'attack': 'jaxspoof.report.attack',
  'benchmark': 'jaxspoof.report.sweep',
  'enhance': 'jaxspoof.report.enhancement',
  'evaluate': 'jaxspoof.report.evaluation',
  'search': 'jaxspoof.darts.pages.search',
  'study': 'jaxspoof.darts.pages.study',
}


def write(workdir) -> pathlib.Path:
  """Write `report.html` from the files of a workdir.

  Args:
    workdir: folder of a run, finished or not. The page says what is missing.

  Returns:
    Path of the page.

  Raises:
    RunError: a ValueError: the folder is not a workdir, or a file in it
      cannot be read; names the file, the field and what was expected.
  """
  workdir = checked_folder(workdir)
  config = names.json_or_none(workdir / names.CONFIG) or {}
  page = PAGES.get(config.get('job'), 'jaxspoof.report.page')
  # Only now, because it imports matplotlib.
  text = importlib.import_module(page).page(workdir)
  path = workdir / names.REPORT
  write_atomically(path, text)
  return path


def compare(workdirs, out) -> pathlib.Path:
  """Write a page that compares runs; see `comparison.write`."""
  from jaxspoof.report import comparison

  return comparison.write(workdirs, out)
