"""Back ends on encoders against the original code, and released detectors."""

import functools
import json
import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from flax import nnx
from safetensors.numpy import load_file, save_file

from jaxspoof import checkpoints, detector, frontends, models, optim, overrides
from jaxspoof import config as config_lib
from jaxspoof.frontends.ssl import weights as ssl
from jaxspoof.models import conformer
from jaxspoof.models.mhfa import Mhfa, MhfaConfig
from jaxspoof.system import SystemConfig
from jaxspoof.tensors.unpickler import CheckpointError
from jaxspoof.training import state
from jaxspoof.weights import __main__ as weights_cli
from jaxspoof.weights import ssl_detectors
from tests.drawn import drawn

pytestmark = pytest.mark.usefixtures('programs')
GOLDENS = pathlib.Path(__file__).parent / 'goldens'


def error(got, wanted):
  got = np.asarray(got, np.float64)
  assert got.shape == wanted.shape
  return np.abs(got - wanted).max() / max(1, np.abs(wanted).max())


@functools.cache
def clips(folder):
  """The two clips of the golden data, the second one repeated."""
  found = np.load(folder / 'clips.npz')
  rows = [np.resize(found[f'pcm{i}'], 64_600) for i in range(2)]
  return jnp.asarray(np.stack(rows) / 32768, jnp.float32)


@pytest.fixture(autouse=True)
def heads(monkeypatch):
  """Of the golden data's tiny encoder; tensors do not tell them."""
  monkeypatch.setitem(ssl._HEADS, 32, 4)


@pytest.mark.parametrize('name', ['ssl_aasist', 'xlsr_sls', 'nes2net_x'])
def test_released_detectors(reference, name):
  folder = reference / 'ssl' / 'detectors'
  path, wanted = folder / f'{name}.pth', np.load(folder / f'{name}.npz')
  name, module, options = detector.open_checkpoint(path)
  assert options['samples'] == 64_600
  assert 'the second output is bona fide' in options['notes'][0]
  assert name in path.stem or name == 'sls'
  graphdef, *arrays = state.split(module)

  @jax.jit
  def run(params, stats, wave):
    model = state.eval_view(state.merge(graphdef, params, stats))
    features, _ = model.features(wave)
    return features, model.answer(wave).outputs

  features, outputs = run(*arrays, clips(folder))
  if name != 'sls':  # which takes other states than the last
    of = wanted['features'].reshape(features.shape[1:])
    assert error(features[0], of) < 1e-5
  if wanted['softmax_already']:
    outputs = jax.nn.log_softmax(outputs)
  assert error(outputs, wanted['output']) < 1e-4


def test_antideepfake(reference):
  folder = reference / 'ssl' / 'detectors' / 'antideepfake'
  golden = np.load(folder / 'golden.npz')
  name, module, options = detector.open_checkpoint(folder)
  assert name == 'mean' and 'mean 0 and variance 1' in options['notes'][0]
  graphdef, *arrays = state.split(module)

  @jax.jit
  def run(params, stats, wave):
    return state.eval_view(state.merge(graphdef, params, stats))(wave)

  wave = jnp.asarray(golden['pcm'] / 32768, jnp.float32)
  wanted = golden['logits']
  assert error(run(*arrays, wave), wanted) < 1e-4


@pytest.fixture(scope='module')
def mhfa():
  """The model and golden data of `tools/mhfa_goldens.py`."""
  golden = dict(np.load(GOLDENS / 'mhfa.npz'))
  architecture = frontends.WhisperConfig('random:miniature').known
  frontend = frontends.WhisperConfig(
    'random:miniature', output='all', architecture=architecture
  )
  system = SystemConfig(Mhfa, MhfaConfig(3, 6, 5), frontend)
  module = system.make(nnx.Rngs(0))
  table = {
    'weights_k': (module, 'key_mix'),
    'weights_v': (module, 'value_mix'),
    'cmp_linear_k': module.key,
    'cmp_linear_v': module.value,
    'att_head': module.attention,
    'pooling_fc': module.out,
  }
  places = {}
  for old, layer in table.items():
    if isinstance(layer, tuple):
      places[old] = layer
    else:
      places[f'{old}.weight'] = layer, 'kernel'
      places[f'{old}.bias'] = layer, 'bias'
  for old, (layer, name) in places.items():
    variable = getattr(layer, name)
    variable.set_value(jnp.asarray(golden[f'weights/{old}'].T))
  return module, golden, places


