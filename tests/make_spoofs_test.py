"""A training corpus of one's own recordings and spoofs of them."""

import csv
import sys
import types

import numpy as np
import pytest
import soundfile

from jaxspoof import audio
from tfds_builders import build
from tfds_builders.errors import BuildError
from tfds_builders.make_spoofs import neural, spoofs
from tfds_builders.quickstart import pack


@pytest.fixture(scope='module')
def recordings(tmp_path_factory):
  """A table of four recordings, one of them long, and of one spoof."""
  folder = tmp_path_factory.mktemp('own')
  entries = pack.manifest()[:4]
  waves = [pack.wave(entry) for entry in entries]
  waves[1] = np.tile(waves[1], 3)
  rows = []
  for i, wave in enumerate([*waves, waves[0]]):
    soundfile.write(folder / f'{i}.wav', wave, 16_000)
    label = 'spoof' if i == 4 else 'bonafide'
    rows.append((f'{i}.wav', f'calls/{i}', label, f's{i % 2}', 'train'))
  table = folder / 'mine.csv'
  with table.open('w', newline='') as file:
    head = ('path', 'utterance', 'label', 'speaker', 'split')
    csv.writer(file).writerows([head, *rows])
  return table


@pytest.fixture(scope='module')
def paired(recordings, tmp_path_factory):
  """What the command makes of them: its folder and the rows of its table."""
  out = tmp_path_factory.mktemp('paired')
  argv = ['--manifest', str(recordings), '--out', str(out)]
  argv += ['--methods=A01,A03,A16', '--per_clip=2', '--workers=1']
  assert spoofs.main(argv) == 0
  with (out / 'manifest.csv').open() as file:
    return out, list(csv.DictReader(file))


def test_each_recording_has_its_spoofs(paired):
  out, rows = paired
  assert len(rows) == 12 and len({row['utterance'] for row in rows}) == 12
  for i in range(4):
    own = [r for r in rows if r['utterance'].startswith(f'calls/{i}')]
    assert [r['label'] for r in own] == ['bonafide', 'spoof', 'spoof']
    assert own[0]['attack'] == '' and own[1]['attack'] != own[2]['attack']
    assert {r['attack'] for r in own[1:]} < {'A01', 'A03', 'A16'}
    assert {(r['speaker'], r['split']) for r in own} == {(f's{i % 2}', 'train')}
    waves = [
      audio.read((out / row['path']).read_bytes(), row['path']).wave
      for row in own
    ]
    assert len({len(wave) for wave in waves}) == 1 and len(waves[0]) <= 64_000
    levels = [20 * np.log10(np.sqrt(np.mean(w**2))) for w in waves]
    assert np.ptp(levels) < 2.5, 'the pair shares its level'
    alike = np.corrcoef(waves)[0, 1:]
    assert (np.abs(alike) < 0.999).all(), 'a spoof is not the recording'


def test_it_goes_on_where_it_was_stopped(paired, recordings):
  out, rows = paired
  files = sorted((out / 'audio').iterdir())
  before = {
    path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files
  }
  gone, kept = files[0], files[1:]
  gone.unlink()
  (out / 'manifest.csv').unlink()
  spoofs.make(recordings, out, ('A01', 'A03', 'A16'), 2, 1)
  assert gone.read_bytes() == before[gone][0]
  assert all(path.stat().st_mtime_ns == before[path][1] for path in kept)
  with (out / 'manifest.csv').open() as file:
    assert list(csv.DictReader(file)) == rows


def test_the_table_builds(paired, tmp_path):
  made = build.build(
    'wav_folder/paired', tmp_path, manifest=paired[0] / 'manifest.csv'
  )
  assert made.info.splits['train'].num_examples == 12


