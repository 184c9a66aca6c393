"""What all builders that store existing audio share: records and shards.

A record is the same in every corpus: `audio` (an encoded file, bytes), `label`
(0 spoof, 1 bona fide), `utterance`, `speaker`, `attack` ('-' for bona fide).
"""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import itertools
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds
from array_record.python import array_record_module

from jaxspoof.machine.progress import Progress
from tfds_builders.errors import SHOWN, BuildError, Problems
from tfds_builders.names import word as word

UNDECODABLE = 'undecodable.txt'  # beside the records, where any were left out
# More clips that cannot be decoded are not a few bad files, but a bad copy.
BROKEN_SHARE = 0.01
# Of the splits of corpora that come without.
SHARES = {'train': 0.6, 'dev': 0.2, 'eval': 0.2}
SHARD_BYTES = 100_000_000
_AHEAD = 64  # clips read and checked before they are written


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
  """One trial, and where its audio is.

  Attributes:
    utterance: name of the trial, unique in its split.
    speaker: who speaks, or is meant to.
    attack: name of the attack that made it, '-' for bona fide.
    source: what the builder finds the audio by, such as its path.
    size: size of the stored audio in bytes, about.
    position: place in the list of trials; problems are reported in this order.
    extra: further text fields of the record.
  """

  utterance: str
  speaker: str
  attack: str
  source: str
  size: int = 0
  position: int = 0
  extra: Mapping[str, str] = dataclasses.field(default_factory=dict)

  @property
  def label(self) -> str:
    """The name of the class."""
    return 'bonafide' if self.attack == '-' else 'spoof'


@dataclasses.dataclass
class Tally:
  """What a split holds, counted while it is written."""

  attacks: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )
  speakers: set[str] = dataclasses.field(default_factory=set)
  seconds: float = 0.0

  def add(self, attack: str, speaker: str, seconds: float) -> None:
    """Counts one trial."""
    self.attacks[attack] += 1
    self.speakers.add(speaker)
    self.seconds += seconds


@dataclasses.dataclass(frozen=True)
class Inputs:
  """What a person says a corpus is to be built from.

  Attributes:
    manual_dir: folder that holds the official archives; None for
      `downloads/manual` below the data_dir.
    download: whether archives that are missing may be downloaded.
    manifest: table that lists the files, for `wav_folder`.
  """

  manual_dir: pathlib.Path | None = None
  download: bool = False
  manifest: pathlib.Path | None = None


# Returns the bytes to store and the clip's length in seconds.
Reader = Callable[[Trial], tuple[bytes, float]]


class RecordBuilder(tfds.core.ShardBasedBuilder):
  """Base of builders that store audio which exists already.

  A subclass gives `_info` and `_shard_iterators_per_split`, and returns
  `self.shards(...)` from the latter. ShardBasedBuilder, because the shuffler of
  the others needs TensorFlow above 1 GiB; so rows are permuted here, by a seed
  of the split's name.

  Attributes:
    tally: what was written, by split.
  """

  # What `python -m tfds_builders.build` needs besides the name.
  BUILD_OPTIONS: tuple[str, ...] = ()
  ORDERED = False  # rows keep the order in which they are given

  inputs = Inputs()

  def take(self, inputs: Inputs) -> None:
    """Sets what the corpus is built from, or is said to have been built from.

    Raises:
      BuildError: this corpus is built from something else.
    """
    self.inputs = inputs

  def shards(
    self, splits: Mapping[str, Sequence[Trial]], read: Reader, of: object
  ) -> dict[str, list[Callable[[], Iterator]]]:
    """Returns the generators that TFDS asks for.

    Args:
      splits: the trials by split, in any order.
      read: returns the bytes to store and the clip's length in seconds. It is
        called in threads. Its ValueErrors are collected and raised together in
        the end, so that everything that is wrong is told at once.
      of: what is being read, as messages call it.
    """
    self.tally = {split: Tally() for split in splits}
    self._problems = Problems(of)
    self._check_space(sum(t.size for trials in splits.values() for t in trials))
    progress = Progress('clips', sum(map(len, splits.values())))
    return {
      split: [
        functools.partial(self._examples, split, part, read, progress)
        for part in _parts(split, trials, self.ORDERED)
      ]
      for split, trials in splits.items()
    }

  def _check_space(self, needed: int) -> None:
    """Says at once, not after minutes, that the disk is too small."""
    free = shutil.disk_usage(self.data_dir).free
    if free < needed:
      raise BuildError(
        f'{self.data_dir}: {free / 1e9:.1f} GB are free, {needed / 1e9:.1f} GB '
        'are needed (--data_dir=DIR)'
      )

  def _examples(
    self,
    split: str,
    trials: Sequence[Trial],
    read: Reader,
    progress: Progress,
  ) -> Iterator[tuple[str, dict]]:
    for trial, future in _read_ahead(trials, read):
      progress.step()
      try:
        data, seconds = future.result()
      except ValueError as error:
        self._problems.add(str(error), trial.position)
        continue
      self.tally[split].add(trial.attack, trial.speaker, seconds)
      example = {
        'audio': data,
        'label': trial.label,
        'utterance': trial.utterance,
        'speaker': trial.speaker,
        'attack': trial.attack,
        **trial.extra,
      }
      yield trial.utterance, example
      # TFDS keeps the examples of a shard until it is written, to count them;
      # it has serialised this one. Emptied, it does not hold the audio.
      example.clear()

  def _download_and_prepare(self, dl_manager, download_config=None) -> None:
    super()._download_and_prepare(dl_manager, download_config)
    self._finish(self._problems)  # here TFDS still removes what is written

  def _finish(self, problems: Problems) -> None:
    """Decides on the clips that could not be read."""
    problems.raise_if_any()

  def leave_out(self, problems: Problems) -> None:
    """Leaves out the clips that could not be read, if they are few.

    Raises:
      BuildError: they are more than `BROKEN_SHARE` of all.
    """
    written = sum(tally.attacks.total() for tally in self.tally.values())
    if len(problems) > BROKEN_SHARE * (written + len(problems)):
      problems.raise_if_any()
    if len(problems):
      why = 'clips cannot be decoded and are left out'
      self.list_left_out(UNDECODABLE, list(problems), why)

  def list_left_out(self, name: str, lines: Sequence[str], why: str) -> None:
    """Tells of clips that are left out, and lists all beside the records."""
    text = ''.join(f'{line}\n' for line in lines)
    pathlib.Path(self.data_dir, name).write_text(text)
    print(
      f'warning: {len(lines):,} {why}; all are listed in {name} beside the '
      'records:'
    )
    for line in lines[:SHOWN]:
      print(f'  {line}')

  def _example_writer(self):
    return _Writer(self.info.file_format)