def test_mhfa(mhfa):
  module, golden, places = mhfa
  states = golden['states']
  features = jnp.asarray(states.reshape(*states.shape[:2], -1))
  graphdef, params = nnx.split(module, nnx.Param)[:2]

  def total(params, features, frames=None):
    made = nnx.merge(graphdef, params).encode(features, frames).embedding
    weights = jnp.cos(jnp.arange(made.size, dtype=jnp.float32))
    return (made * weights.reshape(made.shape)).sum(), made

  run = jax.jit(jax.grad(total, has_aux=True))
  grads, embedding = run(params, features)
  assert error(embedding, golden['embedding']) < 1e-5
  found = nnx.merge(graphdef, grads)
  ours = {id(module): found}
  for name in ('key', 'value', 'attention', 'out'):
    ours[id(getattr(module, name))] = getattr(found, name)
  for old, (layer, name) in places.items():
    got, of = getattr(ours[id(layer)], name)[...], golden[f'grad/{old}'].T
    if old != 'cmp_linear_k.bias' and old != 'att_head.bias':  # these are 0
      assert np.abs(got - of).max() < 5e-5 * max(1, np.abs(of).max()), old
  # What lies behind a clip's end does not matter.
  padded = jnp.pad(features, ((0, 0), (0, 4), (0, 0)), constant_values=9.0)
  _, again = run(params, padded, jnp.full((2,), states.shape[1], jnp.int32))
  np.testing.assert_allclose(again, embedding, rtol=1e-4, atol=1e-5)


def test_a_padded_clip_has_the_embedding_that_it_has_alone():
  system = models.system(
    {'name': 'nes2net', 'parts': 3, 'inner_parts': 2}, 'fbank80'
  )
  module = system.make(nnx.Rngs(0))
  graphdef, *arrays = state.split(module)

  @jax.jit
  def run(params, stats, features, frames):
    model = state.eval_view(state.merge(graphdef, params, stats))
    return model.encode(features, frames).embedding

  rng = np.random.default_rng(0)
  features = jnp.asarray(rng.normal(size=(1, 13, 80)), jnp.float32)
  alone = run(*arrays, features, None)
  assert alone.shape == (1, 81)
  padded = jnp.pad(features, ((0, 0), (0, 5), (0, 0)), constant_values=3.0)
  again = run(*arrays, padded, jnp.asarray([13], jnp.int32))
  np.testing.assert_allclose(again, alone, rtol=1e-4, atol=1e-5)


def test_sizes():
  # Of the back ends, behind XLS-R 300M; Tak et al. say 447 thousand.
  xlsr = {'name': 'ssl', 'weights': 'random:xlsr_300m'}
  encoder = 315_438_720 - 1024
  aasist = models.system({'name': 'ssl_aasist'}, xlsr).parameters() - encoder
  assert aasist == 447_242
  # 23,399 thousand are published, and of this one as many counted in the code.
  states = {**xlsr, 'output': 'all'}
  sls = models.system({'name': 'sls'}, states).parameters() - encoder
  assert sls == 23_399_429
  nes2net = models.system({'name': 'nes2net'}, xlsr).parameters() - encoder
  assert nes2net == 512_039


@pytest.mark.parametrize(
  'name',
  [
    f'{file}.py{variant}'
    for file in (
      'ssl_aasist',
      'ssl_conformer',
      'ssl_convtasnet',
      'ssl_mhfa',
      'ssl_sls',
      'ssl_nes2net',
    )
    for variant in ('', ':smoke')
  ]
  + ['ssl_aasist.py:frozen', 'ssl_mhfa.py:tuned', 'ssl_convtasnet.py:tuned']
  + [f'whisper_aasist.py{v}' for v in ('', ':tuned', ':quickstart')],
)
def test_configs(name):
  values = overrides.load(f'configs/{name}').to_dict()
  values['frontend']['weights'] = 'random:tiny'
  config = config_lib.run_config(values)
  system = models.system(config.model, config.frontend)
  assert not config.data.padded or system.kind.variable_length
  _, params, _ = state.split(system.abstract())
  optim.check_groups(config.optim, params)


