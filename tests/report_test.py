import html.parser
import json
import math
import re
import shutil
import subprocess
import sys
import types

import numpy as np
import pytest
from matplotlib import image

from jaxspoof import report
from jaxspoof.metrics import __main__ as metrics_command
from jaxspoof.metrics import rates, summary
from jaxspoof.metrics.det import det_curve
from jaxspoof.metrics.eer import eer_of
from jaxspoof.metrics.table import METRICS, Metric, scored
from jaxspoof.report import __main__ as command
from jaxspoof.report import curves
from jaxspoof.report.decisions import in_unit
from jaxspoof.runs import names
from jaxspoof.runs.names import RunError
from jaxspoof.score_files import asv_scores, protocols
from jaxspoof.score_files import scores as scores_lib
from jaxspoof.training import console
from tests import pages

ASV = asv_scores.AsvScores(
  np.linspace(0, 4, 50),
  np.linspace(-4, 1, 90),
  np.linspace(-2, 3, 80),
  np.array(['A01'] * 80),
)
EVIL = '<script>alert("1&2")</script>$x_1$'
SELECTED = "lowest EER on split 'dev': 12.3400%, the latest of equals: step 80"


@pytest.fixture
def unpainted():
  """Pictures are drawn, but not written: for tests of words and numbers."""
  with pages.unpainted():
    yield


class Page(html.parser.HTMLParser):
  """What a page holds: tags, attributes, text; checks that tags nest."""

  def __init__(self, path):
    super().__init__()
    self.tags, self.links, self.headings, self.labels = [], [], [], []
    self.ids, self.words, self._open = [], [], []
    self.html = path.read_text(encoding='utf-8')
    self.feed(self.html)
    assert not self._open

  def handle_starttag(self, tag, attrs):
    self.handle_startendtag(tag, attrs)
    if tag != 'meta':
      self._open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags.append(tag)
    for name, value in attrs:
      if name in ('src', 'href', 'xlink:href', 'action', 'srcset', 'data'):
        self.links.append(value)
      if name == 'id':
        self.ids.append(value)
      if name == 'aria-label':
        self.labels.append(value)
      assert not name.startswith('on'), 'no code in the page'

  def handle_endtag(self, tag):
    assert self._open.pop() == tag

  def handle_data(self, data):
    if self._open and self._open[-1] == 'h2':
      self.headings.append(data)
    if self._open and self._open[-1] != 'style':
      self.words.append(data)

  @property
  def text(self):
    joined = ' '.join(self.words).replace('\N{NO-BREAK SPACE}', ' ')
    return re.sub(r'\s+', ' ', joined)


def trials(count, seed, attacks, shift=2.0):
  rng = np.random.default_rng(seed)
  label = (np.arange(count) % 4 == 0).astype(np.int32)
  attack = np.where(label, '-', rng.choice(attacks, count))
  scores = rng.normal(size=count) + shift * label
  return [f'U{n}' for n in range(count)], attack, label, scores


