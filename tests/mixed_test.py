"""A folder of everything, killed and continued: of `benchmarks/mixed.py`."""

import importlib.util
import os

import pytest

from jaxspoof import audio
from jaxspoof.detect import command
from tests import small_detectors, warm
from tests.small_detectors import PADDED

pytestmark = pytest.mark.usefixtures('programs')


@pytest.fixture(scope='module')
def mixed(repository):
  path = repository / 'benchmarks' / 'mixed.py'
  spec = importlib.util.spec_from_file_location('mixed', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs')
  return str(small_detectors.write(folder / 'small', model=PADDED))


def test_each_file_once_also_after_a_kill(
  mixed, run, tmp_path, environment, monkeypatch, capsys
):
  monkeypatch.setattr('jaxspoof.machine.programs.keep', lambda: None)
  monkeypatch.setattr(audio, '_PIPE_WAIT', 0.1)  # nobody will write
  count = 2 * len(mixed.KINDS) + 4
  expected = mixed.make(tmp_path / 'in', count, 30.0)
  assert len(expected) == count
  if os.geteuid() == 0:  # may read what nobody may
    (forbidden,) = (path for path in expected if 'forbidden' in path)
    expected[forbidden] = mixed.SCORED

  with monkeypatch.context() as patched:
    patched.setattr(mixed.subprocess, 'Popen', warm.Popen)
    killed = mixed.Run(tmp_path, 'killed.csv', run, environment)
    killed.follow(kill_at=count // 3)
  assert killed.status == -9
  begun = killed.table.read_bytes()
  words = ['--checkpoint', run, '--input', str(tmp_path / 'in'), '--out']
  assert command.main([*words, str(killed.table)]) == 1
  whole = tmp_path / 'undisturbed.csv'
  assert command.main([*words, str(whole)]) == 1

  assert mixed.problems(whole, expected) == []
  assert killed.table.read_bytes() == whole.read_bytes()
  assert len(begun) < len(whole.read_bytes())
  left_out = [path for path, f in expected.items() if f == mixed.LEFT_OUT]
  said = capsys.readouterr().err
  assert f'{len(left_out)} files that are no audio are left out' in said


def test_what_is_not_as_it_should_is_told(mixed, tmp_path):
  table = tmp_path / 'x.csv'
  table.write_text('path,error\na,\na,\nb,bad\nd,\n')
  expected = {'a': mixed.SCORED, 'b': mixed.SCORED, 'c': mixed.FAILED}
  assert mixed.problems(table, expected) == [
    "'a': 2 rows",
    "'b': failed, expected scored",
    "'c': left out, expected failed",
    "'d': scored, expected not there",
  ]
