"""Builds a corpus: what `tfds build` does, without TensorFlow.

python -m tfds_builders.build quickstart
python -m tfds_builders.build quickstart/tiny --data_dir=/tmp/corpora
python -m tfds_builders.build asvspoof2019_la --manual_dir=~/Downloads
python -m tfds_builders.build wav_folder --manifest=mine.csv --name=mine
python -m tfds_builders.build parquet_folder --manual_dir=FOLDER --name=mine
python -m tfds_builders.build spliced/quickstart
"""

import argparse
import contextlib
import importlib
import os
import pathlib
import shutil
import sys
import time

import tensorflow_datasets as tfds
from absl import logging

from jaxspoof.machine import interrupts
from tfds_builders import records
from tfds_builders.errors import BuildError
from tfds_builders.summary import summary

__all__ = ['CORPORA', 'BuildError', 'build', 'builder', 'main', 'summary']

# Corpus name -> module that registers its builder when imported.
CORPORA = {
  'add2022': 'tfds_builders.add2022.builder',
  'add2023_track1_2': 'tfds_builders.add2023.builder',
  'add2023_track3': 'tfds_builders.add2023.builder',
  'asvspoof2019_la': 'tfds_builders.asvspoof2019.builder',
  'asvspoof2019_pa': 'tfds_builders.asvspoof2019.builder',
  'asvspoof2021_df': 'tfds_builders.asvspoof2021.builder',
  'asvspoof2021_la': 'tfds_builders.asvspoof2021.builder',
  'asvspoof2021_pa': 'tfds_builders.asvspoof2021.builder',
  'asvspoof5': 'tfds_builders.asvspoof5.builder',
  'codecfake': 'tfds_builders.codecfake.builder',
  'deepfaketimit': 'tfds_builders.deepfaketimit.builder',
  'demo_pages': 'tfds_builders.demo_pages.builder',
  'fake_or_real_2sec': 'tfds_builders.fake_or_real.builder',
  'fake_or_real_norm': 'tfds_builders.fake_or_real.builder',
  'fake_or_real_original': 'tfds_builders.fake_or_real.builder',
  'fake_or_real_rerec': 'tfds_builders.fake_or_real.builder',
  'in_the_wild': 'tfds_builders.in_the_wild.builder',
  'mlaad': 'tfds_builders.mlaad.builder',
  'parquet_folder': 'tfds_builders.parquet_folder.builder',
  'partialspoof': 'tfds_builders.partialspoof.builder',
  'quickstart': 'tfds_builders.quickstart.builder',
  'spliced': 'tfds_builders.spliced.builder',
  'spoofceleb': 'tfds_builders.spoofceleb.builder',
  'wav_folder': 'tfds_builders.wav_folder.builder',
  'wavefake': 'tfds_builders.wavefake.builder',
}