def fill(workdir, attacks=('A01', 'A02')):
  """The files of a run that has ended."""
  splits = {
    'eval': trials(400, 0, attacks),
    'eval_hard': trials(120, 1, ['B01'], shift=0.2),
    'dev': trials(200, 2, ['A01']),
  }
  found = {}
  for split, columns in splits.items():
    found[split] = summary.summarise(
      *columns,
      speaker=[f'S{n % 9}' for n in range(len(columns[0]))],
      asv=ASV if split == 'eval' else None,
      split=split,
      selected_on=SELECTED,
      corpus='quickstart',
      seed=7,
      resamples=48,
    )
  headline = found.pop('eval')
  dump(
    workdir / 'metrics.json',
    {**headline, 'further': found, 'state_sha256': 'abc123'},
  )
  for split, columns in splits.items():
    scores_lib.write(workdir / 'scores' / f'{split}.txt', *columns)
    names, attack, label, _ = columns
    speaker = [f'S{n % 9}' for n in range(len(names))]
    path = workdir / 'protocols' / f'{split}.txt'
    protocols.write(path, names, speaker, attack, label)
  path = workdir / 'asv_scores' / 'eval.txt'
  path.parent.mkdir()
  path.write_text(
    ''.join(
      f'{"A01" if kind == "spoof" else "bonafide"} {kind} {score!r}\n'
      for kind, scores in zip(asv_scores.KINDS, ASV[:3], strict=True)
      for score in scores.tolist()
    )
  )
  dump(
    workdir / 'config.json',
    {
      'model': {'name': 'aasist_l'},
      'data': {'name': 'quickstart', 'train': 'train', 'dev': 'dev'},
      'optim': {'lr': 1e-4},
    },
  )
  lines = [
    {
      'step': step,
      'epoch': 1 + step // 40,
      'train/loss': math.exp(-step / 40),
      'train/lr': 1e-4,
      'clips_per_s': 30.0,
      'data_wait': 0.01,
      **({'dev/eer': 0.4 - step / 400} if step % 40 == 0 else {}),
    }
    for step in range(1, 81)
  ]
  (workdir / 'metrics.jsonl').write_text(
    ''.join(json.dumps(line) + '\n' for line in lines)
  )
  dump(
    workdir / 'cost.json',
    {
      'parameters': 85306,
      'macs_per_clip': {'sinc': 580e6, 'encoder': 6020e6, 'total': 6600e6},
      'samples': 16000,
      'eval_samples': 64600,
      'sample_rate': 16000,
      'batch': 16,
      'epochs': 2,
      'steps': 80,
      'minutes': 9.26,
      'clips_per_s': 31.27,
      'data_wait': 0.0123,
      'peak_memory_mb': 2345.6,
      'device': 'cpu (cpu)',
      'devices': 1,
      'versions': {'jax': '0.10.2', 'python': '3.11.7'},
      'seed': 1234,
      'command': 'python run.py --config=configs/aasist.py:quickstart',
      'started': '2026-01-01T10:00:00Z',
      'finished': '2026-01-01T10:09:16Z',
    },
  )
  return {'eval': headline, **found}


def dump(path, values):
  path.write_text(json.dumps(values))


def change(path, function):
  values = json.loads(path.read_text())
  function(values)
  dump(path, values)


@pytest.fixture(scope='module')
def finished(tmp_path_factory):
  """A finished run with one page, which tests only read."""
  workdir = tmp_path_factory.mktemp('run')
  found = fill(workdir, attacks=['A01', 'A02', EVIL])
  return Page(report.write(workdir)), found, workdir


@pytest.fixture
def workdir(tmp_path, finished):
  """A copy of the finished run, to be damaged."""
  for path in finished[2].rglob('*'):
    if path.is_file():
      copy = tmp_path / path.relative_to(finished[2])
      copy.parent.mkdir(exist_ok=True)
      copy.write_bytes(path.read_bytes())
  return tmp_path


def test_nothing_is_loaded_from_anywhere(finished):
  page = finished[0]
  assert all(link.startswith('#') for link in page.links)
  assert not {'script', 'link', 'img', 'iframe', 'object'} & set(page.tags)
  assert 'url(http' not in page.html and '@import' not in page.html
  assert "default-src 'none'" in page.html
  # Inside the page, what is referred to is there, once.
  assert len(page.ids) == len(set(page.ids))
  wanted = {link[1:] for link in page.links}
  wanted |= set(re.findall(r'url\(#([^)]*)\)', page.html))
  assert wanted == set(page.ids)


def test_every_part_is_there_and_said_in_words(finished):
  page = finished[0]
  assert page.headings == [
    'Splits',
    'Errors',
    'Attacks',
    'Costs of decisions',
    'Calibration',
    'Training',
    'What was selected on what',
    'Cost',
    'Do it again',
  ]
  # 1 DET, 3 histograms, 3 attack bars, 3 reliabilities, 5 training curves.
  assert page.tags.count('svg') == 15
  assert page.tags.count('table') == page.tags.count('caption')
  said = ' '.join(page.labels)
  for words in (
    'Detection error trade-off',
    'Scores of bona fide and spoof trials of split eval_hard',
    'EER per attack of split eval',
    'training loss over 80 points up to step 80',
    'dev EER, % over 2 points up to step 80: first 30, last 20',
    'learning rate, 1e-4 over 80',
    'time waiting for data, % over 80',
  ):
    assert words in said
  assert 'var(--bonafide)' in page.html and '#040404' not in page.html
  assert 'prefers-color-scheme: dark' in page.html


