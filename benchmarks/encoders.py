"""Speed of encoders as front ends, waves to states of all layers.

  python benchmarks/encoders.py
  python benchmarks/encoders.py --frontend=ssl --weights=random:wav2vec2_base
  python benchmarks/encoders.py --reference=DIR  DIR: a clone of openai/whisper
  python benchmarks/encoders.py --frontend=ssl --weights=random:xlsr_300m \
    --reference=transformers --load
  python benchmarks/encoders.py --frontend=ssl --weights=random:wav2vec2_base \
    --reference=transformers --forward --step 1 4

Random weights unless --weights says otherwise. With --reference another
implementation runs beside ours in alternating rounds; the table gives the ratio
of the fastest rounds. The original encoder of Whisper is given log-mel energies
that are computed before; both compute the frames of the clips alone.
`transformers` is that package, for wav2vec 2.0 with random weights of the same
sizes. Needs `pip install -e .[torch-compare]`. `compile` is the first call of a
program without a cache.

--step trains: the gradient of all weights but those of the convolutions, which
are frozen, and a step of Adam. --load reads weights, of the file that
transformers writes, in a process of its own, and says how long that took and
how much memory the whole process needed at most.
"""

import argparse
import importlib.util
import pathlib
import subprocess
import sys
import tempfile
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import timing
from flax import nnx

from jaxspoof import arithmetic, frontends
from jaxspoof.machine import huge_pages
from jaxspoof.system import parameters
from jaxspoof.training import state as state_lib

LOAD = """
import pathlib, re, sys, time
import jax
from flax import nnx
from jaxspoof import frontends
begin = time.perf_counter()
made = frontends.make(
  'ssl', weights=sys.argv[1], normalise_wave='none', rngs=nnx.Rngs(0)
)
frontends.unstack(made)
jax.block_until_ready(jax.device_put(nnx.state(made)))
seconds = time.perf_counter() - begin
# Not what getrusage says: that counts the process that started this one.
said = pathlib.Path('/proc/self/status').read_text()
kib = int(re.search(r'VmHWM:\\s+(\\d+)', said)[1])
print(f'load: {seconds:.1f} s, at most {kib / 2**20:.2f} GiB')
"""


