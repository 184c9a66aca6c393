r"""Makes spoofs of one's own bona fide recordings.

python -m tfds_builders.make_spoofs --manifest=mine.csv --out=paired
python -m tfds_builders.build wav_folder --manifest=paired/manifest.csv \
  --name=paired
"""

import argparse
import csv
import dataclasses
import hashlib
import io
import multiprocessing
import pathlib
import re
import sys

import numpy as np

from jaxspoof import audio
from jaxspoof.audio import signal_checks
from jaxspoof.machine import files
from jaxspoof.machine.progress import Progress
from tfds_builders import build
from tfds_builders.errors import BuildError, Problems
from tfds_builders.make_spoofs import neural
from tfds_builders.quickstart import attacks, conditioning, dsp, recipe, render
from tfds_builders.quickstart.sentences import SENTENCES
from tfds_builders.wav_folder import manifest

COLUMNS = ('path', 'utterance', 'label', 'speaker', 'attack', 'split')
# What needs neither words nor other recordings of the speaker.
VOCODERS = tuple(
  name
  for name, attack in attacks.ATTACKS.items()
  if not (attack.speaks or attack.needs_voice)
)
METHODS = (*VOCODERS, *neural.METHODS)
DEFAULT = tuple(name for name in VOCODERS if name in attacks.TRAIN)
SHORTEST, LONGEST = 1.0, 4.0  # seconds


@dataclasses.dataclass(frozen=True)
class Job:
  """One recording and what is made of it.

  Attributes:
    row: of the table.
    methods: names of `METHODS`.
    out: folder that the clips are written to.
  """

  row: manifest.Row
  methods: tuple[str, ...]
  out: pathlib.Path

  def path(self, method: str) -> pathlib.Path:
    """Where the clip that a method makes lies; '-' is the recording itself."""
    # Utterances may be paths, and differ in what a file name must not hold.
    name = re.sub(r'[^\w.-]', '_', self.row.utterance, flags=re.ASCII)[-60:]
    digest = hashlib.sha256(self.row.utterance.encode()).hexdigest()[:8]
    return (
      self.out / f'{name}_{digest}{"" if method == "-" else "_" + method}.flac'
    )


def make(
  table: pathlib.Path,
  out: pathlib.Path,
  methods: tuple[str, ...] = DEFAULT,
  per_clip: int = 2,
  workers: int | None = None,
) -> pathlib.Path:
  """Makes spoofs of the bona fide recordings of a table.

  Of each recording at most four seconds are taken. It and its spoofs get the
  same average spectrum and pass the same chain: band, level, noise, codec. What
  is there already is not made again, so that the same call goes on where it was
  stopped; all chance comes from the names of the recordings.

  Args:
    table: the table, as `wav_folder` takes it; a column `transcript` may say
      what is said. Rows of spoofs are left out, and counted.
    out: folder for `audio/` and `manifest.csv`, a table as `wav_folder` takes.
    methods: names of `METHODS`.
    per_clip: how many methods are drawn for each recording.
    workers: processes; None for one per core.

  Returns:
    The path of the new table.

  Raises:
    BuildError: a method that is unknown or whose package is missing, a table
      that cannot be used, or recordings that cannot.
  """
  _check(methods, per_clip)
  read = manifest.read(table)
  read.problems.raise_if_any()
  rows = [row for row in read.rows if row.bona_fide]
  if not rows:
    raise BuildError(f'{table}: no row is labelled bona fide')
  if spoofs := len(read.rows) - len(rows):
    print(f'note: {spoofs:,} rows of spoofs are left out')
  folder = out / 'audio'
  folder.mkdir(parents=True, exist_ok=True)
  jobs = [Job(row, _drawn(row, methods, per_clip), folder) for row in rows]
  problems, progress, made = Problems(table), Progress('clips', len(jobs)), []
  workers = min(workers or render.cores(), len(jobs))
  with (
    render._one_thread(),
    multiprocessing.get_context('spawn').Pool(workers) as pool,
  ):
    for job, (written, problem) in zip(
      jobs, pool.imap(_done, jobs), strict=True
    ):
      progress.step()
      if problem:
        problems.add(problem, job.row.number)
      made += [(job, method) for method in written]
  problems.raise_if_any()
  return _listed(out / 'manifest.csv', made, 'split' in read.columns)


