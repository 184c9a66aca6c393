"""Benchmarks start from a clone, on small inputs, and print their tables."""

import sys

import pytest

from tests import warm

SMALL = {
  'aasist': '--model=aasist_l --samples=4000 --forward 1 --train --rounds=1',
  'bootstrap': '--resamples=5 --tests=2',
  'builders': '--clips=40 --batches=2',
  'detection': '--checkpoints --models mean --clips=2 --rounds=1 --warm=1',
  'ecapa': '--channels=16 --frames=30 --forward 1 --train 2 --rounds=1',
  'encoders': '--weights=random:miniature --samples=4000 --forward 1 --step 1'
  ' --rounds=1',
  'eer': '--trials=1000 --resamples=10',
  'gpu': 'OUT --small --minutes=4 --parts card kernels ours',
  'gpu_program': '--model=aasist_s --batch=8 --samples=4000',
  'features': '--samples=4000 --batches 1 --rounds=1',
  'pipeline': '--corpus synthetic --clips=4 --workers 0 --algo 5 --batch=2'
  ' --samples=4000 --seconds=0.1',
  'seeds': '--recipes configs/lcnn.py:smoke --seeds=2 --batch=2 --samples=4000'
  ' --rounds=1',
  'search': '--variant=smoke --orders first --rounds=1',
  'search_ops': '--shape 2 4 4 8',
}


@pytest.mark.parametrize('name', SMALL)
def test_a_benchmark_prints_its_table(name, repository, tmp_path, environment):
  if name == 'gpu_program':
    # Python 3.12, and the compiler for GPUs beside JAX.
    pytest.importorskip('jax_plugins.xla_cuda13')
  words = [str(tmp_path) if w == 'OUT' else w for w in SMALL[name].split()]
  done = warm.run(
    [sys.executable, f'benchmarks/{name}.py', *words],
    cwd=repository,
    env=environment | {'PYTHONPATH': 'tests/plain', 'WARM_CHILDREN': '1'},
    capture_output=True,
    text=True,
    timeout=300,
  )
  assert done.returncode == 0, done.stderr
  rows = [line for line in done.stdout.splitlines() if '  ' in line.strip()]
  assert len(rows) > 1 and any(c.isdigit() for c in rows[-1]), done.stdout


# Tests of these names, default_detector_test, localise_test and serve_test.
ELSEWHERE = {
  'bulk', 'demo_pages', 'explain', 'learning_curve', 'localisation', 'mixed',
  'traffic',
}  # fmt: skip


@pytest.mark.parametrize('name', sorted(ELSEWHERE))
def test_those_tried_elsewhere_start_as_a_file_too(
  name, repository, environment
):
  done = warm.run(
    [sys.executable, f'benchmarks/{name}.py', '--help'],
    cwd=repository,
    env=environment | {'PYTHONPATH': ''},
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0 and '--' in done.stdout, done.stderr


def test_every_benchmark_is_tried(repository):
  files = {path.stem for path in (repository / 'benchmarks').glob('*.py')}
  assert files - {'timing', *ELSEWHERE} == {*SMALL}
