"""The benchmark: what is trained, what is scored once, what the table says."""

import base64
import csv
import hashlib
import json
import re
import shutil
import statistics
import sys

import numpy as np
import pytest
from flax import nnx

from configs import benchmark as config_file
from jaxspoof import config as config_lib
from jaxspoof import losses, models, overrides, report, verify
from jaxspoof.config import run_config
from jaxspoof.data import pipeline
from jaxspoof.data import source as source_lib
from jaxspoof.jobs import benchmark, evaluate
from jaxspoof.losses import LossConfig
from jaxspoof.metrics import calibration
from jaxspoof.metrics.eer import eer_of
from jaxspoof.metrics.rates import error_rates
from jaxspoof.report import sweep_texts as texts
from jaxspoof.runs import weights_file
from jaxspoof.score_files import scores as scores_lib
from jaxspoof.sweep import scored
from jaxspoof.sweep import systems as systems_lib
from jaxspoof.training import scoring, setup
from jaxspoof.training import state as state_lib
from tests import pages, warm
from tests.miniatures import MINIATURES, let_counts_differ, write_tree
from tests.small_detectors import PADDED
from tfds_builders import build

pytestmark = pytest.mark.usefixtures('programs')
TESTS = ('quickstart/tiny:dev', 'in_the_wild:eval')
CONDITIONS = ('clean', 'white:0+lead:1')
OTHER = {
  'aasist': 'configs/aasist.py:smoke',
  'ecapa': 'configs/ecapa_mfcc.py:small',
}


def write_run(workdir, seed, config=None):
  """A run of a small ECAPA-TDNN with random weights, as it is left."""
  if config is None:
    config = overrides.load('configs/ecapa_mfcc.py:smoke').to_dict()
    config['data'].update(eval_samples=34_000, bucket=64_000)
    config['model'].update(PADDED)  # compiles quickly
  workdir.mkdir(parents=True, exist_ok=True)
  (workdir / 'config.json').write_text(json.dumps(config))
  loss = losses.make(config_lib.section(LossConfig, config['loss'], 'loss'), 2)
  system = models.system(
    config['model'], config['frontend'], head=loss.head, classes=2
  )
  _, *weights = state_lib.split(system.make(nnx.Rngs(seed)))
  weights_file.save(workdir, *weights)
  rng = np.random.default_rng(seed)
  label = np.arange(40) % 2
  scores = rng.normal(size=40) / 50 + label / 100
  scores_lib.write(
    workdir / 'scores/dev.txt',
    [f'U{n}' for n in range(40)],
    np.where(label, '-', 'A01'),
    label,
    scores,
  )
  return workdir


@pytest.fixture(scope='module')
def corpora(quickstart_tiny, tmp_path_factory):
  """A data_dir with quickstart/tiny and a miniature of In-the-Wild."""
  data_dir = tmp_path_factory.mktemp('corpora')
  (data_dir / 'quickstart').symlink_to(quickstart_tiny / 'quickstart')
  made = MINIATURES['in_the_wild']()
  write_tree(data_dir / 'archive', made.files)
  with pytest.MonkeyPatch.context() as patched:
    let_counts_differ(patched, 'in_the_wild')
    build.build('in_the_wild', data_dir, manual_dir=data_dir / 'archive')
  return data_dir


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
  folder = tmp_path_factory.mktemp('runs')
  return [write_run(folder / f'run_{seed}', seed) for seed in (3, 4, 5)]


def config_of(runs, corpora):
  """Two systems, the second of two seeds, and their fusion."""
  values = config_file.of({'one': '', 'two': ''}).to_dict()
  values['systems'] = {'one': str(runs[0]), 'two': [str(r) for r in runs[1:]]}
  values |= {
    'tests': TESTS,
    'conditions': CONDITIONS,
    'dev': 'quickstart/tiny:eval',
    'fusion': True,
    'resamples': 16,
  }
  values['data'].update(data_dir=str(corpora), build=False, eval_batch=8)
  return values


