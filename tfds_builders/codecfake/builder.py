"""The TFDS builder of Codecfake (Xie et al.): `codecfake`.

Lists of three columns, file, label and codec:

  SSB13650058.wav real 0
  F01_SSB13650058.wav fake 1
"""

from collections.abc import Sequence

from jaxspoof.classes import BONA_FIDE
from tfds_builders import corpus, lists, records

SPLITS = ('train', 'dev', *(f'C{n}' for n in range(1, 8)))
_PATTERNS = {'FILE': r'[\w.-]+\.wav', 'LABEL': 'real|fake', 'CODEC': '[0-7]'}


class Codecfake(corpus.CorpusBuilder):
  """VCTK and AISHELL3 through seven neural codecs, F01 to F07.

  C1 to C7 are its test sets, one of them for each codec.
  """

  name = 'codecfake'
  CORPUS = corpus.Corpus(
    title='Codecfake: speech, and what neural codecs make of it.',
    citation=(
      'Xie et al., "The Codecfake Dataset and Countermeasures for the '
      'Universally Detection of Deepfake Audio", IEEE TASLP 2025, '
      'arXiv 2405.04880'
    ),
    licence='as on its page',
    homepage='https://github.com/xieyuankun/Codecfake',
    folder='Codecfake',
    splits={split: corpus.Split((f'label/{split}.txt',)) for split in SPLITS},
    get='label and the parts of the splits you want, unpacked beside it',
    fields=('group',),
    apart=True,
    broken=True,
  )

  def _trials(self, files, lists_of):
    found = {}
    for split, path in lists_of.items():
      folder = split if files.has(f'{split}/') else f'test/{split}'
      folder = split if split in ('train', 'dev') else folder
      rows = lists.columns(files, path, _PATTERNS, 'FILE', _wrong)
      found[split] = [
        records.Trial(
          file.removesuffix('.wav'),
          '-',
          BONA_FIDE if label == 'real' else f'F0{codec}',
          f'{folder}/{file}',
          position=position,
          extra={
            'group': file.removesuffix('.wav').removeprefix(f'F0{codec}_')
          },
        )
        for position, (file, label, codec) in enumerate(rows)
      ]
    return found


def _wrong(fields: Sequence[str]) -> str:
  if (fields[1] == 'real') != (fields[2] == '0'):
    return f'CODEC {fields[2]!r} of LABEL {fields[1]!r}, expected 0 for real'
  return ''
