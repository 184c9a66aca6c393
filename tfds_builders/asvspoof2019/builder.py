"""The TFDS builders of ASVspoof 2019: `asvspoof2019_la`, `asvspoof2019_pa`.

The archive is read where it lies, by its protocols: the folders of audio also
hold enrolment utterances that are trials of no countermeasure. A protocol has
five columns:

  LA_0079 LA_T_1138215 - - bonafide
  PA_0079 PA_T_0005401 aaa AA spoof

speaker, utterance, environment (PA: room size, T60 and distance, each a to c),
attack (LA: A01 to A19; PA: distance and device of the attacker, each A to C),
key. The official README.LA.txt and README.PA.txt define them.
"""

import functools
from collections.abc import Sequence

from jaxspoof import audio
from tfds_builders import archive, corpus, lists, records
from tfds_builders.corpus import Counts

_FILES = 'https://datashare.ed.ac.uk/bitstream/handle/10283/3336'
_PATTERNS = {
  'LA': (r'LA_\d{4}', r'LA_[TDE]_\d{7}', '-', r'-|A\d\d', 'bonafide|spoof'),
  'PA': (
    r'PA_\d{4}', r'PA_[TDE]_\d{7}', '[abc]{3}', '-|[ABC]{2}', 'bonafide|spoof'
  ),
}  # fmt: skip
_COLUMNS = ('SPEAKER', 'UTTERANCE', 'ENVIRONMENT', 'SYSTEM', 'KEY')


def asv_paths(access: str) -> dict[str, str]:
  """Returns the path of the verification scores in the archive, by split.

  Args:
    access: 'LA' or 'PA'.
  """
  folder = f'ASVspoof2019_{access}_asv_scores'
  return {
    split: f'{folder}/ASVspoof2019.{access}.asv.{split}.gi.trl.scores.txt'
    for split in ('dev', 'eval')
  }


def _attacks(first: int, last: int, trials: int) -> dict[str, int]:
  return {f'A{number:02d}': trials for number in range(first, last + 1)}


def _declared(
  access: str,
  title: str,
  gigabytes: float,
  counts: Sequence[Counts],
  download: corpus.Download,
  fields: tuple[str, ...] = (),
) -> corpus.Corpus:
  folder = f'ASVspoof2019_{access}_cm_protocols'
  # Only the list for training is called 'trn'.
  kinds = {'train': 'trn', 'dev': 'trl', 'eval': 'trl'}
  return corpus.Corpus(
    title=title,
    citation=(
      'Todisco et al., "ASVspoof 2019: Future horizons in spoofed and fake '
      'audio detection", Interspeech 2019; https://doi.org/10.7488/ds/2555'
    ),
    licence='ODC-By 1.0',
    homepage='https://datashare.ed.ac.uk/handle/10283/3336',
    folder=access,
    splits={
      split: corpus.Split(
        (f'{folder}/ASVspoof2019.{access}.cm.{split}.{kind}.txt',), count
      )
      for (split, kind), count in zip(kinds.items(), counts, strict=True)
    },
    get=f'{access}.zip ({gigabytes} GB), packed or unpacked',
    fields=fields,
    rate=audio.SAMPLE_RATE,
    download=download,
  )


class _Asvspoof2019(corpus.CorpusBuilder):
  """What LA and PA share."""

  BUILDER_CONFIGS = corpus.FLAC_CONFIGS

  def _trials(self, files, lists_of):
    # The organisers' verification scores, which the t-DCF needs.
    for split, path in asv_paths(self.CORPUS.folder).items():
      if files.has(path):
        self._keep(files, path, f'asv_scores/{split}.txt')
      else:
        print(f'note: {files.path} has no {path}: no t-DCF of {split}')
    return {split: rows(files, path) for split, path in lists_of.items()}


class Asvspoof2019La(_Asvspoof2019):
  """Logical access: synthesised and converted speech, attacks A01 to A19."""

  name = 'asvspoof2019_la'
  CORPUS = _declared(
    'LA',
    'ASVspoof 2019 LA: bona fide, synthesised and converted speech.',
    7.6,
    (
      Counts(25_380, 2_580, _attacks(1, 6, 3_800), certain=True),
      Counts(24_844, 2_548, _attacks(1, 6, 3_716), certain=True),
      Counts(71_237, 7_355, _attacks(7, 19, 4_914), certain=True),
    ),
    corpus.Download(
      (
        'https://datashare.ed.ac.uk/server/api/core/bitstreams/'
        'a9f87c35-f055-4015-80e2-2fdff0d46269/content',
        f'{_FILES}/LA.zip?sequence=3&isAllowed=y',
      ),
      7_640_952_520,
      '208a7e4e3913f8c75ae1afd19bf32a5b29ae68435e9e30e23e5e98b6a155e4ec',
    ),
  )


class Asvspoof2019Pa(_Asvspoof2019):
  """Physical access: replayed speech, 9 attacks in 27 environments."""

  name = 'asvspoof2019_pa'
  CORPUS = _declared(
    'PA',
    'ASVspoof 2019 PA: bona fide and replayed speech.',
    16.4,
    (Counts(54_000, 5_400), Counts(29_700, 5_400), Counts(134_730, 18_090)),
    corpus.Download((f'{_FILES}/PA.zip?sequence=4&isAllowed=y',)),
    fields=('environment',),
  )


def rows(files: archive.Archive, path: str) -> list[records.Trial]:
  """Reads a protocol.

  Raises:
    BuildError: lines that are no trial, all of them, by number.
  """
  access = 'LA' if '.LA.' in path else 'PA'
  split = path.split('.')[-3]
  patterns = dict(zip(_COLUMNS, _PATTERNS[access], strict=True))
  found = lists.columns(files, path, patterns, 'UTTERANCE', _wrong)
  return [
    records.Trial(
      utterance,
      speaker,
      attack,
      f'ASVspoof2019_{access}_{split}/flac/{utterance}.flac',
      position=position,
      extra=_environment(environment) if access == 'PA' else {},
    )
    for position, (speaker, utterance, environment, attack, _) in enumerate(
      found
    )
  ]


def _wrong(fields: Sequence[str]) -> str:
  if (fields[3] == '-') != (fields[4] == 'bonafide'):
    return f"KEY {fields[4]!r}, expected SYSTEM '-' for bonafide trials only"
  return ''


@functools.cache
def _environment(name: str) -> dict[str, str]:
  """One dictionary for all trials of an environment: there are 200,000."""
  return {'environment': name}
