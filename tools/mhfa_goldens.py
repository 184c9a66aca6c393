"""Writes `tests/goldens/mhfa.npz`: the back end MHFA with random weights.

    git clone https://github.com/zlin0/wedefense
    python tools/mhfa_goldens.py wedefense

needs PyTorch, which the project does not. The original's `apply_cmvn` and
`SSL_BACKEND_MHFA` in float64; `grad/...` are of `sum(embedding * cos(index))`.
"""

import importlib.util
import pathlib
import sys

import numpy as np
import torch

OUT = pathlib.Path(__file__).parents[1] / 'tests' / 'goldens' / 'mhfa.npz'


def main(clone: str):
  """Draws, computes and writes."""
  path = pathlib.Path(clone) / 'wedefense/models/ssl_backend/MHFA.py'
  spec = importlib.util.spec_from_file_location('mhfa', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  torch.manual_seed(0)
  model = module.SSL_BACKEND_MHFA(
    head_nb=3, feat_dim=16, compression_dim=6, embed_dim=5, nb_layer=3
  )
  with torch.no_grad():
    for parameter in model.parameters():
      parameter += 0.5 * torch.randn_like(parameter)
  found = {f'weights/{k}': v for k, v in model.state_dict().items()}
  model.double()
  states = torch.randn(2, 16, 11, 3, dtype=torch.float64)  # B, D, T, layers
  found['states'] = states.permute(0, 2, 3, 1).float()
  embedding = model(states - states.mean(1, keepdim=True))  # `apply_cmvn`
  index = torch.arange(embedding.numel()).reshape(embedding.shape)
  (embedding * torch.cos(index.double())).sum().backward()
  found['embedding'] = embedding
  found |= {f'grad/{k}': v.grad for k, v in model.named_parameters()}
  arrays = {k: v.detach().numpy().astype('float32') for k, v in found.items()}
  np.savez_compressed(OUT, **arrays)


if __name__ == '__main__':
  main(sys.argv[1])
