"""ECAPA-TDNN: parity with SpeechBrain, sizes, padding, importer, messages."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec as P

from jaxspoof.blocks import layers
from jaxspoof.models.ecapa_tdnn import (
  ECAPA_TDNN,
  ChannelDropout,
  TdnnConfig,
  frames_of,
)
from jaxspoof.tensors.torch_pickle import CheckpointError
from jaxspoof.training import sharding, state
from jaxspoof.weights import ecapa as importer

pytestmark = pytest.mark.usefixtures('programs')

# Small, but with every part: shortcut, groups, dilation, context.
SMALL = dict(
  input_size=6,
  lin_neurons=5,
  channels=(6, 12, 10),
  kernel_sizes=(5, 3, 1),
  dilations=(1, 3, 1),
  attention_channels=4,
  res2net_scale=3,
  se_channels=3,
  groups=(2, 3, 2),
)
# With several blocks, for what is not compiled.
DEEP = SMALL | dict(
  channels=(6, 6, 12, 10),
  kernel_sizes=(5, 3, 3, 1),
  dilations=(1, 2, 3, 1),
  groups=(2, 2, 3, 2),
)


@functools.cache
def small(**changes):
  """A model with statistics away from their initial values."""
  model = ECAPA_TDNN(**{**SMALL, **changes}, rngs=nnx.Rngs(0))
  rng = np.random.default_rng(0)

  def moved(x):
    return x * rng.uniform(0.8, 1.2, x.shape).astype(x.dtype)

  nnx.update(model, jax.tree.map(moved, nnx.state(model, nnx.BatchStat)))
  return model


@functools.partial(jax.jit, static_argnums=0)
def _score(graphdef, params, stats, x, lengths=None):
  return state.eval_view(state.merge(graphdef, params, stats))(x, lengths)


def evaluate(model, x, lengths=None):
  lengths = None if lengths is None else jnp.asarray(lengths, jnp.float32)
  return np.asarray(_score(*state.split(model), jnp.asarray(x), lengths))


@functools.partial(jax.jit, static_argnums=0)
def _train(graphdef, params, stats, x, lengths=None, seed=0):
  """Embeddings, gradients of a loss and statistics in training mode."""

  def loss(params):
    model = state.merge(graphdef, params, stats)
    y = model(x, lengths, nnx.Rngs(dropout=jax.random.key(seed)))
    weight = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
    return (weight * jnp.square(y - 1)).sum(), (y, state.batch_stats_of(model))

  (_, (y, new)), grads = jax.value_and_grad(loss, has_aux=True)(params)
  return y, grads, new


def train(model, x, lengths=None, seed=0):
  lengths = None if lengths is None else jnp.asarray(lengths, jnp.float32)
  return _train(*state.split(model), jnp.asarray(x), lengths, seed)


def features(batch=3, frames=20, size=6, seed=1):
  rng = np.random.default_rng(seed)
  return rng.normal(size=(batch, frames, size)).astype(np.float32)


# -- parity with SpeechBrain --------------------------------------------------


@pytest.fixture(scope='module')
def golden(reference):
  with np.load(reference / 'ecapa' / 'ecapa_small_golden.npz') as arrays:
    return dict(arrays)


@pytest.fixture(scope='module')
def tensors(golden):
  mark = 'state/'
  return {
    k.removeprefix(mark): v for k, v in golden.items() if k.startswith(mark)
  }


@pytest.fixture(scope='module')
def trained(golden, tensors):
  """One call in training mode: embeddings, statistics before and after."""
  graphdef, *trees = state.split(importer.load(tensors, padding='batch'))

  @jax.jit
  def call(trees, x, lengths):
    model = state.merge(graphdef, *trees)
    return model(x, lengths), state.batch_stats_of(model)

  y, after = call(trees, golden['x'], golden['lengths'])
  return np.asarray(y), trees[1], after


def test_training_mode(golden, trained):
  np.testing.assert_allclose(trained[0], golden['y_train_mode'], atol=1e-4)


def test_evaluation_mode(golden, tensors, trained):
  # The golden statistics were stored after the call in training mode, the
  # golden embeddings of evaluation mode made before it. After = 0.9 before +
  # 0.1 batch holds for both calls, theirs and ours of `trained`.
  _, stored, after = trained

  def undone(stored, after):
    batch = (after - 0.9 * stored) / 0.1
    return (stored - 0.1 * batch) / 0.9

  stats = jax.tree.map(undone, *jax.device_get((stored, after)))
  for padding in ('batch', 'clip'):
    graphdef, params, _ = state.split(importer.load(tensors, padding=padding))
    x, lengths = jnp.asarray(golden['x']), jnp.asarray(golden['lengths'])
    found = np.asarray(_score(graphdef, params, stats, x, lengths))
    if padding == 'batch':
      np.testing.assert_allclose(found, golden['y_lengths'], atol=1e-5)
      found = _score(graphdef, params, stats, x)
      np.testing.assert_allclose(found, golden['y'], atol=1e-5)
      continue
    # The longest clip has no padding; in the others the original lets it in.
    apart = np.abs(found - golden['y_lengths']).max((1, 2))
    assert apart[0] < 1e-5 and (apart[1:] > 1e-3).all()


def test_arguments_are_inferred(tensors):
  config = importer.load(tensors).config
  assert config == TdnnConfig(
    input_size=80,
    lin_neurons=24,
    channels=(32, 32, 32, 32, 96),
    attention_channels=16,
    se_channels=16,
  )
  flat = dict(nnx.to_flat_state(nnx.state(importer.load(tensors))))
  assert len(flat) == len(
    [k for k in tensors if not k.endswith('num_batches_tracked')]
  )


# -- sizes --------------------------------------------------------------------


def test_the_documented_example():
  model = nnx.eval_shape(
    lambda: ECAPA_TDNN(input_size=80, lin_neurons=192, rngs=nnx.Rngs(0))
  )
  x = jax.ShapeDtypeStruct((5, 120, 80), jnp.float32)
  graphdef, *trees = state.split(model)
  y = jax.eval_shape(
    lambda trees, x: state.merge(graphdef, *trees)(x), trees, x
  )
  assert y.shape == (5, 1, 192) and y.dtype == jnp.float32


# -- padding ------------------------------------------------------------------

FRAMES = (20, 13, 5)
LENGTHS = np.array(FRAMES, np.float32) / 20


@pytest.mark.parametrize('context, clips', [(True, (1, 2)), (False, (2,))])
def test_a_clip_alone_and_in_a_padded_batch(context, clips):
  model, x = small(global_context=context), features()
  together = evaluate(model, x, LENGTHS)
  for i in clips:
    frames = FRAMES[i]
    alone = evaluate(model, x[i : i + 1, :frames])
    np.testing.assert_allclose(together[i : i + 1], alone, atol=1e-5)
  x[1, 13:], x[2, 5:] = 1e3, np.nan
  np.testing.assert_array_equal(evaluate(model, x, LENGTHS), together)


def test_the_original_lets_padding_in():
  x = features()
  padded = x.copy()
  padded[2, 5:] = 0
  first, other = (
    evaluate(small(padding='batch'), v, LENGTHS) for v in (x, padded)
  )
  np.testing.assert_array_equal(first[:2], other[:2])
  assert np.abs(first[2] - other[2]).max() > 1e-3


def test_without_lengths_both_paddings_are_equal():
  x = features()
  wanted = evaluate(small(), x)
  np.testing.assert_array_equal(evaluate(small(padding='batch'), x), wanted)
  np.testing.assert_allclose(
    evaluate(small(), x, np.ones(3)), wanted, rtol=1e-5, atol=1e-6
  )


def test_training_does_not_see_padding():
  x = features()
  first = train(small(), x, LENGTHS)
  x[1, 13:], x[2, 5:] = 1e3, np.nan
  other = train(small(), x, LENGTHS)
  for a, b in zip(*map(jax.tree.leaves, (first, other)), strict=True):
    assert np.isfinite(a).all()
    np.testing.assert_array_equal(a, b)


def test_rows_without_frames_leave_the_others_alone():
  def embed(model, x, frames):
    graphdef, *trees = state.split(model)

    @jax.jit
    def run(trees, x, frames):
      return state.eval_view(state.merge(graphdef, *trees)).embed(x, frames)

    return np.asarray(run(trees, jnp.asarray(x), jnp.asarray(frames)))

  y = embed(small(), features(), np.array([20, 0, 5], np.int32))
  wanted = evaluate(small(), features(), LENGTHS)
  np.testing.assert_allclose(y[[0, 2]], wanted[[0, 2]], atol=1e-6)
  assert np.isfinite(y).all()


# -- training -----------------------------------------------------------------


def test_every_parameter_but_one_has_a_gradient():
  _, grads, new = train(small(), features(), LENGTHS)
  zero = [
    jax.tree_util.keystr(path, simple=True, separator='.')
    for path, grad in jax.tree_util.tree_leaves_with_path(grads)
    if not np.abs(np.asarray(grad)).max()
  ]
  # Softmax over time takes a bias that all frames share away again.
  assert zero == ['asp.conv.bias']
  before, new = jax.device_get((state.split(small())[2], new))
  moved = jax.tree.map(lambda a, b: bool((a != b).any()), before, new)
  assert all(jax.tree.leaves(moved))


def test_dropout_of_whole_channels():
  x, wanted = features(), train(small(), features(), LENGTHS)[0]
  lossy = small(dropout=0.3)
  dropped = [train(lossy, x, LENGTHS, seed)[0] for seed in (0, 0, 1)]
  np.testing.assert_array_equal(dropped[0], dropped[1])
  assert not np.allclose(dropped[0], dropped[2])
  assert not np.allclose(dropped[0], wanted)
  np.testing.assert_array_equal(
    evaluate(lossy, x, LENGTHS), evaluate(small(), x, LENGTHS)
  )
  graphdef, *trees = state.split(lossy)
  with pytest.raises(ValueError, match='rngs'):
    jax.eval_shape(lambda t: state.merge(graphdef, *t)(jnp.asarray(x)), trees)


def test_dropout_takes_channels_and_keeps_the_expectation():
  noise = layers.Noise.draw(nnx.Rngs(dropout=0), 4, 500)
  y = np.asarray(ChannelDropout(0.3)(jnp.ones((4, 3, 500)), noise))
  assert noise.left == 0
  assert (y == y[:, :1]).all() and set(np.unique(y)) == {0, np.float32(1 / 0.7)}
  assert y.mean() == pytest.approx(1, abs=0.05)


def test_activations():
  x, relu = features(), evaluate(small(), features(), LENGTHS)
  for function in (lambda x: jnp.maximum(x, 0), jax.nn.gelu):
    model = ECAPA_TDNN(**SMALL, activation=function, rngs=nnx.Rngs(0))
    nnx.update(model, nnx.state(small(), nnx.BatchStat))
    same = np.allclose(evaluate(model, x, LENGTHS), relu, atol=1e-6)
    assert same == (function is not jax.nn.gelu)
  assert TdnnConfig(input_size=6, activation='silu').function is jax.nn.silu


def test_bfloat16_is_close():
  x, wanted = features(), evaluate(small(), features(), LENGTHS)
  found = evaluate(small(dtype='bfloat16'), x, LENGTHS)
  assert found.dtype == np.float32 and not np.array_equal(found, wanted)
  np.testing.assert_allclose(found, wanted, atol=0.05)


def test_four_devices_equal_one():
  x, lengths = features(4), jnp.asarray([1, 0.5, 0.7, 0.3], jnp.float32)
  with jax.enable_x64(True):
    model = ECAPA_TDNN(
      **SMALL, dtype='float64', param_dtype='float64', rngs=nnx.Rngs(0)
    )
    graphdef, *trees = state.split(model)
    arrays = jnp.asarray(x, 'float64'), lengths.astype('float64')
    wanted = _train(graphdef, *trees, *arrays)
    placed = sharding.make(4)
    shared = jax.device_put(trees, placed.replicated)
    arrays = jax.device_put(arrays, placed.batch)
    assert arrays[0].sharding.spec == P('data')
    found = _train(graphdef, *shared, *arrays)
    for a, b in zip(*map(jax.tree.leaves, (found, wanted)), strict=True):
      np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-11)


# -- importer -----------------------------------------------------------------


def exported(model):
  """A state dictionary with SpeechBrain's names and axes."""
  flat = {
    '.'.join(map(str, k)): np.asarray(v[...])
    for k, v in nnx.to_flat_state(nnx.state(model))
  }
  old = {}
  for name, array in flat.items():
    parts = []
    for part in name.split('.'):
      if part.startswith('block'):
        part = f'blocks.{part.removeprefix("block")}'
      part = {'res2net': 'res2net_block', 'se': 'se_block'}.get(part, part)
      part = {'mean': 'running_mean', 'var': 'running_var'}.get(part, part)
      if part in ('scale', 'kernel'):
        part, array = 'weight', array.transpose()
      parts.append(part)
    wrapper = 'norm' if 'norm' in parts or 'asp_bn' in parts else 'conv'
    parts.insert(-1, wrapper)
    old['.'.join(parts)] = array
  return old


