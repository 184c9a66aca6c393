"""What is peculiar to single corpora: the traps that their READMEs name."""

import io
import pathlib
import pickle

import numpy as np
import pytest

from jaxspoof.data import pipeline
from tests import miniatures
from tests.corpora_test import assert_holds, assert_nothing_left
from tests.miniatures import write_tree
from tfds_builders import build, records


def built(name: str, made: miniatures.Miniature, tmp_path) -> pathlib.Path:
  """Builds from a miniature; returns the folder of the records."""
  write_tree(tmp_path / 'manual', made.files)
  built = build.build(name, tmp_path / 'data', tmp_path / 'manual')
  return pathlib.Path(built.data_dir)


def attacks(name: str, split: str, tmp_path) -> dict[str, int]:
  trials = pipeline.trials(pipeline.open_source(name, split, tmp_path / 'data'))
  names, counts = np.unique(trials.attack, return_counts=True)
  return dict(zip(names.tolist(), counts.tolist(), strict=True))


# -------------------------------------------------------------- ASVspoof 2021


def test_key_files_of_2021_say_what_is_wrong(tmp_path):
  made = miniatures.asvspoof2021('DF')
  path = 'keys/DF/CM/trial_metadata.txt'
  lines = made.files[path].decode().splitlines()
  lines[1] = lines[1].replace('low_m4a', 'flac')
  lines[2] = lines[2].replace(' eval ', ' test ')
  lines[5] = lines[5].replace(' bonafide notrim', ' spoof notrim')
  made.write_lines(path, *lines, 'LA_0009 LA_E_9332881')
  with pytest.raises(build.BuildError) as caught:
    built('asvspoof2021_df', made, tmp_path)
  text = str(caught.value).splitlines()
  assert text[0].endswith(f'{path}: 4 problems')
  assert "line 2: 'TEF2" in text[1] and "codec 'flac', expected noc" in text[1]
  assert "subset 'test', expected progress|eval|hidden" in text[2]
  assert "label 'spoof' of attack 'bonafide'" in text[3]
  assert '2 columns, expected 13: speaker utterance codec' in text[4]


@pytest.mark.parametrize('system', ['ASVTorch_Kaldi', 'ASVtorch_kaldi'])
def test_verification_scores_of_2021(tmp_path, capsys, system):
  made = miniatures.asvspoof2021('LA')
  trials, scores = [], []
  for number, (attack, key, subset) in enumerate([
    ('bonafide', 'target', 'eval'), ('bonafide', 'nontarget', 'eval'),
    ('A07', 'spoof', 'eval'), ('A08', 'spoof', 'eval'),
    ('bonafide', 'target', 'progress'),
  ]):  # fmt: skip
    trial = f'LA_0007-alaw-ita_tx LA_E_{number:07d}-alaw-ita_tx'
    trials.append(f'{trial} alaw ita_tx {attack} {key} notrim {subset}')
    scores.append(f'{trial} {number - 1.5}')
  made.write_lines('keys/LA/ASV/trial_metadata.txt', *trials)
  made.write_lines(f'keys/LA/ASV/{system}/score.txt', *scores)
  folder = built('asvspoof2021_la', made, tmp_path)
  kept = pipeline.asv_scores('asvspoof2021_la', 'eval', tmp_path / 'data')
  assert kept.read_text().splitlines() == [
    'bonafide target -1.5', 'bonafide nontarget -0.5',
    'A07 spoof 0.5', 'A08 spoof 1.5',
  ]  # fmt: skip
  said = capsys.readouterr().out
  assert 'note: no t-DCF of progress: keys/LA/ASV: ' in said
  assert 'no nontarget trial' in said
  assert {path.name for path in (folder / 'asv_scores').iterdir()} == {
    'eval.txt'
  }
  assert not list(folder.glob('tmp*'))


def test_a_spoof_without_a_name_is_no_bona_fide_speech(tmp_path):
  made = miniatures.asvspoof2021('DF')
  path = 'keys/DF/CM/trial_metadata.txt'
  made.files[path] = made.files[path].replace(b' SPO-N16 spoof', b' - spoof')
  built('asvspoof2021_df', made, tmp_path)
  expected = {'Task1-team20': 1, 'unknown': 1}
  assert attacks('asvspoof2021_df', 'eval', tmp_path) == expected


def test_a_subset_without_trials_is_left_out(tmp_path, capsys):
  made = miniatures.asvspoof2021('LA')
  path = 'keys/LA/CM/trial_metadata.txt'
  lines = made.files[path].decode().splitlines()
  made.write_lines(path, *(x for x in lines if not x.endswith('hidden')))
  del made.trials['hidden']
  built('asvspoof2021_la', made, tmp_path)
  assert_holds('asvspoof2021_la', tmp_path / 'data', made)
  assert 'note: no split hidden: ' in capsys.readouterr().out


def test_real_files_that_libsndfile_cannot_decode(tmp_path, reference):
  made, lines = miniatures.Miniature(), []
  for path in sorted((reference / 'audio').glob('DF_E_*.flac')):
    name = f'ASVspoof2021_DF_eval/flac/{path.name}'
    made.files[name] = path.read_bytes()
    label = 'spoof' if path.stem[-1] == '7' else 'bonafide'
    lines.append(
      f'LA_0023 {path.stem} nocodec asvspoof A14 {label} notrim eval '
      'traditional_vocoder - - - -'
    )
  made.write_lines('keys/DF/CM/trial_metadata.txt', *lines)
  built('asvspoof2021_df', made, tmp_path)
  assert attacks('asvspoof2021_df', 'eval', tmp_path) == {'-': 3, 'A14': 1}


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
  assert (
    'warning: 1 groups of clips are in train and elsewhere (E_00048' in said
  )


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


