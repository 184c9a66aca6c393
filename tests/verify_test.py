"""The record of a finished run, with verification scores, and its check."""

import json
import subprocess
import sys

import numpy as np
import pytest

from jaxspoof import verify
from jaxspoof.data import pipeline
from jaxspoof.machine import files
from jaxspoof.metrics import summary, tdcf
from jaxspoof.runs import record, workdir
from jaxspoof.score_files import asv_scores

ASV = """bonafide target 5.0
bonafide target 4.0
bonafide target -1.0
bonafide nontarget -4.0
bonafide nontarget 0.0
A01 spoof 6.0
A02 spoof -2.0
"""


@pytest.fixture
def finished(tmp_path):
  """What a run on a corpus with verification scores leaves at its end."""
  rng = np.random.default_rng(0)
  label = (np.arange(90) % 3 == 0).astype(np.int32)
  attack = np.where(label, '-', rng.choice(['A01', 'A02'], 90))
  trials = pipeline.Trials(
    utterance=np.array([f'U{n}' for n in range(90)]),
    speaker=np.array([f'S{n % 7}' for n in range(90)]),
    attack=attack,
    label=label,
  )
  scores = (rng.normal(size=90) + 2 * label).astype(np.float32)
  asv_file = tmp_path / 'corpus.txt'
  asv_file.write_text(ASV)
  run = tmp_path / 'run'
  workdir.keep_scores(run, 'eval', trials, scores, asv_file)
  for name in record.HASHED:
    (run / name).write_text('{}')
  found = summary.summarise(
    trials.utterance,
    attack,
    label,
    scores,
    speaker=trials.speaker,
    asv=asv_scores.read(asv_file),
    split='eval',
    selected_on='dev',
    corpus='c',
    resamples=20,
  )
  found['sha256'] = record.fingerprint(run, {'eval': found})
  files.write_json(run / 'metrics.json', found)
  return run, found, scores, label


def test_the_tandem_cost_of_a_run_is_in_its_record(finished):
  run, found, scores, label = finished
  asv = tdcf.asv_rates([5.0, 4.0, -1.0], [-4.0, 0.0], [6.0, -2.0])
  for name, measure in (
    ('min_tdcf_legacy', tdcf.min_tdcf_legacy),
    ('min_tdcf_revised', tdcf.min_tdcf_revised),
  ):
    assert found[name] == measure(scores.astype(np.float64), label, asv).cost
    low, high = found[f'{name}_interval']
    assert low < high
  assert set(found['sha256']) == {
    'config.json',
    'weights.npz',
    'scores/eval.txt',
    'protocols/eval.txt',
    'asv_scores/eval.txt',
  }
  assert verify.verify(run) == []


def test_the_command_loads_no_jax(finished):
  code = (
    'import sys\n'
    'from jaxspoof import verify\n'
    'try:\n'
    '  verify.main(sys.argv[1:])\n'
    'except SystemExit as end:\n'
    '  print(end.code, {"jax", "flax"} & set(sys.modules))'
  )
  command = [sys.executable, '-c', code, str(finished[0])]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  *_, verdict, end = done.stdout.splitlines()
  assert verdict.endswith(': verified') and end == 'False set()'


def test_other_verification_scores_are_found_out(finished):
  run = finished[0]
  path = run / 'asv_scores' / 'eval.txt'
  path.write_text(ASV.replace('target 5.0', 'target -5.0'))
  changed, *differing = verify.verify(run)
  assert changed == f'{path}: changed since the run ended'
  assert any('min_tdcf_revised is recorded as' in line for line in differing)
  path.unlink()
  assert verify.verify(run)[0] == f'{path}: missing'


def test_a_record_of_before_a_metric_was_in_the_table(finished):
  run, found = finished[:2]
  assert found['a_dcf'] > 0
  for name in ('a_dcf', 't_eer', 'cllr', 'cllr_interval'):
    del found[name]
  files.write_json(run / 'metrics.json', found)
  assert verify.verify(run) == []
  found['min_dcf'] += 0.01
  files.write_json(run / 'metrics.json', found)
  (line,) = verify.verify(run)
  assert 'min_dcf is recorded as' in line


def test_other_speakers_change_the_interval_alone(finished):
  run = finished[0]
  path = run / 'protocols' / 'eval.txt'
  path.write_text(path.read_text().replace('S1 ', 'S2 '))
  changed, *differing = verify.verify(run)
  assert changed == f'{path}: changed since the run ended'
  fields = [line.split(': ')[1].split()[0] for line in differing]
  assert 'eer_interval' in fields and 'eer' not in fields


def test_the_record_is_json_without_nan(finished):
  json.loads(
    (finished[0] / 'metrics.json').read_text(), parse_constant=pytest.fail
  )