def test_the_clips_of_a_corpus(paired, tmp_path, capsys):
  folder, rows = paired
  build.build('wav_folder/paired', tmp_path, manifest=folder / 'manifest.csv')
  argv = ['--corpus=wav_folder/paired', f'--data_dir={tmp_path}']
  argv += [f'--out={tmp_path / "out"}', '--methods=A16', '--per_clip=1']
  assert spoofs.main([*argv, '--splits=train,dev']) == 1
  assert "has no split 'dev'; it has train" in capsys.readouterr().err
  assert spoofs.main([*argv, '--splits=train', '--workers=1']) == 0
  with (tmp_path / 'out' / 'manifest.csv').open() as file:
    found = list(csv.DictReader(file))
  genuine = [row['utterance'] for row in rows if row['label'] == 'bonafide']
  assert sorted(r['utterance'] for r in found if not r['attack']) == genuine
  assert [r['attack'] for r in found].count('A16') == 4
  assert spoofs.main(['--corpus=quickstart/tiny', *argv[1:]]) == 1
  assert 'is not built' in capsys.readouterr().err


@pytest.mark.parametrize(
  ('methods', 'per_clip', 'said'),
  [
    (('A99',), 1, "--methods: 'A99' is unknown; expected some of A01, "),
    (('A06',), 1, "--methods: 'A06' is unknown"),  # it needs words
    (('A01',), 2, '--per_clip=2: expected 1 to 1'),
    (('A01',), 0, '--per_clip=0: expected 1 to 1'),
  ],
)
def test_what_cannot_be_made_is_said(
  recordings, tmp_path, methods, per_clip, said
):
  with pytest.raises(BuildError, match=said):
    spoofs.make(recordings, tmp_path, methods, per_clip)
  assert not list(tmp_path.iterdir())


def test_recordings_that_cannot_be_used_are_all_named(tmp_path, capsys):
  noise = 0.1 * np.random.default_rng(0).standard_normal(8_000)
  waves = {'short': noise, 'silent': np.zeros(32_000)}
  for name, wave in waves.items():
    soundfile.write(tmp_path / f'{name}.wav', wave, 16_000)
  (tmp_path / 'text.wav').write_text('no sound')
  table = tmp_path / 'mine.csv'
  names = ''.join(f'{n}.wav,real\n' for n in (*waves, 'text'))
  table.write_text('path,label\n' + names)
  argv = ['--manifest', str(table), '--out', str(tmp_path / 'out')]
  assert spoofs.main([*argv, '--workers=1']) == 1
  error = capsys.readouterr().err
  assert 'row 2' in error and '0.50 s, expected at least 1 s' in error
  assert 'row 3' in error and 'holds no sound' in error
  assert 'row 4' in error and 'text.wav' in error
  assert not (tmp_path / 'out' / 'manifest.csv').exists()
  table.write_text('path,label\nshort.wav,fake\n')
  assert spoofs.main(argv) == 1
  assert 'no row is labelled bona fide' in capsys.readouterr().err


@pytest.mark.parametrize('name', neural.METHODS)
def test_a_network_that_is_not_the_known_one(monkeypatch, tmp_path, name):
  method = neural.METHODS[name]
  for module in (*method.needs, method.file[0]):
    monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(BuildError, match='make-spoofs'):
    method.find()
  module = method.file[0]
  file = tmp_path / method.file[1]
  file.parent.mkdir(parents=True)
  file.write_bytes(b'another network')
  for needed in (*method.needs, module):
    stand_in = types.ModuleType(needed)
    stand_in.__spec__ = types.SimpleNamespace(
      submodule_search_locations=[str(tmp_path)]
    )
    monkeypatch.setitem(sys.modules, needed, stand_in)
  with pytest.raises(BuildError, match='not the file that is known'):
    method.find()


@pytest.mark.parametrize('name', neural.METHODS)
def test_a_network_speaks(name):
  method = neural.METHODS[name]
  for module in (*method.needs, method.file[0]):
    pytest.importorskip(module.split('.')[0])
  wave = pack.wave(pack.manifest()[0])
  made = method.make(wave, 'Please hold the line.', np.random.default_rng(0))
  assert made.dtype == np.float64 and len(made) > 8_000
  assert np.sqrt(np.mean(made**2)) > 0.005 and np.abs(made).max() <= 1.5
  if not method.speaks:
    assert len(made) == len(wave)
