"""The table printed after a build."""

import tensorflow_datasets as tfds

from tfds_builders import flac, records


def summary(made: tfds.core.DatasetBuilder) -> str:
  """Returns a table of trials, length, speakers and attacks per split.

  Raises:
    ValueError: a record of a builder that did not check them while it wrote
      is damaged.
  """
  tallies = getattr(made, 'tally', None) or {
    split: _read(made, split) for split in made.info.splits
  }
  longest = max(tally.seconds for tally in tallies.values())
  unit, seconds = ('hours', 3600) if longest > 36_000 else ('minutes', 60)
  lines = [
    f'{"split":<10} {"trials":>7} {"bona fide":>9} {unit:>8} '
    f'{"speakers":>8}  attacks'
  ]
  for split, tally in tallies.items():
    counts = tally.attacks
    names = [f'{name}:{counts[name]}' for name in sorted(counts) if name != '-']
    lines.append(
      f'{split:<10} {counts.total():>7} {counts["-"]:>9} '
      f'{tally.seconds / seconds:>8.1f} {len(tally.speakers):>8}  '
      f'{" ".join(names)}'
    )
  return '\n'.join(lines)


def _read(made: tfds.core.DatasetBuilder, split: str) -> records.Tally:
  tally = records.Tally()
  for record in made.as_data_source(split=split):
    info = flac.verify(record['audio'], record['utterance'].decode())
    tally.add(
      record['attack'].decode(),
      record['speaker'].decode(),
      info.samples / info.rate,
    )
  return tally
