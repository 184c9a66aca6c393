"""Bundles on disk: a folder, or a zip file with the same two files in it."""

import contextlib
import dataclasses
import hashlib
import os
import pathlib
import stat
import zipfile
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy

from jaxspoof.bundles import card as card_lib
from jaxspoof.bundles.card import BundleError, Card, Weights
from jaxspoof.machine import files

Tensors = Mapping[str, np.ndarray]

_LARGEST = 8 << 30  # bytes of weights
_FILES = (card_lib.NAME, card_lib.WEIGHTS)
_ZIP = b'PK\x03\x04'


def is_bundle(path: str | os.PathLike) -> bool:
  """Whether there is a folder with a card, or a zip file."""
  path = pathlib.Path(path)
  if path.is_dir():
    return (path / card_lib.NAME).is_file()
  if not path.is_file():
    return False
  with path.open('rb') as file:
    if file.read(4) != _ZIP:
      return False
  with contextlib.suppress(zipfile.BadZipFile, OSError):
    # What torch.save writes is a zip file, too.
    with zipfile.ZipFile(path) as packed:
      return card_lib.NAME in packed.namelist()
  return path.suffix == '.zip'


def read_card(path: str | os.PathLike) -> Card:
  """The card of a bundle; its weights are not looked at.

  Raises:
    BundleError: no bundle, or a card that cannot be used.
  """
  path = pathlib.Path(path)
  with _opened(path) as read:
    return card_lib.parse(read(card_lib.NAME, None), _where(path))


def read(path: str | os.PathLike) -> tuple[Card, dict[str, np.ndarray]]:
  """A whole bundle.

  Args:
    path: a folder or a zip file.

  Returns:
    The card, and the tensors by their names in the file.

  Raises:
    BundleError: no bundle, a card that cannot be used, or weights that are
      damaged, too large or not those that the card names.
  """
  path = pathlib.Path(path)
  with _opened(path) as read_file:
    card = card_lib.parse(read_file(card_lib.NAME, None), _where(path))
    size = card.weights.bytes
    if not 0 < size <= _LARGEST:
      raise BundleError(
        f'{_where(path)}: weights.bytes={size}: expected 1 to {_LARGEST:,}'
      )
    data = read_file(card_lib.WEIGHTS, size)
  where = _where(path, card_lib.WEIGHTS)
  if hashlib.sha256(data).hexdigest() != card.weights.sha256:
    raise BundleError(
      f'{where}: damaged, or of another bundle (its SHA-256 is not the one in '
      f'{card_lib.NAME})'
    )
  try:
    # Each tensor is checked to lie within the file: none can claim more memory.
    return card, safetensors.numpy.load(data)
  except (safetensors.SafetensorError, AttributeError, KeyError) as error:
    raise BundleError(f'{where}: damaged or of unknown values: {error}') from (
      error
    )


def write(path: str | os.PathLike, card: Card, tensors: Tensors) -> Card:
  """Writes a bundle; the same bundle gives the same bytes.

  Args:
    path: a folder, made if missing, or a zip file if its name ends in .zip; a
      bundle that is there is replaced.
    card: its `weights` are set here.
    tensors: by name.

  Returns:
    The card as it was written.
  """
  path = pathlib.Path(path)
  arrays = {k: np.ascontiguousarray(v) for k, v in sorted(tensors.items())}
  weights = safetensors.numpy.save(arrays)
  digest = hashlib.sha256(weights).hexdigest()
  card = dataclasses.replace(card, weights=Weights(digest, len(weights)))
  text = (card.text() + '\n').encode()
  card_lib.parse(text, _where(path))  # what is written can be read
  if path.suffix == '.zip':
    with (
      files.replacing(path) as file,
      zipfile.ZipFile(file, 'w') as packed,
    ):
      for name, data in zip(_FILES, (text, weights), strict=True):
        member = zipfile.ZipInfo(name)  # without the time of day
        # Half precision shrinks by a twelfth; more effort hardly gives more.
        packed.writestr(member, data, zipfile.ZIP_DEFLATED, compresslevel=1)
    return card
  # The card last: with it the bundle is whole.
  (path / card_lib.NAME).unlink(missing_ok=True)
  for name, data in ((card_lib.WEIGHTS, weights), (card_lib.NAME, text)):
    with files.replacing(path / name) as file:
      file.write(data)
  return card


def _where(path: pathlib.Path, name: str = card_lib.NAME) -> str:
  return str(path / name) if path.is_dir() else f'{path}: {name}'


@contextlib.contextmanager
def _opened(path: pathlib.Path):
  """Gives a function that reads a file of a bundle by name and known size."""
  if path.is_dir():
    yield lambda name, size: _from_folder(path, name, size)
    return
  try:
    packed = zipfile.ZipFile(path)
  except (OSError, zipfile.BadZipFile) as error:
    raise BundleError(
      f'{path}: no bundle: expected a folder with {" and ".join(_FILES)}, or a '
      f'zip file of them ({error})'
    ) from error
  with packed:
    _check_members(packed, path)
    yield lambda name, size: _from_zip(packed, path, name, size)


def _from_folder(folder: pathlib.Path, name: str, size: int | None) -> bytes:
  path = folder / name
  try:
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
      raise BundleError(f'{path}: expected a file')
    _check_size(found.st_size, size, str(path))
    return path.read_bytes()
  except OSError as error:
    raise BundleError(f'{path}: cannot be read ({error.strerror})') from error


def _from_zip(packed, path, name: str, size: int | None) -> bytes:
  where = _where(path, name)
  try:
    found = packed.getinfo(name)
    _check_size(found.file_size, size, where)
    with packed.open(found) as file:
      data = file.read(found.file_size + 1)  # a header may lie
  except KeyError as error:
    raise BundleError(f'{where}: missing') from error
  # Whatever zip and zlib raise for half a file, or one with a password.
  except (zipfile.BadZipFile, EOFError, OSError, RuntimeError) as error:
    raise BundleError(f'{where}: damaged or cut: {error}') from error
  except NotImplementedError as error:
    raise BundleError(f'{where}: {error}') from error
  _check_size(len(data), size, where)
  return data


def _check_members(packed: zipfile.ZipFile, path: pathlib.Path) -> None:
  """Nothing but the two files, each once: no paths, no links."""
  names = [member.filename for member in packed.infolist()]
  if sorted(names) != sorted(_FILES):
    others = [name for name in names if name not in _FILES] or ['one twice']
    if missing := [name for name in _FILES if name not in names]:
      raise BundleError(f'{path}: no {missing[0]} in it')
    raise BundleError(
      f'{path}: expected {" and ".join(_FILES)} alone, found {others[0]!r:.80}'
    )


def _check_size(found: int, expected: int | None, where: str) -> None:
  if expected is None:  # of a card, which says the other sizes
    if found > card_lib.LARGEST:
      raise BundleError(
        f'{where}: {found:,} bytes, expected at most {card_lib.LARGEST:,}'
      )
  elif found != expected:
    raise BundleError(
      f'{where}: {found:,} bytes, expected {expected:,}: cut, or of another '
      'bundle'
    )
