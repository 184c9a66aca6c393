"""What the command line names: each recording once, or why there is none."""

import glob
import os
import sys
from collections.abc import Iterable

from jaxspoof import audio
from jaxspoof.detector import Failure

STDIN = '-'
LARGEST = 4 << 30  # bytes of a recording from standard input
_LIST = '@'


def expand(inputs: Iterable[str]) -> tuple[list[str], list[Failure]]:
  """Recordings to score, and a `Failure` for what names none; each once.

  Args:
    inputs: files, which are taken as they are named; directories, below which
      recordings are taken, sorted, and files that are none are counted on
      stderr; patterns with `*`, `?` or `[`; `@LIST`, a text file of such names,
      one a line, or separated by zero bytes, '@-' from standard input; `-`,
      one recording from standard input.

  Raises:
    OSError: a list that cannot be read.
    UnicodeDecodeError (a ValueError): a list that is no text.
  """
  paths, problems = [], []
  for name in inputs:
    if not name:
      problems.append(Failure('', "'': an empty name, expected a file"))
      continue
    if name.startswith(_LIST) and not os.path.exists(name):
      found, wrong = expand(_listed(name[1:]))
    elif name == STDIN or not os.path.isdir(name):
      found, wrong = _named(name)
    else:
      found, wrong = _below(name)
    paths += found
    problems += wrong
  return list(dict.fromkeys(paths)), list(dict.fromkeys(problems))


def from_stdin() -> bytes:
  """The recording that comes from standard input.

  Raises:
    AudioError: it is too large.
  """
  data = sys.stdin.buffer.read(LARGEST + 1)
  if len(data) > LARGEST:
    raise audio.AudioError(
      f'-: more than {LARGEST:,} bytes; expected one recording'
    )
  return data


def _listed(path: str) -> list[str]:
  """Names in a list."""
  if path == STDIN:
    data = sys.stdin.buffer.read()
  else:
    with open(path, 'rb') as file:
      data = file.read()
  text = os.fsdecode(data)
  parts = text.split('\0') if '\0' in text else text.splitlines()
  return [part for part in parts if part.strip()]


def _named(name: str) -> tuple[list[str], list[Failure]]:
  """A file, or those of a pattern."""
  if not glob.has_magic(name) or os.path.exists(name):
    return [name], []
  found = sorted(glob.glob(name, recursive=True))
  if not found:
    return [], [Failure(name, f'{name}: no file has such a name')]
  return expand(found)


def _below(name: str) -> tuple[list[str], list[Failure]]:
  """Recordings below a directory."""
  found = audio.find(name)
  problems = [Failure(path, why) for path, why in found.problems]
  if not found.files and not found.problems:
    known = ', '.join(audio.EXTENSIONS)
    message = f'{name}: no audio files below this directory ({known})'
    problems.append(Failure(name, message))
  if found.others:
    shown = ', '.join(os.path.relpath(x, name) for x in found.others[:3])
    more = ', ...' if len(found.others) > 3 else ''
    print(
      f'{name}: {len(found.others)} files that are no audio are left out '
      f'({shown}{more})',
      file=sys.stderr,
    )
  return found.files, problems
