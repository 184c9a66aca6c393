"""The Dockerfile: what it says, and its steps run on a small stand-in."""

import importlib.util
import re
import socket
import subprocess
import sys
import tomllib

import pytest

from jaxspoof import cli


@pytest.fixture(scope='module')
def tool(repository):
  path = repository / 'tools' / 'container_steps.py'
  spec = importlib.util.spec_from_file_location('container_steps', path)
  module = importlib.util.module_from_spec(spec)
  sys.modules[spec.name] = module  # dataclasses look their module up
  spec.loader.exec_module(module)
  yield module
  del sys.modules[spec.name]


@pytest.fixture(scope='module')
def steps(tool, repository):
  return tool.parse((repository / 'Dockerfile').read_text())


def test_it_runs_what_there_is_as_nobody_in_particular(steps, tool, repository):
  kinds = [step.kind for step in steps]
  user = next(step.words for step in steps if step.kind == 'USER')
  assert kinds.index('USER') < kinds.index('ENTRYPOINT') and user != 'root'
  assert kinds.index('USER') > max(
    n for n, kind in enumerate(kinds) if kind in ('RUN', 'COPY')
  )
  program, name = tool.command(steps, 'ENTRYPOINT')
  project = (repository / 'pyproject.toml').read_text()
  assert f'{program} = "jaxspoof.cli:main"' in project
  assert name in cli.COMMANDS
  (address,) = tool.command(steps, 'CMD')
  assert ':8000/health' in tool.command(steps, 'HEALTHCHECK')[-1]
  assert address == '0.0.0.0:8000'
  installed = ' '.join(s.words for s in steps if s.kind == 'RUN').split()
  extras = tomllib.loads(project)['project']['optional-dependencies']
  needed = [*extras['web'], *extras['media']]
  assert {re.match(r'[\w-]+', one)[0] for one in needed} <= {*installed}


def test_what_it_copies_is_there_and_not_ignored(steps, repository):
  allowed = (repository / '.dockerignore').read_text().splitlines()
  for step in steps:
    if step.kind == 'COPY':
      for source in step.words.split()[:-1]:
        assert (repository / source).exists(), source
        assert f'!{source}' in allowed, source


STAND_IN = """# A comment \\
FROM python:3.12-slim
ARG CUDA=""
WORKDIR /app
RUN mkdir -p /opt/x/bin && ln -s "$(command -v {python})" /opt/x/bin/python3
ENV PATH=/opt/x/bin:$PATH
COPY LICENSE ./
COPY .ci/constraints.txt .ci/
RUN test -z "$CUDA" || \\
  echo "$CUDA" > /app/cuda
RUN useradd --uid 10001 x
USER x
HEALTHCHECK --timeout=5s CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/')"]
ENTRYPOINT ["python3", "-m", "http.server", "--bind=127.0.0.1"]
CMD ["{last}"]
"""


@pytest.mark.parametrize('healthy', [True, False])
def test_its_steps_are_run_and_the_service_is_asked(tool, tmp_path, healthy):
  with socket.create_server(('127.0.0.1', 0)) as free:
    port = free.getsockname()[1]
  last = str(port) if healthy else '--none'
  text = STAND_IN.replace('{python}', sys.executable).replace('{last}', last)
  steps = tool.parse(text)
  environment = tool.build(steps, tmp_path / 'c', {'CUDA': 'cuda13'})
  assert (tmp_path / 'c/app/cuda').read_text() == 'cuda13\n'
  assert (tmp_path / 'c/app/.ci/constraints.txt').is_file()
  assert tool.serve(steps, environment, port, 30.0) is healthy


def test_a_step_that_fails_ends_it(tool, tmp_path):
  steps = tool.parse('WORKDIR /app\nRUN false\n')
  with pytest.raises(subprocess.CalledProcessError):
    tool.build(steps, tmp_path / 'a', {})
  with pytest.raises(ValueError, match='ONBUILD: an instruction that is not'):
    tool.build(tool.parse('ONBUILD RUN x\n'), tmp_path / 'b', {})
