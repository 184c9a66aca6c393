"""The TFDS builders of ASVspoof 2021: `asvspoof2021_la`, `..._df`, `..._pa`.

Audio and labels are published apart: the labels are in the archive of the keys,
one line for each trial:

  LA_0009 LA_E_9332881 alaw ita_tx A07 spoof notrim eval
  LA_0023 DF_E_2000011 nocodec asvspoof A14 spoof notrim progress
    traditional_vocoder - - - -
  PA_0010 PA_E_1000001 R3 M3 d4 r1 m1 s4 c4 spoof notrim eval

Columns are called as in the organisers' evaluation package, but for `compr` of
DF, which is `codec` here as in LA.
"""

import functools
import pathlib
import tempfile
from collections.abc import Mapping, Sequence

from jaxspoof import audio
from jaxspoof.classes import BONA_FIDE, UNKNOWN
from jaxspoof.score_files import asv_scores
from tfds_builders import archive, corpus, lists, records
from tfds_builders.corpus import Counts

SUBSETS = ('progress', 'eval', 'hidden')
_ANY = r'\S+'
_KEY = {'label': 'bonafide|spoof', 'trim': 'notrim|trim|only_speech'}
_SUBSET = {'subset': '|'.join(SUBSETS)}
COLUMNS: dict[str, dict[str, str]] = {
  'LA': {
    'speaker': _ANY,
    'utterance': r'LA_E_\d{7}',
    'codec': 'none|alaw|pstn|g722|ulaw|gsm|opus',
    'trans': _ANY,
    'attack': r'A\d\d|bonafide',
    **_KEY,
    **_SUBSET,
  },
  'DF': {
    'speaker': _ANY,
    'utterance': r'DF_E_\d{7}',
    'codec': 'nocodec|(?:low|high)_(?:mp3|m4a|ogg)|mp3m4a|oggm4a',
    'source': _ANY,
    'attack': _ANY,
    **_KEY,
    **_SUBSET,
    'vocoder': _ANY,
    'task': _ANY,
    'team': _ANY,
    'gender_pair': _ANY,
    'language': _ANY,
  },
  'PA': {
    'speaker': _ANY,
    'utterance': r'PA_E_\d{7}',
    'asv_room': _ANY,
    'asv_mic': _ANY,
    'dis_to_asv': _ANY,
    'att_room': _ANY,
    'att_mic': _ANY,
    'att_d': _ANY,
    'att_to_spk': _ANY,
    **_KEY,
    **_SUBSET,
  },
}
_ASV_SYSTEM = ('Torch_Kaldi', 'torch_kaldi')
_USUAL = ('speaker', 'utterance', 'attack', 'label', 'subset')


def _declared(
  track: str, title: str, record: int, parts: str, counts: Sequence[Counts]
) -> corpus.Corpus:
  """Declares a track; `counts` are those of progress, eval and hidden."""
  return corpus.Corpus(
    title=f'ASVspoof 2021 {track}: {title}.',
    citation=(
      'Liu et al., "ASVspoof 2021: Towards Spoofed and Deepfake Speech '
      'Detection in the Wild", IEEE/ACM TASLP 31, 2023, arXiv 2210.02437'
    ),
    licence='ODC-By 1.0',
    homepage='https://www.asvspoof.org/index2021.html',
    folder='ASVspoof2021',
    splits={
      subset: corpus.Split(
        (f'keys/{track}/CM/trial_metadata.txt',), count, page
      )
      for subset, count, page in zip(
        SUBSETS,
        counts or (None,) * 3,
        (f'https://zenodo.org/record/{record}',) * 3,
        strict=True,
      )
    },
    get=(
      f'ASVspoof2021_{track}_eval{parts}.tar.gz and the keys, '
      f'https://www.asvspoof.org/asvspoof2021/{track}-keys-full.tar.gz, all '
      'unpacked beside each other'
    ),
    fields=tuple(name for name in COLUMNS[track] if name not in _USUAL),
    rate=audio.SAMPLE_RATE,
  )


