"""The two forms of each kernel in `jaxspoof/ops` on this device.

Each form is timed alone on AASIST's largest image (the first block, batch 24)
and beside the time that its reads and writes would take at the measured speed
of memory. What is marked * is what the models use on accelerators.
"""

import functools
import json

import common
import jax
import jax.numpy as jnp

from jaxspoof.frontends import sinc
from jaxspoof.ops import conv

PADDING = ((1, 1), (1, 1))  # of the first convolution of a block
INNER = ((0, 0), (1, 1))  # of the second


def main() -> None:
  """Measures and writes OUT/kernels.json."""
  options = common.arguments(__doc__)
  batch, frames, samples = (
    (2, 90, 400) if options.small else (24, 21_490, 64_600)
  )
  key = jax.random.key(0)

  def draw(*shape, dtype=jnp.bfloat16):
    return jax.random.normal(key, shape, jnp.float32).astype(dtype)

  image, kernel = draw(batch, 23, frames, 1), draw(2, 3, 1, 32)
  dy = draw(batch, 24, frames, 32)
  wide, square = draw(batch, 24, frames, 32), draw(2, 3, 32, 32)
  narrow = draw(batch, 23, frames, 32)
  wave = draw(batch, samples, dtype=jnp.float32)
  bank = jnp.asarray(sinc.mel_bank(70, 128)[:, :69])
  plain = functools.partial(conv._plain, padding=PADDING)
  inner = functools.partial(conv._plain, padding=INNER)

  cases = {
    'one channel, taps *': (
      functools.partial(conv._on_accelerators, padding=PADDING),
      (image, kernel),
    ),
    'one channel, library': (plain, (image, kernel)),
    'one channel, its kernel by sums *': (
      lambda x, dy: conv._weight_gradient_by_sums(x, dy, (2, 3), PADDING),
      (image, dy),
    ),
    'one channel, its kernel by products': (
      lambda x, dy: conv._weight_gradient_of_few(x, dy, (2, 3), PADDING),
      (image, dy),
    ),
    'one channel, its image by products *': (
      lambda dy, k: conv._input_gradient_of_few(dy, k, PADDING),
      (dy, kernel),
    ),
    'one channel, its image by library': (
      lambda dy, k: conv._input_gradient_xla(dy, k, PADDING),
      (dy, kernel),
    ),
    '32 channels, library *': (inner, (wide, square)),
    '32 channels, its kernel by library *': (
      lambda x, dy: jax.vjp(lambda k: inner(x, k), square)[1](dy)[0],
      (wide, narrow),
    ),
    '32 channels, its image by library *': (
      lambda dy, k: jax.vjp(lambda x: inner(x, k), wide)[1](dy)[0],
      (narrow, square),
    ),
    'sinc, product *': (
      lambda w, b: sinc.rectify_and_pool(sinc.filter_by_product(w, b), 3),
      (wave, bank),
    ),
    'sinc, library': (
      lambda w, b: sinc.rectify_and_pool(sinc.filter_by_convolution(w, b), 3),
      (wave, bank),
    ),
  }
  programs = {
    name: common.Program(jax.jit(function).lower(*args), args)
    for name, (function, args) in cases.items()
  }
  card = options.out / 'card.json'
  card = json.loads(card.read_text()) if card.exists() else {}
  found = {}
  for name, program in list(common.compiled(programs)):
    seconds = program.seconds(2 if options.small else 10)
    args = cases[name][1]
    moved = sum(x.nbytes for x in (*args, program()))
    floor = moved / 1e12 / card.get('copy_tb_per_s', float('nan'))
    found[name] = {'ms': 1e3 * seconds, 'floor_ms': 1e3 * floor}
    common.say(
      f'{name:38} {1e3 * seconds:8.3f} ms, memory alone {1e3 * floor:.3f} ms'
    )
    common.write(options.out, 'kernels', found)


if __name__ == '__main__':
  main()