def test_weights_of_other_models(reference):
  with pytest.raises(CheckpointError, match='no detector of AntiDeepfake, SSL'):
    ssl_detectors.load(reference / 'aasist/AASIST.pth')


def test_outputs_counted_from_the_other_end(reference):
  path = reference / 'ssl' / 'detectors' / 'nes2net_x.pth'
  usual, other = (
    detector.open_checkpoint(path, bonafide_label=label)
    for label in (None, '0')
  )
  assert 'the first output is bona fide' in other[2]['notes'][0]
  assert any('--self_test' in note for note in other[2]['notes'])
  for name in ('kernel', 'bias'):
    a, b = (
      np.asarray(getattr(found[1].head, name)) for found in (usual, other)
    )
    np.testing.assert_array_equal(a, b[..., ::-1])
  with pytest.raises(
    CheckpointError, match="label 'real': its outputs have no"
  ):
    detector.open_checkpoint(path, bonafide_label='real')


# Name in the golden data: what stands before the encoder, kind and model.
OF_OTHERS = {
  'df_arena': ('backbone.ssl_model.', 'DF Arena', 'conformer'),
  'spectra': ('ssl_encoder.model.', 'Spectra-0', 'spectra'),
  'spectra_aasist': (
    'ssl_encoder.model.',
    'Spectra-AASIST',
    'spectra_aasist',
  ),
  'wedefense': (
    'frontend.upstream.upstream.model.',
    'WeDefense (MHFA)',
    'mhfa',
  ),
  'deepfense_aasist': ('frontend.model.', 'DeepFense (AASIST)', 'ssl_aasist'),
  'deepfense_mlp': ('frontend.model.', 'DeepFense (MLP)', 'mean'),
  'deepfense_nes2net': ('frontend.model.', 'DeepFense (Nes2Net)', 'nes2net'),
  'deepfense_tcm': ('frontend.model.', 'DeepFense (TCM)', 'conformer'),
}


def release(reference, name, folder, **changes):
  """A directory as its authors publish it, of `tools/detector_goldens.py`.

  Args:
    reference: folder of the golden data.
    name: a key of `OF_OTHERS`.
    folder: to write it into.
    **changes: shapes of tensors, by their names with two underscores for dots;
      None leaves one out.

  Returns:
    What the original says of two waves.
  """
  golden = np.load(GOLDENS / 'detectors.npz')
  encoder = load_file(reference / 'ssl/wav2vec2_layer/model.safetensors')
  tensors = {OF_OTHERS[name][0] + key: array for key, array in encoder.items()}
  shapes = json.loads(str(golden[f'{name}/shapes']))
  shapes |= {key.replace('__', '.'): shape for key, shape in changes.items()}
  for tensor, shape in shapes.items():
    if shape is None or tensor.endswith('num_batches_tracked'):
      continue
    if tensor.endswith('positional_emb'):
      tensors[tensor] = conformer.positions(*shape[1:])[None]
    else:
      tensors[tensor] = drawn(
        tensor, tuple(shape), float(golden[f'{name}/gain'])
      )
  folder.mkdir(exist_ok=True)
  save_file(tensors, folder / 'model.safetensors')
  return golden[f'{name}/outputs']


