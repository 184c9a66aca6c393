"""Who may import whom: packages only what lies below them, reports no JAX."""

import ast
import functools
import pathlib

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Each package, or module at the top, may import those of the lines above its
# own. A new one is entered where it belongs.
LAYERS = (
  'machine',
  'tensors arithmetic losses optim classes config_changes audio darts.spaces',
  'ops score_files',
  'blocks metrics',
  'frontends runs tfds_builders',
  'system enhance',
  'data darts.network report verify',
  'config darts.pages',
  'models overrides',
  'training weights bundles',
  'checkpoints explanations timelines darts.search',
  'detector sweep',
  'bundle embeddings configs detect export',
  'tracing bulk',
  'jobs',
  'darts.controller run anchors',
  'cli',
  'light_darts',
)
RANK = {room: rank for rank, line in enumerate(LAYERS) for room in line.split()}
# These serve people who wait for a page or a check, not for a model.
WITHOUT_JAX = ('runs', 'report', 'darts.pages', 'verify', 'score_files')


@functools.cache
def modules(later: bool = True) -> dict[str, set[str]]:
  """All modules by name, with everything that each imports.

  Args:
    later: also what a function imports when it is called.
  """
  paths = [ROOT / 'run.py', ROOT / 'detect.py']
  for folder in ('jaxspoof', 'tfds_builders', 'configs'):
    paths += (ROOT / folder).rglob('*.py')
  found = {}
  for path in paths:
    parts = path.relative_to(ROOT).with_suffix('').parts
    name = '.'.join(parts).removesuffix('.__init__')
    found[name] = set(imports(ast.parse(path.read_text()), later))
  return found


def imports(tree: ast.AST, later: bool):
  """Dotted names, of modules or of what is in them."""
  for node in ast.iter_child_nodes(tree):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, 'relative imports are not used here'
      yield from (f'{node.module}.{alias.name}' for alias in node.names)
    elif later or not isinstance(node, ast.FunctionDef):
      yield from imports(node, later)


def module_of(name: str) -> str:
  """The module of ours that a dotted name is in; '' if it is not ours."""
  while name and name not in modules():
    name = name.rpartition('.')[0]
  return name


def room_of(module: str) -> str:
  """What the layers call the package that a module is in."""
  name = module.removeprefix('jaxspoof.')
  if name in RANK:
    return name
  return name.rpartition('.')[0] and room_of(name.rpartition('.')[0])


def test_every_package_has_its_place():
  placeless = {m for m in modules() if not room_of(m)}
  assert placeless == {'jaxspoof', 'jaxspoof.darts'}  # docstrings alone
  assert set(RANK) == {room_of(m) for m in modules()} - {''}


@pytest.mark.parametrize('room', list(RANK))
def test_a_package_imports_what_lies_below(room):
  wrong = [
    f'{module} imports {name}'
    for module in modules()
    if room_of(module) == room
    for name in modules()[module]
    if (other := room_of(module_of(name))) not in ('', room)
    and RANK[other] >= RANK[room]
  ]
  assert not wrong


@pytest.mark.parametrize('room', WITHOUT_JAX)
def test_no_jax_below(room):
  waiting = [module for module in modules() if room_of(module) == room]
  reached = set()
  while waiting:
    module = waiting.pop()
    if module in reached:
      continue
    reached.add(module)
    for name in modules(later=False)[module]:
      heavy = name.partition('.')[0] in ('jax', 'jaxlib', 'flax', 'orbax')
      assert not heavy, f'{module}, which {room} needs, imports {name}'
      parts = module_of(name).split('.')  # a package is imported first
      waiting += ['.'.join(parts[:n]) for n in range(1, len(parts) + 1)]
    waiting = [name for name in waiting if name]
  assert any(room_of(module) != room for module in reached)
