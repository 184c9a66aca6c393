"""Weights of self-supervised encoders in all the forms that people have."""

import json
import re
import shutil
import struct

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from jaxspoof.frontends.ssl import names as ssl_names
from jaxspoof.frontends.ssl import weights as ssl
from jaxspoof.tensors import files
from jaxspoof.tensors.unpickler import CheckpointError

pytestmark = pytest.mark.usefixtures('programs')

FAIRSEQ = (
  'wav2vec_small_like',
  'xlsr2_like',
  'hubert_base_like',
  'hubert_large_like',
  'wavlm_base_like',
  'wavlm_large_like',
)


def arrays_of(encoder):
  return jax.tree.leaves(nnx.to_pure_dict(nnx.state(encoder)))


def assert_same(one, other):
  for a, b in zip(arrays_of(one), arrays_of(other), strict=True):
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize('name', FAIRSEQ)
def test_fairseq_files(reference, name):
  path = reference / 'ssl/fairseq' / f'{name}.pt'
  wanted = np.load(path.with_suffix('.npz'))
  source = ssl.describe(path)
  assert source.normalise == bool(wanted['normalize'])
  assert source.guessed == ''
  assert source.architecture.buckets == (320 if 'wavlm' in name else 0)
  wave = jnp.asarray(wanted['pcm'] / 32768, jnp.float32)
  graphdef, arrays = nnx.split(ssl.load(path))
  run = jax.jit(lambda a, x: nnx.merge(graphdef, a)(x, hidden=True))
  states = run(arrays, wave)
  for got, of in (
    (states.hidden, wanted['hidden']),
    (states.last, wanted['last']),
  ):
    assert np.abs(got - of).max() < 1e-5 * max(1, np.abs(of).max())


@pytest.fixture
def folder(reference, tmp_path):
  """A copy of a directory, to be changed."""
  made = tmp_path / 'weights'
  shutil.copytree(reference / 'ssl/wav2vec2_layer', made)
  for path in (made, *made.iterdir()):
    path.chmod(0o755)
  return made


def divide(folder, parts=2):
  """The weights of a directory in several files with an index."""
  tensors = load_file(folder / 'model.safetensors')
  names = list(tensors)
  places = {}
  for i in range(parts):
    file = f'model-0000{i + 1}-of-0000{parts}.safetensors'
    own = names[i::parts]
    save_file({name: tensors[name] for name in own}, folder / file)
    places |= dict.fromkeys(own, file)
  (folder / 'model.safetensors').unlink()
  index = folder / 'model.safetensors.index.json'
  index.write_text(json.dumps({'metadata': {}, 'weight_map': places}))
  return index


def test_shards(reference, folder):
  index = divide(folder)
  whole = ssl.load(reference / 'ssl/wav2vec2_layer')
  assert_same(ssl.load(folder), whole)
  first = index.with_name('model-00001-of-00002.safetensors')
  first.rename(first.with_suffix('.away'))
  with pytest.raises(CheckpointError, match='its shard model-00001.* missing'):
    ssl.load(folder)
  first.with_suffix('.away').rename(first)
  places = json.loads(index.read_text())['weight_map']
  index.write_text(json.dumps({'weight_map': {**places, 'x': first.name}}))
  with pytest.raises(CheckpointError, match="1 tensors are in no shard.*'x'"):
    ssl.load(folder)
  for place in ('../weights/' + first.name, 3, '/etc/passwd'):
    index.write_text(json.dumps({'weight_map': {**places, 'x': place}}))
    with pytest.raises(CheckpointError, match='is not the name of a file'):
      ssl.load(folder)
  index.write_text('[1]')
  with pytest.raises(CheckpointError, match='index.json: expected a JSON obj'):
    ssl.load(folder)


def test_values_of_two_bytes(folder):
  tensors = load_file(folder / 'model.safetensors')
  for dtype in (ml_dtypes.bfloat16, np.float16):
    rounded = {name: a.astype(dtype) for name, a in tensors.items()}
    save_file(rounded, folder / 'model.safetensors')
    encoder = ssl.load(folder)
    np.testing.assert_array_equal(
      encoder.projection.kernel[...],
      rounded['feature_projection.projection.weight'].T.astype(np.float32),
    )


@pytest.mark.parametrize(
  'header',
  [
    {'dtype': 'F32', 'shape': [600], 'data_offsets': [0, 24]},
    {'dtype': 'F32', 'shape': [6], 'data_offsets': [0, 2400]},
    {'dtype': 'F32', 'shape': [2**62, 4], 'data_offsets': [0, 24]},
    {'dtype': 'F32', 'shape': [6], 'data_offsets': [24, 0]},
    {'dtype': 'F8_E4M3', 'shape': [24], 'data_offsets': [0, 24]},
    {'dtype': 'F32', 'shape': [-6], 'data_offsets': [0, 24]},
    'text',
    None,
  ],
)
def test_safetensors_that_lie(tmp_path, header):
  path = tmp_path / 'x.safetensors'
  text = json.dumps({'a': header}).encode()
  size = 2**40 if header is None else len(text)
  path.write_bytes(struct.pack('<Q', size) + text + bytes(24))
  with pytest.raises(CheckpointError, match='x.safetensors: damaged, cut'):
    files.open_weights(path)


