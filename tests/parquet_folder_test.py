"""Corpora in parquet files with embedded audio, in the forms of public ones."""

import json
import pathlib

import pyarrow as pa
import pytest
from pyarrow import parquet

from jaxspoof.data import pipeline
from tests.corpora_test import assert_nothing_left
from tests.miniatures import clip, wav
from tfds_builders import build, records

ROWS = 7


def rows(start: int = 0) -> dict[str, list]:
  """As the arenas have them: 0 is bona fide, and JSON says the rest."""
  numbers = range(start, start + ROWS)
  return {
    'path': [f'LA_E_{n:07d}.flac' for n in numbers],
    'audio': [
      {'bytes': clip(n, 800 + 16 * n), 'path': f'LA_E_{n:07d}.flac'}
      for n in numbers
    ],
    'label': [int(n % 3 > 0) for n in numbers],
    'notes': [
      json.dumps(
        {'utterance_id': f'LA_E_{n:07d}', 'speaker_id': f'LA_{n % 2:04d}',
         'codec': 'opus', 'attack_id': f'A0{n % 3}' if n % 3 else 'bonafide'}
      )
      for n in numbers
    ],
  }  # fmt: skip


def write(path: pathlib.Path, columns: dict, names=('bonafide', 'spoof')):
  table = pa.table(columns)
  if names:
    features = {'label': {'names': list(names), '_type': 'ClassLabel'}}
    info = {'info': {'features': features}}
    table = table.replace_schema_metadata({'huggingface': json.dumps(info)})
  path.parent.mkdir(parents=True, exist_ok=True)
  parquet.write_table(table, path, row_group_size=3)


def built(tmp_path, name='parquet_folder/mine'):
  return build.build(name, tmp_path / 'data', tmp_path / 'in')


@pytest.mark.parametrize('paths', [
  ('data/test-00000-of-00002.parquet', 'data/test-00001-of-00002-0a1b.parquet'),
  ('default/test/0000.parquet', 'default/test/0001.parquet'),
])  # fmt: skip
def test_files_of_the_arenas(tmp_path, paths, capsys, monkeypatch):
  monkeypatch.setattr(records, 'SHARD_BYTES', 9_000)
  for number, path in enumerate(paths):
    write(tmp_path / 'in' / path, rows(ROWS * number))
  arguments = ['parquet_folder', '--name=mine']
  folders = [f'--data_dir={tmp_path / "data"}', f'--manual_dir={tmp_path}/in']
  assert build.main([*arguments, *folders]) == 0
  source = pipeline.open_source(
    'parquet_folder/mine', 'test', tmp_path / 'data'
  )
  trials = pipeline.trials(source)
  expected = [f'LA_E_{n:07d}' for n in range(2 * ROWS)]
  assert trials.utterance.tolist() == expected  # in the order of the files
  attacks = [('-', 'A01', 'A02')[n % 3] for n in range(2 * ROWS)]
  assert trials.attack.tolist() == attacks
  assert trials.label.tolist() == [int(a == '-') for a in attacks]
  assert trials.speaker.tolist() == [f'LA_{n % 2:04d}' for n in range(14)]
  for number, record in enumerate(source.records):
    assert record['audio'] == clip(number, 800 + 16 * number)
    assert json.loads(record['notes'])['codec'] == 'opus'
  said = capsys.readouterr().out
  assert "label 'bonafide' is taken as bona fide: 5 rows" in said
  assert "label 'spoof' is taken as spoof: 9 rows" in said


def test_labels_in_words_and_columns_of_their_own(tmp_path):
  audio = [{'bytes': wav(n), 'path': None} for n in range(3)]
  columns = {'audio': audio, 'key': ['Real', 'fake', 'spoof']}
  columns |= {'speaker': ['a b', 'c', 'd'], 'system_id': [None, 'xtts', None]}
  write(tmp_path / 'in' / 'train.parquet', columns, names=None)
  built(tmp_path)
  source = pipeline.open_source(
    'parquet_folder/mine', 'train', tmp_path / 'data'
  )
  trials = pipeline.trials(source)
  assert trials.label.tolist() == [1, 0, 0]
  assert trials.attack.tolist() == ['-', 'xtts', 'unknown']
  assert trials.speaker.tolist() == ['a_b', 'c', 'd']
  assert trials.utterance.tolist() == [f'train.parquet:{n}' for n in (1, 2, 3)]


def test_rows_that_cannot_be_decoded_are_listed(tmp_path, capsys, monkeypatch):
  columns = rows()
  columns['audio'][1]['bytes'] = columns['audio'][1]['bytes'][:-200]
  columns['audio'][4]['bytes'] = None
  write(tmp_path / 'in' / 'eval.parquet', columns)
  with pytest.raises(build.BuildError, match='2 problems'):
    built(tmp_path)
  monkeypatch.setattr(records, 'BROKEN_SHARE', 0.5)
  made = built(tmp_path)
  assert made.info.splits['eval'].num_examples == ROWS - 2
  listed = pathlib.Path(made.data_dir, records.UNDECODABLE).read_text()
  first, second = listed.splitlines()
  assert first.startswith('eval.parquet: LA_E_0000001: truncated or damaged')
  assert second == 'eval.parquet: LA_E_0000004: no audio in its row'
  assert 'warning: 2 clips cannot be decoded' in capsys.readouterr().out


def only(column: str, values: list) -> dict:
  return rows() | {column: values}


@pytest.mark.parametrize('columns, names, message', [
  (rows(), None, 'numbers without names, and 1 is bona fide in some sets'),
  (only('label', ['0'] * ROWS), None, "row 1: label '0', expected one of bona"),
  (only('label', [None] * ROWS), ('bonafide', 'spoof'), 'row 1: label None'),
  (rows(), ('x', 'y'), "row 1: label 'x', expected one of bonafide"),
  (only('audio', ['a.wav'] * ROWS), ('bonafide', 'spoof'), '0 columns of embe'),
  ({'audio': rows()['audio']}, None, 'no column label or key or class in aud'),
  (only('notes', ['{"utterance_id": "u"}'] * ROWS), ('bonafide', 'spoof'),
   'eval: u is there 7 times'),
  (only('audio', [{'bytes': b'x', 'path': ''}] * ROWS), ('bonafide', 'spoof'),
   '7 problems'),
])  # fmt: skip
def test_what_cannot_be_used(tmp_path, columns, names, message):
  write(tmp_path / 'in' / 'eval.parquet', columns, names)
  with pytest.raises(build.BuildError, match=message):
    built(tmp_path)
  assert_nothing_left(tmp_path / 'data')


def test_folders_that_are_none(tmp_path):
  (tmp_path / 'in').mkdir()
  with pytest.raises(
    build.BuildError, match='expected a folder that holds .pa'
  ):
    built(tmp_path)
  (tmp_path / 'in' / '0-x.parquet').write_bytes(b'')
  with pytest.raises(build.BuildError, match='0-x.parquet: names no split'):
    built(tmp_path)
  (tmp_path / 'in' / '0-x.parquet').rename(tmp_path / 'in' / 'x.parquet')
  with pytest.raises(
    build.BuildError, match='x.parquet: no whole parquet file'
  ):
    built(tmp_path)
  with pytest.raises(build.BuildError, match='say --manual_dir=FOLDER'):
    build.build('parquet_folder/mine', tmp_path / 'data')
  with pytest.raises(build.BuildError, match='expected parquet_folder/NAME'):
    built(tmp_path, 'parquet_folder/a b')
