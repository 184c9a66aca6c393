"""Embeddings of many clips as a value, made by a model, kept in a file.

`embeddings.npz` holds one array per field of `Embeddings`, no pickles;
`embeddings.tsv` is a table of the same clips without the vectors.
"""

import csv
import dataclasses
import io
import os
import pathlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxspoof import audio
from jaxspoof.audio import signal_checks
from jaxspoof.data.source import Source, text
from jaxspoof.machine.files import write_atomically

if TYPE_CHECKING:  # the report reads embeddings, and loads no model
  from jaxspoof import detector as detector_lib

LABELS = {0: 'spoof', 1: 'bonafide', -1: ''}
_CHUNK = 16  # clips decoded ahead, at least
_TABLE = ('utterance', 'split', 'speaker', 'attack', 'label', 'score')


class Clip(NamedTuple):
  """What is known of a clip; '' and -1 where nothing is.

  Attributes:
    utterance: its name in the corpus, or its path.
    split: of the corpus.
    speaker: who speaks.
    attack: how it was made, '-' for bona fide.
    label: 0 spoof, 1 bona fide.
  """

  utterance: str
  split: str = ''
  speaker: str = ''
  attack: str = ''
  label: int = -1


class Doubt(NamedTuple):
  """What makes the embedding of a clip mean little."""

  utterance: str
  warning: str


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


# Reads a clip, in a thread, of which so many samples are taken: what is known
# of it, and its audio, or what is wrong with that.
Load = Callable[[int], tuple[Clip, audio.Clip | str]]


def loads_of_split(source: Source) -> list[Load]:
  """One function per record of a split, in its order.

  As in the evaluation of training, no trial is refused for what it holds.
  """

  def load(index: int, samples: int) -> tuple[Clip, audio.Clip | str]:
    record = source[index]
    clip = Clip(
      text(record['utterance']),
      source.split,
      text(record['speaker']),
      text(record['attack']),
      int(record['label']),
    )
    name = f'{source.name} {source.split}, utterance {clip.utterance}'
    try:
      found = audio.read(record['audio'], name, verify=False, samples=samples)
    except audio.AudioError as error:
      return clip, str(error)
    doubts = signal_checks.doubts(found.wave)
    return clip, found._replace(warnings=(*found.warnings, *doubts))

  return [lambda n, i=i: load(i, n) for i in range(len(source))]


def loads_of_files(paths: Iterable[str]) -> list[Load]:
  """One function per file."""
  from jaxspoof import detector as detector_lib

  return [
    lambda n, p=p: (Clip(p), detector_lib.read(p, n))
    for p in map(os.fspath, paths)
  ]


def embed(
  detector: 'detector_lib.Detector', loads: Sequence[Load]
) -> 'tuple[Embeddings | None, list[detector_lib.Failure], list[Doubt]]':
  """Embeds clips in their order; reads the next ones meanwhile.

  Args:
    detector: the model.
    loads: from `loads_of_split` and `loads_of_files`.

  Returns:
    (the clips that could be embedded, or None; the others and why; what is
    doubtful about the former).
  """
  from jaxspoof import detector as detector_lib

  clips, parts, failures, doubts = [], [], [], []
  for chunk in _chunks(loads, max(_CHUNK, detector.batch), detector.samples):
    for clip, read in chunk:
      if isinstance(read, str):
        failures.append(detector_lib.Failure(clip.utterance, read))
      else:
        doubts += [Doubt(clip.utterance, text) for text in read.warnings]
    good = [item for item in chunk if not isinstance(item[1], str)]
    if not good:
      continue
    found = detector.embed([read.wave for _, read in good])
    finite = np.all([np.isfinite(x).all(axis=1) for x in found], axis=0)
    parts.append([x[finite] for x in found])
    for (clip, _), fine in zip(good, finite, strict=True):
      if fine:
        clips.append(clip)
      else:
        why = f'{clip.utterance}: its embedding is not finite'
        failures.append(detector_lib.Failure(clip.utterance, why))
  if not clips:
    return None, failures, doubts
  embedding, outputs = (np.concatenate(x) for x in zip(*parts, strict=True))
  columns = Clip(*map(np.array, zip(*clips, strict=True)))
  known = {**columns._asdict(), 'label': columns.label.astype(np.int32)}
  score = np.asarray(detector.loss.score(outputs))
  return Embeddings(embedding, outputs, score, **known), failures, doubts


def save(workdir: pathlib.Path, found: Embeddings, classes) -> None:
  """Writes `embeddings.npz` and `embeddings.tsv`, each whole or not at all.

  Args:
    workdir: a folder; made if missing.
    found: what to write.
    classes: names of the outputs.
  """
  workdir.mkdir(parents=True, exist_ok=True)
  path = workdir / 'embeddings.npz'
  partial = path.with_name(path.name + '.partial')
  with partial.open('wb') as file:
    np.savez(file, classes=np.array(list(classes)), **vars(found))
  os.replace(partial, path)
  columns = [getattr(found, name).tolist() for name in _TABLE]
  columns[_TABLE.index('label')] = [LABELS[n] for n in found.label.tolist()]
  write_table(workdir / 'embeddings.tsv', _TABLE, zip(*columns, strict=True))


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


def write_table(path: pathlib.Path, head, rows) -> None:
  """Writes a table with a header, separated by tabs; odd names are quoted."""
  buffer = io.StringIO()
  writer = csv.writer(buffer, delimiter='\t', lineterminator='\n')
  writer.writerows([head, *rows])
  write_atomically(path, buffer.getvalue())


def _chunks(loads: Sequence[Load], size: int, samples: int) -> Iterator[list]:
  """Lists of what the functions return; the next list is read meanwhile."""
  with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    ahead = []
    for start in range(0, len(loads) + size, size):
      now, ahead = (
        ahead,
        [pool.submit(load, samples) for load in loads[start : start + size]],
      )
      if now:
        yield [future.result() for future in now]