# ------------------------------------------- corpora that come without splits


def test_splits_by_chance_never_change():
  found = [records.split_of('wavefake 0', f'LJ001-{n:04d}') for n in range(8)]
  assert found == [
    'eval', 'train', 'train', 'train', 'train', 'dev', 'eval', 'eval',
  ]  # fmt: skip
  many = [records.split_of('x', str(n)) for n in range(2_000)]
  shares = [many.count(split) / 2_000 for split in records.SHARES]
  assert shares == pytest.approx([0.6, 0.2, 0.2], abs=0.03)


@pytest.mark.parametrize('name', ['wavefake', 'mlaad'])
def test_copies_of_a_recording_share_a_split(tmp_path, name, capsys):
  made = miniatures.MINIATURES[name]()
  folders = ('LJSpeech-1.1/', 'jsut_ver1.1/', 'M-AILABS/')
  genuine = [path for path in made.files if path.startswith(folders)]
  built(name, made, tmp_path)
  groups = split_of(name, 'group', tmp_path)
  assert all(len(splits) == 1 for splits in groups.values())
  assert set().union(*groups.values()) == {'train', 'dev', 'eval'}
  assert 'warning' not in capsys.readouterr().out
  made.files = {k: v for k, v in made.files.items() if k not in genuine}
  made.files['fake/en/suno_bark/not_listed.wav'] = miniatures.wav()
  built(name, made, tmp_path / 'fake')
  said = capsys.readouterr().out
  assert 'warning: there are no bonafide clips' in said
  if name == 'mlaad':
    assert (
      'note: 1 clips are in no meta.csv and left out, such as fake/' in said
    )


# ------------------------------------------------------- CodecFake, SpoofCeleb


def test_codecs_and_labels_must_agree(tmp_path, capsys):
  made = miniatures.codecfake()
  lines = made.files['label/dev.txt'].decode().splitlines()
  made.write_lines('label/dev.txt', lines[0].replace('0', '1'), *lines[1:])
  with pytest.raises(build.BuildError, match='expected 0 for real'):
    built('codecfake', made, tmp_path)
  copy = 'SSB13650000.wav'  # of train
  made.write_lines('label/dev.txt', *lines, f'{copy} real 0')
  made.files[f'dev/{copy}'] = miniatures.wav()
  built('codecfake', made, tmp_path)
  said = capsys.readouterr().out
  assert 'warning: 1 groups of clips are in train and elsewhere (SSB136' in said


def test_tables_without_their_columns(tmp_path):
  made = miniatures.spoofceleb()
  made.write_lines('metadata/evaluation.csv', 'file,id,attack', 'a,b,a00')
  message = 'evaluation.csv: no column speaker; expected a header with file,sp'
  with pytest.raises(build.BuildError, match=message):
    built('spoofceleb', made, tmp_path)


# --------------------------------------------------------------- PartialSpoof


class _Evil:
  def __reduce__(self):
    return print, ('called',)


def npy(value) -> bytes:
  file = io.BytesIO()
  np.save(file, np.array(value, object), allow_pickle=True)
  return file.getvalue()


@pytest.mark.parametrize('value, message', [
  ({'CON_D_0000001': _Evil()}, 'it names builtins.print'),
  ({'CON_D_0000001': ['2']}, 'labels other than 0 and 1'),
  ('text', 'expected a NumPy file of a dictionary'),
  ({'CON_D_0000001': ['1']}, '2 problems\n  no labels of LA_D_0000000, which'),
])  # fmt: skip
def test_segment_labels_that_are_none(tmp_path, capsys, value, message):
  made = miniatures.partialspoof()
  made.files['segment_labels/dev_seglab_0.02.npy'] = npy(value)
  with pytest.raises(build.BuildError, match=message):
    built('partialspoof', made, tmp_path)
  assert 'called' not in capsys.readouterr().out


def test_segment_labels_that_are_missing_or_differ(tmp_path, capsys):
  made = miniatures.partialspoof()
  path = 'segment_labels/dev_seglab_0.02.npy'
  # As NumPy 1 named what makes an array, and numbers for text.
  labels = {'LA_D_0000000': ['1'], 'CON_D_0000001': np.array([1, 0]),
            'CON_D_0000002': np.array(['1', '1'])}  # fmt: skip
  value = np.array(labels, object)
  head = npy(0)[: npy(0).index(b'\n') + 1]
  made.files[path] = head + pickle.dumps(value, protocol=3).replace(
    b'numpy._core.multiarray', b'numpy.core.multiarray'
  )
  built('partialspoof', made, tmp_path)
  said = capsys.readouterr().out
  assert 'note: 1 clips of dev have a key unlike their segments' in said
  (tmp_path / 'manual' / path).unlink()
  with pytest.raises(build.BuildError, match=f'expected a file {path}'):
    build.build('partialspoof', tmp_path / 'other', tmp_path / 'manual')
