"""The TFDS builder of SpoofCeleb: `spoofceleb`.

Tables say what the clips are: `a00/id10318/YYsxcZ5saac-00002-006.flac,id10318,
a00` with a header `file,speaker,attack`; a00 is genuine speech.
"""

from jaxspoof.classes import BONA_FIDE
from tfds_builders import corpus, lists, records
from tfds_builders.corpus import Counts

_FOLDERS = {'train': 'train', 'dev': 'development', 'eval': 'evaluation'}
_COUNTS = {
  'train': Counts(2_540_421, 230_948),
  'dev': Counts(55_741, 7_963),
  'eval': Counts(91_130, 9_113),
}
_PATTERNS = {'file': r'\S+\.flac', 'speaker': r'\S+', 'attack': r'a\d\d'}


class Spoofceleb(corpus.CorpusBuilder):
  """Celebrities as in online videos, and speech synthesised from such data."""

  name = 'spoofceleb'
  CORPUS = corpus.Corpus(
    title='SpoofCeleb: speech of celebrities in the wild, and spoofs of it.',
    citation=(
      'Jung et al., "SpoofCeleb: Speech Deepfake Detection and SASV in the '
      'Wild", IEEE Open Journal of Signal Processing 6, 2025, arXiv 2409.17285'
    ),
    licence='CC BY 4.0',
    homepage='https://huggingface.co/datasets/jungjee/spoofceleb',
    folder='spoofceleb',
    splits={
      split: corpus.Split((f'metadata/{name}.csv',), _COUNTS[split])
      for split, name in _FOLDERS.items()
    },
    get='SpoofCeleb, unpacked to spoofceleb/',
    apart=True,
    broken=True,
  )

  def _trials(self, files, lists_of):
    return {
      split: [
        records.Trial(
          row['file'].removesuffix('.flac'),
          row['speaker'],
          BONA_FIDE if row['attack'] == 'a00' else row['attack'],
          f'flac/{_FOLDERS[split]}/{row["file"]}',
          position=position,
        )
        for position, row in enumerate(lists.table(files, path, _PATTERNS))
      ]
      for split, path in lists_of.items()
    }
