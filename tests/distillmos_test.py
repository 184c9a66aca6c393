"""The front end of DistillMOS: parity with the original, padding, refusals."""

import functools
import pathlib

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from jaxspoof import frontends, models
from jaxspoof.frontends import distillmos
from jaxspoof.tensors import packages
from jaxspoof.tensors.unpickler import CheckpointError
from jaxspoof.weights import __main__ as command
from tests.drawn import drawn

GOLDEN = np.load(pathlib.Path(__file__).parent / 'goldens' / 'distillmos.npz')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
  """A file with weights of the names and sizes of the package's."""
  tensors, inputs = {}, 2
  for number, outputs in enumerate(distillmos.CHANNELS):
    name = f'cnn.cnn.{2 * number}'
    kernel = f'{name}.weight'
    tensors[kernel] = drawn(kernel, (outputs, inputs, 3, 3))
    tensors[f'{name}.bias'] = drawn(f'{name}.bias', (outputs,))
    inputs = outputs
  tensors['transformer_pool_attn.pool.linear3.bias'] = np.zeros(1, np.float32)
  path = tmp_path_factory.mktemp('distillmos') / 'weights.safetensors'
  safetensors.numpy.save_file(tensors, path)
  return path


def made(**fields):
  fields = {'weights': 'random:miniature', **fields}
  return frontends.make('distillmos', rngs=nnx.Rngs(0), **fields)


def compiled(frontend):
  """Its call as one program: each of its operations alone is one as well."""
  graphdef, weights = nnx.split(frontend)
  call = jax.jit(lambda weights, *of: nnx.merge(graphdef, weights)(*of))
  return functools.partial(call, weights)


@pytest.mark.parametrize('layer', range(1, 7))
def test_equals_the_original(weights, layer):
  frontend = made(weights=str(weights), layer=layer)
  wave = GOLDEN['wave'].astype(np.float32)[None]
  features, frames = compiled(frontend)(wave)
  expected = GOLDEN[f'layer{layer}'][: len(features[0])]
  assert expected.shape == features.shape[1:] == (5, frontend.config.features)
  assert frames == 5
  scale = np.abs(expected).max()
  np.testing.assert_allclose(features[0], expected, rtol=0, atol=3e-6 * scale)


@pytest.mark.parametrize('layer', [4, 6])
def test_a_padded_clip_has_what_it_has_alone(layer):
  frontend = made(layer=layer)
  rng = np.random.default_rng(0)
  lengths = np.array([3_200, 1_999, 320], np.int32)
  waves = rng.uniform(-1, 1, (3, 3_500)).astype(np.float32)
  for wave, length in zip(waves, lengths, strict=True):
    wave[length:] *= 3  # what lies behind a clip is louder, and does not matter
  call = compiled(frontend)
  features, frames = jax.device_get(call(waves, lengths))
  assert frames.tolist() == [10, 6, 1]
  for wave, length, found, count in zip(
    waves, lengths, features, frames, strict=True
  ):
    alone, alone_frames = call(wave[None, :length])
    assert alone_frames == count == frontend.config.frames(length)
    np.testing.assert_allclose(found[:count], alone[0], atol=2e-6)
    assert not found[count:].any()


def test_level_does_not_count_and_silence_is_finite():
  call = compiled(made())
  rng = np.random.default_rng(0)
  wave = rng.uniform(-1, 1, (1, 1_600)).astype(np.float32)
  loud, _ = call(wave)
  soft, _ = call(wave * np.float32(0.01))
  np.testing.assert_allclose(soft, loud, atol=1e-5)

  @jax.jit
  @jax.value_and_grad
  def total(wave):
    return call(wave)[0].sum()

  in_part = wave.copy()
  in_part[0, 200:1_000] = 0
  for silent in (np.zeros_like(wave), in_part):
    value, gradient = total(silent)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()


def test_averaging_over_bands():
  # Of 19 bins, as adaptive pooling of PyTorch has them.
  found = distillmos._bands(19, 4)
  assert [np.flatnonzero(column).tolist() for column in found.T] == [
    [0, 1, 2, 3, 4],
    [4, 5, 6, 7, 8, 9],
    [9, 10, 11, 12, 13, 14],
    [14, 15, 16, 17, 18],
  ]
  np.testing.assert_allclose(found.sum(0), 1)


def test_all_that_it_holds_are_weights():
  graphdef, params, rest = nnx.split(made(), nnx.Param, ...)
  assert not jax.tree.leaves(rest) and len(jax.tree.leaves(params)) == 8


def test_sizes():
  assert [
    frontends.DistillMosConfig(layer=layer).bins for layer in range(1, 7)
  ] == [159, 79, 39, 19, 9, 4]
  config = frontends.DistillMosConfig(weights='random:distillmos')
  assert (config.features, config.hop_length) == (1024, 320)
  for samples in (319, 320, 16_000, 16_319):
    frames = config.frames(samples)
    assert frames == samples // 320
    assert config.samples_needed(frames) <= samples


@pytest.mark.parametrize(
  ('fields', 'message'),
  [
    ({'weights': ''}, 'needs config.frontend.weights: package:distillmos'),
    ({'layer': 7}, 'layer=7: needs 1 to 6'),
    ({'layer': 5, 'bands': 10}, 'bands=10: convolution 5 has 9 bins'),
    ({'channels': (1, 2)}, 'needs 6 numbers'),
    ({'param_dtype': 'int8'}, "param_dtype='int8': needs one of"),
    ({'weights': 'package:whisper-tiny.en'}, 'no such package; known: distill'),
    ({'weights': '/nowhere'}, '/nowhere: nothing there'),
    ({'split': 1}, "'distillmos' has no split"),
  ],
)
def test_refuses(fields, message):
  section = {'name': 'distillmos', 'weights': 'random:miniature', **fields}
  with pytest.raises(ValueError, match=message):
    models.system({'name': 'statistics'}, section).make(nnx.Rngs(0))


def test_refuses_other_weights(tmp_path, weights):
  other = tmp_path / 'other.safetensors'
  safetensors.numpy.save_file({'a': np.zeros(3, np.float32)}, other)
  with pytest.raises(CheckpointError, match='no DistillMOS: it has no cnn.cnn'):
    made(weights=str(other))
  problem = r'cnn.cnn.2.weight: shape \(64, 64, 3, 3\), the model has \(32'
  with pytest.raises(CheckpointError, match=problem):
    made(weights=str(weights), channels=(64, 32, 128, 256, 256, 256))


def test_the_command_says_what_weights_are(weights, tmp_path, capsys):
  assert command.main([str(weights)]) == 0
  said = capsys.readouterr().out
  assert 'DistillMOS, of 64, 64, 128, 256, 256, 256 channels' in said
  assert f'frontend.name=distillmos --config.frontend.weights={weights}' in said
  cut = tmp_path / 'cut.safetensors'
  tensors = safetensors.numpy.load_file(weights)
  del tensors['cnn.cnn.4.bias']
  safetensors.numpy.save_file(tensors, cut)
  assert command.main([str(cut)]) == 2
  assert 'no DistillMOS: it has no cnn.cnn.4.bias' in capsys.readouterr().err


def test_the_package_that_pip_installs():
  try:
    packages.find('package:distillmos')
  except CheckpointError as problem:
    if 'not installed' not in str(problem):
      raise
    pytest.skip(packages.PACKAGES['distillmos'].install)
  frontend = made(weights='package:distillmos')
  assert frontend.config.channels == distillmos.CHANNELS