def test_any_arguments_can_be_imported():
  model = ECAPA_TDNN(**DEEP, rngs=nnx.Rngs(0))
  tensors = exported(model)
  assert 'blocks.2.res2net_block.blocks.1.conv.conv.weight' in tensors
  assert tensors['blocks.0.conv.conv.weight'].shape == (6, 3, 5)
  tensors['asp_bn.norm.num_batches_tracked'] = np.array(3)
  loaded = importer.load(tensors, dilations=DEEP['dilations'], input_size=6)
  assert loaded.config == model.config
  arrays = [
    jax.tree.leaves(nnx.to_pure_dict(nnx.state(m))) for m in (model, loaded)
  ]
  for a, b in zip(*arrays, strict=True):
    np.testing.assert_array_equal(a, b)
  prefixed = {f'module.{k}': v for k, v in tensors.items()}
  assert (
    importer.translate(prefixed).keys() == importer.translate(tensors).keys()
  )


def test_what_does_not_fit_is_listed():
  model = ECAPA_TDNN(**DEEP, rngs=nnx.Rngs(0))
  tensors = exported(model)
  options = dict(dilations=DEEP['dilations'], groups=DEEP['groups'])
  del tensors['mfa.norm.norm.bias']
  tensors['extra.weight'] = np.zeros(3, np.float32)
  tensors['fc.conv.bias'] = np.full(5, np.nan, np.float32)
  tensors['asp.conv.conv.bias'] = np.zeros(10, np.int32)
  name = 'blocks.2.se_block.conv1.conv.weight'
  tensors[name] = tensors[name][:2]
  with pytest.raises(CheckpointError) as error:
    importer.load(tensors, **options)
  head, *lines = str(error.value).splitlines()
  assert head == 'weights: weights of another model (5 differences)'
  assert sorted(lines) == [
    '  asp.conv.conv.bias: dtype int32, not floating point',
    f'  {name}: shape (2, 12, 1), the model has (3, 12, 1)',
    '  extra.weight: not a part of the model',
    '  fc.conv.bias: holds NaN or infinity',
    '  missing: mfa.norm.bias',
  ]
  with pytest.raises(CheckpointError, match='fc.conv.weight: shape'):
    importer.load(exported(model), **options, lin_neurons=7)
  with pytest.raises(CheckpointError, match='not the weights of an ECAPA'):
    importer.load({'weight': np.zeros((2, 2), np.float32)})


