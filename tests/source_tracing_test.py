"""Source tracing: results from embedded clips, the page, the whole job."""

import dataclasses
import json
import re
import shutil

import jax
import numpy as np
import pytest
import soundfile

from jaxspoof import classes as classes_lib
from jaxspoof import config as config_lib
from jaxspoof import embeddings, jobs, overrides, report, tracing, verify
from jaxspoof.embeddings import Embeddings
from jaxspoof.metrics import open_set as metrics
from jaxspoof.runs import run as run_lib
from jaxspoof.runs.names import RunError
from jaxspoof.tracing import SourceTracingConfig
from tests.small_detectors import PADDED
from tfds_builders import build

KNOWN = ('A01', 'A02', '-')
SIZE = 6


def clips(spread=0.3, dev_unknown=False, count=20, seed=0):
  """Embeddings around a vector per attack; outputs are cosines to them."""
  rng = np.random.default_rng(seed)
  middle = {a: np.eye(SIZE)[i] for i, a in enumerate((*KNOWN, 'A07', 'A08'))}
  attacks = {
    'train': KNOWN,
    'dev': (*KNOWN, 'A07') if dev_unknown else KNOWN,
    'eval': ('A01', 'A07', 'A08', '-'),
  }
  rows = [
    (middle[attack] + rng.normal(0, spread, SIZE), attack, split)
    for split, names in attacks.items()
    for attack in names
    for _ in range(count)
  ]
  vectors, attack, split = map(np.array, zip(*rows, strict=True))
  unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
  outputs = unit @ np.stack([middle[a] for a in KNOWN]).T
  label = (attack == '-').astype(np.int32)
  return Embeddings(
    vectors.astype(np.float32), outputs.astype(np.float32),
    outputs[:, -1].astype(np.float32),
    np.array([f'u{i}' for i in range(len(rows))]), split,
    np.full(len(rows), 's'), attack, label,
  )  # fmt: skip


def trace(found, **how):
  return tracing.trace(
    classes_lib.Classes(KNOWN),
    found,
    train_split='train',
    dev_split='dev',
    how=SourceTracingConfig(**how),
  )


# -------------------------------------------------------------- results ---
def test_results_are_those_of_the_metrics():
  found = clips(spread=0.5)
  result = trace(found, neighbours=3, quantile=0.1)
  assert json.loads(json.dumps(result)) == result
  assert (result['neighbours'], result['quantile']) == (3, 0.1)
  assert result['classes'] == ['A01', 'A02', 'bonafide', 'unknown']
  assert list(result['splits']) == ['dev', 'eval']
  dev, part = found.of('dev'), found.of('eval')
  labels = {'A01': 0, 'A02': 1, '-': 2}
  truth = np.array([labels.get(a, 3) for a in part.attack])
  answers = part.outputs.argmax(axis=1)
  closed = result['splits']['eval']['closed_set']
  expected = metrics.figures(truth[truth < 3], answers[truth < 3], 3)
  assert closed['accuracy'] == expected.accuracy
  assert closed['macro_f1'] == expected.macro_f1
  assert result['splits']['eval']['trials'] == {'known': 40, 'unknown': 40}
  assert sum(c['trials'] for c in closed['per_class'].values()) == 40

  train = found.of('train').embedding
  for method, score in (
    ('score', lambda x: x.outputs.max(axis=1)),
    ('neighbours', lambda x: metrics.nearest(train, x.embedding, 3)),
  ):
    opened = result['splits']['eval']['open_set'][method]
    # 6 of 60 dev clips may be refused.
    assert opened['threshold'] == np.sort(score(dev))[6]
    decided = np.where(score(part) < opened['threshold'], 3, answers)
    expected = metrics.figures(truth, decided, 4)
    assert opened['macro_f1'] == expected.macro_f1
    assert opened['accuracy'] == expected.accuracy
    assert opened['auroc'] == metrics.auroc(score(part), truth, 3)
    assert opened['known_refused'] == np.mean(decided[truth < 3] == 3)
    assert opened['unknown_found'] == np.mean(decided[truth == 3] == 3)
    rows = np.array([opened['by_attack'][a] for a in ('A07', 'A08')])
    np.testing.assert_array_equal(rows.sum(axis=0), expected.confusion[3])
    dev_found = result['splits']['dev']['open_set'][method]
    assert dev_found['known_refused'] == 0.1
    assert dev_found['auroc'] is dev_found['unknown_found'] is None


