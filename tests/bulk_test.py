"""Scoring of archives: every recording once, whatever is killed."""

import collections
import io
import os
import pathlib
import signal
import sys
import tarfile

import pyarrow as pa
import pytest
import soundfile
from pyarrow import parquet

from benchmarks import bulk as benchmark
from jaxspoof.bulk import __main__ as bulk
from jaxspoof.bulk import plan, watch, worker
from jaxspoof.detector import Detector
from tests import processes, small_detectors

pytestmark = pytest.mark.usefixtures('programs')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  return small_detectors.write(tmp_path_factory.mktemp('runs') / 'small')


@pytest.fixture(scope='module')
def detector(run):
  return Detector.load(run)


@pytest.fixture(autouse=True)
def once(monkeypatch, detector):
  """Compiled once for all tests, and never into the user's folder."""
  monkeypatch.setattr('jaxspoof.machine.programs.keep', lambda: None)
  monkeypatch.setattr(worker.Detector, 'load', lambda *_, **__: detector)


def encoded(seed):
  """A FLAC of half a second."""
  buffer = io.BytesIO()
  soundfile.write(
    buffer, small_detectors.wave(seed), small_detectors.RATE, format='FLAC'
  )
  return buffer.getvalue()


def rows(out):
  return list(benchmark.rows_of(out))


def score(*arguments, out, status=0):
  """The rows that the command leaves, scored in this process."""
  given = [*map(str, arguments), '--out', str(out), '--workers', '0']
  assert bulk.main(given) == status
  return rows(out)


@pytest.fixture
def archive(tmp_path):
  """A folder with recordings in all the ways in which they come."""
  made = tmp_path / 'archive'
  (made / 'deep' / 'er').mkdir(parents=True)
  for seed in range(5):
    (made / 'deep' / f'{seed}.flac').write_bytes(encoded(seed))
  (made / 'deep/er/a, "b"\n.wav').write_bytes(b'RIFFxxxx')
  (made / 'notes.txt').write_text('no recording')
  with tarfile.open(made / 'some.tar.gz', 'w:gz') as file:
    for name in ('x/5.flac', 'x/5.flac', 'x/5.json', 'x/._5.flac', '6.flac'):
      data = encoded(int(name.strip('x/._')[0]))
      member = tarfile.TarInfo(name)
      member.size = len(data)
      file.addfile(member, io.BytesIO(data))
  audio = [{'bytes': encoded(n), 'path': f'{n}.flac'} for n in (7, 8, 9)]
  audio.append({'bytes': None, 'path': 'none.flac'})
  parquet.write_table(
    pa.table({'audio': audio, 'label': list('abcd')}),
    made / 'some.parquet',
    row_group_size=3,
  )
  return made


def test_every_recording_of_every_kind_of_input(archive, tmp_path, capsys):
  found = score('--input', archive, '--shard', 2, out=tmp_path / 'o', status=1)
  by_name = {row['path'].removeprefix(f'{archive}/'): row for row in found}
  assert len(by_name) == len(found) == 13
  same = Detector.load(None)
  for name, seed in {
    **{f'deep/{n}.flac': n for n in range(5)},
    'some.tar.gz:x/5.flac': 5,
    'some.tar.gz:x/5.flac (2)': 5,
    'some.tar.gz:6.flac': 6,
    **{f'some.parquet:0:{n}:{7 + n}.flac': 7 + n for n in range(3)},
  }.items():
    row, alone = by_name.pop(name), same.score(encoded(seed))
    assert float(row['score']) == pytest.approx(alone.score, abs=1e-5)
    assert row['verdict'] == alone.verdict and float(row['scored']) == 0.5
  assert {name: row['error'] for name, row in by_name.items()} == {
    'deep/er/a, "b"\n.wav': f'{archive}/deep/er/a, "b"\n.wav: damaged WAV (no '
    'samples in it)',
    'some.parquet:1:0:none.flac': f'{archive}/some.parquet:1:0:none.flac: no '
    'audio in its row',
  }
  said = capsys.readouterr().out
  assert 'archive: 1 files that are no audio are left out' in said
  assert '13 recordings in 6 of 6 shards, 2 of them cannot be scored' in said
  assert '2 members of tar files are no recordings' in said
  assert 'this time 13 recordings' in said


def test_tables_lists_and_what_is_named_twice(archive, tmp_path, capsys):
  table = archive / 'table.csv'
  table.write_text('File,label\ndeep/0.flac,real\ndeep/1.flac,x\ngone.wav,y\n')
  given = [table, archive / 'deep/1.flac', archive / 'deep/[12].flac']
  found = score('--input', *given, out=tmp_path / 'o', status=1)
  assert [pathlib.Path(row['path']).name for row in found] == [
    '0.flac', '1.flac', '2.flac', 'gone.wav'
  ]  # fmt: skip
  assert 'gone.wav' in found[-1]['error']
  assert '2 names came more than once' in capsys.readouterr().out


