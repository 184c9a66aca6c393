"""The contract of front end, encoder and head; runs made before it."""

import json
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxspoof import config as config_lib
from jaxspoof import frontends, losses, models, overrides
from jaxspoof.darts.network import light_darts
from jaxspoof.detector import Detector
from jaxspoof.jobs import train
from jaxspoof.runs import weights_file
from jaxspoof.system import FEATURES, WAVES
from jaxspoof.training import setup, state

pytestmark = pytest.mark.usefixtures('programs')

OLD = pathlib.Path(__file__).parent / 'goldens' / 'old_runs'
COMMANDS = {
  'aasist': ('configs/aasist.py:smoke', []),
  'ecapa': ('configs/ecapa_mfcc.py:smoke', []),
  'light_darts': (
    'configs/light_darts.py:smoke',
    ['--config.model.features=lfcc', '--config.model.auxiliary=0.4'],
  ),
}
# Where front ends with weights draw them.
FRONTENDS = {
  **frontends.FRONTENDS,
  'ssl': frontends.SslConfig(weights='random:tiny'),
  'whisper': frontends.WhisperConfig(weights='random:miniature'),
  'joined': frontends.JoinedConfig(
    (
      frontends.SslConfig(weights='random:tiny'),
      frontends.WhisperConfig(weights='random:miniature'),
    )
  ),
  'distillmos': frontends.DistillMosConfig(weights='random:miniature'),
}
TAKE_FEATURES = [
  name for name, (_, kind) in models.MODELS.items() if kind.takes == FEATURES
]
# Fewer layers, which are traced for each front end: none but the first sees it.
SHALLOW = {
  'conformer': {'blocks': 1},
  'convtasnet': {'blocks': 1, 'stacks': 1},
  'ecapa': {'res2net_scale': 2},
  'light_darts': {'num_cells': 3},
  'localiser': {'blocks': 1},
  'nes2net': {'inner_parts': 4},
  'spectra': {'parts': 2},
}


# What has no parts by itself.
PARTS = {
  'fused': {
    'parts': [
      {'model': {'name': 'lcnn', 'width': 0.1}, 'samples': 16_000},
      {'model': {'name': 'mean'}, 'samples': 16_000, 'padded': True},
    ]
  }
}


def abstract_call(system, samples=16_000, training=False):
  """Shapes of what a system says of two clips."""
  graphdef, arrays = nnx.split(system.abstract())

  def call(arrays, wave):
    model = nnx.merge(graphdef, arrays)
    if training:
      return model.answer(wave, rngs=nnx.Rngs(dropout=0, mask=1))
    return state.eval_view(model).answer(wave)

  wave = jax.ShapeDtypeStruct((2, samples), jnp.float32)
  return jax.eval_shape(call, arrays, wave)


# -- the contract -------------------------------------------------------------


@pytest.mark.parametrize('name', models.MODELS)
def test_every_model_keeps_to_the_contract(name):
  fields = {'name': name, **PARTS.get(name, {})}
  system = models.system(fields, head='cosine', classes=3)
  assert system.kind.takes in (FEATURES, WAVES)
  for answer in (
    abstract_call(system, training=True),
    abstract_call(system, system.min_samples),
  ):
    assert answer.embedding.shape[0] == 2 and answer.embedding.ndim == 2
    assert answer.outputs.shape == (2, 3) and answer.auxiliary is None
    assert answer.outputs.dtype == jnp.float32
    assert answer.embedding.dtype == jnp.float32
  model = system.abstract()
  for wave, message in (
    (jnp.zeros((1, system.min_samples - 1)), f'at least {system.min_samples}'),
    (jnp.zeros(16_000), r'\[batch, samples\], got float32\[16000\]'),
    (jnp.zeros((1, 16_000, 1)), r'got float32\[1, 16000, 1\]'),
    (jnp.zeros((1, 16_000), jnp.int16), r'floating.*int16\[1, 16000\]'),
  ):
    with pytest.raises(ValueError, match=message):
      model(wave)
  if not system.kind.variable_length:
    with pytest.raises(ValueError, match='samples must be None'):
      model(jnp.zeros((1, 16_000)), jnp.array([9000]))


def test_a_network_is_made_without_compiling_anything():
  """Constants and conversions of a hundred shapes take XLA seconds."""
  models.system({'name': 'lcnn', 'width': 0.2}).make(nnx.Rngs(0))  # draws keys
  compiled = []

  def listen(event, _, **about):
    if event.endswith('backend_compile_duration'):
      compiled.append(about)

  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    for fields in (  # of shapes that no other test has
      {'name': 'aasist', 'channels': (5, 9), 'gat_dims': (7, 11)},
      {'name': 'ecapa', 'channels': (26,) * 4 + (34,), 'res2net_scale': 2},
      {'name': 'light_darts', 'channels': 10},
      {'name': 'lcnn', 'width': 0.3},
    ):
      models.system(fields).make(nnx.Rngs(0))
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  assert not compiled


