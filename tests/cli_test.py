"""The console command: names, statuses, and what it does not import."""

import os
import subprocess
import sys
import tomllib

import pytest

from jaxspoof import cli


def test_usage_names_every_command(capsys, repository):
  assert cli.main(['--help']) == 0
  text = capsys.readouterr().out
  for name, command in cli.COMMANDS.items():
    assert f'  {name}' in text and command.words in text
  assert cli.main([]) == 2
  capsys.readouterr()
  assert cli.main(['detects']) == 2
  assert "no command 'detects'" in capsys.readouterr().err
  project = tomllib.loads((repository / 'pyproject.toml').read_text())
  assert project['project']['scripts'] == {'jaxspoof': 'jaxspoof.cli:main'}


OWN = sorted({*cli.COMMANDS} - {'train', 'evaluate'})


@pytest.mark.parametrize('name', OWN)
def test_commands_are_those_of_the_modules(name, capsys, monkeypatch):
  # It would start this process again.
  monkeypatch.setattr('jaxspoof.machine.huge_pages.ensure', lambda: None)
  with pytest.raises(SystemExit) as ended:
    cli.main([name, '--help'])
  assert not ended.value.code
  assert 'usage:' in capsys.readouterr().out


def test_processes(repository, environment):
  """A job is started as by run.py; help loads nothing."""

  def run(*arguments):
    return subprocess.run(
      [sys.executable, *arguments],
      cwd=repository,
      env=environment | {'PYTHONPATH': os.fspath(repository)},
      capture_output=True,
      text=True,
      timeout=100,
      check=False,
    )

  code = (
    'import sys; from jaxspoof import cli; cli.main(["--help"]);'
    ' print(sorted({"jax", "numpy", "absl"} & set(sys.modules)))'
  )
  assert run('-c', code).stdout.endswith('[]\n')
  done = run(
    '-m', 'jaxspoof.cli', 'train', '--config=configs/aasist.py:smoke',
    '--config.optim.learning_rates=1',
  )  # fmt: skip
  assert done.returncode and 'did you mean' in done.stderr, done.stderr
