"""AASIST: forward pass and training step by batch and arithmetic, a profile.

float32 is arithmetic in float32 throughout, TF32 what XLA does with float32 on
a GPU unless told otherwise, bfloat16 `--config.model.dtype=bfloat16`.
"""

import collections
import functools
import json

import common
import jax
import numpy as np
from flax import nnx

from jaxspoof import losses, models, optim
from jaxspoof.training import sharding, state, steps

ARITHMETIC = {  # dtype of the model, precision of products
  'float32': ('float32', 'highest'),
  'TF32': ('float32', 'default'),
  'bfloat16': ('bfloat16', 'default'),
}
# In waves: each is compiled at once, then measured, then written.
WAVES = (
  [('training step', 24, 'bfloat16'), ('forward', 24, 'bfloat16')],
  [('training step', 64, 'bfloat16')]
  + [('forward', 1, a) for a in ('bfloat16', 'TF32')],
  [('training step', 24, 'TF32'), ('forward', 24, 'TF32')],
  [('training step', 24, 'float32'), ('forward', 24, 'float32')]
  + [('forward', 1, 'float32')],
  [('training step', 64, 'TF32'), ('training step', 128, 'bfloat16')]
  + [('training step', 128, 'TF32'), ('forward', 128, 'bfloat16')],
  [('forward', 64, a) for a in ('bfloat16', 'TF32', 'float32')]
  + [('forward', 128, a) for a in ('TF32', 'float32')]
  + [('training step', b, 'float32') for b in (64, 128)],
)
SMALL = {  # in place of AASIST: quick to compile
  'name': 'ecapa',
  'channels': (8, 8, 10),
  'kernel_sizes': (5, 3, 1),
  'dilations': (1, 2, 1),
  'groups': (1, 1, 1),
  'res2net_scale': 2,
}
PROFILED = [('training step', 24, 'bfloat16'), ('training step', 24, 'TF32')]


def main() -> None:
  """Measures and writes OUT/ours.json, wave by wave."""
  options = common.arguments(__doc__)
  samples = 4_000 if options.small else 64_600
  waves = WAVES[:1] if options.small else WAVES
  model = SMALL if options.small else {'name': 'aasist'}
  macs = models.system(model).macs(samples)['total']
  ceilings = options.out / 'card.json'
  ceilings = json.loads(ceilings.read_text()) if ceilings.exists() else {}
  found = {'samples': samples, 'macs_per_clip': macs, 'runs': {}}
  for number, wave in enumerate(waves):
    if options.small:
      wave = [(kind, 2, how) for kind, _, how in wave]
    programs = {
      key: prepared(*key, samples, model) for key in dict.fromkeys(wave)
    }
    common.say(f'wave {number}: {len(programs)} programs traced')
    for key, program in list(common.compiled(programs)):
      name = ' '.join(map(str, key))
      try:
        row = measured(key, program, macs, ceilings, options.small)
        found['runs'][name] = row
        common.write(options.out, 'ours', found)
        if key in PROFILED or (options.small and key == wave[0]):
          calls = 1 if options.small else 5
          lines = profile(program, options.out, name, calls)
          print('\n'.join(lines[:22]), flush=True)
      except Exception as error:  # out of memory: the others go on
        common.say(f'{name}: {error!r:.200}')


def prepared(
  kind: str, batch: int, how: str, samples: int, model: dict
) -> common.Program:
  """The program of a piece of work, traced, with random weights and waves."""
  dtype, precision = ARITHMETIC[how]
  jax.config.update('jax_default_matmul_precision', precision)
  system = models.system({**model, 'dtype': dtype})
  graphdef, *weights = state.split(system.make(nnx.Rngs(0)))
  rng = np.random.default_rng(0)
  wave = 0.1 * rng.standard_normal((batch, samples), np.float32)
  shardings = sharding.make(1)
  if kind == 'forward':

    def forward(params, batch_stats, wave):
      model = state.merge(graphdef, params, batch_stats)
      return state.eval_view(model)(wave)

    args = jax.device_put((*weights, wave), shardings.replicated)
    return common.Program(jax.jit(forward).lower(*args), args)
  tx = optim.make(optim.OptimConfig(), 10_000)
  create = functools.partial(state.create, tx=tx)
  now = jax.jit(create, out_shardings=shardings.replicated)(
    *jax.device_get(weights)
  )
  label = np.arange(batch, dtype=np.int32) % 2
  args = now, sharding.put_batch({'wave': wave, 'label': label}, shardings)
  loss = losses.CrossEntropy((0.1, 0.9))
  step = steps.make_train_step(graphdef, tx, loss, 0, shardings)
  return common.Program(step.lower(*args), args, carry=True)


def measured(key, program, macs: int, ceilings: dict, small: bool) -> dict:
  """Seconds of a call, and its share of what the card can do."""
  kind, batch, how = key
  seconds = program.seconds(2 if small else 10)
  flop = 2 * macs * batch * (1 if kind == 'forward' else 3)
  facts = program.facts()
  row = {
    'kind': kind,
    'batch': batch,
    'what': f'jaxspoof {how}',
    'seconds': seconds,
    'tflop_per_s': flop / seconds / 1e12,
    **facts,
  }
  if rate := ceilings.get(f'{how}_tflop_per_s'):
    row['share_of_products'] = row['tflop_per_s'] / rate
  if rate := ceilings.get('copy_tb_per_s'):
    row['share_of_memory'] = facts['xla_gb'] / 1e3 / seconds / rate
  common.say(
    f'{kind:14} {batch:>4} {how:9} {1e3 * seconds:8.2f} ms '
    f'{batch / seconds:7.0f} clips/s {row["tflop_per_s"]:6.1f} TFLOP/s '
    f'{facts["xla_gb"]:6.1f} GB {facts["memory_gib"]:6.2f} GiB'
  )
  return row


def profile(program, out, name: str, calls: int) -> list[str]:
  """The time of each kernel in a call, heaviest first, as lines of text."""
  folder = out / 'profile' / name.replace(' ', '_')
  with jax.profiler.trace(str(folder)):
    for _ in range(calls):
      result = program()
    jax.block_until_ready(result)
  file = next(folder.rglob('*.xplane.pb'))
  seconds, count = collections.Counter(), collections.Counter()
  for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
    if not plane.name.startswith('/device:GPU'):
      continue
    for line in plane.lines:
      if line.name.startswith('Stream'):
        for event in line.events:
          seconds[event.name] += event.duration_ns / 1e9 / calls
          count[event.name] += 1 / calls
  lines = [f'{name}: kernels take {1e3 * seconds.total():.2f} ms of a call']
  lines += [
    f'{1e3 * value:9.3f} ms {count[kernel]:6.1f} x  {kernel[:100]}'
    for kernel, value in seconds.most_common(60)
  ]
  (out / f'profile {name}.txt'.replace(' ', '_')).write_text('\n'.join(lines))
  text = program.compiled.as_text()
  (out / f'program {name}.txt'.replace(' ', '_')).write_text(text)
  return lines


if __name__ == '__main__':
  main()
