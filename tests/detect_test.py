"""The detector and its command: scores, formats, and everything bad."""

import csv
import functools
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import types
from concurrent import futures

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from flax import nnx

from jaxspoof import audio, bundle, losses, models
from jaxspoof.detect import command as detect_command
from jaxspoof.detect import outputs
from jaxspoof.detector import Detection, Detector, Failure
from jaxspoof.runs import weights_file
from jaxspoof.training import state

pytestmark = pytest.mark.usefixtures('programs')
RATE, SAMPLES = 16_000, 8_000
SMALL = {
  'name': 'aasist_l',
  'channels': [4, 4, 4, 4, 4, 4],
  'gat_dims': [4, 4],
}


@pytest.fixture(scope='module')
def command(repository):
  """detect.py as a module."""
  spec = importlib.util.spec_from_file_location(
    'detect', repository / 'detect.py'
  )
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def small_model():
  fields = dict(SMALL)
  config, kind = models.variant(fields.pop('name'), **fields)
  return kind(config, rngs=nnx.Rngs(3))


def write_run(workdir, **changes):
  """A workdir with random weights, as training leaves it."""
  workdir.mkdir()
  config = {
    'model': {**SMALL, **changes},
    'data': {'eval_samples': SAMPLES, 'padded': False},
    'loss': {'name': 'weighted_cross_entropy'},
  }
  (workdir / 'config.json').write_text(json.dumps(config))
  _, params, batch_stats = state.split(small_model())
  weights_file.save(workdir, params, batch_stats)
  return workdir


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  return write_run(tmp_path_factory.mktemp('runs') / 'small')


@pytest.fixture(scope='module')
def detector(run):
  return Detector.load(run, batch=4)


def wave(seconds=0.7, seed=0):
  rng = np.random.default_rng(seed)
  time = np.arange(int(seconds * RATE)) / RATE
  tone = np.sin(2 * np.pi * (200 + 400 * seed) * time)
  return (0.2 * tone + rng.normal(0, 0.02, time.size)).astype(np.float32)


def write_wave(path, samples, rate=RATE, **options):
  path.parent.mkdir(parents=True, exist_ok=True)
  soundfile.write(path, samples, rate, **options)
  return path


# ------------------------------------------------------------- detector ---
def test_released_weights_give_the_golden_logits(reference):
  clips = [
    reference / 'audio' / f'{name}.flac'
    for name in ('LA_T_1272637', 'LA_D_1003356', 'LA_E_6163791')
  ]
  detector = Detector.load(reference / 'aasist' / 'AASIST-L.pth')
  found = list(detector.score_files(clips))
  golden = np.load(reference / 'aasist' / 'AASIST-L_golden.npz')['logits']
  logits = np.array([result.logits for result in found])
  np.testing.assert_allclose(logits, golden[:3], atol=1e-4)
  scores = [result.score for result in found]
  assert scores[0] > scores[1] and scores[0] > scores[2]  # the bona fide one
  assert found[0].duration == 46_392 / RATE


@pytest.mark.parametrize(
  ('name', 'variant'), [('AASIST', 'aasist'), ('AASIST-L', 'aasist_l')]
)
def test_released_weights_say_what_they_are(reference, name, variant):
  weights = reference / 'aasist' / f'{name}.pth'
  for model in (None, variant):
    detector = Detector.load(weights, model)
    assert (detector.model, detector.samples) == (variant, 64_600)


def test_score_is_the_difference_of_the_logits(detector):
  waves = [wave(seed=seed) for seed in range(5)]
  logits = detector.logits(waves)
  assert logits.shape == (5, 2)
  assert logits.dtype == np.float32
  np.testing.assert_array_equal(
    detector.score(waves), logits[:, 1] - logits[:, 0]
  )
  assert len(set(detector.score(waves).tolist())) == 5
  assert detector.logits([]).shape == (0, 2)


def test_batches_change_nothing(run, detector):
  waves = [wave(seed=seed) for seed in range(5)]
  alone = Detector.load(run, batch=1)
  np.testing.assert_allclose(
    alone.logits(waves), detector.logits(waves), atol=1e-5
  )


def test_the_first_samples_are_scored_and_short_waves_repeated(detector):
  long = np.concatenate([wave(0.5, seed=0), wave(1.5, seed=4)])
  short = wave(0.1)
  np.testing.assert_array_equal(
    detector.score([long, short]),
    detector.score([long[:SAMPLES], np.tile(short, 5)]),
  )
  assert detector.score([long]) != detector.score([long[SAMPLES:]])


