"""The TFDS builder of ASVspoof 5: `asvspoof5`.

Its lists are called .tsv, but have blanks between their columns and no header:

  D_4461 D_0000000169 F - - - AC1 A14 spoof -
  D_0461 D_0000000190 M - - - - bonafide bonafide -

speaker, utterance, gender, codec, its quality, the utterance that was coded,
attack condition, attack, key. Track 1 asks whether a clip is spoofed. Track 2
asks for the speaker, too: its enrolment utterances are splits of their own, and
its trials, claims on clips of track 1, are kept beside the records:

  D_4461 D_0000000169 F A14 spoof     claimed speaker, clip, ..., key
  D_4205 D_A0000000562,D_A0000000898    speaker, enrolment utterances
"""

from collections.abc import Sequence

from jaxspoof import audio
from jaxspoof.classes import BONA_FIDE
from tfds_builders import archive, corpus, lists, records
from tfds_builders.corpus import Counts
from tfds_builders.errors import Problems

# Enrolment utterances have a letter more.
_SPEAKER, _FILE, _GENDER = r'[TDE]_\d{4}', r'[TDE]_[A-Z]?\d{10}', '[MF]'
_COLUMNS = {
  'SPEAKER_ID': _SPEAKER,
  'FLAC_FILE_NAME': _FILE,
  'GENDER': _GENDER,
  'CODEC': r'-|C\d\d',
  'CODEC_Q': r'\S+',
  'CODEC_SEED': f'-|{_FILE}',
  'ATTACK_TAG': r'\S+',
  'ATTACK_LABEL': r'A\d\d|bonafide',
  'KEY': 'bonafide|spoof',
  'TMP': r'\S+',
}
_ENROL = {'SPEAKER_ID': _SPEAKER, 'FILES': f'{_FILE}(?:,{_FILE})*'}
_TRIAL = {
  'TARGET_SPK': _SPEAKER,
  'FILE': _FILE,
  'GENDER': _GENDER,
  'ATTACK': r'\S+',
  'ASV_KEY': 'target|nontarget|spoof',
}
# Where the audio of a split is: as packed, and as some move it.
_AUDIO = {
  'train': ('flac_T', 'ASVspoof5_train/flac_T'),
  'dev': ('flac_D', 'ASVspoof5_dev/flac_D'),
  'eval': ('flac_E_eval', 'ASVspoof5_eval/flac_E_eval'),
}


_PROTOCOLS = 'ASVspoof5_protocols/'


def _places(*names: str) -> tuple[str, ...]:
  """Paths that a list may have: the folder it is packed in, or none."""
  return tuple(f'{f}{name}' for name in names for f in (_PROTOCOLS, ''))


def _track2(kind: str, split: str) -> tuple[str, ...]:
  # The md5 list of the release has the first name, its README the second.
  return _places(f'ASVspoof5.{split}.track_2.{kind}.tsv', f'{split}.{kind}.txt')


class Asvspoof5(corpus.CorpusBuilder):
  """Speech of about 2,000 speakers, 32 attacks, 11 codecs in evaluation."""

  name = 'asvspoof5'
  BUILDER_CONFIGS = corpus.FLAC_CONFIGS
  CORPUS = corpus.Corpus(
    title='ASVspoof 5: crowdsourced bona fide speech, and spoofs of it.',
    citation=(
      'Wang et al., "ASVspoof 5: Design, collection and validation of '
      'resources for spoofing, deepfake, and adversarial attack detection '
      'using crowdsourced speech", Computer Speech & Language 95, 2026, '
      'arXiv 2502.08857'
    ),
    licence='ODC-By 1.0',
    homepage='https://zenodo.org/record/14498691',
    folder='ASVspoof5',
    splits={
      'train': corpus.Split(
        _places('ASVspoof5.train.tsv'), Counts(182_357, 18_797)
      ),
      'dev': corpus.Split(
        _places('ASVspoof5.dev.track_1.tsv'), Counts(140_950, 31_334)
      ),
      'eval': corpus.Split(
        _places('ASVspoof5.eval.track_1.tsv'), Counts(680_774, 138_688)
      ),
      'dev_enroll': corpus.Split(
        _track2('enroll', 'dev'), Counts(1_184, 1_184)
      ),
      'eval_enroll': corpus.Split(
        _track2('enroll', 'eval'), Counts(1_098, 1_098)
      ),
    },
    get='ASVspoof5_protocols.tar.gz and the parts flac_*.tar of the splits '
    'you want, all unpacked beside each other',
    fields=('gender', 'codec', 'codec_q', 'group', 'attack_tag'),
    apart=True,
    rate=audio.SAMPLE_RATE,
  )

  def _trials(self, files, lists_of):
    found = {}
    for split, path in lists_of.items():
      read = _enrolment if split.endswith('_enroll') else _track1
      part = split.removesuffix('_enroll')
      folders = [f for f in _AUDIO[part] if files.has(f'{f}/')]
      found[split] = read(files, path, (folders or _AUDIO[part])[0])
    for split in ('dev', 'eval'):
      for path in _track2('trial', split):
        if split in found and files.has(path):
          _check_claims(files, path, found[split])
          self._keep(files, path, f'track_2/{split}.trial.txt')
          break
    for path in _places('ASVspoof5.codec.config.csv'):
      if files.has(path):
        self._keep(files, path, 'codec_config.csv')
        break
    return found


def _track1(
  files: archive.Archive, path: str, folder: str
) -> list[records.Trial]:
  rows = lists.columns(files, path, _COLUMNS, 'FLAC_FILE_NAME', _wrong)
  return [
    records.Trial(
      name,
      speaker,
      BONA_FIDE if key == 'bonafide' else attack,
      f'{folder}/{name}.flac',
      position=position,
      extra={
        'gender': gender,
        'codec': codec,
        'codec_q': quality,
        # Codings of one recording belong together.
        'group': name if seed == '-' else seed,
        'attack_tag': tag,
      },
    )
    for position, (
      speaker, name, gender, codec, quality, seed, tag, attack, key, _,
    ) in enumerate(rows)
  ]  # fmt: skip


def _wrong(fields: Sequence[str]) -> str:
  if (fields[7] == 'bonafide') != (fields[8] == 'bonafide'):
    return f'KEY {fields[8]!r} of ATTACK_LABEL {fields[7]!r}'
  return ''


def _enrolment(
  files: archive.Archive, path: str, folder: str
) -> list[records.Trial]:
  return [
    records.Trial(
      name,
      speaker,
      BONA_FIDE,
      f'{folder}/{name}.flac',
      position=position,
      extra=dict.fromkeys(Asvspoof5.CORPUS.fields, '-') | {'group': name},
    )
    for position, (speaker, names) in enumerate(
      lists.columns(files, path, _ENROL, 'SPEAKER_ID')
    )
    for name in names.split(',')
  ]


def _check_claims(
  files: archive.Archive, path: str, trials: Sequence[records.Trial]
) -> None:
  """Raises unless the trials of track 2 are claims on clips of track 1."""
  known = {trial.utterance for trial in trials}
  problems = Problems(f'{files.path}: {path}')
  for position, row in enumerate(lists.columns(files, path, _TRIAL)):
    if row[1] not in known:
      problems.add(f'line {position + 1}: {row[1]} is no clip of track 1')
  problems.raise_if_any()