def test_the_numbers_are_those_of_the_files(finished):
  page, found, _ = finished
  for name, split in found.items():
    low, high = split['eer_interval']
    assert (
      f'{100 * split["eer"]:.2f} % {100 * low:.2f} to {100 * high:.2f} % '
      f'{split["eer_threshold"]:.4g} {split["trials"]["bonafide"]} '
      f'{split["trials"]["spoof"]}'
    ) in page.text, name
    for attack, row in split['per_attack'].items():
      low, high = row['interval']
      assert (
        f'{attack} {100 * row["eer"]:.2f} % {100 * low:.2f} to '
        f'{100 * high:.2f} % {row["trials"]}'
      ) in page.text, (name, attack)
  assert f'EER {100 * found["eval"]["eer"]:.2f} %' in page.text
  for words in (
    'Measured on split “eval”: 400 trials, 100 bona fide (real speech) and '
    '300 spoof, by 3 attacks',
    f'The model was selected by: {SELECTED}.',
    '95% expanded percentile bootstrap, 48 resamples of 9 speakers and '
    '3 attacks',
    'dev (selects the model)',
    'trained on train',
    'parameters 85,306',
    'training speed 31.3 clips per second',
    'time waiting for data 1.2 %',
    'peak memory 2,346 MiB',
    'duration 9.3 minutes',
    'evaluated clip 64,600 samples, 4.04 s',
    'encoder 6,020.0 91.2 %',
    'python run.py --config=configs/aasist.py:quickstart',
    'Seed 1234.',
    'abc123',
    'jax 0.10.2',
    '"lr": 0.0001',
  ):
    assert words in page.text, words
  assert 'class="note"' not in page.html


def test_what_comes_from_files_is_escaped(finished):
  page = finished[0]
  assert EVIL in page.text
  assert '<script' not in page.html


def test_the_same_files_give_the_same_page(finished):
  page, _, workdir = finished
  assert report.write(workdir).read_text() == page.html


def test_a_run_that_has_just_begun(tmp_path):
  dump(tmp_path / 'config.json', {'model': {'name': 'aasist'}})
  (tmp_path / 'metrics.jsonl').write_text('')
  page = Page(report.write(tmp_path))
  for words in (
    'No result yet',
    'The run has not ended: there is no metrics.json',
    'There is no cost.json yet',
    'metrics.jsonl is empty',
    'There are no score files yet',
    'There are no lines yet',
  ):
    assert words in page.text, words


@pytest.mark.usefixtures('unpainted')
def test_a_run_under_way(workdir):
  for name in ('metrics.json', 'cost.json'):
    (workdir / name).unlink()
  lines = (workdir / 'metrics.jsonl').read_text()
  (workdir / 'metrics.jsonl').write_text(lines + '{"step": 81, "ep')
  page = Page(report.write(workdir))
  assert 'The last line of metrics.jsonl is cut short' in page.text
  assert '80 steps, 3 epochs' in page.text
  # The score files that are there are shown, without intervals.
  labels, scores = scores_lib.read(workdir / 'scores' / 'eval.txt')[2:]
  value = f'{100 * eer_of(scores, labels).eer:.2f}'
  assert f'eval {value} % not computed' in page.text


@pytest.mark.usefixtures('unpainted')
def test_of_a_step_done_twice_the_later_line_counts(workdir):
  path = workdir / 'metrics.jsonl'
  path.write_text(
    '{"step": 1, "train/loss": 5.0}\n{"step": 2, "train/loss": 9.0}\n'
    '{"step": 2, "train/loss": 3.0}\n'
  )
  page = Page(report.write(workdir))
  assert (
    'training loss over 2 points up to step 2: first 5, last 3, lowest 3'
  ) in ' '.join(page.labels)


@pytest.mark.usefixtures('unpainted')
def test_a_result_that_is_not_of_its_scores_is_told(workdir):
  change(workdir / 'metrics.json', lambda m: m.update(eer=0.0123))
  page = Page(report.write(workdir))
  assert re.search(
    r'metrics.json gives an EER of 1.2300% for split eval, but '
    r'scores/eval.txt gives \d+.\d{4}%: one of the two',
    page.text,
  )


@pytest.mark.usefixtures('unpainted')
def test_missing_score_files_are_told_and_extra_ones_shown(workdir):
  (workdir / 'scores' / 'dev.txt').unlink()
  scores_lib.write(workdir / 'scores' / 'phone.txt.gz', *trials(60, 5, ['C01']))
  page = Page(report.write(workdir))
  assert 'There is no scores/dev.txt: its pictures are missing' in page.text
  assert re.search(r'phone \d+.\d\d % not computed', page.text)


