"""ADD 2023 from miniature folders laid out like the published ones."""

import collections
import functools
import io
import pathlib
import re
import zipfile

import numpy as np
import pytest
import soundfile

from jaxspoof import audio, classes
from jaxspoof.data import pipeline
from tfds_builders import build
from tfds_builders.add2023 import official, protocol

NAMES = {
  'add2023_track1_2': 'Track1.2',
  'add2023_track3': 'Track3',
}
FOLDERS = {
  'Track1.2': {
    'train': ('train', 'ADD2023_T1.2_T'),
    'dev': ('dev', 'ADD2023_T1.2_D'),
    'eval_r1': ('testR1', 'ADD2023_T1.2R1_E'),
    'eval_r2': ('testR2', 'ADD2023_T1.2R2_E'),
  },
  'Track3': {
    'train': ('train', 'ADD2023_T3_T'),
    'dev': ('dev', 'ADD2023_T3_D'),
    'eval': ('eval', 'ADD2023_T3_E'),
  },
}
CLIPS = 9


@functools.cache
def wav(seed: int, samples: int = 800, rate: int = 16_000) -> bytes:
  rng = np.random.default_rng(seed)
  pcm = rng.integers(-3000, 3000, samples).astype(np.int16)
  file = io.BytesIO()
  soundfile.write(file, pcm, rate, format='WAV', subtype='PCM_16')
  return file.getvalue()


def lines(track: str, split: str) -> list[str]:
  prefix = FOLDERS[track][split][1]
  labels = ['genuine', 'fake', 'fake']
  if track == 'Track3':
    labels = [str(n) for n in range(8 if split == 'eval' else 7)]
  return [
    f'{prefix}_{3 * i:08d}.wav {labels[i % len(labels)]}' for i in range(CLIPS)
  ]


def files(track: str) -> dict[str, bytes]:
  made = {}
  for number, (split, (folder, _)) in enumerate(FOLDERS[track].items()):
    made[f'{folder}/label.txt'] = '\n'.join(lines(track, split)).encode()
    for i, line in enumerate(lines(track, split)):
      made[f'{folder}/wav/{line.split()[0]}'] = wav(
        100 * number + i, 800 + 16 * i
      )
    made[f'{folder}/wav/not_listed.wav'] = wav(999)
  return made


def write_tree(folder: pathlib.Path, content: dict) -> None:
  for name, data in content.items():
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def assert_nothing_left(data_dir: pathlib.Path) -> None:
  assert not list(data_dir.rglob('*'))


def assert_holds_the_trials(data_dir: pathlib.Path, name: str):
  track = NAMES[name]
  content = files(track)
  for split, (folder, _) in FOLDERS[track].items():
    source = pipeline.open_source(name, split, data_dir)
    expected = dict(line.split() for line in lines(track, split))
    assert len(source) == CLIPS
    for record in source.records:
      file = f'{record["utterance"].decode()}.wav'
      label = expected.pop(file)
      genuine = label in ('genuine', '0')
      attack = {'fake': 'unknown', '7': 'unknown'}.get(label, label)
      assert record['label'] == genuine
      assert record['attack'].decode() == ('-' if genuine else attack)
      assert record['speaker'] == b'-'
      assert record['audio'] == content[f'{folder}/wav/{file}']
    assert not expected


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('layout', ['{}', '.', '{0}/{0}'])
def test_every_layout_gives_the_same_corpus(tmp_path, name, layout, capsys):
  manual = tmp_path / 'manual'
  write_tree(manual / layout.format(NAMES[name]), files(NAMES[name]))
  before = sorted(manual.rglob('*'))
  data = tmp_path / 'data'
  options = [f'--data_dir={data}', f'--manual_dir={manual}']
  assert build.main([name, *options]) == 0
  assert_holds_the_trials(data, name)
  assert sorted(manual.rglob('*')) == before  # read in place
  table = capsys.readouterr().out
  attacks = 'unknown:6' if name == 'add2023_track1_2' else '1:2 2:1 .* 6:1'
  assert re.search(rf'^train +9 +[23] +0\.0 +1  {attacks}$', table, re.M)


def test_a_zip_of_the_folder_works_too(tmp_path):
  with zipfile.ZipFile(tmp_path / 'Track3.zip', 'w') as packed:
    for name, data in files('Track3').items():
      packed.writestr(f'Track3/{name}', data)
  build.build('add2023_track3', tmp_path / 'data', tmp_path)
  assert_holds_the_trials(tmp_path / 'data', 'add2023_track3')


def test_splits_that_are_not_there_are_named(tmp_path, capsys):
  content = files('Track3')
  content = {k: v for k, v in content.items() if not k.startswith('eval')}
  write_tree(tmp_path / 'Track3', content)
  made = build.build('add2023_track3', tmp_path / 'data', tmp_path)
  assert sorted(made.info.splits) == ['dev', 'train']
  said = capsys.readouterr().out
  assert 'note: no split eval: ' in said and 'eval/label.txt' in said
  assert official.TRACKS['Track3']['eval'].record in said
  assert f'remove {tmp_path / "data" / "add2023_track3"}' in said


def test_only_the_evaluation_and_in_its_other_folder(tmp_path, capsys):
  content = files('Track3')
  content = {
    k.replace('eval', 'test', 1): v
    for k, v in content.items()
    if k.startswith('eval')
  }
  write_tree(tmp_path / 'Track3', content)
  build.build('add2023_track3', tmp_path / 'data', tmp_path)
  source = pipeline.open_source('add2023_track3', 'eval', tmp_path / 'data')
  counts = collections.Counter(pipeline.trials(source).attack.tolist())
  numbered = {str(n): 1 for n in range(1, 7)}
  assert counts == {'-': 2, 'unknown': 1, **numbered}
  assert 'eval lists 9 clips, expected 79,490' in capsys.readouterr().out


