"""Configs: every file loads, every typo is answered, sections are typed."""

import dataclasses
import fcntl
import gc
import importlib
import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from configs import common
from jaxspoof import config as config_lib
from jaxspoof import config_changes, frontends, losses, models, overrides
from jaxspoof.blocks.heads import Head
from jaxspoof.frontends.whisper.frontend import WhisperConfig
from jaxspoof.machine import interrupts
from jaxspoof.runs import names, workdir
from jaxspoof.runs.writer import Writer
from tests import warm

ROOT = pathlib.Path(__file__).parents[1]
TRAINING = {
  'aasist.py': ['', ':l', ':quickstart', ':smoke'],
  'lcnn.py': ['', ':quickstart', ':smoke'],
  'localise.py': ['', ':quickstart', ':smoke'],
  'rawnet2.py': ['', ':quickstart', ':smoke'],
  'ecapa_mfcc.py': [
    '',
    ':large',
    ':small',
    ':voxceleb',
    ':quickstart',
    ':smoke',
  ],
}


def load(variant='', file='aasist.py'):
  return overrides.load(f'{ROOT}/configs/{file}{variant}')


@pytest.mark.parametrize(
  ('file', 'variant'),
  [(file, variant) for file, found in TRAINING.items() for variant in found],
)
def test_every_variant_makes_a_typed_config(file, variant):
  config = config_lib.run_config(load(variant, file).to_dict())
  assert config.data.train == 'train' and config.data.dev == 'dev'
  assert 'eval' not in (config.data.train, config.data.dev)
  assert config.model['name'].startswith(file[:4])
  loss = losses.make(config.loss)
  system = models.system(config.model, config.frontend, head=loss.head)
  assert not config.data.padded or system.kind.variable_length
  assert system.min_samples <= config.data.samples


@pytest.mark.parametrize('name', losses.LOSSES)
def test_any_model_trains_with_any_loss(name):
  for file in TRAINING:
    values = load(':quickstart', file).to_dict()
    values['loss'] = {'name': name}
    config = config_lib.run_config(values)
    loss = losses.make(config.loss)
    system = models.system(config.model, config.frontend, head=loss.head)
    assert system.head == Head(loss.head, 2)


def test_head_and_classes_follow_from_loss_and_task():
  section = {**load().model.to_dict(), 'head': 'cosine'}
  with pytest.raises(ValueError, match='config.model sets head: these follow'):
    models.system(section)


def test_the_default_is_the_recipe_of_the_paper():
  config = config_lib.run_config(load().to_dict())
  assert (config.data.batch, config.epochs) == (24, 100)
  assert config.data.samples == config.data.eval_samples == 64_600
  assert (config.optim.learning_rate, config.optim.learning_rate_min) == (
    1e-4,
    5e-6,
  )
  assert config.optim.weight_decay == 1e-4
  assert config.loss.weights == (0.1, 0.9)
  assert config.average == 'swa' and not config.data.balanced


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('train', 'train+eval[:10%]'),
    ('dev', 'eval_hard'),
    ('dev', 'eval[1:]'),
    ('train', 'all'),
    ('dev', 'dev+all'),
  ],
)
def test_results_on_what_was_trained_or_selected_on_are_refused(field, value):
  values = load(':quickstart').to_dict()
  values['data'][field] = value
  with pytest.raises(ValueError, match=rf'data.{field}=.*would be a leak'):
    config_lib.run_config(values)


def test_unknown_variant_lists_the_known_ones():
  with pytest.raises(SystemExit, match=r"'quikstart'; known: .*quickstart"):
    load(':quikstart')


def test_missing_config_file_names_its_neighbours():
  with pytest.raises(SystemExit, match=r"did you mean '.*configs/aasist.py'"):
    overrides.load(f'{ROOT}/configs/aasits.py')


