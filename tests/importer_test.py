"""Reading PyTorch checkpoints: right values, and no harm from bad files."""

import collections
import copyreg
import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from jaxspoof import models
from jaxspoof.tensors import torch_pickle, unpickler
from jaxspoof.tensors.torch_pickle import CheckpointError
from jaxspoof.weights import aasist

LEGACY = 0x1950A86A20F9469CFC6C

# -- files made by hand: the format itself, without PyTorch ------------------


class Name:
  """Pickles as a bare global."""

  def __init__(self, module, name):
    self.module, self.name = module, name


class Call:
  """Pickles as a call of a global."""

  def __init__(self, module, name, *args):
    self.function, self.args = Name(module, name), args


class Storage:
  """Pickles as the persistent id of a record."""

  def __init__(self, kind, key, count, module='torch'):
    self.id = ('storage', Name(module, kind), key, 'cpu', count)


class Writer(pickle._Pickler):
  """Writes names without importing them."""

  def save(self, obj, save_persistent_id=True):
    if isinstance(obj, Name):
      self.write(f'c{obj.module}\n{obj.name}\n'.encode())
    elif isinstance(obj, Call):
      self.save(obj.function)
      self.save(obj.args)
      self.write(pickle.REDUCE)
    elif isinstance(obj, Storage):
      self.save(obj.id)
      self.write(pickle.BINPERSID)
    else:
      super().save(obj, save_persistent_id)


def pickled(tree, protocol=2):
  buffer = io.BytesIO()
  Writer(buffer, protocol).dump(tree)
  return buffer.getvalue()


def tensor(kind, key, count, offset, shape, strides):
  storage = Storage(kind, key, count)
  rebuild = ('torch._utils', '_rebuild_tensor_v2')
  return Call(*rebuild, storage, offset, shape, strides, False, {})


def write(path, data, records=(), **options):
  """A checkpoint with this pickle and these records."""
  with zipfile.ZipFile(path, 'w', **options) as archive:
    archive.writestr('archive/data.pkl', data)
    for key, record in dict(records).items():
      archive.writestr(f'archive/data/{key}', record)
    archive.writestr('archive/version', '3\n')
  return path


def save(path, tree, records=()):
  arrays = {k: np.asarray(v).tobytes() for k, v in dict(records).items()}
  return write(path, pickled(tree), arrays)


def test_hand_written_checkpoint(tmp_path):
  record = np.arange(12, dtype=np.float32)
  tree = {
    'whole': tensor('FloatStorage', '0', 12, 0, (3, 4), (4, 1)),
    'transposed': tensor('FloatStorage', '0', 12, 0, (4, 3), (1, 4)),
    'row': tensor('FloatStorage', '0', 12, 4, (4,), (1,)),
    'scalar': tensor('FloatStorage', '0', 12, 11, (), ()),
    'expanded': tensor('FloatStorage', '0', 12, 5, (1000, 2), (0, 1)),
    'empty': tensor('LongStorage', '1', 0, 0, (0, 3), (3, 1)),
  }
  path = save(
    tmp_path / 'x.pth', tree, {'0': record, '1': np.empty(0, np.int64)}
  )
  got = torch_pickle.load(path)
  assert list(got) == list(tree)
  matrix = record.reshape(3, 4)
  np.testing.assert_array_equal(got['whole'], matrix)
  np.testing.assert_array_equal(got['transposed'], matrix.T)
  np.testing.assert_array_equal(got['row'], matrix[1])
  assert got['scalar'].shape == () and got['scalar'] == 11
  np.testing.assert_array_equal(got['expanded'], np.tile([[5, 6]], (1000, 1)))
  assert got['empty'].shape == (0, 3) and got['empty'].dtype == np.int64
  assert np.shares_memory(got['whole'], got['row'])
  assert not got['whole'].flags.writeable


def test_containers(tmp_path):
  tree = collections.OrderedDict(
    epoch=7,
    lr=0.5,
    name='adam',
    big=2**70,
    flags=[True, False, None],
    pair=(1, 2, 3, (4,)),
    adam={'state': {0: {'step': 1}}, 'param_groups': [{'params': [0]}]},
    nested={0: {'a': []}},
  )
  for protocol in range(2, 6):
    path = write(tmp_path / f'{protocol}.pth', pickled(tree, protocol))
    assert torch_pickle.load_tree(path) == tree


