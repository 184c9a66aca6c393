"""Self-supervised encoders as front ends: outputs, modes, what a run keeps."""

import dataclasses
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxspoof import (
  arithmetic,
  detector,
  frontends,
  losses,
  models,
  optim,
  overrides,
)
from jaxspoof import config as config_lib
from jaxspoof.frontends.ssl import frontend as ssl
from jaxspoof.frontends.ssl.architecture import ARCHITECTURES
from jaxspoof.frontends.ssl.states import States
from jaxspoof.jobs import train
from jaxspoof.runs import names, weights_file
from jaxspoof.system import parameters
from jaxspoof.training import sharding, state, steps
from jaxspoof.weights import __main__ as command
from jaxspoof.weights import frozen, start

pytestmark = pytest.mark.usefixtures('programs')


def made(config, **changes):
  return frontends.make(config, rngs=nnx.Rngs(0), **changes)


def features(frontend, wave, samples=None):
  graphdef, arrays = nnx.split(frontend)
  run = jax.jit(lambda a, w, s: nnx.merge(graphdef, a)(w, s))
  return run(arrays, wave, samples)


def test_without_weights_there_is_a_clear_error():
  with pytest.raises(ValueError, match='config.frontend.weights: a directory'):
    models.system({'name': 'ecapa'}, 'ssl')
  values = overrides.load('configs/ssl_ecapa.py').to_dict()
  config = config_lib.run_config(values)
  with pytest.raises(ValueError, match='huggingface.co/?,? such as facebook'):
    models.system(config.model, config.frontend)


@pytest.mark.parametrize('name', ['wav2vec2_layer', 'hubert_group'])
def test_outputs(reference, name):
  golden = np.load(reference / 'ssl' / name / 'golden.npz')
  hidden, last = golden['hidden'], golden['last']
  behind = np.concatenate([hidden[:-1], last[None]])
  base = frontends.SslConfig(
    weights=str(reference / 'ssl' / name), normalise_wave='none'
  )
  wanted = {
    'last': ({}, last),
    'layer 0': ({'layer': 0}, hidden[0]),
    'layer 1': ({'layer': 1}, hidden[1]),
    'layer 2': ({'layer': 2}, last),
    'layer before': ({'layer': 2, 'last_norm': False}, hidden[2]),
    'mix': ({}, behind.mean(0)),
    'mix before': ({'last_norm': False}, hidden.mean(0)),
    'all to 1': ({'only': (0, 1)}, np.concatenate([*hidden[:2]], -1)),
    'all but 1': ({'only': (0, 2)}, np.concatenate([hidden[0], last], -1)),
    'all': ({}, np.concatenate(list(behind), -1)),
  }
  for output, (changes, of) in wanted.items():
    config = dataclasses.replace(base, output=output.split()[0], **changes)
    frontend = made(config)
    built = frontend.encoder.config.layers
    most = max(config.only, default=2)
    assert built == (max(config.layer, 1) if 'layer' in output else most)
    # The states of an encoder with so many layers, and its final norm.
    states = hidden[: built + 1]
    got = frontend._chosen(
      States(jnp.asarray(last), jnp.asarray(states), None), config.output
    )
    assert got.shape[1:] == (hidden.shape[2], config.features)
    np.testing.assert_allclose(got, of, rtol=1e-5, atol=1e-5, err_msg=output)
  frontend.mix = nnx.Param(jnp.asarray([0.0, 40.0, 0.0]))
  frontend.config = dataclasses.replace(base, output='mix')
  wave = jnp.asarray(golden['pcm'] / 32768, jnp.float32)
  got, frames = features(frontend, wave)
  np.testing.assert_array_equal(frames, base.frames(wave.shape[1]))
  assert np.abs(got - hidden[1]).max() < 1e-5 * np.abs(hidden[1]).max()


