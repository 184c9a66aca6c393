"""What the parts of `benchmarks/gpu.py` share."""

import argparse
import concurrent.futures
import json
import os
import pathlib
import time

import jax

BEGIN = time.monotonic()


def arguments(doc: str, flags=(), **more) -> argparse.Namespace:
  """The command line of a part: OUT, --small, flags, options with a type."""
  parser = argparse.ArgumentParser(description=doc)
  parser.add_argument('out', type=pathlib.Path)
  for name in ('small', *flags):
    parser.add_argument(f'--{name}', action='store_true')
  for name, kind in more.items():
    parser.add_argument(f'--{name}', type=kind)
  return parser.parse_args()


def say(*words) -> None:
  """A line with the seconds since the start."""
  print(f'[{time.monotonic() - BEGIN:5.1f}]', *words, flush=True)


def write(out: pathlib.Path, part: str, found: dict) -> None:
  """Writes OUT/PART.json as a whole."""
  path = out / f'{part}.json'
  path.with_suffix('.tmp').write_text(json.dumps(found, indent=1))
  os.replace(path.with_suffix('.tmp'), path)


class Program:
  """A traced program with its arguments.

  Args:
    lowered: `jax.jit(f).lower(*args)`.
    args: what it is called with.
    carry: the first result is the first argument of the next call.
  """

  def __init__(self, lowered, args, *, carry: bool = False):
    """Not compiled yet."""
    self._lowered, self._args, self._carry = lowered, args, carry

  def compile(self) -> 'Program':
    """Compiles it, and keeps how long that took."""
    begin = time.monotonic()
    self.compiled = self._lowered.compile()
    self.compile_seconds = time.monotonic() - begin
    return self

  def __call__(self):
    """Starts one call; returns what there is to wait for."""
    result = self.compiled(*self._args)
    if self._carry:
      now, result = result
      self._args = (now, *self._args[1:])
    return result

  def seconds(self, calls: int, rounds: int = 3) -> float:
    """Of a call, in the fastest of the rounds of so many calls in a row."""
    jax.block_until_ready(self())
    best = float('inf')
    for _ in range(rounds):
      begin = time.perf_counter()
      for _ in range(calls):
        result = self()
      jax.block_until_ready(result)
      best = min(best, (time.perf_counter() - begin) / calls)
    return best

  def facts(self) -> dict:
    """Memory in GiB, operations and bytes as XLA counts them."""
    memory, cost = self.compiled.memory_analysis(), {}
    cost = self.compiled.cost_analysis() or {}
    held = memory.argument_size_in_bytes + memory.output_size_in_bytes
    held += memory.temp_size_in_bytes - memory.alias_size_in_bytes
    return {
      'compile_seconds': self.compile_seconds,
      'memory_gib': held / 2**30,
      'xla_gflop': cost.get('flops', 0) / 1e9,
      'xla_gb': cost.get('bytes accessed', 0) / 1e9,
    }


def compiled(programs: dict, threads: int = 8):
  """Compiles programs side by side; leaves out, aloud, those that fail.

  Yields names and programs, each when it is compiled: take a `list` of it
  where what is measured must not be disturbed by the others.
  """
  with concurrent.futures.ThreadPoolExecutor(threads) as pool:
    jobs = {pool.submit(p.compile): name for name, p in programs.items()}
    for job in concurrent.futures.as_completed(jobs):
      name = jobs[job]
      try:
        program = job.result()
      except Exception as error:
        say(f'{name}: not compiled: {error!r:.300}')
        continue
      say(f'{name}: compiled in {program.compile_seconds:.1f} s')
      yield name, program
