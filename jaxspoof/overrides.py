"""Checks `--config.a.b=value` before absl does, to say what was meant."""

import importlib.util
import pathlib
import re
from collections.abc import Sequence

import ml_collections

from jaxspoof.config import near

_FIELD = re.compile(r'(--?(?:no)?config\.)([\w.]+)')
# Fields by names that they had before, as they are spelt on a command line.
_MOVED = (
  (r'(^|\.)model\.features$', r'\1frontend.name'),
  (r'(^|\.)model\.features\.', r'\1frontend.'),
  (r'^recognition\.', 'source_tracing.'),
)
_FILE = re.compile(r'--?config(?:=(.*))?$')


def check(argv: Sequence[str]) -> None:
  """Raises SystemExit naming the near matches of an unknown config field."""
  config = _config_of(argv)
  if config is None:
    return
  for argument in argv:
    if found := _FIELD.match(argument):
      check_path(config, found[2])


def today(path: str) -> str:
  """The path of a config field, if it is an old one the one that it has now."""
  for pattern, replacement in _MOVED:
    path = re.sub(pattern, replacement, path)
  return path


def modern(argv: Sequence[str]) -> list[str]:
  """Command-line arguments with the names that config fields have now."""
  return [
    f'{found[1]}{today(found[2])}{argument[found.end() :]}'
    if (found := _FIELD.match(argument))
    else argument
    for argument in argv
  ]


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
