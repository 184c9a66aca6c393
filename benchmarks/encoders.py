"""Speed of encoders as front ends, waves to states of all layers.

  python benchmarks/encoders.py
  python benchmarks/encoders.py --frontend=ssl --weights=random:wav2vec2_base
  python benchmarks/encoders.py --reference=DIR  DIR: a clone of openai/whisper
  python benchmarks/encoders.py --frontend=ssl --weights=random:xlsr_300m \
    --reference=transformers

Random weights unless --weights says otherwise. With --reference another
implementation runs beside ours in alternating rounds; the table gives the ratio
of the fastest rounds. The original encoder of Whisper is given log-mel energies
that are computed before; both compute the frames of the clips alone.
`transformers` is that package, for wav2vec 2.0 with random weights of the same
sizes. Needs `pip install -e .[torch-compare]`. `compile` is the first call of a
program without a cache.
"""

import argparse
import importlib.util
import pathlib
import time

import jax
import jax.numpy as jnp
import numpy as np
import timing
from flax import nnx

from jaxspoof import arithmetic, frontends
from jaxspoof.machine import huge_pages
from jaxspoof.system import parameters


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
  parser.add_argument('--rounds', type=int, default=10)
  options = parser.parse_args()
  frontend = frontends.make(
    options.frontend, weights=options.weights, output='all', rngs=nnx.Rngs(0)
  )
  graphdef, arrays = nnx.split(frontend)
  run = jax.jit(lambda arrays, wave: nnx.merge(graphdef, arrays)(wave)[0])
  clip = jax.ShapeDtypeStruct((1, options.samples), jnp.float32)
  macs = arithmetic.total(run, arrays, clip)
  what = (
    f'{options.frontend} {options.weights}, {parameters(frontend):,} '
    f'parameters, {options.samples} samples'
  )
  print(timing.heading(what, macs, options.rounds, bool(options.reference)))
  for batch in options.forward:
    wave = np.random.default_rng(0).normal(0, 0.1, (batch, options.samples))
    wave = jnp.asarray(wave, jnp.float32)
    runs = {'jaxspoof': lambda wave=wave: run(arrays, wave).block_until_ready()}
    other = 'transformers' if options.frontend == 'ssl' else 'openai'
    if options.reference:
      known = frontend.config.known
      make = of_transformers if other == 'transformers' else original
      runs[other] = make(options.reference, known, batch, options)
    begin = time.perf_counter()
    runs['jaxspoof']()
    compiled = time.perf_counter() - begin
    seconds = timing.measure(runs, options.rounds)
    timing.report('forward', batch, macs, seconds, other)
    print(f'compile of batch {batch}: {compiled:.1f} s', flush=True)


def of_transformers(package: str, sizes, batch: int, options):
  """A function that runs the encoder of transformers once, all states."""
  import torch
  import transformers

  if package != 'transformers':
    raise SystemExit(f'--reference={package}: expected transformers')
  model = transformers.Wav2Vec2Model(
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
  wave = torch.randn(batch, options.samples) * 0.1

  def run():
    with torch.inference_mode():
      model(wave, output_hidden_states=True)

  return run


def original(clone: str, sizes, batch: int, options):
  """A function that runs the original encoder once."""
  import torch

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