def test_a_system_with_two_names_is_known():
  found = clips(spread=0.05)
  opened = trace(found, same={'A07': 'A01'})['splits']['eval']
  assert (
    opened['trials']['known']
    > trace(found)['splits']['eval']['trials']['known']
  )
  assert opened['open_set']['score']['by_attack'].keys() >= {'A07', 'A08'}


def test_unknown_attacks_are_found_where_they_are_far():
  result = trace(clips(spread=0.05))
  for opened in result['splits']['eval']['open_set'].values():
    assert opened['auroc'] == 1
    assert opened['unknown_found'] == 1
    assert opened['macro_f1'] > 0.9 > 0.3 > opened['majority']['macro_f1']


def test_threshold_follows_unknown_dev_trials_where_there_are_some():
  found = clips(spread=0.5, dev_unknown=True)
  for method, opened in trace(found)['splits']['dev']['open_set'].items():
    assert 'with its unknown trials' in opened['chosen_by'], method
    assert f'{opened["macro_f1"]:.4f}' in opened['chosen_by']


def test_an_infinite_threshold_is_none_in_json():
  found = clips(spread=0.05, dev_unknown=True)
  found.outputs[:] = found.outputs - found.outputs.max(axis=1, keepdims=True)
  opened = trace(found)['splits']['eval']['open_set']['score']
  assert opened['threshold'] is None
  assert opened['known_refused'] in (0, 1)  # which of the two infinities
  json.dumps(opened, allow_nan=False)


def test_a_split_of_unknown_attacks_only():
  found = clips()
  new = np.isin(found.attack, ['A07', 'A08']) | (found.split != 'eval')
  found = Embeddings(**{k: v[new] for k, v in vars(found).items()})
  result = trace(found)['splits']['eval']
  assert result['closed_set'] is None
  assert result['trials'] == {'known': 0, 'unknown': 40}
  assert result['open_set']['score']['known_refused'] is None
  assert '-' in tracing.table(trace(found)).splitlines()[-1]


def test_one_class_is_no_closed_set():
  found = clips()
  kept = (found.split != 'eval') | np.isin(found.attack, ['A07', '-'])
  found = Embeddings(**{k: v[kept] for k, v in vars(found).items()})
  result = trace(found)['splits']['eval']
  assert result['trials'] == {'known': 20, 'unknown': 20}
  assert result['closed_set'] is None
  assert result['open_set']['score']['macro_f1'] > 0


def test_table_has_a_line_for_each_split():
  result = trace(clips())
  _, dev, eval_ = tracing.table(result).splitlines()
  closed = result['splits']['eval']['closed_set']
  assert eval_.split()[:3] == ['eval', '40', '40']
  assert f'{closed["macro_f1"]:.4f}' in eval_
  opened = result['splits']['eval']['open_set']['neighbours']
  assert f'neighbours {opened["macro_f1"]:.4f} ({opened["auroc"]:.4f})' in eval_
  assert '(' not in dev  # no AUROC without unknown trials


@pytest.mark.parametrize(
  ('field', 'value', 'words'),
  [
    ('neighbours', 0, 'source_tracing.neighbours=0: expected at least 1'),
    ('quantile', 1.0, 'source_tracing.quantile=1.0: expected a share'),
    ('quantile', -0.1, 'source_tracing.quantile=-0.1'),
  ],
)
def test_settings_that_cannot_be(field, value, words):
  with pytest.raises(ValueError, match=words):
    SourceTracingConfig(**{field: value})


# ----------------------------------------------------------------- page ---
def write_run(workdir, found):
  result = trace(found)
  (workdir / 'config.json').write_text('{}')
  (workdir / 'source_tracing.json').write_text(json.dumps(result))
  embeddings.save(workdir, found, result['classes'][:-1])
  return result


def test_page_shows_figures_confusions_and_maps(tmp_path):
  result = write_run(tmp_path, clips(spread=0.5))
  page = report.write(tmp_path).read_text()
  dev = result['splits']['dev']
  assert f'<title>Macro-F1 {dev["closed_set"]["macro_f1"]:.3f} on dev' in page
  for heading in (
    'Source tracing', 'What is taken for what', 'Map of the embeddings'
  ):  # fmt: skip
    assert f'<h2>{heading}</h2>' in page
  assert page.count('aria-label="Answers by truth, ') == 3
  assert 'A07 (new)' in page and 'A01 (new)' not in page
  assert page.count('aria-label="Map of 200 embeddings') == 2
  assert 'axes 1 and 2' in page and 'axes 3 and 4' in page
  for values in result['splits']['eval']['open_set'].values():
    assert f'{values["macro_f1"]:.3f}' in page
    assert f'{values["auroc"]:.3f}' in page


