"""The quickstart corpus for tests: built once, kept while it is the same."""

import ast
import contextlib
import hashlib
import io
import pathlib

import numpy
import pytest
import scipy
import soundfile

from tfds_builders import build

_ROOT = pathlib.Path(__file__).resolve().parents[1]
_RECIPE = _ROOT / 'tfds_builders' / 'quickstart'
# Features of all clips of `quickstart`, by `tools/quickstart_features.py`.
FEATURES = _ROOT / 'tests' / 'goldens' / 'quickstart_features.npz'


def recipe(*files: pathlib.Path) -> str:
  """Returns a hash of what the corpus is made by, and of further modules.

  Words about it, and where its modules import from, make no difference; nor
  does the version of Python, whose trees differ where their text does not.
  """
  digest = hashlib.sha256((_RECIPE / 'human/manifest.tsv').read_bytes())
  for path in [*sorted(_RECIPE.rglob('*.py')), *files]:
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
      if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
        documented = ast.get_docstring(node) is not None
        node.body = [
          part
          for part in node.body[documented:]
          if not isinstance(part, ast.Import | ast.ImportFrom)
        ]
    digest.update(ast.unparse(tree).encode())
  return digest.hexdigest()


def _version() -> str:
  """Returns a hash of everything the corpus depends on."""
  digest = hashlib.sha256()
  for path in sorted([*_RECIPE.rglob('*.py'), _RECIPE / 'human/manifest.tsv']):
    digest.update(path.read_bytes())
  for module in (numpy, scipy, soundfile):
    digest.update(module.__version__.encode())
  return digest.hexdigest()[:16]


def _built(name: str) -> pathlib.Path:
  data_dir = _ROOT / '.cache' / 'corpora' / _version()
  build.build(name, data_dir)
  return data_dir


@pytest.fixture(scope='session')
def quickstart_full() -> pathlib.Path:
  """A data_dir with `quickstart`; about 100 s on 2 cores the first time."""
  return _built('quickstart')


@pytest.fixture(scope='session')
def quickstart_tiny() -> pathlib.Path:
  """A data_dir with `quickstart/tiny`; about 10 s the first time."""
  return _built('quickstart/tiny')


@pytest.fixture(scope='session')
def spliced_tiny(quickstart_tiny, tmp_path_factory) -> pathlib.Path:
  """A data_dir with `spliced/quickstart.tiny`, made in a second."""
  data_dir = tmp_path_factory.mktemp('spliced')
  (data_dir / 'quickstart').symlink_to(quickstart_tiny / 'quickstart')
  with contextlib.redirect_stdout(io.StringIO()):
    build.build('spliced/quickstart.tiny', data_dir)
  return data_dir