def test_waves_of_a_wrong_shape(detector):
  with pytest.raises(
    ValueError, match=r'shape \(2, 80\): expected one channel'
  ):
    detector.score([np.zeros((2, 80), np.float32)])
  with pytest.raises(ValueError, match=r'shape \(0,\): expected one channel'):
    detector.score([np.zeros(0, np.float32)])


def test_a_score_that_is_not_finite_is_a_failure(tmp_path):
  graphdef, params, batch_stats = state.split(small_model())
  params = jax.tree.map(lambda x: np.full(x.shape, np.nan, x.dtype), params)
  broken = Detector(
    'broken',
    graphdef,
    params,
    batch_stats,
    samples=SAMPLES,
    batch=1,
    loss=losses.CrossEntropy(),
  )
  path = write_wave(tmp_path / 'a.wav', wave())
  (found,) = broken.score_files([path])
  assert found == Failure(
    str(path), f'{path}: its score is not a finite number'
  )


# ----------------------------------------------------------- checkpoints ---
def test_no_checkpoint_there(tmp_path):
  with pytest.raises(ValueError, match=r'gone: no checkpoint there; expected'):
    Detector.load(tmp_path / 'gone')


def test_a_folder_that_is_no_run(tmp_path):
  with pytest.raises(ValueError, match='is not a run: expected'):
    Detector.load(tmp_path)


def test_a_run_without_weights(tmp_path):
  workdir = write_run(tmp_path / 'run')
  (workdir / 'weights.npz').unlink()
  with pytest.raises(ValueError, match='no weights.npz yet'):
    Detector.load(workdir)


@pytest.mark.parametrize(
  ('name', 'size'),
  [
    ('weights.npz', 0),
    ('weights.npz', 2_000),
    ('weights.npz', -1),
    ('config.json', 0),
    ('config.json', 40),
  ],
)
def test_files_of_a_run_that_were_copied_in_part(
  command, capsys, run, tmp_path, name, size
):
  workdir = shutil.copytree(run, tmp_path / 'run')
  (workdir / name).write_bytes((run / name).read_bytes()[:size])
  status, _, errors = detect(command, capsys, workdir, '--input', 'a.wav')
  assert status == 2
  assert errors.startswith(
    f'detect.py: error: {workdir / name}: damaged or cut'
  )
  assert errors.count('\n') == 1


def test_a_config_that_is_not_of_training(run, tmp_path):
  workdir = shutil.copytree(run, tmp_path / 'run')
  (workdir / 'config.json').write_text('{"job": "embed"}')
  with pytest.raises(ValueError, match='config.json: expected the config of a'):
    Detector.load(workdir)


def test_a_run_of_another_model(run):
  message = "another model: a run of 'aasist_l', not of 'aasist'"
  with pytest.raises(ValueError, match=message):
    Detector.load(run, 'aasist')
  assert Detector.load(run, 'aasist_l').model == 'aasist_l'


def test_a_released_checkpoint_of_another_model(reference):
  weights = reference / 'aasist' / 'AASIST-L.pth'
  with pytest.raises(ValueError, match='another model.*fit aasist;.*aasist_l'):
    Detector.load(weights, 'aasist')


def test_a_file_that_is_no_checkpoint(tmp_path):
  path = tmp_path / 'notes.pth'
  path.write_text('these are words')
  with pytest.raises(ValueError, match=r'notes\.pth'):
    Detector.load(path)


def test_an_unknown_model_lists_the_known(run):
  with pytest.raises(ValueError, match="'aasits' is not known.*aasist_l"):
    Detector.load(run, 'aasits')


def test_weights_that_do_not_fit_their_config(tmp_path):
  workdir = write_run(tmp_path / 'run', channels=[4, 4, 4, 4, 4, 6])
  message = (
    r'do not fit the model of its config\.json in \d+ places.*expected \(6, 4\)'
  )
  with pytest.raises(ValueError, match=message):
    Detector.load(workdir)


def test_too_few_seconds(run):
  with pytest.raises(ValueError, match='0.05 seconds are too few.*needs 0.14'):
    Detector.load(run, seconds=0.05)
  assert Detector.load(run, seconds=1.5).samples == 24_000


