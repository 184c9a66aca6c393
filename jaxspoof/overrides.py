"""Checks `--config.a.b=value` before absl does, to say what was meant."""

import importlib.util
import pathlib
import re
from collections.abc import Sequence

import ml_collections

from jaxspoof.config import near

_OVERRIDE = re.compile(r'--?(?:no)?config\.([\w.]+)')
_FILE = re.compile(r'--?config(?:=(.*))?$')


def check(argv: Sequence[str]) -> None:
  """Raises SystemExit naming the near matches of an unknown config field."""
  config = _config_of(argv)
  if config is None:
    return
  for argument in argv:
    if found := _OVERRIDE.match(argument):
      check_path(config, found.group(1))


def check_path(config: ml_collections.ConfigDict, path: str) -> None:
  """Raises SystemExit naming the near matches of an unknown field."""
  node, parents = config, 'config'
  for name in path.split('.'):
    if not isinstance(node, ml_collections.ConfigDict) or name not in node:
      known = node if isinstance(node, ml_collections.ConfigDict) else ()
      raise SystemExit(
        f'error: unknown config field {parents}.{name}: {near(name, known)}'
      )
    node, parents = node[name], f'{parents}.{name}'


def _config_of(argv: Sequence[str]) -> ml_collections.ConfigDict | None:
  for i, argument in enumerate(argv):
    if found := _FILE.match(argument):
      path = found.group(1) or ''.join(argv[i + 1 : i + 2])
      return load(path)
  return None


def load(path: str) -> ml_collections.ConfigDict:
  """Runs `get_config` of `file.py` or `file.py:argument`.

  Raises:
    SystemExit: no such file, or an argument that the file does not know.
  """
  file, _, argument = path.partition(':')
  if not pathlib.Path(file).is_file():
    beside = pathlib.Path(file).parent
    known = [str(found) for found in beside.glob('[!_]*.py')]
    raise SystemExit(f'error: no config file {file!r}: {near(file, known)}')
  spec = importlib.util.spec_from_file_location('config_to_check', file)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  try:
    return module.get_config(*([argument] if argument else []))
  except ValueError as error:
    raise SystemExit(f'error: {path}: {error}') from error
