"""Processes of Python that start with what they import already imported.

Half of the time of a small run is the import of JAX, Flax, Orbax and others.
`Popen` and `run` are those of `subprocess`, but a command of this Python is
forked from a server that has imported them once, and nothing of the package:

  warm.run([sys.executable, 'run.py', ...], env=..., cwd=...)

What it runs has its own arguments, folder, environment, streams, session and
signals, a main module, and the end of an interpreter; whoever started it sees
its process id and status. What it has not: a random seed of hashes, arguments
of Python itself, a parent that waits for it. Tests of starting, importing and
missing packages, and one of each program, start real processes instead.

JAX must have started no thread where one forks: the server only imports.
"""

import atexit
import gc
import importlib
import inspect
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
import warnings

IMPORTED = """
  jax.numpy jax.experimental.compilation_cache.compilation_cache jax.export
  flax.nnx flax.linen optax orbax.checkpoint grain grain.experimental
  ml_collections.config_flags scipy.special scipy.sparse soundfile
  matplotlib.figure matplotlib.backends.backend_svg tensorboardX
  tensorflow_datasets
"""
# A server for each environment, in which these, set later, may differ.
OPTIONS = {
  'JAX_COMPILATION_CACHE_DIR': str,
  'JAX_ENABLE_X64': lambda value: value == '1',
  'JAX_NUM_CPU_DEVICES': int,
}
LATER = (
  *('PYTHONPATH', 'TMPDIR', 'PYTEST_', 'SLURM_', 'XLA_PYTHON_', 'LC_CTYPE'),
  *('WARM_CHILDREN', *OPTIONS),
)
# In an environment: what a process starts in the same one is forked as well.
_NESTED = 'WARM_CHILDREN'
_Popen = subprocess.Popen
_servers: dict[frozenset, str] = {}


class Popen(_Popen):
  """As of `subprocess`; other commands and options start as they do there."""

  _keeper = None

  def _execute_child(self, *given):
    bound = inspect.signature(super()._execute_child).bind(*given)
    asked = types.SimpleNamespace(**bound.arguments)
    words = [os.fspath(word) for word in asked.args]
    environment = dict(os.environ if asked.env is None else asked.env)
    address = server(environment) if words[0] == sys.executable else None
    if address is None:
      return super()._execute_child(*given)
    pipes = (asked.p2cread, asked.c2pwrite, asked.errwrite)
    streams = [n if pipe == -1 else pipe for n, pipe in enumerate(pipes)]
    task = {
      'words': words[1:],
      'folder': os.fspath(asked.cwd or os.getcwd()),
      'environment': environment,
      'session': asked.start_new_session,
    }
    self._keeper = socket.socket(socket.AF_UNIX)
    self._keeper.connect(address)
    socket.send_fds(self._keeper, [b' '], streams)
    self._keeper.sendall(json.dumps(task).encode() + b'\n')
    self._said = self._keeper.makefile()
    self.pid = int(self._said.readline())
    self._child_created = True
    self._close_pipe_fds(
      asked.p2cread, asked.p2cwrite, asked.c2pread, asked.c2pwrite,
      asked.errread, asked.errwrite,
    )  # fmt: skip

  def _try_wait(self, wait_flags):
    if self._keeper is None:
      return super()._try_wait(wait_flags)
    at_once = wait_flags & os.WNOHANG
    if not select.select([self._keeper], [], [], 0 if at_once else None)[0]:
      return 0, 0
    status = int(self._said.readline())
    self._said.close()
    self._keeper.close()
    return self.pid, status

  def _internal_poll(self, *given, **options):
    if self._keeper is None:
      return super()._internal_poll(*given, **options)
    if self.returncode is None:
      pid, status = self._try_wait(os.WNOHANG)
      if pid:
        self._handle_exitstatus(status)
    return self.returncode


def run(words, *, input=None, timeout=None, capture_output=False, **options):
  """As `subprocess.run`."""
  if input is not None:
    options['stdin'] = subprocess.PIPE
  if capture_output:
    options |= {'stdout': subprocess.PIPE, 'stderr': subprocess.PIPE}
  with Popen(words, **options) as process:
    try:
      said = process.communicate(input, timeout)
    except BaseException:
      process.kill()
      raise
  return subprocess.CompletedProcess(words, process.returncode, *said)


def store_quickly() -> None:
  """Drops words that JAX searches a whole trace for, and Flax asks for.

  Flax takes whether an array that it stores has a sharding. Arrays that are
  traced have none, and say where in the trace they come from; for a network of
  many random numbers that is a tenth of the time of its tests.
  """
  from jax._src.interpreters import partial_eval

  partial_eval.DynamicJaxprTracer._origin_msg = lambda _: ''


