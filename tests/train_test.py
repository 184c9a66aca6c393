"""The training job as its users start it: as processes, on a small corpus."""

import functools
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
import soundfile

from configs import common
from jaxspoof import audio, config, jobs, overrides, verify
from jaxspoof.bundles import store
from jaxspoof.data import pipeline
from jaxspoof.jobs import train
from jaxspoof.metrics import __main__ as metrics_cli
from jaxspoof.report import __main__ as report_cli
from jaxspoof.training import setup
from tests import kept_programs, pages
from tests.processes import (
  finish,
  kill_after_step,
  lines_of,
  start,
  wait_for_step,
  without_page,
)
from tfds_builders import build

CONFIG = 'configs/lcnn.py:smoke'  # quick to compile; has what jobs keep
FAST = {
  'log_every': 1,
  'checkpoint_every': 2,
  'resamples': 8,
  'mesh.devices': 1,
  'optim.learning_rate': 0.01,  # that epochs differ on dev
}


def command(workdir, corpora, *more, config=CONFIG):
  return [
    sys.executable,
    'run.py',
    f'--config={config}',
    *(f'--config.{name}={value}' for name, value in FAST.items()),
    f'--workdir={workdir}',
    f'--config.data.data_dir={corpora}',
    *more,
  ]


def run_here(workdir, corpora, changes):
  """What `command` does, in this process: starts in a third of the time.

  The model is one that is quick to compile: for tests of what is around it.
  """
  values = overrides.load('configs/aasist.py:smoke')
  values.model = common.model('mean')
  values.update_from_flattened_dict(
    FAST | {'data.data_dir': str(corpora), **changes}
  )
  # optax mixes its dtypes
  with jax.numpy_dtype_promotion('standard'), pages.none():
    return jobs.run(values, workdir)


def swap_two_scores(text):
  """The file with the scores of two trials of different classes exchanged."""
  lines = [line.rsplit(' ', 1) for line in text.splitlines()]
  order = sorted(lines, key=lambda line: float(line[1]))
  key = order[0][0].split()[-1]
  low = order[0]
  high = next(line for line in reversed(order) if line[0].split()[-1] != key)
  assert low[1] != high[1]
  low[1], high[1] = high[1], low[1]
  return ''.join(' '.join(line) + '\n' for line in lines)


def rename_first(text):
  return f'X{text}'


@pytest.fixture(scope='session')
def run(tmp_path_factory, quickstart_tiny, environment):
  """An undisturbed run: its workdir and what it printed."""
  workdir = tmp_path_factory.mktemp('runs') / 'undisturbed'
  words = command(workdir, quickstart_tiny)
  output = finish(start(words, environment, subprocess.Popen))
  return workdir, output


def test_a_run_leaves_what_the_readme_says(run):
  workdir, output = run
  for name in ('config.json', 'metrics.json', 'metrics.jsonl', 'cost.json'):
    assert (workdir / name).stat().st_size > 0
  assert (workdir / 'report.html').read_text().startswith('<!')
  (events,) = (workdir / 'tb').glob('events*')
  for tag in ('train/loss', 'train/lr', 'dev/eer', 'clips_per_s', 'data_wait'):
    assert tag.encode() in events.read_bytes(), tag
  assert len(list((workdir / 'examples').glob('*.flac'))) >= 2
  metrics = json.loads((workdir / 'metrics.json').read_text())
  assert 0 <= metrics['eer'] <= 1
  low, high = metrics['eer_interval']
  assert low <= metrics['eer'] <= high
  assert metrics['split'] == 'eval' and metrics['trials']['total'] > 0
  assert "split 'dev'" in metrics['selected_on']
  assert '-' not in metrics['per_attack'] and metrics['per_attack']
  for split in ('dev', 'eval', 'eval_hard'):
    assert (workdir / 'scores' / f'{split}.txt').stat().st_size > 0
    assert (workdir / 'protocols' / f'{split}.txt').stat().st_size > 0
  card = store.read_card(workdir / 'detector')
  assert card.training['splits']['dev'] == 'dev'
  eers = {row['split']: row['eer'] for row in card.figures}
  assert eers.pop('eval') == metrics['eer']
  assert eers == {n: s['eer'] for n, s in metrics['further'].items()}
  assert card.calibration.fitted_on == 'quickstart/tiny, split dev'
  assert sum(card.calibration.trials.values()) == card.domain.clips
  assert metrics['resampled'] == '4 speakers and 8 attacks'
  low, high = metrics['cllr_interval']
  assert low <= metrics['cllr'] <= high
  assert metrics['min_tdcf_legacy'] is None  # no verification scores here
  assert 'left' in output and 'dev EER' in output and 'clips/s' in output


