"""What is peculiar to single corpora: the traps that their READMEs name."""

import pathlib

import pytest

from jaxspoof.data import pipeline
from tests import miniatures
from tests.corpora_test import assert_holds, assert_nothing_left
from tests.miniatures import write_tree
from tfds_builders import build


def built(name: str, made: miniatures.Miniature, tmp_path) -> pathlib.Path:
  """Builds from a miniature; returns the folder of the records."""
  write_tree(tmp_path / 'manual', made.files)
  built = build.build(name, tmp_path / 'data', tmp_path / 'manual')
  return pathlib.Path(built.data_dir)


def attacks(name: str, split: str, tmp_path) -> dict[str, int]:
  trials = pipeline.trials(pipeline.open_source(name, split, tmp_path / 'data'))
  names, counts = miniatures.np.unique(trials.attack, return_counts=True)
  return dict(zip(names.tolist(), counts.tolist(), strict=True))


# -------------------------------------------------------------- ASVspoof 2021


def test_key_files_of_2021_say_what_is_wrong(tmp_path):
  made = miniatures.asvspoof2021('DF')
  path = 'keys/DF/CM/trial_metadata.txt'
  lines = made.files[path].decode().splitlines()
  lines[1] = lines[1].replace('low_m4a', 'flac')
  lines[2] = lines[2].replace(' eval ', ' test ')
  made.write_lines(path, *lines, 'LA_0009 LA_E_9332881')
  with pytest.raises(build.BuildError) as caught:
    built('asvspoof2021_df', made, tmp_path)
  text = str(caught.value).splitlines()
  assert text[0].endswith(f'{path}: 3 problems')
  assert "line 2: 'TEF2" in text[1] and "codec 'flac', expected noc" in text[1]
  assert "subset 'test', expected progress|eval|hidden" in text[2]
  assert '2 columns, expected 13: speaker utterance codec' in text[3]


# ----------------------------------------------------------------- ASVspoof 5


def test_track_2_is_kept_and_checked(tmp_path):
  made = miniatures.asvspoof5()
  start = 'ASVspoof5_protocols/ASVspoof5.dev.track_2'
  claims = made.files.pop(f'{start}.trial.tsv')
  # The names of the release's README, not in the folder of the others.
  made.files['dev.trial.txt'] = claims
  made.files['dev.enroll.txt'] = made.files.pop(f'{start}.enroll.tsv')
  folder = built('asvspoof5', made, tmp_path)
  assert (folder / 'track_2' / 'dev.trial.txt').read_bytes() == claims
  assert (folder / 'codec_config.csv').read_text().startswith('ID,CODEC,')
  assert_holds('asvspoof5', tmp_path / 'data', made)
  made.write_lines('dev.trial.txt', 'D_0001 D_0000000169 F A14 spoof',
                   'D_0001 D_1234567890 F - target')  # fmt: skip
  write_tree(tmp_path / 'manual', made.files)
  message = 'dev.trial.txt: 1 problem\n  line 2: D_1234567890 is no clip of tr'
  with pytest.raises(build.BuildError, match=message):
    build.build('asvspoof5', tmp_path / 'other', tmp_path / 'manual')
  assert_nothing_left(tmp_path / 'other')


def test_codings_of_one_recording_in_two_splits(tmp_path, capsys):
  made = miniatures.asvspoof5()
  built('asvspoof5', made, tmp_path / 'a')
  assert 'warning' not in capsys.readouterr().out
  path = 'ASVspoof5_protocols/ASVspoof5.train.tsv'
  line = 'T_4850 T_0000000000 F C04 4 E_0004890277 AC3 A05 spoof -'
  made.write_lines(path, line, *miniatures.ASVSPOOF5['train'][1:])
  built('asvspoof5', made, tmp_path / 'b')
  said = capsys.readouterr().out
  assert 'warning: 1 groups of clips are in several splits (E_00048902' in said


def test_splits_without_any_audio_are_left_out(tmp_path, capsys):
  made = miniatures.asvspoof5()
  for path in [path for path in made.files if path.startswith('flac_E_eval')]:
    del made.files[path]
  del made.trials['eval'], made.trials['eval_enroll']
  moved = {
    path.replace('flac_D/', 'ASVspoof5_dev/flac_D/'): data
    for path, data in made.files.items()
  }
  built('asvspoof5', miniatures.Miniature(moved), tmp_path)
  said = capsys.readouterr().out
  assert 'note: no split eval: ' in said and 'has none of its audio' in said
  assert_holds('asvspoof5', tmp_path / 'data', made)
