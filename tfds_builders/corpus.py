"""What a published corpus declares, and how it is built from that.

A corpus is a `Corpus` (where it comes from, what it holds, which lists name
its splits) and a method `_trials` that reads the lists. All the rest is here:
finding the files, packed or unpacked; looking whether every trial has its
audio; the published counts; decoding; what is said of whatever is wrong.
"""

import abc
import collections
import contextlib
import dataclasses
import functools
import io
import pathlib
import wave
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds

from jaxspoof import audio
from jaxspoof.classes import BONA_FIDE
from tfds_builders import archive, croissant, download, records
from tfds_builders.errors import BuildError, Problems


@dataclasses.dataclass(frozen=True)
class Counts:
  """Trials of a split, as published.

  Attributes:
    total: number of all trials.
    bona_fide: number of bona fide trials; None if it is not known.
    attacks: number of trials of each attack; None if they are not known.
    certain: whether the numbers were counted in the published list itself, so
      that other numbers mean another list. Otherwise they are reported
      elsewhere, and a difference is only mentioned.
  """

  total: int
  bona_fide: int | None = None
  attacks: Mapping[str, int] | None = None
  certain: bool = False

  def differs(self, trials: Sequence[records.Trial]) -> str:
    """Says how trials differ from this, '' if they do not."""
    attacks = collections.Counter(trial.attack for trial in trials)
    bona_fide = attacks.pop(BONA_FIDE, 0)
    here = Counts(len(trials), bona_fide)
    if here.total != self.total or self.bona_fide not in (None, bona_fide):
      return f'{here}, expected {self}'
    if self.attacks not in (None, dict(attacks)):
      return f'attacks {dict(attacks)}, expected {self.attacks}'
    return ''

  def __str__(self) -> str:
    of_them = (
      '' if self.bona_fide is None else f' ({self.bona_fide:,} bona fide)'
    )
    return f'{self.total:,} trials{of_them}'


@dataclasses.dataclass(frozen=True)
class Split:
  """One split of a corpus.

  Attributes:
    lists: what must be there for it to be read, below the folder of the corpus:
      a list of trials, or a folder of them ('real/'). Where it has been
      published in several places, the first that is there counts.
    counts: published numbers of trials; None if they are not known.
    page: address of this split, if it is not published with the rest.
    labels: the attack that each label of its list means, '-' for bona fide.
  """

  lists: tuple[str, ...]
  counts: Counts | None = None
  page: str = ''
  labels: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Download:
  """One zip file that holds all of a corpus.

  Attributes:
    urls: addresses of the file, which are tried in turn.
    size: size of the file in bytes; None if it is not known.
    sha256: checksum of the file; None if it is not known.
  """

  urls: tuple[str, ...]
  size: int | None = None
  sha256: str | None = None


@dataclasses.dataclass(frozen=True)
class Corpus:
  """What is published of a corpus.

  Attributes:
    title: what the corpus is, in one sentence.
    citation: the paper to cite.
    licence: licence of the audio.
    homepage: address of a page that describes or holds it.
    folder: name of its archive: 'LA' is LA.zip, LA/ or LA/LA/.
    splits: the splits by name, in the order of building.
    get: what has to be got, as it follows the word 'Get': 'LA.zip (7.6 GB)'.
    fields: text fields of a record besides the usual ones.
    apart: whether splits are published apart. Then splits that are not there
      are left out, with a note; otherwise all must be there.
    rate: sampling rate in Hz that every clip must have, in one channel; None
      takes clips as they are.
    broken: whether some published clips cannot be decoded. Then these are left
      out, counted and listed in `undecodable.txt`; otherwise a clip that cannot
      be decoded is an error.
    download: the archive, if it is one zip file that needs no login.
  """

  title: str
  citation: str
  licence: str
  homepage: str
  folder: str
  splits: Mapping[str, Split]
  get: str
  fields: tuple[str, ...] = ()
  apart: bool = False
  rate: int | None = None
  broken: bool = False
  download: Download | None = None

  @property
  def roots(self) -> tuple[str, ...]:
    """The lists of all splits, in every place they may have."""
    lists = (path for split in self.splits.values() for path in split.lists)
    return tuple(dict.fromkeys(lists))


