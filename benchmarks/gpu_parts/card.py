"""The card: names, versions, and the measured ceilings of memory and products.

Other parts hold their times against these ceilings, not against a data sheet.
"""

import os
import platform
import subprocess

import common
import jax
import jax.numpy as jnp

from jaxspoof.training import cost


def main() -> None:
  """Measures and writes OUT/card.json."""
  options = common.arguments(__doc__)
  found = {
    'device': jax.devices()[0].device_kind,
    'driver': driver(),
    'cores': os.cpu_count(),
    'python': platform.python_version(),
    'versions': cost.versions(),
  }
  common.say(found)
  common.write(options.out, 'card', found)
  side = 256 if options.small else 8192
  values = (1 << 16) if options.small else 1 << 30
  key = jax.random.key(0)
  x = jax.random.normal(key, (values,), jnp.float32)
  programs = {'copy': common.Program(jax.jit(lambda x: -x).lower(x), (x,))}
  # Random numbers: a product of zeros is faster than one of data.
  a = jax.random.normal(key, (side, side), jnp.float32)
  for name, dtype, precision in (
    ('bfloat16', jnp.bfloat16, 'default'),
    ('TF32', jnp.float32, 'default'),
    ('float32', jnp.float32, 'highest'),
  ):
    product = jax.jit(lambda a, p=precision: jnp.matmul(a, a, precision=p))
    args = (a.astype(dtype),)
    programs[name] = common.Program(product.lower(*args), args)
  for name, program in list(common.compiled(programs)):
    seconds = program.seconds(10)
    if name == 'copy':
      found['copy_tb_per_s'] = 8 * values / seconds / 1e12
      common.say(f'copy: {found["copy_tb_per_s"]:.2f} TB/s, read and written')
    else:
      found[f'{name}_tflop_per_s'] = 2 * side**3 / seconds / 1e12
      common.say(f'{name}: {found[f"{name}_tflop_per_s"]:.0f} TFLOP/s')
    common.write(options.out, 'card', found)


def driver() -> str:
  """Name, driver and memory as nvidia-smi gives them."""
  query = '--query-gpu=name,driver_version,memory.total'
  try:
    done = subprocess.run(
      ['nvidia-smi', query, '--format=csv,noheader'],
      capture_output=True,
      text=True,
      timeout=20,
    )
  except OSError:
    return 'no nvidia-smi'
  return done.stdout.strip()


if __name__ == '__main__':
  main()
