"""Speech of demo pages, built from clones of repositories."""

import collections
import csv
import gzip
import hashlib
import io
import pathlib
import subprocess

import numpy as np
import pytest
import soundfile

from jaxspoof import audio
from jaxspoof.data import pipeline
from tests.miniatures import clip
from tfds_builders import build
from tfds_builders.demo_pages import facts, repositories


def git(folder, *arguments):
  who = ['-c', 'user.name=x', '-c', 'user.email=x@x']
  command = ['git', '-C', str(folder), *who, *arguments]
  done = subprocess.run(command, check=True, capture_output=True, text=True)
  return done.stdout.strip()


@pytest.fixture(scope='module')
def pages(tmp_path_factory):
  """Two clones, one of them bare, and the facts about their files.

  The table names a third repository, which nobody has, and a file that was
  never in the first.
  """
  folder = tmp_path_factory.mktemp('clones')
  rows = []

  def add(name, path, blob, label, split, is_open, data):
    wave = audio.load(data)[:800] if data else np.zeros(1)
    pcm = np.round(wave * 32768).astype(np.int16)
    rows.append(
      dict(
        utterance=f'D{len(rows)}', split=split, label=label,
        attack='-' if label == 'bonafide' else 'some tts',
        family='human' if label == 'bonafide' else 'tts', language='en',
        repository=name, page_year='2024', licence='MIT' if is_open else '',
        open=str(int(is_open)), pair='7', path=path, blob=blob,
        seconds='0.050000', sha1=hashlib.sha1(pcm.tobytes()).hexdigest(),
      )
    )  # fmt: skip

  for number, name in enumerate(('a/speech', 'b/tts-demo')):
    work = folder / name.replace('/', '+')
    work.mkdir()
    git(work, 'init', '-q')
    for k, label in enumerate(('bonafide', 'spoof', 'spoof')):
      data = clip(10 * number + k, 16_000 * (1 + 6 * k), kind='WAV')
      (work / f'{k}.wav').write_bytes(data)
      blob = git(work, 'hash-object', '-w', f'{k}.wav')
      split = ('train', 'train', 'dev')[k]
      add(name, f'{k}.wav', blob, label, split, number == 0, data)
    git(work, 'add', '.')
    git(work, 'commit', '-qm', 'x')
  git(folder, 'clone', '-q', '--bare', 'b+tts-demo', 'bare')
  (folder / 'b+tts-demo').rename(folder / 'away')
  (folder / 'bare').rename(folder / 'b+tts-demo')
  add('a/speech', 'gone.wav', 'f' * 40, 'spoof', 'train', True, None)
  add('c/nowhere', 'x.wav', 'f' * 40, 'spoof', 'train', True, None)
  return folder, rows


def write_facts(path, rows):
  text = io.StringIO(newline='')
  writer = csv.DictWriter(text, list(rows[0]))
  writer.writeheader()
  writer.writerows(rows)
  path.write_bytes(gzip.compress(text.getvalue().encode()))


@pytest.fixture
def known(pages, tmp_path, monkeypatch):
  folder, rows = pages
  write_facts(tmp_path / 'clips.csv.gz', rows)
  monkeypatch.setattr(facts, 'FILE', tmp_path / 'clips.csv.gz')
  return folder, rows


def test_clips_are_taken_from_clones(known, tmp_path, capsys):
  folder, _ = known
  made = build.build('demo_pages/all', tmp_path, folder)
  source = pipeline.open_source('demo_pages/all', 'train', tmp_path)
  trials = pipeline.trials(source)
  order = np.argsort(trials.utterance)
  assert trials.utterance[order].tolist() == ['D0', 'D1', 'D3', 'D4']
  assert trials.attack[order].tolist() == ['-', 'some_tts'] * 2
  assert trials.label[order].tolist() == [1, 0] * 2
  assert set(trials.speaker) == {'a/speech', 'b/tts-demo'}
  record = source.records[int(order[1])]
  assert record['licence'] == b'MIT' and record['group'] == b'7'
  wave, rate = soundfile.read(io.BytesIO(record['audio']), dtype='int16')
  expected = audio.load(clip(1, 16_000 * 7, kind='WAV'))[: 6 * 16_000]
  assert rate == 16_000
  np.testing.assert_array_equal(wave, np.round(expected * 32768))
  assert made.info.splits['dev'].num_examples == 2
  missing = pathlib.Path(made.data_dir, 'missing.txt').read_text().splitlines()
  assert missing[0] == f'c/nowhere: not in {folder} (1 clips)'
  assert missing[1].startswith('a/speech: gone.wav: not in ')
  said = capsys.readouterr().out
  assert 'warning: 2 repositories and clips are missing' in said
  assert 'other samples' not in said