def test_big_endian_checkpoint(tmp_path):
  tree = {'x': tensor('IntStorage', '0', 2, 0, (2,), (1,))}
  path = save(tmp_path / 'x.pth', tree, {'0': np.array([1, 258], '>i4')})
  with zipfile.ZipFile(path, 'a') as archive:
    archive.writestr('archive/byteorder', 'big')
  np.testing.assert_array_equal(torch_pickle.load(path)['x'], [1, 258])


@pytest.mark.parametrize(
  'wrap',
  [
    lambda weights: {'epoch': 3, 'state_dict': weights},
    lambda weights: {'state_dict': {'model': weights}, 'optimizer': {}},
    lambda weights: {**weights, 'epoch': 3, 'name': 'x', 'best': None},
    lambda weights: {f'module.{k}': v for k, v in weights.items()},
    lambda weights: {f'_orig_mod.{k}': v for k, v in weights.items()},
    lambda weights: {
      'pytorch-lightning_version': '2.1',
      'state_dict': {f'model._orig_mod.{k}': v for k, v in weights.items()},
    },
  ],
)
def test_wrapped_state_dictionary(tmp_path, wrap):
  one = tensor('FloatStorage', '0', 1, 0, (1,), (1,))
  weights = {'w': one, 'model.v': one}
  path = save(tmp_path / 'x.pth', wrap(weights), {'0': np.ones(1, np.float32)})
  assert list(torch_pickle.load(path)) == ['w', 'model.v']


def test_a_checkpoint_without_weights(tmp_path):
  path = save(tmp_path / 'y.pth', {'epoch': 3, 'optimizer': {}})
  with pytest.raises(CheckpointError, match="y.pth: expected .* 'epoch'"):
    torch_pickle.load(path)


# -- the same as PyTorch, where it is installed ------------------------------


def test_equals_torch(tmp_path):
  torch = pytest.importorskip('torch', reason='PyTorch is not installed')
  names = (
    'float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool '
    'complex64 complex128 uint16 uint32 uint64 float8_e4m3fn float8_e5m2'
  )
  base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
  tree = {n: base.to(getattr(torch, n)) for n in names.split()}
  tree |= {
    'permuted': base.permute(2, 0, 1),
    'strided': base[:, ::2, 1:],
    'expanded': base[:, :, :1].expand(2, 3, 5),
    'parameter': torch.nn.Parameter(base[1]),
    'scalar': base[1, 2, 3],
    'empty': torch.zeros(0, 4),
  }
  path = tmp_path / 'x.pth'
  torch.save(collections.OrderedDict(tree), path)
  got = torch_pickle.load(path)
  assert list(got) == list(tree)
  for name, wanted in tree.items():
    assert got[name].shape == tuple(wanted.shape), name
    assert str(got[name].dtype) == str(wanted.dtype).split('.')[-1], name
    np.testing.assert_array_equal(
      got[name].astype(np.complex128),
      wanted.detach().to(torch.complex128).numpy(),
      err_msg=name,
    )
  assert got['bfloat16'].dtype == ml_dtypes.bfloat16
  assert np.shares_memory(got['permuted'], got['float32'])


def test_whole_torch_module_is_refused(tmp_path):
  torch = pytest.importorskip('torch', reason='PyTorch is not installed')
  path = tmp_path / 'x.pth'
  torch.save(torch.nn.Linear(2, 3), path)
  with pytest.raises(CheckpointError, match='torch.nn.modules.linear.Linear'):
    torch_pickle.load(path)


def test_old_torch_format(tmp_path):
  torch = pytest.importorskip('torch', reason='PyTorch is not installed')
  path = tmp_path / 'x.pth'
  wanted = torch.arange(6.0).reshape(2, 3)
  tree = {'x': wanted, 'row': wanted[1], 'half': wanted.half()}
  torch.save(tree, path, _use_new_zipfile_serialization=False)
  got = torch_pickle.load(path)
  np.testing.assert_array_equal(got['x'], wanted.numpy())
  np.testing.assert_array_equal(got['row'], wanted[1].numpy())
  assert got['half'].dtype == np.float16


# -- files from before PyTorch 1.6 -------------------------------------------


