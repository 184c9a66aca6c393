"""Reads a published archive where it lies, packed or unpacked."""

import contextlib
import dataclasses
import os
import pathlib
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
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

  def has(self, path: str) -> bool:
    """Whether there is such a file or, where it ends in '/', such a folder."""

  def names(self, under: str) -> list[str]:
    """Returns the files below a folder ('' for all), sorted.

    Names that begin with a dot are left out: some systems put a `._clip.wav`
    that is no audio beside each `clip.wav`.
    """

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

  def has(self, path: str) -> bool:
    there = self.path / path
    return there.is_dir() if path.endswith('/') else there.is_file()

  def names(self, under: str) -> list[str]:
    found = []
    for folder, below, files in os.walk(self.path / under, followlinks=True):
      below[:] = [name for name in below if name[0] != '.']
      start = pathlib.Path(folder).relative_to(self.path).as_posix()
      start = '' if start == '.' else f'{start}/'
      found += [f'{start}{name}' for name in files if name[0] != '.']
    return sorted(found)

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

  def has(self, path: str) -> bool:
    if not path.endswith('/'):
      return self.size(path) is not None
    start = self.prefix + path
    return any(name.startswith(start) for name in self.packed.namelist())

  def names(self, under: str) -> list[str]:
    start = self.prefix + (under and f'{under.rstrip("/")}/')
    return sorted(
      name[len(self.prefix) :]
      for name in self.packed.namelist()
      if name.startswith(start) and name[-1] != '/' and '/.' not in f'/{name}'
    )

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
def opened(path: pathlib.Path, roots: Sequence[str]) -> Iterator[Archive]:
  """Opens a zip file or a folder.

  Args:
    path: `.../LA.zip`, or the folder in which a root is.
    roots: paths of which every copy has one: of a file, such as
      'ASVspoof2019_LA_cm_protocols/ASVspoof2019.LA.cm.train.trn.txt', or of a
      folder, 'real/'.

  Raises:
    BuildError: cut or damaged zip, or no root in it.
  """
  if path.is_dir():
    yield _folder(path, roots)
    return
  try:
    packed = zipfile.ZipFile(path)
  except (zipfile.BadZipFile, OSError) as error:
    raise BuildError(
      f'{path}: truncated or damaged, {path.stat().st_size:,} bytes ({error}); '
      'expected a whole zip archive: download it again'
    ) from error
  with packed:
    yield _zip(path, packed, roots)


def find(
  folder: pathlib.Path, name: str, roots: Sequence[str], zipped: bool = True
) -> pathlib.Path | None:
  """Finds an archive, packed or unpacked, in a folder; None if it is not there.

  Args:
    folder: where people put what they download.
    name: name of the archive: 'LA' finds LA.zip, LA/, LA/LA/ and `folder`
      itself.
    roots: paths inside the archive of files of which every copy has at least
      one.
    zipped: it is published as this one zip, which has checksums: taken before
      what was unpacked from it. Else a zip of this name may be anything.
  """
  places = (folder, folder / name, folder / name / name)
  found = [path for path in places if any(map(_Folder(path).has, roots))]
  packed = folder / f'{name}.zip'
  if packed.is_file():
    found.insert(0 if zipped else len(found), packed)
  return found[0] if found else None


def _folder(path: pathlib.Path, roots: Sequence[str]) -> Archive:
  if not any(map(_Folder(path).has, roots)):
    raise BuildError(
      f'{path}: expected a folder that holds {" or ".join(roots)}'
    )
  return _Folder(path)


def _zip(
  path: pathlib.Path, packed: zipfile.ZipFile, roots: Sequence[str]
) -> Archive:
  ends = (re.escape(root) + '$' * (root[-1] != '/') for root in roots)
  holding = re.compile(f'((?:.*?/)??)(?:{"|".join(ends)})')
  found = map(holding.match, packed.namelist())
  prefixes = [match[1] for match in found if match]
  if not prefixes:
    raise BuildError(
      f'{path}: expected a zip archive that holds {" or ".join(roots)}'
    )
  return _Zip(path, packed, min(prefixes, key=len))