@pytest.mark.parametrize(
  ('model', 'parameters'),
  [
    ('aasist', 297_866),
    ('aasist_l', 85_306),
    ('ecapa', 6_194_048 + 2 * (192 + 1)),
    ('ecapa_large', 20_767_552 + 2 * (192 + 1)),
    ('ecapa_lfcc', 6_142_848 + 2 * (192 + 1)),
    ('lcnn', 269_826),
    ('rawnet2', 17_621_410),
  ],
)
def test_published_sizes(model, parameters):
  assert models.system({'name': model}).parameters() == parameters


@pytest.mark.parametrize(
  ('name', 'fields', 'message'),
  [
    ('aasist', {'frontend': 'lfcc'}, 'frontend=.*sinc.*learnable_sinc'),
    ('aasist', {'dtype': 'float16'}, 'dtype=.*float32.*bfloat16'),
    ('aasist', {'param_dtype': 'bfloat16'}, 'param_dtype=.*float32.*float64'),
    ('aasist', {'gat_dims': (64,)}, 'gat_dims=.*2 values'),
    ('aasist', {'pool_ratios': (0.5, 0.7, 0.5, 0.5)}, 'ratios=.*3 values'),
    ('aasist', {'channels': ()}, 'channels=.*above 0'),
    ('aasist', {'channels': (32, 0)}, 'channels=.*above 0'),
    ('aasist', {'pool_ratios': (0.5, 0, 0.5)}, 'pool_ratios=.*shares'),
    ('aasist', {'temperatures': (2.0, 2.0, 0.0)}, 'temperatures=.*above 0'),
    ('aasist', {'way_dropout': 1.0}, 'way_dropout=.*a rate'),
    ('aasist', {'sinc_filters': 5}, 'sinc_filters=.*at least 6'),
    ('aasist', {'sinc_taps': 0}, 'sinc_taps=.*at least 1'),
    (
      'aasist',
      {'sinc_filters': 12, 'freq_mask': True},
      'freq_mask_limit=20: needs 1 to sinc_filters',
    ),
    ('ecapa', {'dropout': 1.0}, 'dropout=1.0: needs a rate'),
    ('ecapa', {'spec_augment': {'fill': 'noise'}}, "fill='noise'"),
    ('ecapa', {'spec_augment': {'freq_width': 81}}, 'freq_width .* the 80'),
    ('ecapa', {'groups': (3, 1, 1, 1, 1)}, 'groups=.*divisors of the channels'),
    ('lcnn', {'width': 0.01}, 'width=0.01: leaves a layer without'),
    ('lcnn', {'dropout': 1.0}, r'dropout=1.0: needs a rate in \[0, 1\)'),
    ('rawnet2', {'gru_layers': 0}, 'gru_layers=0: needs at least 1'),
    ('rawnet2', {'channels': []}, r'channels=\(\), .*above 0'),
  ],
)
def test_fields_that_cannot_work_are_named(name, fields, message):
  with pytest.raises(ValueError, match=message):
    models.system({'name': name, **fields})


@pytest.mark.parametrize('model', TAKE_FEATURES)
@pytest.mark.parametrize('frontend', ['sinc', 'log_mel', 'lfcc_asvspoof2021'])
def test_any_front_end_goes_with_any_encoder_of_sequences(frontend, model):
  system = models.system({'name': model, **SHALLOW.get(model, {})}, frontend)
  assert abstract_call(system).outputs.shape == (2, 2)
  for name in set(FRONTENDS) - {'wave'}:
    section = {'name': name}
    if isinstance(FRONTENDS[name], frontends.TRAINED):
      section['weights'] = FRONTENDS[name].weights
    if name == 'joined':
      section['parts'] = FRONTENDS[name].parts
    made = models.system({'name': model}, section)
    assert made.frontend == FRONTENDS[name]


@pytest.mark.parametrize(
  ('model', 'frontend', 'message'),
  [
    ({'name': 'aasist'}, 'lfcc', "'spectral': Aasist takes waves, exp.*'wave'"),
    ({'name': 'ecapa'}, 'wave', "'wave': Ecapa takes a sequence of features"),
    ({'name': 'ecapa'}, 'mfc', "'mfc' is not known; choose one of wave, sinc"),
    (
      {'name': 'ecapa'},
      {'name': 'sinc', 'n_fft': 512},
      "frontend.n_fft=512 is set, but front end 'sinc' has no n_fft; it has fi",
    ),
    ({'name': 'lcnn'}, {'name': 'lfcc', 'ceps': 4}, 'the LCNN halves them'),
    ({'name': 'ecapa'}, {'ceps': 90}, 'config.frontend: ceps=90: needs 1 to'),
    ({'name': 'ecapa'}, {'sample_rate': 8000, 'fmax': 4e3}, '8000 Hz.* 16000'),
    ({'space': 'raw'}, 'mfcc', "of 80 features: space 'raw' takes .* 16, such"),
    ({'name': 'ecapa', 'head': 'linear'}, '', 'config.model sets head: these'),
    (
      {'name': 'ecapa', 'features': 'lfcc'},
      'mfcc',
      'features and config.frontend are both set',
    ),
  ],
)
def test_what_does_not_go_together_is_said(model, frontend, message):
  with pytest.raises(ValueError, match=message):
    models.system(model, frontend)


