"""Strict switches for the whole suite, and the golden data."""

import os
import pathlib

# Before JAX starts: the suite runs on four virtual CPU devices.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax
import pytest
from absl import flags

pytest_plugins = ['tests.fixtures_corpus']

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
REFERENCE = REPOSITORY.parent / 'shared' / 'reference'

jax.config.update('jax_num_cpu_devices', 4)
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_numpy_dtype_promotion', 'strict')

# grain reads an absl flag when it starts workers.
if not flags.FLAGS.is_parsed():
  flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope='session')
def repository() -> pathlib.Path:
  """The root of the checkout."""
  return REPOSITORY


@pytest.fixture(scope='session')
def reference() -> pathlib.Path:
  """Golden data beside the checkout; tests that need it skip without it."""
  if not REFERENCE.is_dir():
    pytest.skip(
      'golden data (../shared/reference) is not beside this checkout: '
      'parity with the original is not checked here'
    )
  return REFERENCE


@pytest.fixture
def unoptimised():
  """Programs compile in half the time: for tests of what is computed alone."""
  name = 'jax_disable_most_optimizations'
  before = jax.config.values[name]
  jax.config.update(name, True)
  yield
  jax.config.update(name, before)
