"""Classifiers of Hugging Face as detectors: logits, labels, the command."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from safetensors.numpy import load_file, save_file

import detect
from jaxspoof import checkpoints
from jaxspoof.detect import self_test
from jaxspoof.detector import Detector
from jaxspoof.weights import classifiers, measured

pytestmark = pytest.mark.usefixtures('programs')

NAMES = ('wav2vec2_classifier', 'wav2vec2_stable_sum', 'wavlm_classifier')


@pytest.fixture
def folder(reference, tmp_path, request):
  """A copy of a classifier, to be changed."""
  name = getattr(request, 'param', 'wav2vec2_classifier')
  made = tmp_path / name
  shutil.copytree(reference / 'ssl' / name, made)
  for path in (made, *made.iterdir()):
    path.chmod(0o755)
  return made


def change(folder, **values):
  path = folder / 'config.json'
  path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def waves_of(golden):
  return list((golden['pcm'] / 32768).astype(np.float32))


@pytest.mark.parametrize('name', NAMES)
def test_logits(reference, name):
  golden = np.load(reference / 'ssl' / name / 'golden.npz')
  labels = list(golden['labels'])
  last = labels.index('real')
  order = [1 - last, last]
  found = Detector.load(reference / 'ssl' / name, batch=3)
  assert found.classes == ('fake', 'real') and found.model == 'mean'
  whole = waves_of(golden)
  got = found.logits(whole)
  assert np.abs(got - golden['logits'][:, order]).max() < 1e-4
  np.testing.assert_allclose(found.score(whole), got[:, 1] - got[:, 0], 1e-5)
  # Clips of several lengths in one batch: each as it is alone.
  cut = [w[:n] for w, n in zip(whole, golden['lengths'], strict=True)]
  alone = golden['logits_one_by_one'][:, order]
  assert np.abs(found.logits(cut) - alone).max() < 1e-4


@pytest.mark.parametrize(
  'version, key',
  [
    ('5.24.0', 'logits_before_final_norm'),
    ('4.57.1', 'logits_after_final_norm'),
    (None, 'logits_after_final_norm'),
  ],
)
@pytest.mark.parametrize('folder', ['wav2vec2_stable_sum'], indirect=True)
def test_the_version_says_which_state_is_the_last(folder, version, key):
  change(folder, transformers_version=version)
  golden = np.load(folder / 'golden.npz')
  got = Detector.load(folder, batch=3).logits(waves_of(golden))
  assert list(golden['labels']) == ['fake', 'real']
  assert np.abs(got - golden[key]).max() < 1e-4
  differ = 'logits_before_final_norm logits_after_final_norm'.split()
  assert np.abs(golden[differ[0]] - golden[differ[1]]).max() > 1e-2


@pytest.mark.parametrize(
  'labels, index',
  [
    (['real', 'fake'], 0),
    (['fake', 'real'], 1),
    (['Spoof', 'Bona-fide'], 1),
    (['bonafide', 'spoof'], 0),
    (['bona_fide', 'spoofed'], 0),
    (['AIVoice', 'HumanVoice'], 1),
    (['AI generated', 'Original'], 1),
    (['human', 'tts', 'deepfake'], 0),
    (['not real: fake', 'Real'], 1),
    (['LABEL_0', 'LABEL_1'], None),
    (['0', '1'], None),
    (['real', 'genuine'], None),
    (['fake', 'spoof'], None),
    (['real', 'music'], None),
    (['unreal', 'fake'], None),
  ],
)
def test_labels(labels, index, tmp_path):
  if index is not None:
    assert classifiers.bonafide_index(labels, None, tmp_path) == index
    return
  with pytest.raises(ValueError, match='do not say which .*--bonafide_label'):
    classifiers.bonafide_index(labels, None, tmp_path)
  assert classifiers.bonafide_index(labels, labels[0], tmp_path) == 0
  assert classifiers.bonafide_index(labels, '1', tmp_path) == 1
  with pytest.raises(ValueError, match="no label 'x'; it has"):
    classifiers.bonafide_index(labels, 'x', tmp_path)


def test_the_command(folder, tmp_path, capsys):
  golden = np.load(folder / 'golden.npz')
  wave = tmp_path / 'x.wav'
  soundfile.write(wave, golden['pcm'][0], 16_000, subtype='PCM_16')
  (folder / 'README.md').write_text('---\nlicense: apache-2.0\n---\n# Model\n')
  command = ['--checkpoint', str(folder), '--input', str(wave), '--json']
  assert detect.main(command) == 0
  said = capsys.readouterr()
  result = json.loads(said.out)
  fake, real = result['logits']
  wanted = golden['logits'][0]  # of real, of fake
  assert abs(real - wanted[0]) < 1e-4 and abs(fake - wanted[1]) < 1e-4
  assert result['classes'] == ['fake', 'real'] and result['scored'] == 0.5
  assert 'fake = spoof, real = bona fide; waves normalised as' in said.err
  assert 'licence of its card: apache-2.0' in said.err
  # Labels that say nothing are refused until the user does.
  change(folder, id2label={'0': 'LABEL_0', '1': 'LABEL_1'})
  assert detect.main(command) == 2
  assert '(0: LABEL_0, 1: LABEL_1) do not say' in capsys.readouterr().err
  assert detect.main([*command, '--bonafide_label=0']) == 0
  said = capsys.readouterr().out
  assert json.loads(said)['score'] == result['score']
  assert detect.main([*command, '--bonafide_label=LABEL_1']) == 0
  assert json.loads(capsys.readouterr().out)['score'] == -result['score']


def test_samples_whose_truth_is_known(folder, tmp_path, capsys):
  """They tell that the bona fide class is counted from the wrong end."""
  golden = np.load(folder / 'golden.npz')
  scores = golden['logits'][:, 0] - golden['logits'][:, 1]  # real less fake
  names = []
  for place in np.argsort(-scores):
    names.append(str(tmp_path / f'{len(names)}.wav'))
    soundfile.write(names[-1], golden['pcm'][place], 16_000)
  high, *_, low = names
  load = ['--checkpoint', str(folder)]

  def test(*pairs, more=()):
    asked = [w for pair in pairs for w in ('--self_test', *pair)]
    status = detect.main([*load, *asked, *more])
    return status, capsys.readouterr()

  status, said = test((high, low))
  assert status == 0 and 'self-test: the pair is ranked rightly' in said.out
  assert 'detect.py --self_test BONAFIDE SPOOF' in said.err  # and the importer
  status, said = test((low, high))
  assert status == 3 and 'the pair is ranked wrongly' in said.out
  assert 'may be swapped; say --bonafide_label' in said.out
  status, said = test((low, high), more=['--bonafide_label=fake'])
  assert status == 0
  status, said = test((high, low), (low, high), more=['--json'])
  values = json.loads(said.out)
  assert status == 3 and values['share'] == 0.5 and values['pairs'] == 4
  assert [s['truth'] for s in values['samples']] == ['bona fide'] * 2 + (
    ['spoof'] * 2
  )
  gap = values['samples'][0]['score'] - values['samples'][1]['score']
  assert abs(gap - np.ptp(scores)) < 1e-3
  status, said = test((high, str(tmp_path / 'no.wav')))
  assert status == 1 and 'self-test: a sample cannot be' in said.err
  assert not said.out
  for more in (['--input', high], ['--csv'], ['--timeline'], ['--stream']):
    with pytest.raises(SystemExit):
      test((high, low), more=more)


def test_ranking():
  ranking = self_test.rank(np.array([1.0, 2.0, 3.0]), np.array([2.0, 0.0]))
  assert ranking == (6, 4, 1) and ranking.share == 0.75
  said = self_test.said(ranking)
  assert '4 of 6 pairs are ranked rightly, 1 have equal scores' in said
  assert 'swapped' not in said and 'give several files' in said


def test_what_others_measured(tmp_path):
  name = 'MelodyMachine/Deepfake-audio-detection-V2'
  cached = tmp_path / f'models--{name.replace("/", "--")}' / 'snapshots' / 'a'
  for place, declared in (
    (tmp_path / 'x', name),
    (tmp_path / name.lower().split('/')[1], 'facebook/wav2vec2-base'),
    (cached, None),
  ):
    (said,) = measured.warnings(place, declared)
    assert f'{name}, of which an independent test' in said
    assert '53.0 %' in said and 'podonos/audio-dfd-benchmark' in said
  assert measured.warnings(tmp_path / 'x', 'facebook/wav2vec2-base') == ()
  assert measured.warnings(tmp_path / f'not-{name.split("/")[1]}') == ()


def test_directories_that_are_no_detector(reference, folder):
  with pytest.raises(ValueError, match='holds Wav2Vec2Model, which detects'):
    Detector.load(reference / 'ssl/wav2vec2_layer')
  with pytest.raises(ValueError, match="another model: a classifier .*'lcnn'"):
    Detector.load(folder, 'lcnn')
  with pytest.raises(ValueError, match='label is for classifiers of Hu'):
    Detector.load(reference / 'aasist/AASIST.pth', bonafide_label='1')
  tensors = load_file(folder / 'model.safetensors')
  for name, problem in (
    ('projector.bias', 'projector.bias is missing'),
    ('classifier.weight', 'classifier.weight is missing'),
    ('wav2vec2.encoder.layer_norm.bias', 'missing: norm.bias'),
  ):
    left = {k: v for k, v in tensors.items() if k != name}
    save_file(left, folder / 'model.safetensors')
    with pytest.raises(ValueError, match=problem):
      Detector.load(folder)
  tensors['classifier.weight'] = tensors['classifier.weight'][:, :-1]
  save_file(tensors, folder / 'model.safetensors')
  with pytest.raises(ValueError, match=r'kernel of shape \(19, 2\), the model'):
    Detector.load(folder)


def test_no_more_than_a_minute_is_scored(reference):
  found = Detector.load(reference / 'ssl/wav2vec2_classifier')
  assert found.samples == checkpoints.LONGEST == 60 * 16_000
  some = Detector.load(reference / 'ssl/wav2vec2_classifier', seconds=3)
  assert some.samples == 48_000
