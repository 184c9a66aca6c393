"""Several front ends heard side by side."""

import io
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from flax import nnx

from configs import common
from jaxspoof import config as config_lib
from jaxspoof import detector, frontends, losses, models, optim, overrides
from jaxspoof.frontends import JoinedConfig, SslConfig, WhisperConfig
from jaxspoof.jobs import train
from jaxspoof.runs import names, weights_file
from jaxspoof.training import features, sharding, state, steps
from jaxspoof.weights import frozen
from tests import features_cache_test, whisper_test

pytestmark = pytest.mark.usefixtures('programs')

WHISPER = WhisperConfig('random:miniature', output='all')  # every 320 samples
SSL = SslConfig('random:tiny', output='mix')  # every 320
LFCC = frontends.FRONTENDS['lfcc_lcnn_2019']  # every 160
FILE = pathlib.Path(__file__).parent / 'goldens' / 'whisper.pt'


def made(*parts, rngs=None):
  return frontends.make(JoinedConfig(parts), rngs=rngs or nnx.Rngs(0))


def called(frontend, wave, samples=None, how='__call__'):
  graphdef, arrays = nnx.split(frontend)
  run = jax.jit(lambda a, w, s: getattr(nnx.merge(graphdef, a), how)(w, s))
  return jax.device_get(run(arrays, wave, samples))


def noise(*shape):
  wave = np.random.default_rng(0).uniform(-0.5, 0.5, shape)
  return wave.astype(np.float32)


# -- features ----------------------------------------------------------------


def test_features_of_all_parts_side_by_side():
  joined = made(WHISPER, LFCC, SSL)
  c, wave = joined.config, noise(2, 4000)
  assert (c.hop_length, c.repeats, c.sample_rate) == (160, (2, 1, 2), 16_000)
  assert c.features == 3 * 16 + 60 + SSL.features
  assert c.kept_features == 3 * 16 + 60 + SSL.kept_features > c.features
  got, frames = called(joined, wave)
  # 2 x 13 of Whisper, 25 of the cepstra, 2 x 12 of wav2vec 2.0, not padded.
  alone = [called(part, wave) for part in (joined.whisper, joined.ssl)]
  cepstra, _ = frontends.make(LFCC)(wave, None)
  counts = [len(x[0]) for x in (alone[0][0], cepstra, alone[1][0])]
  assert counts == [13, 26, 12]
  assert c.frames(4000) == 24 and frames.tolist() == [24, 24]
  wanted = [
    np.repeat(alone[0][0], 2, 1)[:, :24],
    cepstra[:, :24],
    np.repeat(alone[1][0], 2, 1),
  ]
  assert got.shape == (2, 24, c.features)
  np.testing.assert_allclose(got, np.concatenate(wanted, -1), atol=1e-5)
  for n in (1, 2, 3, 24, 25):
    assert c.frames(c.samples_needed(n)) >= n
    assert c.frames(c.samples_needed(n) - 1) < n or n == 1


def test_a_padded_clip_has_the_features_that_it_has_alone():
  joined = made(WHISPER, LFCC, SSL)
  wave = noise(3, 4000)
  lengths = [4000, 2311, joined.config.samples_needed(1)]
  together, frames = called(joined, wave, np.int32(lengths))
  for row, length in enumerate(lengths):
    alone, (count,) = called(joined, wave[row : row + 1, :length])
    assert frames[row] == count == joined.config.frames(length)
    np.testing.assert_allclose(together[row, :count], alone[0], atol=2e-5)
    assert not together[row, count:].any()


def test_two_of_a_kind_have_names_of_their_own():
  other = frontends.FRONTENDS['fbank80']
  assert list(JoinedConfig((WHISPER, LFCC, WHISPER, other)).named) == [
    'whisper',
    'spectral',
    'whisper_2',
    'spectral_2',
  ]
  joined = made(WHISPER, WHISPER)
  params = nnx.to_pure_dict(nnx.state(joined, nnx.Param))
  assert set(params) == {'whisper', 'whisper_2'}
  one, two = (params[name]['encoder']['conv1']['kernel'] for name in params)
  assert np.abs(one - two).max() > 0  # drawn one after the other
  got, _ = called(joined, noise(1, 900))
  assert np.abs(got[..., :48] - got[..., 48:]).max() > 0.01


# -- its section of a config -------------------------------------------------


