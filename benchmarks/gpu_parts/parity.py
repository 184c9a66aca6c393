"""Are outputs and training on this device those of the originals, on the CPU?

Golden outputs of AASIST and AASIST-L come from the original in PyTorch.
ECAPA-TDNN and Light-DARTS, with random weights, are compared with themselves
on the CPU. Each difference is given for float32 arithmetic, for TF32 and for
bfloat16, absolute, beside the largest absolute value. Five steps of training
on golden clips follow.
"""

import pathlib

import common
import jax
import numpy as np
import optax
from flax import nnx
from ours import ARITHMETIC

from jaxspoof import losses, models
from jaxspoof.models.ecapa_tdnn import ECAPA_TDNN
from jaxspoof.training import sharding, state, steps
from jaxspoof.weights import aasist as aasist_importer

DROPOUT = dict.fromkeys(
  ('input_dropout', 'pool_dropout', 'way_dropout', 'output_dropout'), 0.0
)
RELEASED = {'aasist': 'AASIST', 'aasist_l': 'AASIST-L'}


def main() -> None:
  """Compares and writes OUT/parity.json."""
  options = common.arguments(__doc__, golden=pathlib.Path)
  cases = {}
  arithmetic = ('TF32',) if options.small else ARITHMETIC
  if options.golden and (options.golden / 'aasist').is_dir():
    names = ('aasist_l',) if options.small else RELEASED
    for name in names:
      cases[name] = aasist(options.golden, name, options.small)
  else:
    common.say(f'no golden data in {options.golden}: no AASIST')
  cases['ecapa'] = ecapa()
  cases['light_darts'] = light_darts(8_000 if options.small else 32_000)
  programs, wanted = {}, {}
  for name, (make, args, golden) in cases.items():
    for how in arithmetic:
      dtype, precision = ARITHMETIC[how]
      if dtype == 'bfloat16' and not name.startswith('aasist'):
        continue  # computed in float32 throughout
      jax.config.update('jax_default_matmul_precision', precision)
      graphdef, *weights = state.split(make(dtype))

      def forward(params, stats, *args, graphdef=graphdef):
        return state.eval_view(state.merge(graphdef, params, stats))(*args)

      given = jax.device_put((*weights, *args), jax.devices()[0])
      program = common.Program(jax.jit(forward).lower(*given), given)
      programs[name, how], wanted[name, how] = program, golden
  golden_losses = None
  if not options.small and (options.golden / 'aasist').is_dir():
    for how in ARITHMETIC:
      program, golden_losses = trajectory(options.golden, how)
      programs['training', how] = program
  found = {'outputs': {}, 'training': {'golden': golden_losses}}
  for key, program in common.compiled(programs):
    name, how = key
    if name == 'training':
      curve = [float(program()['loss']) for _ in golden_losses]
      found['training'][how] = curve
      common.say(f'losses of AASIST-L, {how}:', *(f'{x:.5f}' for x in curve))
    else:
      got, golden = np.asarray(program(), np.float64), wanted[key]
      apart = float(np.abs(got.reshape(golden.shape) - golden).max())
      largest = float(np.abs(golden).max())
      found['outputs'][' '.join(key)] = {'apart': apart, 'largest': largest}
      common.say(f'{" ".join(key):22} apart {apart:.1e}, largest {largest:.1f}')
    common.write(options.out, 'parity', found)
  if golden_losses:
    common.say('the original:    ', *(f'{x:.5f}' for x in golden_losses))


def light_darts(samples: int):
  """A network of the space `light` with random weights, on noise."""
  wave = 0.1 * np.random.default_rng(0).standard_normal((4, samples))
  system = models.system({'name': 'light_darts'})
  return beside_the_cpu(
    lambda dtype: system.make(nnx.Rngs(0)), wave.astype(np.float32)
  )


def ecapa():
  """ECAPA-TDNN of SpeechBrain's size with random weights, on noise."""
  x = np.random.default_rng(0).standard_normal((4, 120, 80), np.float32)
  return beside_the_cpu(lambda dtype: ECAPA_TDNN(80, rngs=nnx.Rngs(0)), x)


def beside_the_cpu(make, x: np.ndarray):
  """How to make a model, its input, and its outputs on the CPU."""
  with jax.default_device(jax.devices('cpu')[0]):
    graphdef, *weights = state.split(make('float32'))
    model = state.eval_view(state.merge(graphdef, *weights))
    return make, (x,), np.asarray(jax.jit(lambda x: model(x))(x))


def aasist(golden: pathlib.Path, name: str, small: bool = False):
  """The released weights with their golden logits; `small`: of a second."""
  folder = golden / 'aasist'
  with np.load(folder / 'inputs.npz') as file:
    wave = file['x']
  with np.load(folder / f'{RELEASED[name]}_golden.npz') as file:
    logits = file['logits_len16000' if small else 'logits']
  if small:
    wave = wave[:, :16_000]
  path = folder / f'{RELEASED[name]}.pth'
  make = lambda dtype: aasist_importer.load(path, dtype=dtype, **DROPOUT)
  return make, (wave,), logits


def trajectory(golden: pathlib.Path, how: str):
  """A training step of AASIST-L, and the losses of five by the original."""
  make, (wave,), _ = aasist(golden, 'aasist_l')
  with np.load(golden / 'aasist' / 'inputs.npz') as file:
    label = file['y'].astype(np.int32)
  with np.load(golden / 'aasist' / 'AASIST-L_golden.npz') as file:
    wanted = file['train_losses'].tolist()
  dtype, precision = ARITHMETIC[how]
  jax.config.update('jax_default_matmul_precision', precision)
  tx = optax.chain(optax.add_decayed_weights(1e-4), optax.adam(1e-4))
  graphdef, *weights = state.split(make(dtype))
  shardings = sharding.make(1)
  now = state.create(*jax.tree.map(jax.numpy.copy, weights), tx)
  now = jax.device_put(now, shardings.replicated)
  loss = losses.CrossEntropy((0.1, 0.9))
  step = steps.make_train_step(graphdef, tx, loss, 0, shardings)
  batch = {'wave': wave, 'label': label}
  args = now, sharding.put_batch(batch, shardings)
  return common.Program(step.lower(*args), args, carry=True), wanted


if __name__ == '__main__':
  main()
