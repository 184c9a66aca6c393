"""What there is to score, cut into shards.

The plan is made once, before anything is scored: `lists/00012.json` says what
is in a shard, `plan.json` that all of them are there. Shards never change
afterwards; that is why each recording is in one of them, once, whoever scores
it and whenever.
"""

import csv
import os
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from jaxspoof import audio
from jaxspoof.machine import files
from jaxspoof.runs import cells, names

FORMAT = 1
SIZE = 1000  # files of a shard
TAR = ('.tar', '.tar.gz', '.tgz', '.tar.bz2', '.tar.xz')
PARQUET = '.parquet'
TABLES = {'.csv': ',', '.tsv': '\t'}
_COLUMNS = ('path', 'file', 'filename', 'file_name', 'filepath', 'file_path')
DETECTOR = 'detector.json'  # there once a process has loaded a detector
_PLAN, _LISTS, _SCORES = 'plan.json', 'lists', 'scores'
_SHOWN = 10  # problems that a message lists


def claim(
  folder: pathlib.Path,
  inputs: Sequence[str],
  size: int,
  settings: Mapping[str, Any],
) -> dict[str, Any]:
  """Makes the plan of a folder, or takes the one that is there.

  Args:
    folder: where plan and scores lie.
    inputs: what is scored: files, folders, patterns, `@LIST`; tables with a
      column `path`; tar and parquet files that hold recordings.
    size: how many files make up a shard.
    settings: of the detector, what JSON can hold.

  Returns:
    The content of `plan.json`: besides the arguments `root`, the folder that
    names are relative to; `shards`, how many there are.

  Raises:
    ValueError: the folder is of other inputs or settings; inputs that are not
      there, or hold nothing.
    OSError: an input that cannot be read.
  """
  given = {
    'format': FORMAT,
    'inputs': list(inputs),
    'size': size,
    'settings': dict(settings),
  }
  path = folder / _PLAN
  if not path.exists() and folder.is_dir() and any(folder.iterdir()):
    ours = {_LISTS, 'locks'}  # of a plan that was not finished
    if not {one.name for one in folder.iterdir()} <= ours:
      raise ValueError(f'{folder}: holds other files; expected a new folder')
  cells.share(
    folder / 'locks',
    {'plan': lambda: _make(folder, given)},
    lambda _: path.exists(),
  )
  found = read(folder)
  for name, value in given.items():
    if found.get(name) != value:
      raise ValueError(
        f'{path}: {name} is {found.get(name)!r}, but {value!r} was asked for; '
        'name another folder, or give the command that it was begun with'
      )
  return found


def read(folder: pathlib.Path) -> dict[str, Any]:
  """The plan that was made; see `claim`."""
  return names.read_json(folder / _PLAN)


def list_of(folder: pathlib.Path, shard: int) -> dict[str, Any]:
  """What is in a shard: `files`, names; or `tar`; or `parquet` and `group`."""
  return names.read_json(folder / _LISTS / f'{shard:05}.json')


def scores_of(folder: pathlib.Path, shard: int) -> pathlib.Path:
  """The scores of a shard, which is done if they are there."""
  return folder / _SCORES / f'{shard:05}.csv'


def statistics_of(folder: pathlib.Path, shard: int) -> pathlib.Path:
  """Counts of a shard, and seconds of sound and of work; of use if done."""
  return folder / 'statistics' / f'{shard:05}.json'


def done(folder: pathlib.Path) -> set[int]:
  """Shards that have scores."""
  if not (folder / _SCORES).is_dir():
    return set()
  entries = os.scandir(folder / _SCORES)
  return {int(e.name[:-4]) for e in entries if e.name.endswith('.csv')}


