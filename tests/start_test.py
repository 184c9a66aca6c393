"""Runs that start from weights: of the originals, and of runs."""

import jax
import numpy as np
import pytest
from flax import nnx

from jaxspoof import models
from jaxspoof.machine import files
from jaxspoof.runs import weights_file
from jaxspoof.tensors.torch_pickle import CheckpointError
from jaxspoof.training import state
from jaxspoof.weights import aasist, ecapa, start

SMALL = dict(
  channels=(8, 8, 8, 8, 12),
  res2net_scale=4,
  attention_channels=4,
  se_channels=4,
  lin_neurons=6,
)


def make(name, seed=0, head='cosine', classes=2, **changes):
  made = models.system({'name': name, **changes}, head=head, classes=classes)
  return made.make(nnx.Rngs(seed))


def arrays(module):
  _, params, stats = state.split(module)
  return {
    jax.tree_util.keystr(k): np.asarray(v)
    for k, v in jax.tree_util.tree_leaves_with_path([params, stats])
  }


def keep(module, workdir):
  workdir.mkdir()
  files.write_json(workdir / 'config.json', {'model': {}})
  _, params, stats = state.split(module)
  weights_file.save(workdir, params, stats)
  return str(workdir)


def test_a_run_of_another_head_gives_all_but_the_head(tmp_path):
  trained = make('ecapa_s', 1, **SMALL)
  path = keep(trained, tmp_path / 'run')
  new = make('ecapa_s', 2, **SMALL, classes=5)
  head = arrays(new.head)
  begun = start.start_from(new, path)
  found, expected = arrays(begun), arrays(trained)
  assert found.keys() == expected.keys()
  for name, value in arrays(begun.tdnn).items():
    np.testing.assert_array_equal(value, arrays(trained.tdnn)[name])
  assert arrays(begun.head).keys() == head.keys()
  for name, value in arrays(begun.head).items():
    np.testing.assert_array_equal(value, head[name])
  same = start.start_from(make('ecapa_s', 3, **SMALL), path)
  for name, value in arrays(same).items():
    np.testing.assert_array_equal(value, expected[name])


def test_speechbrains_weights_become_the_network(reference, tmp_path):
  golden = np.load(reference / 'ecapa' / 'ecapa_small_golden.npz')
  weights = {
    name.removeprefix('state/'): golden[name]
    for name in golden.files
    if name.startswith('state/')
  }
  model = make(
    'ecapa',
    channels=(32, 32, 32, 32, 96),
    attention_channels=16,
    se_channels=16,
    lin_neurons=24,
  )
  file = tmp_path / 'embedding_model.ckpt'
  file.touch()
  with pytest.MonkeyPatch.context() as patch:
    reader = start.ecapa_importer.torch_pickle
    patch.setattr(reader, 'load', lambda _: weights)
    begun = start.start_from(model, str(file))
  for name, value in arrays(ecapa.load(weights)).items():
    np.testing.assert_array_equal(arrays(begun.tdnn)[name], value)


@pytest.mark.parametrize('head', ['linear', 'cosine'])
def test_the_originals_weights_with_a_head_of_ones_own(reference, head):
  path = str(reference / 'aasist' / 'AASIST-L.pth')
  released = arrays(aasist.load(path))
  begun = start.start_from(make('aasist_l', head=head), path)
  assert isinstance(begun.output, nnx.Linear) == (head == 'linear')
  found = arrays(begun)
  for name, value in released.items():
    if head == 'linear' or 'output' not in name:
      np.testing.assert_array_equal(found[name], value)


def test_what_does_not_fit_is_said(tmp_path):
  path = keep(make('ecapa_s', 1, **SMALL), tmp_path / 'run')
  with pytest.raises(
    CheckpointError, match='another model, 7 weights .* tdnn.asp'
  ):
    start.start_from(
      make('ecapa_s', **{**SMALL, 'attention_channels': 8}),
      path,
    )
  with pytest.raises(CheckpointError, match='init=/no/such: nothing there; ex'):
    start.start_from(make('ecapa_s', **SMALL), '/no/such')
