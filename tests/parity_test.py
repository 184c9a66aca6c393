"""The released weights give the original's outputs, losses and gradients."""

import functools
import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxspoof.tensors import torch_pickle
from jaxspoof.training import state
from jaxspoof.weights import aasist

# Steps of training, by `tools/aasist_goldens.py`, on a second of each clip. The
# code of both is the same: the larger one takes no more than show its gradients
# and an update, the smaller all that are known.
GOLDENS = pathlib.Path(__file__).parent / 'goldens' / 'aasist_steps.npz'
SAMPLES = 16_000
STEPS = {'AASIST': 2, 'AASIST-L': 5}
# A step that is compiled in haste runs for four times as long, and one as for
# users compiles for almost twice as long as this.
IN_BETWEEN = {'xla_backend_optimization_level': 1}


class Case(NamedTuple):
  """Waves, labels, golden outputs, the model with the released weights."""

  wave: np.ndarray
  label: np.ndarray
  golden: dict[str, np.ndarray]  # of whole clips
  trained: dict[str, np.ndarray]  # of training on their beginnings
  model: nnx.Module


@functools.cache
def _case(reference, name):
  folder = reference / 'aasist'
  with np.load(folder / 'inputs.npz') as inputs:
    wave, label = inputs['x'], inputs['y']
  with np.load(folder / f'{name}_golden.npz') as file:
    golden = dict(file)
  with np.load(GOLDENS) as file:
    names = [key for key in file if key.startswith(f'{name} ')]
    trained = {key.removeprefix(f'{name} '): file[key] for key in names}
  rates = ('input', 'pool', 'way', 'output')
  model = aasist.load(
    folder / f'{name}.pth', **{f'{rate}_dropout': 0.0 for rate in rates}
  )
  return Case(wave, label, golden, trained, model)


@pytest.fixture(params=sorted(STEPS))
def name(request):
  return request.param


@pytest.fixture
def case(reference, name):
  return _case(reference, name)


@pytest.fixture(scope='module')
def old_names(reference):
  """The original's name of every array, by its name here."""
  tensors = torch_pickle.load(reference / 'aasist' / 'AASIST.pth')
  return {k: v.old for k, v in aasist.translate(tensors).items()}


def _outputs(split, wave):
  model = state.eval_view(nnx.merge(*split))
  encoded, embedding = model.image(wave), model.embed(wave)
  return {
    'logits': model.output(embedding),
    'last_hidden': embedding,
    'encoder': encoded.transpose(0, 3, 1, 2),
    **dict(zip(('gat_S', 'gat_T'), model.attend(encoded), strict=True)),
  }


def _logits(split, wave):
  return state.eval_view(nnx.merge(*split))(wave)


_evaluate = jax.jit(_outputs, compiler_options=IN_BETWEEN)
_score = jax.jit(_logits)


def _relative_error(got, wanted):
  got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
  return np.abs(got - wanted).max() / np.abs(wanted).max()


def test_evaluation_outputs(case):
  wave, _, golden, _, model = case
  got = _evaluate(nnx.split(model), wave)
  np.testing.assert_allclose(got['logits'], golden['logits'], rtol=0, atol=1e-4)
  for name in ('last_hidden', 'encoder', 'gat_S', 'gat_T'):
    assert got[name].shape == golden[name].shape
    assert _relative_error(got[name], golden[name]) < 1e-4, name


@pytest.mark.parametrize('samples', [16_000, 32_000, 96_000])
def test_logits_of_other_lengths(case, samples):
  """Of two of the five clips: the network does not see what is beside one."""
  wave, _, golden, _, model = case
  tiled = np.tile(wave[:2], (1, 2))[:, :samples]
  got = _score(nnx.split(model), tiled)
  wanted = golden[f'logits_len{samples}'][:2]
  np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-4)


# -- training ------------------------------------------------------------------


def _optimiser():
  """Adam of torch: its weight decay is added to the gradient."""
  return optax.chain(optax.add_decayed_weights(1e-4), optax.adam(1e-4))