def test_its_section_is_read_as_it_was_written():
  section = common.frontend(
    'joined',
    parts={
      'whisper': common.frontend(
        'whisper', weights='random:miniature', output='all'
      ),
      'lfcc_lcnn_2019': common.frontend(ceps=15),
    },
  )
  section.parts.whisper.layer = 1  # as a command line sets it
  config = frontends.resolve(section.to_dict(), frontends.WaveConfig())
  cepstra, whisper = config.parts  # in the order of their keys
  assert whisper == WhisperConfig('random:miniature', 'all', 1)
  assert (cepstra.ceps, cepstra.n_fft) == (15, 512)
  kept = json.loads(json.dumps(frontends.as_section(config)))
  assert kept['parts'][0]['name'] == 'spectral'
  assert frontends.resolve(kept, frontends.WaveConfig()) == config
  # So does one of configs, of sections or of names; in their order.
  same = JoinedConfig(({'name': 'lfcc_lcnn_2019', 'ceps': 15}, whisper))
  assert same == config
  assert JoinedConfig(('fbank80', LFCC)).parts[1] == LFCC


@pytest.mark.parametrize(
  ('parts', 'message'),
  [
    ((), "'joined' needs config.frontend.parts: at least two"),
    ((LFCC,), 'frontend: parts: needs at least two front ends, got 1'),
    ((LFCC, JoinedConfig()), "a front end 'joined' cannot be one of them"),
    ((LFCC, 'wave'), "a front end 'wave' cannot be one of them"),
    ((LFCC, 3), r'parts\[1\]=3: needs a front end or its section'),
    ((LFCC, {'ceps': 3}), r'parts\[1\]: needs the name of a front end'),
    (('mfcc', 'mfc'), r"parts\[1\]: front end 'mfc' is not known; choose one"),
    (
      {'lfcc': {}, 'ssl': {'ceps': 3}},
      "parts.ssl: ceps=3 is set, but .* 'ssl'",
    ),
    ({'lfcc': {'ceps': 90}, 'ssl': {}}, 'parts.lfcc: ceps=90: needs 1 to'),
    ((LFCC, SslConfig()), "front end 'ssl' needs config.frontend.weights"),
    (
      (LFCC, {'name': 'mfcc', 'sample_rate': 8000, 'fmax': 4e3}),
      'parts: of 8000 and 16000 Hz, needs one sampling rate',
    ),
    (
      (WHISPER, 'lfcc_pc_darts'),
      'parts: hops of 256 and 320 samples, needs multiples of the sma',
    ),
  ],
)
def test_parts_that_cannot_work(parts, message):
  section = {'name': 'joined', 'parts': parts}
  with pytest.raises(ValueError, match=message):
    models.system({'name': 'statistics'}, section)


def test_it_has_no_states_to_choose_among():
  section = {'name': 'joined', 'parts': (WHISPER, LFCC)}
  with pytest.raises(ValueError, match='the front end gives 1, so .* no numb'):
    models.system({'name': 'statistics', 'states': (1,)}, section)


# -- runs --------------------------------------------------------------------


def job(parts, groups, devices=1, **data):
  """What a run has before its first step."""
  values = overrides.load('configs/robust.py:smoke').to_dict()
  values['frontend'] = {'name': 'joined', 'parts': parts}
  values['optim']['groups'] = groups
  values['data'] |= data
  config = config_lib.run_config(values)
  loss = losses.make(config.loss)
  system = models.system(config.model, config.frontend, head=loss.head)
  placed = sharding.make(devices)
  tx = optim.make(config.optim, 20)
  with jax.numpy_dtype_promotion('standard'):  # Optax takes Python's scalars
    graphdef, first = train.make_state(config, system, tx, placed)
  return config, system, graphdef, first, models.settled(values)


FROZEN = (('frontend/.*/encoder/.*', {'frozen': True}),)


def test_frozen_parts_of_files_are_left_out_of_what_is_kept(tmp_path):
  place = tmp_path / 'whisper'
  place.mkdir()
  whisper_test.hugging_face(place, wrapped=False)
  parts = ({'name': 'whisper', 'weights': str(place)}, LFCC, SSL, WHISPER)
  _, system, _, first, values = job(parts, FROZEN)
  assert set(first.params['frontend']) == {'ssl'}  # its mix
  left_out = frozen.from_files(system.frontend, first.frozen)
  assert left_out == ('whisper',)
  (tmp_path / names.CONFIG).write_text(json.dumps(values))
  digest = frozen.fingerprint(first.frozen, left_out)
  (tmp_path / names.FROZEN).write_text(json.dumps({'encoder_sha256': digest}))
  kept = frozen.without(first.whole(), left_out)
  assert set(kept['frontend']) == {'ssl', 'whisper_2'}
  weights_file.save(tmp_path, kept, first.batch_stats)
  _, module, _ = detector.open_checkpoint(tmp_path)
  _, found, _ = state.split(module)
  assert state.tree_hash(found) == state.tree_hash(first.whole())
  # Another encoder in its place is found, and none.
  file = place / 'model.safetensors'
  data = bytearray(file.read_bytes())
  data[-4 * 40] ^= 1
  file.write_bytes(data)
  with pytest.raises(ValueError, match='/whisper, where there is another one'):
    detector.open_checkpoint(tmp_path)
  file.unlink()
  with pytest.raises(ValueError, match='read from .*/whisper: .*model.safete'):
    detector.open_checkpoint(tmp_path)


