"""The original AASIST in PyTorch: eager, with AMP, compiled with AMP.

Prepares, writes OUT/original.ready, waits for OUT/original.go and measures.
"""

import argparse
import pathlib
import time

import aasist as benchmark
import common
import numpy as np
import torch

LIMIT = 240  # seconds to wait for the word to go
MODES = ('float32', 'TF32', 'AMP', 'compiled AMP')


def main() -> None:
  """Measures and writes OUT/original.json."""
  options = common.arguments(__doc__, reference=pathlib.Path)
  gpu = torch.cuda.is_available()
  work = (
    [('training step', 24, mode) for mode in MODES]
    + [('forward', 24, mode) for mode in ('TF32', 'AMP', 'compiled AMP')]
    + [('forward', 1, mode) for mode in ('TF32', 'AMP')]
    + [('training step', 64, 'AMP')]
  )
  if options.small:
    work = [('training step', 2, 'float32')]
  settings = argparse.Namespace(reference=options.reference, model='aasist')
  samples = 4_000 if options.small else 64_600
  calls = {}
  for key in work:
    kind, batch, mode = key
    wave = np.random.default_rng(0).standard_normal((batch, samples))
    wave = 0.1 * wave.astype(np.float32)
    label = np.arange(batch, dtype=np.int32) % 2
    try:
      call = benchmark.torch_call(torch, settings, kind, wave, label, mode, gpu)
      begin = time.monotonic()
      call(), call()
    except Exception as error:
      common.say(f'{key}: {error!r:.300}')
      continue
    common.say(f'{key}: ready after {time.monotonic() - begin:.1f} s')
    calls[key] = call
  (options.out / 'original.ready').touch()
  go, end = options.out / 'original.go', time.monotonic() + LIMIT
  while not go.exists() and time.monotonic() < end:
    time.sleep(0.1)
  found = {'torch': torch.__version__, 'runs': {}}
  for key, call in calls.items():
    kind, batch, mode = key
    if gpu:
      torch.cuda.reset_peak_memory_stats()
    call()
    seconds = min(timed(call, 2 if options.small else 10) for _ in range(3))
    row = {
      'kind': kind,
      'batch': batch,
      'what': f'PyTorch {mode}',
      'seconds': seconds,
    }
    if gpu:
      row['memory_gib'] = torch.cuda.max_memory_allocated() / 2**30
    found['runs'][f'PyTorch {" ".join(map(str, key))}'] = row
    common.say(f'{key}: {1e3 * seconds:.2f} ms')
    common.write(options.out, 'original', found)


def timed(call, count: int) -> float:
  """Seconds of a call, which waits for its work."""
  begin = time.perf_counter()
  for _ in range(count):
    call()
  return (time.perf_counter() - begin) / count


if __name__ == '__main__':
  main()