def test_fields_change_the_front_end_that_is_named_or_the_models_own():
  own = models.system({'name': 'ecapa'}, {'name': '', 'ceps': 30}).frontend
  assert (own.kind, own.ceps, own.top_db) == ('mfcc', 30, 80.0)
  lfcc = models.system({'name': 'ecapa'}, {'name': 'lfcc', 'ceps': None})
  assert lfcc.frontend == frontends.PRESETS['lfcc_pc_darts']
  raw = models.system({'space': 'raw', 'channels': 6}, 'sinc').frontend
  assert raw == frontends.SincConfig(filters=6)


@pytest.mark.parametrize('name', FRONTENDS)
def test_a_front_end_keeps_its_promises(name):
  config = FRONTENDS[name]
  section = json.loads(json.dumps(frontends.as_section(config)))
  assert frontends.resolve(section, frontends.WaveConfig()) == config
  for frames in (1, 2, 7):
    samples = config.samples_needed(frames)
    assert config.frames(samples) >= frames
    assert samples == config.samples_needed(1) or (
      config.frames(samples - 1) < frames
    )
  assert config.frames(2000 + config.hop_length) == config.frames(2000) + 1


def test_sinc_features_of_a_padded_clip_are_those_of_the_clip_alone():
  made = frontends.make('sinc', filters=5)
  wave = np.random.default_rng(0).uniform(-0.5, 0.5, (3, 900))
  lengths = np.array([900, 503, made.config.samples_needed(1)], np.int32)
  wave = jnp.asarray(wave, jnp.float32)
  together, frames = made(wave, jnp.asarray(lengths))
  for row, length in enumerate(lengths):
    alone, (count,) = made(wave[row : row + 1, :length], None)
    assert frames[row] == count == made.config.frames(int(length))
    np.testing.assert_allclose(together[row, :count], alone[0], atol=1e-6)


# -- names that were, and runs of before -------------------------------------


def test_the_old_spelling_of_features_is_understood():
  argv = [
    'run.py',
    '--config=configs/ecapa_mfcc.py',
    '--config.model.features.kind=lfcc',
    '--config.search.model.features=mfcc',
    '--config.model.features',
    'x',
  ]
  assert overrides.modern(argv) == [
    *argv[:2],
    '--config.frontend.kind=lfcc',
    '--config.search.frontend.name=mfcc',
    '--config.frontend.name',
    'x',
  ]
  overrides.check(overrides.modern(argv[:3]))


def test_a_kept_config_says_the_front_end_in_full():
  values = overrides.load('configs/ecapa_mfcc.py').to_dict()
  kept = json.loads(json.dumps(models.settled(values)))
  assert kept['frontend']['name'] == 'spectral'
  assert kept['frontend']['ceps'] == 80
  assert models.settled(kept) == kept
  one, other = (
    models.system(v['model'], v['frontend']) for v in (values, kept)
  )
  assert one == other
  # A study's runs get theirs with their cells.
  study = overrides.load('configs/light_darts_study.py').to_dict()
  assert models.settled(study)['train']['frontend'] == {}


@pytest.mark.parametrize('name', COMMANDS)
def test_runs_of_before_are_read(name):
  detector = Detector.load(OLD / name)
  rng = np.random.default_rng(0)
  waves = list(rng.uniform(-0.5, 0.5, (2, 8000)).astype(np.float32))
  with np.load(OLD / name / 'expected.npz') as expected:
    embedding, logits = detector.embed(waves)
    np.testing.assert_allclose(logits, expected['logits'], atol=1e-5)
    np.testing.assert_allclose(embedding, expected['embedding'], atol=1e-5)


@pytest.mark.parametrize('name', COMMANDS)
def test_runs_of_before_go_on_with_the_same_command(name, tmp_path):
  folder = tmp_path / 'run'
  shutil.copytree(OLD / name, folder)
  file, arguments = COMMANDS[name]
  config = overrides.load(file)
  for argument in overrides.modern(arguments):
    field, value = argument.removeprefix('--config.').split('=')
    kind = float if field == 'model.auxiliary' else str
    config.update_from_flattened_dict({field: kind(value)})
  values = config.to_dict()
  if name == 'light_darts':
    genotype = light_darts.read_genotype(values.pop('genotype'))
    values = train_genotype_values(values, genotype)
  setup.claim(folder, values)
  values['seed'] = 99
  with pytest.raises(ValueError, match='another config: seed was'):
    setup.claim(folder, values)
  # And their weights start others.
  config = config_lib.run_config({**values, 'init': str(folder)})
  loss = losses.make(config.loss)
  system = models.system(config.model, config.frontend, head=loss.head)
  module = train.start.start_from(system.make(nnx.Rngs(1)), config.init)
  _, params, _ = weights_file.load(folder)
  found = state.split(module)[1]
  assert state.tree_hash(found) == state.tree_hash(params)


def train_genotype_values(values, genotype):
  from jaxspoof.jobs import train_genotype

  return train_genotype.with_genotype(values, genotype)
