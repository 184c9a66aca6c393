"""What of an encoder is trained: thin matrices beside it, its upper layers."""

import functools
import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from jaxspoof import config as config_lib
from jaxspoof import detector, frontends, losses, models, optim, overrides
from jaxspoof.frontends.ssl.lora import TARGETS, LoraConfig
from jaxspoof.jobs import train
from jaxspoof.runs import names, weights_file
from jaxspoof.tensors.unpickler import CheckpointError
from jaxspoof.training import sharding, state, steps
from jaxspoof.weights import __main__ as command
from jaxspoof.weights import classifiers, frozen, peft

pytestmark = pytest.mark.usefixtures('programs')
KINDS = {
  'ssl': dict(weights='random:tiny', output='all'),
  'whisper': dict(weights='random:miniature', output='all'),
}
WAVE = jnp.asarray(
  np.random.default_rng(0).normal(0, 0.1, (2, 3000)), 'float32'
)


@functools.partial(jax.jit, static_argnums=0)
def _features(graphdef, arrays, wave):
  return nnx.merge(graphdef, arrays)(wave)[0]


def features(frontend, wave=WAVE):
  return np.asarray(_features(*nnx.split(frontend), wave))


@pytest.mark.parametrize('split', [None, 1])
@pytest.mark.parametrize('name', KINDS)
def test_merged_is_unmerged(name, split):
  lora = LoraConfig(3, 6.0, TARGETS)
  options = dict(KINDS[name], split=split)
  plain = frontends.make(name, rngs=nnx.Rngs(0), **options)
  frontend = frontends.make(name, rngs=nnx.Rngs(0), lora=lora, **options)
  for one, other in zip(
    *(jax.tree.leaves(nnx.state(f.encoder)) for f in (plain, frontend)),
    strict=True,
  ):
    np.testing.assert_array_equal(one, other)
  before = features(plain)
  np.testing.assert_array_equal(features(frontend), before)  # 0 is added
  rng = np.random.default_rng(1)
  for target in TARGETS:
    b = getattr(frontend.lora, target).b
    b.set_value(jnp.asarray(rng.normal(0, 0.2, b.shape), jnp.float32))
  unmerged = features(frontend)
  assert np.abs(unmerged - before).max() > 0.1
  kernel = frontend.encoder.layers.feed2.kernel[...]
  frontend.merge()
  assert frontend.config.lora is None and not hasattr(frontend, 'lora')
  assert np.abs(frontend.encoder.layers.feed2.kernel[...] - kernel).max() > 0.01
  np.testing.assert_allclose(features(frontend), unmerged, rtol=1e-4, atol=1e-5)
  frontend.merge()  # there is nothing left to merge


