"""One's own recordings, from a table to batches."""

import collections
import io
import pathlib
import re

import ml_collections
import numpy as np
import pytest
import soundfile

from jaxspoof import audio
from jaxspoof import config as config_lib
from jaxspoof.data import pipeline
from jaxspoof.runs import workdir
from jaxspoof.training import setup
from tfds_builders import build
from tfds_builders.wav_folder import manifest, splits


def sound(seed: int, suffix: str = 'wav', rate: int = 16_000) -> bytes:
  rng = np.random.default_rng(seed)
  wave = 0.1 * rng.standard_normal(1_200 + seed)
  file = io.BytesIO()
  soundfile.write(file, wave, rate, format=suffix.upper())
  return file.getvalue()


def write(folder: pathlib.Path, header: str, rows, separator=',') -> str:
  """Writes a table and the files that it lists; returns its path."""
  text = [separator.join(header.split())]
  for seed, row in enumerate(rows):
    path = folder / row[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
      path.write_bytes(sound(seed, path.suffix[1:]))
    text.append(separator.join(row))
  suffix = 'tsv' if separator == '\t' else 'csv'
  table = folder / f'mine.{suffix}'
  table.write_text('\n'.join(text) + '\n')
  return str(table)


def rows_of_speakers(speakers: int, clips: int) -> list[tuple[str, str, str]]:
  return [
    (f'clips/s{s}_{c}.wav', 'real' if c % 2 else 'fake', f's{s}')
    for s in range(speakers)
    for c in range(clips)
  ]


def assert_nothing_left(data_dir: pathlib.Path) -> None:
  assert not list(data_dir.rglob('*'))


def failure(tmp_path: pathlib.Path, table: str) -> list[str]:
  with pytest.raises(build.BuildError) as caught:
    build.build('wav_folder/mine', tmp_path / 'data', manifest=table)
  assert_nothing_left(tmp_path / 'data')
  return str(caught.value).splitlines()


@pytest.mark.parametrize('separator', [',', '\t', ';'])
def test_table_becomes_a_corpus(tmp_path, separator, capsys):
  rows = [
    ('a/one.wav', 'real', 'Ada', '', 'train'),
    ('a/two.flac', 'Bona-Fide', 'Ada', '-', 'train'),
    ('b/three.ogg', 'FAKE', 'Ada', 'hifigan', 'train'),
    ('b/four.mp3', '0', 'Bob', 'xtts v2', 'eval'),
    ('my five.wav', '1', 'Bob B.', 'bonafide', 'eval'),
    ('six.wav', 'synthetic', 'Bob', '', 'eval'),
  ]
  table = write(tmp_path, 'path label speaker attack split', rows, separator)
  data = tmp_path / 'data'
  arguments = ['wav_folder', f'--manifest={table}', f'--data_dir={data}']
  assert build.main(arguments) == 0
  said = capsys.readouterr().out
  assert "label '1' is taken as bona fide: 1 rows" in said
  assert "label 'FAKE' is taken as spoof: 1 rows" in said
  assert re.search(r'^eval +3 +1 +0.0 +2  unknown:1 xtts_v2:1$', said, re.M)
  found = {}
  for split in ('train', 'eval'):
    source = pipeline.open_source('wav_folder/mine', split, data)
    for record in source.records:
      name = record['utterance'].decode()
      path = next(row[0] for row in rows if row[0].replace(' ', '_') == name)
      assert record['audio'] == (tmp_path / path).read_bytes()
    trials = pipeline.trials(source)
    columns = (trials.label, trials.speaker, trials.attack)
    for name, *values in zip(trials.utterance, *columns, strict=True):
      found[str(name)] = (split, *values)
  assert found == {
    'a/one.wav': ('train', 1, 'Ada', '-'),
    'a/two.flac': ('train', 1, 'Ada', '-'),
    'b/three.ogg': ('train', 0, 'Ada', 'hifigan'),
    'b/four.mp3': ('eval', 0, 'Bob', 'xtts_v2'),
    'my_five.wav': ('eval', 1, 'Bob_B.', '-'),
    'six.wav': ('eval', 0, 'Bob', 'unknown'),
  }


def test_batches_and_a_run_take_it_by_name(tmp_path):
  table = write(tmp_path, 'path label speaker', rows_of_speakers(5, 4))
  build.build('wav_folder/my.data-1', tmp_path / 'data', manifest=table)
  data = {'name': 'wav_folder/my.data-1', 'data_dir': str(tmp_path / 'data')}
  values = ml_collections.ConfigDict(
    {'seed': 1, 'epochs': 1, 'model': {'name': 'aasist_s'}, 'data': data}
  )
  config = config_lib.run_config(values.to_dict())
  source = setup.Splits(config.data).open('train')
  batch = next(
    iter(pipeline.train_batches(source, batch=4, samples=900, seed=0))
  )
  assert batch['wave'].shape == (4, 900)
  stored = next(iter(source.records))
  np.testing.assert_array_equal(
    audio.load(stored['audio']),
    audio.load(tmp_path / stored['utterance'].decode()),
  )


def test_examples_of_a_run_keep_name_and_format(tmp_path):
  rows = [('a/x.wav', '1', 'eval'), ('../up/y.flac', '0', 'eval')]
  table = write(tmp_path / 'in', 'path label split', rows)
  build.build('wav_folder/mine', tmp_path / 'data', manifest=table)
  source = pipeline.open_source('wav_folder/mine', 'eval', tmp_path / 'data')
  workdir.keep_examples(tmp_path / 'run', source, pipeline.trials(source))
  kept = sorted(p.name for p in (tmp_path / 'run' / 'examples').iterdir())
  assert kept == ['bonafide_x.wav', 'spoof_y.flac']


def test_division_keeps_speakers_together_and_is_stated(tmp_path, capsys):
  table = write(tmp_path, 'path label speaker', rows_of_speakers(10, 6))
  made = build.build('wav_folder/mine', tmp_path / 'data', manifest=table)
  said = capsys.readouterr().out
  assert 'no column split: divided no speaker in two splits' in said
  assert "about train 60%, dev 20%, eval 20%; seed 'wav_folder 0'" in said
  assert 'warning' not in said
  where = {}
  for split in ('train', 'dev', 'eval'):
    source = pipeline.open_source('wav_folder/mine', split, tmp_path / 'data')
    trials = pipeline.trials(source)
    for speaker in trials.speaker:
      assert where.setdefault(speaker, split) == split
    assert trials.label.mean() == 0.5
  assert collections.Counter(where.values()) == {
    'train': 6,
    'dev': 2,
    'eval': 2,
  }
  again = build.build('wav_folder/b', tmp_path / 'data', manifest=table)
  for split in made.info.splits:
    for one, two in zip(
      made.as_data_source(split), again.as_data_source(split), strict=True
    ):
      assert one == two


def test_division_without_speakers_warns(tmp_path, capsys):
  rows = [row[:2] for row in rows_of_speakers(5, 8)]
  table = write(tmp_path, 'path label', rows)
  made = build.build('wav_folder/mine', tmp_path / 'data', manifest=table)
  said = capsys.readouterr().out
  assert 'warning: no column speaker: the same person may be in' in said
  counts = {s: made.info.splits[s].num_examples for s in made.info.splits}
  assert counts == {'train': 24, 'dev': 8, 'eval': 8}


def test_given_splits_that_share_speakers_or_lack_a_class(tmp_path, capsys):
  rows = [('a.wav', '1', 'x', 'train'), ('b.wav', '0', 'x', 'dev')]
  table = write(tmp_path, 'path label speaker split', rows)
  build.build('wav_folder/mine', tmp_path / 'data', manifest=table)
  said = capsys.readouterr().out
  assert 'warning: train has no spoof recordings: no EER there' in said
  assert 'warning: dev has no bona fide recordings' in said
  assert 'warning: 1 speakers are in several splits (x)' in said


def test_the_same_audio_in_two_splits_or_with_two_labels(tmp_path, capsys):
  rows = [
    ('a.wav', '1', 'train'),
    ('b.wav', '0', 'train'),
    ('c.wav', '0', 'eval'),
    ('again.flac', '1', 'eval'),  # a.wav in another coat
    ('c_too.wav', '1', 'eval'),
    ('zeros.wav', '0', 'eval'),
  ]
  table = write(tmp_path, 'path label split', rows)
  wave, rate = soundfile.read(tmp_path / 'a.wav', dtype='int16')
  soundfile.write(tmp_path / 'again.flac', wave, rate)
  (tmp_path / 'c_too.wav').write_bytes((tmp_path / 'c.wav').read_bytes())
  soundfile.write(tmp_path / 'zeros.wav', np.zeros(900), 16_000)
  build.build('wav_folder/mine', tmp_path / 'data', manifest=table)
  said = capsys.readouterr().out
  where = 'in several splits, 1 recordings (row 2 in train and row 5 in eval)'
  assert f'warning: the same audio is {where}' in said
  where = 'and spoof, 1 recordings (row 4 in eval and row 6 in eval)'
  assert f'warning: the same audio is bona fide {where}' in said
  assert 'warning: row 7: holds no sound' in said
  assert said.count('warning') == 3


@pytest.mark.parametrize('name', ['path', 'file', 'filename', 'Audio'])
@pytest.mark.parametrize('separator', ['|', ','])
def test_tables_as_public_sets_have_them(tmp_path, name, separator):
  rows = [(f'clips/{i}.wav', '01'[i % 2]) for i in range(6)]
  table = pathlib.Path(write(tmp_path, f'{name} label', rows, separator))
  table.write_text(table.read_text().replace('/', '\\'))  # as on Windows
  found = manifest.read(table)
  assert [row.utterance for row in found.rows] == [row[0] for row in rows]
  assert not found.problems


def test_a_path_of_another_machine_is_said_to_be_one(tmp_path):
  (tmp_path / 'mine.csv').write_text('path,label\nC:\\calls\\a.wav,1\n')
  text = failure(tmp_path, str(tmp_path / 'mine.csv'))
  assert 'no such file: C:\\calls\\a.wav (with backslashes' in text[1]


@pytest.mark.parametrize('speakers', range(3, 12))
def test_every_split_gets_speakers_of_unequal_size(speakers):
  rows = [
    manifest.Row(0, pathlib.Path(), i % 3 == 0, f's{s}', 'x', '', f'{s}_{i}')
    for s in range(speakers)
    for i in range(2 ** min(s, 8))
  ]
  divided = splits.divide(rows, by_speaker=True, of='x')
  names = [{row.speaker for row in part} for part in divided.values()]
  assert all(names) and sum(map(len, names)) == speakers == len(
    set.union(*names)
  )
  assert sum(map(len, divided.values())) == len(rows)


def test_classes_of_different_speakers_are_both_divided():
  rows = [
    manifest.Row(0, pathlib.Path(), s < 5, f's{s}', 'x', '', f'{s}_{i}')
    for s in range(10)
    for i in range(7)
  ]
  divided = splits.divide(rows, by_speaker=True, of='x')
  shares = [sum(r.bona_fide for r in part) for part in divided.values()]
  assert shares == [21, 7, 7]
  assert [len(part) for part in divided.values()] == [42, 14, 14]


def test_too_few_speakers_to_divide(tmp_path):
  table = write(tmp_path, 'path label speaker', rows_of_speakers(2, 4))
  text = failure(tmp_path, table)
  expected = f'{table}: 2 speakers cannot be divided into train, dev, eval'
  assert text[0].startswith(expected)


def test_all_problems_are_listed_by_row(tmp_path):
  rows = [
    ('ok.wav', 'real', 'a', ''),
    ('cut.wav', 'real', 'a', ''),
    ('bad.flac', 'maybe', 'a', ''),
    ('gone.wav', 'fake', 'a', ''),
    ('ok.wav', 'fake', 'a', ''),
    ('noise.mp3', 'fake', '', ''),
    ('late.wav', 'real', 'a', 'hifigan'),
    ('few.wav', 'real'),
    ('text.wav', 'fake', 'a', ''),
    ('empty.ogg', 'fake', 'a', ''),
  ]
  (tmp_path / 'cut.wav').write_bytes(sound(0)[:-100])
  (tmp_path / 'text.wav').write_bytes(b'this is no audio at all')
  (tmp_path / 'empty.ogg').write_bytes(b'')
  table = write(tmp_path, 'path label speaker attack', rows)
  (tmp_path / 'gone.wav').unlink()
  text = failure(tmp_path, table)
  assert text[0] == f'{table}: 9 problems'
  expected = [
    'row 3: .*cut.wav: truncated or damaged WAV',
    r"row 4: label 'maybe', expected one of bonafide, bona-fide, .*0 \(spoof",
    'row 5: no such file: gone.wav',
    'row 6: .*ok.wav is in row 2 already',
    'row 7: no speaker',
    "row 8: attack 'hifigan' of a bona fide row",
    'row 9: 2 columns, expected 4: path, label, speaker, attack',
    'row 10: .*text.wav: not audio',
    r'row 11: .*empty.ogg: the file is empty \(0 bytes\)',
  ]
  for line, pattern in zip(text[1:], expected, strict=True):
    assert re.match('  ' + pattern, line), line


def test_only_damaged_audio(tmp_path, capsys):
  for name in ('s1_2.wav', 's3_0.wav'):
    (tmp_path / 'clips').mkdir(exist_ok=True)
    (tmp_path / 'clips' / name).write_bytes(sound(0)[:-100])
  table = write(tmp_path, 'path label speaker', rows_of_speakers(4, 4))
  text = failure(tmp_path, table)
  assert text[0].endswith('2 problems')
  assert text[1].startswith('  row 8: ') and text[2].startswith('  row 14: ')


def test_ten_of_many_problems(tmp_path):
  rows = [(f'{i}.wav', 'x') for i in range(30)]
  text = failure(tmp_path, write(tmp_path, 'path label', rows))
  assert text[0].endswith('30 problems') and text[-1] == '  ... and 20 more'
  assert len(text) == 12


@pytest.mark.parametrize(
  'content, message',
  [
    ('', 'row 1: no column path and no column label in an empty file'),
    ('clip,label\na.wav,1\n', 'no column path in clip, label; expected a head'),
    ('path,label,label\n', 'row 1: column label is there twice'),
    ('path,label\n\n', 'no rows below the header'),
    ('path,label,split\na.wav,1,all\n', "split 'all', expected a word such as"),
    (b'path,label\n\xff\xfe', 'expected UTF-8 text'),
  ],
)
def test_unusable_tables(tmp_path, content, message):
  (tmp_path / 'a.wav').write_bytes(sound(0))
  table = tmp_path / 'mine.csv'
  table.write_bytes(content if isinstance(content, bytes) else content.encode())
  assert message in '\n'.join(failure(tmp_path, str(table)))


def test_utterances_named_twice(tmp_path):
  rows = [('a b.wav', '1'), ('a_b.wav', '0'), ('c.wav', '0')]
  text = failure(tmp_path, write(tmp_path, 'path label', rows))
  assert "row 3: utterance 'a_b.wav' is in row 2 already" in text[1]
  rows = [(*row, f'u{i}', 'eval') for i, row in enumerate(rows)]
  table = write(tmp_path, 'path label utterance split', rows)
  made = build.build('wav_folder/mine', tmp_path / 'data', manifest=table)
  found = {r['utterance'] for r in made.as_data_source('eval')}
  assert found == {b'u0', b'u1', b'u2'}


def test_columns_not_used_are_told(tmp_path, capsys):
  rows = [(f'{i}.wav', '01'[i % 2], 'x') for i in range(6)]
  table = write(tmp_path, 'path label spliit', rows)
  build.build('wav_folder/mine', tmp_path / 'data', manifest=table)
  assert 'note: columns not used: spliit' in capsys.readouterr().out


def test_another_table_does_not_pass_for_the_first(tmp_path, capsys):
  table = write(tmp_path, 'path label speaker', rows_of_speakers(4, 2))
  build.build('wav_folder/mine', tmp_path / 'data', manifest=table)
  build.build('wav_folder/mine', tmp_path / 'data', manifest=table)
  assert 'is built already' in capsys.readouterr().out
  build.build('wav_folder/mine', tmp_path / 'data')  # as a run does
  write(tmp_path, 'path label speaker', rows_of_speakers(5, 2))
  with pytest.raises(
    build.BuildError, match='from another version of .*--name'
  ):
    build.build('wav_folder/mine', tmp_path / 'data', manifest=table)
  with pytest.raises(build.BuildError, match='gone.csv: cannot be read'):
    build.build('wav_folder/mine', tmp_path / 'data', manifest='gone.csv')


def test_names_of_corpora(tmp_path):
  with pytest.raises(build.BuildError, match='where NAME has letters'):
    build.builder('wav_folder', tmp_path)
  with pytest.raises(build.BuildError, match='where NAME has letters'):
    build.builder('wav_folder/a b', tmp_path)
  with pytest.raises(pipeline.CorpusNotBuilt, match='wav_folder/x --manifest='):
    pipeline.open_source('wav_folder/x', 'train', tmp_path)
  with pytest.raises(build.BuildError, match='no table.*--manifest=FILE'):
    build.build('wav_folder/x', tmp_path)


@pytest.mark.parametrize(
  'arguments, message',
  [
    (['wav_folder/x', '--name=y'], 'expected the config once'),
    (['wav_folder', '--name=x', '--config=y'], 'expected the config once'),
    (['quickstart', '--manifest=x.csv'], 'quickstart takes no --manifest'),
    (['asvspoof2019_la', '--name=x'], 'asvspoof2019_la takes no --name'),
    (['wav_folder', '--manifest=x.csv'], 'x.csv: cannot be read'),
  ],
)
def test_command_lines_that_mean_nothing(tmp_path, capsys, arguments, message):
  assert build.main([*arguments, f'--data_dir={tmp_path}']) == 1
  error = capsys.readouterr().err
  assert error.startswith('error: ') and message in error
  assert_nothing_left(tmp_path)


def test_interrupted_build_leaves_nothing(tmp_path, monkeypatch):
  def interrupted(*args, **kwargs):
    raise KeyboardInterrupt

  table = write(tmp_path, 'path label speaker', rows_of_speakers(4, 2))
  monkeypatch.setattr(audio, 'read', interrupted)
  with pytest.raises(KeyboardInterrupt):
    build.build('wav_folder/mine', tmp_path / 'data', manifest=table)
  assert_nothing_left(tmp_path / 'data')
