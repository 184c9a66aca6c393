"""The released weights give the original's outputs, losses and gradients."""

import jax
import numpy as np
import pytest
from flax import nnx

from jaxspoof import state
from jaxspoof.importers import aasist

VARIANTS = {'aasist': 'AASIST', 'aasist_l': 'AASIST-L'}


@pytest.fixture(scope='module', params=sorted(VARIANTS))
def case(request, reference):
  """Waves, golden outputs and the model with the released weights."""
  name = VARIANTS[request.param]
  folder = reference / 'aasist'
  with np.load(folder / 'inputs.npz') as inputs:
    wave, label = inputs['x'], inputs['y']
  with np.load(folder / f'{name}_golden.npz') as file:
    golden = dict(file)
  model = aasist.load(folder / f'{name}.pth')
  return wave, label, golden, model


@jax.jit
def _evaluate(split, wave):
  model = state.eval_view(nnx.merge(*split))
  encoded = model.encode(wave)
  return {
    'logits': model(wave),
    'last_hidden': model.embed(wave),
    'encoder': encoded.transpose(0, 3, 1, 2),
    **dict(zip(('gat_S', 'gat_T'), model.attend(encoded), strict=True)),
  }


def _relative_error(got, wanted):
  got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
  return np.abs(got - wanted).max() / np.abs(wanted).max()


def test_evaluation_outputs(case):
  wave, _, golden, model = case
  got = _evaluate(nnx.split(model), wave)
  np.testing.assert_allclose(got['logits'], golden['logits'], rtol=0, atol=1e-4)
  for name in ('last_hidden', 'encoder', 'gat_S', 'gat_T'):
    assert got[name].shape == golden[name].shape
    assert _relative_error(got[name], golden[name]) < 1e-4, name


@pytest.mark.parametrize('samples', [16_000, 32_000, 96_000])
def test_logits_of_other_lengths(case, samples):
  wave, _, golden, model = case
  tiled = np.tile(wave, (1, 2))[:, :samples]
  got = _evaluate(nnx.split(model), tiled)['logits']
  wanted = golden[f'logits_len{samples}']
  np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4)