class _Asvspoof2021(corpus.CorpusBuilder):
  """What the tracks share."""

  BUILDER_CONFIGS = corpus.FLAC_CONFIGS
  TRACK = ''

  def _trials(self, files, lists_of):
    columns = COLUMNS[self.TRACK]
    found = {subset: [] for subset in SUBSETS}
    path = lists_of['eval']
    wrong = functools.partial(_wrong, tuple(columns))
    rows = lists.columns(files, path, columns, 'utterance', wrong)
    for position, row in enumerate(rows):
      cells = dict(zip(columns, row, strict=True))
      found[cells['subset']].append(
        records.Trial(
          cells['utterance'],
          cells['speaker'],
          _attack(cells),
          f'ASVspoof2021_{self.TRACK}_eval/flac/{cells["utterance"]}.flac',
          position=position,
          extra=_extra(tuple((f, cells[f]) for f in self.CORPUS.fields)),
        )
      )
    self._keep_asv_scores(files, [name for name in SUBSETS if found[name]])
    return found

  def _keep_asv_scores(
    self, files: archive.Archive, subsets: Sequence[str]
  ) -> None:
    """Takes the organisers' verification scores over, for the t-DCF.

    Those of a subset are all pooled, as for the pooled t-DCF of the organisers.
    """
    folder = f'keys/{self.TRACK}/ASV'
    protocol = f'{folder}/trial_metadata.txt'
    # The README and the code of the organisers write its name differently.
    scores = [f'{folder}/ASV{name}/score.txt' for name in _ASV_SYSTEM]
    scores = [path for path in scores if files.has(path)]
    if self.TRACK != 'LA':  # DF has none; of PA the columns are others
      return
    if not scores or not files.has(protocol):
      print(f'note: {files.path} has no scores in {folder}: no t-DCF')
      return
    kept = pathlib.Path(self.data_dir, 'asv_scores')
    kept.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=self.data_dir) as name:
      paths = pathlib.Path(name, 'score.txt'), pathlib.Path(name, 'trial.txt')
      for path, source in zip(paths, (scores[0], protocol), strict=True):
        path.write_bytes(files.read(source))
      for subset in subsets:
        try:
          found = asv_scores.read(*paths, phase=subset)
        except ValueError as error:
          print(f'note: no t-DCF of {subset}: {folder}: {error}')
          continue
        (kept / f'{subset}.txt').write_text(_as_of_2019(found))


def _as_of_2019(scores: asv_scores.AsvScores) -> str:
  """One line `CM_KEY ASV_KEY SCORE` for each."""
  lines = [f'bonafide target {score!r}' for score in scores.target.tolist()]
  lines += [
    f'bonafide nontarget {score!r}' for score in scores.nontarget.tolist()
  ]
  spoofs = zip(scores.attack.tolist(), scores.spoof.tolist(), strict=True)
  lines += [f'{attack} spoof {score!r}' for attack, score in spoofs]
  return ''.join(f'{line}\n' for line in lines)


def _wrong(columns: Sequence[str], fields: Sequence[str]) -> str:
  cells = dict(zip(columns, fields, strict=True))
  if cells.get('attack') == 'bonafide' and cells['label'] == 'spoof':
    return "label 'spoof' of attack 'bonafide'"
  return ''


def _attack(cells: Mapping[str, str]) -> str:
  if cells['label'] == 'bonafide':
    return BONA_FIDE
  if 'attack' not in cells:  # PA; named as in 2019: distance and device
    return cells['att_to_spk'] + cells['att_d']
  # '-' is bona fide here, but a spoof without a name there.
  return UNKNOWN if cells['attack'] == BONA_FIDE else cells['attack']


@functools.cache
def _extra(fields: tuple[tuple[str, str], ...]) -> dict[str, str]:
  """One dictionary for all trials of a condition: there are 600,000."""
  return dict(fields)


class Asvspoof2021La(_Asvspoof2021):
  """Logical access: the attacks of 2019, sent through telephone codecs."""

  name = 'asvspoof2021_la'
  TRACK = 'LA'
  CORPUS = _declared(
    'LA',
    'bona fide, synthesised and converted speech over telephone lines',
    4837263,
    '',
    (Counts(16_464, 1_676), Counts(148_176, 14_816), Counts(16_926, 1_960)),
  )


class Asvspoof2021Df(_Asvspoof2021):
  """Deepfake: more than 100 attacks, coded as on social media."""

  name = 'asvspoof2021_df'
  TRACK = 'DF'
  CORPUS = _declared(
    'DF',
    'bona fide, synthesised and converted speech in lossy codecs',
    4835108,
    '_part00 to 03',
    (Counts(59_325, 5_768), Counts(533_928, 14_869), Counts(18_576, 1_980)),
  )


class Asvspoof2021Pa(_Asvspoof2021):
  """Physical access: replayed speech in real rooms."""

  name = 'asvspoof2021_pa'
  TRACK = 'PA'
  CORPUS = _declared(
    'PA',
    'bona fide and replayed speech in real rooms',
    4834716,
    '_part00 to 06',
    (),
  )
