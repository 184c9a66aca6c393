"""The TFDS builder of MLAAD: `mlaad`.

Each folder fake/LANGUAGE/MODEL has a table, columns between |:

  path|original_file|language|is_original_language|duration|...|model_name|...

`original_file` is the recording of M-AILABS whose text was synthesised: the
genuine speech, if it lies beside.
"""

from jaxspoof.classes import BONA_FIDE
from tfds_builders import corpus, lists, records

SEED = 'mlaad 0'
_PATTERNS = {
  'path': r'.+\.wav',
  'original_file': '.+',
  'language': '.+',
  'architecture': '.*',
}
_GENUINE = 'M-AILABS'


class Mlaad(corpus.CorpusBuilder):
  """Synthetic speech of many models and languages.

  Divided by text: all clips of one original are in the same split.
  """

  name = 'mlaad'
  CORPUS = corpus.Corpus(
    title='MLAAD: synthetic speech in many languages, by many models.',
    citation=(
      'Müller et al., "MLAAD: The Multi-Language Audio Anti-Spoofing Dataset", '
      'IJCNN 2024, arXiv 2401.09512'
    ),
    licence='as on its page',
    homepage='https://huggingface.co/datasets/mueller91/MLAAD',
    folder='MLAAD',
    splits={split: corpus.Split(('fake/',)) for split in records.SHARES},
    get=(
      'MLAAD, unpacked to fake/, and beside it, for its genuine speech, '
      f'M-AILABS: {_GENUINE}/de_DE/by_book/...'
    ),
    fields=('language', 'architecture', 'group'),
    broken=True,
  )

  def _trials(self, files, lists_of):
    splits, originals = {split: [] for split in records.SHARES}, {}
    names = files.names('fake')
    for table in names:
      if not table.endswith('/meta.csv'):
        continue
      folder = table.removesuffix('/meta.csv')
      for row in lists.table(files, table, _PATTERNS, '|'):
        # Paths begin where their authors kept them.
        file = row['path'].rpartition('/')[2]
        group = row['original_file']
        originals[group] = row['language']
        splits[records.split_of(SEED, group)].append(
          records.Trial(
            records.word(f'{folder}/{file}'.removesuffix('.wav')),
            '-',
            records.word(folder.rpartition('/')[2]),
            f'{folder}/{file}',
            extra={
              'language': row['language'],
              'architecture': row['architecture'] or '-',
              'group': group,
            },
          )
        )
    _say_unlisted(names, splits)
    for original, language in originals.items():
      path = f'{_GENUINE}/{original.removeprefix("./")}'
      if not files.has(path):
        continue
      reader = ('-', '-', '-', *path.split('/'))[-4]
      splits[records.split_of(SEED, original)].append(
        records.Trial(
          records.word(path.removesuffix('.wav')),
          records.word(reader),
          BONA_FIDE,
          path,
          extra={'language': language, 'architecture': '-', 'group': original},
        )
      )
    return splits


def _say_unlisted(names: list[str], splits: dict[str, list]) -> None:
  listed = {trial.source for trials in splits.values() for trial in trials}
  unlisted = [n for n in names if n.endswith('.wav') and n not in listed]
  if unlisted:
    print(
      f'note: {len(unlisted):,} clips are in no meta.csv and left out, such as '
      f'{unlisted[0]}'
    )