# --------------------------------------------------------------- command ---
def detect(command, capsys, run, *arguments):
  """Exit status, stdout lines and stderr of `detect.py`."""
  status = command.main(['--checkpoint', str(run), *map(str, arguments)])
  output = capsys.readouterr()
  return status, output.out.splitlines(), output.err


def test_json_has_one_object_a_line(command, capsys, run, tmp_path):
  paths = [
    write_wave(tmp_path / f'{seed}.wav', wave(1.0, seed)) for seed in range(3)
  ]
  status, lines, errors = detect(
    command, capsys, run, '--json', '--input', *paths
  )
  assert (status, errors) == (0, '')
  found = [json.loads(line) for line in lines]
  assert [f['path'] for f in found] == list(map(str, paths))
  for values in found:
    fields = (
      'path logits score scored duration model warnings classes verdict '
      'p_spoof llr prior reasons'
    )
    assert set(values) == set(fields.split())
    assert values['classes'] == ['spoof', 'bonafide']
    spoof, bona_fide = values['logits']
    assert values['score'] == pytest.approx(bona_fide - spoof, abs=2e-6)
    assert (values['scored'], values['duration']) == (0.5, 1.0)
    assert values['warnings'] == []
    assert values['verdict'] == 'uncertain' and values['llr'] is None
    assert 'not calibrated' in values['reasons'][0]
    assert values['model'] == 'aasist_l'


def test_table_is_aligned_and_says_what_the_score_means(
  command, capsys, run, tmp_path
):
  path = write_wave(tmp_path / 'a.wav', wave())
  longer = write_wave(tmp_path / 'much_longer_name.wav', wave())
  status, lines, _ = detect(command, capsys, run, '--input', path, longer)
  assert status == 0
  assert len(lines) == 4
  assert lines[0].split() == [
    'file',
    'score',
    'scored',
    'of',
    'logits',
  ]
  assert len(lines[1]) == len(lines[2]) > lines[0].index('logits')
  assert lines[1].split()[1:] == lines[2].split()[1:]
  assert lines[3].startswith(
    'score: higher = bona fide, lower = spoof; it is the log-odds of bona '
    'fide. logits: spoof, bonafide.'
  )
  assert 'No threshold is calibrated' in lines[3]


@pytest.mark.parametrize(
  ('name', 'classes', 'words'),
  [
    ('focal', 'A01 A02 bonafide', 'of bona fide. logits: A01, A02, bonafide.'),
    (
      'aam_softmax',
      'spoof bonafide',
      'of scaled cosines. cosines: spoof, bonafide.',
    ),
    ('p2sgrad', 'spoof bonafide', 'bona fide speech. cosines: spoof, bonafide'),
    ('oc_softmax', 'spoof bonafide', 'bona fide speech. cosines: bonafide. No'),
  ],
)
def test_table_says_which_outputs_of_which_classes(
  capsys, name, classes, words
):
  loss = losses.make(losses.LossConfig(name=name))
  loaded = types.SimpleNamespace(
    loss=loss, classes=tuple(classes.split()), calibrated=False
  )
  found = Detection('a.wav', (0.25, -0.5), 0.125, 1.0, 7.0, 'ecapa')
  assert outputs.show_table([found], ['a.wav'], loaded) == 0
  head, row, last = capsys.readouterr().out.splitlines()
  assert head.split()[-1] == ('logits' if name == 'focal' else 'cosines')
  assert row.split() == 'a.wav 0.125 1.00 s 7.00 s 0.250 -0.500'.split()
  assert words in last


def test_every_format_gives_the_score_of_the_same_sound(
  command, capsys, run, tmp_path
):
  sound = np.round(wave(1.0) * 127) / 128  # exact in 8 bits
  stereo = np.stack([sound, sound], 1)
  time = np.arange(48_000) / 48_000
  exact = [
    write_wave(tmp_path / name, samples, **options)
    for name, samples, options in (
      ('16.wav', sound, {}),
      ('8.wav', sound, {'subtype': 'PCM_U8'}),
      ('24.wav', sound, {'subtype': 'PCM_24'}),
      ('float.wav', sound, {'subtype': 'FLOAT'}),
      ('stereo.wav', stereo, {'subtype': 'DOUBLE'}),
      ('16.flac', sound, {}),
      ('24.flac', stereo, {'subtype': 'PCM_24'}),
    )
  ]
  others = [
    write_wave(tmp_path / '48k.wav', np.sin(2000 * time) / 5, 48_000),
    write_wave(tmp_path / 'a.mp3', sound),
    write_wave(tmp_path / 'a.ogg', sound),
    write_wave(tmp_path / 'a.opus', sound, format='OGG', subtype='OPUS'),
  ]
  status, lines, errors = detect(
    command, capsys, run, '--json', '--input', *exact, *others
  )
  assert (status, errors) == (0, '')
  found = [json.loads(line) for line in lines]
  scores = [values['score'] for values in found]
  np.testing.assert_allclose(scores[: len(exact)], scores[0], atol=1e-5)
  assert [values['duration'] for values in found] == pytest.approx(
    [1.0] * 11, abs=0.05
  )