def share_contexts(programs: int = 10) -> None:
  """Lets so many programs of a thread be written in one context of MLIR.

  JAX makes one for each, which takes a fifth of the time of compiling a small
  program; as of 0.12 it shares them like this. A context keeps all constants,
  so it is not kept for ever.
  """
  from jax._src.interpreters import mlir

  make, kept = mlir.make_ir_context, threading.local()

  def shared():
    if not getattr(kept, 'left', 0):
      kept.context, kept.left = make(), programs
    kept.left -= 1
    return kept.context

  mlir.make_ir_context = shared


def _key(environment) -> frozenset:
  """What is the same for all processes of a server."""
  return frozenset(x for x in environment.items() if not x[0].startswith(LATER))


def server(environment: dict[str, str]) -> str | None:
  """The address of a server, which ends with this process; None: start it."""
  key = _key(environment)
  if sys.platform != 'linux' or (_NESTED in os.environ and key not in _servers):
    return None
  if key not in _servers:
    address = os.path.join(tempfile.mkdtemp(prefix='warm'), 'server')
    process = _Popen(
      [sys.executable, __file__, address],
      env=dict(key),
      stdin=subprocess.PIPE,
      stdout=subprocess.PIPE,
      start_new_session=True,
    )
    assert process.stdout.read() == b'listening'
    process.stdout.close()
    atexit.register(process.wait)
    atexit.register(process.stdin.close)  # before: it ends with its input
    _servers[key] = address
  return _servers[key]


# ---------------------------------------------------------- in the server ---
def serve(address: str) -> None:
  """Forks who is asked for; returns in these, with everything set."""
  _servers[_key(os.environ)] = address
  for name in IMPORTED.split():
    importlib.import_module(name)
  listener = socket.socket(socket.AF_UNIX)
  listener.bind(address)
  listener.listen(100)
  os.write(1, b'listening')
  os.dup2(os.open(os.devnull, os.O_RDWR), 1)
  gc.collect()
  gc.freeze()
  signal.signal(signal.SIGCHLD, signal.SIG_IGN)
  while listener in select.select([0, listener], [], [])[0]:
    client, _ = listener.accept()
    if not fork():  # who waits for one
      listener.close()
      signal.signal(signal.SIGCHLD, signal.SIG_DFL)
      return attend(client)
    client.close()
  os.unlink(address)
  os.rmdir(os.path.dirname(address))
  os._exit(0)


def fork() -> int:
  with warnings.catch_warnings():
    # The threads are of OpenBLAS, which knows how to fork.
    warnings.filterwarnings('ignore', '.*fork', DeprecationWarning)
    return os.fork()


def attend(client: socket.socket) -> None:
  """Says the process id and the status of one; returns in that one."""
  _, streams, *_ = socket.recv_fds(client, 1, 3)
  with client.makefile() as lines:
    task = json.loads(lines.readline())
  pid = fork()
  if not pid:
    client.close()
    return become(task, streams)
  for number in (0, *streams):  # else a pipe never ends
    os.close(number)
  client.sendall(b'%d\n' % pid)
  client.sendall(b'%d\n' % os.waitpid(pid, 0)[1])
  os._exit(0)


def become(task: dict, streams: list[int]) -> None:
  """Makes this process the one that was asked for, up to what it runs."""
  if task['session']:
    os.setsid()
  for number, stream in enumerate(streams):
    os.dup2(stream, number)
  os.closerange(3, max(streams) + 1)
  os.chdir(task['folder'])
  os.environ.clear()
  os.environ.update(task['environment'])
  path = os.environ.get('PYTHONPATH', '').split(os.pathsep)
  words = task['words']
  first = {'-c': '', '-m': os.getcwd()}.get(words[0])
  if first is None:
    first = os.path.dirname(os.path.realpath(words[0]))
  sys.path[:1] = [first, *(os.path.abspath(name) for name in path if name)]
  sys.orig_argv = [sys.executable, *words]
  sys.argv = [words[0], *words[2:]] if words[0] in ('-c', '-m') else words
  if _NESTED in os.environ:
    subprocess.Popen = Popen
  store_quickly()
  share_contexts()
  import jax

  for name, convert in OPTIONS.items():
    if name in os.environ:
      jax.config.update(name.lower(), convert(os.environ[name]))


if __name__ == '__main__':
  serve(sys.argv[1])
  if sys.orig_argv[1] == '-m':
    runpy.run_module(sys.orig_argv[2], run_name='__main__', alter_sys=True)
  else:
    main = sys.modules['__main__'] = types.ModuleType('__main__')
    if sys.orig_argv[1] == '-c':
      code = sys.orig_argv[2]
    else:
      main.__file__ = os.path.join(os.getcwd(), sys.orig_argv[1])
      with open(main.__file__, 'rb') as file:
        code = compile(file.read(), main.__file__, 'exec')
    exec(code, main.__dict__)