def test_only_open_licences_unless_all_are_asked_for(known, tmp_path):
  folder, _ = known
  build.build('demo_pages', tmp_path, folder)
  source = pipeline.open_source('demo_pages/open', 'train', tmp_path)
  assert set(pipeline.trials(source).speaker) == {'a/speech'}


def test_folds_are_of_pages(known, tmp_path):
  folder, rows = known
  build.build('demo_pages/open_folds', tmp_path, folder)
  # One page: a/speech, with both classes, the first to be dealt.
  found = facts.folds()
  assert found == {
    'a/speech': 'fold1',
    'b/tts-demo': 'fold2',
    'c/nowhere': 'fold1',
  }
  source = pipeline.open_source('demo_pages/open_folds', 'fold1', tmp_path)
  assert set(pipeline.trials(source).utterance) == {'D0', 'D1', 'D2'}
  assert {row['split'] for row in rows} == {'train', 'dev'}


def test_folds_are_alike_in_size():
  found, rows = facts.folds(), list(facts.read(only_open=False))
  assert len(found) == 91
  clips = collections.Counter(
    (found[row['repository']], row['label'])
    for row in rows
    if row['split'] != 'test'
  )
  assert len(clips) == 2 * facts.FOLDS  # both classes in each
  assert not {row['repository'] for row in rows if row['split'] == 'test'} & {
    *found
  }
  sizes = [
    clips[f'fold{k}', 'bonafide'] + clips[f'fold{k}', 'spoof']
    for k in range(1, facts.FOLDS + 1)
  ]
  assert sum(sizes) == 3179 + 615 and max(sizes) < 2 * min(sizes)


def test_other_samples_than_described_are_told(known, tmp_path, capsys):
  folder, rows = known
  changed = [row | {'sha1': '0' * 40} for row in rows[:1]] + rows[1:3]
  write_facts(facts.FILE, changed)
  made = build.build('demo_pages', tmp_path, folder)
  listed = pathlib.Path(made.data_dir, 'other_samples.txt').read_text()
  assert listed == 'D0: a/speech: 0.wav\n'
  assert 'note: 1 clips were decoded to other' in capsys.readouterr().out


@pytest.mark.parametrize('given', [None, 'empty'])
def test_without_clones(tmp_path, given):
  folder = given and tmp_path / given
  wanted = 'clones' if given is None else r'none of the 72 repositories is the'
  with pytest.raises(build.BuildError, match=wanted):
    build.build('demo_pages', tmp_path / 'data', folder)


def test_the_facts_are_those_of_the_readme(repository, capsys):
  rows = list(facts.read(only_open=False))
  assert len({row['utterance'] for row in rows}) == len(rows) == 5081
  text = (repository / 'tfds_builders/demo_pages/README.md').read_text()
  repositories_of = collections.defaultdict(set)
  for split in ('train', 'dev', 'test'):
    here = [row for row in rows if row['split'] == split]
    made = [row for row in here if row['label'] == 'spoof']
    repositories_of[split] = {row['repository'] for row in here}
    cells = [
      f'{len(here):,}',
      f'{len(here) - len(made):,}',
      len({row['attack'] for row in made}),
      len(repositories_of[split]),
      f'{sum(row["open"] == "1" for row in here):,} clips',
    ]
    assert f'| {split} | {" | ".join(map(str, cells))} |' in text
    assert all((row['attack'] == '-') == (row not in made) for row in here)
  assert len(set.union(*repositories_of.values())) == 123
  assert sum(map(len, repositories_of.values())) == 123  # none in two splits
  repositories.main(['--all'])
  lines = capsys.readouterr().out.splitlines()
  assert len(lines) == 123 and '10\thubertsiuzdak/snac\tMIT' in lines
