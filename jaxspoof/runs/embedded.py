"""Embedded clips as a value, and the files that keep it.

`embeddings.npz` holds one array per field of `Embeddings`, no pickles;
`embeddings.tsv` is a table of the same clips without the vectors.
"""

import dataclasses
import os
import pathlib

import numpy as np

from jaxspoof.machine import files
from jaxspoof.runs import names

LABELS = {0: 'spoof', 1: 'bonafide', -1: ''}
_TABLE = ('utterance', 'split', 'speaker', 'attack', 'label', 'score')


@dataclasses.dataclass(frozen=True)
class Embeddings:
  """Embedded clips.

  Attributes:
    embedding: float32 [n, D].
    outputs: float32 [n, K], of the last layer.
    score: float32 [n], higher = bona fide.
    utterance: str [n], as the fields of `Clip`.
    split: str [n].
    speaker: str [n].
    attack: str [n].
    label: int32 [n].
  """

  embedding: np.ndarray
  outputs: np.ndarray
  score: np.ndarray
  utterance: np.ndarray
  split: np.ndarray
  speaker: np.ndarray
  attack: np.ndarray
  label: np.ndarray

  def __len__(self) -> int:
    return len(self.score)

  def of(self, split: str) -> 'Embeddings':
    """The clips of one split."""
    chosen = self.split == split
    return Embeddings(**{k: v[chosen] for k, v in vars(self).items()})


def save(workdir: pathlib.Path, found: Embeddings, classes) -> None:
  """Writes `embeddings.npz` and `embeddings.tsv`, each whole or not at all.

  Args:
    workdir: a folder; made if missing.
    found: what to write.
    classes: names of the outputs.
  """
  with files.replacing(workdir / names.EMBEDDINGS) as file:
    np.savez(file, classes=np.array(list(classes)), **vars(found))
  columns = [getattr(found, name).tolist() for name in _TABLE]
  columns[_TABLE.index('label')] = [LABELS[n] for n in found.label.tolist()]
  files.write_table(
    workdir / names.EMBEDDINGS_TABLE, _TABLE, zip(*columns, strict=True)
  )


def load(path: str | os.PathLike) -> tuple[Embeddings, tuple[str, ...]]:
  """Reads `embeddings.npz`.

  Returns:
    (the embeddings, names of their outputs).

  Raises:
    ValueError: not such a file.
  """
  try:
    with np.load(path, allow_pickle=False) as file:
      values = {name: file[name] for name in file.files}
    classes = tuple(values.pop('classes').tolist())
    return Embeddings(**values), classes
  except (OSError, ValueError, KeyError, TypeError) as error:
    raise ValueError(
      f'{path}: expected a file that configs/embed.py wrote ({error})'
    ) from error
