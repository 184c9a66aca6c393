"""What the files in the folder of a run are called, and how JSON is read."""

import json
import pathlib
import re
from typing import Any

CONFIG = 'config.json'  # what was asked for
PROGRESS = 'metrics.jsonl'  # one line for each measurement while it trains
METRICS = 'metrics.json'  # the result; it is there when the run has ended
COST = 'cost.json'  # time, size, versions, command
WEIGHTS = 'weights.npz'  # those that were selected
CHECKPOINTS = 'checkpoints'  # folder: whole states, to go on from
CLASSES = 'classes.json'  # what the outputs stand for
FROZEN = 'frozen.json'  # weights that checkpoints leave out
LOCK = 'run.lock'  # held by the process that writes here
EXAMPLES = 'examples'  # folder: one clip of each class
DETECTOR = 'detector'  # folder: the bundle, all that detection needs
DETECTOR_CARD = 'detector/card.json'
REPORT = 'report.html'
EMBEDDINGS = 'embeddings.npz'
EMBEDDINGS_TABLE = 'embeddings.tsv'
SOURCE_TRACING = 'source_tracing.json'  # how well attacks are named
GENOTYPE = 'genotype.json'  # the cells that a search found
STUDY = 'study.json'
BENCHMARK = 'benchmark.json'
CELLS = 'cells'  # folder: of each thing that a benchmark scored, the result
LEAVE_ONE_OUT = 'leave_one_out.json'

# Names that files had in earlier versions, whose runs are still read.
_EARLIER = {SOURCE_TRACING: 'recognition.json'}


class RunError(ValueError):
  """The folder of a run, or a file in it, that cannot be used."""


def under(split: str, condition: str) -> str:
  """What the files of a split under a condition are called."""
  if condition == 'clean':
    return split
  # No file has these in its name anywhere.
  return f'{split}@{re.sub("[:/]", "_", condition)}'


def scores(workdir: pathlib.Path, name: str) -> pathlib.Path:
  """The score file of a split, or of a split under a condition."""
  return workdir / 'scores' / f'{name}.txt'


def protocol(workdir: pathlib.Path, name: str) -> pathlib.Path:
  """Speaker, attack and label of the trials of such a score file."""
  return workdir / 'protocols' / f'{name}.txt'


def moments(workdir: pathlib.Path, name: str) -> pathlib.Path:
  """Scores of a split over time, of a run that localises."""
  return workdir / 'moments' / f'{name}.txt'


def ranges(workdir: pathlib.Path, name: str) -> pathlib.Path:
  """Where the clips of the split are spoofed, and up to where is known."""
  return workdir / 'moments' / f'{name}.rttm'


def found_ranges(workdir: pathlib.Path, name: str) -> pathlib.Path:
  """Where such a run says that they are."""
  return workdir / 'moments' / f'{name}.found.rttm'


def asv_scores(workdir: pathlib.Path, name: str) -> pathlib.Path:
  """Scores of a speaker-verification system, of a corpus that has them."""
  return workdir / 'asv_scores' / f'{name}.txt'


def existing(workdir: pathlib.Path, name: str) -> pathlib.Path:
  """The path of a file, by its earlier name if it is there by that alone."""
  path, earlier = workdir / name, workdir / _EARLIER.get(name, name)
  return earlier if earlier.is_file() and not path.is_file() else path


def read_json(path: pathlib.Path) -> dict[str, Any]:
  """The dictionary in a JSON file of a run.

  Raises:
    RunError: there is no such file, or it is damaged or cut; its name comes
      first.
  """
  values = json_or_none(path)
  if values is None:
    raise RunError(
      f'{path} not found: expected the workdir of a run that has ended'
    )
  return values


def json_or_none(path: pathlib.Path) -> dict[str, Any] | None:
  """The dictionary in a JSON file of a run; None if there is no file.

  Raises:
    RunError: the file is damaged or cut; its name comes first.
  """
  if not path.is_file():
    return None
  try:
    values = json.loads(path.read_text(encoding='utf-8'))
  except ValueError as error:  # no JSON, or no text
    raise RunError(f'{path}: damaged or cut, not JSON: {error}') from error
  if not isinstance(values, dict):
    raise RunError(f'{path}: expected a JSON object, got {values!r:.40}')
  return values