def test_directories_are_searched_to_the_bottom(command, tmp_path):
  for name in ('b/2.wav', 'b/a/1.FLAC', 'c.mp3', 'b/._2.wav', 'notes.txt'):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).touch()
  named = str(tmp_path / 'notes.txt')
  paths, problems = command.expand([named, str(tmp_path)])
  assert not problems
  assert paths == [
    named,
    *(str(tmp_path / name) for name in ('b/2.wav', 'b/a/1.FLAC', 'c.mp3')),
  ]


def test_bad_files_are_reported_and_the_others_scored(
  command, capsys, run, tmp_path
):
  good = write_wave(tmp_path / 'in' / 'good.wav', wave())
  cut = write_wave(tmp_path / 'in' / 'cut.flac', wave())
  cut.write_bytes(cut.read_bytes()[:-100])
  text = tmp_path / 'in' / 'text.wav'
  text.write_text('these are words')
  write_wave(tmp_path / 'in' / 'empty.wav', np.zeros(0))
  empty = tmp_path / 'empty'
  empty.mkdir()
  inputs = [tmp_path / 'gone.wav', tmp_path / 'in', empty, good]
  expected = {
    'gone.wav': 'no such file',
    'cut.flac': 'truncated or damaged FLAC',
    'text.wav': 'not audio',
    'empty.wav': 'holds no samples',
    'empty': 'no audio files below this directory (.aif, .aifc, ',
  }

  status, lines, errors = detect(
    command, capsys, run, '--json', '--input', *inputs
  )
  assert status == 1
  found = [json.loads(line) for line in lines]
  failed = {f['path']: f['error'] for f in found if 'error' in f}
  assert {os.path.basename(path) for path in failed} == set(expected)
  for path, error in failed.items():
    assert error.startswith(f'{path}: ')
    assert expected[os.path.basename(path)] in error
    assert error in errors.splitlines()
  scored = [f for f in found if 'score' in f]
  assert [f['path'] for f in scored] == [str(good)]  # named twice

  status, lines, again = detect(command, capsys, run, '--input', *inputs)
  assert (status, again) == (1, errors)
  assert sum(line.startswith(str(good)) for line in lines) == 1


def test_the_table_says_how_much_was_scored_and_what_is_doubtful(
  command, capsys, run, tmp_path
):
  sound = np.stack([wave(3.0), -wave(3.0)], 1)
  path = write_wave(tmp_path / 'a.wav', sound, subtype='FLOAT')
  plain = write_wave(tmp_path / 'b.wav', wave(3.0), subtype='FLOAT')
  status, lines, errors = detect(command, capsys, run, '--input', path, plain)
  assert (status, errors) == (0, '')
  words = 'the mean of its 2 channels is nearly silent'
  values, _, warning = lines[1].partition('  warning: ')
  assert warning.startswith(words)
  assert values.split()[2:6] == ['0.50', 's', '3.00', 's']
  assert values.split()[1:] == lines[2].split()[1:]  # the same score
  _, lines, _ = detect(command, capsys, run, '--json', '--input', path)
  (found,) = map(json.loads, lines)
  assert found['warnings'][0].startswith(words)


def test_one_crash_takes_no_other_result_along(
  command, capsys, run, tmp_path, monkeypatch
):
  paths = [write_wave(tmp_path / f'{n}.wav', wave()) for n in 'abc']
  read = audio.read

  def crash(source, *arguments, **options):
    if str(source).endswith('b.wav'):
      raise RuntimeError('a decoder that nobody knows')
    return read(source, *arguments, **options)

  monkeypatch.setattr(audio, 'read', crash)
  status, lines, errors = detect(
    command, capsys, run, '--json', '--input', *paths
  )
  found = list(map(json.loads, lines))
  assert (status, len(found)) == (1, 3)
  message = f'{paths[1]}: cannot be read (RuntimeError: a decoder that nobody'
  assert found[1]['error'].startswith(message) and message in errors