@functools.partial(
  jax.jit,
  static_argnums=0,
  donate_argnums=(1, 2, 3),
  compiler_options=IN_BETWEEN,
)
def _step(graphdef, params, stats, opt, wave, label):
  def objective(params):
    model = state.merge(graphdef, params, stats)
    log_p = jax.nn.log_softmax(model(wave))
    chosen = jnp.take_along_axis(log_p, label[:, None], axis=1)[:, 0]
    weight = jnp.where(label == 1, 0.9, 0.1)
    loss = -(weight * chosen).sum() / weight.sum()
    return loss, state.batch_stats_of(model)

  (loss, stats), grads = jax.value_and_grad(objective, has_aux=True)(params)
  with jax.numpy_dtype_promotion('standard'):  # optax mixes int and float
    updates, opt = _optimiser().update(grads, opt, params)
  return optax.apply_updates(params, updates), stats, opt, loss, grads


@functools.cache
def _trained(reference, name):
  """Steps on the five clips: losses, first gradients, final state."""
  wave, label, *_, model = _case(reference, name)
  wave, losses, first = wave[:, :SAMPLES], [], None
  # Fresh copies, for the step gives its arguments away.
  graphdef, *trees = state.split(model)
  params, stats = jax.device_put(jax.tree.map(np.array, trees))
  opt = jax.jit(_optimiser().init)(params)
  for _ in range(STEPS[name]):
    params, stats, opt, loss, grads = _step(
      graphdef, params, stats, opt, wave, label.astype(np.int32)
    )
    losses.append(float(loss))
    first = first or jax.tree.map(np.asarray, grads)
  return losses, first, state.merge(graphdef, params, stats)


def _by_old_name(tree, old_names):
  """(Old name, array) of everything in a tree of arrays."""
  for path, array in jax.tree_util.tree_leaves_with_path(tree):
    name = jax.tree_util.keystr(path, simple=True, separator='.')
    for i, (slot, _) in enumerate(aasist.slots(name, array.shape)):
      part = array[i] if aasist.is_stacked(name) else array
      yield old_names[slot], np.asarray(part, np.float64)


def test_training_losses(reference, name, case):
  wanted = case.trained['train_losses']
  assert len(wanted) == 5 and (np.diff(wanted) < 0).all()
  losses, *_ = _trained(reference, name)
  assert len(losses) == STEPS[name]
  np.testing.assert_allclose(losses, wanted[: len(losses)], rtol=0.01, atol=0)
  # Before rounding has grown by the steps.
  np.testing.assert_allclose(losses[:2], wanted[:2], rtol=1e-3, atol=0)


def _gradient_is_zero(name):
  """A bias in front of BatchNorm: what is not zero there is rounding."""
  convolution = name.startswith('encoder') and name.endswith('conv1.bias')
  dense = ('proj_with_att.bias', 'proj_without_att.bias')
  return convolution or name.endswith(dense)


def test_first_gradients(reference, name, case, old_names):
  norms = case.trained['train_grad_norms']
  names = case.trained['train_grad_norm_names']
  wanted = dict(zip(names, norms, strict=True))
  _, grads, _ = _trained(reference, name)
  got = {k: np.linalg.norm(v) for k, v in _by_old_name(grads, old_names)}
  assert got.keys() == wanted.keys() and len(got) == 175
  for name, norm in wanted.items():
    if _gradient_is_zero(name):
      assert got[name] < 1e-4 * norms.max(), name
    else:
      # Below 1e-10 there are products of weights that decay made vanish.
      np.testing.assert_allclose(
        got[name], norm, rtol=0.01, atol=1e-10, err_msg=name
      )


def test_statistics_after_five_steps(reference, old_names):
  golden = _case(reference, 'AASIST-L').trained
  _, _, stats = state.split(_trained(reference, 'AASIST-L')[2])
  got = dict(_by_old_name(stats, old_names))
  names = [
    k.removeprefix('after5.') for k in golden if k.endswith(('_mean', '_var'))
  ]
  assert len(names) == 5
  for name in names:
    wanted = golden[f'after5.{name}']
    # Biases whose gradient is rounding noise move by up to 5e-4 in 5 steps
    # of Adam and carry the means with them.
    np.testing.assert_allclose(
      got[name], wanted, rtol=1e-3, atol=5e-4, err_msg=name
    )


def test_logits_after_five_steps(reference):
  case = _case(reference, 'AASIST-L')
  split = nnx.split(_trained(reference, 'AASIST-L')[2])
  # Two at a time, for which there is a program.
  pairs = [case.wave[n : n + 2, :SAMPLES] for n in (0, 2, 3)]
  first, second, third = (np.asarray(_score(split, pair)) for pair in pairs)
  logits = np.concatenate([first, second, third[1:]])
  wanted = case.trained['after5.logits_eval']
  np.testing.assert_allclose(logits, wanted, rtol=0.005, atol=0.005)
