"""The TFDS builder of In-the-Wild: `in_the_wild`.

`meta.csv` beside the clips says what they are: `0.wav,Alec Guinness,spoof`.
"""

from jaxspoof.classes import BONA_FIDE, UNKNOWN
from tfds_builders import corpus, lists, records

_LABELS = {'bona-fide': BONA_FIDE, 'spoof': UNKNOWN}


class InTheWild(corpus.CorpusBuilder):
  """Public figures from social media; for evaluation only: one split.

  How a spoof was made is not known: all are 'unknown'.
  """

  name = 'in_the_wild'
  CORPUS = corpus.Corpus(
    title='In-the-Wild: genuine and fake recordings of public figures.',
    citation=(
      'Müller et al., "Does Audio Deepfake Detection Generalize?", Interspeech '
      '2022, arXiv 2203.16263'
    ),
    licence='CC BY-SA 4.0',
    homepage='https://huggingface.co/datasets/mueller91/In-The-Wild',
    folder='release_in_the_wild',
    splits={
      'eval': corpus.Split(
        ('meta.csv',), corpus.Counts(31_779, 19_963), labels=_LABELS
      )
    },
    get='release_in_the_wild.zip, packed or unpacked',
    download=corpus.Download(
      (
        'https://owncloud.fraunhofer.de/index.php/s/JZgXh0JEAF0elxa/download',
        'https://huggingface.co/datasets/mueller91/In-The-Wild/resolve/main/'
        'release_in_the_wild.zip',
      )
    ),
  )

  def _trials(self, files, lists_of):
    patterns = {'file': r'[\w.-]+', 'speaker': '.+', 'label': '|'.join(_LABELS)}
    # Published score files call a clip by its file, '0.wav'.
    return {
      split: [
        records.Trial(
          row['file'],
          records.word(row['speaker']),
          _LABELS[row['label']],
          row['file'],
          position=position,
        )
        for position, row in enumerate(lists.table(files, path, patterns))
      ]
      for split, path in lists_of.items()
    }
