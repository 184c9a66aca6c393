"""JOB: writes the embeddings of splits of a corpus, or of own recordings.

  embeddings.npz   vectors, outputs and what is known of each clip
  embeddings.tsv   the same clips as a table, without the vectors
  failures.tsv     clips that could not be embedded, and why
  warnings.tsv     clips whose embedding may mean little, and why

Read from top to bottom.
"""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Mapping
from typing import Any

import jax

from jaxspoof import audio, embeddings
from jaxspoof.config import job_section
from jaxspoof.data import pipeline
from jaxspoof.detector import Detector, Failure
from jaxspoof.machine import files
from jaxspoof.runs import names
from jaxspoof.training import setup


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Which clips of which corpus.

  Attributes:
    name: corpus, as for training.
    data_dir: where built corpora lie; None for the TFDS default.
    build: build the corpus first where it is missing.
    splits: their names.
  """

  name: str = 'quickstart'
  data_dir: str | None = None
  build: bool = False
  splits: tuple[str, ...] = ('train', 'dev', 'eval')

  def __post_init__(self):
    if not self.splits or isinstance(self.splits, str):
      raise ValueError(
        f'data.splits={self.splits!r}: expected names of splits, such as '
        "('dev', 'eval')"
      )


@dataclasses.dataclass(frozen=True)
class EmbedConfig:
  """What is embedded, and by what.

  Attributes:
    checkpoint: workdir of a run, or a `.pth` of the original AASIST.
    model: name the checkpoint must have; None takes what it is.
    input: a file, or a folder that is searched to the bottom; None takes
      `data`.
    data: corpus and splits.
    seconds: how much of each clip is taken; None for what the evaluation of
      the run took.
    batch: clips at once; None for what the detector takes.
  """

  checkpoint: str | None  # None, the default of the config, is refused
  model: str | None = None
  input: str | None = None
  data: DataConfig = DataConfig()
  seconds: float | None = None
  batch: int | None = None

  def __post_init__(self):
    if not self.checkpoint:
      raise ValueError(
        'checkpoint is not set; expected the workdir of a run or a .pth file '
        'of the original AASIST: --config.checkpoint=WORKDIR'
      )
    if self.batch is not None and self.batch < 1:
      raise ValueError(f'batch={self.batch}: expected at least 1')


def embed(values: Mapping[str, Any], workdir: pathlib.Path) -> dict:
  """Embeds what a config names.

  Args:
    values: the config as a dictionary, see `EmbedConfig`.
    workdir: folder to write into; made if missing.

  Returns:
    `clips` embedded, `failed` ones, `size` of an embedding.

  Raises:
    ValueError: a config that cannot work, or no clip that can be embedded.
  """
  # ------------------------------------------------------------- checks ---
  config = job_section(EmbedConfig, {'checkpoint': None, **values})
  if jax.process_count() > 1:
    raise ValueError('embed runs on one host; leave out --distributed')
  detector = Detector.load(
    config.checkpoint, config.model, seconds=config.seconds, batch=config.batch
  )
  setup.claim(workdir, dict(values))

  # -------------------------------------------------------------- clips ---
  problems = []
  if config.input is not None:
    paths, problems = _files(config.input)
    loads = embeddings.loads_of_files(paths)
  else:
    loads = _loads_of_corpus(config.data)
  print(f'{detector.model}: embedding {len(loads):,} clips', flush=True)
  found, failures, doubts = embeddings.embed(detector, loads)
  failures = [Failure(*problem) for problem in problems] + failures

  # ------------------------------------------------------------- output ---
  files.write_table(
    workdir / 'failures.tsv',
    ('utterance', 'error'),
    [(failure.path, failure.error) for failure in failures],
  )
  files.write_table(workdir / 'warnings.tsv', embeddings.Doubt._fields, doubts)
  for text in [failure.error for failure in failures] + [
    f'{name}: warning: {text}' for name, text in doubts
  ]:
    print(text, file=sys.stderr, flush=True)
  if found is None:
    raise ValueError(f'none of {len(loads):,} clips could be embedded')
  embeddings.save(workdir, found, detector.classes)
  size = found.embedding.shape[1]
  print(
    f'{len(found):,} embeddings of {size} numbers in '
    f'{workdir / names.EMBEDDINGS}'
  )
  if failures:
    listed = workdir / 'failures.tsv'
    print(f'{len(failures):,} clips could not be embedded, listed in {listed}')
  return {'clips': len(found), 'failed': len(failures), 'size': size}


# ------------------------------------------------------------------ helpers ---
def _files(name: str) -> tuple[list[str], list[tuple[str, str]]]:
  """The file, or the recordings below the folder and what is wrong there."""
  path = os.path.expanduser(name)
  if not os.path.exists(path):
    raise ValueError(f'input={name!r}: there is no such file or folder')
  if not os.path.isdir(path):
    return [path], []
  found = audio.find(path)
  if not found.files:
    reasons = [why for _, why in found.problems]
    raise ValueError(
      f'input={name!r}: no audio files below this folder '
      f'({"; ".join(reasons) or ", ".join(audio.EXTENSIONS)})'
    )
  return found.files, found.problems


def _loads_of_corpus(data: DataConfig) -> list[embeddings.Load]:
  setup.prepare_corpus(data)
  loads = []
  for split in data.splits:
    source = pipeline.open_source(data.name, split, data.data_dir)
    loads += embeddings.loads_of_split(source)
  return loads