def test_the_log_has_every_step_once(run):
  lines = lines_of(run[0])
  steps = [line['step'] for line in lines]
  assert steps == list(range(1, len(steps) + 1))
  assert all(np.isfinite(line['train/loss']) for line in lines)
  assert sum('dev/eer' in line for line in lines) == 2


def test_the_weights_are_those_that_are_best_on_dev(run):
  workdir, _ = run
  metrics = json.loads((workdir / 'metrics.json').read_text())
  errors = [line['dev/eer'] for line in lines_of(workdir) if 'dev/eer' in line]
  # Whether they differ is chance, and another with another processor: that the
  # lowest is taken is tested in `groups_test.py`.
  said = re.findall(r'([\d.]+)%', metrics['selected_on'])
  selected, single = float(said[0]) / 100, float(said[-1]) / 100
  assert single == pytest.approx(min(errors), abs=1e-6)
  dev = metrics['further']['dev']['eer']
  # What is said has four decimals of a percentage.
  assert selected == pytest.approx(dev, abs=1e-6) and dev <= single + 1e-6


def test_a_run_agrees_with_its_record(run, capsys):
  with pytest.raises(SystemExit) as ended:
    verify.main([str(run[0])])
  assert not ended.value.code
  assert capsys.readouterr().out == f'{run[0]}: verified\n'


@pytest.mark.parametrize(
  ('name', 'change', 'words'),
  [
    (
      'scores/eval.txt',
      swap_two_scores,
      r'eval.txt: changed.*the scores give',
    ),
    ('scores/dev.txt', rename_first, r'utterance X\S+ is not in the protocol'),
    (
      'protocols/eval.txt',
      lambda t: t.replace('A07', 'A77'),
      r'protocols/eval.txt: changed.*eval.txt: cannot be measured: .*A07',
    ),
    ('config.json', lambda t: t.replace('1234', '1235'), 'config.json: chang'),
    ('weights.npz', None, 'weights.npz: missing'),
    (
      'detector/card.json',
      lambda t: t.replace('"slope": ', '"slope": 1'),
      'card.json: changed',
    ),
  ],
)
def test_a_changed_run_is_found_out(run, tmp_path, capsys, name, change, words):
  workdir = tmp_path / 'copy'
  shutil.copytree(run[0], workdir)
  path = workdir / name
  if change is None:
    path.unlink()
  else:
    path.write_text(change(path.read_text()))
  with pytest.raises(SystemExit) as ended:
    verify.main([str(workdir)])
  assert ended.value.code
  output = capsys.readouterr().out
  assert output.startswith(f'{workdir}: FAILED')
  assert re.search(words, output, re.DOTALL), output


def test_what_is_not_a_finished_run_cannot_be_verified(tmp_path):
  with pytest.raises(ValueError, match=r'metrics.json not found: expected the'):
    verify.verify(tmp_path)


def test_the_eval_splits_are_closed_before_the_selection(quickstart_tiny):
  data = config.DataConfig(
    'quickstart/tiny', str(quickstart_tiny), eval=('eval', 'eval_hard')
  )
  splits = setup.Splits(data)
  assert len(splits.open('train')) and len(splits.open('dev[:50%]+train'))
  closed = ('eval', 'eval_hard', 'eval[:1]', 'train+eval', 'all', 'train+all')
  for split in closed:
    with pytest.raises(PermissionError, match='before the weights are sel'):
      splits.open(split)
  selected = setup.Splits(data, selected_on='lowest EER on dev')
  assert len(selected.open('eval'))


@pytest.fixture(scope='session')
def detected(run, environment):
  """What the line to try next prints as JSON, object by object."""
  _, output = run
  line = output.split('try next: ')[1].splitlines()[0].split()
  assert line[:2] == ['python', 'detect.py']
  printed = finish(start([sys.executable, *line[1:], '--json'], environment))
  return [json.loads(x) for x in printed.splitlines() if x.startswith('{')]


def test_the_line_to_try_next_works(detected):
  assert {'path', 'logits', 'score', 'duration', 'model'} <= set(detected[0])
  scores = [found['score'] for found in detected]
  np.testing.assert_allclose(
    scores, [o['logits'][1] - o['logits'][0] for o in detected], atol=2e-6
  )