def test_classes_of_the_tracks(tmp_path):
  write_tree(tmp_path / 'Track1.2', files('Track1.2'))
  write_tree(tmp_path / 'Track3', files('Track3'))
  found = {}
  for name in NAMES:
    build.build(name, tmp_path / 'data', tmp_path)
    source = pipeline.open_source(name, 'train', tmp_path / 'data')
    found[name] = pipeline.trials(source).attack
  known = classes.known(found['add2023_track3'], 'train')
  assert known.names == ('1', '2', '3', '4', '5', '6', 'bonafide')
  with pytest.raises(ValueError, match='6 of 6 spoofed clips have no attack'):
    classes.known(found['add2023_track1_2'], 'train')


@pytest.mark.parametrize('name', NAMES)
def test_missing_folder_says_what_is_expected_and_from_where(
  tmp_path, name, capsys
):
  (tmp_path / 'manual').mkdir()
  (tmp_path / 'manual' / 'x.tar.gz.00').write_bytes(b'')
  options = [
    f'--data_dir={tmp_path / "data"}',
    f'--manual_dir={tmp_path / "manual"}',
  ]
  assert build.main([name, *options]) == 1
  error = capsys.readouterr().err
  for folder, _ in FOLDERS[NAMES[name]].values():
    assert f'{NAMES[name]}/{folder}/label.txt' in error
  for part in official.TRACKS[NAMES[name]].values():
    assert part.record in error
  assert 'x.tar.gz.00 is still packed' in error and 'tar -xz' in error
  assert build.main([name, *options, '--download']) == 1
  assert 'leave out --download' in capsys.readouterr().err
  assert_nothing_left(tmp_path / 'data')


def test_malformed_lines_are_all_listed(tmp_path):
  good = lines('Track3', 'dev')[0]
  bad = (
    'ADD2023_T3_D_1.wav 7',  # unknown ones are in evaluation only
    'ADD2023_T3_D_2.wav genuine',
    'ADD2023_T3_D_3 1',
    '../ADD2023_T3_D_4.wav 1',
    'ADD2023_T3_D_5.wav - 1',
    '',
  )
  content = files('Track3')
  content['dev/label.txt'] = '\n'.join([good, *bad, good]).encode()
  write_tree(tmp_path / 'Track3', content)
  with pytest.raises(build.BuildError) as caught:
    build.build('add2023_track3', tmp_path / 'data', tmp_path)
  text = str(caught.value).splitlines()
  assert text[0].endswith('dev/label.txt: 7 problems')
  assert "LABEL '7', expected 0|1|2|3|4|5|6" in text[1]
  assert "LABEL 'genuine', expected 0|1" in text[2]
  assert "FILE 'ADD2023_T3_D_3', expected the name of a .wav" in text[3]
  assert "FILE '../ADD2023_T3_D_4.wav'" in text[4]
  assert '3 columns, expected 2: FILE.wav LABEL' in text[5]
  assert 'line 7' in text[6] and '0 columns' in text[6]
  assert 'line 8' in text[7] and 'is on line 1 already' in text[7]
  assert_nothing_left(tmp_path / 'data')


def test_empty_list():
  labels = official.TRACKS['Track1.2']['train'].attacks
  with pytest.raises(build.BuildError, match='no lines; expected one for each'):
    protocol.parse(b'', labels, 'label.txt')


def test_clips_without_audio_are_all_listed(tmp_path):
  content = files('Track1.2')
  del content['train/wav/ADD2023_T1.2_T_00000003.wav']
  del content['testR2/wav/ADD2023_T1.2R2_E_00000000.wav']
  write_tree(tmp_path / 'Track1.2', content)
  with pytest.raises(build.BuildError, match='2 problems') as caught:
    build.build('add2023_track1_2', tmp_path / 'data', tmp_path)
  expected = 'has no audio, expected testR2/wav/ADD2023_T1.2R2_E_00000000.wav'
  assert expected in str(caught.value)
  assert_nothing_left(tmp_path / 'data')


def test_damaged_audio_is_listed_and_nothing_built(tmp_path):
  content = files('Track3')
  cut = 'train/wav/ADD2023_T3_T_00000003.wav'
  content[cut] = content[cut][:-100]
  content['dev/wav/ADD2023_T3_D_00000006.wav'] = b'RIFF'
  write_tree(tmp_path / 'Track3', content)
  with pytest.raises(build.BuildError, match='2 problems') as caught:
    build.build('add2023_track3', tmp_path / 'data', tmp_path)
  assert cut in str(caught.value)
  assert 'dev/wav/ADD2023_T3_D_00000006.wav' in str(caught.value)
  assert_nothing_left(tmp_path / 'data')


def test_other_rates_are_stored_as_they_are_and_read_at_16_khz(tmp_path):
  content = files('Track3')
  content['dev/wav/ADD2023_T3_D_00000000.wav'] = wav(5, 2_400, 24_000)
  write_tree(tmp_path / 'Track3', content)
  made = build.build('add2023_track3', tmp_path / 'data', tmp_path)
  assert made.tally['dev'].seconds == pytest.approx(
    (sum(800 + 16 * i for i in range(1, CLIPS)) + 1_600) / audio.SAMPLE_RATE
  )
