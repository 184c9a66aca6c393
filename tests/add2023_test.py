"""ADD 2023 from miniature folders laid out like the published ones."""

import collections
import io

import pytest
import soundfile

from jaxspoof import classes
from jaxspoof.data import pipeline
from tests.corpora_test import assert_nothing_left
from tests.miniatures import add2023, wav, write_tree
from tfds_builders import build

NAMES = {
  'add2023_track1_2': 'Track1.2',
  'add2023_track3': 'Track3',
}


def files(track: str) -> dict[str, bytes]:
  return add2023(track).files


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
  assert (
    'eval lists 9 trials (2 bona fide), expected 79,490 trials'
    in capsys.readouterr().out
  )


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


def test_malformed_lines_are_all_listed(tmp_path):
  good = files('Track3')['dev/label.txt'].decode().splitlines()[0]
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
  assert "FILE 'ADD2023_T3_D_3', expected [\\w.-]+\\.wav" in text[3]
  assert "FILE '../ADD2023_T3_D_4.wav'" in text[4]
  assert '3 columns, expected 2: FILE LABEL' in text[5]
  assert 'line 7' in text[6] and '0 columns' in text[6]
  assert 'line 8' in text[7] and 'is on line 1 already' in text[7]
  assert_nothing_left(tmp_path / 'data')


def test_other_rates_are_read_at_16_khz(tmp_path):
  made = add2023('Track3')
  path = made.trials['dev']['ADD2023_T3_D_00000000'][2]
  made.files[path] = wav(5, 2_400, 24_000)
  write_tree(tmp_path / 'Track3', made.files)
  built = build.build('add2023_track3', tmp_path / 'data', tmp_path)
  assert built.tally['dev'].seconds == pytest.approx(
    sum(
      soundfile.info(io.BytesIO(made.files[path])).duration
      for _, _, path, _ in made.trials['dev'].values()
    )
  )
