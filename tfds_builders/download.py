"""Downloads one large file: goes on where it was cut off, checks what came."""

import hashlib
import http.client
import os
import pathlib
import urllib.error
import urllib.request
from collections.abc import Sequence

from jaxspoof.machine.progress import Progress
from tfds_builders.errors import BuildError

_CHUNK = 1 << 20
_TIMEOUT = 60  # seconds without a byte


def fetch(
  urls: Sequence[str],
  path: pathlib.Path,
  size: int | None = None,
  sha256: str | None = None,
) -> None:
  """Downloads a file unless it is there.

  What came before a failure stays in `<path>.partial`; the next call asks the
  server for the rest only.

  Args:
    urls: addresses of the file; if one fails the next is tried.
    path: where to put the file; its folder is made.
    size: size of the file in bytes, if it is known.
    sha256: checksum of the file, if it is known.

  Raises:
    BuildError: no server can be reached, or other bytes came than expected
      (those are removed).
  """
  if path.exists():
    return
  path.parent.mkdir(parents=True, exist_ok=True)
  partial = path.with_name(path.name + '.partial')
  whole = (
    size is not None and partial.exists() and partial.stat().st_size == size
  )
  if not whole:
    _try_each(urls, partial)
  _check(partial, size, sha256)
  os.replace(partial, path)


def _try_each(urls: Sequence[str], partial: pathlib.Path) -> None:
  failures = []
  for url in urls:
    print(f'downloading {url}', flush=True)
    try:
      return _continue(url, partial)
    except (OSError, http.client.HTTPException) as error:
      failures.append(f'{url}: {error}')
  raise BuildError(
    f'{partial} could not be downloaded ({"; ".join(failures)}); try again, '
    'and it goes on from where it stopped'
  )


def _continue(url: str, partial: pathlib.Path) -> None:
  """Appends what is missing."""
  there = partial.stat().st_size if partial.exists() else 0
  request = urllib.request.Request(url, headers={'Range': f'bytes={there}-'})
  try:
    answer = urllib.request.urlopen(request, timeout=_TIMEOUT)
  except urllib.error.HTTPError as error:
    if error.code == 416 and there:  # the server has nothing beyond that
      return
    raise
  with answer:
    continues = answer.status == 206  # else it sends everything again
    length = int(answer.headers.get('Content-Length') or 0)
    with partial.open('ab' if continues else 'wb') as file:
      _copy(answer, file, length, partial.name)


def _copy(answer, file, length: int, name: str) -> None:
  """Copies an answer of `length` bytes, 0 if unknown, showing progress."""
  progress = Progress(f'MB of {name}', max(1, -(-length // _CHUNK)))
  done = 0
  while chunk := answer.read(_CHUNK):
    file.write(chunk)
    done += len(chunk)
    progress.step()
  if done < length:
    raise OSError(f'the connection ended after {done:,} of {length:,} bytes')


def _check(partial: pathlib.Path, size: int | None, sha256: str | None) -> None:
  """Removes a file that is not the one expected, and says so."""
  found = partial.stat().st_size
  wrong = ''
  if size is not None and found != size:
    wrong = f'{found:,} bytes came, expected {size:,}'
  elif sha256 is not None:
    with partial.open('rb') as file:
      digest = hashlib.file_digest(file, 'sha256').hexdigest()
    if digest != sha256:
      wrong = f'SHA-256 is {digest}, expected {sha256}'
  if wrong:
    partial.unlink()
    raise BuildError(f'{partial}: {wrong}; the download was removed')
