"""The benchmark job: what is trained, what is reused, what the table says."""

import json
import statistics

import numpy as np
import pytest

from configs import benchmark as config_file
from jaxspoof.config import run_config
from jaxspoof.jobs import benchmark
from jaxspoof.machine import files
from jaxspoof.metrics import summary
from jaxspoof.metrics.eer import eer_of
from jaxspoof.score_files import protocols
from jaxspoof.score_files import scores as scores_lib
from jaxspoof.training import setup

SKILL = {'aasist': 1.0, 'ecapa': 3.0}
CLIPS = 240
OTHER = {
  'aasist': 'configs/aasist.py:smoke',
  'ecapa': 'configs/ecapa_mfcc.py:small',
}


def columns(values):
  """Trials of a corpus, and the scores that one system with one seed gives."""
  rng = np.random.default_rng(5)
  label = (np.arange(CLIPS) % 3 == 0).astype(np.int32)
  attack = np.where(label, '-', rng.choice(['A01', 'A02', 'A03'], CLIPS))
  common = rng.normal(size=CLIPS)
  own = np.random.default_rng(values['seed']).normal(size=CLIPS)
  name = values['model']['name'].partition('_')[0]
  scores = common + 0.3 * own + SKILL[name] * label
  return [f'U{n}' for n in range(CLIPS)], attack, label, scores


@pytest.fixture
def trained(monkeypatch):
  """Stands in for training; the list of what was trained."""
  calls = []

  def train(values, workdir):
    calls.append((values['model']['name'], values['seed'], values['epochs']))
    assert set(values['data']) > {'batch', 'name'}
    setup.claim(workdir, values)
    utterance, attack, label, scores = columns(values)
    speaker = [f'S{n % 8}' for n in range(CLIPS)]
    scores_lib.write(
      workdir / 'scores' / 'eval.txt', utterance, attack, label, scores
    )
    protocol = workdir / 'protocols' / 'eval.txt'
    protocols.write(protocol, utterance, speaker, attack, label)
    found = summary.summarise(
      utterance,
      attack,
      label,
      scores,
      speaker=speaker,
      split='eval',
      selected_on='dev',
      corpus='quickstart',
      resamples=8,
    )
    files.write_json(workdir / 'metrics.json', {**found, 'further': {}})
    files.write_json(
      workdir / 'cost.json',
      {
        'parameters': 1000 + len(calls[-1][0]),
        'macs_per_clip': {'total': 2_000_000},
        'clips_per_s': float(values['seed']),
        'minutes': 0.5,
        'device': 'cpu',
      },
    )

  monkeypatch.setattr('jaxspoof.jobs.train.train', train)
  return calls


def smoke(**changes):
  config = config_file.get_config('smoke')
  config.seeds = (1, 2, 4)
  config.resamples = 64
  config.update(changes)
  return config.to_dict()


def test_the_table_is_that_of_the_score_files(trained, tmp_path, capsys):
  changes = {'epochs': 3, 'data.batch': 4}
  result = benchmark.benchmark(smoke(changes=changes), tmp_path)
  assert [(seed, epochs) for _, seed, epochs in trained] == 2 * [
    (1, 3), (2, 3), (4, 3)
  ]  # fmt: skip
  assert json.loads((tmp_path / 'benchmark.json').read_text()) == result
  found = result['splits']['eval']
  assert found['trials'] == CLIPS
  assert found['resampled'] == '8 speakers and 3 attacks'
  for name, values in found['systems'].items():
    eers = []
    for seed in (1, 2, 4):
      folder = tmp_path / name / f'seed_{seed}'
      trials = scores_lib.read(folder / 'scores' / 'eval.txt')
      eers.append(eer_of(trials.scores, trials.label).eer)
    assert values['eers'] == eers
    assert values['eer'] == statistics.mean(eers)
    assert values['deviation'] == statistics.stdev(eers)
    low, high = values['interval']
    assert low < values['eer'] < high
    cost = result['systems'][name]
    assert cost['clips_per_s'] == 2.0 and cost['macs_per_clip'] == 2_000_000
  better = found['systems']['ecapa']
  assert 'difference' not in found['systems']['aasist']
  change = better['difference']
  first = found['systems']['aasist']['eer']
  assert change['value'] == pytest.approx(better['eer'] - first)
  assert change['interval'][1] < 0 and change['share'] == 1.0
  output = capsys.readouterr().out
  assert (tmp_path / 'benchmark.md').read_text() in output
  assert f'| ecapa | {100 * better["eer"]:.2f} | ' in output
  assert (tmp_path / 'compare.html').is_file()


def test_finished_runs_are_reused_and_missing_ones_made(
  trained, tmp_path, capsys
):
  first = benchmark.benchmark(smoke(), tmp_path)
  del trained[:]
  (tmp_path / 'ecapa' / 'seed_2' / 'metrics.json').unlink()
  assert benchmark.benchmark(smoke(), tmp_path) == first
  assert [(name[:5], seed) for name, seed, _ in trained] == [('ecapa', 2)]
  assert 'seed_4 is finished already' in capsys.readouterr().out


@pytest.mark.parametrize(
  ('changes', 'error', 'message'),
  [
    ({'seeds': (1, 1)}, ValueError, r'config.seeds=\(1, 1\): needs different'),
    ({'seed': 3}, ValueError, 'unknown config field config.seed: did you'),
    ({'changes': {'epoch': 1}}, SystemExit, "config.epoch: did you mean 'ep"),
    # A field of the first system alone.
    ({'changes': {'model.sinc_taps': 3}}, SystemExit, 'config.model.sinc_taps'),
    ({'systems': OTHER}, ValueError, "data.name is 'asvspoof2019_la', bu"),
  ],
)
def test_what_cannot_be_compared_is_said(
  trained, tmp_path, changes, error, message
):
  values = {**smoke(), **changes}
  with pytest.raises(error, match=message):
    benchmark.benchmark(values, tmp_path)
  assert not trained


def test_a_genotype_is_a_system(repository):
  config = benchmark.BenchmarkConfig(
    {**OTHER, 'light_darts': 'configs/light_darts.py:smoke'}
  )
  path = f'{repository}/configs/light_darts.py:smoke'
  values = benchmark.values_of(config.changes, path, 7)
  assert values['seed'] == 7 and values['model']['genotype']['hash']
  run_config(values)


def test_one_system_is_no_comparison(tmp_path):
  values = {**smoke(), 'systems': {'aasist': 'configs/aasist.py:smoke'}}
  with pytest.raises(ValueError, match=r'config.systems: needs two systems'):
    benchmark.benchmark(values, tmp_path)


def test_a_run_of_another_config_is_not_reused(trained, tmp_path):
  benchmark.benchmark(smoke(), tmp_path)
  with pytest.raises(ValueError, match='run with another config: epochs was 2'):
    benchmark.benchmark(smoke(changes={'epochs': 5}), tmp_path)
