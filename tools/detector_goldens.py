"""Writes `tests/goldens/detectors.npz`: what released detectors say.

    python tools/detector_goldens.py REFERENCE --df_arena=FOLDER ...

needs PyTorch and einops, which the project does not. REFERENCE is the folder
with `wav2vec2_layer`, an encoder with the states that it makes of two waves;
the original back ends are given these states, and weights of `tests.drawn`, and
say their outputs, float64. Of each that is not named what the file holds stays.

  --df_arena=FOLDER   a snapshot of huggingface.co/Speech-Arena-2025/
                      DF_Arena_1B_V_1, with backbone.py and conformer.py
  --spectra=CLONE     of github.com/MattyB95/Jabberjay, which holds model.py of
                      huggingface.co/lab260/spectra_0 and Spectra-AASIST
  --wedefense=CLONE   of github.com/zlin0/wedefense
  --deepfense=FOLDER  the package deepfense 0.2.2 of PyPI, in which models is:
                      pip install --no-deps --target=X deepfense; X/deepfense
"""

import argparse
import importlib
import json
import pathlib
import sys
import types

import numpy as np
import torch
from torch import nn

ROOT = pathlib.Path(__file__).resolve().parents[1]
OUT = ROOT / 'tests' / 'goldens' / 'detectors.npz'
sys.path.insert(0, str(ROOT))

from tests.drawn import drawn  # noqa: E402


def main():
  """Computes what is asked for, and writes all."""
  parser = argparse.ArgumentParser()
  parser.add_argument('reference', type=pathlib.Path)
  parser.add_argument('--df_arena', type=pathlib.Path)
  parser.add_argument('--spectra', type=pathlib.Path)
  parser.add_argument('--wedefense', type=pathlib.Path)
  parser.add_argument('--deepfense', type=pathlib.Path)
  given = parser.parse_args()
  golden = np.load(given.reference / 'wav2vec2_layer' / 'golden.npz')
  # As transformers 4 gives them: the last one behind the final norm.
  states = [*golden['hidden'][:-1], golden['last']]
  states = [torch.from_numpy(x).double() for x in states]
  found = dict(np.load(OUT)) if OUT.exists() else {}
  makers = {
    'df_arena': df_arena,
    'spectra': spectra('Spectra0'),
    'spectra_aasist': spectra('SpectraAASIST'),
    'wedefense': wedefense,
    'deepfense_aasist': deepfense('AASIST'),
    'deepfense_mlp': deepfense('MLP'),
    'deepfense_nes2net': deepfense('Nes2Net'),
    'deepfense_tcm': deepfense('TCM'),
  }
  for name, make in makers.items():
    if (place := getattr(given, PLACES.get(name, name))) is not None:
      model, run = make(place, states)
      fill(model, GAINS.get(name, 1.0))
      with torch.no_grad():
        found[f'{name}/outputs'] = run().numpy()
      shapes = {k: list(v.shape) for k, v in model.state_dict().items()}
      found[f'{name}/shapes'] = np.array(json.dumps(shapes))
      found[f'{name}/gain'] = np.array(GAINS.get(name, 1.0))
  np.savez_compressed(OUT, **found)


# Of whose code there are several.
PLACES = {
  'spectra_aasist': 'spectra',
  **{f'deepfense_{b}': 'deepfense' for b in 'aasist mlp nes2net tcm'.split()},
}


# Of all weights but scales, where nodes of graphs would else be alike.
GAINS = {'spectra_aasist': 0.7}


def fill(model: nn.Module, gain: float):
  """Gives a model its weights."""
  model.double().eval()
  values = model.state_dict()
  for name, value in values.items():
    if value.is_floating_point() and not name.endswith('positional_emb'):
      values[name] = torch.from_numpy(drawn(name, tuple(value.shape), gain))
  model.load_state_dict(values)


class States:
  """Stands for what `Wav2Vec2Model` returns."""

  def __init__(self, states):
    self.hidden_states, self.last_hidden_state = states, states[-1]


def stub(name: str, **contents):
  """A module that is imported and not needed."""
  module = types.ModuleType(name)
  for key, value in contents.items():
    setattr(module, key, value)
  sys.modules[name] = module


