"""Bundles in repositories of Hugging Face: `hf://OWNER/NAME[@REVISION]`.

A repository has the two files of a bundle, and the card in words as its
README.md. Nothing is asked of any server unless such a name is given. The
package huggingface_hub, which comes with the extra 'hub', keeps what it has
fetched, and knows who is logged in. The environment may name another server
(`HF_ENDPOINT`) and folder (`HF_HUB_CACHE`).
"""

import os
import pathlib
import re
from collections.abc import Iterable
from typing import NamedTuple

from jaxspoof.bundles import card as card_lib
from jaxspoof.bundles.card import BundleError

PREFIX = 'hf://'
INSTALL = "pip install -e '.[hub]'"
_SPELT = re.compile(r'hf://([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?/?')


class Place(NamedTuple):
  """A repository, and a branch, tag or commit of it; None: its main branch."""

  repository: str
  revision: str | None


def parse(spelt: str) -> Place:
  """Reads a name.

  Raises:
    BundleError (a ValueError): it is spelt otherwise.
  """
  if not (found := _SPELT.fullmatch(spelt)):
    raise BundleError(
      f'{spelt}: expected hf://OWNER/NAME or hf://OWNER/NAME@REVISION'
    )
  return Place(*found.groups())


def fetch(spelt: str) -> pathlib.Path:
  """The folder of a bundle that is fetched, unless it is here already.

  Raises:
    BundleError (a ValueError): `parse` refuses the name, the extra is missing,
      there is no such repository or file, or no connection and nothing that was
      fetched before; says which.
  """
  place, hub = parse(spelt), _client(spelt)
  options = {
    'cache_dir': os.environ.get('HF_HUB_CACHE'),
    'endpoint': os.environ.get('HF_ENDPOINT'),
  }

  def one(name: str, revision: str | None) -> pathlib.Path:
    try:
      return pathlib.Path(
        hub.hf_hub_download(
          place.repository, name, revision=revision, **options
        )
      )
    except OSError as error:  # what the client raises for all of these is one
      raise BundleError(
        f'{spelt}: cannot fetch {name}: {_first_line(error)}'
      ) from error

  card = one(card_lib.NAME, place.revision)
  # Of the same commit, whatever the branch has become meanwhile.
  one(card_lib.WEIGHTS, card.parent.name)
  return card.parent


def push(
  spelt: str, folder: pathlib.Path, words: Iterable[str], *, private: bool
) -> str:
  """Puts a bundle into a repository, which is made if there is none.

  Args:
    spelt: its name; a revision must be a branch.
    folder: of the bundle.
    words: the card in words.
    private: whether a new repository is seen by its owner alone.

  Returns:
    The address of the commit.

  Raises:
    BundleError (a ValueError): `parse` refuses the name, the extra is missing,
      or the server refuses; says why.
  """
  place, hub = parse(spelt), _client(spelt)
  client = hub.HfApi(endpoint=os.environ.get('HF_ENDPOINT'))
  contents = {
    card_lib.NAME: folder / card_lib.NAME,
    card_lib.WEIGHTS: folder / card_lib.WEIGHTS,
    'README.md': _readme(place.repository, words).encode(),
  }
  try:
    client.create_repo(place.repository, private=private, exist_ok=True)
    done = client.create_commit(
      place.repository,
      [hub.CommitOperationAdd(name, data) for name, data in contents.items()],
      commit_message='A detector of spoofed speech',
      revision=place.revision,
    )
  except OSError as error:
    raise BundleError(f'{spelt}: cannot push: {_first_line(error)}') from error
  return done.commit_url


def _readme(repository: str, words: Iterable[str]) -> str:
  lines = '\n'.join(f'    {line}' for line in words)
  return f"""---
library_name: jaxspoof
tags: [audio-deepfake-detection, anti-spoofing]
---
# {repository.split('/')[1]}

A detector bundle of jaxspoof:

    python detect.py --checkpoint {PREFIX}{repository} --input FILE

What its card says:

{lines}
"""


def _client(spelt: str):
  try:
    import huggingface_hub
  except ImportError as error:
    raise BundleError(
      f"{spelt}: needs huggingface_hub, which the extra 'hub' brings: {INSTALL}"
    ) from error
  return huggingface_hub


def _first_line(error: Exception) -> str:
  return next((line for line in str(error).splitlines() if line), repr(error))
