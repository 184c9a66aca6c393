"""The command line of jobs: `run.py`, `jaxspoof train`."""

import os
import pathlib
import sys

from absl import app, flags, logging
from ml_collections import config_flags

from jaxspoof.machine import huge_pages, interrupts

_CONFIG = config_flags.DEFINE_config_file(
  'config',
  help_string='What to run: configs/NAME.py or configs/NAME.py:VARIANT. Its'
  ' fields are changed by --config.FIELD=VALUE.',
)
_WORKDIR = flags.DEFINE_string(
  'workdir',
  None,
  'Folder for everything that the run writes; runs/NAME_VARIANT if not given.',
)
_DISTRIBUTED = flags.DEFINE_bool(
  'distributed',
  False,
  'Train on the hosts that the cluster (Slurm, Open MPI, Kubernetes) names.',
)
_COORDINATOR = flags.DEFINE_string(
  'coordinator',
  None,
  'Train on several hosts without such a cluster: host:port of process 0.',
)
_PROCESSES = flags.DEFINE_integer(
  'num_processes', None, 'With --coordinator: how many processes there are.'
)
_PROCESS = flags.DEFINE_integer(
  'process_id', None, 'With --coordinator: the number of this process, from 0.'
)


def main(argv: list[str]) -> None:
  """Sets JAX up and hands the config to its job."""
  if len(argv) > 1:
    raise app.UsageError(f'unexpected arguments: {" ".join(argv[1:])}')
  if flags.FLAGS['config'].value is None:
    raise app.UsageError('say what to run: --config=configs/aasist.py')
  if not flags.FLAGS['verbosity'].present:
    logging.set_verbosity(logging.WARNING)  # orbax reports every file
  # Here and not above: worker processes import this file again.
  from jaxspoof import jobs

  cluster = None
  if _DISTRIBUTED.value or _COORDINATOR.value:
    cluster = jobs.Cluster(_COORDINATOR.value, _PROCESSES.value, _PROCESS.value)
  try:
    result = jobs.run(
      _CONFIG.value, _WORKDIR.value or default_workdir(), cluster
    )
  except (ValueError, OSError, FloatingPointError) as error:
    if os.environ.get('JAXSPOOF_TRACEBACK'):
      raise
    sys.exit(f'error: {error}')
  if result.get('failed'):  # clips that could not be read, as in detect.py
    sys.exit(1)


def default_workdir() -> pathlib.Path:
  """`runs/` and the config's name: configs/aasist.py:l -> runs/aasist_l."""
  path = config_flags.get_config_filename(flags.FLAGS['config'])
  name, _, argument = pathlib.PurePath(path).name.partition('.py')
  return pathlib.Path('runs') / (name + argument).replace(':', '_')


def stopped() -> str:
  """What Ctrl-C has left, and how to go on."""
  from jaxspoof.runs import workdir as workdir_lib

  if not flags.FLAGS.is_parsed() or flags.FLAGS['config'].value is None:
    return 'interrupted before anything was done'
  return workdir_lib.stopped(pathlib.Path(_WORKDIR.value or default_workdir()))


def parse(argv: list[str]) -> list[str]:
  """Parses flags; a misspelt config field gets its near matches."""
  from jaxspoof import overrides

  argv = overrides.modern(argv)
  overrides.check(argv)
  return app.parse_flags_with_usage(argv)


def start(argv: list[str] | None = None) -> None:
  """Runs as a program; the process ends with its status.

  Args:
    argv: of the program; its own by default.
  """
  huge_pages.ensure()
  interrupts.call(lambda: app.run(main, argv, flags_parser=parse), stopped)