@pytest.fixture(scope='module')
def made(runs, corpora, tmp_path_factory, programs):
  """A finished benchmark: workdir, config, result, output."""
  workdir = tmp_path_factory.mktemp('benchmark') / 'w'
  values = config_of(runs, corpora)
  return workdir, values, benchmark.benchmark(values, workdir)


def row_of(result, system, test, condition):
  (row,) = (
    row
    for row in result['rows']
    if (row['system'], row['test'], row['condition'])
    == (system, test, condition)
  )
  return row


# ------------------------------------------------------------------ figures ---
def test_every_system_meets_every_corpus_and_condition(made):
  workdir, _, result = made
  assert json.loads((workdir / 'benchmark.json').read_text()) == result
  assert len(result['rows']) == 3 * len(TESTS) * len(CONDITIONS)
  for row in result['rows']:
    trials = result['tests'][row['test']]['trials']
    assert row['trials'] == trials and trials['bonafide'] and trials['spoof']
    assert row['eer'] == statistics.mean(row['eers'])
    low, high = row['interval']
    assert 0 <= low <= high <= 1
    several = row['system'] == 'two'
    assert len(row['eers']) == 1 + several
    if several:
      assert row['deviation'] == statistics.stdev(row['eers'])
    first = row_of(result, 'one', row['test'], row['condition'])
    if row is not first:
      change = row['difference']
      assert change['value'] == pytest.approx(row['eer'] - first['eer'])
      assert change['p'] <= change['holm'] <= 1
  assert result['comparisons'] == 8
  assert any("selected on split 'dev'" in note for note in result['notes'])


def test_a_cell_is_what_the_evaluation_says(made, runs, tmp_path):
  """The same scores and figures as the job `evaluate`."""
  workdir, given, result = made
  values = overrides.load('configs/evaluate.py').to_dict()
  values |= {'checkpoint': str(runs[0]), 'conditions': CONDITIONS[:2]}
  values |= {'resamples': 16}
  values['data'].update(given['data'], name='quickstart/tiny', eval=('dev',))
  found = evaluate.evaluate(values, tmp_path / 'w')
  for condition, name in (
    ('clean', 'dev'),
    (CONDITIONS[1], 'dev@white_0+lead_1'),
  ):
    summary = found if name == 'dev' else found['further'][name]
    row = row_of(result, 'one', TESTS[0], condition)
    cell = workdir / 'cells' / row['cells'][0]
    ours, theirs = (
      (folder / 'scores' / f'{name}.txt').read_text()
      for folder in (cell, tmp_path / 'w')
    )
    assert ours == theirs and verify.verify(cell) == []
    for field in ('eer', 'min_dcf'):
      assert row[field] == summary[field]
    assert row['per_attack'] == {
      attack: one['eer'] for attack, one in summary['per_attack'].items()
    }


def test_calibration_and_threshold_come_from_dev(made, runs):
  workdir, _, result = made
  dev = scores_lib.read(runs[0] / 'scores/dev.txt')
  affine = calibration.fit(dev.scores, dev.label)
  threshold = eer_of(dev.scores, dev.label).threshold
  row = row_of(result, 'one', TESTS[0], 'clean')
  cell = workdir / 'cells' / row['cells'][0]
  trials = systems_lib.read(cell)
  said = calibration.figures(affine(trials.scores), trials.label)
  assert (row['cllr'], row['act_dcf']) == (said['cllr'], said['act_dcf'])
  above = np.nextafter(threshold, np.inf)
  rates = error_rates(trials.scores, trials.label, above)
  assert (row['miss'], row['false_alarm']) == tuple(rates)
  assert result['systems']['one']['dev']['trials'] == 40


