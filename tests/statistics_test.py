"""The back end of mean and deviation over time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxspoof import frontends
from jaxspoof.models.statistics import Statistics, StatisticsConfig
from jaxspoof.system import SystemConfig
from jaxspoof.training import state


def made(**fields) -> Statistics:
  """On the three states of a tiny encoder."""
  frontend = frontends.WhisperConfig('random:miniature', output='all')
  module = SystemConfig(Statistics, StatisticsConfig(**fields), frontend).make(
    nnx.Rngs(0)
  )
  rng = np.random.default_rng(1)
  for name in ('mean', 'bias', 'var', 'scale'):
    variable = getattr(module.norm, name)
    values = rng.uniform(0.5, 2, variable.shape)
    variable.set_value(jax.device_put(np.float32(values)))
  return module


@pytest.mark.parametrize('states', [(), (1, 2), [2, 0]])  # as JSON has it
def test_the_embedding_is_what_numpy_makes(states):
  module = made(states=states, embedding=5)
  assert hash(module.config)
  count = module.frontend.config.states
  rng, frames = np.random.default_rng(2), [7, 4, 1]
  features = rng.normal(size=(3, 7, module.frontend.config.features))
  kept = features.reshape(3, 7, count, -1)[:, :, list(states or range(count))]
  wanted = []
  for clip, n in zip(kept.reshape(3, 7, -1), frames, strict=True):
    seen = np.concatenate([clip[:n].mean(0), np.sqrt(clip[:n].var(0) + 1e-6)])
    norm = module.norm
    mean, var, scale, bias = (
      np.asarray(v[...]) for v in (norm.mean, norm.var, norm.scale, norm.bias)
    )
    seen = (seen - mean) / np.sqrt(var + 1e-5) * scale + bias
    kernel, offset = (np.asarray(v[...]) for v in (
      module.hidden.kernel, module.hidden.bias
    ))  # fmt: skip
    wanted.append(np.maximum(seen @ kernel + offset, 0))
  view = state.eval_view(module)

  @jax.jit
  def encode(*arrays):
    found = view.encode(*arrays)
    assert found.seen is found.embedding
    return found.embedding

  features = features.astype(np.float32)
  found = encode(features, np.array(frames, np.int32))
  np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
  whole = np.asarray(encode(features[:1]))
  np.testing.assert_allclose(whole[0], wanted[0], rtol=1e-5, atol=1e-5)


def test_dropout_is_of_training_alone():
  module = made(embedding=64, dropout=0.5)
  features = jnp.ones((4, 3, module.frontend.config.features))
  features = features.at[:, 0].set(jnp.arange(4.0)[:, None])
  encoded = module.encode(features, rngs=nnx.Rngs(dropout=0))
  some = np.asarray(encoded.embedding) > 0
  gone = np.asarray(encoded.seen)[some] == 0
  assert 0.3 < gone.mean() < 0.7


@pytest.mark.parametrize(
  ('fields', 'said'),
  [
    ({'embedding': 0}, 'embedding=0: needs at least 1'),
    ({'dropout': 1.0}, r'dropout=1.0: needs a rate in \[0, 1\)'),
    ({'states': (0, 9)}, 'gives 3, so there is no number 9'),
    ({'states': (-1,)}, 'there is no number -1'),
  ],
)
def test_what_cannot_work_is_refused(fields, said):
  with pytest.raises(ValueError, match=said):
    made(**fields)