def test_a_cut_tar_gets_a_row_that_says_so(archive, tmp_path):
  path = archive / 'some.tar.gz'
  whole = path.read_bytes()
  path.write_bytes(whole[: 2 * len(whole) // 3])
  found = score('--input', path, out=tmp_path / 'o', status=1)
  assert [row['path'] for row in found] == [
    f'{path}:x/5.flac', f'{path}:x/5.flac (2)', str(path)
  ]  # fmt: skip
  assert 'damaged or cut behind' in found[-1]['error']


def test_only_what_is_missing_is_scored_again(archive, tmp_path, monkeypatch):
  out = tmp_path / 'o'
  asked = ('--input', archive / 'deep', '--shard', 2)
  before = score(*asked, out=out, status=1)
  left = benchmark.kept(out)
  missing = plan.scores_of(out, 1)
  missing.rename(missing.with_name(f'{missing.name}.1.partial'))  # killed then
  assert plan.done(out) == {0, 2}
  assert score(*asked, out=out, status=1) == before
  now = benchmark.kept(out)
  assert [name for name in now if now[name] != left[name]] == ['00001.csv']
  assert not list(out.rglob('*.partial'))
  # What is finished needs no detector.
  monkeypatch.setattr(worker.Detector, 'load', None)
  assert score(*asked, out=out, status=1) == before


@pytest.mark.parametrize(
  ('given', 'message'),
  [
    (['--input', 'gone.wav'], 'gone.wav: there is no such file'),
    (['--input', '*.mp3'], r'\*.mp3: no file has such a name'),
    (['--input', 'empty'], 'empty: no recordings, tar or parquet files'),
    (['--input', '-'], '-: expected names, not a recording'),
    (['--input', 'cut.parquet'], 'cut.parquet: no whole parquet file'),
    (['--input', 'no.csv'], 'no.csv: no column `path` in a, b'),
    (['--input', 'one.flac', '--prior', '0.1'], r"settings is .*'prior': None"),
    (['--input', 'one.flac', '--checkpoint', 'no.zip'], 'no.zip: there is no'),
    (['--input', 'one.flac', '--shard', '7'], 'size is 1000, but 7 was asked'),
    (['--input', 'one.flac', '--out', 'full'], 'full: holds other files'),
    (['--input', 'one.flac', '--out', 'other'], 'of another detector'),
  ],
)
def test_refusals_say_what_is_expected(
  given, message, tmp_path, monkeypatch, capsys
):
  monkeypatch.chdir(tmp_path)
  for name in ('empty', 'full', 'new'):
    pathlib.Path(name).mkdir()
  pathlib.Path('one.flac').write_bytes(encoded(0))
  pathlib.Path('full/thesis.txt').touch()
  pathlib.Path('cut.parquet').write_bytes(b'PAR1')
  pathlib.Path('no.csv').write_text('a,b\n1,2\n')
  plan.claim(pathlib.Path('begun'), ['one.flac'], 1000, _settings())
  plan.claim(pathlib.Path('other'), ['one.flac'], 1000, _settings())
  worker.claim(pathlib.Path('other'), 'another')
  out = 'new' if 'one.flac' not in given else 'begun'
  if '--out' not in given:
    given = [*given, '--out', out]
  assert bulk.main([*given, '--workers', '0']) == 2
  with pytest.raises(AssertionError, match=message):
    raise AssertionError(capsys.readouterr().err)


def _settings():
  return dict.fromkeys(bulk.SETTINGS)


def test_gpus_are_divided_among_processes(monkeypatch):
  monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
  found = [watch._environment(n, 4, 2) for n in range(4)]
  assert [e['CUDA_VISIBLE_DEVICES'] for e in found] == ['0', '1', '0', '1']
  assert {e['XLA_PYTHON_CLIENT_MEM_FRACTION'] for e in found} == {'0.45'}
  assert 'CUDA_VISIBLE_DEVICES' not in watch._environment(0, 4, 0)


def test_a_process_that_is_killed_costs_no_clip(
  run, tmp_path, environment, monkeypatch
):
  """One of two; then all of them, and the rest is scored in this process."""
  clips, out = tmp_path / 'clips', tmp_path / 'scored'
  made = benchmark.write(clips, 400, 0.5)
  asked = ['--input', str(clips), '--out', str(out), '--shard', '10']
  asked += ['--checkpoint', str(run)]
  command = processes.start(
    [sys.executable, '-m', 'jaxspoof.bulk', *asked, '--workers', '2'],
    environment,
  )
  try:
    benchmark.wait(command, out, 3)
    one = benchmark.children(command.pid)[-1]
    os.kill(one, signal.SIGKILL)
    said = next((x for x in command.stdout if 'was killed' in x), '')
    assert said == 'a process was killed (SIGKILL); another one starts\n'
  finally:
    os.killpg(command.pid, signal.SIGKILL)
    command.communicate()
  before = benchmark.kept(out)
  assert len(before) < 40, 'nothing was left to do: take more clips'
  assert bulk.main([*asked, '--workers', '0']) == 0
  counts = collections.Counter(row['path'] for row in rows(out))
  assert counts == collections.Counter(made)
  after = benchmark.kept(out)
  assert {name: after[name] for name in before} == before
