"""Fetches and unpacks Debian packages without root and without dpkg.

Only `collect.py` needs this: the corpus itself is built from the pack in
`tfds_builders/quickstart/human/` and needs neither Debian nor a network.
"""

import fnmatch
import io
import lzma
import pathlib
import subprocess
import tarfile
from collections.abc import Iterator, Sequence

_AR_MAGIC = b'!<arch>\n'
_AR_HEADER = 60


def apt_options(cache: pathlib.Path) -> list[str]:
  """Returns apt options that keep every list and lock inside `cache`."""
  for folder in ('lists/partial', 'archives/partial'):
    (cache / 'apt' / folder).mkdir(parents=True, exist_ok=True)
  return [
    '-o', f'Dir::State::lists={cache}/apt/lists',
    '-o', f'Dir::Cache={cache}/apt',
    '-o', 'Debug::NoLocking=1',
  ]  # fmt: skip


def download(package: str, cache: pathlib.Path) -> pathlib.Path:
  """Downloads `package` with `apt-get download`; returns the .deb's path."""
  options = apt_options(cache)
  if not any((cache / 'apt' / 'lists').glob('*Packages*')):
    subprocess.run(['apt-get', *options, 'update'], check=True)
  subprocess.run(
    ['apt-get', *options, 'download', package], check=True, cwd=cache
  )
  return next(cache.glob(f'{package}_*.deb'))


def fetch(
  package: str, cache: pathlib.Path, wanted: Sequence[str]
) -> pathlib.Path:
  """Returns a folder `<package>_<version>` with the wanted files unpacked.

  Args:
    package: name of a binary package.
    cache: folder for downloads; an unpacked package there is used again.
    wanted: file name patterns (fnmatch) of the members to keep.

  Raises:
    ValueError: the .deb is not one, or has a compression we do not know.
  """
  found = [p for p in cache.glob(f'{package}_*') if p.is_dir()]
  if found:
    return found[0]
  deb = download(package, cache)
  folder = cache / deb.name.rsplit('_', 1)[0]
  partial = folder.with_suffix('.partial')
  with deb.open('rb') as file:
    _unpack(_data_member(file, deb), wanted, partial)
  partial.rename(folder)
  return folder


def _data_member(file: io.BufferedIOBase, deb: pathlib.Path):
  """Leaves `file` at the data archive of a .deb; returns it decompressed."""
  if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
    raise ValueError(f'{deb}: not a Debian package (no ar header)')
  for name, size in _ar_members(file):
    if name.startswith('data.tar.xz'):
      return lzma.open(file)
    if name.startswith('data.tar'):
      raise ValueError(f'{deb}: {name}: expected xz compression')
    file.seek(size + size % 2, io.SEEK_CUR)
  raise ValueError(f'{deb}: holds no data archive')


def _ar_members(file: io.BufferedIOBase) -> Iterator[tuple[str, int]]:
  while header := file.read(_AR_HEADER):
    yield header[:16].decode().strip(), int(header[48:58])


def _unpack(stream, wanted: Sequence[str], folder: pathlib.Path) -> None:
  with tarfile.open(fileobj=stream, mode='r|') as archive:
    for member in archive:
      if any(fnmatch.fnmatch(member.name, pattern) for pattern in wanted):
        archive.extract(member, folder, filter='data')