@pytest.mark.parametrize('name', OF_OTHERS)
def test_detectors_of_others(reference, name, tmp_path):
  wanted = release(reference, name, tmp_path)
  _, kind, model = OF_OTHERS[name]
  found, module, options = detector.open_checkpoint(tmp_path)
  first = name == 'wedefense'  # whose first output is bona fide
  output = 'first' if first else 'second'
  assert f'weights of {kind}: the {output} output' in options['notes'][0]
  assert found == model and 'licence: none' not in options['notes'][1]
  samples = {'wedefense': checkpoints.LONGEST}.get(name, 64_600)
  assert options['samples'] == (64_000 if 'deepfense' in name else samples)
  assert ('bucket' in options) == first
  graphdef, *arrays = state.split(module)

  @jax.jit
  def run(params, stats, wave, kept=None):
    model = state.eval_view(state.merge(graphdef, params, stats))
    return model.answer(wave, kept=kept).outputs

  golden = np.load(reference / 'ssl/wav2vec2_layer/golden.npz')
  front = module.frontend.config
  if first:  # its waves are normalised, those of the golden data are not
    assert front.normalise_wave == 'fairseq'
    states = np.stack([*golden['hidden'][:-1], golden['last']], 2)
    features = jnp.asarray(states.reshape(*states.shape[:2], -1))
    outputs = run(*arrays, None, (features, None))
    assert error(outputs[:, ::-1], wanted) < 1e-4
    frames = jnp.asarray([features.shape[1]] * 2, jnp.int32)
    padded = jnp.pad(features, ((0, 0), (0, 3), (0, 0)), constant_values=1)
    again = run(*arrays, None, (padded, frames))
    np.testing.assert_allclose(again, outputs, atol=1e-5)
    return
  wave = golden['pcm'] / 32768
  # So that the encoder hears what the golden data's has heard.
  if factor := front.pre_emphasis:
    wave = scipy.signal.lfilter([1], [1, -factor], wave)
  assert error(run(*arrays, jnp.asarray(wave, jnp.float32)), wanted) < 1e-4


def test_settings_beside_weights(reference, tmp_path):
  release(reference, 'deepfense_aasist', tmp_path)
  settings = tmp_path / 'config.yaml'
  settings.write_text(
    'data: {label_map: {bonafide: 0, spoof: 1}}\n'
    'model:\n  backend:\n    args: {pool_ratios: [0.4, 0.5, 0.7, 0.5]}\n'
  )
  _, module, options = detector.open_checkpoint(tmp_path)
  assert module.config.pool_ratios == (0.4, 0.5, 0.7)
  assert 'the first output is bona fide' in options['notes'][0]
  for text, message in (
    ('a: [', 'not YAML'),
    ('- a', 'a mapping, found a list'),
    (
      'data: {label_map: {bonafide: 2}}',
      'output 2 is bona fide; expected',
    ),
  ):
    settings.write_text(text)
    with pytest.raises(CheckpointError, match=rf'config.yaml.*{message}'):
      detector.open_checkpoint(tmp_path)


@pytest.mark.parametrize(
  ('name', 'changes', 'message'),
  [
    (
      'deepfense_mlp',
      {'losses__0__fc__weight': None, 'losses__0__weight': (32, 2)},
      'recognised as DeepFense, with another loss .*not supported',
    ),
    (
      'deepfense_mlp',
      {'backend__pool_layer__attention__weight': (1, 32)},
      'a DeepFense .MLP. without a back end that is known: backend.pool_layer',
    ),
    (
      'wedefense',
      {'projection__trans__2__weight': None},
      'recognised as WeDefense, with .* another projection .*not supported',
    ),
    (
      'spectra',
      {'ecapa_tdnn__layer4__conv1__weight': None, 'aasist__branch1__x': (1,)},
      'recognised as Spectra-AASIST3.*not supported',
    ),
    (
      'df_arena',
      {'backbone__fc0__bias': None},
      'does not fit .1 differences.\n  missing: gate.bias',
    ),
  ],
)
def test_what_is_recognised_and_not_taken(
  name, changes, message, reference, tmp_path, capsys
):
  release(reference, name, tmp_path, **changes)
  with pytest.raises(CheckpointError, match=message):
    detector.open_checkpoint(tmp_path)
  if 'recognised' in message:
    assert weights_cli.main([str(tmp_path)]) == 1
    assert re.search(message, capsys.readouterr().out)


def test_positions_that_were_learned(reference, tmp_path):
  release(reference, 'df_arena', tmp_path)
  path = tmp_path / 'model.safetensors'
  tensors = load_file(path)
  tensors['backbone.conformer.positional_emb'][0, 3, 0] += 0.1
  save_file(tensors, path)
  with pytest.raises(CheckpointError, match='without the sines and cosines of'):
    detector.open_checkpoint(tmp_path)
