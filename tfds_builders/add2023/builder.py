"""The TFDS builders of ADD 2023: `add2023_track1_2`, `add2023_track3`.

The folders are read where they lie, by their lists, `label.txt` beside a folder
`wav`:

  ADD2023_T1.2R2_E_00000003.wav genuine
  ADD2023_T3_E_00000008.wav 7

the file, and its label: genuine or fake (track 1.2), the number of the
algorithm (track 3). Nothing is said of speakers. Train and evaluation data are
published apart, in archives of several parts: `x.tar.gz.00`, `x.tar.gz.01`, ...
"""

from collections.abc import Mapping

from jaxspoof.classes import BONA_FIDE, UNKNOWN
from tfds_builders import archive, corpus, lists, records
from tfds_builders.corpus import Counts

# Track 1.2 says that a clip is fake, not how it was made.
_GENUINE_OR_FAKE = {'genuine': BONA_FIDE, 'fake': UNKNOWN}
# Track 3 numbers its algorithms; 0 is genuine speech, 7 whatever is in
# evaluation only.
_KNOWN = {'0': BONA_FIDE, **{str(n): str(n) for n in range(1, 7)}}


def _declared(
  track: str, title: str, splits: Mapping[str, corpus.Split]
) -> corpus.Corpus:
  return corpus.Corpus(
    title=title,
    citation=(
      'Yi et al., "ADD 2023: the Second Audio Deepfake Detection Challenge", '
      'DADA workshop 2023, arXiv 2305.13774; analysis arXiv 2408.04967'
    ),
    licence='CC BY-NC-ND 4.0',
    homepage='http://addchallenge.cn/downloadADD2023',
    folder=track,
    splits=splits,
    get=f'the parts, unpacked (cat NAME.tar.gz.* | tar -xz) to {track}/',
    apart=True,
  )


def _split(
  folders: tuple[str, ...],
  record: int,
  labels: Mapping[str, str],
  counts: Counts | None = None,
) -> corpus.Split:
  return corpus.Split(
    tuple(f'{folder}/label.txt' for folder in folders),
    counts,
    f'https://zenodo.org/records/{record}',
    labels,
  )


class _Add2023(corpus.CorpusBuilder):
  """What the tracks share."""

  def _trials(self, files, lists_of):
    return {
      split: listed(
        files,
        path,
        self.CORPUS.splits[split].labels,
        path.replace('label.txt', 'wav'),
      )
      for split, path in lists_of.items()
    }


class Add2023Track12(_Add2023):
  """Detection: the defending side of the fake game, two rounds of evaluation.

  No attack is named: fake clips are 'unknown'.
  """

  name = 'add2023_track1_2'
  CORPUS = _declared(
    'Track1.2',
    'ADD 2023 track 1.2: genuine and fake Mandarin speech.',
    {
      'train': _split(('train',), 12151404, _GENUINE_OR_FAKE),
      'dev': _split(('dev',), 12151404, _GENUINE_OR_FAKE),
      'eval_r1': _split(('testR1',), 12175884, _GENUINE_OR_FAKE),
      'eval_r2': _split(('testR2',), 12176326, _GENUINE_OR_FAKE),
    },
  )


class Add2023Track3(_Add2023):
  """Algorithm recognition: 6 algorithms, and unknown ones in evaluation."""

  name = 'add2023_track3'
  CORPUS = _declared(
    'Track3',
    'ADD 2023 track 3: genuine Mandarin speech and that of six algorithms.',
    {
      'train': _split(('train',), 12179632, _KNOWN),
      'dev': _split(('dev',), 12179632, _KNOWN),
      'eval': _split(
        ('eval', 'test'),
        12179884,
        {**_KNOWN, '7': UNKNOWN},
        Counts(79_490),
      ),
    },
  )


def listed(
  files: archive.Archive, path: str, labels: Mapping[str, str], folder: str
) -> list[records.Trial]:
  """Reads a list of two columns.

  Args:
    files: where the list is.
    path: of the list.
    labels: the attack that each label means.
    folder: where its clips are.

  Raises:
    BuildError: lines that are no clip, all of them, by number.
  """
  patterns = {'FILE': r'[\w.-]+\.wav', 'LABEL': '|'.join(labels)}
  return [
    records.Trial(
      file.removesuffix('.wav'),
      '-',
      labels[label],
      f'{folder}/{file}',
      position=position,
    )
    for position, (file, label) in enumerate(
      lists.columns(files, path, patterns, 'FILE')
    )
  ]