def test_headline_is_the_split_of_the_result_and_its_open_set(tmp_path):
  result = write_run(tmp_path, clips(spread=0.5))
  trials = {'total': 3, 'bonafide': 1, 'spoof': 2}
  rates = {'eer': 0.5, 'eer_interval': [0.1, 0.9], 'eer_threshold': 0.0}
  metrics_json = {
    **rates, 'trials': trials, 'split': 'eval', 'per_attack': {},
    'selected_on': 'dev',
  }  # fmt: skip
  (tmp_path / 'metrics.json').write_text(json.dumps(metrics_json))
  page = report.write(tmp_path).read_text()
  dev, eval_ = (result['splits'][s]['open_set'] for s in ('dev', 'eval'))
  method = max(dev, key=lambda m: dev[m]['macro_f1'])
  expected = f'Macro-F1 {eval_[method]["macro_f1"]:.3f} on eval'
  assert f'<title>{expected}' in page
  assert '40 of attacks that were not' in page.replace(',', '')


def test_page_of_a_broken_file(tmp_path):
  write_run(tmp_path, clips())
  (tmp_path / 'embeddings.npz').write_bytes(b'junk')
  with pytest.raises(RunError, match='embeddings.npz: expected a file'):
    report.write(tmp_path)
  (tmp_path / 'source_tracing.json').write_text('{"classes": 3}')
  with pytest.raises(RunError, match='field classes must be list, got 3'):
    report.write(tmp_path)


# ------------------------------------------------------------------ job ---
def tiny(corpora, **changes):
  """Source tracing by a tiny model, on a tiny corpus."""
  config = overrides.load('configs/ecapa_source_tracing.py:smoke')
  config.model.update(PADDED)  # compiles quickly
  config.epochs, config.average, config.resamples = 1, 'none', 8
  config.data.data_dir = str(corpora)
  config.mesh.devices = 1  # compiles faster
  config.source_tracing.neighbours, config.source_tracing.quantile = 3, 0.1
  config.update(changes)
  return config


def test_names_of_earlier_versions_still_work(tmp_path):
  earlier = overrides.load('configs/ecapa_attribution.py:smoke')
  now = overrides.load('configs/ecapa_source_tracing.py:smoke')
  assert earlier.to_dict() == now.to_dict()
  assert overrides.modern(['--config.recognition.quantile=0.1']) == [
    '--config.source_tracing.quantile=0.1'
  ]
  kept = {'job': 'attribution', 'task': 'recognition', 'recognition': {'a': 1}}
  assert config_lib.modern({**kept, 'seed': 0}) == {
    'job': 'source_tracing',
    'task': 'source_tracing',
    'source_tracing': {'a': 1},
    'seed': 0,
  }
  expected = json.loads(json.dumps(write_run(tmp_path, clips())))
  now = tmp_path / 'source_tracing.json'
  now.rename(tmp_path / 'recognition.json')
  assert run_lib.load(tmp_path).source_tracing == expected
  # Written anew by this version beside the earlier one.
  now.write_text(json.dumps({**expected, 'dev': 'other'}))
  assert run_lib.load(tmp_path).source_tracing['dev'] == 'other'


@pytest.mark.parametrize('variant', ['', ':add2023', ':quickstart', ':smoke'])
def test_config_file(variant):
  values = overrides.load(f'configs/ecapa_source_tracing.py{variant}').to_dict()
  assert values['job'] == 'source_tracing'
  how = SourceTracingConfig(**values.pop('source_tracing'))
  assert set(how.same) == (set() if variant else {'A16', 'A19'})
  how = dataclasses.replace(how, same={})
  assert how == SourceTracingConfig()  # what the metrics have by default
  config = config_lib.run_config(values)
  assert config.task == 'source_tracing' and config.data.balanced
  assert config.loss.name == 'aam_softmax'
  name = {'': 'asvspoof2019_la', ':add2023': 'add2023_track3'}
  assert config.data.name == name.get(
    variant, 'quickstart/tiny' if variant == ':smoke' else 'quickstart'
  )


@pytest.fixture(scope='module')
def finished(programs, quickstart_tiny, tmp_path_factory):
  """The workdir of a run that has ended, and what its job returned."""
  del programs
  workdir = tmp_path_factory.mktemp('run')
  written, write = [], report.write
  # optax mixes its dtypes
  with (
    jax.numpy_dtype_promotion('standard'),
    pytest.MonkeyPatch.context() as patched,
  ):
    patched.setattr(report, 'write', lambda w: written.append(w) or write(w))
    result = jobs.run(tiny(quickstart_tiny), workdir)
  assert written == [workdir]  # once, after all that it shows
  return workdir, result


