"""Jobs without their pages, for tests that do not read these."""

import contextlib
import sys

import pytest

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


class Pages:
  """In place of `jaxspoof.report`."""

  @staticmethod
  def write(workdir):
    return workdir / names.REPORT