def test_waves_are_normalised_as_the_original_does(reference):
  golden = np.load(reference / 'ssl/wav2vec2_classifier/golden.npz')
  wave = jnp.asarray(golden['pcm'][:1] / 32768, jnp.float32)
  got = ssl.normalised(wave, None, ssl.NORMALISATIONS['huggingface'])
  np.testing.assert_allclose(got, golden['input_values'], atol=2e-6)
  # Of the clip's own samples alone, whatever lies behind them.
  padded = jnp.concatenate([wave, jnp.full((1, 900), 0.3)], 1)
  samples = jnp.asarray([wave.shape[1]], jnp.int32)
  alone = ssl.normalised(padded, samples, ssl.NORMALISATIONS['huggingface'])
  np.testing.assert_allclose(alone[:, : wave.shape[1]], got, atol=2e-6)
  assert not alone[:, wave.shape[1] :].any()
  # What is added to the variance shows in a quiet clip.
  quiet = ssl.normalised(wave / 300, None, ssl.NORMALISATIONS['fairseq'])
  assert np.abs(quiet).max() < 0.9 * np.abs(got).max()


def test_a_padded_clip_has_the_features_that_it_has_alone():
  config = frontends.SslConfig(
    'random:tiny', output='mix', normalise_wave='huggingface', pre_emphasis=0.97
  )
  frontend = made(config)
  wave = jnp.asarray(np.random.default_rng(1).normal(size=(2, 2000)), 'float32')
  both, frames = features(frontend, wave, jnp.asarray([2000, 1100], jnp.int32))
  alone, _ = features(frontend, wave[1:, :1100])
  assert frames[1] == alone.shape[1] == config.frames(1100)
  np.testing.assert_allclose(both[1:, : frames[1]], alone, rtol=1e-4, atol=1e-5)
  assert not both[1, frames[1] :].any()


def test_layers_taken_apart_give_the_same():
  wave = jnp.asarray(np.random.default_rng(1).normal(size=(1, 900)), 'float32')
  frontend = made('ssl', weights='random:tiny', output='all', split=1)
  stacked, _ = features(frontend, wave)
  frontends.unstack(frontend)
  shapes = [leaf.shape for leaf in jax.tree.leaves(nnx.state(frontend))]
  one = frontend.encoder.config
  assert shapes.count((one.inner, one.width)) >= one.layers  # no stack is left
  apart, _ = features(frontend, wave)
  np.testing.assert_allclose(apart, stacked, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
  'fields, problem',
  [
    ({'weights': 'random:huge'}, "weights='random:huge': needs random: and"),
    ({'weights': '/nowhere/at/all'}, '/nowhere/at/all: nothing there'),
    ({'output': 'first'}, "output='first': needs one of"),
    ({'output': 'layer', 'layer': 3}, 'layer=3: needs 0 to 2'),
    ({'output': 'all', 'only': (0, 3)}, r'only=\(0, 3\): needs rising numbers'),
    ({'output': 'all', 'only': (1, 0)}, r'only=\(1, 0\): needs rising numbers'),
    ({'only': (1,)}, r"only=\(1,\): needs output='all'"),
    ({'normalise_wave': 'z'}, "normalise_wave='z': needs one of"),
    ({'dtype': 'int8'}, "dtype='int8': needs one of"),
    ({'pre_emphasis': 1.5}, 'pre_emphasis=1.5: needs a value'),
    ({'hop_length': 320}, "front end 'ssl' has no hop_length"),
  ],
)
def test_values_that_cannot_work(fields, problem):
  section = {'name': 'ssl', 'weights': 'random:tiny', **fields}
  with pytest.raises(ValueError, match=problem):
    models.system({'name': 'ecapa'}, section)


def test_a_run_keeps_what_the_weights_said(reference, tmp_path):
  place = tmp_path / 'weights'
  shutil.copytree(reference / 'ssl/wavlm_layer', place)
  section = {'name': 'ssl', 'weights': str(place), 'output': 'mix'}
  values = {'model': {'name': 'ecapa'}, 'frontend': section}
  settled = json.loads(json.dumps(models.settled(values)))
  found = models.system(settled['model'], settled['frontend']).frontend
  assert found == models.system(**values).frontend
  assert found.normalise_wave == 'huggingface' and found.known.buckets == 320
  # They are not asked again.
  place.chmod(0o755)
  for path in place.iterdir():
    path.unlink()
  assert models.system(settled['model'], settled['frontend']).min_samples > 0


