"""The TFDS builder of PartialSpoof: `partialspoof`.

Its lists have the form of ASVspoof 2019, of which it is made:

  LA_0079 CON_T_0000029 - CON spoof
  LA_0079 LA_T_1138215 - - bonafide

Which 20 ms of a clip are spoofed is in `segment_labels`.
"""

from collections.abc import Sequence

from jaxspoof import audio
from jaxspoof.classes import BONA_FIDE, UNKNOWN
from tfds_builders import corpus, lists, records
from tfds_builders.corpus import Counts
from tfds_builders.errors import BuildError, Problems
from tfds_builders.partialspoof import segments

_COLUMNS = {
  'SPEAKER': r'LA_\d{4}',
  'UTTERANCE': r'(?:CON|LA)_[TDE]_\d{7}',
  'ENVIRONMENT': '-',
  'SYSTEM': r'\S+',
  'KEY': 'bonafide|spoof',
}
_TRIALS = {'train': 25_380, 'dev': 24_844, 'eval': 71_237}


class Partialspoof(corpus.CorpusBuilder):
  """Genuine speech of ASVspoof 2019 LA with spoofed segments in it."""

  name = 'partialspoof'
  CORPUS = corpus.Corpus(
    title='PartialSpoof: genuine speech with labelled spoofed segments.',
    citation=(
      'Zhang et al., "The PartialSpoof Database and Countermeasures for the '
      'Detection of Short Fake Speech Segments Embedded in an Utterance", '
      'IEEE/ACM TASLP 31, 2023, https://doi.org/10.1109/TASLP.2022.3233236'
    ),
    licence='as on its page',
    homepage='https://zenodo.org/record/5766198',
    folder='database',
    splits={
      split: corpus.Split(
        (
          'protocols/PartialSpoof_LA_cm_protocols/'
          f'PartialSpoof.LA.cm.{split}.trl.txt',
        ),
        Counts(trials),
      )
      for split, trials in _TRIALS.items()
    },
    get=(
      'database_protocols, database_segment_labels_v1.2 and those of '
      'database_train, database_dev and database_eval that you want (.tar.gz), '
      'unpacked to database/'
    ),
    fields=('segments',),
    apart=True,
    rate=audio.SAMPLE_RATE,
  )

  def _trials(self, files, lists_of):
    found = {}
    for split, path in lists_of.items():
      labels = f'segment_labels/{split}_seglab_0.02.npy'
      if not files.has(labels):
        raise BuildError(f'{files.path}: expected a file {labels}')
      known = segments.read(files.read(labels), f'{files.path}: {labels}')
      rows = lists.columns(files, path, _COLUMNS, 'UTTERANCE')
      found[split] = _labelled(split, rows, known, f'{files.path}: {labels}')
    return found


def _labelled(
  split: str, rows: Sequence[tuple[str, ...]], known: dict, name: str
) -> list[records.Trial]:
  """Adds the labels of segments to the lines of a list."""
  problems, trials, differ = Problems(name), [], 0
  for position, (speaker, utterance, _, system, key) in enumerate(rows):
    if utterance not in known:
      problems.add(f'no labels of {utterance}, which is in the list of {split}')
      continue
    differ += ('0' in known[utterance]) != (key == 'spoof')
    attack = UNKNOWN if system == '-' else system
    trials.append(
      records.Trial(
        utterance,
        speaker,
        BONA_FIDE if key == 'bonafide' else attack,
        f'{split}/con_wav/{utterance}.wav',
        position=position,
        extra={'segments': known[utterance]},
      )
    )
  problems.raise_if_any()
  if differ:
    print(f'note: {differ} clips of {split} have a key unlike their segments')
  return trials
