"""What a run cost: `cost.json`, the costs half of every result."""

import importlib.metadata
import platform
import resource
import shlex
import sys
import time

import jax

from jaxspoof.config import RunConfig
from jaxspoof.training import sharding as sharding_lib
from jaxspoof.training import state as state_lib

PACKAGES = (
  'jaxspoof',
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'grain',
  'tensorflow-datasets',
  'numpy',
)


def of_run(
  config: RunConfig,
  params,
  shardings: sharding_lib.Shardings,
  speed: dict[str, float],
  started: float,
  macs: dict[str, int],
) -> dict:
  """Size, work, speed and memory of a run, and what it ran on.

  Args:
    config: config of the run.
    params: trained arrays.
    shardings: the devices.
    speed: speed and time of the run, from `Clock.summary()`.
    started: when this process started, in seconds since 1970.
    macs: multiply-accumulates of one clip, by stage.

  Returns:
    What `cost.json` holds; memory in MiB, MACs per clip and stage.
  """
  return {
    'parameters': state_lib.count_parameters(params),
    'macs_per_clip': macs,
    'samples': config.data.samples,
    'eval_samples': config.data.eval_samples,
    'sample_rate': 16_000,
    'batch': config.data.batch,
    'epochs': config.epochs,
    **speed,
    **surroundings(shardings, config.seed, started),
  }


def surroundings(
  shardings: sharding_lib.Shardings, seed: int, started: float
) -> dict:
  """What a job ran on, and how it is started again.

  Args:
    shardings: the devices.
    seed: seed of the job.
    started: when this process started, in seconds since 1970.

  Returns:
    The fields of `cost.json` that all jobs have; memory in MiB.
  """
  device = shardings.batch.mesh.devices.flat[0]
  return {
    'peak_memory_mb': peak_memory(device),
    'device': f'{device.device_kind} ({device.platform})',
    'devices': shardings.devices,
    'hosts': jax.process_count(),
    'machine': f'{platform.machine()}, {platform.system()}',
    'versions': versions(),
    'seed': seed,
    'command': shlex.join(['python', *sys.argv]),
    'started': _iso(started),
    'finished': _iso(time.time()),
  }


def peak_memory(device: jax.Device) -> float:
  """Highest memory so far in MiB: of the device, on CPU of this process."""
  stats = device.memory_stats() or {}
  if 'peak_bytes_in_use' in stats:
    return stats['peak_bytes_in_use'] / 2**20
  unit = 2**20 if sys.platform == 'darwin' else 2**10
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def versions() -> dict[str, str]:
  """Versions of Python and of the packages a result depends on."""
  found = {'python': platform.python_version()}
  for name in PACKAGES:
    try:
      found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      found[name] = 'not installed'
  return found


def _iso(seconds: float) -> str:
  return time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(seconds))
