"""Architecture search in three lines, for a notebook or a program.

  from jaxspoof.light_darts import SearchController
  searcher = SearchController(num_cells=8, cost_weight=0.5)
  result = searcher.train_search('asvspoof2019_la')
  result.save('genotype.json')
  result.plot('cells.svg')

This is the job of `configs/light_darts_search.py` without a command line: the
settings and the files in the workdir are the same, and a search that was
stopped goes on from its last checkpoint.
"""

import dataclasses
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from jaxspoof.darts.search.config import search_config, supernet_config
from jaxspoof.darts.spaces.genotype import KINDS, Genotype
from jaxspoof.data.source import Source, trials
from jaxspoof.runs import names
from jaxspoof.runs.run import metric_lines

RECORDS = 'records'  # what a corpus without a name is called
FIELDS = ('audio', 'label', 'utterance', 'speaker', 'attack')  # of a record
# What differs from the defaults of the sections in the job's config file.
DATA = {'batch': 64, 'eval_batch': 64}
LOSS = {'name': 'weighted_cross_entropy', 'weights': (0.1, 0.9)}


@dataclasses.dataclass(frozen=True)
class SearchResult:
  """What a search found.

  Attributes:
    genotype: the cells.
    history: metrics by step, as in `metrics.jsonl`: losses, entropy, expected
      cost, EER on dev, and at the ends of epochs `arch`, the weights of all
      operations and edges.
    metrics: first and last epoch, size of the derived network, known failure
      modes that were found, hash of the state.
    workdir: folder with everything, `report.html` among it.
  """

  genotype: Genotype
  history: list[dict[str, Any]]
  metrics: dict[str, Any]
  workdir: pathlib.Path

  def save(self, path: str | os.PathLike) -> None:
    """Writes the genotype as JSON, for `configs/light_darts.py`."""
    self.genotype.save(path)

  def plot(self, path: str | os.PathLike) -> None:
    """Draws both cells into an SVG file, a path that ends in `.svg`."""
    from jaxspoof.darts.pages import (
      cells,  # Imports matplotlib: only when needed.
    )

    if pathlib.Path(path).suffix.lower() != '.svg':
      raise ValueError(f'{os.fspath(path)!r}: expected a file name with .svg')
    cells.save(
      path,
      [(f'{kind} cell', cells.cell(kind, self.genotype)) for kind in KINDS],
    )


class SearchController:
  """Searches the cells of a countermeasure.

  Args:
    search_space: name of the space, a key of `spaces.SPACES`.
    num_cells: cells of the supernet.
    cost_weight: how much the expected cost of the architecture counts beside
      the validation loss, at least 0.
    workdir: folder of the run; None makes one below the folder for temporary
      files, and `SearchResult.workdir` says which.
    **settings: fields of `SearchConfig` and, as dictionaries, of its sections:
      `epochs=20, data={'batch': 16}, arch={'order': 'exact'}`. What is not
      given is as in `configs/light_darts_search.py`, for a GPU.

  Raises:
    ValueError: a setting that is unknown, given twice or cannot be; names it.
  """

  def __init__(
    self,
    search_space: str = 'light',
    num_cells: int = 8,
    cost_weight: float = 0.0,
    *,
    workdir: str | os.PathLike | None = None,
    **settings: Any,
  ):
    model = {'space': search_space, 'num_cells': num_cells}
    if twice := sorted({*model} & {*settings.get('model', {})}):
      raise ValueError(
        f'model sets {" and ".join(twice)}: expected search_space and '
        'num_cells of SearchController instead'
      )
    model |= settings.get('model', {})
    fields = {'loss': LOSS, **settings, 'model': model}
    self._settings = dict(fields, cost_weight=cost_weight)
    self._workdir = workdir
    # What is wrong with the settings is said now, not when data is at hand.
    self._config = search_config(self._values(RECORDS))
    supernet_config(self._config)

  def train_search(
    self, dataset: Any, *, data_dir: str | os.PathLike | None = None
  ) -> SearchResult:
    """Searches on a corpus whose records are those of `tfds_builders`.

    Args:
      dataset: name of a corpus, `quickstart` or `corpus/config`, which is
        built where it is missing; a TFDS builder, prepared; or data sources,
        one or a dictionary by split. A record has `audio` (bytes of a file),
        `label` (spoof 0, bona fide 1), `utterance`, `speaker` and `attack`.
        The train split is divided into two halves by speaker; the dev split
        is watched, if there is one.
      data_dir: where corpora lie that are given by name.

    Raises:
      ValueError: no such corpus or split, a builder that is not prepared,
        records that lack a field, one class only, or too few speakers to
        halve.
    """
    from jaxspoof.jobs import search  # Import TFDS, slowly.
    from jaxspoof.machine import programs

    data = self._config.data
    name, splits = _opened(dataset, data.train, data.dev)
    values = self._values(name)
    if data_dir is not None:
      values['data']['data_dir'] = os.fspath(data_dir)
    if splits is not None and data.dev not in splits.splits:
      values['data']['dev'] = ''
    workdir = self._workdir or tempfile.mkdtemp(prefix='light_darts_')
    workdir = pathlib.Path(workdir)
    programs.keep()
    search.search({'job': 'search', **values}, workdir, splits)
    return load(workdir)

  def _values(self, name: str) -> dict[str, Any]:
    """The config as the job takes it: every field of every section."""
    given = self._settings.get('data', {})
    data = {'name': name, 'build': True, **DATA, **given}
    return {**self._settings, 'data': data}