def test_published_sizes():
  # Less the vector of masked frames, which no detector has.
  published = {
    'wav2vec2_base': 94_371_712 - 768,
    'wav2vec2_large': 315_428_992 - 1024,
    'xlsr_300m': 315_438_720 - 1024,
    'wavlm_base': 94_381_936 - 768,
    'wavlm_large': 315_453_120 - 1024,
  }
  for name, count in published.items():
    config = frontends.SslConfig(f'random:{name}')
    abstract = nnx.eval_shape(lambda c=config: made(c))
    assert parameters(abstract) == count, name
    assert config.frames(64_600) == 201 and config.frames(66_800) == 208
  assert set(published) < set(ARCHITECTURES)


# -- training ----------------------------------------------------------------


@pytest.fixture
def standard_promotion():
  """Optax multiplies by Python and integer scalars."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def job(weights, variant=':smoke', devices=1, **groups):
  """System, graphdef, step and state of step 0 of a tiny run."""
  values = overrides.load(f'configs/ssl_ecapa.py{variant}').to_dict()
  values['frontend'].update(weights=weights)
  values['optim'] |= groups
  # Else most of what is compiled is behind the encoder.
  values['model'] = {'name': 'mean', 'projection': 4}
  config = config_lib.run_config(values)
  loss = losses.make(config.loss)
  system = models.system(config.model, config.frontend, head=loss.head)
  placed = sharding.make(devices)
  tx = optim.make(config.optim, 20)
  graphdef, first = train.make_state(config, system, tx, placed)
  step = steps.make_train_step(graphdef, tx, loss, 0, placed)
  wave = np.random.default_rng(0).uniform(-0.5, 0.5, (8, 8000))
  label = np.arange(8, dtype=np.int32) % 2
  batch = {'wave': wave.astype(np.float32), 'label': label}
  return system, step, first, sharding.put_batch(batch, placed), values


def test_frozen_encoders_cost_a_forward_pass_alone(standard_promotion):
  _, step, first, batch, _ = job('random:tiny')
  _, whole, tuned, _, _ = job('random:tiny', groups=())
  assert set(first.frozen) == {'frontend'} and not tuned.frozen
  assert list(first.params['frontend']) == ['mix']
  paths = [
    jax.tree_util.keystr(path)
    for path, _ in jax.tree_util.tree_leaves_with_path(first.opt)
  ]
  assert not [path for path in paths if 'encoder' in path]
  frontend = made('ssl', weights='random:tiny')
  forward = arithmetic.total(frontend, batch['wave'])
  counted = arithmetic.count(step.__wrapped__, first, batch)['frontend']
  # Beside it, the gradient of three shares.
  assert forward < counted < 1.02 * forward
  everything = arithmetic.count(whole.__wrapped__, tuned, batch)['frontend']
  assert everything > 2.5 * forward


def test_a_frozen_encoder_is_not_copied(
  standard_promotion, reference, tmp_path
):
  place = tmp_path / 'weights'
  shutil.copytree(reference / 'ssl/hubert_batch_norm', place)
  system, _, first, batch, values = job(str(place))
  assert frozen.from_files(system.frontend, first.frozen) == ('',)
  run = tmp_path / 'run'
  run.mkdir()
  config = models.settled(values)
  (run / names.CONFIG).write_text(json.dumps(config))
  digest = frozen.fingerprint(first.frozen)
  (run / names.FROZEN).write_text(json.dumps({'encoder_sha256': digest}))
  weights_file.save(run, frozen.without(first.whole()), first.batch_stats)
  with np.load(run / names.WEIGHTS) as kept:
    assert 'params/frontend/mix' in kept.files
    assert not [
      name for name in kept.files if name.startswith('params/frontend/encoder')
    ]
  # The run's weights start another run, encoder and all.
  module = start.start_from(system.make(nnx.Rngs(5)), str(run))
  _, found, _ = state.split(module)
  assert state.tree_hash(found) == state.tree_hash(first.whole())
  # And they detect.
  name, module, _ = detector.open_checkpoint(run)
  assert name == 'mean'
  _, found, _ = state.split(module)
  assert state.tree_hash(found) == state.tree_hash(first.whole())
  # Another encoder in its place is found, and none.
  path = place / 'model.safetensors'
  data = bytearray(path.read_bytes())
  data[-4 * 40] ^= 1
  place.chmod(0o755), path.chmod(0o644)
  path.write_bytes(data)
  with pytest.raises(
    ValueError, match='there is another one: expected SHA-256'
  ):
    start.start_from(module, str(run))
  path.unlink()
  with pytest.raises(ValueError, match='frozen encoder is not kept in it, but'):
    start.start_from(module, str(run))


def test_what_is_tuned_or_drawn_is_kept(reference):
  frontend = frontends.SslConfig(str(reference / 'ssl/wavlm_group'))
  drawn = frontends.SslConfig('random:tiny')
  for config, wanted in ((frontend, True), (drawn, False)):
    _, params, _ = state.split(made(config))
    whole = {'frontend': params, 'head': {}}
    assert frozen.from_files(config, whole) == (('',) if wanted else ())
    del params['encoder']['norm']['bias']
    assert not frozen.from_files(config, whole)
  assert not frozen.from_files(frontends.SincConfig(), {})


def test_a_tuned_encoder_moves(standard_promotion):
  groups = (('frontend/encoder/.*', {'learning_rate_factor': 0.01}),)
  _, step, first, batch, _ = job('random:tiny', groups=groups)
  before = jax.device_get(first.params['frontend'])
  moved, metrics = step(first, batch)
  assert np.isfinite(metrics['loss'])
  after = jax.device_get(moved.params['frontend'])
  assert (before['mix'] != after['mix']).all()
  far = np.abs(after['mix'] - before['mix']).max()
  for name in ('conv0', 'projection', 'position', 'layers', 'norm'):
    steps_ = jax.tree.map(
      lambda a, b: np.abs(a - b).max(),
      before['encoder'][name],
      after['encoder'][name],
    )
    assert 0 < max(jax.tree.leaves(steps_)) < 0.02 * far, name
  # Four devices see the same gradients, of which Adam keeps a share.
  _, step, first, batch, _ = job('random:tiny', devices=4, groups=groups)
  divided, told = step(first, batch)
  np.testing.assert_allclose(told['loss'], metrics['loss'], rtol=1e-5)
  for one, four in zip(
    jax.tree.leaves(moved.opt), jax.tree.leaves(divided.opt), strict=True
  ):
    most = float(np.abs(one).max())
    if most > 1e-10:  # that of keys' biases is 0 but for rounding
      np.testing.assert_allclose(one, four, rtol=1e-3, atol=1e-3 * most)


# -- what is in a file -------------------------------------------------------


def test_the_command_says_what_is_in_a_file(reference, capsys):
  root = reference / 'ssl'
  assert command.main([str(root / 'fairseq/wavlm_large_like.pt')]) == 0
  said = capsys.readouterr().out
  for part in (
    'beside them: cfg',
    'encoder: WavLM, 2 layers of 32, 4 heads, pre-norm',
    'expects: normalised waves',
    'of pretraining, not used: mask_emb',
    'lacks: nothing',
    'use: python run.py --config=configs/ssl_ecapa.py',
  ):
    assert part in said
  assert command.main([str(root / 'wavlm_classifier')]) == 0
  said = capsys.readouterr().out
  assert 'fake = spoof, real = bona fide' in said
  assert said.endswith('wavlm_classifier --input FILE\n')
  assert command.main([str(reference / 'aasist/AASIST-L.pth')]) == 0
  assert 'fits: aasist_l, with its head' in capsys.readouterr().out
  assert command.main([str(root / 'detectors')]) == 2
  assert 'detectors: no weights there' in capsys.readouterr().err


def test_the_command_says_what_is_lacking(reference, tmp_path, capsys):
  from safetensors.numpy import load_file, save_file

  folder = reference / 'ssl/wav2vec2_layer'
  tensors = load_file(folder / 'model.safetensors')
  del tensors['encoder.layer_norm.weight']
  tensors['mystery'] = np.zeros(3, np.float32)
  place = pathlib.Path(tmp_path)
  shutil.copy(folder / 'config.json', place)
  save_file(tensors, place / 'model.safetensors')
  assert command.main([str(place)]) == 1
  said = capsys.readouterr().out
  assert 'does not fit: missing: norm.scale' in said
  assert 'of something else, not used by the encoder: mystery' in said
  save_file({'mystery': tensors['mystery']}, place / 'model.safetensors')
  assert command.main([str(place)]) == 1
  assert 'fits: no model; it has mystery' in capsys.readouterr().out
