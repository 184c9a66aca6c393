"""The quickstart corpus for tests: built once, kept while it is the same."""

import hashlib
import pathlib

import numpy
import pytest
import scipy
import soundfile

from tfds_builders import build

_ROOT = pathlib.Path(__file__).resolve().parents[1]


def _version() -> str:
  """Returns a hash of everything the corpus depends on."""
  digest = hashlib.sha256()
  folder = _ROOT / 'tfds_builders' / 'quickstart'
  for path in sorted([*folder.rglob('*.py'), folder / 'human/manifest.tsv']):
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
