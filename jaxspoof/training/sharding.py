"""Devices: the only file that knows the mesh.

Training is data-parallel. The batch is sharded over a one-dimensional
`('data',)` mesh, everything else is replicated, and the step is ordinary code
on the global batch: XLA puts the reductions of gradients and BatchNorm
statistics where they belong. One device, four devices and several hosts run
the same program.
"""

import dataclasses

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec


@dataclasses.dataclass(frozen=True)
class Shardings:
  """The two placements that training uses.

  Attributes:
    replicated: every device holds the whole array.
    batch: the first axis is divided over all devices of all hosts.
  """

  replicated: NamedSharding
  batch: NamedSharding

  @property
  def devices(self) -> int:
    """Number of devices in the mesh, over all hosts."""
    return self.batch.mesh.size


def make(devices: int = 0) -> Shardings:
  """Builds the mesh over `devices` devices, 0 for all that are visible.

  Raises:
    ValueError: more devices are asked for than there are, or a part of the
      devices of a job of several hosts.
  """
  visible = jax.devices()
  count = devices or len(visible)
  if count > len(visible):
    raise ValueError(
      f'mesh.devices={devices}, but only {len(visible)} '
      f'{visible[0].platform} device(s) are visible; ask for at most '
      f'{len(visible)}, or 0 for all'
    )
  if jax.process_count() > 1 and count != len(visible):
    raise ValueError(
      f'mesh.devices={devices}, but a job of {jax.process_count()} hosts '
      f'uses all its {len(visible)} devices; set mesh.devices=0'
    )
  mesh = Mesh(np.array(visible[:count]), ('data',), axis_types=(AxisType.Auto,))
  return Shardings(
    NamedSharding(mesh, PartitionSpec()),
    NamedSharding(mesh, PartitionSpec('data')),
  )


def check_batch(batch: int, shardings: Shardings, field: str) -> None:
  """Raises ValueError unless the devices can share `batch` equally."""
  count = shardings.devices
  if batch < 1 or batch % count:
    below, above = max(count, batch // count * count), -(-batch // count)
    raise ValueError(
      f'{field}={batch} is not divisible by the {count} devices of the '
      f'mesh; use {below} or {above * count}, or set mesh.devices'
    )


def jit(
  step,
  shardings: Shardings,
  *,
  replicated: int,
  batches: int = 1,
  donate: bool = False,
):
  """`jax.jit` of a step on the global batch.

  Args:
    step: function whose first arguments are replicated on all devices and whose
      last arguments are batches, divided over the devices. What it returns is
      replicated.
    shardings: the mesh.
    replicated: number of replicated arguments.
    batches: number of arguments that are batches.
    donate: if True the memory of the first argument is reused for the result,
      and the argument cannot be used any more.
  """
  # The step sees the global batch. With these placements the partitioner turns
  # its means over the batch, of gradients and of BatchNorm, into sums over
  # devices: nothing in the step names a device.
  return jax.jit(
    step,
    donate_argnums=0 if donate else (),
    in_shardings=(shardings.replicated,) * replicated
    + (shardings.batch,) * batches,
    out_shardings=shardings.replicated,
  )


def put_batch(batch: dict, shardings: Shardings) -> dict:
  """Moves this host's part of a batch (numpy) to its devices."""
  return {
    name: jax.make_array_from_process_local_data(shardings.batch, value)
    for name, value in batch.items()
  }


def barrier(name: str) -> None:
  """Waits for all hosts; nothing to do on one."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)
