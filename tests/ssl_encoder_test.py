"""Self-supervised encoders against the original code, number by number."""

import dataclasses
import functools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxspoof.frontends.ssl import names as ssl_names
from jaxspoof.frontends.ssl import parts
from jaxspoof.frontends.ssl import weights as ssl
from jaxspoof.frontends.ssl.architecture import ARCHITECTURES
from jaxspoof.frontends.ssl.encoder import Encoder
from jaxspoof.ops import conv1d, grouped, platform
from jaxspoof.tensors import files

MODELS = (
  'wav2vec2_group',
  'wav2vec2_layer',
  'hubert_group',
  'hubert_layer',
  'hubert_batch_norm',
  'wavlm_group',
  'wavlm_layer',
  'wavlm_few_buckets',
)
GOLDENS = pathlib.Path(__file__).parent / 'goldens'
pytestmark = pytest.mark.usefixtures('programs')


@functools.cache
def golden(folder):
  return dict(np.load(folder / 'golden.npz'))


def waves(folder, dtype=jnp.float32):
  return jnp.asarray(golden(folder)['pcm'] / 32768, dtype)


def states_of(encoder, wave, samples=None):
  """States of a call, compiled."""
  graphdef, arrays = nnx.split(encoder)

  @jax.jit
  def run(arrays, wave, samples):
    return nnx.merge(graphdef, arrays)(wave, samples, hidden=True)

  return run(arrays, wave, samples)


def error(got, wanted):
  """The largest difference, of numbers below 1 in numbers, else in shares."""
  got = np.asarray(got, np.float64)
  assert got.shape == wanted.shape
  return np.abs(got - wanted).max() / max(1, np.abs(wanted).max())


def wave_of(p, shape):
  """The fixed weights that the gradients of the golden data are of."""
  b, t, d = np.ix_(*map(np.arange, shape))
  return jnp.asarray(np.cos(b + 0.3 * t + 0.7 * d + p), jnp.float32)


@pytest.mark.parametrize('name', MODELS)
def test_states_and_gradients(reference, name):
  folder = reference / 'ssl' / name
  encoder, wanted = ssl.load(folder), golden(folder)
  graphdef, params, rest = nnx.split(encoder, nnx.Param, ...)

  @functools.partial(jax.grad, argnums=(0, 1), has_aux=True)
  def run(params, wave):
    model = nnx.merge(graphdef, params, rest)
    features, _ = model.convolve(wave)
    states = model(wave, hidden=True)
    total = (states.last * wave_of(0, states.last.shape)).sum()
    total += (states.hidden[1] * wave_of(1, states.last.shape)).sum()
    return total, (features, model.project(features), states)

  (of_params, of_wave), (features, projected, states) = jax.jit(run)(
    params, waves(folder)
  )
  assert error(features, wanted['features']) < 1e-5
  assert error(projected, wanted['projected']) < 1e-5
  assert error(states.hidden, wanted['hidden']) < 1e-5
  assert error(states.last, wanted['last']) < 1e-5

  def close(got, of):
    assert np.abs(got - of).max() < 5e-5 * max(1, np.abs(of).max())

  close(of_wave, wanted['grad_x'])
  flat = {'.'.join(k): v[...] for k, v in nnx.to_flat_state(of_params)}
  grads = {k: v for k, v in wanted.items() if k.startswith('grad/')}
  assert len(grads) >= 8
  for key, of in grads.items():
    ((ours, [(_, of)]),) = ssl_names.translate({key[5:]: of}).items()
    got = np.asarray(flat[ours])
    if ours.startswith('layers.'):
      got = got[int(key.split('.layers.')[1].split('.')[0])]
    close(got, of)


@pytest.mark.parametrize('name', [n for n in MODELS if n.endswith('_layer')])
def test_masks(reference, name):
  folder = reference / 'ssl' / name
  wanted, wave = golden(folder), waves(folder)
  samples = jnp.asarray(wanted['lengths'], jnp.int32)
  past = jnp.arange(wave.shape[1])[None] >= samples[:, None]
  encoder = ssl.load(folder)
  states = states_of(encoder, jnp.where(past, 0, wave), samples)
  np.testing.assert_array_equal(states.frames, wanted['frames'])
  for row, of, frames in zip(
    states.last, wanted['masked_last'], wanted['frames'], strict=True
  ):
    assert error(row[:frames], of[:frames]) < 1e-5