@pytest.mark.parametrize(
  ('argument', 'message'),
  [
    ('--config.optim.lerning_rate=1', r"did you mean 'learning_rate'"),
    ('--config.optim.weigth_decay=1', r"did you mean 'weight_decay'"),
    ('--config.dta.batch=1', r"config.dta: did you mean 'data'"),
    ('--config.data.batch.size=1', r'config.data.batch.size'),
  ],
)
def test_a_typo_names_the_near_match(argument, message):
  argv = ['run.py', f'--config={ROOT}/configs/aasist.py', argument]
  with pytest.raises(SystemExit, match=message):
    overrides.check(argv)


def test_overrides_without_fault_pass():
  config = f'{ROOT}/configs/aasist.py:l'
  overrides.check(
    ['run.py', f'--config={config}', '--config.optim.learning_rate=1']
  )
  overrides.check(['run.py', '--config', config, '--noconfig.data.build'])


@pytest.mark.parametrize('kind', frontends.KINDS)
def test_each_field_of_a_front_end_can_be_set(kind):
  section = common.frontend()
  for field in dataclasses.fields(kind):
    if field.default not in (None, dataclasses.MISSING):
      section[field.name] = field.default
  if kind is WhisperConfig:
    section.only = (1, 2)
    assert section.get_type('only') is tuple  # what a flag is parsed as
  section.parts = {'lfcc': {}}  # what is sections within may be anything


def test_unknown_field_of_a_section_is_refused():
  values = load().to_dict()
  values['optim']['momentum'] = 0.9
  with pytest.raises(ValueError, match=r'config.optim.momentum'):
    config_lib.run_config(values)


@pytest.mark.parametrize(
  ('values', 'message'),
  [
    (dict(batch='8'), "config.data.batch='8': expected a whole number"),
    (dict(batch=8.5), 'config.data.batch=8.5: expected a whole number'),
    (dict(batch=True), 'config.data.batch=True: expected a whole number'),
    (dict(balanced=1), 'config.data.balanced=1: expected True or False'),
    (dict(data_dir=3), 'config.data.data_dir=3: expected a text or None'),
    (dict(eval='eval'), "config.data.eval='eval': expected a list"),
  ],
)
def test_a_value_of_another_type_is_refused(values, message):
  with pytest.raises(ValueError, match=message):
    config_lib.section(
      config_lib.DataConfig, {'name': 'quickstart', **values}, 'config.data'
    )


def test_missing_field_is_named():
  values = load().to_dict()
  del values['data']['name']
  with pytest.raises(ValueError, match='config.data lacks name'):
    config_lib.run_config(values)


def test_command_line_refuses_the_typo_of_the_readme(environment):
  done = warm.run(
    [
      sys.executable,
      'run.py',
      '--config=configs/aasist.py',
      '--config.optim.lerning_rate=1e-3',
    ],
    cwd=ROOT,
    env=environment,
    capture_output=True,
    text=True,
  )
  assert done.returncode != 0
  assert "did you mean 'learning_rate' or" in done.stderr
  assert 'Traceback' not in done.stderr


def test_a_workdir_belongs_to_one_process_at_a_time(tmp_path):
  values, run = load().to_dict(), tmp_path / 'run'
  run.mkdir()
  # A lock belongs to an open file: this is as good as another process.
  other = os.open(run / names.LOCK, os.O_RDWR | os.O_CREAT)
  fcntl.flock(other, fcntl.LOCK_EX)
  os.write(other, b'process 123 on elsewhere\n')
  with pytest.raises(
    ValueError, match='run is in use by process 123 on elsewhere: wait until'
  ):
    workdir.claim(run, values, first=True)
  assert not (run / 'config.json').exists()
  fcntl.flock(other, fcntl.LOCK_UN)
  workdir.claim(run, values, first=True)
  with pytest.raises(BlockingIOError):  # ours is held by nobody else
    fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
  assert (run / names.LOCK).read_text().startswith(f'process {os.getpid()} ')
  workdir.release()
  fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
  os.close(other)


def test_a_run_that_was_interrupted_says_how_to_go_on(tmp_path):
  assert workdir.stopped(tmp_path) == (
    'interrupted; no checkpoint yet: the same command begins anew'
  )
  (tmp_path / 'metrics.jsonl').write_text('{"step": 7}\n{"step": 8}\n')
  for name in ('4', '8', '8.orbax-checkpoint-tmp'):
    (tmp_path / 'checkpoints' / name).mkdir(parents=True)
  assert workdir.stopped(tmp_path) == (
    'interrupted after step 8; start the same command again to go on from the '
    f'checkpoint of step 8 in {tmp_path}'
  )


