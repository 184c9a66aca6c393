"""The TFDS builder of ADD 2022: `add2022`; its lists are those of ADD 2023."""

from jaxspoof.classes import BONA_FIDE, UNKNOWN
from tfds_builders import corpus
from tfds_builders.add2023.builder import listed

_LABELS = {'genuine': BONA_FIDE, 'fake': UNKNOWN}


class Add2022(corpus.CorpusBuilder):
  """Genuine and fake Mandarin speech; no attack and no speaker is named."""

  name = 'add2022'
  CORPUS = corpus.Corpus(
    title='ADD 2022, train and dev: genuine and fake Mandarin speech.',
    citation=(
      'Yi et al., "ADD 2022: the First Audio Deep Synthesis Detection '
      'Challenge", ICASSP 2022, arXiv 2202.08433'
    ),
    licence='as on its page',
    homepage='https://zenodo.org/records/10843991',
    folder='ADD_train_dev',
    splits={
      split: corpus.Split((f'label/{split}_label.txt',), labels=_LABELS)
      for split in ('train', 'dev')
    },
    get='ADD_train_dev, unpacked',
    apart=True,
    broken=True,
  )

  def _trials(self, files, lists_of):
    return {
      split: listed(files, path, _LABELS, split)
      for split, path in lists_of.items()
    }