# -- messages -----------------------------------------------------------------


@pytest.mark.parametrize(
  'x, lengths, message',
  [
    ((2, 20, 7), None, 'got 7 features .* input_size=6'),
    ((20, 6), None, r'\[batch, frames, features\], got float32\[20, 6\]'),
    ((2, 3, 6), None, '3 frames are too short.*reflects 3 .* at least 4'),
    ((2, 20, 6), [1, 0.15], '3 frames are too short'),
    ((2, 20, 6), [1, 0.0], r'lengths=\[0.0\]: need values in \(0, 1\]'),
    ((2, 20, 6), [1.5, 1], r'lengths=\[1.5\]: need'),
    ((2, 20, 6), [1, np.nan], r'lengths=\[nan\]: need'),
    ((2, 20, 6), [1, 1, 1], r'lengths \[2\].*got float32\[3\]'),
  ],
)
def test_refused_input(x, lengths, message):
  if lengths is not None:
    lengths = jnp.asarray(lengths, jnp.float32)
  with pytest.raises(ValueError, match=message):
    state.eval_view(small())(jnp.zeros(x), lengths)


def test_refused_dtypes():
  model = state.eval_view(small())
  with pytest.raises(ValueError, match='floating-point features.*int32'):
    model(jnp.zeros((2, 20, 6), jnp.int32))
  with pytest.raises(ValueError, match='floating-point lengths.*int32'):
    model(jnp.zeros((2, 20, 6)), jnp.array([20, 13]))