def save_legacy(path, tree, records, keys=None, little=True, magic=LEGACY):
  """Pickles, then for each storage its count and its values."""
  parts = (magic, 1001, {'little_endian': little}, tree, keys or list(records))
  data = b''.join(map(pickled, parts))
  for array in records.values():
    data += struct.pack('<q', array.size) + array.tobytes()
  path.write_bytes(data)
  return path


def legacy_tensor(kind, key, count, shape, strides):
  made = tensor(kind, key, count, 0, shape, strides)
  made.args[0].id += (None,)  # of no other storage
  return made


def test_legacy_file(tmp_path):
  record = np.arange(12, dtype=np.float32)
  tree = {
    'x': legacy_tensor('FloatStorage', '94', 12, (3, 4), (4, 1)),
    'transposed': legacy_tensor('FloatStorage', '94', 12, (4, 3), (1, 4)),
    'n': legacy_tensor('LongStorage', '7', 1, (), ()),
  }
  records = {'94': record, '7': np.array([3])}
  got = torch_pickle.load(save_legacy(tmp_path / 'x.pt', tree, records))
  np.testing.assert_array_equal(got['x'], record.reshape(3, 4))
  np.testing.assert_array_equal(got['transposed'], record.reshape(3, 4).T)
  assert got['n'] == 3 and not got['x'].flags.writeable


@pytest.mark.parametrize(
  'change, problem',
  [
    ({'magic': 5}, 'not as PyTorch before 1.6 wrote'),
    ({'little': False}, 'big-endian'),
    ({'keys': ['0', '1']}, 'not those that it lists'),
    ({'keys': 'other'}, 'not those that it lists'),
    ({'records': {'0': np.ones(3, np.float32)}}, 'another length'),
    ({'kind': 'DoubleStorage'}, 'truncated'),
    ({'count': 10**9}, 'more than the file does'),
    ({'count': -1}, 'more than the file does'),
  ],
)
def test_damaged_legacy_files(tmp_path, change, problem):
  change = {'records': {'0': np.ones(4, np.float32)}, 'count': 4, **change}
  kind, count = change.pop('kind', 'FloatStorage'), change.pop('count')
  tree = {'x': legacy_tensor(kind, '0', count, (1,), (1,))}
  path = save_legacy(tmp_path / 'x.pt', tree, **change)
  with pytest.raises(CheckpointError, match=f'x.pt: .*{problem}'):
    torch_pickle.load(path)


def test_truncated_legacy_file(tmp_path):
  tree = {'x': legacy_tensor('FloatStorage', '0', 9, (9,), (1,))}
  records = {'0': np.ones(9, np.float32)}
  whole = save_legacy(tmp_path / 'whole.pt', tree, records).read_bytes()
  path = tmp_path / 'cut.pt'
  for size in range(len(whole)):
    path.write_bytes(whole[:size])
    with pytest.raises(CheckpointError, match='cut.pt'):
      torch_pickle.load(path)


# -- objects of other programs beside the weights ----------------------------


def test_objects_beside_the_weights_stay_names(tmp_path):
  victim = tmp_path / 'victim'
  one = tensor('FloatStorage', '0', 1, 0, (1,), (1,))
  called = b'cargparse\nNamespace\n)'
  data = pickled(
    {
      'args': Call('argparse', 'Namespace'),
      'hook': Call('os', 'system', f'touch {victim}'),
      'model': {'w': one},
    }
  )
  assert data.count(called + b'R') == 1
  # As a real Namespace is made: NEWOBJ, and BUILD of a dictionary.
  built = called + b'\x81}(X\x06\x00\x00\x00layersK\x02ub'
  data = data.replace(called + b'R', built)
  path = write(tmp_path / 'x.pt', data, {'0': np.ones(1, np.float32).tobytes()})
  found = torch_pickle.read(path)
  assert found.tensors['w'] == 1
  assert repr(found.around['hook']) == 'os.system' and not victim.exists()
  assert repr(found.around['args']) == 'argparse.Namespace'
  assert unpickler.settings(found.around['args']) == {'layers': 2}
  with pytest.raises(CheckpointError, match='x.pt: .* asks for'):
    torch_pickle.load_tree(path)


