"""Runs the steps of the Dockerfile in a folder, and its service; no Docker.

python tools/container_steps.py FOLDER --port=8123

Copies what it copies, runs what it runs with `/app` and `/opt` below FOLDER,
starts its entry point as a process, asks its health check until that says yes,
and ends it. What needs a machine of its own (the base image, users, ports) is
named and left out. The exit status is 0 if the service was healthy.
"""

import argparse
import dataclasses
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
_LEFT_OUT = ('FROM', 'USER', 'EXPOSE')
_OURS = r'(?<![\w.])/(app|opt)(?=/|\s|:|$)'  # paths of the container


@dataclasses.dataclass(frozen=True)
class Step:
  """An instruction of a Dockerfile.

  Attributes:
    kind: such as 'RUN'.
    words: all that follows.
  """

  kind: str
  words: str


def parse(text: str) -> list[Step]:
  """The instructions of a Dockerfile, in their order."""
  text = re.sub(r'^\s*#.*\n', '', text, flags=re.M).replace('\\\n', ' ')
  lines = [line.strip() for line in text.splitlines() if line.strip()]
  return [Step(*line.split(None, 1)) for line in lines]


def command(steps: list[Step], kind: str) -> list[str]:
  """The words of ENTRYPOINT, CMD, or what HEALTHCHECK runs."""
  (step,) = (step for step in steps if step.kind == kind)
  return json.loads(step.words[step.words.index('[') :])


def build(
  steps: list[Step], folder: pathlib.Path, arguments: dict[str, str]
) -> dict[str, str]:
  """Does what the steps say, below a folder.

  Args:
    steps: of the Dockerfile.
    folder: made here; it holds `app` and `opt`.
    arguments: values of ARG.

  Returns:
    The environment of what is run in the container.

  Raises:
    subprocess.CalledProcessError: a step that failed.
    ValueError: an instruction that is not known here.
  """
  environment, at = dict(os.environ), folder
  environment.pop('PYTHONPATH', None)
  (folder / 'opt').mkdir(parents=True)

  def here(words: str) -> str:
    return re.sub(_OURS, rf'{folder}/\1', words)

  for step in steps:
    print(f'{step.kind} {step.words}', flush=True)
    if step.kind == 'ARG':
      name, _, value = step.words.partition('=')
      environment[name] = arguments.get(name, value.strip('"'))
    elif step.kind == 'ENV':
      name, value = here(step.words).split('=', 1)
      environment[name] = value.replace('$PATH', environment['PATH'])
    elif step.kind == 'WORKDIR':
      at = pathlib.Path(here(step.words))
      at.mkdir(parents=True)
    elif step.kind == 'COPY':
      *sources, target = step.words.split()
      for source in sources:
        _copy(ROOT / source, at / target)
    elif step.kind == 'RUN' and not step.words.startswith('useradd'):
      shell = ['sh', '-euc', here(step.words)]
      subprocess.run(shell, cwd=at, env=environment, check=True)
    elif step.kind in (*_LEFT_OUT, 'RUN'):
      print('  left out: there is no container')
    elif step.kind not in ('HEALTHCHECK', 'ENTRYPOINT', 'CMD'):
      raise ValueError(f'{step.kind}: an instruction that is not known here')
  return environment


def _copy(source: pathlib.Path, target: pathlib.Path) -> None:
  if source.is_dir():
    ignored = shutil.ignore_patterns('__pycache__')
    shutil.copytree(source, target, ignore=ignored)
  else:  # into a folder: ours all end in /
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def serve(
  steps: list[Step], environment: dict[str, str], port: int, wait: float
) -> bool:
  """Starts the service and asks whether it is healthy, for at most `wait` s."""

  def moved(words: list[str]) -> list[str]:
    return [word.replace(':8000', f':{port}') for word in words]

  start = moved(command(steps, 'ENTRYPOINT') + command(steps, 'CMD'))
  check = moved(command(steps, 'HEALTHCHECK'))
  # Found by the PATH of the container, not by that of this process.
  start[0], check[0] = (
    shutil.which(words[0], path=environment['PATH']) for words in (start, check)
  )
  print('+', *start, flush=True)
  # From elsewhere, so that nothing is found in the checkout.
  service = subprocess.Popen(start, cwd='/', env=environment)
  try:
    end = time.monotonic() + wait
    while time.monotonic() < end and service.poll() is None:
      quiet = {'stdout': subprocess.DEVNULL, 'stderr': subprocess.DEVNULL}
      if not subprocess.run(check, env=environment, **quiet).returncode:
        return True
      time.sleep(1)
    return False
  finally:
    service.terminate()
    service.wait()


def main(argv: list[str] | None = None) -> int:
  """Builds and serves; returns the exit status."""
  made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  made.add_argument('folder', type=pathlib.Path, help='made anew')
  made.add_argument('--port', type=int, default=8000, help='of the service')
  made.add_argument('--cuda', default='', help='the build argument CUDA')
  made.add_argument(
    '--wait', type=float, default=300.0, help='seconds until it is healthy'
  )
  options = made.parse_args(argv)
  steps = parse((ROOT / 'Dockerfile').read_text())
  folder = options.folder.resolve()
  environment = build(steps, folder, {'CUDA': options.cuda})
  healthy = serve(steps, environment, options.port, options.wait)
  print('healthy' if healthy else 'NOT healthy')
  return 0 if healthy else 1


if __name__ == '__main__':
  sys.exit(main())