@pytest.mark.parametrize(
  'during, written',
  [
    ('def main():\n  print("begun", flush=True)\n  time.sleep(60)\n', ''),
    # In the middle of a line.
    (
      'def main():\n  print("begun\\nstep 1", end="", flush=True)\n'
      '  time.sleep(60)\n',
      'step 1',
    ),
    # In a callback that drops exceptions, as JAX has one.
    (
      'def collecting(phase, info):\n  gc.callbacks.clear()\n'
      '  print("begun", flush=True)\n  time.sleep(60)\n'
      'def main():\n  gc.callbacks.append(collecting)\n  gc.collect()\n'
      '  time.sleep(60)\n',
      '',
    ),
  ],
)
def test_ctrl_c_ends_a_program_with_one_line(during, written):
  script = (
    'import gc\nimport time\nfrom jaxspoof.machine import interrupts\n'
    f'{during}interrupts.call(main)\n'
  )
  with subprocess.Popen(
    [sys.executable, '-c', script],
    cwd=ROOT,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
  ) as process:
    assert process.stdout.readline() == 'begun\n'
    process.send_signal(signal.SIGINT)
    assert process.stdout.read() == f'{written}\ninterrupted\n'
  assert process.returncode == 130


def test_a_package_that_is_missing_ends_a_program_with_one_line(
  capsys,
):
  def main(package):
    importlib.import_module(package)

  with pytest.raises(SystemExit) as ended:
    interrupts.call(lambda: main('surely_missing.inner'))
  assert ended.value.code == 2
  words = 'error: this needs the package surely_missing, which is not installed'
  assert capsys.readouterr().err.startswith(words)
  with pytest.raises(ModuleNotFoundError):  # a fault of our own
    interrupts.call(lambda: main('jaxspoof.surely_missing'))


def test_a_workdir_belongs_to_one_config(tmp_path):
  values = load().to_dict()
  workdir.claim(tmp_path / 'run', values, first=True)
  workdir.claim(tmp_path / 'run', values, first=True)
  values['mesh']['devices'] = 4
  values['data']['workers'] = 0
  workdir.claim(tmp_path / 'run', values, first=True)
  (tmp_path / 'run' / 'metrics.jsonl').write_text('{}')
  values['optim']['learning_rate'] = 0.5
  with pytest.raises(
    ValueError, match=r'optim.learning_rate was 0.0001, now 0.5'
  ):
    workdir.claim(tmp_path / 'run', values, first=True)


def test_a_run_that_fails_leaves_its_lines_and_no_open_file(tmp_path):
  """What is left open is a warning, and so an error, once it is collected."""
  failed = Writer(tmp_path, resume_step=0)
  for step in (1, 2, 3):
    failed.write(step, {'train/loss': 1 / step, 'epoch': 1})
  del failed
  gc.collect()
  with (tmp_path / 'metrics.jsonl').open('a') as file:
    file.write('{"step": 4, "train/l')
  assert [x['step'] for x in Writer(tmp_path, resume_step=2).kept] == [1, 2]
  gc.collect()
  lines = (tmp_path / 'metrics.jsonl').read_text().splitlines()
  assert json.loads(lines[-1]) == {'step': 2, 'train/loss': 0.5, 'epoch': 1}


def test_a_section_of_later_that_changes_nothing_keeps_a_run_going():
  """Runs from before an augmentation existed go on; with it they do not."""
  new = overrides.load('configs/aasist.py:smoke').to_dict()
  new = json.loads(json.dumps(new))  # as it is kept
  old = {**new, 'data': dict(new['data'])}
  assert not any(old['data'].pop('conditions').values())
  assert config_changes.differences(old, new) == []
  new['data']['conditions']['names'] = ['room']
  assert config_changes.differences(old, new) == [
    "data.conditions.names was None, now ['room']"
  ]