def extract(
  corpus: str,
  out: pathlib.Path,
  splits: tuple[str, ...] = ('train', 'dev'),
  data_dir: pathlib.Path | None = None,
) -> pathlib.Path:
  """Writes the bona fide clips of a built corpus as files, with their table.

  Args:
    corpus: its name, as `tfds_builders.build` takes it.
    out: folder for `recordings/` and `recordings.csv`.
    splits: which splits.
    data_dir: where built corpora lie; None for the usual place.

  Returns:
    The path of the table, which `make` takes.

  Raises:
    BuildError: the corpus is not built, or has no such split.
  """
  made = build.builder(corpus, data_dir)
  if not made.is_prepared():
    raise BuildError(f'{corpus} is not built: nothing in {made.data_dir}')
  if missing := [split for split in splits if split not in made.info.splits]:
    raise BuildError(
      f'{corpus} has no split {missing[0]!r}; it has '
      f'{", ".join(sorted(made.info.splits))}'
    )
  folder, rows = out / 'recordings', []
  folder.mkdir(parents=True, exist_ok=True)
  for split in splits:
    for number, record in enumerate(made.as_data_source(split)):
      if int(record['label']) != 1:
        continue
      path = folder / f'{split}_{number:07d}'
      if not path.is_file():
        with files.replacing(path) as file:
          file.write(bytes(record['audio']))
      utterance, speaker = (
        v.decode() if isinstance(v, bytes) else v
        for v in (record['utterance'], record['speaker'])
      )
      cells = (path.relative_to(out), utterance, 'bonafide', speaker, '', split)
      rows.append(cells)
  return _table(out / 'recordings.csv', COLUMNS, rows)


def _check(methods: tuple[str, ...], per_clip: int) -> None:
  if unknown := [name for name in methods if name not in METHODS]:
    raise BuildError(
      f'--methods: {unknown[0]!r} is unknown; expected some of '
      f'{", ".join(METHODS)}'
    )
  if not 1 <= per_clip <= len(methods):
    raise BuildError(
      f'--per_clip={per_clip}: expected 1 to {len(methods)}, the number of '
      'methods'
    )
  for name in methods:
    if name in neural.METHODS:
      neural.METHODS[name].find()


def _drawn(
  row: manifest.Row, methods: tuple[str, ...], per_clip: int
) -> tuple[str, ...]:
  order = recipe.rng_for('methods', row.utterance).permutation(len(methods))
  return tuple(methods[i] for i in sorted(order[:per_clip]))


def _done(job: Job) -> tuple[list[str], str]:
  """Writes what is missing of a job: the methods done, and what went wrong."""
  wanted = ['-', *job.methods]
  missing = [method for method in wanted if not job.path(method).is_file()]
  if not missing:
    return wanted, ''
  where = f'row {job.row.number}: {job.row.path}'
  try:
    clip = attacks.Clip(_taken(job.row, where))
    for method in missing:
      made = _made(job, method, clip)
      with files.replacing(job.path(method)) as file:
        file.write(made)
  except (ValueError, OSError) as error:
    return [], str(error) if str(error).startswith(
      where
    ) else f'{where}: {error}'
  return wanted, ''


def _taken(row: manifest.Row, where: str) -> np.ndarray:
  """At most four seconds of a recording with sound in them, float64."""
  wave = audio.read(row.path.read_bytes(), where).wave.astype(np.float64)
  if not signal_checks.has_sound(wave.astype(np.float32)).any():
    raise BuildError(f'{where}: holds no sound')
  most, least = (int(s * dsp.RATE) for s in (LONGEST, SHORTEST))
  if len(wave) < least:
    raise BuildError(
      f'{where}: {len(wave) / dsp.RATE:.2f} s, expected at least {SHORTEST:g} s'
    )
  if len(wave) > most:
    # The loudest of a few places: a long recording has pauses.
    rng = recipe.rng_for('place', row.utterance)
    starts = rng.integers(0, len(wave) - most + 1, 5)
    wave = max((wave[s : s + most] for s in starts), key=lambda w: np.sum(w**2))
  return wave


