"""A process of the warm server is like one that was started."""

import itertools
import os
import signal
import subprocess
import sys

import pytest
from jax._src.interpreters import mlir

from tests import warm

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='as of Linux')
PROGRAM = """
import json, os, signal, sys
import jax
print(json.dumps(dict(
  argv=sys.argv, path=sys.path[:2], cwd=os.getcwd(), name=__name__,
  main=vars(sys.modules['__main__']).get('__file__'),
  session=os.getsid(0) == os.getpid(),
  environment={k: v for k, v in os.environ.items() if k != 'LC_CTYPE'},
  config=[jax.config.jax_enable_x64, jax.config.jax_num_cpu_devices,
    jax.config.jax_compilation_cache_dir, jax.config.jax_platforms],
  devices=len(jax.devices()), package='jaxspoof' in sys.modules,
  read=sys.stdin.read(),
  interrupt=signal.getsignal(signal.SIGINT) is signal.default_int_handler,
  child=signal.getsignal(signal.SIGCHLD) == signal.SIG_DFL,
  files=sorted(os.listdir('/proc/self/fd'))[:3],
)))
print('to the other', file=sys.stderr)
sys.exit('the end')
"""


@pytest.mark.parametrize('how', ['script', 'module', 'code'])
def test_as_a_process_that_was_started(how, tmp_path, environment):
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'program.py').write_text(PROGRAM)
  (tmp_path / 'folder' / 'module.py').write_text(PROGRAM)
  words = {
    'script': ['../program.py'],
    'module': ['-m', 'module'],
    'code': ['-c', PROGRAM],
  }[how]
  one, other = (
    start(
      [sys.executable, *words, '--a=b c', "it's"],
      cwd=tmp_path / 'folder',
      env=environment | {
        'PYTHONPATH': '/one:/two', 'JAX_ENABLE_X64': '1',
        'JAX_NUM_CPU_DEVICES': '3', 'SLURM_JOB_ID': '7',
      },
      input='some lines\n',
      capture_output=True,
      text=True,
      start_new_session=True,
    )
    for start in (warm.run, subprocess.run)
  )  # fmt: skip
  assert one.returncode == other.returncode == 1, one.stderr
  assert one.stdout == other.stdout
  assert one.stderr == other.stderr == 'to the other\nthe end\n'


def test_its_end_is_known(environment):
  def start(code, **options):
    words = [sys.executable, '-c', code]
    return warm.Popen(words, env=environment, text=True, **options)

  with start('import os; os.kill(os.getpid(), 9)') as killed:
    assert killed.wait() == -9
  with start('raise KeyError(3)', stderr=subprocess.PIPE) as failed:
    said = failed.communicate()[1]
    assert failed.returncode == 1 and said.endswith('KeyError: 3\n')
  code = 'import time; print(1, flush=True); time.sleep(60)'
  waiting = start(code, stdout=subprocess.PIPE, start_new_session=True)
  assert waiting.stdout.readline() == '1\n' and waiting.poll() is None
  with pytest.raises(subprocess.TimeoutExpired):
    waiting.wait(0.01)
  os.killpg(waiting.pid, signal.SIGINT)
  waiting.communicate()
  assert waiting.returncode == -signal.SIGINT


def test_programs_share_a_context_in_turn(monkeypatch):
  made = itertools.count()
  monkeypatch.setattr(mlir, 'make_ir_context', lambda: next(made))
  warm.share_contexts(programs=3)
  found = [mlir.make_ir_context() for _ in range(7)]
  assert found == [0, 0, 0, 1, 1, 1, 2]