def test_job_writes_what_follows_from_its_embeddings(finished):
  workdir, result = finished
  assert json.loads((workdir / 'source_tracing.json').read_text()) == result
  found, classes = embeddings.load(workdir / 'embeddings.npz')
  assert list(classes) == result['classes'][:-1]
  assert classes == (*(f'A{n:02d}' for n in range(1, 7)), 'bonafide')
  splits = ['train', 'dev', 'eval', 'eval_hard']
  assert list(dict.fromkeys(found.split)) == splits
  assert found.outputs.shape == (len(found), 7)
  assert np.all(np.abs(found.outputs) <= 1 + 1e-6)  # cosines
  again = tracing.trace(
    classes_lib.Classes.called(classes),
    found,
    train_split='train',
    dev_split='dev',
    how=SourceTracingConfig(3, 0.1),
  )
  assert again == result
  assert result['splits']['eval_hard']['trials']['unknown'] == 24
  assert result['splits']['dev']['trials']['unknown'] == 0


def test_changed_figures_and_embeddings_are_found_out(finished, tmp_path):
  workdir, _ = finished
  for name in ('source_tracing.json', 'embeddings.npz'):
    copy = tmp_path / name / 'run'
    shutil.copytree(workdir, copy, ignore=shutil.ignore_patterns('check*'))
    changed = bytearray((copy / name).read_bytes())
    changed[-9] ^= 1
    (copy / name).write_bytes(changed)
    said = f'{copy / name}: changed since the run ended'
    assert verify.verify(copy) == [said]


def test_job_leaves_a_run_that_verifies_and_a_report(finished):
  workdir, result = finished
  assert verify.verify(workdir) == []
  page = (workdir / 'report.html').read_text()
  assert '<h2>Source tracing</h2>' in page
  metrics_json = json.loads((workdir / 'metrics.json').read_text())
  chosen = re.search(
    r"lowest 1 - macro-F1 on split 'dev': ([\d.]+)%",
    metrics_json['selected_on'],
  )
  dev = result['splits']['dev']['closed_set']
  assert float(chosen[1]) == pytest.approx(
    100 * (1 - dev['macro_f1']), abs=1e-3
  )


def test_embeddings_of_the_job_are_those_of_job_embed(
  finished, quickstart_tiny, tmp_path
):
  workdir, _ = finished
  config = overrides.load('configs/embed.py')
  config.checkpoint = str(workdir)
  config.data.name, config.data.splits = 'quickstart/tiny', ('dev',)
  config.data.data_dir = str(quickstart_tiny)
  jobs.run(config, tmp_path)
  expected, classes = embeddings.load(workdir / 'embeddings.npz')
  found, names = embeddings.load(tmp_path / 'embeddings.npz')
  assert names == classes
  for name, value in vars(found).items():
    np.testing.assert_array_equal(value, getattr(expected.of('dev'), name))


def test_job_refuses_what_it_cannot_do(quickstart_tiny, tmp_path):
  with pytest.raises(ValueError, match="task='detection': the job e"):
    jobs.run(tiny(quickstart_tiny, task='detection'), tmp_path / 'a')
  config = tiny(quickstart_tiny)
  config.source_tracing.neighbours = 0
  with pytest.raises(ValueError, match='neighbours=0: expected at least 1'):
    jobs.run(config, tmp_path / 'b')
  assert not list(tmp_path.iterdir())


def test_corpus_without_attack_labels_is_refused_at_once(tmp_path):
  rows = ['path,label,split']
  for i in range(6):
    soundfile.write(tmp_path / f'{i}.wav', np.full(4_000, 0.1 * i), 16_000)
    label, split = ('real', 'fake')[i % 2], ('train', 'dev', 'eval')[i // 2]
    rows.append(f'{i}.wav,{label},{split}')
  (tmp_path / 'mine.csv').write_text('\n'.join(rows))
  data = tmp_path / 'data'
  build.build('wav_folder/mine', data, manifest=tmp_path / 'mine.csv')
  config = tiny(data)
  config.data.name, config.data.build = 'wav_folder/mine', False
  with pytest.raises(ValueError, match='has no split eval_hard; it has dev, e'):
    jobs.run(config, tmp_path / 'run')
  config.data.eval = ('eval',)
  expected = 'wav_folder/mine train: 1 of 1 spoofed clips have no attack label'
  with pytest.raises(ValueError, match=expected):
    jobs.run(config, tmp_path / 'run')
