"""Reads a published archive where it lies, packed or unpacked."""

import contextlib
import dataclasses
import pathlib
import zipfile
import zlib
from collections.abc import Iterator
from typing import Protocol

from tfds_builders.errors import BuildError

# NotImplementedError, RuntimeError: compressed in an unknown way, encrypted.
_UNREADABLE = (
  zipfile.BadZipFile,
  zlib.error,
  EOFError,
  NotImplementedError,
  OSError,
  RuntimeError,
  ValueError,
)


class Archive(Protocol):
  """Files of a published archive, by their paths below its root.

  May be read from several threads.

  Attributes:
    path: the zip file, or the folder.
  """

  path: pathlib.Path

  def size(self, name: str) -> int | None:
    """Returns the bytes of a file; None if there is no such file."""

  def read(self, name: str) -> bytes:
    """Returns a file's content; that of a zip has passed its CRC.

    Raises:
      BuildError: the file is damaged, cut or cannot be read.
    """


@dataclasses.dataclass
class _Folder:
  path: pathlib.Path

  def size(self, name: str) -> int | None:
    file = self.path / name
    return file.stat().st_size if file.is_file() else None

  def read(self, name: str) -> bytes:
    with _reported(name):
      return (self.path / name).read_bytes()


@dataclasses.dataclass
class _Zip:
  path: pathlib.Path
  packed: zipfile.ZipFile
  prefix: str  # folders above the root: some copies nest one level deeper

  def size(self, name: str) -> int | None:
    try:
      return self.packed.getinfo(self.prefix + name).file_size
    except KeyError:
      return None

  def read(self, name: str) -> bytes:
    with _reported(name):
      return self.packed.read(self.prefix + name)


@contextlib.contextmanager
def _reported(name: str) -> Iterator[None]:
  try:
    yield
  except _UNREADABLE as error:
    raise BuildError(f'{name} cannot be read ({error})') from error


@contextlib.contextmanager
def opened(path: pathlib.Path, root: str) -> Iterator[Archive]:
  """Opens a zip file or a folder.

  Args:
    path: `.../LA.zip`, or the folder in which `root` is, at any depth up to 2.
    root: path of a file that every copy has, such as
      'ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.train.trn.txt'.

  Raises:
    BuildError: cut or damaged zip, or no `root` in it.
  """
  if path.is_dir():
    yield _folder(path, root)
    return
  try:
    packed = zipfile.ZipFile(path)
  except (zipfile.BadZipFile, OSError) as error:
    raise BuildError(
      f'{path}: truncated or damaged, {path.stat().st_size:,} bytes ({error}); '
      'expected a whole zip archive: download it again'
    ) from error
  with packed:
    yield _zip(path, packed, root)


def find(folder: pathlib.Path, name: str, root: str) -> pathlib.Path | None:
  """Returns what of an archive is below a folder.

  Args:
    folder: where people put what they download.
    name: of the archive: 'LA' finds LA.zip, LA/, LA/LA/ and `folder` itself.
    root: as for `opened`.
  """
  if (folder / f'{name}.zip').is_file():
    return folder / f'{name}.zip'
  for path in (folder, folder / name, folder / name / name):
    if (path / root).is_file():
      return path
  return None


def _folder(path: pathlib.Path, root: str) -> Archive:
  if not (path / root).is_file():
    raise BuildError(f'{path}: expected a folder that holds {root}')
  return _Folder(path)


def _zip(path: pathlib.Path, packed: zipfile.ZipFile, root: str) -> Archive:
  prefixes = [
    info.filename[: -len(root)]
    for info in packed.infolist()
    if info.filename.endswith(root)
  ]
  if not prefixes:
    raise BuildError(f'{path}: expected a zip archive that holds {root}')
  return _Zip(path, packed, min(prefixes, key=len))
