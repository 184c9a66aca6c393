"""Embeddings of splits and folders: what is written, what is bad."""

import csv
import functools
import json
import re

import jax
import numpy as np
import pytest
import soundfile
from absl.testing import flagsaver
from flax import nnx

from jaxspoof import audio, embeddings, jobs, models, overrides
from jaxspoof.data.source import Source
from jaxspoof.detector import Detector
from jaxspoof.jobs import embed
from jaxspoof.runs import weights_file
from jaxspoof.training import state as state_lib
from tfds_builders import build

pytestmark = pytest.mark.usefixtures('programs')
RATE, SAMPLES, SIZE = 16_000, 4_000, 20
SMALL = {'name': 'aasist_l', 'channels': [4, 4, 4], 'gat_dims': [4, 4]}
FIELDS = {'utterance', 'split', 'speaker', 'attack', 'label'}


def small_model():
  fields = dict(SMALL)
  config, kind = models.variant(fields.pop('name'), **fields)
  return kind(config, rngs=nnx.Rngs(3))


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A workdir with random weights, as training leaves it."""
  workdir = tmp_path_factory.mktemp('runs')
  config = overrides.load('configs/aasist.py:smoke').to_dict()
  config['model'] = SMALL
  config['data']['eval_samples'] = SAMPLES
  (workdir / 'config.json').write_text(json.dumps(config))
  _, *weights = state_lib.split(small_model())
  weights_file.save(workdir, *weights)
  return workdir


@pytest.fixture(scope='module')
def detector(run):
  return Detector.load(run, batch=4)


def wave(seed=0, samples=3_000):
  rng = np.random.default_rng(seed)
  return rng.normal(0, 0.1, samples).astype(np.float32)


def write(folder, count=5, name='clip {}.wav'):
  folder.mkdir(parents=True, exist_ok=True)
  for i in range(count):
    soundfile.write(folder / name.format(i), wave(i, 3_000 + 700 * i), RATE)
  return folder


@pytest.fixture(scope='module')
def corpus(tmp_path_factory):
  """A data_dir with `wav_folder/mine`: 4 clips of train, 3 of dev."""
  folder = tmp_path_factory.mktemp('corpus')
  write(folder, 7)
  rows = ['path,label,speaker,attack,split']
  for i in range(7):
    label, attack = [('real', ''), ('fake', f'tts{i % 2}')][i % 3 > 0]
    split = 'train' if i < 4 else 'dev'
    rows.append(f'clip {i}.wav,{label},s{i},{attack},{split}')
  (folder / 'mine.csv').write_text('\n'.join(rows) + '\n')
  build.build('wav_folder/mine', folder / 'data', manifest=folder / 'mine.csv')
  return folder / 'data'


def config(run, **changes):
  values = overrides.load('configs/embed.py')
  values.checkpoint = str(run)
  values.batch = 4
  with values.unlocked():
    values.update(changes)
  return values


@functools.cache
def reference_program():
  graphdef, *weights = state_lib.split(small_model())

  def call(weights, wave_BxT):
    model = state_lib.eval_view(state_lib.merge(graphdef, *weights))
    return model.embed(wave_BxT), model(wave_BxT)

  return functools.partial(jax.jit(call), weights)


def direct(waves):
  """Embeddings and logits from the module itself, clip by clip."""
  rows = [np.resize(clip, SAMPLES)[None] for clip in waves]
  found = [reference_program()(row) for row in rows]
  return map(np.concatenate, zip(*found, strict=True))


# ------------------------------------------------------------- detector ---
def test_embeddings_are_those_of_the_model(detector):
  waves = [wave(seed, 2_500 + 900 * seed) for seed in range(5)]
  found, outputs = detector.embed(waves)
  assert found.shape == (5, SIZE) and found.dtype == np.float32
  expected, logits = direct(waves)
  np.testing.assert_allclose(found, expected, atol=1e-5)
  np.testing.assert_allclose(outputs, logits, atol=1e-5)
  np.testing.assert_allclose(outputs, detector.logits(waves), atol=1e-6)


def test_embedding_costs_no_second_pass(detector, monkeypatch):
  called = []
  answer = detector._answer
  monkeypatch.setattr(
    detector, '_answer', lambda *a: called.append(1) or answer(*a)
  )
  detector.logits([wave()])
  detector.embed([wave()])
  assert len(called) == 2  # one program, once for each


# ------------------------------------------------------------------ job ---
def test_splits_of_a_corpus(run, corpus, tmp_path, capsys):
  data = {'name': 'wav_folder/mine', 'data_dir': str(corpus)}
  values = config(
    run, data={**data, 'build': False, 'splits': ('dev', 'train')}
  )
  result = jobs.run(values, tmp_path)
  assert result == {'clips': 7, 'failed': 0, 'size': SIZE}
  found, classes = embeddings.load(tmp_path / 'embeddings.npz')
  assert classes == ('spoof', 'bonafide')
  assert found.split.tolist() == ['dev'] * 3 + ['train'] * 4
  number = [int(re.search(r'(\d).wav', u)[1]) for u in found.utterance]
  assert sorted(number) == list(range(7))
  assert found.speaker.tolist() == [f's{i}' for i in number]
  assert found.label.tolist() == [int(i % 3 == 0) for i in number]
  expected = ['-' if i % 3 == 0 else f'tts{i % 2}' for i in number]
  assert found.attack.tolist() == expected
  expected, logits = direct([wave(i, 3_000 + 700 * i) for i in number])
  np.testing.assert_allclose(found.embedding, expected, atol=1e-3)
  np.testing.assert_allclose(found.outputs, logits, atol=1e-3)
  np.testing.assert_array_equal(
    found.score, found.outputs[:, 1] - found.outputs[:, 0]
  )
  assert found.embedding.dtype == found.score.dtype == np.float32
  assert len(found.of('dev')) == 3
  with (tmp_path / 'embeddings.tsv').open(newline='') as file:
    rows = list(csv.DictReader(file, delimiter='\t'))
  assert set(rows[0]) == FIELDS | {'score'}
  for i, row in enumerate(rows):
    assert float(row['score']) == found.score[i]
    assert row['label'] == ('spoof', 'bonafide')[found.label[i]]
    assert row['utterance'] == found.utterance[i]
  assert '7 embeddings of 20 numbers' in capsys.readouterr().out


def test_the_same_run_again_gives_the_same_bytes(run, tmp_path):
  folder = write(tmp_path / 'in', 3)
  values = config(run, input=str(folder))
  written = []
  for _ in range(2):
    jobs.run(values, tmp_path / 'out')
    written.append((tmp_path / 'out' / 'embeddings.npz').read_bytes())
  assert written[0] == written[1]
  with pytest.raises(ValueError, match='a run with another config: batch was'):
    jobs.run(config(run, input=str(folder), batch=1), tmp_path / 'out')


@pytest.mark.filterwarnings('ignore:the load_module:DeprecationWarning')
@pytest.mark.parametrize('failed', [0, 2])
def test_the_exit_status_tells_of_clips_that_failed(failed, monkeypatch):
  from run import main

  monkeypatch.setattr(jobs, 'run', lambda *_: {'clips': 3, 'failed': failed})
  with flagsaver.as_parsed(config='configs/embed.py'):
    if not failed:
      main(['run.py'])
      return
    with pytest.raises(SystemExit) as found:
      main(['run.py'])
  assert found.value.code == 1


def test_a_folder_with_files_that_cannot_be_read(run, tmp_path, capsys):
  folder = write(tmp_path / 'in', 5)
  write(folder / 'deep', 1, 'odd\tname {}.wav')
  (folder / 'clip 1.wav').write_bytes(b'RIFF, but no more')
  (folder / 'clip 3.wav').write_bytes(b'')
  soundfile.write(folder / 'zeros.wav', np.zeros(RATE), RATE)
  result = jobs.run(config(run, input=str(folder)), tmp_path / 'out')
  assert result == {'clips': 4, 'failed': 3, 'size': SIZE}
  found, _ = embeddings.load(tmp_path / 'out' / 'embeddings.npz')
  assert found.utterance.tolist() == [
    str(folder / name)
    for name in (
      'clip 0.wav',
      'clip 2.wav',
      'clip 4.wav',
      'deep/odd\tname 0.wav',
    )
  ]
  assert set(found.label) == {-1}
  assert set(found.split) == set(found.attack) == set(found.speaker) == {''}
  said = capsys.readouterr()
  listed = {}
  for name in ('embeddings', 'failures', 'warnings'):
    with (tmp_path / 'out' / f'{name}.tsv').open(newline='') as file:
      listed[name] = list(csv.DictReader(file, delimiter='\t'))
  assert [row['utterance'] for row in listed['failures']] == [
    str(folder / name) for name in ('clip 1.wav', 'clip 3.wav', 'zeros.wav')
  ]
  assert 'empty (0 bytes)' in listed['failures'][1]['error']
  assert 'holds no sound' in listed['failures'][2]['error']
  for row in listed['failures']:
    assert row['error'] in said.err
  short = {row['utterance']: row['warning'] for row in listed['warnings']}
  assert short[str(folder / 'clip 0.wav')] == 'only 0.19 s long'
  assert 'clip 0.wav: warning: only 0.19 s long' in said.err
  assert '3 clips could not be embedded, listed in' in said.out
  utterances = [row['utterance'] for row in listed['embeddings']]
  assert utterances == found.utterance.tolist()


def test_a_damaged_record_of_a_corpus_is_listed(detector):
  records = [
    {
      'audio': (b'', _wav(1), b'junk')[i],
      'label': i % 2,
      'utterance': f'u{i}'.encode(),
      'speaker': b's',
      'attack': b'A01',
    }
    for i in range(3)
  ]
  loads = embeddings.loads_of_split(Source(records, 'mine', 'dev'))
  found, failures, _ = embeddings.embed(detector, loads)
  assert found.utterance.tolist() == ['u1']
  assert [failure.path for failure in failures] == ['u0', 'u2']
  assert failures[0].error.startswith('mine dev, utterance u0: ')


def _wav(seed):
  import io

  file = io.BytesIO()
  soundfile.write(file, wave(seed), RATE, format='WAV')
  return file.getvalue()


def clip_loader(i):
  return lambda samples: (embeddings.Clip(f'c{i}'), audio.Clip(wave(i), 1.0))


def test_what_is_not_finite_is_listed(detector, monkeypatch):
  original = Detector.embed

  def broken(self, waves):
    embedding, outputs = (np.array(x) for x in original(self, waves))
    embedding[1, 3], outputs[2, 0] = np.nan, np.inf
    return embedding, outputs

  monkeypatch.setattr(Detector, 'embed', broken)
  loads = [clip_loader(i) for i in range(4)]
  found, failures, _ = embeddings.embed(detector, loads)
  assert found.utterance.tolist() == ['c0', 'c3']
  assert [failure.path for failure in failures] == ['c1', 'c2']
  assert failures[0].error == 'c1: its embedding is not finite'


def test_many_chunks_keep_their_order(detector, monkeypatch):
  monkeypatch.setattr(embeddings, '_CHUNK', 1)
  loads = [clip_loader(i) for i in range(10)]
  found, failures, _ = embeddings.embed(detector, loads)
  assert found.utterance.tolist() == [f'c{i}' for i in range(10)]
  assert not failures
  expected, _ = direct([wave(i) for i in range(10)])
  np.testing.assert_allclose(found.embedding, expected, atol=1e-5)


# ------------------------------------------------------------ bad input ---
def test_nothing_that_can_be_embedded(run, tmp_path):
  (tmp_path / 'in').mkdir()
  (tmp_path / 'in' / 'a.wav').write_bytes(b'')
  with pytest.raises(ValueError, match='none of 1 clips could be embedded'):
    jobs.run(config(run, input=str(tmp_path / 'in')), tmp_path / 'out')
  assert 'a.wav' in (tmp_path / 'out' / 'failures.tsv').read_text()


@pytest.mark.parametrize(
  ('changes', 'words'),
  [
    ({'checkpoint': None}, 'checkpoint is not set; expected the workdir of a'),
    ({'checkpoint': '/nowhere'}, '/nowhere: no checkpoint there'),
    ({'input': '/nowhere'}, "input='/nowhere': there is no such file or fold"),
    ({'batch': 0}, 'batch=0: expected at least 1'),
    ({'bach': 1}, "config.bach: did you mean 'batch'"),
    ({'data': {'splits': ()}}, r'data.splits=\(\): expected names of splits'),
    ({'data': {'split': 'dev'}}, "config.data.split: did you mean 'splits'"),
    ({'model': 'aasist'}, "checkpoint of another model: a run of 'aasist_l'"),
  ],
)
def test_configs_that_cannot_work(run, tmp_path, changes, words):
  values = {**config(run).to_dict(), **changes}
  with pytest.raises(ValueError, match=words):
    embed.embed(values, tmp_path / 'out')


def test_folder_without_audio(run, tmp_path):
  (tmp_path / 'in').mkdir()
  (tmp_path / 'in' / 'notes.txt').write_text('...')
  with pytest.raises(ValueError, match='no audio files below this folder'):
    embed.embed(
      {'checkpoint': str(run), 'input': str(tmp_path / 'in')}, tmp_path
    )


def test_not_a_file_of_embeddings(tmp_path):
  np.savez(tmp_path / 'x.npz', a=np.zeros(3))
  (tmp_path / 'y.npz').write_text('text')
  for name in ('x.npz', 'y.npz', 'z.npz'):
    with pytest.raises(ValueError, match='expected a file that configs/embed'):
      embeddings.load(tmp_path / name)
