"""Training on several corpora: what batches hold, selection, going on."""

import json
import pickle
import shutil

import jax
import numpy as np
import pytest

from configs import common
from jaxspoof import checkpoints, jobs, overrides, report, verify
from jaxspoof import config as config_lib
from jaxspoof.data import pipeline
from jaxspoof.runs import splits
from jaxspoof.training import checkpoint, setup
from tests import pages
from tests.pipeline_test import assert_same, clip_of, corpus, take
from tests.train_test import write_recordings
from tfds_builders import build

FIRST, SECOND = 'quickstart/tiny', 'wav_folder/mine'


# ---------------------------------------------------------------- batches ---
def mixture(weights=(), sizes=(9, 17)):
  """Clip i of the mixture holds ramps from 1000 i on, see `pipeline_test`."""
  whole = corpus(sum(sizes))
  sources, at = [], 0
  for number, size in enumerate(sizes):
    records = whole.records[at : at + size]
    sources.append(pipeline.Source(records, f'corpus{number}', 'train'))
    at += size
  return pipeline.Mixture(tuple(sources), weights)


def clips(source, batches=20, **options):
  options = {'batch': 6, 'samples': 100, 'seed': 5, **options}
  found = take(pipeline.train_batches(source, **options), batches)
  return np.stack([clip_of(batch['wave']) for batch in found])


def test_a_mixture_is_its_sources_one_after_the_other():
  source, whole = mixture(), corpus(26)
  assert len(source) == 26
  for index in range(26):
    assert source[index] == whole[index]
  assert source.number_of([0, 8, 9, 25]).tolist() == [0, 0, 1, 1]
  assert pipeline.name_of(source) == 'corpus0+corpus1 train'
  # Without weights it is trained on as one corpus of all clips.
  np.testing.assert_array_equal(clips(source), clips(whole))
  balanced = clips(source, balanced=True)
  np.testing.assert_array_equal(balanced, clips(whole, balanced=True))


@pytest.mark.parametrize('balanced', [False, True])
@pytest.mark.parametrize('weights', [(1, 1), (3, 1)])
def test_weights_are_the_shares_of_the_corpora(weights, balanced):
  source = mixture(weights)
  found = clips(source, 40, balanced=balanced)
  share = np.mean(found < 9)  # of the first corpus
  assert share == pytest.approx(weights[0] / sum(weights), abs=0.01)
  bona_fide = found % 3 == 0  # see `corpus`
  if balanced:
    assert (bona_fide.sum(axis=1) == 3).all()
    for one in (found[bona_fide], found[~bona_fide]):  # in each class as well
      assert np.mean(one < 9) == pytest.approx(share, abs=0.02)
  # No clip is left out, and each is as frequent as others of its kind.
  kinds = 2 * (np.arange(26) < 9) + (np.arange(26) % 3 == 0)
  counts = np.bincount(found.ravel(), minlength=26)
  for kind in range(4) if balanced else (0, 2):
    of_kind = kinds == kind if balanced else kinds // 2 == kind // 2
    assert counts[of_kind].max() - counts[of_kind].min() <= 1


def test_a_corpus_of_one_class_leaves_the_other_to_the_rest():
  whole = corpus(20)
  spoof = [record for record in whole.records if not record['label']]
  only = pipeline.Source(spoof, 'only', 'train')
  source = pipeline.Mixture((whole, only), (1, 1))
  batches = pipeline.train_batches(
    source, batch=8, samples=100, seed=5, balanced=True
  )
  labels = np.stack([batch['label'] for batch in take(batches, 5)])
  assert (labels.sum(axis=1) == 4).all()


