"""Writes `tests/goldens/distillmos.npz`: what convolutions of DistillMOS make.

    pip install --no-deps --target=FOLDER distillmos==0.9.1 xls-r-sqa==0.1.0
    python tools/distillmos_goldens.py FOLDER

needs PyTorch, which the project does not. The original code, in float64 with
weights of `tests.drawn`, is given a wave of 11 frames, `wave`; `layer1` to
`layer6` are the outputs of its convolutions, averaged over four bands and, but
for the sixth, over pairs of frames.
"""

import pathlib
import sys
import types

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parents[1]
OUT = ROOT / 'tests' / 'goldens' / 'distillmos.npz'
sys.path.insert(0, str(ROOT))

from tests.drawn import drawn  # noqa: E402

SAMPLES, BANDS = 1_800, 4


def main():
  """Computes all layers, and writes them."""
  sys.path.insert(0, sys.argv[1])
  sys.modules['torchaudio'] = types.ModuleType('torchaudio')  # not used here
  from distillmos import sqa

  cnn = sqa._ComplexSpecCNN(sqa.CNN_FINAL_CHANNELS, sqa.N_LAYERS_CNN).double()
  with torch.no_grad():
    for name, value in cnn.named_parameters():
      value.copy_(torch.from_numpy(drawn(f'cnn.{name}', tuple(value.shape))))
  time = np.arange(SAMPLES) / 16_000
  wave = 0.3 * np.sin(2 * np.pi * (300 + 9_000 * time) * time)
  wave += 0.1 * (drawn('wave', (SAMPLES,)) / np.sqrt(3) + 0.1)
  wave[700:1100] = 0  # digital silence
  h = torch.from_numpy(wave)[None]
  h = h / (h.abs().max(1, keepdim=True).values + 1e-8)
  found = {'wave': wave}
  with torch.no_grad():
    h = sqa._complex_compressed(h, cnn.hop_length, cnn.win_length)
    h = h.permute(0, 3, 1, 2)
    for number, layer in enumerate(cnn.cnn):
      h = layer(h)
      if number % 2:  # behind the leaky ReLU
        shape = BANDS, h.shape[3]
        pooled = torch.nn.functional.adaptive_avg_pool2d(h, shape)[0]
        if number < 11:
          pooled = pooled[:, :, : shape[1] // 2 * 2]
          pooled = pooled.unflatten(2, (-1, 2)).mean(-1)
        pooled = pooled.flatten(0, 1).T.numpy()
        found[f'layer{number // 2 + 1}'] = pooled.astype(np.float32)
  np.savez_compressed(OUT, **found)


if __name__ == '__main__':
  main()
