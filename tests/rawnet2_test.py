"""RawNet2 against the code of the ASVspoof 2021 baseline."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxspoof import models
from jaxspoof.training import state
from tests import baselines

pytestmark = pytest.mark.usefixtures('programs')

# Substitutions that turn the original's names into ours, in this order.
NAMES = (
  (r'^first_bn\.', 'first_norm.'),
  (r'^block(\d)\.0\.', r'block\1.'),
  (r'^fc_attention(\d)\.0\.', r'block\1.gate.'),
  (r'\.conv_downsample\.', '.shortcut.'),
  (r'\.bn(\d)\.', r'.norm\1.'),
  (r'^bn_before_gru\.', 'last_norm.'),
  (r'^gru\.(\w+)_l(\d)$', r'gru\2.\1'),
  (r'^fc1_gru\.', 'dense.'),
  (r'^fc2_gru\.', 'head.'),
)


def test_parity_with_the_baseline():
  golden = baselines.golden('rawnet2')
  system = models.system(
    {
      'name': 'rawnet2',
      'sinc_filters': 6,
      'sinc_taps': 64,
      'channels': [6, 6, 8, 8, 8, 8],
      'gru_nodes': 10,
      'embedding': 7,
    }
  )
  weights = baselines.renamed(golden, NAMES)
  model = baselines.filled(system, weights)
  graphdef, *trees = state.split(model)

  @jax.jit
  def both(trees, wave):
    model = state.merge(graphdef, *trees)
    outputs = state.eval_view(model)(wave), model(wave)
    return tuple(map(jax.nn.log_softmax, outputs))

  seen, trained = both(trees, jnp.asarray(golden['wave']))
  assert np.ptp(golden['in_training'][:, 0]) > 1e-2
  np.testing.assert_allclose(trained, golden['in_training'], atol=1e-4)
  np.testing.assert_allclose(seen, golden['log_probabilities'], atol=1e-6)


@pytest.mark.parametrize(
  'changes', [{}, {'channels': [4, 6], 'gru_nodes': 5, 'gru_layers': 1}]
)
def test_gradients_and_stages(changes):
  system = models.system({'name': 'rawnet2', **changes})
  baselines.check_gradients(system)
  baselines.check_stages(system, {'sinc', 'blocks', 'gru', 'head'})