def test_a_folder_without_audio_alone(command, capsys, run, tmp_path):
  (tmp_path / 'readme.txt').write_text('note')
  for options in ([], ['--json']):
    status, _, errors = detect(
      command, capsys, run, *options, '--input', tmp_path
    )
    assert status == 1
    assert 'no audio files below this directory' in errors
    assert '1 files that are no audio are left out (readme.txt)' in errors


def test_wrong_commands_end_with_2(command, capsys, run, tmp_path):
  path = write_wave(tmp_path / 'a.wav', wave())
  status, lines, errors = detect(
    command, capsys, tmp_path / 'gone', '--input', path
  )
  assert (status, lines) == (2, [])
  assert errors.startswith('detect.py: error: ')
  assert 'no checkpoint there' in errors
  with pytest.raises(SystemExit, match='2'):
    detect(command, capsys, run, '--batch', '0', '--input', path)
  assert 'argument --batch: 0 is not at least 1' in capsys.readouterr().err


def test_help_has_examples(command, capsys):
  with pytest.raises(SystemExit, match='0'):
    command.main(['--help'])
  text = capsys.readouterr().out
  assert 'examples:\n  python detect.py' in text
  for word in ('--checkpoint', '--json', '--seconds', '--model', 'directories'):
    assert word in text


# ------------------------------------------------------------- verdicts ---
@pytest.fixture(scope='module')
def calibrated(run, detector, tmp_path_factory):
  """The run with a bundle, in a folder of its own."""
  workdir = tmp_path_factory.mktemp('calibrated') / 'small'
  shutil.copytree(run, workdir)
  waves = [wave(seed=seed) for seed in range(24)]
  embeddings, outputs = detector.embed(waves)
  scores = np.asarray(detector.loss.score(outputs))
  labels = (scores > np.median(scores)).astype(int)
  labels[:2] ^= 1
  measured = [bundle.measures.measure(one) for one in waves]
  heard = bundle.Heard('tones', scores, labels, embeddings, measured)
  bundle.of_run(workdir, heard, {}, 'dev')
  return workdir


def test_table_has_verdicts(command, capsys, calibrated, tmp_path):
  path = write_wave(tmp_path / 'a.wav', wave())
  noise = np.random.default_rng(0).normal(0, 0.1, RATE)
  write_wave(tmp_path / 'noise.wav', noise)
  status, lines, _ = detect(
    command, capsys, calibrated, '--prior', '0.1',
    '--input', path, tmp_path / 'noise.wav',
  )  # fmt: skip
  assert status == 0
  assert lines[0].split()[:4] == ['file', 'verdict', 'P(spoof)', 'LLR']
  loaded = Detector.load(calibrated, prior=0.1)
  found = loaded.score(path)
  assert f'{found.llr:+.2f}' in lines[1] and f'{found.p_spoof:.2%}' in lines[1]
  assert 'uncertain' in lines[2] and 'of the training domain' in lines[2]
  assert lines[3].startswith('P(spoof): at a prior of 0.1.')
  assert 'calibrated on tones' in lines[3]


def test_a_far_and_a_prior_that_cannot_be(command, capsys, run, calibrated):
  for workdir, options, words in (
    (run, ['--prior', '0.1'], 'not calibrated'),
    (calibrated, ['--prior', '2'], 'prior=2'),
    (calibrated, ['--target_far', '0'], 'target_far=0'),
  ):
    status, _, errors = detect(
      command, capsys, workdir, *options, '--input', 'a.wav'
    )
    assert status == 2 and words in errors


