"""Reads PyTorch checkpoints (`.pth`) without PyTorch and without trust.

A checkpoint is a pickle that describes containers and tensors, and the raw
values of each storage: in a zip archive, or, before PyTorch 1.6, one after the
other in the file. `unpickler` reads such pickles without running anything.
"""

import io
import mmap
import os
import pathlib
import struct
import zipfile
from typing import Any, NamedTuple

import numpy as np

from jaxspoof.tensors import unpickler
from jaxspoof.tensors.unpickler import CheckpointError

__all__ = ['Checkpoint', 'CheckpointError', 'load', 'load_tree', 'read']

# Keys under which trainers keep the weights, the likelier ones first.
_WRAPPERS = (
  'state_dict',
  'model_state_dict',
  'model',
  'net',
  'network',
  'model_state',
  'model_weight',
)
# What wrappers put in front of every name: DataParallel and DDP, torch.compile,
# Lightning and similar modules that hold the model as a field.
_PREFIXES = ('module.', '_orig_mod.', 'model.', 'net.', 'network.')
_ZIP = b'PK\x03\x04'
# What a file from before zip archives begins with, as a pickle.
_LEGACY = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
# What zipfile raises for damaged, encrypted or otherwise unreadable archives.
_ZIP_ERRORS = (
  zipfile.BadZipFile,
  EOFError,
  NotImplementedError,
  RuntimeError,
  struct.error,
)


