"""LFCC-LCNN against the code of the ASVspoof 2021 baseline."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxspoof import frontends, models
from jaxspoof.training import state
from tests import baselines

pytestmark = pytest.mark.usefixtures('programs')

# Substitutions that turn the original's names into ours.
NAMES = (
  (
    r'^m_before_pooling\.0\.(\d)\.l_blstm\.(\w+)_l0_rev\w+',
    r'lstm\1.backward.\2',
  ),
  (r'^m_before_pooling\.0\.(\d)\.l_blstm\.(\w+)_l0$', r'lstm\1.forward.\2'),
)
# Places of the convolutions and of the normalisations in the original's list.
CONVOLUTIONS = (0, 3, 6, 10, 13, 16, 19, 22, 25)
NORMS = {5: 1, 9: 2, 12: 3, 18: 5, 21: 6, 24: 7}


def test_parity_with_the_baseline():
  golden = baselines.golden('lcnn')
  wave = jnp.asarray(golden['wave'])
  features, _ = frontends.make('lfcc_asvspoof2021')(wave)
  np.testing.assert_allclose(features, golden['features'], atol=2e-3)

  weights = baselines.renamed(golden, NAMES)
  for ours, theirs in enumerate(CONVOLUTIONS):
    for name in ('kernel', 'bias'):
      key = ('m_transform', '0', str(theirs), name)
      weights[f'conv{ours}', name] = weights.pop(key)
  for theirs, ours in NORMS.items():
    for name in ('mean', 'var'):
      value = weights.pop(('m_transform', '0', str(theirs), name))
      weights[f'norm{ours}', name] = value[None]
  # One sigmoid there is a softmax of two classes here.
  kernel, bias = (
    weights.pop(('m_output_act', '0', name)) for name in ('kernel', 'bias')
  )
  weights['head', 'kernel'] = np.concatenate([0 * kernel, kernel], 1)
  weights['head', 'bias'] = np.concatenate([0 * bias, bias])
  system = models.system({'name': 'lcnn'})
  model = state.eval_view(baselines.filled(system, weights))
  outputs = jax.jit(lambda wave: model(wave))(wave)
  assert np.ptp(golden['output']) > 1e-3
  found = outputs[:, 1:] - outputs[:, :1]
  np.testing.assert_allclose(found, golden['output'], rtol=1e-5)


@pytest.mark.parametrize('changes', [{}, {'width': 0.25}])
def test_gradients_and_stages(changes):
  system = models.system({'name': 'lcnn', **changes})
  baselines.check_gradients(system)
  stages = {'frontend', 'convolutions', 'lstm', 'head'}
  baselines.check_stages(system, stages)
