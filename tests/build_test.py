import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from jaxspoof.machine import progress
from tfds_builders import build, flac
from tfds_builders.quickstart import conditioning, render

_ROOT = pathlib.Path(__file__).resolve().parents[1]


def fake_render(tasks, workers=None):
  """Noise instead of speech: what is tested here does not depend on it."""
  rng = np.random.default_rng(0)
  for task in tasks:
    audio = conditioning.flac(rng.integers(-999, 999, 32_000).astype(np.int16))
    yield [
      render.Trial(split, f'{task.entry.utterance}{attack}', 'x', attack, audio)
      for split, attacks in task.attacks
      for attack in attacks
    ]


@pytest.fixture
def quick(monkeypatch):
  monkeypatch.setattr(render, 'render', fake_render)


def test_unknown_corpus_lists_the_known_ones(tmp_path):
  with pytest.raises(
    build.BuildError, match="'quikstart'; known are: .*quicks"
  ):
    build.build('quikstart', tmp_path)


def test_unknown_config_lists_the_known_ones(tmp_path):
  with pytest.raises(build.BuildError, match="'tny'; known are: full, tiny"):
    build.build('quickstart/tny', tmp_path)


def test_command_line_reports_errors_without_traceback(tmp_path, capsys):
  assert build.main(['nothing', f'--data_dir={tmp_path}']) == 1
  assert capsys.readouterr().err.startswith('error: no corpus is called')


def test_builds_once_and_says_so(tmp_path, capsys, quick):
  assert build.main(['quickstart/tiny', f'--data_dir={tmp_path}']) == 0
  first = capsys.readouterr().out
  assert 'clips spoofed: 18 of 18' in first
  assert 'built in' in first
  made = build.build('quickstart/tiny', tmp_path)
  assert 'is built already' in capsys.readouterr().out
  assert made.is_prepared()


def test_summary_counts_what_is_there(tmp_path, quick):
  made = build.build('quickstart/tiny', tmp_path)
  lines = build.summary(made).splitlines()
  assert [line.split()[0] for line in lines[1:]] == [
    'train', 'dev', 'eval', 'eval_hard'
  ]  # fmt: skip
  for line in lines[1:]:
    split, trials, bona_fide, minutes, speakers, *attacks = line.split()
    counts = dict(item.split(':') for item in attacks)
    records = list(made.as_data_source(split=split))
    assert len(records) == int(trials)
    assert int(bona_fide) == sum(r['label'] for r in records)
    assert sum(map(int, counts.values())) == int(trials) - int(bona_fide)
    assert float(minutes) == pytest.approx(int(trials) * 2 / 60, abs=0.06)
    assert int(speakers) == 1


def test_summary_finds_a_damaged_record(tmp_path, monkeypatch):
  def damaged(tasks, workers=None):
    for trials in fake_render(tasks):
      broken = bytearray(trials[0].audio)
      broken[-200] ^= 0xFF
      trial = trials[0]
      yield [
        render.Trial(
          trial.split, trial.utterance, 'x', trial.attack, bytes(broken)
        ),
        *trials[1:],
      ]

  monkeypatch.setattr(render, 'render', damaged)
  with pytest.raises(ValueError, match='FLAC'):
    build.build('quickstart/tiny', tmp_path)


def test_failure_while_making_leaves_nothing(tmp_path, monkeypatch):
  def failing(tasks, workers=None):
    yield from fake_render(tasks[:3])
    raise OSError(28, 'No space left on device')

  monkeypatch.setattr(render, 'render', failing)
  with pytest.raises(build.BuildError, match='No space left.*--data_dir'):
    build.build('quickstart/tiny', tmp_path)
  assert not list(tmp_path.rglob('*array_record*'))
  assert not build.builder('quickstart/tiny', tmp_path).is_prepared()


def test_two_processes_may_build_at_once(tmp_path, monkeypatch, capsys):
  def overtaken(tasks, workers=None):
    monkeypatch.setattr(render, 'render', fake_render)
    build.build('quickstart/tiny', tmp_path)
    yield from fake_render(tasks)

  monkeypatch.setattr(render, 'render', overtaken)
  made = build.build('quickstart/tiny', tmp_path)
  assert made.is_prepared()
  assert 'another process has built' in capsys.readouterr().out
  assert not list(tmp_path.rglob('incomplete*'))