def test_objects_inside_the_weights_are_refused(tmp_path):
  one = tensor('FloatStorage', '0', 1, 0, (1,), (1,))
  record = {'0': np.ones(1, np.float32)}
  hidden = {'w': one, 'deep': [({'x': Call('os', 'system', 'true')},)]}
  for tree in (hidden, {'epoch': 1, 'state_dict': hidden}):
    path = save(tmp_path / 'x.pt', tree, record)
    with pytest.raises(CheckpointError, match='x.pt: .*asks for os.system'):
      torch_pickle.load(path)


def test_settings_of_other_programs():
  node = unpickler.Opaque('omegaconf.nodes.AnyNode')
  node.state = {'_val': 24}
  config = unpickler.Opaque('omegaconf.dictconfig.DictConfig')
  config.state = {'_content': {'layers': node, 'name': 'x'}}
  assert unpickler.settings(config) == {'layers': 24, 'name': 'x'}
  arguments = unpickler.Opaque('argparse.Namespace')
  assert unpickler.settings(arguments) == {}
  arguments.state = {'layers': 2}
  assert unpickler.settings(arguments) == {'layers': 2}
  assert unpickler.settings([1]) == unpickler.settings(node) == {}


# -- malice -------------------------------------------------------------------


def _attacks(command):
  """Pickles that would run a command, and what the error must name."""
  text = command.encode()
  python = f'__import__("os").system({command!r})'
  nested = pickle.dumps({'x': 1})
  system = b'cposix\nsystem\n'
  argument = b'(X' + struct.pack('<I', len(text)) + text + b't'
  return {
    'reduce': (b'\x80\x02' + system + argument + b'R.', 'posix.system'),
    'protocol 4': (
      b'\x80\x04\x8c\x05posix\x8c\x06system\x93' + argument + b'R.',
      'posix.system',
    ),
    'eval': (pickled(Call('builtins', 'eval', python)), 'builtins.eval'),
    'python 2 eval': (pickled(Call('__builtin__', 'eval', command)), 'eval'),
    'getattr': (pickled(Call('builtins', 'getattr', 1, 'x')), 'getattr'),
    'instance': (b'(V' + text + b'\nios\nsystem\n.', 'opcode INST'),
    'object': (b'(' + system + b'V' + text + b'\no.', 'opcode OBJ'),
    'new object': (
      b'\x80\x02ccollections\nOrderedDict\n)\x81.',
      'asks for collections.OrderedDict',
    ),
    'extension': (b'\x80\x02\x82\xf0' + argument + b'R.', 'EXT1'),
    'extension 2': (b'\x80\x02\x83\xf0\x00' + argument + b'R.', 'EXT2'),
    'text persistent id': (b'Pos.system\n.', 'PERSID'),
    'persistent id': (
      b'\x80\x02' + argument + b'Q.',
      'unknown persistent id',
    ),
    'storage kind': (
      pickled(Storage('system', '0', 1, module='os')),
      'os.system',
    ),
    'build': (
      b'\x80\x02ccollections\nOrderedDict\n}X\x0c\x00\x00\x00__setstate__'
      + system
      + b'sb.',
      'changes collections.OrderedDict',
    ),
    'build of a global': (
      b'\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}b.',
      'expected a dict',
    ),
    'nested pickle': (
      pickled(Call('torch.storage', '_load_from_bytes', nested)),
      'torch.storage._load_from_bytes',
    ),
    'attribute of a module': (
      pickled(Call('torch._utils', 'os.system', command)),
      'torch._utils.os.system',
    ),
    'numpy object array': (
      pickled(Call('numpy.core.multiarray', '_reconstruct', 0)),
      'numpy.core.multiarray._reconstruct',
    ),
    'call of a value': (
      b'\x80\x02X\x01\x00\x00\x00a' + argument + b'R.',
      "calls 'a'",
    ),
    'hidden under a tensor': (
      pickled(
        Call(
          'torch._utils', '_rebuild_parameter', Call('os', 'system', command)
        )
      ),
      'os.system',
    ),
  }


@pytest.mark.parametrize('kind', sorted(_attacks('')))
def test_malicious_pickle_is_refused(tmp_path, kind):
  victim = tmp_path / 'victim'
  data, named = _attacks(f'touch {victim}')[kind]
  path = write(tmp_path / 'evil.pth', data)
  copyreg.add_extension('posix', 'system', 0xF0)
  try:
    with pytest.raises(CheckpointError, match=f'(?s)evil.pth: .*{named}'):
      torch_pickle.load_tree(path)
  finally:
    copyreg.remove_extension('posix', 'system', 0xF0)
  assert not victim.exists()