@pytest.mark.usefixtures('unpainted')
@pytest.mark.parametrize(
  ('name', 'content', 'message'),
  [
    (
      'metrics.json',
      '{"eer": ',
      r'damaged or cut, not JSON: .*line 1',
    ),
    ('metrics.json', '[1]', r'metrics.json: expected a JSON object, got \[1\]'),
    ('config.json', 'x', 'config.json: damaged or cut, not JSON'),
    ('cost.json', '{"minutes": "long"}', "cost.json: field 'minutes' is 'lo"),
    ('metrics.jsonl', '{"step": 1}\nx\n{"step": 2}\n', r'jsonl, line 2: exp'),
    ('metrics.jsonl', '[]\n{"step": 2}\n', r'jsonl, line 1: expected a JSON'),
    ('metrics.jsonl', '{"step": 2, "dev/eer": NaN}', 'step 2: field dev/eer m'),
    ('scores/dev.txt', 'U1 A01 spoof\n', r'dev.txt: 1 problem\(s\)'),
    ('scores/dev.txt', 'U1 A01 spoof 1\n', "'dev': eer: .*0 bona fide and 1 "),
  ],
)
def test_broken_files_are_errors(workdir, name, content, message):
  (workdir / name).write_text(content)
  (workdir / 'report.html').unlink(missing_ok=True)
  with pytest.raises(ValueError, match=message):
    report.write(workdir)
  assert not (workdir / 'report.html').exists()


@pytest.mark.parametrize(
  ('edit', 'message'),
  [
    (lambda m: m.pop('eer'), 'field eer must be int or float, got None'),
    (lambda m: m.update(split=3), 'field split must be str, got 3'),
    (lambda m: m['trials'].pop('spoof'), 'field trials.spoof must be int'),
    (lambda m: m.update(eer_interval=[1]), r'eer_interval must be two numbers'),
    (
      lambda m: m['per_attack']['A01'].update(interval=None),
      'field per_attack.A01.interval must be list, got None',
    ),
    (
      lambda m: m['further']['dev'].pop('selected_on'),
      'field further.dev.selected_on must be str',
    ),
  ],
)
def test_fields_that_are_missing_or_wrong_are_named(workdir, edit, message):
  change(workdir / 'metrics.json', edit)
  with pytest.raises(RunError, match=f'metrics.json: {message}|{message}'):
    report.write(workdir)


def test_a_folder_that_is_no_workdir(tmp_path):
  with pytest.raises(RunError, match='is not the workdir of a run: none of'):
    report.write(tmp_path)
  with pytest.raises(RunError, match='there is no such folder'):
    report.write(tmp_path / 'typo')


def test_command_line(finished, tmp_path, capsys):
  command.main([str(finished[2])])
  assert capsys.readouterr().out.strip() == str(finished[2] / 'report.html')
  with pytest.raises(SystemExit, match='error: .*typo is not the workdir'):
    command.main([str(tmp_path / 'typo')])


def test_thinned_det_curve_stays_on_the_curve():
  _, _, label, scores = trials(20_000, 3, ['A'])
  false_alarm, miss = curves.det_points(scores, label, 0.001, 0.4)
  assert len(miss) < 2 * 1.1 * curves.STEPS + 2 < len(scores) / 10
  full = det_curve(scores, label)
  inside = (miss > curves.probit(0.001)) & (miss < curves.probit(0.4))
  inside &= (false_alarm > curves.probit(0.001)) & (
    false_alarm < curves.probit(0.4)
  )
  assert inside.sum() > 50
  points = set(
    zip(curves.probit(full.false_alarm), curves.probit(full.miss), strict=True)
  )
  for x, y in zip(false_alarm[inside], miss[inside], strict=True):
    assert (x, y) in points