class OwnRecordBuilder(RecordBuilder):
  """Base of builders of one's own data: each has a name, `corpus/NAME`."""

  @classmethod
  def config_named(cls, name: str) -> tfds.core.BuilderConfig:
    """Returns the config of one's data; its name is all there is to it.

    Raises:
      BuildError: a name that is no folder's.
    """
    if not re.fullmatch(r'[A-Za-z0-9][\w.-]*', name, re.ASCII):
      raise BuildError(
        f'{cls.name}/{name}: expected {cls.name}/NAME (or --name=NAME), where '
        'NAME has letters, digits, dots, _ and - only'
      )
    return tfds.core.BuilderConfig(name=name, description='Own recordings.')

  def _create_builder_config(self, builder_config, version):
    return builder_config  # TFDS would warn that it is not in a list


class _Writer(tfds.core.writer.ExampleWriter):
  """Stores records as they are: coded audio hardly compresses."""

  def write(self, path: str | os.PathLike, examples: Iterable) -> None:
    writer = array_record_module.ArrayRecordWriter(
      os.fspath(path), 'group_size:1,uncompressed'
    )
    for _, example in examples:
      writer.write(example)
    writer.close()


def features(*extra: str) -> tfds.features.FeaturesDict:
  """Returns the features of a record, with further text fields."""
  text = ('utterance', 'speaker', 'attack', *extra)
  return tfds.features.FeaturesDict(
    {
      'audio': tfds.features.Tensor(shape=(), dtype=np.object_),
      'label': tfds.features.ClassLabel(names=['spoof', 'bonafide']),
      **{field: tfds.features.Text() for field in text},
    }
  )


def check_each_once(
  split: str, trials: Sequence[Trial], problems: Problems
) -> None:
  """Notes names that several trials have: score files tell them by it."""
  counts = collections.Counter(trial.utterance for trial in trials)
  for utterance, count in counts.items():
    if count > 1:
      problems.add(f'{split}: {utterance} is there {count} times')


def split_of(seed: str, name: str) -> str:
  """Returns a split by chance, the same for the same seed and name.

  For corpora without splits: what shares a name is not divided.
  """
  number, total = generator(seed, name).random(), 0.0
  for split, share in SHARES.items():
    total += share
    if number < total:
      return split
  return split  # rounding


def generator(*words: str) -> np.random.Generator:
  """Returns random numbers that depend on the words alone."""
  digest = hashlib.sha256(' '.join(words).encode()).digest()
  return np.random.default_rng(list(digest))


def _parts(
  split: str, trials: Sequence[Trial], ordered: bool
) -> list[Sequence[Trial]]:
  """Permutes the trials and deals them out to shards of about one size."""
  shards = -(-sum(trial.size for trial in trials) // SHARD_BYTES)
  shards = max(1, min(shards, len(trials)))
  if ordered:
    ends = [len(trials) * k // shards for k in range(shards + 1)]
    return [trials[a:b] for a, b in itertools.pairwise(ends)]
  order = generator('order', split).permutation(len(trials))
  return [[trials[i] for i in order[k::shards]] for k in range(shards)]


def _read_ahead(trials: Sequence[Trial], read: Reader):
  """Yields trials with their audio, read in threads, in order."""
  with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
    todo = iter(trials)
    waiting = collections.deque(
      (trial, pool.submit(read, trial))
      for trial in itertools.islice(todo, _AHEAD)
    )
    try:
      while waiting:
        yield waiting.popleft()
        if trial := next(todo, None):
          waiting.append((trial, pool.submit(read, trial)))
    finally:
      pool.shutdown(cancel_futures=True)