def test_workers_hosts_and_restarts_change_nothing_of_a_mixture():
  source = mixture((3, 1))
  options = {'batch': 8, 'samples': 100, 'seed': 5, 'balanced': True}
  alone = take(pipeline.train_batches(source, **options), 6)
  sent = pickle.loads(pickle.dumps(source))  # as to a worker
  assert_same(take(pipeline.train_batches(sent, **options), 6), alone)
  for process in range(2):
    part = pipeline.train_batches(source, process=(process, 2), **options)
    rows = slice(4 * process, 4 * process + 4)
    for whole, own in zip(alone, take(part, 6), strict=True):
      for name in whole:
        np.testing.assert_array_equal(own[name], whole[name][rows])
  again = iter(pipeline.train_batches(source, **options))
  again.set_state({'next_batch': 4})
  assert_same([next(again), next(again)], alone[4:])
  again.close()


def test_a_clip_that_cannot_be_read_is_named_with_its_corpus():
  source = mixture((1, 1))
  source.sources[1].records[0]['audio'] = b'no audio'
  with pytest.raises(ValueError, match='corpus1 train, utterance U09: not'):
    clips(source)


# ---------------------------------------------------------- names, configs ---
def test_parts_of_one_corpus_and_of_several():
  assert splits.parts('a/b', 'dev[:9%]') == (('a/b', 'dev[:9%]', 'dev[:9%]'),)
  assert splits.parts('a/b+c', 'dev') == (
    ('a/b', 'dev', 'a_b.dev'),
    ('c', 'dev', 'c.dev'),
  )
  found = splits.parts('a+c', 'train,train[:80%]')
  assert [part.split for part in found] == ['train', 'train[:80%]']
  for name, given, words in (
    (
      'a+b+c',
      'x,y',
      "'x,y' are 2 splits of the 3 corpora of data.name='a",
    ),
    ('a+a', 'x', 'expected different corpora, joined by'),
    ('a+', 'x', 'expected different corpora, joined by'),
  ):
    with pytest.raises(ValueError, match=words):
      splits.parts(name, given)


@pytest.mark.parametrize(
  ('fields', 'words'),
  [
    ({'weights': (1,)}, r'data.weights=\(1,\): expected 2 numbers above 0'),
    ({'weights': (1, 0)}, 'expected 2 numbers above 0'),
    ({'select': 'best'}, "data.select='best': expected 'mean', 'worst' or"),
    ({'dev': 'dev,train'}, "data.dev and data.train are both 'train'"),
    ({'dev': 'dev,eval'}, "data.dev='dev,eval' and data.eval=.'eval',. share"),
    ({'dev': 'a,b,c'}, "'a,b,c' are 3 splits of the 2 corpora"),
  ],
)
def test_mixtures_that_cannot_be(fields, words):
  with pytest.raises(ValueError, match=words):
    config_lib.check_splits(config_lib.DataConfig('a+b', **fields))
  # What is a leak in one corpus is none in another.
  config_lib.check_splits(config_lib.DataConfig('a+b', dev='dev,other'))


def test_only_training_takes_several_corpora():
  with pytest.raises(ValueError, match="'a.b' are several corpora, which only"):
    pipeline.open_source('a+b', 'eval')


def test_selection_is_by_mean_or_worst():
  data = config_lib.DataConfig('a+b')
  errors = {'a.dev': 0.1, 'b.dev': 0.3}
  assert setup.selecting_error(errors, data) == pytest.approx(0.2)
  assert setup.selected_by('EER', data) == (
    "mean EER of those on 'dev' of a and 'dev' of b"
  )
  worst = config_lib.DataConfig('a+b', select='worst')
  assert setup.selecting_error(errors, worst) == 0.3
  assert setup.selected_by('EER', worst).startswith('highest EER of those on')
  one = config_lib.DataConfig('a')
  assert setup.selecting_error({'dev': 0.1}, one) == 0.1
  assert setup.selected_by('EER', one) == "EER on split 'dev'"
  last = config_lib.DataConfig('a+b', select='last')
  assert setup.selecting_error(errors, last) == pytest.approx(0.2)
  assert setup.selection('EER', last, 7, 0.2) == (
    "nothing, the last was taken: step 7; mean EER of those on 'dev' of a and "
    "'dev' of b: 20.0000%"
  )


