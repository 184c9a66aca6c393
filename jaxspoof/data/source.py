"""Records of a corpus: the only file that opens TFDS data."""

import dataclasses
import functools
import hashlib
import os
import pathlib
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_END = 2**16  # bytes of a file, of both its ends


class CorpusNotBuilt(ValueError):
  """The corpus is known, but is not on disk; the message says the command."""


@dataclasses.dataclass(frozen=True)
class Source:
  """Random access to the records of one split.

  Attributes:
    records: a sequence of dictionaries with `audio` (encoded file, bytes: FLAC,
      WAV or whatever else `audio.decode` reads),
      `label` (0 spoof, 1 bona fide), `utterance`, `speaker` and `attack`.
    name: corpus, for messages.
    split: split, for messages.
  """

  records: Sequence[Mapping[str, Any]]
  name: str
  split: str

  def __len__(self) -> int:
    return len(self.records)

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    return self.records[index]


@dataclasses.dataclass(frozen=True)
class Mixture:
  """Records of several sources, one source after the other.

  Attributes:
    sources: of different corpora.
    weights: share of each in training batches; empty for that of its records.
  """

  sources: tuple[Source, ...]
  weights: tuple[float, ...] = ()

  @functools.cached_property
  def ends(self) -> np.ndarray:
    """Number of the first record after each source, int [sources]."""
    return np.cumsum([len(source) for source in self.sources])

  @property
  def name(self) -> str:
    """Names of the corpora, for messages."""
    return '+'.join(source.name for source in self.sources)

  @property
  def split(self) -> str:
    """Splits of them, for messages."""
    return ','.join(dict.fromkeys(source.split for source in self.sources))

  def __len__(self) -> int:
    return int(self.ends[-1])

  def number_of(self, index) -> np.ndarray:
    """Which source a record is of, or each of several records."""
    return np.searchsorted(self.ends, index, side='right')

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    number = int(self.number_of(index))
    source = self.sources[number]
    return source[index - int(self.ends[number]) + len(source)]


# Fields of records by which figures are broken down: how a clip was sent or
# recorded, and who speaks.
GROUPS = (
  'codec', 'environment', 'gender', 'gender_pair', 'language', 'family'
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Trials:
  """What is known of each record of a source, in its order; no audio.

  Attributes:
    utterance: str [n].
    speaker: str [n].
    attack: str [n], '-' for bona fide.
    label: int32 [n], 0 spoof, 1 bona fide.
    groups: str [n] each, by name: those of `GROUPS` that the corpus tells, '-'
      where a record does not.
  """

  utterance: np.ndarray
  speaker: np.ndarray
  attack: np.ndarray
  label: np.ndarray
  groups: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)

  def __len__(self) -> int:
    return len(self.label)


class _Chosen(Sequence):
  """Some records of a sequence."""

  def __init__(self, records: Sequence, numbers: np.ndarray):
    self._records, self._numbers = records, numbers

  def __len__(self) -> int:
    return len(self._numbers)

  def __getitem__(self, index: int) -> Mapping[str, Any]:
    return self._records[int(self._numbers[index])]


def bona_fide(source: Source | Mixture) -> Source | Mixture:
  """The bona fide records of a source, in their order.

  Raises:
    ValueError: there are none.
  """
  return _of_label(source, 1, 'bona fide')


def spoofed(source: Source | Mixture) -> Source | Mixture:
  """The spoofed records of a source, in their order.

  Raises:
    ValueError: there are none.
  """
  return _of_label(source, 0, 'spoofed')


def _of_label(
  source: Source | Mixture, label: int, called: str
) -> Source | Mixture:
  if isinstance(source, Mixture):
    parts = tuple(_of_label(one, label, called) for one in source.sources)
    return dataclasses.replace(source, sources=parts)
  found = np.flatnonzero(trials(source).label == label)
  if not len(found):
    raise ValueError(
      f'{source.name} {source.split}: none of {len(source):,} clips is {called}'
    )
  return dataclasses.replace(source, records=_Chosen(source.records, found))