def df_arena(folder: pathlib.Path, states):
  """The whole forward pass of its backbone, with a small conformer."""
  stub('transformers', Wav2Vec2Model=None, Wav2Vec2Config=None)
  sys.path.insert(0, str(folder.resolve().parent))
  package = importlib.import_module(f'{folder.resolve().name}.backbone')
  conformer = importlib.import_module(f'{folder.resolve().name}.conformer')
  width = states[0].shape[-1]

  class Model(nn.Module):
    """As `modeling_antispoofing.py` wraps it."""

    def __init__(self):
      super().__init__()
      self.backbone = package.DF_Arena_1B.__new__(package.DF_Arena_1B)
      nn.Module.__init__(self.backbone)
      made = self.backbone
      made.first_bn, made.selu = nn.BatchNorm2d(1), nn.SELU(inplace=True)
      made.fc0, made.sig = nn.Linear(width, 1), nn.Sigmoid()
      made.attn_scores = nn.Linear(width, 1, bias=False)
      made.conformer = conformer.FinalConformer(
        emb_size=width,
        heads=4,
        ffmult=2,
        exp_fac=1,
        kernel_size=5,
        n_encoders=2,
      )

  model = Model()

  def run():
    outputs = []
    for i in range(len(states[0])):  # it takes one wave at a time
      own = States([state[i : i + 1] for state in states])
      object.__setattr__(model.backbone, 'ssl_model', lambda _, own=own: own)
      outputs.append(model.backbone(torch.zeros(1)))
    return torch.cat(outputs)

  return model, run


def spectra(kind: str):
  """A whole detector of this name; of Spectra-0 with few channels."""

  def make(clone: pathlib.Path, states):
    class Encoder(nn.Module):
      def __init__(self, *_, **__):
        super().__init__()

      def forward(self, x):
        del x
        return states[-1]

    stub('transformers', Wav2Vec2Model=None)
    stub('torchaudio')
    stub('huggingface_hub', PyTorchModelHubMixin=object)
    place = clone / 'src' / 'Jabberjay'
    for name in ('Jabberjay', 'Jabberjay.Models'):
      stub(name, __path__=[str(place)])
      place = place / 'Models'
    module = importlib.import_module(f'Jabberjay.Models.{kind}.model')
    module.Wav2Vec2Encoder = Encoder
    if kind == 'Spectra0':
      model = module.Spectra0Model()
      model.ecapa_tdnn = module.ECAPA_TDNN(16)
    else:
      model = module.SpectraAASIST()
    width = states[0].shape[-1]
    model.bridge = module.MLPBridge(width, 128, hidden_dim=128)
    return model, lambda: model(torch.zeros(2, 1))

  return make


def wedefense(clone: pathlib.Path, states):
  """Its MHFA and projection, on states that are as long as s3prl makes them."""
  for name in ('wedefense', 'wedefense.models', 'wedefense.dataset'):
    stub(name, __path__=[str(clone / name.replace('.', '/'))])
  module = importlib.import_module('wedefense.models.ssl_backend.MHFA')
  projections = importlib.import_module('wedefense.models.projections')
  cmvn = importlib.import_module('wedefense.dataset.dataset_utils').apply_cmvn
  model = module.SSL_BACKEND_MHFA(
    head_nb=3,
    feat_dim=states[0].shape[-1],
    compression_dim=6,
    embed_dim=5,
    nb_layer=len(states),
  )
  projection = projections.get_projection(
    {'project_type': 'softmax', 'embed_dim': 5, 'num_class': 2}
  )
  model.add_module('projection', projection)

  def run():
    features = torch.stack(states).permute(1, 3, 2, 0)  # B, D, T, layers
    # `S3PRLUpstream._match_length`, of clips whose hops are one more.
    features = torch.cat([features, features[:, :, -1:]], 2)
    return model.projection(model(cmvn(features)), None)

  return model, run


def deepfense(kind: str):
  """A whole detector of DeepFense, but for the encoder."""

  def make(folder: pathlib.Path, states):
    for name in ('', '.models', '.models.backends', '.models.losses'):
      place = folder / name[1:].replace('.', '/')
      stub(f'deepfense{name}', __path__=[str(place)])
    detector = importlib.import_module('deepfense.models.detector')
    importlib.import_module(f'deepfense.models.backends.{kind.lower()}')
    importlib.import_module('deepfense.models.losses.cross_entropy')

    class Encoder(nn.Module):
      def forward(self, x, mask=None):
        del x, mask
        return states[-1]

    detector.build_frontend = lambda *_: Encoder()
    width = states[-1].shape[-1]
    size = {'AASIST': 160, 'TCM': 128}.get(kind, width)
    loss = {'type': 'CrossEntropy', 'embedding_dim': size, 'n_classes': 2}
    args = {'input_dim': width}
    if kind == 'Nes2Net':
      args |= {'nes_ratio': [4, 2], 'se_ratio': 4}
    model = detector.ModularDetector(
      {
        'frontend': {'type': 'wav2vec2'},
        'backend': {'type': kind, 'args': args},
        'loss': [loss],
      }
    )
    if kind == 'AASIST':  # whose layer is made for one width
      model.backend.LL = nn.Linear(width, 128)
    return model, lambda: model(torch.zeros(2, 1))['logits']

  return make


if __name__ == '__main__':
  main()