# --------------------------------------------------------------- training ---
@pytest.fixture(scope='module')
def corpora(tmp_path_factory, quickstart_tiny):
  """A data_dir with two corpora of the same recordings."""
  folder = tmp_path_factory.mktemp('corpora')
  (folder / 'quickstart').symlink_to(quickstart_tiny / 'quickstart')
  table = write_recordings(folder / 'mine.csv', quickstart_tiny)
  options = [f'--manifest={table}', f'--data_dir={folder}']
  assert build.main(['wav_folder', *options]) == 0
  return folder


def config(corpora, **changes):
  values = overrides.load('configs/ecapa_mfcc.py:smoke')
  fields = {
    'average': 'none',
    'epochs': 3,
    'resamples': 8,
    'mesh.devices': 1,
    'checkpoint_every': 2,
    'data.name': f'{FIRST}+{SECOND}',
    'data.data_dir': str(corpora),
    'data.build': False,
    'data.weights': (3.0, 1.0),
    'data.eval': ('eval',),
    'data.batch': 16,
  }
  values.update_from_flattened_dict(fields | changes)
  values.model = common.model('mean')  # quick to compile
  return values


@pytest.fixture(scope='module')
def run(corpora, tmp_path_factory, programs):
  workdir = tmp_path_factory.mktemp('runs') / 'mixture'
  # optax mixes its dtypes
  with jax.numpy_dtype_promotion('standard'), pages.none():
    return workdir, jobs.run(config(corpora), workdir)


def test_a_run_says_which_corpus_its_figures_are_of(run):
  workdir, result = run
  called = ['quickstart_tiny.eval', 'wav_folder_mine.eval']
  called += ['quickstart_tiny.dev', 'wav_folder_mine.dev']
  assert [result['name'], *result['further']] == called
  for name, found in zip(
    called, [result, *result['further'].values()], strict=True
  ):
    assert found['name'] == name
    assert found['corpus'] == (FIRST if 'quickstart' in name else SECOND)
    assert found['split'] == name.rpartition('.')[2]
    assert (workdir / f'scores/{name}.txt').is_file()
  assert result['selected_on'].startswith(
    "lowest mean EER of those on 'dev' of quickstart/tiny and 'dev' of wav_fold"
  )
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  lines = [line for line in map(json.loads, lines) if 'dev/eer' in line]
  assert len(lines) == 3
  for line in lines:
    each = [line[f'dev/eer/{name}'] for name in called[2:]]
    assert line['dev/eer'] == pytest.approx(np.mean(each))
  assert verify.verify(workdir) == []
  with pages.unpainted():
    page = report.write(workdir).read_text()
  for words in ('wav_folder_mine.dev (selects the model)', *called):
    assert words in page
  used = checkpoints.used_before(workdir, SECOND, ('dev', 'eval'))
  assert len(used) == 1 and "selected on split 'dev' of this" in used[0]


def test_the_last_weights_are_taken_where_nothing_selects(
  run, corpora, tmp_path
):
  # The same run, up to its last checkpoint.
  workdir = tmp_path / 'last'
  shutil.copytree(run[0], workdir)
  (workdir / 'metrics.json').unlink()
  path = workdir / 'config.json'
  path.write_text(path.read_text().replace('"mean"', '"last"', 1))
  values = config(corpora, **{'data.select': 'last'})
  with jax.numpy_dtype_promotion('standard'), pages.none():
    found = jobs.run(values, workdir)
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  errors = [x['dev/eer'] for x in map(json.loads, lines) if 'dev/eer' in x]
  called = 'quickstart_tiny.dev', 'wav_folder_mine.dev'
  eers = [found['further'][name]['eer'] for name in called]
  assert np.mean(eers) == pytest.approx(errors[-1])
  last = json.loads(lines[-1])['step']
  assert found['selected_on'].startswith(
    f'nothing, the last was taken: step {last};'
  )
  with pytest.raises(
    ValueError, match="average='late' with data.select='last'"
  ):
    jobs.run(config(corpora, average='late', **{'data.select': 'last'}), 'w')