def _make(folder: pathlib.Path, given: Mapping[str, Any]) -> None:
  """Writes the lists, then the plan."""
  waiting: list[str] = []
  shards = clips = again = 0
  seen: set[str] = set()
  left_out: dict[str, int] = {}

  def add(content):
    nonlocal shards
    files.write_json(folder / _LISTS / f'{shards:05}.json', content)
    shards += 1

  for name in _sources(given['inputs'], left_out):
    if name in seen:
      again += 1
    elif name.lower().endswith(TAR):
      add({'tar': name})
    elif name.lower().endswith(PARQUET):
      for group in range(_groups(name)):
        add({'parquet': name, 'group': group})
    else:
      waiting.append(name)
      clips += 1
    seen.add(name)
    if len(waiting) == given['size']:
      add({'files': waiting})
      waiting = []
  if waiting:
    add({'files': waiting})
  if not shards:
    raise ValueError(f'{given["inputs"]}: hold no recordings')
  for what, count in left_out.items():
    print(f'{what}: {count:,} files that are no audio are left out')
  if again:
    print(f'{again:,} names came more than once; each is scored once')
  packed = shards - -(-clips // given['size'])
  print(
    f'{folder}: {shards:,} shards; {clips:,} files, {packed:,} shards of tar '
    'and parquet files'
  )
  plan = {**given, 'root': os.getcwd(), 'shards': shards}
  files.write_json(folder / _PLAN, plan)


def _groups(name: str) -> int:
  """Row groups of a parquet file."""
  try:
    with parquet.ParquetFile(name) as file:
      return file.num_row_groups
  except pa.ArrowException as error:
    raise ValueError(f'{name}: no whole parquet file ({error})') from error


def _sources(inputs: Sequence[str], left_out: dict[str, int]) -> Iterator[str]:
  """Recordings, and files that hold several.

  Raises:
    ValueError: what names nothing, all of it together.
  """
  # Here and not above: a process that only watches needs no JAX.
  from jaxspoof.detect import inputs as inputs_lib

  problems: list[str] = []
  for name in inputs:
    table = os.path.splitext(name)[1].lower()
    if os.path.isdir(name):
      yield from _below(name, left_out, problems)
    elif table in TABLES and os.path.isfile(name):
      yield from _listed(name, TABLES[table])
    elif name == inputs_lib.STDIN:
      problems.append('-: expected names, not a recording; see detect.py')
    else:
      paths, wrong = inputs_lib.expand([name])
      problems += [one.error for one in wrong]
      # What is missing among millions gets its row; what was named, a word.
      if paths == [name] and not os.path.exists(name):
        problems.append(f'{name}: there is no such file')
      yield from paths
  if problems:
    more = len(problems) - _SHOWN
    lines = problems[:_SHOWN] + ([f'and {more} more'] if more > 0 else [])
    raise ValueError('\n  '.join(['nothing is scored:', *lines]))


def _below(name, left_out: dict[str, int], problems: list[str]) -> list[str]:
  """What is below a directory, sorted."""
  found = audio.find(name)
  packed = [x for x in found.others if x.lower().endswith((*TAR, PARQUET))]
  problems += [why for _, why in found.problems]
  if not (found.files or packed or found.problems):
    problems.append(f'{name}: no recordings, tar or parquet files below it')
  if others := len(found.others) - len(packed):
    left_out[name] = others
  return sorted(found.files + packed)


def _listed(name: str, delimiter: str) -> Iterator[str]:
  """Files of a table, relative to it; row by row, as it may be long."""
  folder = os.path.dirname(name)
  with open(
    name, encoding='utf-8-sig', errors='surrogateescape', newline=''
  ) as file:
    table = csv.DictReader(file, delimiter=delimiter)
    columns = table.fieldnames or []
    column = next((c for c in columns if c.lower() in _COLUMNS), None)
    if column is None:
      raise ValueError(f'{name}: no column `path` in {", ".join(columns)}')
    for row in table:
      if not row[column]:
        raise ValueError(f'{name}: line {table.line_num}: {column} is empty')
      yield os.path.join(folder, row[column])
