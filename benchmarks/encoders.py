"""Speed of encoders as front ends, waves to states of all layers.

  python benchmarks/encoders.py
  python benchmarks/encoders.py --frontend=ssl --weights=random:wav2vec2_base
  python benchmarks/encoders.py --reference=DIR  DIR: a clone of openai/whisper

Random weights unless --weights says otherwise. With --reference the original
encoder of Whisper runs beside ours in alternating rounds, on log-mel energies
that are computed before; the table gives the ratio of the fastest rounds. Both
compute the frames of the clips alone. Needs `pip install -e .[torch-compare]`.
"""

import argparse
import importlib.util
import pathlib

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
  parser.add_argument('--reference', type=pathlib.Path)
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
    if options.reference:
      known = frontend.config.known
      runs['openai'] = original(options.reference, known, batch, options)
    seconds = timing.measure(runs, options.rounds)
    timing.report('forward', batch, macs, seconds, 'openai')


def original(clone: pathlib.Path, sizes, batch: int, options):
  """A function that runs the original encoder once."""
  import torch

  path = pathlib.Path(__file__).parents[1] / 'tools' / 'whisper_goldens.py'
  spec = importlib.util.spec_from_file_location('whisper_goldens', path)
  tool = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(tool)
  model, _ = tool.original(str(clone))
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