@pytest.mark.usefixtures('unpainted')
def test_costs_of_decisions_are_those_of_the_files(finished, workdir):
  page, found, _ = finished
  for split, summaries in found.items():
    for name, metric in METRICS.items():
      if name == 'eer':
        continue
      if summaries[name] is None:
        assert split != 'eval' and metric.needs
        assert f'{split} {metric.label}' not in page.text
        continue
      value, interval = in_unit(metric, summaries[name]), 'not resampled'
      if metric.resampled:
        interval = '{:.4f} to {:.4f}'.format(*summaries[f'{name}_interval'])
      assert f'{split} {metric.label} {value} {interval} lower' in page.text
  assert 'with the verification scores of the organisers' in page.text
  for metrics in (lambda m: m, lambda m: m['further']['dev']):
    change(
      workdir / 'metrics.json',
      lambda m, of=metrics: of(m).update(asv=None, min_tdcf_legacy=None),
    )
  assert 'No t-DCF: the corpus came' in Page(report.write(workdir)).text


@pytest.mark.usefixtures('unpainted')
def test_a_run_of_before_a_metric_was_in_the_table(workdir):
  def forget(metrics):
    for name in ('t_eer', 'a_dcf', 'cllr', 'cllr_interval'):
      del metrics[name]

  change(workdir / 'metrics.json', forget)
  page = Page(report.write(workdir))
  shown = {n for n, m in METRICS.items() if f'eval {m.label} ' in page.text}
  assert shown == METRICS.keys() - {'eer', 't_eer', 'a_dcf', 'cllr'}


@pytest.mark.usefixtures('unpainted')
def test_a_metric_is_one_line_of_the_table(tmp_path, monkeypatch, capsys):
  """Added here: it is in metrics.json, on the pages, console, command line."""
  line = Metric(
    'auc', 'AUC', '', lambda x: rates.auc(x.scores, x.label),
    better='higher', note='AUC: how often real speech scores higher.',
  )  # fmt: skip
  monkeypatch.setitem(METRICS, 'auc', line)
  monkeypatch.setattr('jaxspoof.machine.programs.keep', lambda: None)
  for name in 'ab':
    (tmp_path / name).mkdir()
    found = fill(tmp_path / name)
  trials = scores_lib.read(tmp_path / 'a' / 'scores' / 'eval.txt')
  value = rates.auc(trials.scores, trials.label)
  assert metrics_of(tmp_path / 'a')['auc'] == value
  page = Page(report.write(tmp_path / 'a'))
  assert f'eval AUC {value:.4f} not resampled higher' in page.text
  assert line.note in page.text
  both = [tmp_path / 'a', tmp_path / 'b']
  page = Page(report.compare(both, tmp_path / 'compare.html'))
  assert 'AUC on split “eval”, higher is better' in page.text
  assert f'a aasist_l {value:.4f} not resampled' in page.text
  data = types.SimpleNamespace(dev='dev', eval=('eval', 'eval_hard'))
  said = console.closing(
    found, types.SimpleNamespace(data=data), tmp_path, tmp_path
  )
  assert f'AUC {value:.4f}' in said and '; t-EER with the ASV % ' in said
  score_file = str(tmp_path / 'a' / 'scores' / 'eval.txt')
  assert metrics_command.main([score_file, '--resamples=20']) == 0
  assert re.search(rf'^AUC +{value:.6f}$', capsys.readouterr().out, re.M)


@pytest.mark.usefixtures('unpainted')
def test_a_metric_without_a_value_is_told(workdir):
  change(
    workdir / 'metrics.json',
    lambda m: m.update(t_eer=None, undefined={'t_eer': 't-EER: no <balance>'}),
  )
  page = Page(report.write(workdir))
  assert 'Split “eval”, t-EER: no <balance>.' in page.text


def test_pages_are_made_without_jax(finished, second, tmp_path):
  code = (
    'import sys\n'
    'from jaxspoof.report.__main__ import main\n'
    'main(sys.argv[1:2])\n'
    'main(sys.argv[1:])\n'
    'print(sorted({"jax", "jaxlib", "flax"} & set(sys.modules)))'
  )
  out = tmp_path / 'compare.html'
  arguments = [str(finished[2]), str(second), f'--out={out}']
  said = subprocess.run(
    [sys.executable, '-c', code, *arguments],
    stdout=subprocess.PIPE, text=True, check=True,
  ).stdout  # fmt: skip
  assert said.splitlines()[-1] == '[]' and out.is_file()


