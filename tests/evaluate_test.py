"""The evaluation of a checkpoint: what is written, what is bad.

That a finished run is evaluated again to its own numbers, through run.py, is
in `train_test.py`, which has one.
"""

import json
import shutil

import numpy as np
import pytest
from flax import nnx

from jaxspoof import audio, jobs, losses, models, overrides, report, verify
from jaxspoof import config as config_lib
from jaxspoof.data import conditions, pipeline
from jaxspoof.detector import Detector
from jaxspoof.jobs import evaluate
from jaxspoof.losses import LossConfig
from jaxspoof.runs import weights_file
from jaxspoof.score_files import scores as scores_lib
from jaxspoof.training import state as state_lib
from tests import pages
from tests.small_detectors import PADDED

pytestmark = pytest.mark.usefixtures('programs')
CONDITIONS = ('gain:-20+noise:10', 'clean')
NAMES = ('dev@gain_-20+noise_10', 'dev')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A workdir with random weights, as a run leaves it that has not ended.

  Its model takes padded clips, so that there is padding that could be heard.
  """
  workdir = tmp_path_factory.mktemp('runs')
  config = overrides.load('configs/ecapa_mfcc.py:smoke').to_dict()
  assert config['data']['padded']
  config['data'].update(eval_samples=34_000, bucket=64_000)
  config['model'].update(PADDED, name='ecapa_s')  # compiles quickly
  (workdir / 'config.json').write_text(json.dumps(config))
  loss = losses.make(config_lib.section(LossConfig, config['loss'], 'loss'), 2)
  system = models.system(
    config['model'], config['frontend'], head=loss.head, classes=2
  )
  _, *weights = state_lib.split(system.make(nnx.Rngs(3)))
  weights_file.save(workdir, *weights)
  return workdir


def config(run, corpora, **data):
  values = overrides.load('configs/evaluate.py')
  values.checkpoint = str(run)
  values.resamples = 8
  values.data.name = 'quickstart/tiny'
  values.data.data_dir = str(corpora)
  values.data.build = False
  values.data.eval_batch = 8
  values.data.eval = ('dev',)
  values.data.update(data)
  return values


@pytest.fixture(scope='module')
def evaluated(run, quickstart_tiny, tmp_path_factory, programs):
  """A workdir and what the job returned."""
  workdir = tmp_path_factory.mktemp('evaluated') / 'w'
  values = config(run, quickstart_tiny)
  values.conditions = CONDITIONS
  with pages.unpainted():
    return workdir, jobs.run(values, workdir)


def test_metrics_of_all_conditions_in_one_file(evaluated):
  workdir, result = evaluated
  assert json.loads((workdir / 'metrics.json').read_text()) == result
  assert result['name'] == NAMES[0]  # the headline: the first condition
  found = [result, *(result['further'][name] for name in NAMES[1:])]
  for summary, name, condition in zip(found, NAMES, CONDITIONS, strict=True):
    assert (summary['name'], summary['condition']) == (name, condition)
    assert summary['synthetic'] == ['noise'] * ('noise' in condition)
    assert summary['split'] == 'dev' and summary['corpus'] == 'quickstart/tiny'
    assert summary['trials'] == result['trials'] and summary['per_attack']
    low, high = summary['eer_interval']
    assert low <= summary['eer'] <= high
  assert 'less_first' not in result
  for summary in found[1:]:
    change = summary['less_first']
    assert change['value'] == pytest.approx(summary['eer'] - result['eer'])
    assert change['interval'][0] <= change['interval'][1]
  described = result['checkpoint']
  assert described['model'] == 'ecapa_s' and len(described['sha256']) == 64
  assert 'has not ended' in result['selected_on']
  assert result['used_before'] == [
    "the checkpoint was selected on split 'dev' of this corpus: what it does "
    "on 'dev' says nothing about new recordings"
  ]


def test_a_clip_has_the_same_score_alone_and_in_a_batch(
  evaluated, run, quickstart_tiny
):
  """Score files of batches of eight against clips one by one."""
  workdir, _ = evaluated
  source = pipeline.open_source('quickstart/tiny', 'dev', quickstart_tiny)
  detector = Detector.load(run, batch=1)
  by_condition = {}
  for name, spelt in zip(NAMES, CONDITIONS, strict=True):
    found = scores_lib.read(workdir / 'scores' / f'{name}.txt')
    assert len(found.scores) == len(source)
    by_condition[spelt] = found.scores
    condition = conditions.make(spelt, seed=1234)
    for i in range(0, len(source), 5):
      record = source[i]
      utterance = pipeline.text(record['utterance'])
      assert found.utterance[i] == utterance
      wave = condition(audio.load(record['audio']), utterance)
      (alone,) = detector.score([wave])
      np.testing.assert_allclose(found.scores[i], alone, atol=2e-5)
  differ = np.abs(by_condition[CONDITIONS[0]] - by_condition['clean'])
  assert np.median(differ) > 1e-4  # so that the tolerance above says something


def test_the_page_and_the_check_of_an_evaluation(evaluated, tmp_path):
  workdir, result = evaluated
  assert verify.verify(workdir) == []
  page = (workdir / 'report.html').read_text()
  for words in (
    'ecapa_s on quickstart/tiny', 'Conditions on split “dev”',
    f'{CONDITIONS[0]} (synthetic noise)',
    f'EER {100 * result["eer"]:.2f}', 'selected on split &#x27;dev&#x27; of ',
    NAMES[0],
  ):  # fmt: skip
    assert words in page, words
  assert 'metrics.jsonl' not in page and 'no cost.json' not in page
  for name in NAMES:
    change = result['further'].get(name, {}).get('less_first')
    assert change is None or f'{100 * change["value"]:+.2f} (' in page
  copy = tmp_path / 'copy'
  shutil.copytree(workdir, copy)
  path = copy / 'scores' / f'{NAMES[0]}.txt'
  path.write_text(path.read_text()[:-2] + '\n')  # a digit less
  assert any('changed since the run ended' in x for x in verify.verify(copy))
  (copy / 'metrics.json').unlink()
  with pytest.raises(ValueError, match='holds no metrics.json yet'):
    report.write(copy)


def test_workdir_of_another_config_is_refused(evaluated, run, quickstart_tiny):
  workdir, _ = evaluated
  values = config(run, quickstart_tiny, eval=('eval',))
  with pytest.raises(ValueError, match='a run with another config: condition'):
    jobs.run(values, workdir)


# ------------------------------------------------------------- bad input ---
@pytest.mark.parametrize(
  ('field', 'value', 'words'),
  [
    ('checkpoint', None, 'checkpoint is not set; expected the workdir of'),
    ('checkpoint', '/nowhere', '/nowhere: no checkpoint there'),
    ('checkpoint', 'tests', 'tests is not a run: expected the workdir of'),
    ('checkpoint', 'README.md', 'README.md'),
    ('model', 'aasist', "checkpoint of another model: a run of 'ecapa_s'"),
    ('conditions', ['echo:3'], "'echo:3' is unknown; expected 'clean', or"),
    ('conditions', [], r'conditions=\(\): expected such as'),
    ('conditions', 'clean', "conditions='clean': expected a list"),
    ('conditions', [10], '10 is no name; such as'),
    ('conditions', ['gain:1'] * 2, 'conditions=.* names gain:1 twice'),
    ('seed', -1, 'seed=-1: expected at least 0'),
    ('resamples', 0, 'resamples=0: expected at least 1'),
    ('seconds', 0.01, '0.01 seconds are too few for ecapa'),
    ('seed_', 1, "config.seed_: did you mean 'seed'"),
    ('data.eval', ['evil'], "'quickstart/tiny' has no split 'evil'; it has"),
    ('data.eval', [], r'data.eval=\(\): expected names of splits'),
    ('data.eval', ['dev[:1]'], 'holds 1 trials, none of them'),
    ('data.name', 'quickstat', 'quickstat'),
    ('data.eval_batch', 6, 'data.eval_batch=6 is not divisible by the 4 dev'),
    ('mesh.devices', 9, 'mesh.devices=9, but only 4 cpu'),
  ],
)
def test_configs_that_cannot_work(
  run, quickstart_tiny, tmp_path, field, value, words
):
  values = config(run, quickstart_tiny).to_dict()
  *sections, name = field.split('.')
  part = values
  for section in sections:
    part = part[section]
  part[name] = value
  with pytest.raises(ValueError, match=words):
    evaluate.evaluate(values, tmp_path / 'w')
  assert not (tmp_path / 'w' / 'scores').exists()
  jobs.workdir_lib.release()


def test_a_corpus_that_is_not_built_says_the_command(run, tmp_path):
  with pytest.raises(ValueError, match='python -m tfds_builders.build quick'):
    jobs.run(config(run, tmp_path / 'none'), tmp_path / 'w')
