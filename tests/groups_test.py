"""Groups of parameters: learning rates, decay, and what is frozen."""

import json
import pathlib

import grain
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxspoof import arithmetic, losses, models, optim, overrides
from jaxspoof import config as config_lib
from jaxspoof.jobs import train
from jaxspoof.runs import weights_file, workdir
from jaxspoof.training import checkpoint, sharding, state, steps

pytestmark = pytest.mark.usefixtures('programs')

RUN = pathlib.Path(__file__).parent / 'goldens' / 'old_runs' / 'ecapa'
FROZEN = (('tdnn/.*', {'frozen': True}),)


@pytest.fixture(autouse=True)
def standard_promotion():
  """Optax multiplies by Python and integer scalars."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def job(groups, init=None):
  """Config, step, state of step 0 and batches of a tiny ECAPA-TDNN."""
  values = overrides.load('configs/ecapa_mfcc.py:smoke').to_dict()
  values['optim']['groups'] = groups
  values['init'] = init
  config = config_lib.run_config(values)
  loss = losses.make(config.loss)
  system = models.system(config.model, config.frontend, head=loss.head)
  placed = sharding.make(1)
  tx = optim.make(config.optim, 20)
  graphdef, first = train.make_state(config, system, tx, placed)
  step = steps.make_train_step(graphdef, tx, loss, 0, placed)
  rng = np.random.default_rng(0)
  batches = [
    {
      'wave': rng.uniform(-0.5, 0.5, (8, 4000)).astype(np.float32),
      'label': np.arange(8, dtype=np.int32) % 2,
    }
    for _ in range(4)
  ]
  batches = [sharding.put_batch(batch, placed) for batch in batches]
  return graphdef, step, first, batches


def position():
  """The least that a checkpoint keeps beside the state."""
  return iter(grain.MapDataset.source([0]).to_iter_dataset())


def test_groups_have_rates_and_decay_of_their_own():
  groups = (
    ['a/.*', {'learning_rate_factor': 0.1}],
    ['.*/bias', {'weight_decay': 0.0}],
    ['b/kernel', {'frozen': True}],
  )
  config = optim.OptimConfig(
    learning_rate=0.1, learning_rate_min=0.1, weight_decay=2.0, groups=groups
  )
  tx = optim.make(config, 10)
  params = {
    name: {'kernel': jnp.ones(1), 'bias': jnp.ones(1)} for name in 'abc'
  }
  optim.check_groups(config, params)
  params, frozen = state.divide(params, config.frozen)
  assert frozen == {'b': {'kernel': 1.0}} and 'kernel' not in params['b']
  # Gradient -1: with decay 2 the sum is 1, without it -1.
  grads = jax.tree.map(lambda x: -x, params)
  updates, _ = tx.update(grads, tx.init(params), params)
  expected = {
    'a': {'kernel': -0.01, 'bias': -0.01},
    'b': {'bias': 0.1},
    'c': {'kernel': -0.1, 'bias': 0.1},
  }
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), updates, expected
  )
  whole = state.join(params, frozen)
  assert list(whole) == ['a', 'b', 'c'] and set(whole['b']) == {
    'bias',
    'kernel',
  }


def test_frozen_arrays_have_no_gradient_and_no_optimiser_state():
  counted, held = {}, {}
  for name, groups in (('all', ()), ('head', FROZEN)):
    graphdef, step, first, batches = job(groups)
    counted[name] = arithmetic.count(step.__wrapped__, first, batches[0])
    held[name] = state.count_parameters(first.opt)
    if groups:
      head = first.params['head']
      before = jax.device_get(first.frozen)
      moments = 2 * state.count_parameters(first.params)
  assert held['head'] < moments + 20  # and counters
  assert held['all'] > 20 * held['head']
  # Of what is frozen the products of the forward pass are left.
  forward = arithmetic.count(
    lambda params, wave: state.merge(graphdef, params, first.batch_stats)(
      wave, rngs=steps.step_rngs(0, first.step)
    ),
    first.whole(),
    batches[0]['wave'],
  )
  for stage in ('blocks', 'mfa', 'pooling'):
    assert counted['head'][stage] == forward[stage]
    assert counted['all'][stage] > 2 * forward[stage]
  # The gradient of the head's vectors is left, that of the embedding is not.
  assert counted['head']['head'] * 3 == counted['all']['head'] * 2
  moved, _ = step(first, batches[0])
  assert set(moved.params) == {'head'} and head.keys() == {'weight'}
  jax.tree.map(np.testing.assert_array_equal, before, moved.frozen)


def test_the_checkpoint_of_the_lowest_dev_error_is_the_best(tmp_path):
  checkpoints = checkpoint.Checkpoints(tmp_path)
  kept, nothing = [], jnp.zeros((), jnp.int32)
  now = state.TrainState(nothing, {'a': nothing}, {}, (), {}, nothing)
  for step, error in enumerate((0.3, 0.1, 0.1, 0.2), 1):
    checkpoints.save(step, now, position(), error)
    checkpoints.wait()
    kept.append((checkpoints.latest(), checkpoints.best()))
  assert checkpoints.best(last=True) == (4, 0.2)
  checkpoints.close()
  # Of equal errors the latest; the last one stays as well, to go on from.
  assert kept == [(1, (1, 0.3)), (2, (2, 0.1)), (3, (3, 0.1)), (4, (3, 0.1))]


def test_a_run_with_frozen_groups_goes_on_bitwise(tmp_path):
  _, step, now, batches = job(FROZEN, str(RUN))
  workdir.keep_frozen(tmp_path, str(RUN), state.tree_hash(now.frozen), True)
  iterator = position()
  checkpoints = checkpoint.Checkpoints(tmp_path)
  for n, batch in enumerate(batches[:2], 1):
    now, _ = step(now, batch)
    checkpoints.save(n, now.replace(frozen={}), iterator, 0.5)
  for batch in batches[2:]:
    now, _ = step(now, batch)
  checkpoints.close()
  files = [f for f in (tmp_path / 'checkpoints').rglob('*') if f.is_file()]
  # Statistics of the network are kept, its kernels are not.
  texts = [file.read_bytes() for file in files]
  assert any(b'tdnn' in text for text in texts)
  assert not any(b'kernel' in text for text in texts)

  _, step, again, batches = job(FROZEN, str(RUN))
  workdir.keep_frozen(tmp_path, str(RUN), state.tree_hash(again.frozen), True)
  checkpoints = checkpoint.Checkpoints(tmp_path)
  again = train.restored(checkpoints, 2, again, True, position())
  for batch in batches[2:]:
    again, _ = step(again, batch)
  checkpoints.close()
  assert state.tree_hash(again) == state.tree_hash(now)

  # Weights are whole: nothing else is needed to detect with them.
  _, params, _ = weights_file.load(RUN)
  tdnn = again.whole()['tdnn']
  assert state.tree_hash(tdnn) == state.tree_hash(params['tdnn'])
  known = json.loads((tmp_path / 'frozen.json').read_text())
  assert known == {'init': str(RUN), 'sha256': state.tree_hash(now.frozen)}
  changed = jax.tree.map(lambda x: x + 1, now.frozen)
  with pytest.raises(ValueError, match='not those that .* began with'):
    workdir.keep_frozen(tmp_path, str(RUN), state.tree_hash(changed), True)


@pytest.mark.parametrize(
  ('groups', 'message'),
  [
    (
      (('tdn/.*', {}),),
      r"groups\[0\]: 'tdn/.\*' matches no par.*are head/.*tdnn",
    ),
    (
      (('.*', {}), ('tdnn/.*', {'frozen': True})),
      r"groups\[1\]: 'tdnn/.\*' matches only what groups before it match",
    ),
    ((('.*', {'frozen': True}),), 'freezes every parameter'),
    (
      ('tdnn/.*',),
      r"groups\[0\]='tdnn/.\*': expected a regular expression and",
    ),
    ((('tdnn/.*', {'froze': True}),), 'learning_rate_factor, weight_decay, fr'),
    ((('(', {}),), r'expected a regular expression .*unterminated'),
    ((('.*', {'learning_rate_factor': 0}),), 'above 0; use .*frozen'),
  ],
)
def test_groups_that_cannot_be_are_refused(groups, message):
  params = {'tdnn': {'kernel': 1}, 'head': {'weight': 1}}
  with pytest.raises(ValueError, match=message):
    optim.check_groups(optim.OptimConfig(groups=groups), params)