def test_reliability_of_true_ratios_lies_on_the_diagonal():
  """Two normal classes: the log-likelihood ratio is linear in the score."""
  rng = np.random.default_rng(0)
  labels = (np.arange(40_000) % 10 == 0).astype(np.int32)
  ratio = 2 * (rng.normal(size=40_000) + 2 * labels - 1)
  said, found = curves.reliability(ratio, labels)
  assert len(said) == 12 and np.all(np.diff(said) > 0)
  np.testing.assert_allclose(said, found, atol=0.03)
  assert np.ptp(said) > 0.9
  said, found = curves.reliability(3 * ratio, labels)  # too sure
  assert found[2] > said[2] + 0.02 and found[-3] < said[-3] - 0.02


def test_calibrated_scores_are_drawn_beside_those_that_they_come_from(workdir):
  label = Page(report.write(workdir)).labels
  assert not any('calibrated' in words for words in label)
  card = {'calibration': {'slope': 0.0, 'intercept': 0.0}}
  (workdir / names.DETECTOR).mkdir()
  (workdir / names.DETECTOR_CARD).write_text(json.dumps(card))
  page = Page(report.write(workdir))
  said = [words for words in page.labels if 'Reliability' in words]
  assert len(said) == 3
  # A slope of 0 says one half of every trial.
  half = '; calibrated: 50\N{NO-BREAK SPACE}% said 50\N{NO-BREAK SPACE}% found'
  assert all(words.endswith(half) for words in said)
  card['calibration']['slope'] = 'steep'
  (workdir / names.DETECTOR_CARD).write_text(json.dumps(card))
  with pytest.raises(RunError, match='card.json: field calibration.slope must'):
    report.write(workdir)


