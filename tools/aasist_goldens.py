"""Five training steps of the original AASIST on short clips, for parity.

Needs PyTorch, a clone of https://github.com/clovaai/aasist and the folder of
its released weights and five clips, `aasist/` of the reference data:

  python tools/aasist_goldens.py CLONE ../shared/reference/aasist tests/goldens

The reference data hold the same of whole clips, whose steps take four times as
long. So that this is the code and the recipe that they were made with, their
losses are computed again first.
"""

import argparse
import json
import pathlib
import sys

import numpy as np

NAMES = ('AASIST', 'AASIST-L')
SAMPLES = 16_000  # of each clip


def network(clone: pathlib.Path, weights: pathlib.Path):
  """The official network without dropout, with released weights."""
  import torch

  sys.path.insert(0, str(clone))
  from models import AASIST as official

  config = json.loads((clone / f'config/{weights.stem}.conf').read_text())
  model = official.Model(config['model_config'])
  model.load_state_dict(torch.load(weights, map_location='cpu'))
  for part in model.modules():
    if isinstance(part, torch.nn.Dropout):
      part.p = 0.0
  return model


def train(model, wave: np.ndarray, label: np.ndarray) -> dict[str, np.ndarray]:
  """Trains five steps; fields are those of the reference data."""
  import torch

  wave, label = torch.from_numpy(wave), torch.from_numpy(label).long()
  loss_of = torch.nn.CrossEntropyLoss(torch.tensor([0.1, 0.9]))
  adam = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=1e-4)
  losses, norms = [], {}
  model.train()
  for _ in range(5):
    loss = loss_of(model(wave)[1], label)
    adam.zero_grad()
    loss.backward()
    losses.append(loss.item())
    norms = norms or {
      name: 0.0 if value.grad is None else value.grad.norm().item()
      for name, value in model.named_parameters()
    }
    adam.step()
  statistics = model.state_dict()
  model.eval()
  with torch.no_grad():
    logits = model(wave)[1].numpy()
  names = ['first_bn.running_mean', 'first_bn.running_var']
  names += [f'encoder.1.0.bn2.running_{kind}' for kind in ('mean', 'var')]
  names += ['GAT_layer_S.bn.running_var']
  return {
    'train_losses': np.array(losses),
    'train_grad_norm_names': np.array(list(norms)),
    'train_grad_norms': np.array(list(norms.values())),
    **{f'after5.{name}': statistics[name].numpy() for name in names},
    'after5.logits_eval': logits,
  }


def main() -> None:
  """Writes `aasist_steps.npz`."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('clone', type=pathlib.Path)
  parser.add_argument('reference', type=pathlib.Path)
  parser.add_argument('out', type=pathlib.Path)
  given = parser.parse_args()
  with np.load(given.reference / 'inputs.npz') as inputs:
    wave, label = inputs['x'], inputs['y']
  found = {}
  for name in NAMES:
    released = given.reference / f'{name}.pth'
    with np.load(given.reference / f'{name}_golden.npz') as golden:
      wanted = dict(golden)
    whole = train(network(given.clone, released), wave, label)
    for key in ('train_losses', 'train_grad_norms', 'after5.logits_eval'):
      np.testing.assert_allclose(
        whole[key], wanted[key], rtol=2e-3, atol=1e-9, err_msg=f'{name} {key}'
      )
    short = train(network(given.clone, released), wave[:, :SAMPLES], label)
    print(name, *short['train_losses'])
    found |= {f'{name} {key}': value for key, value in short.items()}
  np.savez_compressed(given.out / 'aasist_steps.npz', **found)


if __name__ == '__main__':
  main()
