"""Jobs without their pages, or without the pictures of these."""

import contextlib
import sys

import pytest
from matplotlib.backends.backend_svg import FigureCanvasSVG

from jaxspoof import jobs
from jaxspoof.runs import names


@contextlib.contextmanager
def none(*but: str):
  """No job writes `report.html`, but those of these names.

  The pictures of one take as long as the rest of a tiny run.
  """
  with pytest.MonkeyPatch.context() as patched:
    for name in jobs.JOBS.keys() - {*but}:
      module = sys.modules[f'jaxspoof.jobs.{name}']
      if hasattr(module, 'report'):
        patched.setattr(module, 'report', Pages)
    yield


@contextlib.contextmanager
def unpainted():
  """Pictures are drawn, but not written: for tests of words and numbers."""
  empty = '<svg viewBox="0 0 1 1"></svg>'
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(
      FigureCanvasSVG, 'print_svg', lambda _, file, **options: file.write(empty)
    )
    yield


class Pages:
  """In place of `jaxspoof.report`."""

  @staticmethod
  def write(workdir):
    return workdir / names.REPORT
