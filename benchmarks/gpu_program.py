r"""The program that XLA makes of a training step for GPUs, without a GPU.

  python benchmarks/gpu_program.py --dtype=bfloat16
  python benchmarks/gpu_program.py --devices=4 --batch=96 --step_ms=20
  python benchmarks/gpu_program.py --model=ecapa --rows=40

Compiles a model's training step for H200s on any machine and reads the result:
which bytes each kernel reads and writes at least, and how long that takes at
the speed of the card's memory; whether every convolution became a call of
cuDNN (exit status 1 where one did not: XLA then computes it as it is written,
the gradient of a kernel with a kernel as large as the image); and what devices
tell each other in a step. With `--step_ms`, a step measured on one device, it
estimates how much of it several would wait for each other.

What it cannot see is what is chosen by trying on a card: algorithms of cuDNN,
tilings. Needs Python 3.12 and the compiler for GPUs of JAX's version,

  pip install jax-cuda13-plugin==0.11.2 jax-cuda13-pjrt==0.11.2 \
    nvidia-cuda-nvcc
"""

import argparse
import collections
import functools
import os
import re
import sys
import time

# Before JAX starts: no card is looked for.
os.environ.setdefault('JAX_PLATFORMS', 'cpu')

import jax
import numpy as np
from flax import nnx
from jax.experimental import topologies
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxspoof import losses, models, optim
from jaxspoof.training import sharding, state, steps

MEMORY = 4.2e12  # bytes a second, read and written, measured on an H200
# Seconds that a collective takes at least, and bytes a second and device.
NETWORKS = {
  'NVLink, one host': (12e-6, 200e9),
  '25 GbE, a device a host': (60e-6, 2.5e9),
}
# What the compiler asks about the card, as it describes itself.
H200 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H200"
dnn_version_info { major: 9 minor: 19 patch: 0 }
runtime_version { major: 13 minor: 0 patch: 0 }
gpu_device_info {
  cuda_compute_capability { major: 9 minor: 0 }
  core_count: 132 fpus_per_core: 128 clock_rate_ghz: 1.98
  threads_per_block_limit: 1024 threads_per_core_limit: 2048
  threads_per_warp: 32
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  registers_per_block_limit: 65536 registers_per_core_limit: 65536
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  l2_cache_size: 52428800 memory_bandwidth: 4800000000000
  device_memory_size: 150000000000
}
"""
BYTES = {'pred': 1, 's8': 1, 'u8': 1, 'bf16': 2, 'f16': 2, 's32': 4}
BYTES |= {'u32': 4, 'f32': 4, 's64': 8, 'u64': 8, 'f64': 8}
FREE = {'parameter', 'constant', 'tuple', 'get-tuple-element', 'bitcast'}


def main() -> None:
  """Compiles, prints, and tells by the exit status of lost convolutions."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--model', default='aasist')
  parser.add_argument('--dtype', default='float32', help="AASIST's alone")
  parser.add_argument('--devices', type=int, default=1)
  parser.add_argument('--batch', type=int, default=24, help='of all devices')
  parser.add_argument('--samples', type=int, default=64_600)
  parser.add_argument('--rows', type=int, default=20)
  parser.add_argument('--step_ms', type=float)
  options = parser.parse_args()
  begin = time.monotonic()
  program = lowered(options).compile()
  kernels = [*read(program.as_text())]
  print(
    f'{options.model}, {options.dtype}, batch {options.batch} on '
    f'{options.devices} device(s), jax {jax.__version__}, compiled in '
    f'{time.monotonic() - begin:.0f} s; '
    f'{program.memory_analysis().temp_size_in_bytes / 2**30:.2f} GiB beside '
    'inputs and outputs'
  )
  print_kernels(kernels, options.rows)
  print_collectives(kernels, options)
  lost = [k for k in kernels if k.lost]
  for kernel in lost:
    print(f'not a gradient of cuDNN: {kernel.name}, {kernel.line[:160]}')
  sys.exit(bool(lost))


def lowered(options):
  """The training step, traced, with its arrays' shapes and places alone."""
  devices = topologies.get_topology_desc(
    '', 'cuda', topology=f'1x1x{options.devices}', target_config=H200
  ).devices
  mesh = Mesh(np.array(devices), ('data',), axis_types=(AxisType.Auto,))
  shardings = sharding.Shardings(
    NamedSharding(mesh, P()), NamedSharding(mesh, P('data'))
  )
  sharding.check_batch(options.batch, shardings, 'batch')
  model = {'name': options.model}
  if options.dtype != 'float32':
    model['dtype'] = options.dtype
  module = models.system(model).make(nnx.Rngs(0))
  tx = optim.make(optim.OptimConfig(), 10_000)
  graphdef, *weights = state.split(module)
  create = functools.partial(state.create, tx=tx)

  def placed(x, place):
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place)

  now = jax.tree.map(
    lambda x: placed(x, shardings.replicated),
    jax.eval_shape(create, *weights),
  )
  batch = {
    'wave': np.zeros((options.batch, options.samples), np.float32),
    'label': np.zeros(options.batch, np.int32),
  }
  batch = {name: placed(x, shardings.batch) for name, x in batch.items()}
  loss = losses.CrossEntropy((0.1, 0.9))
  step = steps.make_train_step(graphdef, tx, loss, 0, shardings)
  return step.lower(now, batch)