def test_detector_scores_equal_the_score_file(run, detected):
  """The same clip, scored by the run and by detect.py."""
  workdir, _ = run
  written = {}
  for path in (workdir / 'scores').glob('*.txt'):
    for line in path.read_text().splitlines():
      utterance, _, _, score = line.split()
      written[utterance] = float(score)
  assert len(detected) == len(list((workdir / 'examples').iterdir())) >= 2
  for found in detected:
    utterance = pathlib.Path(found['path']).stem.split('_', 1)[1]
    np.testing.assert_allclose(found['score'], written[utterance], atol=1e-4)


def test_killed_in_each_epoch_ends_bitwise_the_same(
  tmp_path, quickstart_tiny, environment, run
):
  """After Ctrl-C in the first step, which ends it as well."""
  workdir, rng = tmp_path / 'killed', np.random.default_rng()
  # Who is killed may leave half a program.
  programs = pathlib.Path(environment['JAX_COMPILATION_CACHE_DIR'])
  programs = kept_programs.link(programs, tmp_path / 'programs')
  environment = environment | {'JAX_COMPILATION_CACHE_DIR': str(programs)}
  steps = len(lines_of(run[0]))
  targets = [int(rng.integers(1, steps // 2, endpoint=True))]
  targets += [int(rng.integers(steps // 2 + 1, steps))]
  words = without_page(command(workdir, quickstart_tiny))
  process = start(words, environment)
  wait_for_step(process, workdir, 1)
  os.killpg(process.pid, signal.SIGINT)  # Ctrl-C
  said = finish(process, expected=130)
  assert 'Traceback' not in said and 'Segmentation' not in said
  last = said.splitlines()[-1]
  assert re.match('interrupted after step [0-9]+; .*same command', last), said
  for target in targets:
    process = start(words, environment)
    kill_after_step(process, workdir, target, pause=rng.uniform(0, 0.2))
  finish(start(words, environment))
  wanted = json.loads((run[0] / 'metrics.json').read_text())
  found = json.loads((workdir / 'metrics.json').read_text())
  assert found['state_sha256'] == wanted['state_sha256'], targets
  assert found == wanted, targets
  losses = [[x['train/loss'] for x in lines_of(w)] for w in (workdir, run[0])]
  assert losses[0] == losses[1], targets
  for name in ('dev', 'eval', 'eval_hard'):
    scores = [(w / 'scores' / f'{name}.txt') for w in (workdir, run[0])]
    assert scores[0].read_text() == scores[1].read_text()


def slurm(process):
  """The environment of a task of a job of two, whose port is free, and it."""
  with socket.socket() as free:
    job = next(
      number
      for number in np.random.default_rng().permutation(2**12).tolist()
      if free.connect_ex(('127.0.0.1', 61_440 + number))
    )
  names = {'JOB_ID': job, 'NTASKS': 2, 'PROCID': process, 'LOCALID': process}
  names |= {'STEP_NODELIST': '127.0.0.1', 'STEP_NUM_NODES': 1}
  found = {f'SLURM_{name}': str(value) for name, value in names.items()}
  return found, f'127.0.0.1:{61_440 + job}'


def test_two_processes_equal_one(tmp_path, quickstart_tiny, environment):
  """One is told who is who, the other finds it in what Slurm sets."""
  double = [
    '--config.model.dtype=float64',
    '--config.model.param_dtype=float64',
    '--config.epochs=1',
    '--config.average=none',
    '--config.mesh.devices=0',
    "--config.data.eval=('eval',)",
    # One block of each kind: every process compiles all of it.
    '--config.model.channels=(8,8,10)',
    '--config.model.kernel_sizes=(5,3,1)',
    '--config.model.dilations=(1,2,1)',
    '--config.model.groups=(1,1,1)',
    '--config.model.res2net_scale=2',
  ]
  environment = environment | {'JAX_ENABLE_X64': '1'}
  ecapa = functools.partial(command, config='configs/ecapa_mfcc.py:smoke')
  one = ecapa(tmp_path / 'one', quickstart_tiny, *double)
  one = start(without_page(one), environment | {'JAX_NUM_CPU_DEVICES': '4'})
  finish(one)
  cluster, address = slurm(process=1)
  told = [f'--coordinator={address}', '--num_processes=2', '--process_id=0']
  two = [
    start(
      without_page(ecapa(tmp_path / 'two', quickstart_tiny, *double, *more)),
      environment | variables | {'JAX_NUM_CPU_DEVICES': '2'},
    )
    for more, variables in ((told, {}), (['--distributed'], cluster))
  ]
  outputs = [finish(process) for process in two]
  assert '4 x cpu on 2 host(s)' in outputs[0]
  assert 'epoch' not in outputs[1]  # one host speaks
  expected, found = (lines_of(tmp_path / name) for name in ('one', 'two'))
  for name in ('train/loss', 'train/grad_norm', 'dev/eer'):
    np.testing.assert_allclose(
      [line[name] for line in found if name in line],
      [line[name] for line in expected if name in line],
      rtol=1e-10,
      err_msg=name,
    )
  with (
    np.load(tmp_path / 'one' / 'weights.npz') as a,
    np.load(tmp_path / 'two' / 'weights.npz') as b,
  ):
    assert set(a.files) == set(b.files)
    for name in a.files:
      np.testing.assert_allclose(a[name], b[name], rtol=1e-9, atol=1e-11)


def test_a_story_of_own_recordings(tmp_path, quickstart_tiny, programs, capsys):
  """Table, corpus, two runs, metrics, reports, comparison."""
  table = write_recordings(tmp_path / 'mine.csv', quickstart_tiny)
  corpora = tmp_path / 'corpora'
  options = [f'--manifest={table}', f'--data_dir={corpora}']
  assert build.main(['wav_folder', *options]) == 0
  assert 'train           36' in capsys.readouterr().out
  runs = [tmp_path / 'first', tmp_path / 'second']
  own = {'data.name': 'wav_folder/mine', 'data.eval': ('eval',)}
  own['average'] = 'none'  # it has no statistics to estimate
  for number, workdir in enumerate(runs):
    run_here(workdir, corpora, own | {'seed': number})
    output = capsys.readouterr().out
    assert 'epoch   2/2' in output and 'eval: EER' in output
  status = metrics_cli.main(
    [
      str(runs[0] / 'scores' / 'eval.txt'),
      f'--protocol={runs[0] / "protocols" / "eval.txt"}',
      f'--against={runs[1] / "scores" / "eval.txt"}',
      f'--json={tmp_path / "out.json"}',
      '--resamples=8',
    ]
  )
  assert status == 0
  measured = json.loads((tmp_path / 'out.json').read_text())
  for workdir, card in zip(runs, (measured, measured['against']), strict=True):
    recorded = json.loads((workdir / 'metrics.json').read_text())
    for name in ('eer', 'eer_threshold', 'min_dcf', 'act_dcf', 'cllr'):
      assert card[name] == recorded[name], name
    assert recorded['resampled'] == measured['resampled']
    assert recorded['trials']['total'] == 36
    assert verify.verify(workdir) == []
  assert '4 speakers and 8 attacks' in capsys.readouterr().out
  report_cli.main([str(runs[0])])
  report_cli.main([*map(str, runs), f'--out={tmp_path / "compare.html"}'])
  assert capsys.readouterr().out.split() == [
    str(runs[0] / 'report.html'),
    str(tmp_path / 'compare.html'),
  ]
  page = (tmp_path / 'compare.html').read_text()
  assert 'seed was 0; here 1' in page and '4 speakers and 8 attacks' in page


def write_recordings(table, corpora):
  """WAV files in a folder and the table that lists them, as people have."""
  rows = ['path,label,speaker,attack,split']
  for split in ('train', 'dev', 'eval'):
    source = pipeline.open_source('quickstart/tiny', split, corpora)
    trials = pipeline.trials(source)
    columns = (trials.utterance, trials.speaker, trials.attack, trials.label)
    for record, name, speaker, attack, label in zip(
      source.records, *columns, strict=True
    ):
      path = table.parent / split / f'{name}.wav'
      path.parent.mkdir(exist_ok=True)
      wave = audio.load(record['audio'])
      soundfile.write(path, wave, 16_000, 'PCM_16')
      kind, attack = ('fake', attack) if label == 0 else ('real', '')
      rows.append(f'{split}/{path.name},{kind},{speaker},{attack},{split}')
  table.write_text('\n'.join(rows) + '\n')
  return table


def test_a_finished_run_is_evaluated_to_its_own_numbers(
  tmp_path, quickstart_tiny, environment, run
):
  """And under a condition, which changes them."""
  workdir = tmp_path / 'w'
  arguments = [
    sys.executable,
    'run.py',
    '--config=configs/evaluate.py',
    f'--config.checkpoint={run[0]}',
    '--config.data.name=quickstart/tiny',
    '--config.data.eval=eval',
    '--config.data.eval_batch=8',
    f'--config.data.data_dir={quickstart_tiny}',
    "--config.conditions=('clean','noise:10')",
    '--config.resamples=8',
    '--config.mesh.devices=1',
    f'--workdir={workdir}',
  ]
  output = finish(start(arguments, environment))
  assert '2 condition(s) on quickstart/tiny eval' in output
  assert 'eval@noise_10: EER' in output and 'note:' not in output
  trained = json.loads((run[0] / 'metrics.json').read_text())
  found = json.loads((workdir / 'metrics.json').read_text())
  for name in trained.keys() - {'further', 'state_sha256', 'sha256'}:
    assert found[name] == trained[name], name
  digest = trained['sha256']['weights.npz']
  assert found['checkpoint']['sha256'] == digest and not found['used_before']
  clean, noisy, ours = (
    (folder / 'scores' / f'{name}.txt').read_text()
    for folder, name in (
      (run[0], 'eval'),
      (workdir, 'eval@noise_10'),
      (workdir, 'eval'),
    )
  )
  assert clean == ours != noisy
  assert list(found['further']) == ['eval@noise_10']
  page = (workdir / 'report.html').read_text()
  assert '<td' in page and 'noise:10' in page and 'python run.py' in page
  assert verify.verify(workdir) == []


# --------------------------------------------------------------- bad input ---
@pytest.mark.parametrize(
  'how, joins',
  [
    ('none', []),
    ('swa', [1, 3]),  # epochs that were the best so far
    ('late', [3, 4]),  # the second half
  ],
)
def test_which_epochs_are_averaged(how, joins):
  best = {1: True, 2: False, 3: True, 4: False}
  assert joins == [
    epoch
    for epoch in best
    if train.is_averaged(how, best[epoch], epoch / len(best))
  ]


def test_corpus_that_is_not_built_says_the_command(tmp_path):
  words = 'python -m tfds_builders.build quickstart/tiny --data_dir='
  with pytest.raises(ValueError, match=words):
    run_here(tmp_path / 'w', tmp_path / 'none', {'data.build': False})


@pytest.mark.parametrize(
  ('section', 'field', 'value', 'message'),
  [
    ('mesh', 'devices', 9, 'mesh.devices=9, but only 4 cpu device.s. are vis'),
    ('data', 'batch', 6, 'data.batch=6 is not divisible by the 4 devices'),
    ('data', 'eval_batch', 6, 'data.eval_batch=6 is not divisible by the 4'),
  ],
)
def test_devices_that_do_not_fit_are_refused_before_anything_is_done(
  tmp_path, section, field, value, message
):
  smoke = overrides.load('configs/aasist.py:smoke')
  smoke[section][field] = value
  with pytest.raises(ValueError, match=message):
    train.train(smoke.to_dict(), tmp_path / 'w')
  assert not list(tmp_path.iterdir())


def test_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(
  tmp_path, quickstart_tiny, environment
):
  """A learning rate of 1e30 breaks the weights in the first update.

  Of a model that is quick to compile: with that rate it is another program.
  """
  quick = tmp_path / 'quick.py'
  quick.write_text(
    'from configs import aasist, common\n'
    'def get_config():\n'
    "  config = aasist.get_config('smoke')\n"
    "  config.model = common.model('mean')\n"
    '  return config\n'
  )
  arguments = command(
    tmp_path / 'w',
    quickstart_tiny,
    '--config.optim.learning_rate=1e30',
    '--config.optim.learning_rate_min=1e30',
    config=quick,
  )
  output = finish(start(arguments, environment), expected=1)
  assert 'of step' in output and 'not finite' in output
  assert 'the last good checkpoint' in output and 'Traceback' not in output


@pytest.mark.parametrize(
  ('every', 'what'), [(1, 'a checkpoint in'), (100, 'the weights in')]
)
def test_disk_full_while_saving_says_what_to_do(
  tmp_path, quickstart_tiny, environment, every, what
):
  """Files of this process may not grow over 20 kB, as on a full disk."""
  code = (
    'import resource, signal, runpy, sys;'
    'signal.signal(signal.SIGXFSZ, signal.SIG_IGN);'
    'resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));'
    "sys.argv = ['run.py', *sys.argv[1:]];"
    "runpy.run_path('run.py', run_name='__main__')"
  )
  more = f'--config.checkpoint_every={every}'
  arguments = command(tmp_path / 'w', quickstart_tiny, more)
  arguments = [sys.executable, '-c', code, *arguments[2:]]
  environment = environment | {'GLIBC_TUNABLES': 'glibc.malloc.hugetlb=0'}
  output = finish(start(arguments, environment), expected=1)
  assert f'could not save {what}' in output
  assert 'start the same command again' in output