# Who is stopped leaves a file open.
@pytest.mark.filterwarnings('ignore::pytest.PytestUnraisableExceptionWarning')
def test_a_mixture_that_was_stopped_ends_bitwise_the_same(
  run, corpora, tmp_path, monkeypatch
):
  workdir, save = tmp_path / 'stopped', checkpoint.Checkpoints.save

  def stop(self, step, *rest):
    save(self, step, *rest)
    self.wait()
    if step == 6:
      raise KeyboardInterrupt

  with jax.numpy_dtype_promotion('standard'), pages.none():
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
      patched.setattr(checkpoint.Checkpoints, 'save', stop)
      jobs.run(config(corpora), workdir)
    found = jobs.run(config(corpora), workdir)
  assert found == run[1]  # the hash of the state is in it


def test_attacks_of_several_corpora_are_not_named(corpora, tmp_path):
  values = config(corpora, task='source_tracing')
  with pytest.raises(ValueError, match='expected one corpus, as attacks'):
    jobs.run(values, tmp_path / 'w')


# ---------------------------------------------------------- leave one out ---
def test_each_corpus_is_left_out_once(corpora, tmp_path, capsys):
  values = overrides.load('configs/leave_one_out.py')
  values.system = 'configs/ecapa_mfcc.py:smoke'
  values.corpora = (FIRST, SECOND)
  values.resamples = 8
  alike = config(corpora).to_dict()
  for section, field in (
    ('mesh', 'devices'), ('data', 'data_dir'), ('data', 'build'),
    ('data', 'eval'), ('data', 'batch'),
  ):  # fmt: skip
    values.changes[f'{section}.{field}'] = alike[section][field]
  values.changes['model'] = alike['model']
  values.changes['average'] = 'none'
  values.changes['epochs'] = 1
  with jax.numpy_dtype_promotion('standard'), pages.none():
    result = jobs.run(values, tmp_path)
    capsys.readouterr()
    assert jobs.run(values, tmp_path) == result
  said = capsys.readouterr().out
  assert said.count('is finished already') == 4
  assert json.loads((tmp_path / 'leave_one_out.json').read_text()) == result
  left = result['left_out']
  assert list(left) == [FIRST, SECOND]
  for name, other in ((FIRST, SECOND), (SECOND, FIRST)):
    assert left[name]['corpus'] == name and left[name]['split'] == 'eval'
    assert {one['corpus'] for one in left[name]['seen']} == {other}
    assert f'| {name} eval | {100 * left[name]["eer"]:.2f} |' in said
  assert (tmp_path / 'leave_one_out.md').read_text() in said
  folder = tmp_path / 'without_wav_folder_mine'
  assert verify.verify(folder) == []
  assert verify.verify(folder / 'on_wav_folder_mine') == []


@pytest.mark.parametrize(
  ('field', 'value', 'words'),
  [
    ('corpora', ('a',), "corpora=.'a',.: expected two different corpora"),
    ('corpora', ('a', 'a'), 'expected two different corpora'),
    (
      'changes',
      {'data.name': 'a'},
      'names data.name: expected it in config',
    ),
    ('changes', {'data.nam': 'a'}, 'data.nam'),
  ],
)
def test_leaving_out_what_cannot_be(tmp_path, field, value, words):
  values = overrides.load('configs/leave_one_out.py').to_dict()
  values |= {'corpora': ('a', 'b'), field: value}
  with pytest.raises((ValueError, SystemExit), match=words):
    jobs.JOBS['leave_one_out'](values, tmp_path / 'w')
  assert not (tmp_path / 'w').exists()