def test_the_attacks_are_real(tmp_path):
  # Otherwise the test above could pass for pickles that do nothing.
  worked = []
  for kind in ('reduce', 'protocol 4', 'eval', 'instance', 'object'):
    victim = tmp_path / kind.replace(' ', '_')
    data, _ = _attacks(f'touch {victim}')[kind]
    pickle.loads(data)
    worked.append(victim.exists())
  assert all(worked)


@pytest.mark.parametrize(
  'data, wanted',
  [
    (b'}r\xff\xff\xff\x7f.', {}),  # a memo of 2^31 places
    (b'}p99999999999999999999\n.', {}),
    (b'\x8e' + b'\xff' * 7 + b'\x7f.', CheckpointError),  # bytes of 2^63
    (b'X\xff\xff\xff\xff.', CheckpointError),
    (b'\x8b\xff\xff\xff\x7f.', CheckpointError),  # a number as long
    (b'\x95' + b'\xff' * 7 + b'\x7f.', CheckpointError),  # a frame
    (b'\x96' + b'\x00' * 5 + b'\x01\x00\x00.', CheckpointError),  # a bytearray
    (b'(' * 10**5 + b'.', CheckpointError),
  ],
)
def test_sizes_that_lie_take_no_memory(tmp_path, data, wanted):
  path = write(tmp_path / 'x.pth', b'\x80\x04' + data)
  tracemalloc.start()
  try:
    if wanted is CheckpointError:
      with pytest.raises(CheckpointError, match='x.pth'):
        torch_pickle.load_tree(path)
    else:
      assert torch_pickle.load_tree(path) == wanted
    assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
  finally:
    tracemalloc.stop()


def test_exponential_pickles_stay_cheap(tmp_path):
  # Nested tuples double in printing and hashing at each of 200 levels.
  tower = b'\x80\x02)q\x00' + b'h\x00h\x00\x86q\x00' * 200
  for tail in (b'Q.', b'}h\x00K\x01s.', b'h\x00R.'):
    path = write(tmp_path / 'x.pth', tower + tail)
    with pytest.raises(CheckpointError, match='x.pth') as error:
      torch_pickle.load_tree(path)
    assert len(str(error.value)) < 1000
  torch_pickle.load_tree(write(tmp_path / 'x.pth', tower + b'.'))


# -- damage -------------------------------------------------------------------


def test_truncated_files(tmp_path):
  tree = {'x': tensor('FloatStorage', '0', 64, 0, (64,), (1,))}
  whole = save(
    tmp_path / 'whole.pth', tree, {'0': np.ones(64, np.float32)}
  ).read_bytes()
  path = tmp_path / 'cut.pth'
  for size in [0, 1, 3, 4, 30, *range(50, len(whole) - 1, 17), len(whole) - 1]:
    path.write_bytes(whole[:size])
    with pytest.raises(CheckpointError, match='cut.pth'):
      torch_pickle.load(path)


# The parser warns of odd escapes in text strings before they are refused.
@pytest.mark.filterwarnings('ignore:invalid escape')
def test_truncated_and_garbled_pickles(tmp_path):
  tree = {'x': tensor('FloatStorage', '0', 4, 0, (4,), (1,)), 'y': [(1, 'a')]}
  data, record = pickled(tree), np.ones(4, np.float32).tobytes()
  rng = np.random.default_rng(0)
  path = tmp_path / 'x.pth'
  for size in range(len(data)):
    write(path, data[:size], {'0': record})
    with pytest.raises(CheckpointError, match='x.pth'):
      torch_pickle.load_tree(path)
  for _ in range(500):
    garbled = bytearray(data)
    for at in rng.integers(0, len(data), 3):
      garbled[at] = rng.integers(256)
    write(path, bytes(garbled), {'0': record})
    try:
      torch_pickle.load_tree(path)  # a harmless change may go unnoticed
    except CheckpointError as error:
      assert 'x.pth' in str(error)


