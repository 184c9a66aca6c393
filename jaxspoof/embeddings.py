"""Embeds many clips with one model; reads the next ones meanwhile.

What comes out is a value, `Embeddings`; `jaxspoof.runs.embedded`
keeps it in a file.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import NamedTuple

import numpy as np

from jaxspoof import audio
from jaxspoof.audio import signal_checks
from jaxspoof.data.source import Source, text
from jaxspoof.detector import Detector, Failure
from jaxspoof.detector import read as read_file
from jaxspoof.runs.embedded import Embeddings, load, save

__all__ = [
  'Clip', 'Doubt', 'Embeddings', 'Load', 'embed', 'load', 'loads_of_files',
  'loads_of_split', 'save',
]  # fmt: skip

_CHUNK = 16  # clips decoded ahead, at least


class Clip(NamedTuple):
  """What is known of a clip; unknown fields are '', an unknown label is -1.

  Attributes:
    utterance: name of the clip in its corpus, or path of the file.
    split: split of the corpus that it belongs to.
    speaker: who speaks.
    attack: the attack that made it, '-' for bona fide.
    label: 0 spoof, 1 bona fide.
  """

  utterance: str
  split: str = ''
  speaker: str = ''
  attack: str = ''
  label: int = -1


class Doubt(NamedTuple):
  """A reason why the embedding of a clip may mean little."""

  utterance: str
  warning: str


# Reads a clip, in a thread, of which so many samples are taken: what is known
# of it, and its audio, or what is wrong with that.
Load = Callable[[int], tuple[Clip, audio.Clip | str]]


def loads_of_split(source: Source) -> list[Load]:
  """Functions that read the records of a split, one each, in its order.

  Records with silence or little sound are read like others, because an
  evaluation has to score every trial; they get a warning.
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
  """Functions that read files, one each, in their order."""
  return [
    lambda n, p=p: (Clip(p), read_file(p, n)) for p in map(os.fspath, paths)
  ]


def embed(
  detector: Detector, loads: Sequence[Load]
) -> tuple[Embeddings | None, list[Failure], list[Doubt]]:
  """Embeds clips in their order; reads the next ones meanwhile.

  Args:
    detector: the model.
    loads: from `loads_of_split` and `loads_of_files`.

  Returns:
    (the clips that could be embedded, or None; the others and why; what is
    doubtful about the former).
  """
  clips, parts, failures, doubts = [], [], [], []
  for chunk in _chunks(loads, max(_CHUNK, detector.batch), detector.samples):
    for clip, read in chunk:
      if isinstance(read, str):
        failures.append(Failure(clip.utterance, read))
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
        failures.append(Failure(clip.utterance, why))
  if not clips:
    return None, failures, doubts
  embedding, outputs = (np.concatenate(x) for x in zip(*parts, strict=True))
  columns = Clip(*map(np.array, zip(*clips, strict=True)))
  known = {**columns._asdict(), 'label': columns.label.astype(np.int32)}
  score = np.asarray(detector.loss.score(outputs))
  return Embeddings(embedding, outputs, score, **known), failures, doubts


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
