"""A planted task on a cell of a search space: one operation can solve it.

Bona fide signs come back after eight samples, spoofed ones come back turned
round, and nearer samples tell nothing. Of all operations of `raw`,
`dil_conv_5` alone sees two samples that are eight apart.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxspoof import losses
from jaxspoof.blocks import layers
from jaxspoof.darts.network import cell, relaxation
from jaxspoof.darts.network.supernet import CellArch, SupernetConfig
from jaxspoof.darts.search import architecture
from jaxspoof.darts.search import state as search_state
from jaxspoof.darts.search import steps as search_steps
from jaxspoof.darts.spaces import space
from jaxspoof.darts.spaces.genotype import discretise
from jaxspoof.training import sharding

RAW = space('raw')
NECESSARY = 'dil_conv_5'
LAG, SAMPLES, BATCH, CHANNELS = 8, 64, 24, 6


class OneCell(nnx.Module):
  """A cell of one node, as supernets have them, between input and output."""

  def __init__(self, rngs):
    config = SupernetConfig(space='raw', nodes=1, edge_normalisation=True)
    self.normal = CellArch(RAW, config, rngs)
    self.cell = cell.Cell(
      RAW,
      relaxation.all_edges(RAW, 1),
      (2,),
      cell.CellSpec((1, 1), CHANNELS, reduction=False, halve=False),
      affine=False,
      pool_norm=True,
      rngs=rngs,
    )
    self.last = layers.linear(CHANNELS, 2, param_dtype='float32', rngs=rngs)

  def __call__(self, wave_BxT, rngs=None, temperature=1.0, gumbel=False):
    weights = relaxation.operation_weights(self.normal.alpha[...], temperature)
    edges = relaxation.edge_weights(self.normal.beta[...], 1)
    mix = relaxation.mix(RAW, 1, weights, edges)
    image = wave_BxT[:, None, :, None]
    h_BxHxWxC = jax.nn.relu(self.cell(image, image, mix))
    return self.last(h_BxHxWxC.mean((1, 2)))


def signs_that_come_back(rng):
  """A batch of signs, nine of ten of them told by the one `LAG` before."""
  label = rng.integers(0, 2, BATCH).astype(np.int32)
  wave = rng.choice([-1.0, 1.0], (BATCH, SAMPLES))
  for t in range(LAG, SAMPLES):
    told = rng.random(BATCH) < 0.9
    before = wave[:, t - LAG] * (2 * label - 1)
    wave[:, t] = np.where(told, before, wave[:, t])
  return {'wave': wave.astype(np.float32), 'label': label}


@pytest.mark.usefixtures('programs')
@pytest.mark.parametrize('order', ['first', 'exact'])
def test_the_only_operation_that_sees_it_is_chosen(order):
  shardings = sharding.make(1)
  w_tx = optax.adam(1e-2, eps_root=1e-12)
  a_tx = optax.adam(5e-2, b1=0.5)
  graphdef, state = search_state.make(
    OneCell(nnx.Rngs(0)), shardings, w_tx=w_tx, a_tx=a_tx
  )
  levels = search_steps.Levels(
    graphdef=graphdef,
    loss=losses.CrossEntropy(),
    cost=lambda arch: jnp.zeros(()),
    temperature=lambda step: jnp.ones(()),
    w_tx=w_tx,
    a_tx=a_tx,
    order=order,
  )
  arch_step = search_steps.make_arch_step(levels, shardings)
  weight_step = search_steps.make_weight_step(levels, shardings)

  def leaders():
    rows = architecture.leading(state.arch, RAW.operations)['normal']
    return [(operation, share) for _, _, operation, share, _ in rows]

  assert all(operation != NECESSARY for operation, _ in leaders())
  rng = np.random.default_rng(0)
  with jax.numpy_dtype_promotion('standard'):  # Optax multiplies by integers
    for _ in range(60):
      train, valid = (
        sharding.put_batch(signs_that_come_back(rng), shardings)
        for _ in range(2)
      )
      state, found = arch_step(state, train, valid)
      state, _ = weight_step(state, train)
  assert found['loss'] < 0.3 and found['entropy'] < 0.7
  assert max(share for _, share in leaders()) > 0.6
  arch = jax.device_get(state.arch['normal'])
  genotype = discretise(RAW, {'normal': arch, 'reduce': arch})
  assert [operation for operation, _ in genotype.normal] == [NECESSARY] * 2