def test_flipped_byte_in_a_record(tmp_path):
  tree = {'x': tensor('FloatStorage', '0', 64, 0, (64,), (1,))}
  path = save(tmp_path / 'x.pth', tree, {'0': np.ones(64, np.float32)})
  data = bytearray(path.read_bytes())
  data[data.index(np.ones(8, np.float32).tobytes()) + 5] ^= 1
  path.write_bytes(data)
  with pytest.raises(CheckpointError, match='x.pth.*CRC'):
    torch_pickle.load(path)


@pytest.mark.parametrize(
  'arguments, problem',
  [
    ((64, 0, (65,), (1,)), 'beyond its storage'),
    ((64, 1, (64,), (1,)), 'beyond its storage'),
    ((64, 0, (2, 2), (63, 2)), 'beyond its storage'),
    ((64, -1, (2,), (1,)), 'offset -1'),
    ((64, 0, (2,), (-1,)), r'strides \(-1,\)'),
    ((64, 0, (2, 2), (1,)), 'strides'),
    ((64, 0, (2.0,), (1,)), 'shape'),
    ((64, 0, (2**62, 0), (1, 1)), 'shape'),
    ((64, 0, 'ab', 'cd'), 'without shape'),
    ((64, 0, (1,) * 1000, (1,) * 1000), 'shape'),
    ((63, 0, (1,), (1,)), 'should hold 63 values'),
    ((10**12, 0, (1,), (1,)), 'should hold 1000000000000 values'),
    (('many', 0, (1,), (1,)), 'unknown storage'),
  ],
)
def test_tensor_outside_its_storage(tmp_path, arguments, problem):
  tree = {'x': tensor('FloatStorage', '0', *arguments)}
  path = save(tmp_path / 'x.pth', tree, {'0': np.ones(64, np.float32)})
  with pytest.raises(CheckpointError, match=f'x.pth: .*{problem}'):
    torch_pickle.load(path)


def test_missing_record(tmp_path):
  path = save(
    tmp_path / 'x.pth', {'x': tensor('FloatStorage', '7', 1, 0, (1,), (1,))}
  )
  with pytest.raises(CheckpointError, match="record 'data/7' is missing"):
    torch_pickle.load(path)


def test_zip_bombs(tmp_path):
  packed = write(
    tmp_path / 'packed.pth',
    pickled({}),
    {'0': bytes(10**7)},
    compression=zipfile.ZIP_DEFLATED,
  )
  assert packed.stat().st_size < 10**5
  with pytest.raises(CheckpointError, match='compressed'):
    torch_pickle.load(packed)
  # Two directory entries that name the same large record.
  path = save(
    tmp_path / 'overlap.pth', {}, {'0': bytes(10**6), '1': bytes(10**6)}
  )
  data = path.read_bytes()
  first = data.index(b'archive/data/0') - 30
  second = data.index(b'archive/data/1') - 30
  end = data.index(b'PK\x03\x04', second + 4)
  head, tail = data[:second], bytearray(data[end:])
  shift = end - second
  for at in _entries(tail):
    offset = struct.unpack_from('<I', tail, at + 42)[0]
    offset = first if offset == second else offset - shift * (offset > second)
    struct.pack_into('<I', tail, at + 42, offset)
  eocd = tail.rindex(b'PK\x05\x06')
  start = struct.unpack_from('<I', tail, eocd + 16)[0]
  struct.pack_into('<I', tail, eocd + 16, start - shift)
  path.write_bytes(head + tail)
  with pytest.raises(CheckpointError, match='overlap'):
    torch_pickle.load(path)


def _entries(tail):
  """Positions of the entries of a zip's central directory."""
  at = tail.find(b'PK\x01\x02')
  while at >= 0:
    yield at
    at = tail.find(b'PK\x01\x02', at + 4)


def test_other_files(tmp_path):
  path = tmp_path / 'x.pth'
  path.write_bytes(b'RIFF....WAVEfmt ')
  with pytest.raises(CheckpointError, match='x.pth: not a PyTorch checkpoint'):
    torch_pickle.load(path)
  with zipfile.ZipFile(path, 'w') as archive:
    archive.writestr('word/document.xml', 'text')
  with pytest.raises(CheckpointError, match='0 data.pkl'):
    torch_pickle.load(path)
  with pytest.raises(FileNotFoundError):
    torch_pickle.load(tmp_path / 'absent.pth')
  os.mkdir(tmp_path / 'folder')
  with pytest.raises(IsADirectoryError):
    torch_pickle.load(tmp_path / 'folder')


