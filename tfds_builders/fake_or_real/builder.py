"""The TFDS builders of FoR: `fake_or_real_original`, `..._norm` and others.

Folders say everything: training/real/file1.wav.
"""

from jaxspoof.classes import BONA_FIDE, UNKNOWN
from tfds_builders import corpus, records
from tfds_builders.corpus import Counts

_FOLDERS = {'train': 'training', 'dev': 'validation', 'eval': 'testing'}
_LABELS = {'real': BONA_FIDE, 'fake': UNKNOWN}
_SUFFIXES = ('.wav', '.mp3')


def _declared(
  folder: str, archive: str, counts: dict[str, Counts]
) -> corpus.Corpus:
  return corpus.Corpus(
    title=f'FoR, {folder}: genuine and synthetic English speech.',
    citation=(
      'Reimao and Tzerpos, "FoR: A Dataset for Synthetic Speech Detection", '
      'SpeD 2019'
    ),
    licence='as on its page',
    homepage='https://bil.eecs.yorku.ca/datasets/',
    folder=folder,
    splits={
      split: corpus.Split((f'{name}/',), counts.get(split), labels=_LABELS)
      for split, name in _FOLDERS.items()
    },
    get=f'https://bil.eecs.yorku.ca/share/{archive}.tar.gz, unpacked',
    broken=True,
  )


class _FakeOrReal(corpus.CorpusBuilder):
  """What the versions share."""

  def _trials(self, files, lists_of):
    # The same name is in real/ and fake/: the path tells them apart.
    return {
      split: [
        records.Trial(records.word(path), '-', attack, path, position=position)
        for label, attack in _LABELS.items()
        for position, path in enumerate(files.names(f'{folder}{label}'))
        if path.endswith(_SUFFIXES)
      ]
      for split, folder in lists_of.items()
    }


class FakeOrRealOriginal(_FakeOrReal):
  """As collected: WAV and MP3 of many sources."""

  name = 'fake_or_real_original'
  CORPUS = _declared('for-original', 'for-original', {})


class FakeOrRealNorm(_FakeOrReal):
  """Of one rate, volume and number of channels, balanced."""

  name = 'fake_or_real_norm'
  CORPUS = _declared('for-norm', 'for-norm', {'eval': Counts(4_528, 2_264)})


class FakeOrReal2sec(_FakeOrReal):
  """The normalised ones, cut to 2 seconds."""

  name = 'fake_or_real_2sec'
  CORPUS = _declared('for-2seconds', 'for-2sec', {})


class FakeOrRealRerec(_FakeOrReal):
  """Those of 2 seconds, recorded again as through a phone."""

  name = 'fake_or_real_rerec'
  CORPUS = _declared('for-rerecorded', 'for-rerec', {})