def test_csv_and_channels(command, capsys, calibrated, tmp_path):
  stereo = np.stack([wave(1.0), wave(1.0, seed=4)], 1)
  path = write_wave(tmp_path / 'a "b",\nc.wav', stereo, subtype='FLOAT')
  mono = [
    write_wave(tmp_path / f'{n}.wav', stereo[:, n], subtype='FLOAT')
    for n in range(2)
  ]
  scores = []
  for n, options in ((0, ['1']), (1, ['2'])):
    status, lines, _ = detect(
      command, capsys, calibrated, '--csv', '--channel', *options,
      '--input', path, mono[n] if n == 0 else path,
    )  # fmt: skip
    assert status == 0
    rows = list(csv.DictReader(io.StringIO('\n'.join(lines))))
    assert [row['path'] for row in rows][0] == str(path)
    assert rows[0]['score'] == rows[-1]['score'] and rows[0]['verdict']
    scores.append(float(rows[0]['score']))
  loaded = Detector.load(calibrated)
  found = [loaded.score(stereo, RATE, channel=n).score for n in (1, 2)]
  assert found == pytest.approx(scores, abs=2e-6) and found[0] != found[1]
  with pytest.raises(ValueError, match='no channel 3, it has 2'):
    loaded.score(path, channel=3)
  status, lines, errors = detect(
    command, capsys, calibrated, '--channel', '3', '--input', path
  )
  assert status == 1 and 'no channel 3' in errors


def test_standard_input_lists_and_patterns(
  command, capsys, run, tmp_path, monkeypatch
):
  for name in ('a.wav', 'b.wav', 'sub/c.wav', 'd\ne.wav'):
    write_wave(tmp_path / name, wave())
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'list.txt').write_text('a.wav\nsub\n\ngone.wav\n')
  (tmp_path / 'zero.txt').write_bytes(b'd\ne.wav\0b.wav\0')
  paths, problems = command.expand(['@list.txt', '@zero.txt', '[ab].wav'])
  # Each once, however often it is named.
  assert paths == ['a.wav', 'sub/c.wav', 'gone.wav', 'd\ne.wav', 'b.wav']
  assert not problems
  assert command.expand(['', '']) == (
    [], [Failure('', "'': an empty name, expected a file")]
  )  # fmt: skip
  assert command.expand(['**/*.wav'])[0].count('sub/c.wav') == 1
  _, problems = command.expand(['*.mp3'])
  assert problems == [Failure('*.mp3', '*.mp3: no file has such a name')]
  status, _, errors = detect(command, capsys, run, '--input', '@gone.txt')
  assert status == 2 and 'gone.txt' in errors
  data = (tmp_path / 'a.wav').read_bytes()
  stdin = types.SimpleNamespace(buffer=io.BytesIO(data))
  monkeypatch.setattr(sys, 'stdin', stdin)
  status, lines, _ = detect(
    command, capsys, run, '--json', '--input', '-', 'a.wav'
  )
  piped, named = map(json.loads, lines)
  assert (status, piped['path'], piped['score']) == (0, '-', named['score'])


