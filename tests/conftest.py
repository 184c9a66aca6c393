"""Strict switches for the whole suite, and the golden data."""

import gc
import multiprocessing
import os
import pathlib
import signal
import sys
import types

from tests import kept_programs, warm

# Before JAX starts, and for the processes that tests start.
os.environ.pop('PYTHONDONTWRITEBYTECODE', None)
os.environ.setdefault('JAX_PLATFORMS', 'cpu')
os.environ['XLA_FLAGS'] = ' '.join(
  [*kept_programs.XLA_FLAGS, os.environ.get('XLA_FLAGS', '')]
).strip()

import jax
import pytest
from absl import flags
from grain._src.python.dataset.transformations import process_prefetch
from jax.experimental.compilation_cache import compilation_cache

pytest_plugins = ['tests.fixtures_corpus']

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
REFERENCE = REPOSITORY.parent / 'shared' / 'reference'
CASES = REPOSITORY.parent / 'shared' / 'cases'

jax.config.update('jax_num_cpu_devices', 4)
jax.config.update('jax_numpy_rank_promotion', 'raise')
jax.config.update('jax_numpy_dtype_promotion', 'strict')

warm.store_quickly()
warm.share_contexts()

# librosa is tested against, not tested.
sys.path.insert(0, str(REPOSITORY / 'tests' / 'plain'))

# Else each process would compile the package anew.
sys.dont_write_bytecode = False

# Traces are many objects, few of them in circles: to look for these as often as
# Python does takes a tenth of the time of tracing.
gc.set_threshold(50_000, 10, 10)

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


@pytest.fixture(scope='session')
def cases() -> pathlib.Path:
  """Files of users that once went wrong; tests skip without them."""
  if not CASES.is_dir():
    pytest.skip(
      'the cases from outside (../shared/cases) are not beside this checkout'
    )
  return CASES


@pytest.fixture(scope='session')
def compiled(tmp_path_factory) -> pathlib.Path:
  """The folder that a process of pytest and those it starts compile into."""
  return tmp_path_factory.mktemp('programs')


@pytest.fixture(scope='module', autouse=True)
def programs(compiled):
  """A cache of compiled programs: not the user's, and each compiled once.

  They compile without most optimisations, in half the time: for tests of what
  is computed, not of how fast (those that run long choose another level as
  `compiler_options`). What was compiled is kept for other files and runs.
  """
  options = {
    'jax_compilation_cache_dir': str(compiled),
    'jax_persistent_cache_min_compile_time_secs': 0.0,
    # Else the folder is a part of what a program is called by.
    'jax_persistent_cache_enable_xla_caches': 'none',
    'jax_disable_most_optimizations': True,
  }
  kept_programs.link(kept_programs.kept(), compiled)
  before = {name: jax.config.values[name] for name in options}
  for name, value in options.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
  yield str(compiled)
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()
  kept_programs.keep(compiled)


@pytest.fixture(scope='session')
def environment(compiled):
  """For processes that compile as `programs` does, into the same folder."""
  return os.environ | {
    'JAX_PLATFORMS': 'cpu',
    'JAX_NUM_CPU_DEVICES': '4',  # as here, or nothing compiled here fits
    'JAX_COMPILATION_CACHE_DIR': str(compiled),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    'JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES': 'none',
    'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',
    'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=0',  # else run.py starts twice
  }


@pytest.fixture(scope='session', autouse=True)
def quick_workers():
  """grain's workers are forked from a process that imported the pipeline.

  Those of processes that tests start are spawned, as those of users.
  """
  multiprocessing.set_forkserver_preload(['jaxspoof.data.pipeline'])
  forking = types.SimpleNamespace(
    get_context=lambda method: multiprocessing.get_context(
      method.replace('spawn', 'forkserver')
    )
  )
  with pytest.MonkeyPatch.context() as patched:
    patched.setattr(process_prefetch, 'mp', forking)
    yield


@pytest.fixture
def compiled_anew():
  """Takes nothing from a cache: for tests of how something is compiled."""
  jax.config.update('jax_enable_compilation_cache', False)
  compilation_cache.reset_cache()
  yield
  jax.config.update('jax_enable_compilation_cache', True)
  compilation_cache.reset_cache()


def pytest_configure(config):
  """Before the first process of a run, so that none removes what one reads."""
  if not hasattr(config, 'workerinput'):
    kept_programs.prune()
  if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A suite in the background of a script: its processes would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_unconfigure():
  """Looks once through what is left, for what was not closed.

  pytest does so twice, which takes seconds with all that JAX keeps.
  """
  gc.collect()
  gc.freeze()


def pytest_collection_modifyitems(items):
  """Starts with what takes longest, so that no process is left with it."""
  first = """
    train supernet parity search benchmarks steps system docs serve attack
    aasist benchmark ssl_encoder ssl_backends ssl_frontend frontends localise
    conv ecapa detect pipeline bulk features_cache export planted mixture report
    enhance explain bundle joined source_tracing whisper
  """.split()
  rank = {f'{name}_test.py': number for number, name in enumerate(first)}
  items.sort(key=lambda item: rank.get(item.path.name, len(rank)))