def load(workdir: str | os.PathLike) -> SearchResult:
  """The result of a finished search from its workdir.

  Raises:
    ValueError: no search has ended there.
  """
  workdir = pathlib.Path(workdir)
  metrics = names.read_json(workdir / names.METRICS)
  return SearchResult(
    genotype=Genotype.load(workdir / names.GENOTYPE),
    history=metric_lines(workdir / names.PROGRESS, []),
    metrics=metrics,
    workdir=workdir,
  )


@dataclasses.dataclass(frozen=True)
class Records:
  """Data sources by split, in place of a corpus on disk."""

  name: str
  splits: Mapping[str, Sequence[Mapping[str, Any]]]

  def open(self, split: str) -> Source:
    """Records of one split.

    Raises:
      ValueError: there is no such split; names those there are.
    """
    if split not in self.splits:
      raise ValueError(
        f'the data set has no split {split!r}; it has '
        f'{", ".join(sorted(self.splits))}'
      )
    records = self.splits[split]
    if len(records) and (missing := {*FIELDS} - {*records[0]}):
      raise ValueError(
        f'the records of split {split!r} lack {", ".join(sorted(missing))}: '
        f'expected the fields {", ".join(FIELDS)}'
      )
    return Source(records, self.name, split)


def _named(splits: Mapping[str, Any]) -> tuple[str, Records]:
  """Data sources with a name of their own: a workdir is of one data set."""
  digest = hashlib.sha256()
  for split in sorted(splits):
    known = trials(Records(RECORDS, splits).open(split))
    for column in (known.utterance, known.speaker, known.attack, known.label):
      digest.update(repr((split, column.tolist())).encode())
  name = f'{RECORDS}-{digest.hexdigest()[:12]}'
  return name, Records(name, splits)


def _opened(dataset: Any, train: str, dev: str) -> tuple[str, Records | None]:
  """Name and records of a data set; None where the job opens it by name."""
  if isinstance(dataset, str):
    return dataset, None
  if hasattr(dataset, 'as_data_source'):
    name = dataset.info.full_name
    if not dataset.is_prepared():
      raise ValueError(
        f'builder {name} is not prepared: nothing in {dataset.data_path}; '
        'build the corpus first, or give its name'
      )
    known = dataset.info.splits
    names = [
      split for split in (train, dev) if split.partition('[')[0] in known
    ]
    return name, Records(name, {s: dataset.as_data_source(s) for s in names})
  if isinstance(dataset, Mapping):
    return _named(dataset)
  if hasattr(dataset, '__getitem__') and hasattr(dataset, '__len__'):
    return _named({train: dataset})
  raise ValueError(
    f'dataset is {type(dataset).__name__}: expected the name of a corpus, a '
    'TFDS builder, a data source or a dictionary of them by split'
  )
