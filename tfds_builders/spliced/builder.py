"""The TFDS builder of clips with spoofed stretches: `spliced/CORPUS`."""

import collections
import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow_datasets as tfds

from jaxspoof import audio
from jaxspoof.classes import BONA_FIDE
from tfds_builders import records
from tfds_builders.errors import BuildError, Problems
from tfds_builders.quickstart import conditioning
from tfds_builders.spliced import splice

# What becomes of a bona fide clip besides itself. Each has another spoof as its
# donor, as far as there are so many.
MIDDLE, STRETCHES, WHOLE = 'middle', 'stretches', 'whole'
FORMS = (MIDDLE, STRETCHES, STRETCHES, WHOLE)
FIELDS = ('segments', 'ranges', 'form', 'donor')


@dataclasses.dataclass(frozen=True)
class Clip:
  """What is known of a record of the corpus, without its audio."""

  number: int
  utterance: str
  speaker: str
  attack: str


@dataclasses.dataclass(frozen=True)
class Piece:
  """What a clip is made of.

  Attributes:
    split: of the corpus.
    name: of the clip.
    form: 'bonafide' or one of `FORMS`.
    host: the bona fide clip.
    donor: the spoof that stretches are taken from; None for none.
  """

  split: str
  name: str
  form: str
  host: Clip
  donor: Clip | None = None


class Spliced(records.OwnRecordBuilder):
  """Bona fide clips of a built corpus with spoofed stretches of its spoofs.

  Splits, and with them speakers and attacks, are those of the corpus.
  """

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
      description='Bona fide clips of a corpus with spoofed stretches in them.',
      features=records.features(*FIELDS),
    )

  def _shard_iterators_per_split(self, dl_manager):
    corpus = corpus_of(self.builder_config.name)
    built = _built(corpus, self.data_dir_root)
    sources = {name: built.as_data_source(name) for name in built.info.splits}
    planned = {}
    for name, source in sources.items():
      if pieces := plan(name, clips(source)):
        planned[name] = pieces
    if not planned:
      raise BuildError(
        f'{corpus}: expected a split with bona fide and spoofed clips'
      )
    by_name = {
      f'{piece.split}/{piece.name}': piece
      for pieces in planned.values()
      for piece in pieces
    }
    return self.shards(
      {name: list(map(_trial, pieces)) for name, pieces in planned.items()},
      functools.partial(_read, sources, by_name),
      f'spliced/{self.builder_config.name}',
    )

  def _finish(self, problems: Problems) -> None:
    self.leave_out(problems)


def corpus_of(name: str) -> str:
  """The corpus that a config is named after.

  >>> corpus_of('quickstart.tiny')
  'quickstart/tiny'
  """
  return name.replace('.', '/', 1)


def _built(corpus: str, data_dir) -> tfds.core.DatasetBuilder:
  """The corpus that clips are taken from; one that needs no files is built."""
  from tfds_builders import build  # which names this module

  try:
    return build.build(corpus, data_dir)
  except BuildError as error:
    raise BuildError(
      f'its clips are of {corpus!r}, which is not built: {error}'
    ) from error


def clips(source: Sequence[Mapping]) -> list[Clip]:
  """What is known of the records of a split."""
  return [
    Clip(
      number,
      *(
        source[number][field].decode()
        for field in ('utterance', 'speaker', 'attack')
      ),
    )
    for number in range(len(source))
  ]


def plan(split: str, found: Sequence[Clip]) -> list[Piece]:
  """The clips of a split; none where the corpus has one class alone.

  Each bona fide clip comes as it is and in all of `FORMS`. Its donors are
  spoofs that were made of it, else of its speaker, else any of the split.
  """
  hosts = [clip for clip in found if clip.attack == BONA_FIDE]
  spoofs = [clip for clip in found if clip.attack != BONA_FIDE]
  if not spoofs:
    return []
  named = {spoof.utterance: spoof for spoof in spoofs}
  attacks = sorted({spoof.attack for spoof in spoofs})
  of_speaker = collections.defaultdict(list)
  for spoof in spoofs:
    of_speaker[spoof.speaker].append(spoof)
  pieces = []
  for host in hosts:
    copies = [copy_of(host, attack) for attack in attacks]
    copies = [named[name] for name in copies if name in named]
    donors = copies or of_speaker[host.speaker] or spoofs
    rng = records.generator('donors', split, host.utterance)
    order = rng.permutation(len(donors))
    pieces.append(Piece(split, host.utterance, 'bonafide', host))
    for number, form in enumerate(FORMS):
      donor = donors[order[number % len(donors)]]
      name = f'{host.utterance}_{form}{number}_{donor.attack}'
      pieces.append(Piece(split, name, form, host, donor))
  return pieces


def copy_of(host: Clip, attack: str) -> str:
  """What a spoof is called that was made of a clip, and says the same.

  So are those of the quickstart corpus and of `make_spoofs`.
  """
  return f'{host.utterance}_{attack}'


def _trial(piece: Piece) -> records.Trial:
  donor = piece.donor
  return records.Trial(
    piece.name,
    piece.host.speaker,
    BONA_FIDE if donor is None else donor.attack,
    f'{piece.split}/{piece.name}',
    # `_read` adds where the clip is spoofed, which depends on its sound.
    extra={'form': piece.form, 'donor': donor.utterance if donor else '-'},
  )


def _read(
  sources: Mapping[str, Sequence], by_name: Mapping[str, Piece], trial
) -> tuple[bytes, float]:
  """Makes a clip."""
  piece = by_name[trial.source]
  data, samples, ranges = made(piece, sources[piece.split])
  trial.extra['ranges'] = splice.text(ranges)
  trial.extra['segments'] = splice.labels(ranges, samples)
  return data, samples / audio.SAMPLE_RATE


def made(
  piece: Piece, source: Sequence[Mapping]
) -> tuple[bytes, int, tuple[splice.Range, ...]]:
  """The file of a clip, its length in samples, and where it is spoofed.

  Raises:
    BuildError: its clips are too short to be spliced.
    AudioError: they cannot be decoded.
  """

  def read(clip: Clip) -> tuple[bytes, np.ndarray]:
    data = bytes(source[clip.number]['audio'])
    return data, audio.load(data, clip.utterance).astype(np.float64)

  data, host = read(piece.host)
  if piece.donor is None:
    return data, len(host), ()
  data, donor = read(piece.donor)
  if piece.form == WHOLE:
    return data, len(donor), ((0, len(donor)),)
  rng = records.generator('splice', piece.split, piece.name)
  ranges = splice.middle(len(host))
  if piece.form == STRETCHES:
    ranges = splice.stretches(host, rng)
  aligned = piece.donor.utterance == copy_of(piece.host, piece.donor.attack)
  wave, ranges = splice.splice(host, donor, ranges, aligned, rng)
  if not ranges:
    raise BuildError(
      f'{piece.name}: of {len(host)} samples, and of {len(donor)} of '
      f'{piece.donor.utterance}, no stretch can be made'
    )
  pcm = np.clip(np.rint(wave * 32768), -32768, 32767).astype(np.int16)
  return conditioning.flac(pcm), len(pcm), ranges
