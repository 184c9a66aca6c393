"""One self-contained page about a run, made from the files of its workdir.

  run.py         reads and checks the files
  curves.py      numbers of the pictures: thinned DET curves, histograms
  charts.py      the pictures; drawing.py: as SVG in the style of the page
  markup.py      HTML that escapes whatever comes from a file
  results.py     parts of the page: the result
  naming.py      parts of the page: which attack it was; maps.py: its pictures
  decisions.py   parts of the page: costs of decisions, calibration
  background.py  parts of the page: training, selection, cost, versions
  page.py        puts them together
  comparison.py  another page: several runs beside each other
  search.py      another page: an architecture search
  cells.py       its pictures: the cells as graphs
  evolution.py   its pictures: the architecture's weights over time
  study.py       another page: found, random and hand-made cells compared
  evaluation.py  another page: one checkpoint under several conditions

`python -m jaxspoof.report WORKDIR` makes the page again, `python -m
jaxspoof.report WORKDIR WORKDIR --out=compare.html` compares runs.
"""

import pathlib


def write(workdir) -> pathlib.Path:
  """Write `report.html` from the files of a workdir.

  Args:
    workdir: folder of a run, finished or not. What is not there yet is said
      in the page.

  Returns:
    Path of the page.

  Raises:
    ReportError: a ValueError: the folder is not a workdir, or a file in it
      cannot be read; names the file, the field and what was expected.
  """
  # Imports matplotlib: only when needed.
  from jaxspoof.darts.pages import search, study
  from jaxspoof.report import evaluation, page
  from jaxspoof.runs.run import checked_folder, json_object

  config = json_object(checked_folder(workdir) / 'config.json') or {}
  pages = {'evaluate': evaluation, 'search': search, 'study': study}
  return pages.get(config.get('job'), page).write(workdir)


def compare(workdirs, out) -> pathlib.Path:
  """Write a page that compares runs; see `comparison.write`."""
  from jaxspoof.report import comparison

  return comparison.write(workdirs, out)