@dataclasses.dataclass
class AudioConfig(tfds.core.BuilderConfig):
  """How the audio is stored.

  Attributes:
    pcm: decoded, 16 bit, in a WAV file: twice the disk space, and several
      times faster to read. Else the published FLAC files.
  """

  pcm: bool = False


# Of corpora that are 16-bit FLAC files at one rate.
FLAC_CONFIGS = [
  AudioConfig(name='flac', description='The published FLAC files.'),
  AudioConfig(name='int16', description='16-bit PCM (WAV).', pcm=True),
]


class CorpusBuilder(records.RecordBuilder):
  """Base of the builders of published corpora.

  A subclass has a `name`, a `CORPUS` and `_trials`.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}
  BUILD_OPTIONS = ('--manual_dir=DIR',)
  CORPUS: Corpus

  @abc.abstractmethod
  def _trials(
    self, files: archive.Archive, lists_of: Mapping[str, str]
  ) -> Mapping[str, Sequence[records.Trial]]:
    """Reads the lists.

    Args:
      files: the files of the corpus.
      lists: for each split that is there, the path of its list.

    Returns:
      Trials by split. Their `source` is the path of the audio in `files`; the
      size of the audio is looked up afterwards.

    Raises:
      BuildError: what is wrong with the lists, all of it.
    """

  def _info(self) -> tfds.core.DatasetInfo:
    corpus = self.CORPUS
    return self.dataset_info_from_configs(
      description=corpus.title,
      features=records.features(*corpus.fields),
      homepage=corpus.homepage,
      citation=corpus.citation,
      license=corpus.licence,
    )

  def _download_and_prepare(self, dl_manager, download_config=None) -> None:
    with contextlib.ExitStack() as self._opened:
      super()._download_and_prepare(dl_manager, download_config)
    corpus = self.CORPUS
    folder = pathlib.Path(self.data_dir)
    croissant.write(self.info, corpus.title, corpus.licence, folder)

  def _shard_iterators_per_split(self, dl_manager):
    path = self._path()
    files = self._opened.enter_context(archive.opened(path, self.CORPUS.roots))
    found = self._trials(files, self._lists(files))
    splits = self._checked(found, files)
    pcm = getattr(self.builder_config, 'pcm', False)
    read = functools.partial(_read, files, self.CORPUS.rate, pcm)
    return self.shards(splits, read, files.path)

  def _path(self) -> pathlib.Path:
    """Returns where the corpus is, and downloads it if that is asked for."""
    folder = self.inputs.manual_dir or pathlib.Path(
      self.data_dir_root, 'downloads', 'manual'
    )
    corpus = self.CORPUS
    if self.inputs.download and corpus.download is None:
      raise BuildError(
        f'{self.name} must be got by hand: leave out --download. '
        f'{self._how(folder)}'
      )
    zipped = corpus.download is not None
    if path := archive.find(folder, corpus.folder, corpus.roots, zipped):
      return path
    file = folder / f'{corpus.folder}.zip'
    if not self.inputs.download:
      expected = ' or '.join(
        str(folder / name) for name in (file.name, *corpus.roots)
      )
      raise BuildError(
        f'{self.name} is not in {folder}: there is no {expected}. '
        f'{self._how(folder)}'
      )
    published = corpus.download
    download.fetch(published.urls, file, published.size, published.sha256)
    return file

  def _how(self, folder: pathlib.Path) -> str:
    """Says how to get what is expected."""
    corpus = self.CORPUS
    packed = sorted(folder.glob('*.tar*')) if folder.is_dir() else []
    said = f'{packed[0].name} is still packed: unpack it. ' if packed else ''
    pages = dict.fromkeys(split.page for split in corpus.splits.values())
    pages = [page for page in pages if page] or [corpus.homepage]
    also = ', or say --download' if corpus.download else ''
    return (
      f'{said}Get {corpus.get}, licence {corpus.licence}, from '
      f'{", ".join(pages)} and say --manual_dir={folder}{also}'
    )

  def _lists(self, files: archive.Archive) -> dict[str, str]:
    """Returns which list each split has."""
    found = {}
    for name, split in self.CORPUS.splits.items():
      there = [path for path in split.lists if files.has(path)]
      if there:
        found[name] = there[0]
      elif not self.CORPUS.apart:
        raise BuildError(f'{files.path}: expected {" or ".join(split.lists)}')
      else:
        self._say_left_out(name, f'{files.path} has no {split.lists[0]}')
    return found

  def _say_left_out(self, split: str, why: str) -> None:
    page = self.CORPUS.splits[split].page
    print(
      f'note: no split {split}: {why}{f" ({page})" if page else ""}. To add it '
      f'later, remove {pathlib.Path(self.data_dir_root, self.name)} and build '
      'again'
    )

  def _keep(self, files: archive.Archive, path: str, name: str) -> None:
    """Copies a file of the archive to the records, as it is."""
    there = pathlib.Path(self.data_dir, name)
    there.parent.mkdir(exist_ok=True)
    there.write_bytes(files.read(path))

  def _checked(
    self,
    splits: Mapping[str, Sequence[records.Trial]],
    files: archive.Archive,
  ) -> dict[str, list[records.Trial]]:
    """Compares with what was published, and adds the sizes of the audio."""
    problems, checked = Problems(files.path), {}
    for split, trials in splits.items():
      expected = self.CORPUS.splits[split].counts
      differs = expected and expected.differs(trials)
      if differs and expected.certain:
        problems.add(f'{split} lists {differs}')
      elif differs:
        print(f'note: {split} lists {differs} (a number reported elsewhere)')
    problems.raise_if_any()
    # FLAC takes about one byte for a sample.
    factor = 1 + getattr(self.builder_config, 'pcm', False)
    for split, trials in splits.items():
      if not trials:
        self._say_left_out(split, f'{files.path} lists no trials of it')
        continue
      sizes = [files.size(trial.source) for trial in trials]
      if self.CORPUS.apart and set(sizes) == {None}:
        self._say_left_out(split, f'{files.path} has none of its audio')
        continue
      records.check_each_once(split, trials, problems)
      for trial, size in zip(trials, sizes, strict=True):
        if size is None:
          problems.add(
            f'{split}: {trial.utterance} has no audio, expected {trial.source}',
            trial.position,
          )
      checked[split] = [
        dataclasses.replace(trial, size=factor * (size or 0))
        for trial, size in zip(trials, sizes, strict=True)
      ]
    problems.raise_if_any()
    if not any(checked.values()):
      raise BuildError(f'{files.path}: expected the audio of any split')
    _warn(checked)
    return checked

  def _finish(self, problems: Problems) -> None:
    if self.CORPUS.broken:
      self.leave_out(problems)
    else:
      problems.raise_if_any()


def _warn(splits: Mapping[str, Sequence[records.Trial]]) -> None:
  """Says what makes results on these splits doubtful."""
  labels = {trial.label for trials in splits.values() for trial in trials}
  for missing in {'bonafide', 'spoof'} - labels:
    print(
      f'warning: there are no {missing} clips: no EER without another corpus'
    )
  # Clips of a group, such as codings of one recording, tell of one another.
  groups = {
    split: {trial.extra.get('group') for trial in trials} - {None}
    for split, trials in splits.items()
  }
  train = groups.pop('train', set())
  shared = sorted(train & set().union(*groups.values()))
  if shared:
    print(
      f'warning: {len(shared):,} groups of clips are in train and elsewhere '
      f'({", ".join(shared[:3])}{", ..." * (len(shared) > 3)}): results are '
      'better than the detector is'
    )


def _read(
  files: archive.Archive, rate: int | None, pcm: bool, trial: records.Trial
) -> tuple[bytes, float]:
  """Reads a clip and decodes it, so that training need not fail on it."""
  data = files.read(trial.source)
  samples, found = audio.decode(data, trial.source, verify=True)
  channels = 1 if samples.ndim == 1 else samples.shape[1]
  if rate is not None and (found, channels) != (rate, 1):
    raise BuildError(
      f'{trial.source}: {found} Hz, {channels} channels; expected {rate} Hz, '
      'mono'
    )
  return _wav(samples, found) if pcm else data, len(samples) / found


def _wav(samples: np.ndarray, rate: int) -> bytes:
  """Returns 16-bit samples, float32 [n] here, in a WAV file."""
  file = io.BytesIO()
  with wave.open(file, 'wb') as writer:
    writer.setparams((1, 2, rate, 0, 'NONE', ''))
    writer.writeframes(np.rint(samples * 32768).astype('<i2').tobytes())
  return file.getvalue()