def test_what_is_added():
  # W + alpha / rank a b, layer by layer.
  lora = LoraConfig(2, 5.0, ('feed1',))
  frontend = frontends.make('ssl', rngs=nnx.Rngs(0), lora=lora, **KINDS['ssl'])
  pair, kernel = frontend.lora.feed1, frontend.encoder.layers.feed1.kernel
  rng, before = np.random.default_rng(0), np.asarray(kernel[...])
  pair.b.set_value(jnp.asarray(rng.normal(size=pair.b.shape), jnp.float32))
  assert pair.a.shape == (2, 16, 2) and pair.b.shape == (2, 2, 24)
  assert 0 < np.abs(pair.a[...]).max() < 1 / 4  # 1 / sqrt(inputs)
  frontend.merge()
  wanted = before + 2.5 * np.einsum('lir,lro->lio', pair.a[...], pair.b[...])
  np.testing.assert_allclose(kernel[...], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('name', KINDS)
def test_layers_in_two_stacks_are_the_same_encoder(name, reference):
  section = dict(KINDS[name])
  if name == 'ssl':
    section['weights'] = str(reference / 'ssl/wavlm_layer')
    section['normalise_wave'] = 'none'
  else:
    section['weights'] = f'{pathlib.Path(__file__).parent}/goldens/whisper.pt'
  one, two = (
    frontends.make(name, rngs=nnx.Rngs(0), split=split, **section)
    for split in (None, 1)
  )
  assert two.encoder.stacks == ('layers', 'upper')
  np.testing.assert_allclose(features(one), features(two), rtol=1e-5, atol=1e-5)


# -- training ----------------------------------------------------------------


@pytest.fixture
def standard_promotion():
  """Optax multiplies by Python and integer scalars."""
  with jax.numpy_dtype_promotion('standard'):
    yield


def trained(variant, **changes):
  """Parameters before and after steps of a tiny run, and its first state."""
  values = overrides.load(f'configs/ssl_ecapa.py:{variant}').to_dict()
  smoke = overrides.load('configs/ssl_ecapa.py:smoke').to_dict()
  values['frontend'].update(weights='random:tiny', **changes)
  values |= {name: smoke[name] for name in ('data', 'loss')}
  values['model'] = {'name': 'mean', 'projection': 4}
  values['optim']['warmup_steps'] = 0
  config = config_lib.run_config(values)
  loss = losses.make(config.loss)
  system = models.system(config.model, config.frontend, head=loss.head)
  placed = sharding.make(1)
  tx = optim.make(config.optim, 20)
  graphdef, first = train.make_state(config, system, tx, placed)
  step = steps.make_train_step(graphdef, tx, loss, 0, placed)
  wave = np.random.default_rng(0).uniform(-0.5, 0.5, (8, 8000))
  label = np.arange(8, dtype=np.int32) % 2
  batch = sharding.put_batch(
    {'wave': wave.astype(np.float32), 'label': label}, placed
  )
  before = jax.device_get(first)
  moved = first
  for _ in range(2):
    moved, _ = step(moved, batch)
  return before, jax.device_get(moved), system, values


def far(before, after):
  steps_ = jax.tree.map(lambda a, b: np.abs(a - b).max(), before, after)
  return max(jax.tree.leaves(steps_))


def test_thin_matrices_alone_are_trained(standard_promotion, tmp_path):
  before, after, system, values = trained('lora')
  assert set(before.params['frontend']) == {'mix', 'lora'}
  assert set(before.frozen['frontend']) == {'encoder'}
  assert set(before.params['frontend']['lora']) == {'query', 'value'}
  assert far(before.frozen, after.frozen) == 0
  for pair in after.params['frontend']['lora'].values():
    assert np.abs(pair['b']).max() > 0
  a = (s.params['frontend']['lora']['query']['a'] for s in (before, after))
  assert far(*a) > 0  # once b is not 0
  # The encoder counts as frozen whole, so that no copy of it is kept, but its
  # features are not fixed.
  assert frozen.is_whole(system.frontend, before.frozen)
  assert not frozen.is_fixed(system.frontend, before.frozen)
  # PEFT gets them, and gives them back.
  config = models.settled(values)
  (tmp_path / names.CONFIG).write_text(json.dumps(config))
  weights_file.save(tmp_path, after.whole(), after.batch_stats)
  place = tmp_path / 'peft'
  assert command.main([str(tmp_path), '--peft', str(place)]) == 0
  written = json.loads((place / peft.CONFIG).read_text())
  assert (written['r'], written['lora_alpha']) == (8, 16.0)
  assert written['target_modules'] == ['q_proj', 'v_proj']
  (tmp_path / 'base').mkdir()
  (tmp_path / 'base/config.json').write_text('{}')
  written['base_model_name_or_path'] = '../base'
  (place / peft.CONFIG).write_text(json.dumps(written))
  plain = frontends.make('ssl', weights='random:tiny', rngs=nnx.Rngs(0))
  kernel = np.asarray(plain.encoder.layers.value.kernel[...])
  peft.apply(peft.load(place), plain.encoder, [], 'x')
  pair = after.params['frontend']['lora']['value']
  added = 2 * np.matmul(pair['a'], pair['b'])
  np.testing.assert_allclose(
    plain.encoder.layers.value.kernel[...], kernel + added, atol=1e-6
  )
  assert command.main([str(tmp_path), '--peft', str(place)]) == 2  # it is there
  # A detector has them merged.
  _, module, _ = detector.open_checkpoint(tmp_path)
  assert not hasattr(module.frontend, 'lora')
  merged = module.frontend.encoder.layers.value.kernel[...]
  kernel = after.frozen['frontend']['encoder']['layers']['value']['kernel']
  np.testing.assert_allclose(merged, kernel + added, rtol=1e-5, atol=1e-6)


def test_upper_layers_alone_are_trained(standard_promotion):
  before, after, system, _ = trained('upper', split=1)
  trained_ = before.params['frontend']['encoder']
  assert set(trained_) == {'norm', 'upper'}
  assert set(before.frozen['frontend']['encoder']) > {'layers', 'conv0'}
  assert far(before.frozen, after.frozen) == 0
  moved = after.params['frontend']['encoder']['upper']['value']
  assert far(trained_['upper']['value'], moved) > 0
  assert not frozen.is_whole(system.frontend, before.frozen)


@pytest.mark.parametrize(
  'fields, problem',
  [
    ({'split': 2}, 'split=2: needs 1 to 1, less than all layers'),
    ({'split': 0}, 'split=0: needs 1 to 1'),
    ({'lora': {'rank': 0}}, 'lora: rank=0: needs at least 1'),
    ({'lora': {'alpha': 0.0}}, 'lora: alpha=0.0: needs a value above 0'),
    ({'lora': {'targets': ('conv0',)}}, r"targets=\('conv0',\): needs some of"),
  ],
)
def test_values_that_cannot_work(fields, problem):
  section = {'name': 'ssl', 'weights': 'random:tiny', **fields}
  with pytest.raises(ValueError, match=problem):
    models.system({'name': 'ecapa'}, section)


# -- adapters of PEFT --------------------------------------------------------


@functools.partial(jax.jit, static_argnums=0)
def _logits(graphdef, params, stats, wave):
  return state.eval_view(state.merge(graphdef, params, stats))(wave)


def logits(module, wave):
  return _logits(*state.split(module), wave)


@pytest.fixture
def adapter(reference, tmp_path):
  """A copy of an adapter and its model, to be changed."""
  for name in ('wav2vec2_classifier', 'wav2vec2_classifier_lora'):
    shutil.copytree(reference / 'ssl' / name, tmp_path / name)
  for path in tmp_path.rglob('*'):
    path.chmod(0o755)
  return tmp_path / 'wav2vec2_classifier_lora'


def test_an_adapter(adapter):
  golden = np.load(adapter / 'golden.npz')
  assert command.main([str(adapter)]) == 0
  found = classifiers.load(adapter)
  assert any('with the adapter' in note for note in found.notes)
  wave = jnp.asarray(golden['pcm'] / 32768, jnp.float32)
  wanted = golden['logits']
  labels = json.loads((adapter.parent / 'wav2vec2_classifier/config.json')
    .read_text())['id2label']  # fmt: skip
  order = [list(labels.values()).index(name) for name in found.classes]
  for row, of in zip(wave, wanted, strict=True):
    got = np.asarray(logits(found.module, row[None]))[0]
    assert np.abs(got - of[order]).max() < 1e-4 * max(1, np.abs(of).max())
  base = classifiers.load(adapter.parent / 'wav2vec2_classifier')
  plain = np.asarray(logits(base.module, wave[:1]))[0]
  assert np.abs(plain - wanted[0][order]).max() > 0.01


@pytest.mark.parametrize(
  'change, problem',
  [
    ({'use_dora': True}, 'use_dora is True; only False is built'),
    ({'rank_pattern': {'q': 2}}, "rank_pattern is {'q': 2}; only {} is built"),
    ({'peft_type': 'IA3'}, "peft_type is 'IA3'; only 'LORA' is built"),
    ({'r': None}, 'expected numbers r and lora_alpha'),
    ({'r': 5}, 'lora_B.weight of rank 5 beside'),
    ({'base_model_name_or_path': 'x/y'}, "the model 'x/y', which is not there"),
  ],
)
def test_adapters_that_are_not_built(adapter, change, problem):
  path = adapter / peft.CONFIG
  config = json.loads(path.read_text())
  path.write_text(json.dumps({**config, **change}))
  with pytest.raises(CheckpointError, match=problem):
    classifiers.load(adapter)


def test_an_adapter_of_another_model(adapter):
  path = adapter / 'adapter_model.safetensors'
  tensors = load_file(path)
  name = next(n for n in tensors if n.endswith('layers.0.attention.q_proj'
    '.lora_A.weight'))  # fmt: skip
  for part in 'AB':
    old = name.replace('lora_A', f'lora_{part}')
    tensors[old.replace('layers.0', 'layers.7')] = tensors.pop(old)
  save_file(tensors, path)
  with pytest.raises(
    CheckpointError, match=r'layers.7.* \(32, 32\), the model'
  ):
    classifiers.load(adapter)


def test_of_wavlm_attention_is_left_out():
  names = [
    'wavlm.encoder.layers.0.attention.q_proj',
    'wavlm.encoder.layers.0.feed_forward.output_dense',
  ]
  found = peft.Adapter(None, dict.fromkeys(names), {})
  assert peft.without_effect(found, 'wavlm') == names[:1]
  assert not peft.without_effect(found, 'hubert')
