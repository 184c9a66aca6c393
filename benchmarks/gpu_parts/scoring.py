"""Scoring: clips a second over a folder of 5,000 files, latency of one clip.

Random weights of AASIST, 16-bit WAV files of noise of 4 seconds; reading,
decoding and scoring as `detect.py` does them.
"""

import statistics
import time

import common
import numpy as np
import soundfile
from flax import nnx

from jaxspoof import models
from jaxspoof.detector import Detection, Detector
from jaxspoof.losses import CrossEntropy
from jaxspoof.training import state

RATE = 16_000


def main() -> None:
  """Measures and writes OUT/scoring.json."""
  options = common.arguments(__doc__)
  count, samples = (8, 8_000) if options.small else (5_000, 64_600)
  files = folder(options.out / 'clips', count, samples)
  common.say(f'{count} files are written')
  found = {'clips': count, 'samples': samples}
  for dtype in ('bfloat16',) if options.small else ('bfloat16', 'float32'):
    for batch in (1, 64):
      detector = made(dtype, batch, samples)
      wave = np.zeros(samples, np.float32)
      wave[:] = np.random.default_rng(0).standard_normal(samples) * 0.1
      begin = time.monotonic()
      detector.score([wave])
      compiling = time.monotonic() - begin
      if batch == 1:
        seconds = []
        for _ in range(3 if options.small else 100):
          begin = time.perf_counter()
          detector.score([wave])
          seconds.append(time.perf_counter() - begin)
        row = {'latency_ms': 1e3 * statistics.median(seconds)}
      else:
        begin = time.perf_counter()
        scored = list(detector.score_files(files))
        took = time.perf_counter() - begin
        assert len(scored) == count
        assert all(isinstance(one, Detection) for one in scored)
        row = {'clips_per_s': count / took}
      row['first_call_s'] = compiling
      found[f'{dtype} batch {batch}'] = row
      common.say(dtype, f'batch {batch}', row)
      common.write(options.out, 'scoring', found)


def folder(path, count: int, samples: int) -> list:
  """Files of noise, each its own."""
  path.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(0)
  noise = rng.integers(-3000, 3000, samples + count, np.int16)
  files = [path / f'{i:05}.wav' for i in range(count)]
  for i, file in enumerate(files):
    soundfile.write(file, noise[i : i + samples], RATE)
  return files


def made(dtype: str, batch: int, samples: int) -> Detector:
  """A detector with random weights."""
  system = models.system({'name': 'aasist', 'dtype': dtype})
  parts = state.split(system.make(nnx.Rngs(0)))
  return Detector(
    'aasist', *parts, batch=batch, samples=samples, loss=CrossEntropy()
  )


if __name__ == '__main__':
  main()