class Checkpoint(NamedTuple):
  """What a file of `torch.save` holds.

  Attributes:
    tensors: the state dictionary, see `load`.
    around: what lies beside it, such as settings and the epoch. It may hold
      `unpickler.Opaque`s: objects of which nothing was made.
  """

  tensors: dict[str, np.ndarray]
  around: dict[str, Any]


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads the state dictionary of a checkpoint.

  Args:
    path: a file written by `torch.save` that holds a state dictionary, alone
      or under one of the usual keys ('state_dict', 'model_state_dict', 'model',
      'net', 'network', 'model_state', 'model_weight'), also one in another.
      What else lies beside the weights (epoch, settings ...) is left out.

  Returns:
    Tensor name to array, in the file's order, without the prefixes that
    wrappers put before every name ('module.', '_orig_mod.', 'model.' ...).
    Arrays cannot be written to: tensors that share a storage share memory.

  Raises:
    CheckpointError (a ValueError): not such a file, truncated, or the state
      dictionary has anything in it but tensors and plain values. The message
      names the file and what it asked for; nothing of it was executed.
  """
  return read(path).tensors


def read(path: str | os.PathLike) -> Checkpoint:
  """Reads the state dictionary, see `load`, and what lies beside it."""
  tree, around = _tree(path), {}
  while isinstance(tree, dict) and (
    key := next((k for k in _WRAPPERS if isinstance(tree.get(k), dict)), None)
  ):
    around |= {k: v for k, v in tree.items() if k != key}
    tree = tree[key]
  _refuse_opaque(tree, path)
  if not isinstance(tree, dict):
    raise CheckpointError(
      f'{path}: holds a {type(tree).__name__}, expected a state dictionary'
    )
  arrays = {str(k): v for k, v in tree.items() if isinstance(v, np.ndarray)}
  if not arrays:
    found = ', '.join(map(repr, list(tree)[:5])) or 'nothing at all'
    raise CheckpointError(
      f'{path}: expected a state dictionary of tensors, found {found}'
    )
  while prefix := next(
    (p for p in _PREFIXES if all(name.startswith(p) for name in arrays)), None
  ):
    arrays = {name.removeprefix(prefix): v for name, v in arrays.items()}
  return Checkpoint(arrays, around)


def load_tree(path: str | os.PathLike) -> Any:
  """Reads whatever plain containers of tensors a checkpoint holds.

  Like `load`, but nested dictionaries, lists, tuples, strings and numbers are
  returned as they are, and nothing that is not plain is let through anywhere.
  """
  tree = _tree(path)
  _refuse_opaque(tree, path)
  return tree


def _refuse_opaque(tree: Any, path: str | os.PathLike):
  if (found := unpickler.opaque_in(tree)) is not None:
    raise CheckpointError(
      f'{path}: the pickle asks for {found}, which is not a part of a tensor; '
      'refused, nothing was executed (a checkpoint should hold a '
      'state_dict(), not a whole module)'
    )


def _tree(path: str | os.PathLike) -> Any:
  path = pathlib.Path(path)
  with path.open('rb') as file:
    head = file.read(4)
  try:
    if head == _ZIP:
      with zipfile.ZipFile(path) as archive:
        return _Archive(path, archive).tree()
    if head[:1] == b'\x80':
      return _legacy(path)
  except CheckpointError as error:
    raise CheckpointError(f'{path}: {error}') from error
  except _ZIP_ERRORS as error:
    raise CheckpointError(
      f'{path}: truncated or damaged PyTorch checkpoint ({error})'
    ) from error
  if not head:
    raise CheckpointError(f'{path}: the file is empty')
  raise CheckpointError(
    f'{path}: not a PyTorch checkpoint (starts with {head!r}, not with a zip '
    'header)'
  )


def _legacy(path: pathlib.Path) -> Any:
  """A file from before PyTorch 1.6: pickles, then the values of storages."""
  size, storages = path.stat().st_size, {}

  def storage(dtype: np.dtype, key: str, count: int) -> np.ndarray:
    if key not in storages:
      claimed = sum(flat.nbytes for flat in storages.values())
      if count < 0 or claimed + count * dtype.itemsize > size:
        raise CheckpointError(
          f'storage {key!r} should hold {count} values of {dtype}, more than '
          'the file does'
        )
      storages[key] = np.zeros(count, dtype)
    if storages[key].dtype != dtype or storages[key].size != count:
      raise CheckpointError(f'storage {key!r} is described in two ways')
    return storages[key]

  with path.open('rb') as file:
    # A stream that reads no more than there is, whatever it is asked for.
    stream = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    with stream:

      def following(storage=None):
        return unpickler.Unpickler(stream, storage).load()

      if following() != _LEGACY or following() != _LEGACY_PROTOCOL:
        raise CheckpointError(
          'a pickle without archive, but not as PyTorch before 1.6 wrote them'
        )
      if (system := following()) and system.get('little_endian') is not True:
        raise CheckpointError('written by a big-endian machine')
      tree, keys = following(storage), following()
      if type(keys) is not list or sorted(keys) != sorted(storages):
        raise CheckpointError('its storages are not those that it lists')
      for key in keys:
        flat = storages[key]
        if stream.read(8) != struct.pack('<q', flat.size):
          raise CheckpointError(f'storage {key!r} is cut or of another length')
        data = stream.read(flat.nbytes)
        if len(data) != flat.nbytes:
          raise CheckpointError(f'storage {key!r} is truncated')
        flat[...] = np.frombuffer(data, flat.dtype)
  return tree


class _Archive:
  """The records of one checkpoint, each read at most once."""

  def __init__(self, path: pathlib.Path, archive: zipfile.ZipFile):
    self.path, self.archive = path, archive
    self.records: dict[str, bytes] = {}
    names = [i.filename for i in archive.infolist()]
    pickles = [n for n in names if n.split('/')[1:] == ['data.pkl']]
    if len(pickles) != 1:
      raise CheckpointError(
        f'a zip archive with {len(pickles)} data.pkl, not a PyTorch checkpoint'
        + (' (TorchScript?)' if any('code/' in n for n in names) else '')
      )
    self.root = pickles[0].removesuffix('data.pkl')
    self._check_sizes()
    self.swap = (
      f'{self.root}byteorder' in names and self.read('byteorder') == b'big'
    )

  def _check_sizes(self):
    """PyTorch stores uncompressed, so no record can outgrow the file."""
    infos = self.archive.infolist()
    packed = [i.filename for i in infos if i.compress_type]
    if packed:
      raise CheckpointError(
        f'record {packed[0]!r} is compressed, which PyTorch does not do; '
        'refused'
      )
    if sum(i.file_size for i in infos) > self.path.stat().st_size:
      raise CheckpointError(
        'records overlap or are larger than the file; refused'
      )

  def tree(self) -> Any:
    stream = io.BytesIO(self.read('data.pkl'))
    return unpickler.Unpickler(stream, self.storage).load()

  def read(self, name: str) -> bytes:
    if name not in self.records:
      try:
        self.records[name] = self.archive.read(self.root + name)
      except KeyError:
        raise CheckpointError(f'record {name!r} is missing') from None
    return self.records[name]

  def storage(self, dtype: np.dtype, key: str, count: int) -> np.ndarray:
    """A flat view of one record."""
    data = self.read(f'data/{key}')
    if count * dtype.itemsize != len(data):
      raise CheckpointError(
        f'storage {key!r} should hold {count} values of {dtype}, but its '
        f'record has {len(data)} bytes'
      )
    if not data:
      return np.empty(0, dtype)
    if self.swap:
      word = dtype.itemsize // (2 if dtype.kind == 'c' else 1)
      return np.frombuffer(data, f'u{word}').byteswap().view(dtype)
    return np.frombuffer(data, dtype)
