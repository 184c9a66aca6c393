"""Reads a published archive where it lies, packed or unpacked."""

import contextlib
import os
import pathlib
import zipfile
import zlib
from collections.abc import Iterator

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


class Archive:
  """Files of a zip, or of a folder it was unpacked to, by their paths in it.

  May be read from several threads.

  Args:
    path: the zip file, or the folder.
    sizes: bytes of each file, by its path below the archive's root.
    prefix: folders above that root: some copies nest one level deeper.
    packed: the open zip; None for a folder.
  """

  def __init__(
    self,
    path: pathlib.Path,
    sizes: dict[str, int],
    prefix: str = '',
    packed: zipfile.ZipFile | None = None,
  ):
    self.path, self.sizes = path, sizes
    self._prefix, self._packed = prefix, packed

  def __contains__(self, name: str) -> bool:
    return name in self.sizes

  def read(self, name: str) -> bytes:
    """Returns the bytes of a file; those of a zip pass its CRC.

    Raises:
      BuildError: the file is damaged, cut or cannot be read.
    """
    try:
      if self._packed is None:
        return (self.path / self._prefix / name).read_bytes()
      return self._packed.read(self._prefix + name)
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
  sizes = {}
  # Links are followed: some keep the audio on another disk.
  for folder, _, names in os.walk(path, followlinks=True):
    for name in names:
      file = pathlib.Path(folder, name)
      if file.is_file():
        sizes[file.relative_to(path).as_posix()] = file.stat().st_size
  return Archive(path, sizes)


def _zip(path: pathlib.Path, packed: zipfile.ZipFile, root: str) -> Archive:
  infos = packed.infolist()
  prefixes = [
    info.filename[: -len(root)]
    for info in infos
    if info.filename.endswith(root)
  ]
  if not prefixes:
    raise BuildError(f'{path}: expected a zip archive that holds {root}')
  prefix = min(prefixes, key=len)
  sizes = {
    info.filename[len(prefix) :]: info.file_size
    for info in infos
    if info.filename.startswith(prefix) and not info.is_dir()
  }
  return Archive(path, sizes, prefix, packed)
