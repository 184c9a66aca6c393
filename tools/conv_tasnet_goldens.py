"""Writes `tests/goldens/conv_tasnet.npz` and weights of tiny Conv-TasNets.

    pip download --no-deps torchaudio==2.11.0 asteroid==0.7.0
    pip download --no-deps asteroid-filterbanks==0.4.0
    unzip each into SOURCES
    python tools/conv_tasnet_goldens.py SOURCES

needs PyTorch, which the project does not. Random weights, computed by the
original code in float64 and stored as float32, the weights as files of each
toolkit, `conv_tasnet_NAME.pt`. Of each network `NAME/wave` [clips, samples] and
`NAME/out` [clips, sources, samples], and of those in GRADIENTS `NAME/grad/...`,
gradients of `sum(out * w)`, `w[t] = cos(0.3 t)`, with respect to the wave and
all parameters.
"""

import importlib.util
import pathlib
import sys
import types

import numpy as np
import torch

OUT = pathlib.Path(__file__).parents[1] / 'tests' / 'goldens'
SMALL = dict(
  n_blocks=3, n_repeats=2, bn_chan=6, hid_chan=8, n_filters=10, kernel_size=8,
  stride=4, sample_rate=16_000.0,
)  # fmt: skip
TORCHAUDIO = {
  'torchaudio': dict(num_sources=2, enc_kernel_size=8, msk_activate='sigmoid'),
  'torchaudio_odd': dict(num_sources=1, enc_kernel_size=7, msk_activate='relu'),
}
ASTEROID = {
  'asteroid': dict(SMALL, n_src=1, skip_chan=7, mask_act='relu'),
  'asteroid_causal': dict(
    SMALL, n_src=2, skip_chan=6, norm_type='cgLN', causal=True
  ),
  'asteroid_frame': dict(
    SMALL, n_src=1, skip_chan=0, norm_type='cLN', causal=True, stride=3,
    encoder_activation='relu', conv_kernel_size=2,
  ),
}  # fmt: skip
GRADIENTS = ('torchaudio', 'asteroid_causal')


def torchaudio_class(sources: pathlib.Path):
  """The class of one file, which needs nothing else of its package."""
  path = sources / 'torchaudio' / 'models' / 'conv_tasnet.py'
  spec = importlib.util.spec_from_file_location('conv_tasnet', path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.ConvTasNet


def asteroid_class(sources: pathlib.Path):
  """The class, without what its package imports besides."""
  sys.path.insert(0, str(sources))
  for name in ('asteroid', 'asteroid.models', 'asteroid.masknn'):
    package = types.ModuleType(name)
    package.__path__ = [str(sources / name.replace('.', '/'))]
    sys.modules[name] = package
  for name, members in (
    ('asteroid.separate', ()),
    ('asteroid.utils.hub_utils', ('cached_download', 'SR_HASHTABLE')),
  ):
    stub = types.ModuleType(name)
    for member in members:
      setattr(stub, member, None)
    sys.modules[name] = stub
  sys.modules['asteroid'].separate = sys.modules['asteroid.separate']
  convolutional = importlib.import_module('asteroid.masknn.convolutional')
  sys.modules['asteroid.masknn'].TDConvNet = convolutional.TDConvNet
  return importlib.import_module('asteroid.models.conv_tasnet').ConvTasNet


def main(sources: str):
  """Draws, computes and writes."""
  sources = pathlib.Path(sources)
  torchaudio, asteroid = torchaudio_class(sources), asteroid_class(sources)
  torch.manual_seed(0)
  small = dict(
    enc_num_feats=10, msk_num_feats=6, msk_num_hidden_feats=8,
    msk_num_layers=3, msk_num_stacks=2,
  )  # fmt: skip
  models = {
    name: torchaudio(**small, **more) for name, more in TORCHAUDIO.items()
  }
  models |= {name: asteroid(**more) for name, more in ASTEROID.items()}
  rng, found = np.random.default_rng(0), {}
  for number, (name, model) in enumerate(models.items()):
    with torch.no_grad():
      for parameter in model.parameters():
        parameter += 0.2 * torch.randn_like(parameter)
    saved = model.state_dict()
    if name in ASTEROID:
      saved = {
        'model_name': 'ConvTasNet',
        'state_dict': saved,
        'model_args': model.get_model_args(),
        'infos': {'software_versions': {'asteroid_version': '0.7.0'}},
      }
    torch.save(saved, OUT / f'conv_tasnet_{name}.pt')
    model = model.double()
    wave = rng.normal(0, 0.1, (2, 157 + number)).astype(np.float32)
    given = torch.from_numpy(wave).double()[:, None].requires_grad_()
    out = model(given)
    found |= {f'{name}/wave': wave, f'{name}/out': out}
    if name in GRADIENTS:
      weights = torch.cos(0.3 * torch.arange(wave.shape[1]).double())
      (out * weights).sum().backward()
      found[f'{name}/grad/wave'] = given.grad[:, 0]
      for key, parameter in model.named_parameters():
        if parameter.grad is not None:  # of asteroid's last residual
          found[f'{name}/grad/{key}'] = parameter.grad
  arrays = {
    k: v if isinstance(v, np.ndarray) else v.detach().numpy().astype('float32')
    for k, v in found.items()
  }
  np.savez_compressed(OUT / 'conv_tasnet.npz', **arrays)


if __name__ == '__main__':
  main(sys.argv[1])