def _made(job: Job, method: str, clip: attacks.Clip) -> bytes:
  name, samples, wave = job.row.utterance, len(clip.wave), clip.wave
  if method != '-':
    rng = recipe.rng_for(method, name)
    if method in neural.METHODS:
      way = neural.METHODS[method]
      text = job.row.transcript or str(rng.choice(SENTENCES['en']))
      wave = way.make(clip.wave, text, rng)
      if way.speaks:
        samples = min(samples, len(wave))
    else:
      wave = attacks.ATTACKS[method].make(clip, rng)
    wave = dsp.equalised(wave, clip.colour)
  channel = conditioning.Channel.draw(recipe.rng_for('channel', name))
  noise = recipe.rng_for('noise', method, name)
  return conditioning.flac(
    conditioning.condition(wave, channel, samples, noise)
  )


def _listed(
  path: pathlib.Path, made: list[tuple[Job, str]], with_split: bool
) -> pathlib.Path:
  """Writes the table of the corpus."""
  columns = COLUMNS if with_split else COLUMNS[:-1]
  rows = []
  for job, method in made:
    row, genuine = job.row, method == '-'
    cells = (
      f'audio/{job.path(method).name}',
      row.utterance if genuine else f'{row.utterance}_{method}',
      'bonafide' if genuine else 'spoof',
      row.speaker,
      '' if genuine else method,
      row.split,
    )
    rows.append(cells[: len(columns)])
  return _table(path, columns, rows)


def _table(path: pathlib.Path, head, rows) -> pathlib.Path:
  text = io.StringIO()
  csv.writer(text, lineterminator='\n').writerows([head, *rows])
  files.write_atomically(path, text.getvalue())
  return path


def parser() -> argparse.ArgumentParser:
  """The command line."""
  made = argparse.ArgumentParser(
    prog='python -m tfds_builders.make_spoofs',
    description=__doc__,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  add = made.add_argument
  source = made.add_mutually_exclusive_group(required=True)
  source.add_argument(
    '--manifest',
    type=pathlib.Path,
    metavar='FILE',
    help='table of recordings, as wav_folder takes it',
  )
  source.add_argument(
    '--corpus',
    metavar='NAME',
    help='a corpus that is built, whose bona fide clips are taken',
  )
  add(
    '--splits',
    default='train,dev',
    metavar='train,...',
    help='the splits of the corpus that are taken',
  )
  add(
    '--data_dir',
    type=pathlib.Path,
    metavar='DIR',
    help='where built corpora lie',
  )
  add(
    '--out',
    type=pathlib.Path,
    required=True,
    metavar='DIR',
    help='folder for the clips and their table',
  )
  add(
    '--methods',
    default=','.join(DEFAULT),
    metavar='A01,...',
    help=f'ways of making spoofs, of {", ".join(METHODS)}',
  )
  add(
    '--per_clip',
    type=int,
    default=2,
    metavar='N',
    help='how many of them are drawn for each recording',
  )
  add('--workers', type=int, metavar='N', help='processes')
  return made


def main(argv: list[str] | None = None) -> int:
  """Runs the command line; returns its exit status."""
  given = parser().parse_args(argv)
  methods = tuple(name for name in given.methods.split(',') if name)
  splits = tuple(name for name in given.splits.split(',') if name)
  try:
    table = given.manifest
    if table is None:
      table = extract(given.corpus, given.out, splits, given.data_dir)
    path = make(table, given.out, methods, given.per_clip, given.workers)
  except BuildError as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  print(f'{path}: python -m tfds_builders.build wav_folder --manifest={path}')
  return 0