def open_source(
  name: str, split: str, data_dir: str | os.PathLike | None = None
) -> Source:
  """Opens a split of a built corpus.

  Args:
    name: A key of `tfds_builders.build.CORPORA`, or `key/builder_config`;
      own recordings are `wav_folder/NAME`.
    split: A TFDS split; `train[:10%]` and `train+dev` work too.
    data_dir: Where built corpora lie; None for the TFDS default.

  Raises:
    CorpusNotBuilt: The corpus is not on disk.
    ValueError: No such corpus, or no such split.
  """
  if '+' in name:
    raise ValueError(
      f'{name!r} are several corpora, which only training takes; expected one'
    )
  from tfds_builders import build  # TFDS is slow to import

  builder = build.builder(name, data_dir)
  if not builder.is_prepared():
    command = ['python', '-m', 'tfds_builders.build', name]
    command += getattr(builder, 'BUILD_OPTIONS', ())
    if data_dir is not None:
      command.append(f'--data_dir={data_dir}')
    raise CorpusNotBuilt(
      f'corpus {name!r} is not built: nothing in {builder.data_path};'
      f' build it with: {shlex.join(command)}'
    )
  try:
    return Source(builder.as_data_source(split), name, split)
  except (ValueError, KeyError) as error:
    if split in builder.info.splits:
      raise  # it is not the name that is wrong
    raise ValueError(
      f'corpus {name!r} has no split {split!r};'
      f' it has {", ".join(sorted(builder.info.splits))}'
    ) from error


def apart(
  source: Source, data_dir: str | os.PathLike | None = None
) -> tuple[Source, ...]:
  """The splits that a source such as 'train+dev' has one after the other.

  Args:
    source: from `open_source`; one of a single split, or of slices, is given
      back as it is.
    data_dir: as for `open_source`.
  """
  named = source.split.split('+')
  if len(named) == 1 or '[' in source.split:
    return (source,)
  return tuple(open_source(source.name, split, data_dir) for split in named)


def splits_of(
  name: str, data_dir: str | os.PathLike | None = None
) -> tuple[str, ...]:
  """Names of the splits of a built corpus, without a look at their records."""
  from tfds_builders import build  # TFDS is slow to import

  return tuple(sorted(build.builder(name, data_dir).info.splits))


def fingerprint(
  name: str, split: str, data_dir: str | os.PathLike | None = None
) -> str:
  """A hash of what a split of a built corpus holds, wherever it lies.

  It is that of version, split and, of each file of the records, its size and
  both its ends: a corpus that was built anew of other clips has another one.

  Raises:
    CorpusNotBuilt: the corpus is not on disk.
  """
  open_source(name, split, data_dir)  # says what is missing
  from tfds_builders import build  # TFDS is slow to import

  builder = build.builder(name, data_dir)
  digest = hashlib.sha256(f'{builder.info.full_name} {split}'.encode())
  for path in sorted(pathlib.Path(builder.data_path).glob('*.array_record-*')):
    size = path.stat().st_size
    with path.open('rb') as file:
      digest.update(f'{path.name} {size}'.encode() + file.read(_END))
      file.seek(max(0, size - _END))
      digest.update(file.read(_END))
  if (asv := asv_scores(name, split, data_dir)) is not None:
    digest.update(asv.read_bytes())
  return digest.hexdigest()


def asv_scores(
  name: str, split: str, data_dir: str | os.PathLike | None = None
) -> pathlib.Path | None:
  """Scores of a verification system that came with a corpus, for the t-DCF.

  Args:
    name: the corpus, as `open_source` takes it.
    split: name of a whole split; parts of splits have no such scores.
    data_dir: where built corpora lie; None for the TFDS default.

  Returns:
    Path of a file that `score_files.asv_scores` reads; None if the corpus came
    without such scores.
  """
  from tfds_builders import build  # TFDS is slow to import

  path = pathlib.Path(build.builder(name, data_dir).data_path)
  path = path / 'asv_scores' / f'{split}.txt'
  return path if path.is_file() else None


def trials(source: Sequence[Mapping[str, Any]]) -> Trials:
  """Reads what records say of their clips, at about 4,000 records a second."""
  columns = {'utterance': [], 'speaker': [], 'attack': [], 'label': []}
  groups = {name: [] for name in GROUPS}
  for index in range(len(source)):
    record = source[index]
    for field, values in columns.items():
      values.append(text(record[field]))
    for field, values in groups.items():
      values.append(text(record.get(field, '-')) or '-')
  label = np.array(columns.pop('label'), np.int32)
  return Trials(
    label=label,
    groups={k: np.array(v) for k, v in groups.items() if {*v} - {'-'}},
    **{k: np.array(v) for k, v in columns.items()},
  )


def text(value: Any) -> Any:
  """Turns a text field of a record, which TFDS gives as bytes, into a str."""
  return value.decode() if isinstance(value, bytes) else value