def test_overlapping_safetensors(tmp_path):
  path = tmp_path / 'x.safetensors'
  one = {'dtype': 'F32', 'shape': [6], 'data_offsets': [0, 24]}
  text = json.dumps({'a': one, 'b': one}).encode()
  path.write_bytes(struct.pack('<Q', len(text)) + text + bytes(24))
  with pytest.raises(CheckpointError, match='x.safetensors: damaged, cut'):
    files.open_weights(path)


def test_folders_without_weights(folder, tmp_path):
  (folder / 'model.safetensors').unlink()
  with pytest.raises(CheckpointError, match='no weights there; expected model'):
    ssl.load(folder)
  with pytest.raises(CheckpointError, match='nowhere: nothing there; expected'):
    ssl.load(tmp_path / 'nowhere')
  (folder / 'config.json').write_text('{')
  with pytest.raises(CheckpointError, match='config.json: not JSON'):
    ssl.load(folder)


def test_wrapped_names(reference):
  plain = load_file(reference / 'ssl/wav2vec2_group/model.safetensors')
  wanted, rest = ssl_names.encoder_part(plain)
  assert list(rest) == ['masked_spec_embed']
  for prefix in ('wav2vec2.', 'ssl_model.model.', 'backbone.ssl_model.'):
    tensors = {prefix + name: array for name, array in plain.items()}
    tensors['classifier.weight'] = np.ones((2, 3), np.float32)
    found, others = ssl_names.encoder_part(tensors)
    assert found.keys() == wanted.keys()
    assert set(others) == {f'{prefix}masked_spec_embed', 'classifier.weight'}
    unused = {name for name in others if ssl_names.unused(name)}
    assert unused == {f'{prefix}masked_spec_embed'}


def torchaudio_name(name):
  """The name in torchaudio of one of Hugging Face's."""
  if name.startswith('feature_projection.'):
    return f'encoder.{name}'
  name = re.sub(r'^encoder\.', 'encoder.transformer.', name)
  inner = r'(\.attention)\.(out_proj|gru_|rel_)'
  return re.sub(inner, r'\1.\2', name).replace(
    '.attention.out_proj', '.attention.attention.out_proj'
  )


@pytest.mark.parametrize('name', ['hubert_layer', 'wavlm_group'])
def test_torchaudio_names(reference, name):
  folder = reference / 'ssl' / name
  wanted, _ = ssl_names.encoder_part(load_file(folder / 'model.safetensors'))
  theirs = {torchaudio_name(n): array for n, array in wanted.items()}
  if name.startswith('wavlm'):  # packs what the others do not
    for kind in ('weight', 'bias'):
      for i in range(2):
        stem = f'encoder.transformer.layers.{i}.attention.'
        rows = [theirs.pop(f'{stem}{part}_proj.{kind}') for part in 'qkv']
        theirs[f'{stem}attention.in_proj_{kind}'] = np.concatenate(rows)
  else:
    theirs = {
      n.replace('.attention.attention.', '.attention.'): array
      for n, array in theirs.items()
    }
  found, others = ssl_names.encoder_part(theirs)
  assert not others and found.keys() == wanted.keys()
  for key, array in wanted.items():
    np.testing.assert_array_equal(found[key], array)


def test_tensors_alone_tell_the_architecture(reference):
  for name in ('wav2vec2_layer', 'hubert_batch_norm', 'wav2vec2_group'):
    folder = reference / 'ssl' / name
    wanted = ssl.describe(folder).architecture
    tensors, _ = ssl_names.encoder_part(load_file(folder / 'model.safetensors'))
    with pytest.raises(CheckpointError, match='width 32 do not tell the num'):
      ssl.of_settings(tensors, {}, 'x.pt')
    cfg = {'model': {'encoder_attention_heads': 4}, 'task': {'normalize': True}}
    found = ssl.of_settings(tensors, {'cfg': cfg}, 'x.pt')
    assert found.normalise is True
    assert found.architecture.__dict__ == {
      **wanted.__dict__,
      'max_distance': 1280,
    }


def test_files_of_other_models(reference):
  with pytest.raises(CheckpointError, match='AASIST.pth: no encoder of wav2'):
    ssl.describe(reference / 'aasist/AASIST.pth')
  tensors = load_file(reference / 'ssl/wavlm_group/model.safetensors')
  encoder, _ = ssl_names.encoder_part(tensors)
  with pytest.raises(CheckpointError, match=r'sizes \(10, 3, 3\), whose strid'):
    ssl.of_settings(encoder, {}, 'x.pt')