def test_what_is_trained_is_not_left_out():
  parts = ({'name': 'whisper', 'weights': str(FILE)}, SSL)
  groups = (('frontend/ssl/.*', {'frozen': True}),)
  _, system, _, first, _ = job(parts, groups)
  assert not frozen.from_files(system.frontend, first.frozen)
  assert not frozen.is_fixed(system.frontend, first.frozen)
  assert not frozen.is_fixed(JoinedConfig((LFCC, 'fbank80')), {})
  lora = {'name': 'ssl', 'weights': 'random:tiny', 'lora': {'rank': 2}}
  _, system, _, first, _ = job((lora, LFCC), FROZEN)
  assert frozen.is_whole(system.frontend, first.frozen)
  assert not frozen.is_fixed(system.frontend, first.frozen)


def test_what_is_kept_gives_the_features():
  joined = made(SSL, LFCC, WHISPER)
  joined.ssl.mix.set_value(jnp.asarray([1.0, -1.0, 0.5]))
  wave, samples = noise(2, 3000), jnp.asarray([3000, 2100], jnp.int32)
  wanted, frames = called(joined, wave, samples)
  kept, counts = called(joined, wave, samples, how='kept')
  assert kept.shape[2] == joined.config.kept_features
  assert counts.tolist() == frames.tolist()
  np.testing.assert_allclose(joined.of_kept(kept), wanted, atol=1e-5)


def test_features_of_frozen_parts_are_computed_once(tmp_path):
  data = dict(features_cache=str(tmp_path), eval_samples=3000, eval_batch=3)
  config, system, graphdef, first, _ = job((SSL, LFCC), FROZEN, **data)
  assert frozen.is_fixed(system.frontend, first.frozen)
  cache = features.Cache(
    config,
    system,
    graphdef,
    sharding.make(1),
    system.min_samples,
    frozen.fingerprint(first.frozen, frontends.encoders(system.frontend)),
    say=lambda line: None,
  )
  source = features_cache_test.corpus('dev', clips=3)
  weights = first.whole(), first.batch_stats
  store = cache.evaluation(source, *weights)
  key = json.loads((store.directory / 'key.json').read_text())['frontend']
  assert key['ssl']['output'] == 'all' and key['spectral']['ceps'] == LFCC.ceps
  model = state.eval_view(state.merge(graphdef, *weights))
  for number in range(3):
    wave, _ = soundfile.read(
      io.BytesIO(source[number]['audio']), 3000, dtype='f4'
    )
    kept, _ = called(model.frontend, jnp.asarray(wave[None]), how='kept')
    np.testing.assert_allclose(
      store.read(number).astype(np.float32), kept[0], rtol=0.01, atol=0.01
    )


def test_four_devices_do_what_one_does():
  wave = np.asarray(noise(8, 3000))
  batch = {'wave': wave, 'label': np.arange(8, dtype=np.int32) % 2}
  told = []
  for devices in (1, 4):
    config, _, graphdef, first, _ = job((SSL, LFCC), FROZEN, devices=devices)
    placed, loss = sharding.make(devices), losses.make(config.loss)
    with jax.numpy_dtype_promotion('standard'):
      tx = optim.make(config.optim, 20)
      step = steps.make_train_step(graphdef, tx, loss, 0, placed)
      _, metrics = step(first, sharding.put_batch(batch, placed))
    told.append(jax.device_get(metrics))
  assert told[0]['grad_norm'] > 0
  for name in told[0]:
    np.testing.assert_allclose(told[0][name], told[1][name], rtol=1e-4)


def test_thin_matrices_of_a_part_are_merged():
  lora = SslConfig('random:tiny', lora={'rank': 2})
  joined = made(lora, LFCC)
  pair = joined.ssl.lora.query
  pair.b.set_value(pair.b[...] + 0.3)
  wave = noise(1, 900)
  wanted, _ = called(joined, wave)
  joined.merge()
  assert joined.config == JoinedConfig((SslConfig('random:tiny'), LFCC))
  got, _ = called(joined, wave)
  np.testing.assert_allclose(got, wanted, atol=1e-5)
  frontends.unstack(joined)
  got, _ = called(joined, wave)
  np.testing.assert_allclose(got, wanted, atol=1e-5)
