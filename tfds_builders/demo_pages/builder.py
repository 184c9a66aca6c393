"""The TFDS builder of speech on demo pages, from clones of their repositories.

The project holds facts alone (`clips.csv.gz`): which file of which repository
is what. The audio comes from clones that a person has.
"""

import collections
import functools
import hashlib
import io
import pathlib
import subprocess

import numpy as np
import soundfile
import soxr
import tensorflow_datasets as tfds

from jaxspoof import audio
from tfds_builders import croissant, records
from tfds_builders.demo_pages import facts
from tfds_builders.errors import BuildError, Problems

MISSING = 'missing.txt'  # beside the records: what no clone holds
OTHER = 'other_samples.txt'  # beside the records: decoded to other samples
LONGEST = 6  # seconds that are kept of a clip
_DECODED = 12  # seconds of a source that are resampled, as for the facts
_TITLE = 'Human and machine-made speech from demo pages of public repositories.'


class DemoPagesConfig(tfds.core.BuilderConfig):
  """Which clips are taken."""


class DemoPages(records.RecordBuilder):
  """Speech on demo pages of text-to-speech, conversion, vocoders and codecs."""

  VERSION = tfds.core.Version('1.0.0')
  RELEASE_NOTES = {'1.0.0': 'First version.'}
  BUILD_OPTIONS = ('--manual_dir=DIR',)
  BUILDER_CONFIGS = [
    DemoPagesConfig(
      name='open', description='Repositories under an open licence.'
    ),
    DemoPagesConfig(name='all', description='All; for research alone.'),
    DemoPagesConfig(
      name='open_folds',
      description='open; train and dev in six folds of pages.',
    ),
    DemoPagesConfig(
      name='all_folds', description='all; train and dev in six folds of pages.'
    ),
  ]

  def _info(self) -> tfds.core.DatasetInfo:
    return self.dataset_info_from_configs(
      description=_TITLE,
      features=records.features(
        'family', 'language', 'repository', 'licence', 'group', 'year'
      ),
      license='That of each repository, in the field `licence`.',
    )

  def _shard_iterators_per_split(self, dl_manager):
    folder = self.inputs.manual_dir
    if folder is None:
      raise BuildError(
        'demo_pages needs clones of the repositories that its README lists, '
        'each in DIR/OWNER+NAME: say --manual_dir=DIR'
      )
    licence, _, folds = self.builder_config.name.partition('_')
    rows = list(facts.read(only_open=licence == 'open'))
    if folds:
      fold = facts.folds()
      rows = [
        {**row, 'split': fold.get(row['repository'], row['split'])}
        for row in rows
      ]
    clones = {row['repository']: None for row in rows}
    clones = {name: _clone(folder, name) for name in clones}
    if not any(clones.values()):
      some = ', '.join(name.replace('/', '+') for name in list(clones)[:3])
      raise BuildError(
        f'{folder}: none of the {len(clones)} repositories is there; expected '
        f'clones in folders OWNER+NAME ({some}, ...)'
      )
    counts = collections.Counter(row['repository'] for row in rows)
    self._missing = [
      f'{name}: not in {folder} ({counts[name]} clips)'
      for name, clone in clones.items()
      if clone is None
    ]
    self._other, splits = [], {}
    for place, row in enumerate(rows):
      if clones[row['repository']] is not None:
        splits.setdefault(row['split'], []).append(_trial(row, place))
    self._by_name = {row['utterance']: row for row in rows}
    read = functools.partial(self._read, clones)
    return self.shards(splits, read, folder)

  def _read(self, clones, trial: records.Trial) -> tuple[bytes, float]:
    """Returns a clip as 16-bit FLAC at 16 kHz; errors if it is not there."""
    row = self._by_name[trial.utterance]
    where = f'{row["repository"]}: {row["path"]}'
    data = _blob(clones[row['repository']], row['blob'], where)
    try:
      samples = _decode(data)
    except soundfile.LibsndfileError as error:
      raise BuildError(f'{where}: {error}') from error
    described = round(float(row['seconds']) * audio.SAMPLE_RATE)
    found = hashlib.sha1(samples[:described].tobytes()).hexdigest()
    if found != row['sha1']:
      self._other.append(f'{trial.utterance}: {where}')
    kept = samples[: LONGEST * audio.SAMPLE_RATE]
    file = io.BytesIO()
    soundfile.write(
      file, kept, audio.SAMPLE_RATE, format='FLAC', subtype='PCM_16'
    )
    return file.getvalue(), len(kept) / audio.SAMPLE_RATE

  def _finish(self, problems: Problems) -> None:
    """Lists what is missing; a corpus without it is another corpus."""
    lines = [*self._missing, *problems]
    if not any(tally.attacks for tally in self.tally.values()):
      problems.raise_if_any()
    if lines:
      why = (
        'repositories and clips are missing: results are not those of the '
        'whole corpus'
      )
      self.list_left_out(MISSING, lines, why)
    if self._other:
      why = 'clips were decoded to other samples than when they were described'
      lines = sorted(self._other)
      pathlib.Path(self.data_dir, OTHER).write_text('\n'.join(lines) + '\n')
      print(f'note: {len(lines):,} {why}; they are listed in {OTHER}')

  def _download_and_prepare(self, dl_manager, download_config=None) -> None:
    super()._download_and_prepare(dl_manager, download_config)
    licence = self.info.redistribution_info.license
    croissant.write(self.info, _TITLE, licence, pathlib.Path(self.data_dir))


def _trial(row: dict[str, str], position: int) -> records.Trial:
  """Of few clips it is known who speaks: clips of a page share voices."""
  return records.Trial(
    row['utterance'],
    records.word(row['repository']),
    records.word(row['attack']),
    row['blob'],
    round(32_000 * LONGEST / 2),  # bytes at most, as FLAC
    position,
    {
      'family': row['family'],
      'language': row['language'],
      'repository': row['repository'],
      'licence': row['licence'],
      'group': row['pair'],
      'year': row['page_year'],
    },
  )


def _clone(folder: pathlib.Path, name: str) -> pathlib.Path | None:
  """Returns the git directory of a repository; None where there is none."""
  for path in (folder / name.replace('/', '+'), folder / name):
    for git in (path / '.git', path):
      if (git / 'HEAD').is_file():
        return git
  return None


def _blob(git: pathlib.Path, name: str, where: str) -> bytes:
  """Returns the content of a file by its name in git, a hash of it."""
  command = ['git', f'--git-dir={git}', 'cat-file', 'blob', name]
  try:
    done = subprocess.run(command, capture_output=True, timeout=600)
  except FileNotFoundError:
    raise BuildError('git was not found: it reads the clones') from None
  if done.returncode:
    raise BuildError(f'{where}: not in {git} (expected git blob {name})')
  return done.stdout


def _decode(data: bytes) -> np.ndarray:
  """Returns int16 samples at 16 kHz, channels averaged, the level untouched."""
  wave, rate = soundfile.read(io.BytesIO(data), always_2d=True)
  wave = wave.mean(1)[: _DECODED * rate]
  if rate != audio.SAMPLE_RATE:
    wave = soxr.resample(wave, rate, audio.SAMPLE_RATE, quality='HQ')
  return np.clip(np.round(wave * 32768), -32768, 32767).astype(np.int16)
