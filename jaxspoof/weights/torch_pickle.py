"""Reads PyTorch checkpoints (`.pth`) without PyTorch and without trust.

A checkpoint is a zip archive: a pickle that describes containers and tensors,
and one raw record per storage. Python's own unpickler imports and calls
whatever a pickle names, so a checkpoint from the internet can run any program.
This module does not use it: `pickletools.genops` splits the pickle into
opcodes (a parser, it executes nothing) and a small machine builds plain
containers and numpy views of the records. What it does not know, it refuses.
"""

import math
import os
import pathlib
import reprlib
import struct
import zipfile
from typing import Any

import numpy as np

from jaxspoof.weights import pickle_machine
from jaxspoof.weights.pickle_machine import CheckpointError

__all__ = ['CheckpointError', 'load', 'load_tree']

# Keys under which trainers keep the weights, the likelier ones first.
_WRAPPERS = ('state_dict', 'model_state_dict', 'model', 'net', 'network')
# What wrappers put in front of every name: DataParallel and DDP, torch.compile,
# Lightning and similar modules that hold the model as a field.
_PREFIXES = ('module.', '_orig_mod.', 'model.', 'net.', 'network.')
_ZIP = b'PK\x03\x04'
_LARGEST = 2**40  # of a size or stride
_MOST_AXES = 64
# What zipfile raises for damaged, encrypted or otherwise unreadable archives.
_ZIP_ERRORS = (
  zipfile.BadZipFile,
  EOFError,
  NotImplementedError,
  RuntimeError,
  struct.error,
)


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads the state dictionary of a checkpoint.

  Args:
    path: a file written by `torch.save` of PyTorch 1.6 or newer that holds a
      state dictionary, alone or under one of the usual keys ('state_dict',
      'model_state_dict', 'model', 'net', 'network'), also one in another.
      What else lies beside the weights (epoch, settings ...) is left out.

  Returns:
    Tensor name to array, in the file's order, without the prefixes that
    wrappers put before every name ('module.', '_orig_mod.', 'model.' ...).
    Arrays are read-only views of the file's records: tensors that share a
    storage share memory.

  Raises:
    CheckpointError (a ValueError): not such a file, truncated, or the pickle
      asks for anything but tensors and plain containers. The message names
      the file and what it asked for; nothing of it was executed.
  """
  tree = load_tree(path)
  while isinstance(tree, dict) and (
    inner := [tree[k] for k in _WRAPPERS if isinstance(tree.get(k), dict)]
  ):
    tree = inner[0]
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
  return arrays


def load_tree(path: str | os.PathLike) -> Any:
  """Reads whatever plain containers of tensors a checkpoint holds.

  Like `load`, but nested dictionaries, lists, tuples, strings and numbers are
  returned as they are.
  """
  path = pathlib.Path(path)
  _check_kind(path)
  try:
    with zipfile.ZipFile(path) as archive:
      return _Archive(path, archive).tree()
  except _ZIP_ERRORS as error:
    raise CheckpointError(
      f'{path}: truncated or damaged PyTorch checkpoint ({error})'
    ) from error


def _check_kind(path: pathlib.Path):
  with path.open('rb') as file:
    head = file.read(4)
  if head == _ZIP:
    return
  if not head:
    raise CheckpointError(f'{path}: the file is empty')
  if head[:1] == b'\x80':
    raise CheckpointError(
      f'{path}: a pickle without archive, as PyTorch before 1.6 wrote; '
      'load it there and save it again with a newer torch.save'
    )
  raise CheckpointError(
    f'{path}: not a PyTorch checkpoint (starts with {head!r}, not with a zip '
    'header)'
  )


class _Archive:
  """The records of one checkpoint, each read at most once."""

  def __init__(self, path: pathlib.Path, archive: zipfile.ZipFile):
    self.path, self.archive = path, archive
    self.records: dict[str, bytes] = {}
    names = [i.filename for i in archive.infolist()]
    pickles = [n for n in names if n.split('/')[1:] == ['data.pkl']]
    if len(pickles) != 1:
      raise self.error(
        f'a zip archive with {len(pickles)} data.pkl, not a PyTorch checkpoint'
        + (' (TorchScript?)' if any('code/' in n for n in names) else '')
      )
    self.root = pickles[0].removesuffix('data.pkl')
    self._check_sizes()
    self.swap = (
      f'{self.root}byteorder' in names and self.read('byteorder') == b'big'
    )

  def error(self, text: str) -> CheckpointError:
    return CheckpointError(f'{self.path}: {text}')

  def _check_sizes(self):
    """PyTorch stores uncompressed, so no record can outgrow the file."""
    infos = self.archive.infolist()
    packed = [i.filename for i in infos if i.compress_type]
    if packed:
      raise self.error(
        f'record {packed[0]!r} is compressed, which PyTorch does not do; '
        'refused'
      )
    if sum(i.file_size for i in infos) > self.path.stat().st_size:
      raise self.error('records overlap or are larger than the file; refused')

  def tree(self) -> Any:
    machine = pickle_machine.Machine(str(self.path), self.tensor, self.storage)
    return machine.run(self.read('data.pkl'))

  def read(self, name: str) -> bytes:
    if name not in self.records:
      try:
        self.records[name] = self.archive.read(self.root + name)
      except KeyError:
        raise self.error(f'record {name!r} is missing') from None
    return self.records[name]

  def storage(self, dtype: np.dtype, key: str, count: int) -> np.ndarray:
    """A flat view of one record."""
    data = self.read(f'data/{key}')
    if count * dtype.itemsize != len(data):
      raise self.error(
        f'storage {key!r} should hold {count} values of {dtype}, but its '
        f'record has {len(data)} bytes'
      )
    if not data:
      return np.empty(0, dtype)
    if self.swap:
      word = dtype.itemsize // (2 if dtype.kind == 'c' else 1)
      return np.frombuffer(data, f'u{word}').byteswap().view(dtype)
    return np.frombuffer(data, dtype)

  def tensor(self, storage, offset: int, shape: tuple, strides: tuple):
    """A strided view of a storage, inside its bounds."""
    if type(shape) is not tuple or type(strides) is not tuple:
      raise self.error('tensor without shape or strides')
    numbers = (offset, *shape, *strides)
    if (
      len(shape) != len(strides)
      or len(shape) > _MOST_AXES
      or not all(type(v) is int and 0 <= v < _LARGEST for v in numbers)
    ):
      raise self.error(
        f'tensor with offset {reprlib.repr(offset)}, shape '
        f'{reprlib.repr(shape)}, strides {reprlib.repr(strides)}'
      )
    last = offset + sum(
      (n - 1) * s for n, s in zip(shape, strides, strict=True)
    )
    if math.prod(shape) and last >= storage.size:
      raise self.error(
        f'tensor of shape {shape} reaches beyond its storage of '
        f'{storage.size} values'
      )
    if not math.prod(shape):
      return np.empty(shape, storage.dtype)
    size = storage.itemsize
    view = np.ndarray(
      shape, storage.dtype, storage, offset * size, [s * size for s in strides]
    )
    view.flags.writeable = False
    return view
