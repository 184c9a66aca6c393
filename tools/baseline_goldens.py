"""Golden outputs of the ASVspoof 2021 baselines, for tests of parity.

Needs PyTorch and a clone of https://github.com/asvspoof-challenge/2021. Three
calls that PyTorch has no more are stood in for here; torchaudio, which the code
imports and does not use, is not needed.

  python tools/baseline_goldens.py CLONE tests/goldens

Weights are drawn here, by name and shape, with numpy; the test draws the same
ones again, so that the files hold inputs and outputs alone.
"""

import argparse
import pathlib
import sys
import types
import zlib

import numpy as np

SEED = 2021
SMALL = {  # of RawNet2, whose own sizes are 17 million weights
  'first_conv': 64,
  'in_channels': 1,
  'filts': [6, [6, 6], [6, 8], [8, 8]],
  'nb_fc_node': 7,
  'gru_node': 10,
  'nb_gru_layer': 3,
  'nb_classes': 2,
}


def draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Weights of one array."""
  rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
  if name.endswith('running_var'):
    # What comes out of narrow filters is small.
    size = 1e-3 if name.startswith('first') else 1.0
    return (size * rng.uniform(0.5, 1.5, shape)).astype(np.float32)
  fan_in = int(np.prod(shape[1:])) or 1
  if len(shape) < 2:
    return rng.uniform(-0.1, 0.1, shape).astype(np.float32)
  return (rng.normal(0, 1.4, shape) / np.sqrt(fan_in)).astype(np.float32)


def wave(clips: int, samples: int) -> np.ndarray:
  """Noise with a tone, so that filters have something to tell apart."""
  rng = np.random.default_rng(SEED)
  time = np.arange(samples) / 16_000
  tones = rng.uniform(100, 3000, (clips, 1))
  noise = rng.normal(0, 0.05, (clips, samples))
  return (0.3 * np.sin(2 * np.pi * tones * time) + noise).astype(np.float32)


def fill(module, skip: tuple[str, ...] = ()) -> list[str]:
  """Gives a module drawn weights; returns 'name shape' of each."""
  import torch  # Here and not above: tests import `draw` without PyTorch.

  state, told = module.state_dict(), []
  for name, value in state.items():
    if name.endswith('num_batches_tracked') or name.startswith(skip):
      continue
    state[name] = torch.from_numpy(draw(name, tuple(value.shape)))
    told.append(f'{name} {" ".join(map(str, value.shape))}')
  module.load_state_dict(state)
  return told


def rawnet2(clone: pathlib.Path) -> dict[str, np.ndarray]:
  """Log-probabilities of the official RawNet2, at small sizes."""
  import torch

  sys.path.insert(0, str(clone / 'LA' / 'Baseline-RawNet2'))
  import model as official

  network = official.RawNet(SMALL, 'cpu').eval()
  told = fill(network)
  x = wave(3, 6_000)
  with torch.no_grad():
    y = network(torch.from_numpy(x))
    # Normalised by the batch, clips differ more.
    in_training = network.train()(torch.from_numpy(x))
  del sys.modules['model'], sys.path[0]
  return {
    'wave': x,
    'log_probabilities': y.numpy(),
    'in_training': in_training.numpy(),
    'weights': np.array(told),
  }


def lcnn(clone: pathlib.Path) -> dict[str, np.ndarray]:
  """Features and outputs of the official LFCC-LCNN."""
  import torch

  base = clone / 'LA' / 'Baseline-LFCC-LCNN'
  sys.path[:0] = [str(base), str(base / 'project' / 'baseline_LA')]
  sys.modules.setdefault('torchaudio', types.ModuleType('torchaudio'))
  transform = torch.stft

  def stft(*args, **options):  # as it was before complex numbers
    return torch.view_as_real(transform(*args, return_complex=True, **options))

  torch.stft = stft
  torch.rfft = lambda x, _, onesided: torch.view_as_real(torch.fft.fft(x))
  import model as official

  options = types.SimpleNamespace(optional_argument=['none'])
  network = official.Model(1, 1, None, options).eval()
  kept = ('input_', 'output_', 'm_frontend')
  told = fill(network, kept)
  x = wave(2, 9_000)
  with torch.no_grad():
    features = network.m_frontend[0](torch.from_numpy(x))
    y = network._compute_embedding(torch.from_numpy(x)[..., None], [])
  torch.stft = transform
  return {
    'wave': x,
    'features': features.numpy(),
    'output': y.numpy(),
    'weights': np.array(told),
  }


def main() -> None:
  """Writes both files."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('clone', type=pathlib.Path)
  parser.add_argument('folder', type=pathlib.Path)
  options = parser.parse_args()
  for make in (rawnet2, lcnn):
    path = options.folder / f'{make.__name__}.npz'
    np.savez_compressed(path, **make(options.clone))
    print(f'{path}: {path.stat().st_size:,} bytes')


if __name__ == '__main__':
  main()
