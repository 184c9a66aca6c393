"""Weights that are drawn by their names, the same wherever they are drawn.

Golden data of large back ends need not hold them: scripts in `tools` give them
to the original code, tests to ours.
"""

import zlib

import numpy as np


def drawn(name: str, shape: tuple[int, ...], gain: float = 1.0) -> np.ndarray:
  """Values of a tensor of this name, float32.

  Those of variances are above 0, those of scales around 1; all others are
  multiplied by `gain`, which keeps graphs from nodes that are nearly alike.
  Raw output of the generator is the same in all versions of NumPy.
  """
  bits = np.random.PCG64(zlib.crc32(name.encode()))
  raw = bits.random_raw(int(np.prod(shape, dtype=np.int64)))
  uniform = np.asarray(raw, np.uint64).astype(np.float64) / 2**64
  if name.endswith('running_var'):
    found = 0.5 + uniform
  elif len(shape) == 1 and name.endswith('weight'):
    found = 0.75 + 0.5 * uniform
  else:
    fan_in = np.prod(shape[1:]) if len(shape) > 1 else 4
    if len(shape) == 3 and shape[0] == 1:  # positions, and what is like them
      fan_in = 3
    found = gain * (2 * uniform - 1) * np.sqrt(3 / fan_in)
  return found.reshape(shape).astype(np.float32)