def main() -> None:
  """Measures and prints the table."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--frontend', default='whisper')
  parser.add_argument('--weights', default='random:tiny')
  parser.add_argument('--reference')
  parser.add_argument('--samples', type=int, default=64_600)
  parser.add_argument('--forward', type=int, nargs='*', default=[1, 8])
  parser.add_argument('--step', type=int, nargs='*', default=[])
  parser.add_argument('--load', action='store_true')
  parser.add_argument('--rounds', type=int, default=10)
  options = parser.parse_args()
  frontend = frontends.make(
    options.frontend, weights=options.weights, output='all', rngs=nnx.Rngs(0)
  )
  clip = jax.ShapeDtypeStruct((1, options.samples), jnp.float32)
  graphdef, params, _ = state_lib.split(frontend)
  other = 'transformers' if options.frontend == 'ssl' else 'openai'
  make = of_transformers if other == 'transformers' else original
  macs = arithmetic.total(forward_of(graphdef), params, clip)
  what = (
    f'{options.frontend} {options.weights}, {parameters(frontend):,} '
    f'parameters, {options.samples} samples'
  )
  print(timing.heading(what, macs, options.rounds, bool(options.reference)))
  works = [('step', batch) for batch in options.step]
  works += [('forward', batch) for batch in options.forward]
  for kind, batch in works:
    wave = np.random.default_rng(0).normal(0, 0.1, (batch, options.samples))
    wave = jnp.asarray(wave, jnp.float32)
    if kind == 'step':
      run = trained(graphdef, params, wave)
    else:
      run = scored(frontend, wave)
    runs = {'jaxspoof': run}
    if options.reference:
      known = frontend.config.known
      runs[other] = make(options.reference, known, batch, options, kind)
    begin = time.perf_counter()
    run()
    compiled = time.perf_counter() - begin
    seconds = timing.measure(runs, options.rounds)
    timing.report(kind, batch, macs, seconds, other)
    print(f'compile of batch {batch}: {compiled:.1f} s', flush=True)
  if options.load:
    load(options.reference, frontend.config.known)


def forward_of(graphdef):
  """A function of weights and waves that gives the features."""
  return lambda params, wave: state_lib.merge(graphdef, params, {})(wave)[0]


def scored(frontend, wave):
  """A function that computes the features once, as a detector on a CPU does."""
  frontend = nnx.clone(frontend)
  frontends.unstack(frontend)
  graphdef, params, _ = state_lib.split(frontend)
  run = jax.jit(forward_of(graphdef))
  return lambda: run(params, wave).block_until_ready()


def trained(graphdef, params, wave):
  """A function that takes a step in which the convolutions are frozen."""
  frozen, params = state_lib.divide(
    params, lambda path: not path.startswith('encoder/conv')
  )
  forward, optimiser = forward_of(graphdef), optax.adam(1e-5)

  def step(params, opt, frozen, wave):
    def loss(params):
      return jnp.square(forward(state_lib.join(params, frozen), wave)).mean()

    gradient = jax.grad(loss)(params)
    updates, opt = optimiser.update(gradient, opt, params)
    return optax.apply_updates(params, updates), opt

  step = jax.jit(step, donate_argnums=(0, 1))
  state = jax.tree.map(jnp.copy, params), optimiser.init(params)

  def run():
    nonlocal state
    state = jax.block_until_ready(step(*state, frozen, wave))

  return run


def load(package: str, sizes) -> None:
  """Prints what it takes to read weights of a file of transformers."""
  with tempfile.TemporaryDirectory() as folder:
    transformers_model(package, sizes).save_pretrained(folder)
    subprocess.run([sys.executable, '-c', LOAD, folder], check=True)


def transformers_model(package: str, sizes):
  """An encoder of transformers with random weights."""
  import transformers

  if package != 'transformers':
    raise SystemExit(f'--reference={package}: expected transformers')
  return transformers.Wav2Vec2Model(
    transformers.Wav2Vec2Config(
      hidden_size=sizes.width,
      num_hidden_layers=sizes.layers,
      num_attention_heads=sizes.heads,
      intermediate_size=sizes.inner,
      conv_dim=sizes.conv_channels,
      conv_kernel=sizes.conv_kernels,
      conv_stride=sizes.conv_strides,
      conv_bias=sizes.conv_bias,
      feat_extract_norm=sizes.conv_norm,
      do_stable_layer_norm=sizes.pre_norm,
      num_conv_pos_embeddings=sizes.position_taps,
      num_conv_pos_embedding_groups=sizes.position_groups,
    )
  ).eval()


def of_transformers(package: str, sizes, batch: int, options, kind: str):
  """A function that runs the encoder of transformers once, all states."""
  import torch

  model = transformers_model(package, sizes)
  wave = torch.randn(batch, options.samples) * 0.1
  model.freeze_feature_encoder()
  trained = [p for p in model.parameters() if p.requires_grad]
  optimiser = torch.optim.Adam(trained, lr=1e-5)

  def step():
    optimiser.zero_grad()
    found = model(wave, output_hidden_states=True)
    torch.cat(found.hidden_states, -1).square().mean().backward()
    optimiser.step()

  if kind == 'step':
    return step

  def run():
    with torch.inference_mode():
      model(wave, output_hidden_states=True)

  return run


def original(clone: str, sizes, batch: int, options, kind: str):
  """A function that runs the original encoder once."""
  import torch

  if kind != 'forward':
    raise SystemExit('--step: expected --reference=transformers')

  path = pathlib.Path(__file__).parents[1] / 'tools' / 'whisper_goldens.py'
  spec = importlib.util.spec_from_file_location('whisper_goldens', path)
  tool = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(tool)
  model, _ = tool.original(clone)
  frames = sizes.frames(options.samples)
  encoder = model.AudioEncoder(
    sizes.mels, frames, sizes.width, sizes.heads, sizes.layers
  ).eval()
  mel = torch.randn(batch, sizes.mels, 2 * frames)

  def run():
    with torch.inference_mode():
      encoder(mel)

  return run


if __name__ == '__main__':
  huge_pages.ensure()
  main()