# -- the original AASIST ------------------------------------------------------


@pytest.fixture(scope='module')
def released(reference):
  return reference / 'aasist'


@pytest.mark.parametrize(
  'file, variant', [('AASIST.pth', 'aasist'), ('AASIST-L.pth', 'aasist_l')]
)
def test_released_weights(released, file, variant):
  tensors = torch_pickle.load(released / file)
  model = aasist.load(released / file)
  assert model.config == models.variant(variant)[0]
  flat = dict(nnx.to_flat_state(nnx.state(model)))
  flat = {'.'.join(k): np.asarray(v[...]) for k, v in flat.items()}
  # Every tensor of the file but the step counters is in the model, once.
  kept = [k for k in tensors if not k.endswith('num_batches_tracked')]
  assert len(kept) == 175 + 2 * 18
  counted = {k for n, v in flat.items() for k, _ in aasist.slots(n, v.shape)}
  assert counted == aasist.translate(tensors).keys()
  assert len(counted) == len(kept)
  np.testing.assert_array_equal(
    flat['encoder.block2.shortcut.kernel'][0, 2, 5, 7],
    tensors['encoder.2.0.conv_downsample.weight'][7, 5, 0, 2],
  )
  np.testing.assert_array_equal(
    flat['branches.attention1.direct_master.kernel'][1],
    tensors['HtrgGAT_layer_ST21.proj_without_attM.weight'].T,
  )
  np.testing.assert_array_equal(
    flat['attention_temporal.norm.var'],
    tensors['GAT_layer_T.bn.running_var'],
  )


def test_fields_of_the_config_can_be_changed(released):
  model = aasist.load(released / 'AASIST-L.pth', 'aasist_l', dtype='bfloat16')
  assert model.config.dtype == 'bfloat16'
  with pytest.raises(TypeError, match='dtpye'):
    aasist.load(released / 'AASIST-L.pth', 'aasist_l', dtpye='bfloat16')


def test_weights_of_the_other_variant(released):
  with pytest.raises(CheckpointError) as error:
    aasist.load(released / 'AASIST-L.pth', 'aasist')
  text = str(error.value)
  assert 'AASIST-L.pth: checkpoint of another model' in text
  assert 'does not fit aasist; its shapes are those of aasist_l' in text
  assert 'encoder.2.0.conv1.weight: shape (24, 32, 2, 3), the model has' in text
  lines = text.splitlines()
  assert len(lines) == 12 and lines[-1] == '  and 83 more'


def test_all_differences_are_listed(released):
  tensors = torch_pickle.load(released / 'AASIST.pth')
  del tensors['master2']
  tensors['extra.weight'] = np.zeros(3, np.float32)
  tensors['out_layer.bias'] = np.array([0, np.nan], np.float32)
  tensors['pool_S.proj.bias'] = np.zeros(1, np.int32)
  tensors['out_layer.weight'] = tensors['out_layer.weight'][:, 1:]
  config, _ = models.variant('aasist')
  with pytest.raises(CheckpointError) as error:
    aasist.from_torch(config, tensors, name='some.pth')
  assert str(error.value).splitlines()[1:] == [
    '  missing: master.1',
    '  pool_S.proj.bias: dtype int32, not floating point',
    '  out_layer.weight: shape (2, 159), the model has (2, 160)',
    '  out_layer.bias: holds NaN or infinity',
    '  extra.weight: not a part of the model',
  ]
  assert '(5 differences)' in str(error.value)


def test_data_parallel_prefix(released):
  tensors = torch_pickle.load(released / 'AASIST-L.pth')
  prefixed = {f'module.{k}': v for k, v in tensors.items()}
  assert aasist.variant_of(prefixed) == 'aasist_l'
  assert aasist.translate(prefixed).keys() == aasist.translate(tensors).keys()


def test_unknown_model(tmp_path):
  one = tensor('FloatStorage', '0', 1, 0, (1,), (1,))
  path = save(tmp_path / 'x.pth', {'w': one}, {'0': np.ones(1, np.float32)})
  with pytest.raises(CheckpointError, match='x.pth: checkpoint of another'):
    aasist.load(path)