def test_reliability_of_few_and_of_equal_scores():
  said, found = curves.reliability([1.0, -2.0], [1, 0])
  np.testing.assert_allclose(said, 1 / (1 + np.exp([2.0, -1.0])))
  np.testing.assert_array_equal(found, [0, 1])
  said, found = curves.reliability(np.zeros(90), np.arange(90) % 3 // 2)
  np.testing.assert_allclose((said, found), [[0.5], [0.5]])


def test_histograms_hold_every_trial():
  rng = np.random.default_rng(0)
  scores = np.append(rng.normal(size=999), 1e6)
  labels = np.arange(1000) % 2
  edges, shares = curves.histograms(scores, labels)
  assert edges[-1] < 1e6
  for share in shares.values():
    np.testing.assert_allclose(share.sum(), 1)
  edges, shares = curves.histograms(np.ones(10), np.arange(10) % 2)
  np.testing.assert_allclose([s.sum() for s in shares.values()], 1)


@pytest.fixture
def second(tmp_path_factory, finished):
  """The same trials, scored better, by a run with other settings."""
  workdir = tmp_path_factory.mktemp('second')
  fill(workdir, attacks=['A01', 'A02', EVIL])
  change(workdir / 'config.json', lambda c: c['optim'].update(lr=3e-4))
  for path in (workdir / 'scores').glob('*.txt'):
    utterance, attack, label, scores = scores_lib.read(path)
    scores_lib.write(path, utterance, attack, label, scores + 3.0 * label)
  return workdir


def test_runs_are_compared_on_the_same_trials(
  finished, second, tmp_path, capsys
):
  out = tmp_path / 'compare.html'
  command.main([str(finished[2]), str(second), f'--out={out}'])
  assert capsys.readouterr().out == f'{out}\n'
  page = Page(out)
  assert page.headings == [
    'Split “eval”', 'Split “eval_hard”', 'Split “dev”', 'Settings',
  ]  # fmt: skip
  rates = [
    rate_of(folder / 'scores' / 'eval.txt') for folder in (finished[2], second)
  ]
  assert rates[1] < rates[0]
  for rate in rates:
    assert f'{100 * rate:.2f} %' in page.text
  assert f'{100 * (rates[1] - rates[0]):+.2f} (' in page.text
  assert '100%' in page.text  # of the resamples have the sign
  assert '1,000 resamples of 9 speakers and 3 attacks' in page.text
  values = []
  for folder in (finished[2], second):
    found = scores_lib.read(folder / 'scores' / 'eval.txt')
    values.append(scored(found.scores, found.label, ASV))
  for metric in METRICS.values():
    ours, theirs = map(metric.value, values)
    assert f'{metric.label} on split “eval”, lower is better' in page.text
    assert f'aasist_l {in_unit(metric, theirs)} ' in page.text
    assert f' {in_unit(metric, theirs - ours, "+")}' in page.text
    # Of the other splits there are no verification scores.
    assert (f'{metric.label} on split “dev”' in page.text) != bool(metric.needs)
  row = metrics_of(second)['per_attack']['A02']
  assert (
    f'{100 * row["eer"]:.2f} % ({100 * row["interval"][0]:.2f}' in page.text
  )
  assert 'optim.lr was 0.0001; here 0.0003' in page.text
  assert not {'script', 'link', 'img', 'iframe', 'object'} & set(page.tags)


def metrics_of(workdir):
  return json.loads((workdir / 'metrics.json').read_text())


def rate_of(path):
  trials = scores_lib.read(path)
  return eer_of(trials.scores, trials.label).eer


def test_what_cannot_be_compared_is_said(finished, second, tmp_path):
  out = tmp_path / 'compare.html'
  with pytest.raises(RunError, match='needs two runs or more'):
    report.compare([second], out)
  with pytest.raises(RunError, match='a run is named twice'):
    report.compare([second, second], out)
  path = second / 'scores' / 'eval.txt'
  path.write_text(path.read_text().replace('U0 ', 'X0 '))
  with pytest.raises(RunError, match="split 'eval': .* field utterance"):
    report.compare([finished[2], second], out)
  for path in (second / 'scores').glob('*.txt'):
    path.rename(path.with_name(f'other_{path.name}'))
  with pytest.raises(RunError, match='no split was scored by all runs'):
    report.compare([finished[2], second], out)
  assert not out.exists()


# ------------------------------------------------------------- in a browser ---
BROWSERS = ('chromium', 'chromium-browser', 'google-chrome', 'chrome')
# What the browser itself asks for, whatever page it shows.
OF_THE_BROWSER = re.compile(
  r'https?://[\w.-]*\.(google|googleapis|gvt1)\.com[/:]'
)


def shown(page, folder):
  """A page in headless Chromium.

  Returns:
    (console messages, addresses asked for, picture [height, width, 4]).
  """
  browser = next(filter(None, map(shutil.which, BROWSERS)), None)
  if browser is None:
    pytest.skip(f'no Chromium here: none of {", ".join(BROWSERS)}')
  picture, log = folder / 'page.png', folder / 'net.json'
  command = [browser, '--headless', '--no-sandbox', '--disable-gpu']
  command += ['--no-first-run', '--disable-background-networking']
  command += [
    '--host-resolver-rules=MAP * ~NOTFOUND',
    '--enable-logging=stderr',
  ]
  command += [f'--user-data-dir={folder / "user"}', f'--log-net-log={log}']
  command += [f'--screenshot={picture}', '--window-size=1100,3000']
  ended = subprocess.run(
    [*command, page.resolve().as_uri()],
    stderr=subprocess.PIPE,
    timeout=120,
    check=True,
  )
  messages = re.findall(rb'CONSOLE.*', ended.stderr)
  events = json.loads(log.read_text())['events']
  asked = {event.get('params', {}).get('url') for event in events}
  asked = {url for url in asked if url and re.match('https?:|wss?:', url)}
  asked = {url for url in asked if not OF_THE_BROWSER.match(url)}
  return messages, asked, image.imread(picture)


def test_the_browser_sees_what_a_page_does(tmp_path):
  page = tmp_path / 'bad.html'
  page.write_text(
    '<!DOCTYPE html><title>x</title><script>console.error("boom")</script>'
    '<img src="http://127.0.0.1:9/x.png">'
  )
  messages, asked, _ = shown(page, tmp_path)
  assert len(messages) == 1 and b'boom' in messages[0]
  assert asked == {'http://127.0.0.1:9/x.png'}


def test_pages_are_shown_without_errors_and_requests(
  finished, second, tmp_path
):
  compared = report.compare([finished[2], second], tmp_path / 'compare.html')
  for page in (finished[2] / 'report.html', compared):
    messages, asked, picture = shown(page, tmp_path)
    assert (messages, asked) == ([], set())
    ink = np.any(picture != picture[0, 0], axis=-1)
    assert ink.mean() > 0.02
    # From top to bottom, and in more colours than text has.
    assert all(part.any() for part in np.array_split(ink[:1500], 8))
    assert len(np.unique(picture[ink].round(1), axis=0)) > 20
