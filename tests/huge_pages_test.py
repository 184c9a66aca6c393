"""A program that asks for huge pages starts again once, with its arguments."""

import os
import subprocess
import sys

import pytest

from jaxspoof.machine import huge_pages

PROGRAM = """
import os, sys
from jaxspoof.machine import huge_pages
huge_pages.helps = lambda: True
huge_pages.ensure()
print(os.getpid(), os.environ['GLIBC_TUNABLES'], sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='a setting of Linux')
@pytest.mark.parametrize('before', [None, 'glibc.malloc.check=0'])
def test_starts_again_once_with_the_same_arguments(before, tmp_path):
  environment = {k: v for k, v in os.environ.items() if k != 'GLIBC_TUNABLES'}
  if before:
    environment['GLIBC_TUNABLES'] = before
  program = tmp_path / 'program.py'
  program.write_text(PROGRAM)
  arguments = ['--a=b c', "it's"]
  process = subprocess.Popen(
    [sys.executable, str(program), *arguments],
    env=environment | {'PYTHONPATH': os.getcwd()},
    stdout=subprocess.PIPE,
    text=True,
  )
  output, _ = process.communicate(timeout=60)
  tunables = ':'.join(filter(None, [before, 'glibc.malloc.hugetlb=1']))
  assert output.strip() == f'{process.pid} {tunables} {arguments}'


def test_a_choice_that_was_made_is_kept(monkeypatch):
  monkeypatch.setenv('GLIBC_TUNABLES', 'glibc.malloc.hugetlb=0')
  monkeypatch.setattr(os, 'execve', lambda *_: pytest.fail('started again'))
  huge_pages.ensure()


def test_nothing_happens_where_it_does_not_help(monkeypatch):
  monkeypatch.delenv('GLIBC_TUNABLES', raising=False)
  monkeypatch.setattr(huge_pages, 'helps', lambda: False)
  monkeypatch.setattr(os, 'execve', lambda *_: pytest.fail('started again'))
  huge_pages.ensure()


@pytest.mark.parametrize(
  'program', ['detect', 'run', 'jaxspoof.cli', 'jaxspoof.bulk.__main__']
)
def test_what_is_slow_to_import_waits_for_the_second_start(program):
  code = f'import sys, {program}; print({{"jax", "scipy"}} & {{*sys.modules}})'
  output = subprocess.check_output([sys.executable, '-c', code], text=True)
  assert output == 'set()\n'
