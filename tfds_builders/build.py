"""Builds a corpus: what `tfds build` does, without TensorFlow.

python -m tfds_builders.build quickstart
python -m tfds_builders.build quickstart/tiny --data_dir=/tmp/corpora
"""

import argparse
import collections
import importlib
import os
import pathlib
import shutil
import sys
import time

import tensorflow_datasets as tfds

from tfds_builders import flac

# Corpus name -> module that registers its builder when imported.
CORPORA = {'quickstart': 'tfds_builders.quickstart.builder'}


class BuildError(ValueError):
  """A corpus cannot be built; the message says what to do."""


def builder(
  name: str, data_dir: str | os.PathLike | None = None
) -> tfds.core.DatasetBuilder:
  """Returns the builder of a corpus.

  Args:
    name: `corpus` or `corpus/config`, the corpus a key of `CORPORA`.
    data_dir: where corpora lie; default `~/tensorflow_datasets`, or the
      environment variable TFDS_DATA_DIR.

  Raises:
    BuildError: there is no such corpus or config.
  """
  corpus, _, config = name.partition('/')
  if corpus not in CORPORA:
    raise BuildError(
      f'no corpus is called {corpus!r}; known are: {", ".join(sorted(CORPORA))}'
    )
  importlib.import_module(CORPORA[corpus])
  cls = tfds.builder_cls(corpus)
  if config and config not in cls.builder_configs:
    raise BuildError(
      f'{corpus} has no config {config!r}; '
      f'known are: {", ".join(cls.builder_configs) or "none"}'
    )
  options = {'config': config} if config else {}
  data_dir = None if data_dir is None else os.fspath(data_dir)
  return cls(data_dir=data_dir, file_format='array_record', **options)


def build(
  name: str,
  data_dir: str | os.PathLike | None = None,
  manual_dir: str | os.PathLike | None = None,
) -> tfds.core.DatasetBuilder:
  """Builds a corpus unless it is there already, and prints a summary.

  Args:
    name: `corpus` or `corpus/config`.
    data_dir: where to write; see `builder`.
    manual_dir: where files lie that a person had to download.

  Returns:
    The builder, its data in place.

  Raises:
    BuildError: unknown name, or the disk is full or not writable. Nothing
      half-built is left behind.
  """
  made = builder(name, data_dir)
  if made.is_prepared():
    print(f'{made.info.full_name} is built already: {made.data_dir}')
    return made
  _check_space(made)
  print(f'building {made.info.full_name} in {made.data_dir}', flush=True)
  start = time.monotonic()
  manual_dir = None if manual_dir is None else os.fspath(manual_dir)
  config = tfds.download.DownloadConfig(manual_dir=manual_dir)
  try:
    made.download_and_prepare(download_config=config)
  except (OSError, RuntimeError) as error:
    other = builder(name, data_dir)
    if other.is_prepared():
      print(f'another process has built {made.info.full_name} meanwhile')
      return other
    # The record writer, in C++, has no OSError to raise.
    if not (isinstance(error, OSError) or 'write() failed' in str(error)):
      raise
    raise _not_written(made, error) from error
  print(summary(made))
  print(f'built in {time.monotonic() - start:.0f} s: {made.data_dir}')
  return made


def _not_written(made: tfds.core.DatasetBuilder, why: object) -> BuildError:
  return BuildError(
    f'{made.info.full_name} could not be written to {made.data_dir}: {why}; '
    'expected a writable folder with enough space (--data_dir=DIR). Nothing '
    'half-built is left there'
  )


def _check_space(made: tfds.core.DatasetBuilder) -> None:
  """Says at once, not after minutes, that the disk is too small."""
  needed = getattr(made.builder_config, 'needs_bytes', 0)
  there = pathlib.Path(made.data_dir)
  while not there.exists():
    there = there.parent
  free = shutil.disk_usage(there).free
  if free < needed:
    raise _not_written(
      made, f'{free / 1e6:.0f} MB are free, {needed / 1e6:.0f} MB are needed'
    )


def summary(made: tfds.core.DatasetBuilder) -> str:
  """Returns a table of trials, minutes, speakers and attacks per split."""
  lines = [
    f'{"split":<10} {"trials":>7} {"bona fide":>9} {"minutes":>8} '
    f'{"speakers":>8}  attacks'
  ]
  for split in made.info.splits:
    attacks, speakers, seconds = collections.Counter(), set(), 0.0
    for record in made.as_data_source(split=split):
      attacks[record['attack'].decode()] += 1
      speakers.add(record['speaker'])
      info = flac.verify(record['audio'], record['utterance'].decode())
      seconds += info.samples / info.rate
    bona_fide = attacks.pop('-', 0)
    names = ' '.join(f'{name}:{attacks[name]}' for name in sorted(attacks))
    lines.append(
      f'{split:<10} {attacks.total() + bona_fide:>7} {bona_fide:>9} '
      f'{seconds / 60:>8.1f} {len(speakers):>8}  {names}'
    )
  return '\n'.join(lines)


def main(argv: list[str] | None = None) -> int:
  """Builds what the command line names; returns the exit status."""
  parser = argparse.ArgumentParser(
    prog='python -m tfds_builders.build',
    description='Build a corpus, without TensorFlow.',
  )
  known = ', '.join(sorted(CORPORA))
  parser.add_argument('name', help=f'corpus or corpus/config; known: {known}')
  parser.add_argument('--data_dir', type=pathlib.Path, help='where to write')
  parser.add_argument(
    '--manual_dir', type=pathlib.Path, help='where downloaded files lie'
  )
  args = parser.parse_args(argv)
  try:
    build(args.name, args.data_dir, args.manual_dir)
  except BuildError as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(main())