@pytest.mark.parametrize(
  'name', ['wav2vec2_group', 'hubert_layer', 'hubert_batch_norm', 'wavlm_group']
)
def test_a_padded_clip_has_the_states_that_it_has_alone(reference, name):
  # Also of models whose original lets padding into the norm over time.
  folder = reference / 'ssl' / name
  encoder, wave = ssl.load(folder), waves(folder)[:1]
  least = encoder.config.samples_needed(6)
  alone = states_of(encoder, wave[:, :least])
  padded = wave.at[:, least:].set(0.7)  # what lies there does not matter
  both = jnp.concatenate([wave, padded])
  samples = jnp.asarray([wave.shape[1], least], jnp.int32)
  states = states_of(encoder, both, samples)
  assert states.frames[1] == 6 == encoder.config.frames(least)
  assert encoder.config.frames(least - 1) == 5
  assert error(states.hidden[:, 1:, :6], np.asarray(alone.hidden)) < 1e-5
  assert error(states.last[1:, :6], np.asarray(alone.last)) < 1e-5


# Mistakes that the golden data must show, each with its smallest effect.
MISTAKES = {
  'approximate GELU': (
    'wavlm_group',
    lambda patch: patch.setattr(
      parts, 'gelu', functools.partial(jax.nn.gelu, approximate=True)
    ),
  ),
  'epsilon over time': (
    'wavlm_group',
    lambda patch: patch.setattr(parts, 'CONV_EPSILON', 1e-6),
  ),
  'epsilon of a norm': ('wavlm_layer', {'norm_epsilon': 1e-6}),
  'longest distance': ('wavlm_few_buckets', {'max_distance': 59}),
  'order of norms': ('hubert_layer', {'pre_norm': False}),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_mistakes_are_found(reference, monkeypatch, mistake):
  name, change = MISTAKES[mistake]
  folder = reference / 'ssl' / name
  architecture = ssl.describe(folder).architecture
  if callable(change):
    change(monkeypatch)
  else:
    architecture = dataclasses.replace(architecture, **change)
  states = states_of(ssl.load(folder, architecture), waves(folder))
  assert error(states.last, golden(folder)['last']) > 2e-5


@pytest.mark.parametrize(
  'name', ['wav2vec2_layer', 'hubert_group', 'wavlm_layer']
)
def test_bfloat16(reference, name):
  folder = reference / 'ssl' / name
  encoder = ssl.load(folder, dtype='bfloat16', param_dtype='bfloat16')
  states = states_of(encoder, waves(folder))
  wanted = golden(folder)
  assert states.hidden.dtype == states.last.dtype == jnp.float32
  for got, of in zip(
    [*states.hidden, states.last],
    [*wanted['hidden'], wanted['last']],
    strict=True,
  ):
    got, of = np.ravel(got), np.ravel(of)
    cosine = got @ of / np.sqrt((got @ got) * (of @ of))
    assert 0.999 < cosine < 1 - 1e-7  # it is another arithmetic


def test_old_names_are_the_same_weights(reference):
  new, old = (
    jax.tree.leaves(nnx.state(ssl.load(reference / 'ssl' / name)))
    for name in ('wav2vec2_group', 'wav2vec2_group_old_names')
  )
  for one, other in zip(new, old, strict=True):
    np.testing.assert_array_equal(one, other)


def test_depth_does_not_change_the_program():
  def size(layers):
    architecture = dataclasses.replace(ARCHITECTURES['tiny'], layers=layers)
    encoder = nnx.eval_shape(lambda: Encoder(architecture, nnx.Rngs(0)))
    graphdef, arrays = nnx.split(encoder)
    program = jax.make_jaxpr(lambda a, x: nnx.merge(graphdef, a)(x).last)
    return str(program(arrays, jnp.zeros((1, 800)))).count('dot_general')

  assert size(2) == size(48) > 5


def test_layers_computed_again_for_the_gradient():
  architecture = ARCHITECTURES['tiny']
  wave = jnp.asarray(np.random.default_rng(0).normal(size=(2, 1200)), 'float32')

  def gradients(remat):
    encoder = Encoder(architecture, nnx.Rngs(0), remat=remat)
    graphdef, arrays = nnx.split(encoder)
    grad = jax.grad(
      lambda a: jnp.square(nnx.merge(graphdef, a)(wave).last).sum()
    )
    return jax.jit(grad)(arrays), str(jax.make_jaxpr(grad)(arrays)).count(
      'remat'
    )

  (plain, none), (again, some) = gradients(False), gradients(True)
  assert none == 0 < some
  for one, other in zip(*map(jax.tree.leaves, (plain, again)), strict=True):
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('taps', [5, 8])
def test_gradient_of_the_grouped_convolution(taps):
  rng = np.random.default_rng(taps)
  x, kernel, dy = (
    jnp.asarray(rng.normal(size=shape), jnp.float32)
    for shape in ((2, 21, 12), (taps, 3, 16), (2, 22 - taps, 16))
  )

  def gradients(function):
    return jax.vjp(lambda x, k: function(x, k, groups=4), x, kernel)[1](dy)

  def ours(x, kernel, groups):
    return grouped.grouped_conv(x, kernel, groups)

  wanted = gradients(conv1d.plain)
  got = gradients(ours)
  with platform.accelerator_form():
    elsewhere = gradients(ours)
  for one, other, of in zip(got, elsewhere, wanted, strict=True):
    np.testing.assert_allclose(one, of, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(other, of, rtol=1e-6)


def test_weights_that_do_not_fit(reference, tmp_path):
  folder = reference / 'ssl' / 'wav2vec2_layer'
  architecture = ssl.describe(folder).architecture
  tensors, _ = ssl_names.encoder_part(files.open_weights(folder).tensors)
  tensors['encoder.layer_norm.bias'] = np.zeros(31, np.float32)
  tensors['feature_projection.layer_norm.bias'] = np.full(16, np.nan, 'float32')
  del tensors['encoder.layers.1.feed_forward.output_dense.bias']
  del tensors['encoder.layer_norm.weight']
  with pytest.raises(ValueError) as caught:
    ssl.of_tensors(tensors, architecture, 'x.bin')
  assert sorted(str(caught.value).splitlines()) == [
    '  encoder.layer_norm.bias: shape (31,), the model has (32,)',
    '  feature_projection.layer_norm.bias: holds NaN or infinity',
    '  layers.feed2.bias: of 1 layers, expected 2',
    '  missing: norm.scale',
    'x.bin: does not fit (4 differences)',
  ]


@pytest.mark.parametrize(
  'change, problem',
  [
    ({'model_type': 'bert'}, "model_type is 'bert', expected one of wav2vec2"),
    ({'hidden_act': 'relu'}, "hidden_act is 'relu'; only 'gelu'"),
    ({'add_adapter': True}, 'add_adapter is True; only False is built'),
    ({'num_attention_heads': 5}, 'width=32: needs a multiple of heads=5'),
    ({'conv_dim': [16]}, 'conv_kernels=.*: needs one for each'),
  ],
)
def test_models_that_are_not_built(reference, change, problem):
  config = files.read_json(reference / 'ssl/wav2vec2_layer/config.json')
  with pytest.raises(ValueError, match=f'x.json: {problem}'):
    ssl.of_config({**config, **change}, 'x.json')


@pytest.mark.parametrize('name', ['group_pre', 'layer_post'])
def test_switches_that_published_models_turn_together(name):
  # Also an odd kernel and another epsilon; made by tools/ssl_goldens.py.
  with np.load(GOLDENS / 'ssl_mixed.npz') as file:
    found = {k: file[k] for k in file.files if k.startswith(f'{name}/')}
  found = {k.partition('/')[2]: v for k, v in found.items()}
  architecture = ssl.of_config(json.loads(str(found['config'])), name)
  assert architecture.pre_norm == (architecture.conv_norm == 'group')
  prefix = 'tensors/'
  tensors, _ = ssl_names.encoder_part(
    {k.removeprefix(prefix): v for k, v in found.items() if prefix in k}
  )
  encoder = ssl.of_tensors(tensors, architecture, name)
  wave = jnp.asarray(found['pcm'] / 32768, jnp.float32)
  states = states_of(encoder, wave)
  assert error(states.hidden, found['hidden']) < 1e-5
  assert error(states.last, found['last']) < 1e-5