def builder(
  name: str, data_dir: str | os.PathLike | None = None
) -> tfds.core.DatasetBuilder:
  """Returns the builder of a corpus.

  Args:
    name: `corpus` or `corpus/config`, the corpus a key of `CORPORA`. Own data
      is `wav_folder/NAME`.
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
  if named := getattr(cls, 'config_named', None):
    config = named(config)
  elif config and config not in cls.builder_configs:
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
  download: bool = False,
  manifest: str | os.PathLike | None = None,
) -> tfds.core.DatasetBuilder:
  """Builds a corpus unless it is there already, and prints a summary.

  Args:
    name: `corpus` or `corpus/config`.
    data_dir: folder that corpora are written to; see `builder`.
    manual_dir: folder with archives that a person had to download; default
      `downloads/manual` below the data_dir.
    download: whether archives that are missing may be downloaded.
    manifest: table that lists the files, for `wav_folder/NAME`.

  Returns:
    The builder, its data in place.

  Raises:
    BuildError: unknown name, input that is missing or cannot be used, or the
      disk is full or not writable. Nothing half-built is left behind.
  """
  made = builder(name, data_dir)
  if isinstance(made, records.RecordBuilder):
    made.take(records.Inputs(_path(manual_dir), download, _path(manifest)))
  if made.is_prepared():
    print(f'{made.info.full_name} is built already: {made.data_dir}')
    return made
  _check_space(made)
  print(f'building {made.info.full_name} in {made.data_dir}', flush=True)
  start = time.monotonic()
  config = tfds.download.DownloadConfig(manual_dir=_path(manual_dir))
  try:
    made.download_and_prepare(download_config=config)
  except BaseException as error:
    _remove_empty(made)
    if not isinstance(error, OSError | RuntimeError):
      raise
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


def _path(path: str | os.PathLike | None) -> pathlib.Path | None:
  return None if path is None else pathlib.Path(path).expanduser()


def _remove_empty(made: tfds.core.DatasetBuilder) -> None:
  """Removes the folders that TFDS made for a corpus that was not built."""
  root = pathlib.Path(made.data_dir_root)
  corpus = root / made.name
  # TFDS notes the default config before there is any.
  if corpus.is_dir() and {p.name for p in corpus.rglob('*')} <= {
    '.config', 'metadata.json', getattr(made.builder_config, 'name', '')
  }:  # fmt: skip
    shutil.rmtree(corpus, ignore_errors=True)
  empty = (pathlib.Path(made.data_dir).parent, root / 'downloads/extracted')
  for folder in (*empty, root / 'downloads'):
    with contextlib.suppress(OSError):  # there is something in it
      folder.rmdir()


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


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m tfds_builders.build',
    description='Build a corpus from its archive or files, so that it can be'
    ' trained and evaluated on. TensorFlow is not needed.',
  )
  known, path = ', '.join(sorted(CORPORA)), pathlib.Path
  parser.add_argument(
    'name', help=f'the corpus, or corpus/config; corpora are {known}'
  )
  parser.add_argument(
    '--config', help='variant of the corpus, another way to say corpus/config'
  )
  parser.add_argument(
    '--data_dir',
    type=path,
    help='folder that the corpus is written to (default: the environment'
    ' variable TFDS_DATA_DIR, or ~/tensorflow_datasets)',
  )
  parser.add_argument(
    '--manual_dir',
    type=path,
    help='folder with the official archives that you have downloaded'
    ' (default: downloads/manual in the data_dir)',
  )
  parser.add_argument(
    '--download',
    action='store_true',
    help='download archives that are missing, where that is possible',
  )
  parser.add_argument(
    '--manifest',
    type=path,
    help='for wav_folder: the CSV or TSV table that lists your files',
  )
  parser.add_argument(
    '--name',
    dest='own',
    help='for wav_folder and parquet_folder: a name for your data, which is'
    ' then wav_folder/NAME (default: the name of the table)',
  )
  return parser


def _full_name(args: argparse.Namespace) -> str:
  """Returns `corpus/config` from the ways to say it."""
  corpus = args.name.partition('/')[0]
  for option, value, own in (
    ('manifest', args.manifest, ('wav_folder',)),
    ('name', args.own, ('wav_folder', 'parquet_folder')),
  ):
    if value and corpus not in own:
      raise BuildError(
        f'{corpus} takes no --{option}; {" and ".join(own)} does'
      )
  config = args.config or args.own
  if not config and args.name == 'wav_folder' and args.manifest:
    config = args.manifest.stem
  if not config:
    return args.name
  if '/' in args.name or (args.config and args.own):
    raise BuildError(
      f'{args.name} with --config={args.config} and --name={args.own}: '
      'expected the config once'
    )
  return f'{args.name}/{config}'


def main(argv: list[str] | None = None) -> int:
  """Builds what the command line names; returns the exit status."""
  args = _parser().parse_args(argv)
  logging.set_verbosity(logging.ERROR)  # TFDS warns of folders it is to make
  try:
    build(
      _full_name(args),
      args.data_dir,
      args.manual_dir,
      args.download,
      args.manifest,
    )
  except BuildError as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  return 0


if __name__ == '__main__':
  sys.exit(interrupts.call(main))
