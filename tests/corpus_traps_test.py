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


# -------------------------------------------------------------- DeepfakeTIMIT


def split_of(name, field, tmp_path) -> dict[str, set[str]]:
  """The splits in which each value of a field is."""
  found = {}
  for split in pipeline.splits_of(name, tmp_path / 'data'):
    source = pipeline.open_source(name, split, tmp_path / 'data')
    for record in source.records:
      found.setdefault(record[field].decode(), set()).add(split)
  return found


def test_nothing_is_in_two_splits_and_what_is_left_out_is_listed(
  tmp_path, capsys
):
  made = miniatures.deepfaketimit()
  # No person in its path: a voice, and a sentence, of the generator's own.
  made.files['TIMIT-TTS/AUG/single/alpha/x_sx77.wav'] = miniatures.wav(70)
  folder = built('deepfaketimit', made, tmp_path)
  for field in ('speaker', 'sentence', 'attack', 'group'):
    found = split_of('deepfaketimit', field, tmp_path)
    found.pop('-', None)  # bona fide speech is everywhere
    assert all(len(splits) == 1 for splits in found.values())
  said = capsys.readouterr().out
  assert '22 recordings of people hold 10 different ones' in said
  left_out = (folder / 'left_out.txt').read_text().splitlines()
  # 3 of the common sentence, 2 of 3 clips of each of the 5 people.
  assert len(left_out) == 3 + 10
  assert 'warning: 13 clips are left out, so that no speaker' in said
  assert 'VidTIMIT/faks0/audio/sa1.wav' in left_out
  voices = split_of('deepfaketimit', 'speaker', tmp_path)
  assert voices['single/alpha'] == {'train'}


def test_no_spoofs_are_made_of_genuine_speech(tmp_path, capsys):
  made = miniatures.deepfaketimit()
  made.files = {k: v for k, v in made.files.items() if 'TTS' not in k}
  with pytest.raises(build.BuildError) as caught:
    built('deepfaketimit', made, tmp_path)
  said = str(caught.value)
  assert 'has no TIMIT-TTS/' in said and 'faces are swapped in its vid' in said
  assert 'zenodo.org/record/6560159' in said
  assert 'deepfaketimit/genuine' in said
  assert_nothing_left(tmp_path / 'data')
  built('deepfaketimit/genuine', made, tmp_path)
  for split in ('train', 'dev', 'eval'):
    assert set(attacks('deepfaketimit/genuine', split, tmp_path)) == {'-'}
  labels = split_of('deepfaketimit/genuine', 'video_label', tmp_path)
  assert set(labels) == {'both', 'bonafide'}


def test_deepfaketimit_alone_and_recordings_that_differ(tmp_path, capsys):
  made = miniatures.deepfaketimit()
  other = 'DeepfakeTIMIT/lower_quality/mdab0/si1-video-fram1.wav'
  made.files[other] = miniatures.wav(99)  # coded again
  built('deepfaketimit', made, tmp_path / 'a')
  videos = split_of('deepfaketimit', 'videos', tmp_path / 'a')
  assert 'DeepfakeTIMIT/lower_quality/mdab0/si1-video-fram1.avi' in videos
  made.files = {k: v for k, v in made.files.items() if 'VidTIMIT' not in k}
  made.files = {
    k: v for k, v in made.files.items() if 'mbdg0' not in k and 'fcft0' not in k
  }
  capsys.readouterr()
  built('deepfaketimit', made, tmp_path / 'b')
  assert 'has no VidTIMIT/: no genuine videos' in capsys.readouterr().out
  labels = split_of('deepfaketimit', 'video_label', tmp_path / 'b')
  assert set(labels) == {'fake', '-'}


@pytest.mark.parametrize('path, message', [
  ('TIMIT-TTS/CLEAN/alpha/mdab0/hello.wav', 'GENERATOR/.../SENTENCE.wav'),
  ('TIMIT-TTS/CLEAN/sa1.wav', 'expected TIMIT-TTS/CLEAN/GENERATOR'),
])  # fmt: skip
def test_synthetic_clips_must_name_sentence_and_generator(
  tmp_path, path, message
):
  made = miniatures.deepfaketimit()
  made.files[path] = miniatures.wav()
  with pytest.raises(build.BuildError, match=message) as caught:
    built('deepfaketimit', made, tmp_path)
  assert path in str(caught.value)


def test_too_few_generators_to_divide(tmp_path):
  made = miniatures.deepfaketimit()
  made.files = {k: v for k, v in made.files.items() if 'beta' not in k}
  with pytest.raises(
    build.BuildError, match=r'2 generators \(multi/gamma, sin'
  ):
    built('deepfaketimit', made, tmp_path)
