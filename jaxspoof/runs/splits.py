"""Corpora and splits of a run by name: one corpus, or several, 'a+b'."""

from typing import NamedTuple


class Part(NamedTuple):
  """A split of one corpus.

  Attributes:
    corpus: as `data.source.open_source` takes it.
    split: of it.
    name: what its files and figures are called in a run: the split where the
      run has one corpus, else 'CORPUS.SPLIT'.
  """

  corpus: str
  split: str
  name: str


def corpora(name: str) -> tuple[str, ...]:
  """Names of the corpora in `data.name`."""
  return tuple(name.split('+'))


def parts(name: str, splits: str) -> tuple[Part, ...]:
  """A role's split of each corpus of a run.

  Args:
    name: `data.name`: a corpus, or several, joined by '+'.
    splits: one split, which every corpus has; or one for each, in their order,
      separated by commas.

  Raises:
    ValueError: another number of splits than of corpora, or a corpus twice.
  """
  named = corpora(name)
  given = splits.split(',')
  if len(given) == 1:
    given *= len(named)
  if len(given) != len(named):
    raise ValueError(
      f'{splits!r} are {len(given)} splits of the {len(named)} corpora of '
      f'data.name={name!r}: expected one, or one for each'
    )
  if len(named) == 1:
    return (Part(name, splits, splits),)
  called = [corpus.replace('/', '_') for corpus in named]
  if not all(named) or len(set(called)) < len(called):
    raise ValueError(
      f'data.name={name!r}: expected different corpora, joined by +'
    )
  return tuple(
    Part(corpus, split, f'{short}.{split}')
    for corpus, split, short in zip(named, given, called, strict=True)
  )