def test_a_table_goes_on_where_it_stopped(
  command, capsys, calibrated, tmp_path, monkeypatch
):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(Detector, 'load', functools.cache(Detector.load))
  names = ['a.wav', 'b\nc.wav', 'd.wav', 'e, "f".wav']
  for seed, name in enumerate(names):
    write_wave(tmp_path / name, wave(seed=seed))
  (tmp_path / 'bad.wav').write_text('these are words')
  names.insert(2, 'bad.wav')
  arguments = ['--input', *names, 'a.wav', '*.mp3', '--out', 'out.csv']
  status, lines, errors = detect(command, capsys, calibrated, *arguments)
  assert (status, lines) == (1, [])
  assert '6 recordings, 2 of them cannot be scored' in errors
  out = tmp_path / 'out.csv'
  whole = out.read_bytes()
  with out.open(newline='') as file:
    rows = list(csv.DictReader(file))
  assert [row['path'] for row in rows] == ['*.mp3', *names]
  assert rows[3]['error'].startswith('bad.wav: not audio')
  assert rows[1]['verdict'] in ('bona fide', 'spoof', 'uncertain')
  # Killed at any byte, it ends as it would have.
  for size in (0, 30, len(whole) // 3, len(whole) // 2, len(whole) - 1):
    out.write_bytes(whole[:size])
    assert detect(command, capsys, calibrated, *arguments)[0] == 1
    assert out.read_bytes() == whole
  assert detect(command, capsys, calibrated, *arguments)[0] == 1
  assert out.read_bytes() == whole
  # Rows of another detector or of other settings do not mix.
  for more in (['--prior', '0.1'], ['--channel', '1'], ['--seconds', '1']):
    status, _, errors = detect(command, capsys, calibrated, *arguments, *more)
    assert status == 2 and 'of another detector or other settings' in errors
    assert out.read_bytes() == whole
  out.write_text('something,else\n')
  status, _, errors = detect(command, capsys, calibrated, *arguments)
  assert status == 2 and 'not a table that this command has written' in errors
  assert out.read_text() == 'something,else\n'


def test_samples_of_a_program(calibrated, detector):
  loaded = Detector.load(calibrated)
  sound = wave(1.0)
  found = loaded.score(sound, RATE)
  assert (found.path, found.duration) == ('samples 0', 1.0)
  whole = np.round(sound * 2**15).astype(np.int16)
  assert loaded.score(whole, RATE).score == pytest.approx(found.score, abs=2e-2)
  both = list(loaded.score_many([sound, sound[:RATE]], RATE, names=['x', 'y']))
  assert [one.path for one in both] == ['x', 'y']
  # As other libraries have them.
  for kind in (jnp.asarray, lambda x: list(map(float, x))):
    assert loaded.score(kind(sound), RATE).score == found.score
    assert loaded.timeline(kind(sound), RATE).duration == 1.0
  high = np.repeat(sound, 3)
  assert loaded.score(high, 3 * RATE).scored == found.scored
  for samples, rate, words in (
    (sound, None, 'give sample_rate'),
    (np.zeros((2, 800)), RATE, 'transpose'),
    (np.zeros((4, 4, 4)), RATE, 'expected .samples'),
    (np.zeros(RATE), RATE, 'holds no sound'),
    (np.full(RATE, np.nan), RATE, 'not finite numbers'),
    (sound * 99, RATE, 'expected full scale'),
    (np.zeros(RATE, np.uint8), RATE, 'samples of uint8'),
    (sound, 7, 'sample rate 7 Hz'),
  ):
    with pytest.raises(ValueError, match=words):
      loaded.score(samples, rate)


def test_long_recordings(command, capsys, calibrated, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  monkeypatch.setattr(Detector, 'load', functools.cache(Detector.load))
  sound = np.concatenate([wave(1.0, seed) for seed in (0, 4)])
  write_wave(tmp_path / 'a.wav', sound, subtype='FLOAT')
  arguments = ['--input', 'a.wav', '--hop', '0.25']
  status, lines, _ = detect(
    command, capsys, calibrated, *arguments, '--segments', 'a.rttm',
    '--picture', 'a.svg',
  )  # fmt: skip
  assert status == 0 and lines[1].split()[0] == 'a.wav'
  assert (tmp_path / 'a.rttm').read_text().startswith('SPEAKER a.wav 1 0.000')
  assert (tmp_path / 'a.svg').read_text().rstrip().endswith('</svg>')
  status, (line,), _ = detect(command, capsys, calibrated, *arguments, '--json')
  found = json.loads(line)
  assert [w['start'] for w in found['windows']] == [i / 4 for i in range(7)]
  loaded = Detector.load(calibrated)
  for window in found['windows']:
    start = round(window['start'] * RATE)
    alone = loaded.score(sound[start : start + SAMPLES], RATE)
    assert window['llr'] == pytest.approx(alone.llr, abs=1e-5)
  # The same, as it comes from a microphone.
  reading, writing = os.pipe()
  os.write(writing, sound.astype('<f4').tobytes()[:60_000])
  os.write(writing, b'')
  os.close(writing)
  stdin = types.SimpleNamespace(fileno=lambda: reading)
  monkeypatch.setattr(sys, 'stdin', stdin)
  status, lines, _ = detect(
    command, capsys, calibrated, '--json', '--hop', '0.25',
    '--stream', 'f32le:16000:1',
  )  # fmt: skip
  os.close(reading)
  heard = [json.loads(line) for line in lines]
  assert status == 0 and len(heard) == 3  # of 0.94 s: the last ends there
  for one, other in zip(heard[:2], found['windows'], strict=False):
    assert one['llr'] == pytest.approx(other['llr'], abs=1e-5)
    assert one['verdict'] in ('bona fide', 'spoof', 'uncertain')
  for options, words in (
    (['--input', 'a.wav', '--segments', 'a.doc'], 'ends in .json, .csv, .rttm'),
    (['--input', 'a.wav', '--picture', 'a.png'], 'name in .svg'),
    (['--input', 'a.wav', 'b.wav', '--picture', 'a.svg'], 'is of one recordin'),
    (['--input', 'a.wav', '--hop', '0.6'], 'hop=0.6: expected more than 0'),
    (['--stream', 'mp3:1:1'], 'expected FORMAT:RATE:CHANNELS'),
    (['--stream', 's16le:16000:0'], 'expected 1 to 64 channels'),
  ):
    status, _, errors = detect(command, capsys, calibrated, *options)
    assert status == 2 and words in errors, errors
  status, _, errors = detect(
    command, capsys, calibrated, '--timeline', '--input', 'gone.wav'
  )
  assert status == 1 and errors == 'gone.wav: no such file\n'
  for options in ([], ['--input', 'a.wav', '--stream']):
    with pytest.raises(SystemExit, match='2'):
      detect(command, capsys, calibrated, *options)


@pytest.mark.parametrize(
  'name',
  [
    'seconds', 'prior', 'target_far', 'hop', 'limit_seconds',
    'limit_megabytes',
  ],
)  # fmt: skip
@pytest.mark.parametrize('value', ['nan', 'inf', '-inf'])
def test_numbers_are_finite(command, capsys, name, value):
  with pytest.raises(SystemExit, match='2'):
    command.main(['--input', 'a.wav', f'--{name}={value}'])
  assert f'--{name}: invalid number value' in capsys.readouterr().err


def test_too_little_memory_is_no_traceback(command, monkeypatch, capsys):
  said = [
    'RESOURCE_EXHAUSTED: allocating 253458565728 bytes',
    'a fault of ours',
  ]

  def main(argv):
    raise RuntimeError(said.pop(0))

  monkeypatch.setattr(detect_command, 'main', main)
  monkeypatch.setattr(detect_command.huge_pages, 'ensure', lambda: None)
  monkeypatch.setattr(
    sys.stdout, 'reconfigure', lambda **_: None, raising=False
  )
  with pytest.raises(SystemExit, match='2'):
    detect_command.start([])
  text = capsys.readouterr().err
  assert 'not enough memory' in text and '--batch' in text
  with pytest.raises(RuntimeError, match='a fault of ours'):
    detect_command.start([])


def test_numbers_are_finite_from_python(run, calibrated):
  with pytest.raises(ValueError, match='seconds=nan: expected a finite number'):
    Detector.load(run, seconds=float('nan'))
  for hop in (float('nan'), float('inf')):
    with pytest.raises(ValueError, match=f'hop={hop}: expected more than 0'):
      Detector.load(calibrated).windows([], hop=hop)


def test_an_uncalibrated_detector_has_no_timeline(command, capsys, run):
  status, _, errors = detect(
    command, capsys, run, '--timeline', '--input', 'a.wav'
  )
  assert status == 2 and 'the detector is not calibrated' in errors


def test_threads_may_share_a_detector(calibrated):
  loaded = Detector.load(calibrated)
  sounds = [wave(1.0, seed) for seed in range(6)]
  expected = [loaded.score(sound, RATE).score for sound in sounds]
  with futures.ThreadPoolExecutor(6) as pool:
    found = list(pool.map(lambda s: loaded.score(s, RATE).score, sounds))
  assert found == expected


def test_the_command_as_it_is_typed(repository, run, tmp_path, programs):
  """A process of its own: streams, status, and what it does not import."""
  path = write_wave(tmp_path / 'a b.wav', wave())
  code = (
    'import sys, detect; status = detect.main(sys.argv[1:]);'
    ' heavy = {"grain", "tensorflow_datasets", "tensorflow", "torch"};'
    ' print(sorted(heavy & set(sys.modules))); sys.exit(status)'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, '--json', '--checkpoint', run]
    + ['--input', path, 'gone.wav'],
    cwd=repository,
    env={
      **os.environ,
      'PYTHONPATH': str(repository),
      'JAX_DISABLE_MOST_OPTIMIZATIONS': '1',  # compiles in half the time
      'JAX_COMPILATION_CACHE_DIR': programs,
      'JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES': 'none',  # as `programs`
    },
    capture_output=True,
    text=True,
    timeout=280,
    check=False,
  )
  assert done.returncode == 1, done.stderr
  first, second, heavy = done.stdout.splitlines()
  assert json.loads(first)['path'] == str(path)
  assert json.loads(second)['error'] == 'gone.wav: no such file'
  assert done.stderr == 'gone.wav: no such file\n'
  assert heavy == '[]'
