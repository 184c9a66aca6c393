"""Speech enhancement by a trained network: what an attacker or a phone does.

The network is that of a run of the job `enhance`, or one of torchaudio or
asteroid. It computes in numpy, clip by clip: nothing is compiled for each
length, and worker processes need no device.
"""

import functools
import multiprocessing
import pathlib
from typing import NamedTuple

import numpy as np
import soxr

from jaxspoof.runs import names, record

_RATE = 16_000


class Network(NamedTuple):
  """Which network it is.

  Attributes:
    path: the workdir of a run, or a file.
    sha256: of its weights, in hexadecimal.
  """

  path: str
  sha256: str


def read(text: str) -> Network:
  """Reads the path of a network, and whether there is one that fits.

  Raises:
    ValueError: nothing there, or no enhancer.
  """
  if not text:
    raise ValueError(
      "expected the workdir of a run of the job 'enhance', or a file of "
      'torchaudio or asteroid'
    )
  path = pathlib.Path(text).expanduser()
  weights = path / names.WEIGHTS if path.is_dir() else path
  # A file that is not there is better said by who reads it as a network.
  digest = record.file_hash(weights) if weights.is_file() else ''
  found = Network(str(path), digest)
  sources = _loaded(found).config.sources
  if sources != 1:
    raise ValueError(
      f'{text}: separates {sources} sources, of which nobody knows which is '
      'which; expected a network of one'
    )
  return found


def enhance(
  wave: np.ndarray, value: Network, rng: np.random.Generator
) -> np.ndarray:
  """What the network makes of a clip, with the power that the clip has.

  SI-SNR, which such networks are trained on, leaves the level open.
  """
  del rng
  network = _loaded(value)
  rate, given = network.config.sample_rate, wave
  if rate != _RATE:
    given = soxr.resample(wave, _RATE, rate)
  found = network(given[None])[0, 0]
  if rate != _RATE:
    found = soxr.resample(found, rate, _RATE)
    missing = max(0, len(wave) - len(found))
    found = np.pad(found, (0, missing))[: len(wave)]
  power, left = (
    float(np.mean(np.square(x, dtype=np.float64))) for x in (wave, found)
  )
  return found * np.float32(np.sqrt(power / left)) if left > 0 else found


@functools.cache
def _loaded(network: Network):
  # JAX takes a second to import, and few clips are enhanced. A worker must not
  # take the accelerator of the process that it belongs to.
  import jax

  from jaxspoof.enhance import weights

  if multiprocessing.parent_process() is not None:
    jax.config.update('jax_platforms', 'cpu')
  return weights.on_numpy(weights.load(network.path))
