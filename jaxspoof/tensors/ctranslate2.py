"""Files of CTranslate2, `model.bin`: the tensors that are in them.

A version, the name and the revision of a kind of model, and for each tensor a
name, a shape, a type and the values. What is written is checked against what
there is before anything is made of it.
"""

import os
import pathlib
import struct

import numpy as np

from jaxspoof.tensors.unpickler import CheckpointError

VERSIONS = (5, 6)
# Types of tensors by their numbers.
_DTYPES = {
  0: np.dtype('<f4'),
  1: np.dtype('i1'),
  2: np.dtype('<i2'),
  3: np.dtype('<i4'),
  4: np.dtype('<f2'),
}
_MOST_AXES = 8


def is_file(path: str | os.PathLike) -> bool:
  """Whether a file begins as those of CTranslate2."""
  with open(path, 'rb') as file:
    head = file.read(6)
    if len(head) < 6:
      return False
    version, length = struct.unpack('<IH', head)
    name = file.read(length)
  return version in VERSIONS and name.endswith(b'Spec\0')


def load(path: str | os.PathLike) -> dict[str, np.ndarray]:
  """Reads all tensors of a file.

  Args:
    path: a `model.bin` of version 5 or 6.

  Returns:
    Name to array; parts of names are divided by `/`. One value alone is an
    array without axes.

  Raises:
    CheckpointError: another file, or one that is damaged or cut.
  """
  path = pathlib.Path(path)
  reader = _Reader(path.read_bytes(), str(path))
  version, kind = reader.number('I'), reader.text()
  if version not in VERSIONS:
    raise CheckpointError(
      f'{path}: of version {version}, expected one of {VERSIONS}'
    )
  _revision, count = reader.number('I'), reader.number('I')
  found = {}
  for _ in range(count):
    name, axes = reader.text(), reader.number('B')
    if axes > _MOST_AXES:
      raise reader.error(f'{name} has {axes} axes')
    shape = tuple(reader.number('I') for _ in range(axes))
    found[name] = reader.array(name, shape)
  if not found:
    raise CheckpointError(f'{path}: a {kind} without tensors')
  return found


class _Reader:
  """Takes one thing after the other from bytes."""

  def __init__(self, data: bytes, where: str):
    self.data, self.where, self.at = data, where, 0

  def error(self, what: str) -> CheckpointError:
    return CheckpointError(f'{self.where}: damaged or cut: {what}')

  def take(self, size: int) -> memoryview:
    if self.at + size > len(self.data):
      raise self.error(f'{size} bytes wanted at {self.at} of {len(self.data)}')
    self.at += size
    return memoryview(self.data)[self.at - size : self.at]

  def number(self, kind: str) -> int:
    (found,) = struct.unpack(f'<{kind}', self.take(struct.calcsize(f'<{kind}')))
    return found

  def text(self) -> str:
    raw = bytes(self.take(self.number('H')))
    try:
      return raw.removesuffix(b'\0').decode('ascii')
    except UnicodeDecodeError as error:
      raise self.error(f'{raw[:40]!r} is no name') from error

  def array(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
    kind, size = self.number('B'), self.number('I')
    if kind not in _DTYPES:
      raise self.error(f'{name} is of unknown type {kind}')
    dtype, wanted = _DTYPES[kind], 1
    for length in shape:  # as Python counts: no product is too large for it
      wanted *= length
    if wanted * dtype.itemsize != size:
      raise self.error(f'{name} of shape {shape} has {size} bytes')
    return np.frombuffer(self.take(size), dtype).reshape(shape)