def test_other_errors_are_not_taken_for_a_full_disk(tmp_path, monkeypatch):
  def failing(tasks, workers=None):
    yield from fake_render(tasks[:1])
    raise RuntimeError('eSpeak NG: voice xx: error 2')

  monkeypatch.setattr(render, 'render', failing)
  with pytest.raises(RuntimeError, match='eSpeak'):
    build.build('quickstart/tiny', tmp_path)


def test_too_small_disk_is_found_before_the_work(tmp_path, monkeypatch):
  monkeypatch.setattr(
    build.shutil,
    'disk_usage',
    lambda _: build.shutil._ntuple_diskusage(9, 9, 0),
  )
  with pytest.raises(
    build.BuildError, match='0 MB are free, 250 MB are needed'
  ):
    build.build('quickstart', tmp_path)


@pytest.mark.skipif(os.name != 'posix', reason='needs resource limits')
def test_full_disk_while_writing_leaves_nothing(tmp_path):
  # A limit on the size of files fails like a full disk: within the C++ writer.
  code = f"""
import resource, sys
sys.path[:0] = [{str(_ROOT / 'tests')!r}, {str(_ROOT)!r}]
import build_test
build_test.render.render = build_test.fake_render
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
sys.exit(build_test.build.main(['quickstart/tiny', sys.argv[1]]))
"""
  result = subprocess.run(
    [sys.executable, '-c', code, f'--data_dir={tmp_path}'],
    capture_output=True, text=True, cwd=_ROOT,
  )  # fmt: skip
  assert result.returncode == 1, result.stderr
  assert 'error: quickstart/tiny/1.0.0 could not be written' in result.stderr
  assert not list(tmp_path.rglob('*array_record*'))


def test_data_dir_that_is_a_file(tmp_path, quick):
  file = tmp_path / 'file'
  file.touch()
  with pytest.raises(build.BuildError, match='could not be written'):
    build.build('quickstart/tiny', file)


def test_records_need_no_code_to_be_read(tmp_path, quick):
  # Plain features: features.json names TFDS classes only.
  made = build.build('quickstart/tiny', tmp_path)
  features = pathlib.Path(made.data_dir, 'features.json').read_text()
  assert 'tfds_builders' not in features
  names = json.loads(features)['featuresDict']['features'].keys()
  assert set(names) == {'audio', 'label', 'utterance', 'speaker', 'attack'}


def test_flac_header_and_checksum():
  pcm = (1000 * np.sin(np.arange(8000))).astype(np.int16)
  data = conditioning.flac(pcm)
  info = flac.verify(data, 'a')
  assert (info.rate, info.channels, info.bits, info.samples) == (
    16_000, 1, 16, 8000
  )  # fmt: skip
  wrong = data[:26] + bytes(15) + b'1' + data[42:]
  with pytest.raises(ValueError, match='clip.flac: the decoded samples differ'):
    flac.verify(wrong, 'clip.flac')
  with pytest.raises(ValueError, match='clip.flac: expected a FLAC file'):
    flac.verify(b'RIFF' + data[4:], 'clip.flac')
  with pytest.raises(ValueError, match='expected 16 bits and an MD5'):
    flac.verify(data[:26] + bytes(16) + data[42:], 'clip.flac')


def test_progress_prints_lines_in_a_log(monkeypatch, capsys):
  now = [0.0]
  monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
  bar = progress.Progress('clips', 100, every=10)
  now[0] = 30.0  # a slow start
  for _ in range(100):
    now[0] += 1
    bar.step()
  assert capsys.readouterr().out.splitlines() == [
    'clips: 1 of 100',
    *(f'clips: {n} of 100, {100 - n} s left' for n in range(11, 100, 10)),
    'clips: 100 of 100, 130 s',
  ]


def test_progress_rewrites_one_line_on_a_terminal():
  class Terminal(io.StringIO):
    def isatty(self):
      return True

  out = Terminal()
  bar = progress.Progress('clips', 2, out=out)
  bar.step()
  bar.step()
  text = out.getvalue()
  assert text.count('\n') == 1 and text.endswith('\n')
  assert text.startswith('\rclips:')