def test_a_clip_too_short_to_be_reflected_is_the_originals_own():
  x, lengths = jnp.asarray(features(2)), jnp.asarray([1, 0.05], jnp.float32)
  y = jax.eval_shape(state.eval_view(small(padding='batch')), x, lengths)
  assert y.shape == (2, 1, 5)


@pytest.mark.parametrize(
  'name, value, message',
  [
    ('input_size', 0, 'above 0'),
    ('channels', (8, 10), 'at least 3 values'),
    ('channels', (6, 10, 10), 'divisible by res2net_scale=3'),
    ('kernel_sizes', (5, 3), '3 values, as channels has'),
    ('kernel_sizes', (4, 3, 1), 'odd sizes where the dilation is odd'),
    ('dilations', (1, 0, 1), 'numbers above 0'),
    ('groups', (4, 3, 2), r'divisors of .* \(6, 6\)'),
    ('res2net_scale', 1, 'above 1'),
    ('dropout', 1.0, 'a rate'),
    ('activation', 'rleu', 'relu.*tanh'),
    ('padding', 'zero', 'clip.*batch'),
    ('dtype', 'float16', 'bfloat16'),
    ('param_dtype', 'bfloat16', 'float64'),
  ],
)
def test_refused_arguments(name, value, message):
  with pytest.raises(ValueError, match=f'{name}=.*{message}'):
    ECAPA_TDNN(**(SMALL | {name: value}), rngs=nnx.Rngs(0))


@pytest.mark.parametrize('frames', [300, 401, 1000])
def test_relative_lengths_are_whole_frames(frames):
  """In float32 n / N * N can be more than n."""
  wanted = np.arange(1, frames + 1)
  lengths = (wanted / frames).astype(np.float32)
  found = frames_of(jnp.asarray(lengths), (frames, frames, 80))
  np.testing.assert_array_equal(found, wanted)
  shortest = frames_of(jnp.array([1e-7], jnp.float32), (1, frames, 80))
  np.testing.assert_array_equal(shortest, [1])