# ----------------------------------------------------------- the program ---
class Kernel:
  """One instruction of the compiled program that takes time.

  Attributes:
    name: of the instruction.
    op: what it is, such as 'fusion' or 'all-reduce'.
    what: kind of a fusion or name of a library call.
    moved: bytes of its arguments and results.
    made: bytes of its results.
    line: its text.
  """

  def __init__(self, name: str, op: str, shape: str, moved: int, line: str):
    """Reads what else the text says."""
    target = re.search(r'custom_call_target="([^"]*)"', line)
    kind = re.search(r'kind=(\w+)', line)
    found = target or kind
    self.what = found.group(1) if found else ''
    self.name, self.op, self.moved = name, op, moved
    self.made, self.line = size_of(shape), line

  @property
  def lost(self) -> bool:
    """A convolution without a library, or one with an image for a kernel."""
    window = re.search(r'window={size=([\dx]+)', self.line)
    if self.op == 'convolution':
      return True
    if 'convForward' not in self.what or not window:
      return False
    return max(map(int, window.group(1).split('x'))) > 16


def read(text: str):
  """Yields the kernels of the program's entry computation."""
  shapes = {}
  for line in text[text.index('\nENTRY') :].splitlines():
    match = re.match(
      r'\s*(?:ROOT )?%?([\w.\-]+) = (\([^=]*?\)|\S+) ([\w\-]+)\((.*)', line
    )
    if not match:
      continue
    name, shape, op, rest = match.groups()
    shapes[name] = shape
    if op in FREE:
      continue
    args = set(re.findall(r'%([\w.\-]+)', rest.split('), ')[0]))
    moved = size_of(shape) + sum(size_of(shapes.get(a, '')) for a in args)
    yield Kernel(name, op, shape, moved, line)


def size_of(shape: str) -> int:
  """Bytes of an array or of all arrays of a tuple, as XLA writes them."""
  total = 0
  for dtype, sizes in re.findall(r'(\w+)\[([\d,]*)\]', shape):
    count = np.prod([int(n) for n in sizes.split(',') if n], dtype=np.int64)
    total += BYTES.get(dtype, 0) * int(count)
  return total


def print_kernels(kernels: list[Kernel], rows: int) -> None:
  """The sums, and the kernels that move most."""
  total = sum(k.moved for k in kernels)
  print(
    f'{len(kernels)} kernels move {total / 1e9:.2f} GB: '
    f'{1e3 * total / MEMORY:.2f} ms at {MEMORY / 1e12:.1f} TB/s'
  )
  groups = collections.Counter()
  for kernel in kernels:
    groups[f'{kernel.op} {kernel.what}'] += kernel.moved
  for group, moved in groups.most_common(8):
    print(f'{moved / 1e9:8.2f} GB  {group}')
  print('\nheaviest:')
  for kernel in sorted(kernels, key=lambda k: -k.moved)[:rows]:
    op = re.search(r'op_name="([^"]*)"', kernel.line)
    print(
      f'{kernel.moved / 1e9:8.3f} GB  {kernel.name[:34]:34} '
      f'{kernel.what[:28]:28} {op.group(1)[-60:] if op else ""}'
    )


def print_collectives(kernels: list[Kernel], options) -> None:
  """What devices tell each other in a step, and how long that takes."""
  found = [
    k
    for k in kernels
    if re.match(r'(all-reduce|all-gather|reduce-scatter|all-to-all)', k.op)
    and not k.op.endswith('done')
  ]
  made = sum(k.made for k in found)
  kinds = collections.Counter(k.op.removesuffix('-start') for k in found)
  words = ', '.join(f'{count} {kind}' for kind, count in kinds.items())
  print(f'\ncollectives in a step: {words or "none"}; {made:,} bytes')
  if options.devices == 1 or not options.step_ms:
    return
  share = 2 * (options.devices - 1) / options.devices  # of a ring
  for network, (latency, speed) in NETWORKS.items():
    seconds = sum(latency + share * k.made / speed for k in found)
    step = options.step_ms / 1e3
    print(
      f'{network}: {1e3 * seconds:.2f} ms beside a step of {1e3 * step:.1f}: '
      f'efficiency {100 * step / (step + seconds):.0f} % if nothing overlaps'
    )


if __name__ == '__main__':
  main()