def test_a_fusion_is_a_weighted_sum_fitted_on_dev(made):
  workdir, _, result = made
  members = [
    systems_lib.read(
      workdir / 'cells' / row_of(result, name, TESTS[1], 'clean')['cells'][0]
    ).scores
    for name in ('one', 'two')
  ]
  row = row_of(result, 'fusion', TESTS[1], 'clean')
  fused = systems_lib.read(workdir / 'cells' / row['cells'][0]).scores
  matrix = np.stack([*members, np.ones(len(fused))], 1)
  weights, residual, *_ = np.linalg.lstsq(matrix, fused)
  np.testing.assert_allclose(matrix @ weights, fused, atol=1e-6)
  assert 'quickstart/tiny:eval' in result['systems']['fusion']['dev']['of']


def test_the_memory_of_a_program_holds_weights_and_a_batch(made):
  _, values, result = made
  for name in ('one', 'two'):
    found = result['systems'][name]
    clips = 4 * values['data']['eval_batch'] * 34_000
    weights = 4 * found['parameters']
    assert weights + clips < found['memory'] < 100 * (weights + clips)
  assert result['systems']['fusion']['memory'] is None
  assert 'memory, MB' in texts.markdown(result)


# ------------------------------------------------------------------- groups ---
def test_trials_that_are_alike_have_figures_of_their_own():
  records = [
    {
      'utterance': f'U{n}', 'speaker': 'a', 'label': n % 2,
      'attack': b'-' if n % 2 else b'A01',
      'gender': b'fm'[n % 4 // 2 : n % 4 // 2 + 1], 'codec': b'', 'seed': b'x',
      **({'language': b'de'} if n % 2 else {}),
    }
    for n in range(40)
  ]  # fmt: skip
  trials = source_lib.trials(records)
  assert set(trials.groups) == {'gender', 'language'}
  scores = np.random.default_rng(0).normal(size=40) + trials.label
  found = scored.by_group(scores, trials)
  for name in 'fm':
    own = np.array([record['gender'] == name.encode() for record in records])
    assert found['gender'][name] == {
      'eer': eer_of(scores[own], trials.label[own]).eer,
      'trials': 20,
    }
  only = {'eer': None, 'trials': 20}  # of one class
  assert found['language'] == {'de': only, '-': only}
  assert source_lib.trials(records[:0]).groups == {}


def test_groups_are_in_the_table_and_on_the_page(made, tmp_path):
  """As means over seeds; here of cells that say more than their corpus."""
  workdir, values, result = made
  cells = shutil.copytree(workdir / 'cells', tmp_path / 'cells')
  for path in cells.glob('*/metrics.json'):
    found = json.loads(path.read_text())
    assert found['groups'] == {}  # of neither corpus
    one = {'eer': found['eer'] / 2, 'trials': 3}
    found['groups'] = {
      'codec': {'opus_x': one, 'amr': {'eer': None, 'trials': 2}}
    }
    path.write_text(json.dumps(found))
  again = benchmark.benchmark({**values, 'cells': str(cells)}, tmp_path / 'w')
  assert again['tests'][TESTS[0]]['groups'] == {
    'codec': {'opus_x': 3, 'amr': 2}
  }
  for row, before in zip(again['rows'], result['rows'], strict=True):
    half = pytest.approx(before['eer'] / 2)
    assert row['groups'] == {'codec': {'opus_x': half, 'amr': None}}
  row = row_of(again, 'two', TESTS[0], 'clean')
  shown = f'{100 * row["groups"]["codec"]["opus_x"]:.2f}'
  text = (tmp_path / 'w' / 'benchmark.md').read_text()
  (line,) = (
    x for x in text.split(f'codec, {TESTS[0]}, clean')[1].splitlines()[:6]
    if 'opus_x' in x
  )  # fmt: skip
  assert line.startswith('| opus_x | 3 |') and f'| {shown} |' in line
  page = (tmp_path / 'w' / 'report.html').read_text()
  assert f'EER by codec, trials of both classes, {TESTS[0]}, clean' in page
  assert 'opus_x, 3' in page


# -------------------------------------------------------------------- cells ---
@pytest.mark.usefixtures('compiled_anew')
def test_one_program_for_each_length(runs, corpora, tmp_path):
  """For all corpora, conditions and seeds of a system."""
  shardings = benchmark.sharding_lib.make()
  scoring._program.cache_clear()
  members = [
    systems_lib.Checkpoint(str(run), shardings, 8, 0) for run in runs[:2]
  ]
  lengths = set()
  for member in members:
    for spelt in TESTS:
      test = systems_lib.Test.read(spelt, str(corpora))
      for condition in map(benchmark.conditions.make, CONDITIONS):
        member.scores(test, condition)
        batches = pipeline.eval_batches(
          test.source, batch=8, samples=34_000, bucket=64_000, shortest=1,
          condition=condition,
        )  # fmt: skip
        lengths |= {batch['wave'].shape for batch in batches}
  assert len(lengths) == 1
  assert members[0].scorer.ms_per_clip > 0
  assert [member.release() for member in members] == [1, 0]


def no_scoring(self, *_):
  raise AssertionError('scored again')


def test_a_finished_benchmark_scores_nothing(made, monkeypatch, capsys):
  workdir, values, result = made
  monkeypatch.setattr(systems_lib.Checkpoint, 'scores', no_scoring)
  monkeypatch.setattr('jaxspoof.checkpoints.open_checkpoint', no_scoring)
  monkeypatch.setattr('jaxspoof.sweep.table.load', no_scoring)
  assert benchmark.benchmark(values, workdir) == result
  assert 'programs compiled' not in capsys.readouterr().out


def test_what_was_interrupted_goes_on(made, monkeypatch, tmp_path):
  """Stopped after each two cells; the place of the weights makes no odds."""
  _, values, result = made
  scores, done, left = systems_lib.Checkpoint.scores, [], [2]

  def stopping(self, test, condition):
    if not left[0]:
      raise KeyboardInterrupt
    left[0] -= 1
    done.append((self.path, test.name, condition.name))
    return scores(self, test, condition)

  monkeypatch.setattr(systems_lib.Checkpoint, 'scores', stopping)
  run = values['systems']['one']
  values = {**values, 'systems': {'one': run}, 'fusion': False}
  values['cells'] = str(tmp_path / 'cells')
  stops = 0
  while stops < 9:
    try:
      again = benchmark.benchmark(values, tmp_path / 'w')
      break
    except KeyboardInterrupt:
      stops, left[0] = stops + 1, 2
  assert stops == 2
  assert len(done) == len(set(done)) == len(TESTS) * len(CONDITIONS) + 1
  assert again['rows'] == [r for r in result['rows'] if r['system'] == 'one']
  left[0] = 0
  values['systems'] = {'copy': str(shutil.copytree(run, tmp_path / 'copy'))}
  moved = benchmark.benchmark(values, tmp_path / 'another')
  assert [row['cells'] for row in moved['rows']] == [
    row['cells'] for row in again['rows']
  ]


def test_killed_at_random_moments_and_by_two_at_once(
  made, tmp_path, environment
):
  """The same table in the end, and no cell is scored twice."""
  _, values, result = made
  systems = {'one': values['systems']['one']}
  values = {**values, 'systems': systems, 'fusion': False}
  workdir, log = tmp_path / 'w', tmp_path / 'log'
  task = {
    'config': values, 'workdir': str(workdir), 'log': str(log),
    'seed': 13, 'kills': 2, 'processes': 2,
  }  # fmt: skip
  (tmp_path / 'task.json').write_text(json.dumps(task))
  done = warm.run(
    [sys.executable, '-m', 'tests.sweep_kills', str(tmp_path / 'task.json')],
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode == 0, done.stderr
  found = json.loads((workdir / 'benchmark.json').read_text())
  assert found['rows'] == [r for r in result['rows'] if r['system'] == 'one']
  lines = [line for line in log.read_text().splitlines() if ': EER' in line]
  cells = [line.partition(': EER')[0] for line in lines]
  assert cells and len(cells) == len(set(cells)), 'a cell was scored twice'
  assert not list(workdir.rglob('*.partial'))


def test_a_corpus_that_was_built_anew_is_another(corpora, tmp_path):
  name, split = TESTS[1].split(':')
  before = pipeline.fingerprint(name, split, corpora)
  copy = shutil.copytree(corpora / name, tmp_path / name)
  assert pipeline.fingerprint(name, split, tmp_path) == before
  (path,) = copy.rglob('*.array_record-*')
  path.write_bytes(path.read_bytes()[:-1] + b'?')
  assert pipeline.fingerprint(name, split, tmp_path) != before


# ------------------------------------------------------------- score files ---
def test_scores_of_others_are_a_system(made, tmp_path, capsys):
  """Of one cell the same scores in another order, without keys."""
  workdir, values, result = made
  row = row_of(result, 'one', TESTS[0], 'clean')
  trials = systems_lib.read(workdir / 'cells' / row['cells'][0])
  theirs = tmp_path / 'theirs'
  theirs.mkdir()
  lines = [
    f'{u} {s!r}\n'
    for u, s in zip(trials.utterance, trials.scores.tolist(), strict=True)
  ]
  (theirs / 'quickstart_tiny.dev.txt').write_text(''.join(lines[::-1]))
  values = {
    **values,
    'systems': {'one': values['systems']['one'], 'theirs': str(theirs)},
    'cells': str(workdir / 'cells'),
    'fusion': False,
  }
  found = benchmark.benchmark(values, tmp_path / 'w')
  other = row_of(found, 'theirs', TESTS[0], 'clean')
  assert other['eer'] == row['eer'] and other['min_dcf'] == row['min_dcf']
  assert other['cllr'] is None and other['difference']['value'] == 0
  assert other['difference']['p'] == 1
  assert len(found['rows']) == len(TESTS) * len(CONDITIONS) + 1
  assert 'theirs has no scores of in_the_wild:eval, clean' in found['notes']
  (theirs / 'quickstart_tiny.dev.txt').write_text(''.join(lines[1:]))
  with pytest.raises(ValueError, match='no score of'):
    benchmark.benchmark(values, tmp_path / 'w')


# ------------------------------------------------------- forms of the table ---
def test_the_table_has_one_content_in_all_forms(made):
  workdir, _, result = made
  with (workdir / 'benchmark.csv').open() as file:
    lines = list(csv.DictReader(file))
  assert len(lines) == len(result['rows'])
  for line, row in zip(lines, result['rows'], strict=True):
    assert float(line['eer']) == row['eer']
    assert [float(line[f'interval_{e}']) for e in ('low', 'high')] == (
      row['interval']
    )
    assert int(line['bonafide']) == row['trials']['bonafide']
    assert line['trained_on'] == ('' if row['system'] == 'fusion' else (
      'quickstart/tiny'
    ))  # fmt: skip
  row = row_of(result, 'two', TESTS[1], CONDITIONS[1])
  shown = f'{100 * row["eer"]:.2f}'
  for name in ('benchmark.md', 'benchmark.tex', 'report.html'):
    text = (workdir / name).read_text()
    assert shown in text, name
    assert '4 trials, 2 bona fide and 2 spoof' in text
  latex = (workdir / 'benchmark.tex').read_text()
  assert latex.count(r'\begin{tabular}') == 3
  body = re.sub(r'\\[%&$#_{}]', '', latex.partition('\n')[2])
  assert '%' not in body and '_' not in body
  for table in re.findall(r'toprule(.*?)\\bottomrule', body, re.S):
    assert len({line.count('&') for line in table.split('\\\\')[:-1]}) == 1


def test_the_page_is_whole(made):
  workdir, _, result = made
  text = report.write(workdir).read_text()
  assert text == (workdir / 'report.html').read_text()
  assert 'src=' not in text and 'http://' not in text.replace(
    'http://www.w3.org', ''
  )
  for words in ('Conditions', 'Across corpora', 'data-filter', 'color-mix',
                'Detection error trade-off', 'sha256-',
                *CONDITIONS):  # fmt: skip
    assert words in text, words
  (script,) = re.findall('<script>(.*?)</script>', text, re.S)
  digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
  assert f"unsafe-inline'; script-src 'sha256-{digest}'" in text


# ------------------------------------------------------------- config files ---
@pytest.fixture
def trained(monkeypatch):
  """Stands in for training; the list of what was trained."""
  calls = []

  def train(values, workdir):
    calls.append((values['model']['name'], values['seed'], values['epochs']))
    setup.claim(workdir, values)
    write_run(workdir, values['seed'], values)
    (workdir / 'metrics.json').write_text('{"selected_on": "dev"}')

  monkeypatch.setattr('jaxspoof.jobs.train.train', train)
  return calls


def smoke(**changes):
  config = config_file.get_config('smoke')
  config.systems = {'ecapa': 'configs/ecapa_mfcc.py:smoke'}
  config.resamples = 8
  config.update(changes)
  return config.to_dict()


def test_config_files_are_trained_over_seeds(
  trained, corpora, tmp_path, repository
):
  values = smoke(changes={'epochs': 3, 'data.eval': ('eval',)}, seeds=(3, 4))
  values['data'].update(data_dir=str(corpora), build=False, eval_batch=8)
  with pages.none('benchmark'):
    result = benchmark.benchmark(values, tmp_path)
  assert trained == [('ecapa_s', 3, 3), ('ecapa_s', 4, 3)]
  assert list(result['tests']) == ['quickstart/tiny:eval']
  (row,) = result['rows']
  assert len(row['eers']) == 2 and row['deviation'] is not None
  del trained[:]
  (tmp_path / 'ecapa/seed_4/metrics.json').unlink()
  shutil.rmtree(tmp_path / 'ecapa/seed_4/scores')
  assert benchmark.benchmark(values, tmp_path)['rows'] == result['rows']
  assert trained == [('ecapa_s', 4, 3)]  # and scored not again
  with pytest.raises(ValueError, match='run with another config: epochs was 3'):
    benchmark.benchmark(
      {**values, 'changes': {**values['changes'], 'epochs': 5}}, tmp_path
    )


@pytest.mark.parametrize(
  ('changes', 'error', 'message'),
  [
    ({'seeds': (1, 1)}, ValueError, r'config.seeds=\(1, 1\): needs different'),
    ({'sead': 3}, ValueError, 'unknown config field config.sead: did you'),
    ({'changes': {'epoch': 1}}, SystemExit, "config.epoch: did you mean 'ep"),
    ({'changes': {'model.sinc_taps': 3}}, SystemExit, 'config.model.sinc_taps'),
    ({'systems': OTHER}, ValueError, "data.name is 'asvspoof2019_la', bu"),
    ({'systems': {}}, ValueError, 'config.systems is empty'),
    ({'systems': {'a': 3}}, ValueError, 'config.systems.a=3: expected a'),
    ({'systems': {'a': 'nowhere'}}, ValueError, 'config.tests is empty'),
    (
      {'systems': {'a': 'nowhere'}, 'tests': ('quickstart:eval',)},
      ValueError,
      "config.systems.a='nowhere': expected a config file, a checkpoint or",
    ),
    ({'tests': ('quickstart',)}, ValueError, "'quickstart': expected CORPUS"),
    ({'tests': ('a:b', 'a:b')}, ValueError, 'config.tests=.*different names'),
    ({'conditions': ()}, ValueError, 'config.conditions is empty'),
    ({'conditions': ('echo',)}, ValueError, "'echo' is unknown"),
    ({'fusion': True}, ValueError, 'config.fusion is set: expected config.dev'),
  ],
)  # fmt: skip
def test_what_cannot_work_is_said(trained, tmp_path, changes, error, message):
  values = {**smoke(), **changes}
  with pytest.raises(error, match=message):
    benchmark.benchmark(values, tmp_path)
  assert not trained


def test_a_genotype_is_a_system(repository):
  path = f'{repository}/configs/light_darts.py:smoke'
  values = benchmark.values_of({}, path, 7)
  assert values['seed'] == 7 and values['model']['genotype']['hash']
  run_config(values)
