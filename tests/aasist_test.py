"""The AASIST model: sizes, modes, lengths, dtypes, devices, layers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxspoof import models
from jaxspoof.blocks import layers
from jaxspoof.models import graph
from jaxspoof.models.aasist import Aasist, AasistConfig
from jaxspoof.ops import pool
from jaxspoof.training import state

# Small, but with every part: shortcuts, equal sizes, both graphs, branches.
SMALL = AasistConfig(
  sinc_filters=12, sinc_taps=16, channels=(4, 4, 6), gat_dims=(5, 3)
)
SAMPLES = 1600


@functools.cache
def _model(config=SMALL):
  """A model with statistics and biases away from their initial values."""
  model = Aasist(config, nnx.Rngs(0))
  rng = np.random.default_rng(0)
  stats = nnx.state(model, nnx.BatchStat)

  def moved(x):
    return x * rng.uniform(0.8, 1.2, x.shape).astype(x.dtype)

  nnx.update(model, jax.tree.map(moved, stats))
  return model


@functools.partial(
  jax.jit,
  static_argnums=0,
  compiler_options={'xla_backend_optimization_level': '0'},
)
def _score(graphdef, params, stats, wave):
  return state.eval_view(state.merge(graphdef, params, stats))(wave)


def _evaluate(model, wave):
  return np.asarray(_score(*state.split(model), jnp.asarray(wave)))


def _wave(batch=4, samples=SAMPLES, seed=1):
  rng = np.random.default_rng(seed)
  return rng.uniform(-0.5, 0.5, (batch, samples)).astype(np.float32)


# -- size ---------------------------------------------------------------------


def test_widths_that_the_papers_print_for_64600_samples():
  widths = (21490, 7163, 2387, 795, 265, 88, 29)
  for name in ('aasist', 'aasist_l'):
    assert models.variant(name)[0].frames(64_600) == widths


# -- names and configs --------------------------------------------------------


def test_unknown_variant():
  with pytest.raises(ValueError, match="'assist'.*aasist, aasist_l"):
    models.variant('assist')


def test_config_of_lists_is_hashable():
  listed = AasistConfig(channels=[32, 32, 64, 64, 64, 64], gat_dims=[64, 32])
  assert listed == AasistConfig() and hash(listed) == hash(AasistConfig())
  with pytest.raises(TypeError, match='chanels'):
    AasistConfig(chanels=(1, 2))


# -- calls --------------------------------------------------------------------


@pytest.mark.parametrize('over', [0, 1, 2, 30_000])
def test_any_length(over):
  config = SMALL
  samples = config.min_frames + over
  model = state.eval_view(_model())
  wave = jax.ShapeDtypeStruct((3, samples), jnp.float32)
  encoded = jax.eval_shape(model.image, wave)
  assert encoded.shape == (3, 4, config.frames(samples)[-1], 6)
  assert encoded.shape[2] >= 1
  assert jax.eval_shape(model.embed, wave).shape == (3, 15)
  logits = jax.eval_shape(model, wave)
  assert logits.shape == (3, 2) and logits.dtype == jnp.float32


def test_training_needs_rngs():
  graphdef, *trees = state.split(_model())

  def call(trees, wave):
    return state.merge(graphdef, *trees)(wave)

  with pytest.raises(ValueError, match='rngs'):
    jax.eval_shape(call, trees, jnp.asarray(_wave()))


def test_evaluation_treats_clips_one_by_one():
  wave = _wave()
  logits = _evaluate(_model(), wave)
  order = np.array([3, 0, 1, 2])
  np.testing.assert_allclose(
    _evaluate(_model(), wave[order]), logits[order], rtol=1e-5, atol=1e-6
  )
  wave[1:] = np.nan
  np.testing.assert_allclose(
    _evaluate(_model(), wave)[0], logits[0], rtol=1e-5, atol=1e-6
  )
  assert np.ptp(logits[:, 0]) > 0


def test_logits_of_the_shortest_wave_are_of_its_embedding():
  graphdef, *trees = state.split(_model())
  wave = jnp.asarray(_wave(2, SMALL.min_frames))

  @jax.jit
  def both(trees, wave):
    model = state.eval_view(state.merge(graphdef, *trees))
    return model.output(model.embed(wave)), model(wave)

  of_embedding, logits = both(trees, wave)
  assert np.isfinite(logits).all()
  np.testing.assert_allclose(of_embedding, logits, rtol=1e-5, atol=1e-6)


def test_a_jitted_function_may_close_over_an_evaluation_view():
  wave = jnp.asarray(_wave(2, SMALL.min_frames))
  for remat in (False, True):
    model = state.eval_view(_model(dataclasses.replace(SMALL, remat=remat)))
    logits = jax.eval_shape(lambda wave, model=model: model(wave), wave)
    assert logits.shape == (2, 2)


# -- training mode ------------------------------------------------------------


def _train_call(config, wave, seed=0):
  """Loss, gradients and statistics of one call in training mode."""
  graphdef, params, stats = state.split(_model(config))
  return _training(graphdef, params, stats, jnp.asarray(wave), seed)


# Compiling takes longer than running here; unoptimised, it is three times as
# fast.
@functools.partial(
  jax.jit,
  static_argnums=0,
  compiler_options={'xla_backend_optimization_level': '0'},
)
def _training(graphdef, params, stats, wave, seed):
  def loss(params):
    model = state.merge(graphdef, params, stats)
    key = jax.random.key(seed)
    logits = model(wave, rngs=nnx.Rngs(dropout=key, mask=key))
    # The batch's statistics normalise everything: a plain mean is flat.
    value = jnp.square(logits[:, 1] - logits[:, 0] - 1).mean()
    return value, state.batch_stats_of(model)

  (value, new_stats), grads = jax.value_and_grad(loss, has_aux=True)(params)
  return value, grads, new_stats


def test_dropout_and_statistics_change_with_the_mode():
  wave = _wave()
  one, _, stats = _train_call(SMALL, wave, 0)
  again, _, _ = _train_call(SMALL, wave, 0)
  other, _, _ = _train_call(SMALL, wave, 1)
  assert one == again and one != other
  before = state.split(_model())[2]
  moved = jax.tree.map(
    lambda a, b: bool((a != b).any()), *jax.device_get((before, stats))
  )
  unused = [f'block{i}' for i in (1, 2)]
  for name in unused:
    assert not any(moved['encoder'][name].pop('norm1').values())
  assert all(jax.tree.leaves(moved))


def test_every_parameter_that_is_read_has_a_gradient():
  config = dataclasses.replace(
    SMALL, frontend='learnable_sinc', freq_mask=True, freq_mask_limit=3
  )
  _, grads, _ = _train_call(config, _wave())
  zero = [
    jax.tree_util.keystr(path, simple=True, separator='.')
    for path, grad in jax.tree_util.tree_leaves_with_path(grads)
    if not np.abs(np.asarray(grad)).max()
  ]
  # What is never read, and biases that normalisation takes away again.
  unread = [f'block{i}.norm1.{n}' for i in (1, 2) for n in ('bias', 'scale')]
  cancelled = [f'block{i}.conv1.bias' for i in range(3)]
  assert sorted(zero) == sorted(f'encoder.{n}' for n in unread + cancelled)


def test_dropout_rates_reach_their_layers():
  model = Aasist(
    dataclasses.replace(
      SMALL,
      input_dropout=0.11,
      pool_dropout=0.12,
      way_dropout=0.13,
      output_dropout=0.14,
    ),
    nnx.Rngs(0),
  )
  modules = [module for _, module in nnx.iter_modules(model)]
  rates = [m.rate for m in modules if isinstance(m, layers.Dropout)]
  assert sorted(rates) == [0.11] * 4 + [0.12] * 4 + [0.13, 0.14]


@pytest.mark.parametrize('off', ['input', 'pool', 'way', 'output', 'all'])
def test_any_dropout_can_be_switched_off(off):
  # The model itself asserts that it uses as many numbers as it draws.
  names = ['input', 'pool', 'way', 'output'] if off == 'all' else [off]
  config = dataclasses.replace(SMALL, **{f'{n}_dropout': 0.0 for n in names})
  graphdef, *trees = state.split(_model(config))

  def call(trees, wave):
    rngs = None if off == 'all' else nnx.Rngs(dropout=0)
    return state.merge(graphdef, *trees)(wave, rngs=rngs)

  for samples in (SMALL.min_frames, 5000):
    wave = jax.ShapeDtypeStruct((3, samples), jnp.float32)
    assert jax.eval_shape(call, trees, wave).shape == (3, 2)


def test_dropout_keeps_the_expectation():
  noise = layers.Noise.draw(nnx.Rngs(dropout=0), 8, 20_000)
  x = jnp.asarray(_wave(8, 10_000)) + 3
  dropped = np.asarray(layers.Dropout(0.3)(x, noise))
  assert noise.left == 10_000
  kept = dropped != 0
  assert kept.mean() == pytest.approx(0.7, abs=0.01)
  np.testing.assert_allclose(dropped[kept], np.asarray(x / 0.7)[kept])
  again = np.asarray(layers.Dropout(0.3)(x, noise)) != 0
  assert (again == kept).mean() == pytest.approx(0.58, abs=0.01)


def _encoder_loss(params, graphdef, stats, wave, seed):
  model = state.merge(graphdef, params, stats)
  encoded = model.image(wave, nnx.Rngs(mask=jax.random.key(seed)))
  return jnp.square(encoded).mean(), state.batch_stats_of(model)


@functools.partial(jax.jit, static_argnums=0)
def _encoder_training(graphdef, params, *rest):
  loss = jax.value_and_grad(_encoder_loss, has_aux=True)
  return loss(params, graphdef, *rest)


def test_rematerialisation_changes_nothing():
  results, text = [], []
  for config in (SMALL, dataclasses.replace(SMALL, remat=True)):
    arguments = (*state.split(_model(config)), jnp.asarray(_wave(2)), 0)
    lowered = _encoder_training.lower(*arguments)
    text.append(lowered.as_text())
    results.append(lowered.compile()(*arguments[1:]))
  barriers = [t.count('optimization_barrier') for t in text]
  assert barriers[1] > barriers[0]
  for a, b in zip(*map(jax.tree.leaves, results), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_frequency_masking_in_training_only():
  config = dataclasses.replace(SMALL, freq_mask=True, freq_mask_limit=9)
  wave = jnp.asarray(_wave(2))
  graphdef, params, stats = state.split(_model(config))
  loss = jax.jit(_encoder_loss, static_argnums=1)
  losses = {
    float(loss(params, graphdef, stats, wave, seed)[0]) for seed in range(6)
  }
  assert len(losses) > 3
  _, params, stats = state.split(_model())
  np.testing.assert_array_equal(
    _score(graphdef, params, stats, wave), _evaluate(_model(), wave)
  )


def test_bfloat16_is_close():
  wave = _wave(4)
  config = dataclasses.replace(SMALL, dtype='bfloat16')
  _, params, stats = state.split(_model())
  graphdef, *_ = state.split(_model(config))
  logits = np.asarray(_score(graphdef, params, stats, jnp.asarray(wave)))
  wanted = _evaluate(_model(), wave)
  assert logits.dtype == np.float32
  assert not np.array_equal(logits, wanted)
  np.testing.assert_allclose(logits, wanted, rtol=0.05, atol=0.02)
  _, grads, new_stats = _train_call(config, wave)
  leaves = jax.tree.leaves((grads, new_stats))
  assert all(leaf.dtype == jnp.float32 for leaf in leaves)
  assert all(np.isfinite(leaf).all() for leaf in leaves)


# -- layers -------------------------------------------------------------------


def _reference_batch_norm(x, scale, bias, mean, var, momentum=0.1):
  axes = tuple(range(x.ndim - 1))
  count = x.size / x.shape[-1]
  m, v = x.mean(axes), x.var(axes)
  y = (x - m) / np.sqrt(v + 1e-5) * scale + bias
  mean = (1 - momentum) * mean + momentum * m
  var = (1 - momentum) * var + momentum * v * count / (count - 1)
  return y, mean, var


def test_batch_norm_is_that_of_torch():
  rng = np.random.default_rng(0)
  x = rng.normal(3, 2, (2, 3, 5, 4))
  with jax.enable_x64(True):
    norm = layers.BatchNorm(4, param_dtype='float64')
    arrays = rng.uniform(0.5, 2, (4, 4))
    for name, value in zip(
      ('scale', 'bias', 'mean', 'var'), arrays, strict=True
    ):
      getattr(norm, name).set_value(jnp.asarray(value))
    y, mean, var = _reference_batch_norm(x, *arrays)
    evaluated = nnx.view(norm, use_running_average=True)(jnp.asarray(x))
    wanted = (x - arrays[2]) / np.sqrt(arrays[3] + 1e-5)
    wanted = wanted * arrays[0] + arrays[1]
    np.testing.assert_allclose(evaluated, wanted, rtol=1e-12)
    np.testing.assert_allclose(norm(jnp.asarray(x)), y, rtol=1e-12)
    np.testing.assert_allclose(norm.mean[...], mean, rtol=1e-12)
    np.testing.assert_allclose(norm.var[...], var, rtol=1e-12)


def test_batch_norm_is_stable_far_from_zero():
  rng = np.random.default_rng(0)
  x = (1e4 + rng.normal(size=(4, 1000, 2))).astype(np.float32)
  mean, var = layers.moments(jnp.asarray(x))
  np.testing.assert_allclose(mean, x.astype(np.float64).mean((0, 1)), rtol=1e-6)
  np.testing.assert_allclose(var, x.astype(np.float64).var((0, 1)), rtol=1e-3)


def test_batch_norm_refuses_a_single_value():
  with pytest.raises(ValueError, match='larger batch'):
    layers.BatchNorm(3)(jnp.ones((1, 3)))


def test_initial_distribution():
  model = Aasist(models.variant('aasist')[0], nnx.Rngs(0))
  kernel = np.asarray(model.encoder.block4.conv1.kernel[...])
  bound = 1 / np.sqrt(2 * 3 * 64)
  assert kernel.min() == pytest.approx(-bound, rel=0.01)
  assert kernel.max() == pytest.approx(bound, rel=0.01)
  assert kernel.std() == pytest.approx(bound / np.sqrt(3), rel=0.02)
  dense = np.asarray(model.branches.attention1.pair.kernel[0])
  assert dense.std() == pytest.approx(1 / 8 / np.sqrt(3), rel=0.05)
  assert np.abs(np.asarray(model.output.bias[...])).max() < 1 / np.sqrt(160)
  score = np.asarray(model.attention_spectral.score[...])
  assert score.shape == (64, 1)
  assert score.std() == pytest.approx(np.sqrt(2 / 65), rel=0.3)
  assert np.asarray(model.position[...]).std() == pytest.approx(1, rel=0.1)
  for pair in (model.master, model.branches.attention2.pair.kernel):
    assert not np.array_equal(pair[0], pair[1])


def test_graph_pool_keeps_the_best_in_order():
  pool = graph.GraphPool(
    3, ratio=0.5, dropout=0.0, param_dtype='float32', rngs=nnx.Rngs(0)
  )
  pool.score.kernel.set_value(jnp.asarray([[1.0], [0.0], [0.0]]))
  pool.score.bias.set_value(jnp.zeros(1))
  h = np.array([[0.0, 2, 1], [3, 1, 1], [-1, 0, 5], [2, 2, 2], [2, 7, 7]])
  h = h[None].astype(np.float32)
  score = 1 / (1 + np.exp(-h[..., :1]))
  # Scores 3, then two equal ones of which the first in the list comes first.
  wanted = (h * score)[:, [1, 3]]
  np.testing.assert_allclose(pool(jnp.asarray(h)), wanted, rtol=1e-6)
  assert [graph.kept_nodes(29, 0.7), graph.kept_nodes(1, 0.4)] == [20, 1]
  kept = np.where([False, True, False, True, False], score[..., 0], 0)
  np.testing.assert_allclose(pool.kept(jnp.asarray(h)), kept, rtol=1e-6)


def test_attention_weights_by_a_loop():
  attention = graph.HeterogeneousAttention(
    4, 3, temperature=1.5, dropout=0.0, param_dtype='float32', rngs=nnx.Rngs(2)
  )
  h = np.random.default_rng(0).normal(size=(2, 5, 4)).astype(np.float32)
  got = attention._attention(jnp.asarray(h), 2)
  kernel, bias = (
    np.asarray(v[...]) for v in (attention.pair.kernel, attention.pair.bias)
  )
  scores = [
    np.asarray(v[...])[:, 0]
    for v in (
      attention.score_temporal,
      attention.score_mixed,
      attention.score_spectral,
    )
  ]
  for b in range(2):
    for i in range(5):
      row = [
        np.tanh((h[b, i] * h[b, j]) @ kernel + bias)
        @ scores[int(i >= 2) + int(j >= 2)]
        / 1.5
        for j in range(5)
      ]
      weights = np.exp(row) / np.exp(row).sum()
      np.testing.assert_allclose(got[b, i], weights, rtol=1e-5)


def test_max_pool_drops_the_rest():
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 8, 2)))
  x = x.astype(jnp.float32)
  got = pool.max_pool_time(x, 3)
  wanted = np.stack([x[:, :, 0:3].max(2), x[:, :, 3:6].max(2)], axis=2)
  np.testing.assert_array_equal(got, wanted)


def test_max_pool_of_images():
  rng = np.random.default_rng(0)
  x = rng.normal(size=(2, 7, 8, 3)).astype(np.float32)
  weight = rng.normal(size=(2, 2, 2, 3)).astype(np.float32)
  plain = lambda x: x[:, :6, :6].reshape(2, 2, 3, 2, 3, 3).max((2, 4))
  ours = lambda x: pool.max_pool_image(x, 3)
  np.testing.assert_array_equal(jax.jit(ours)(x), plain(x))
  np.testing.assert_array_equal(jax.jit(ours)(x[..., 0]), plain(x)[..., 0])
  found, wanted = (
    jax.jit(jax.grad(lambda x, f=f: (weight * f(x)).sum()))(x)
    for f in (ours, plain)
  )
  np.testing.assert_array_equal(found, wanted)
