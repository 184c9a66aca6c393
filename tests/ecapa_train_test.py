"""ECAPA-TDNN through the training job: padded clips, length buckets, detect."""

import json

import jax
import numpy as np
import pytest

from configs import ecapa_mfcc
from jaxspoof import audio
from jaxspoof.data import pipeline
from jaxspoof.detector import Detector
from jaxspoof.jobs import train
from jaxspoof.score_files import scores
from tests import pages
from tests.small_detectors import PADDED


@pytest.fixture(scope='module')
def run(tmp_path_factory, quickstart_tiny, programs):
  config = ecapa_mfcc.get_config('smoke')
  config.model.update(PADDED)  # compiles quickly
  config.epochs = 1
  config.average = 'none'
  config.data.data_dir = str(quickstart_tiny)
  config.data.build = False
  config.data.eval_samples = 40_000
  config.data.bucket = 16_000
  config.resamples = 8
  config.mesh.devices = 2
  workdir = tmp_path_factory.mktemp('runs') / 'ecapa'
  # optax multiplies by integers
  with jax.numpy_dtype_promotion('standard'), pages.none():
    train.train(config.to_dict(), workdir)
  return workdir, config


def test_the_job_ends_with_scores_of_every_trial(run, quickstart_tiny):
  workdir, config = run
  metrics = json.loads((workdir / 'metrics.json').read_text())
  source = pipeline.open_source(config.data.name, 'eval', quickstart_tiny)
  assert metrics['trials']['total'] == len(source)
  cost = json.loads((workdir / 'cost.json').read_text())
  assert cost['macs_per_clip']['total'] > 0


def test_a_clip_alone_has_the_score_of_its_batch(run, quickstart_tiny):
  """The job scores in padded batches of several lengths, detect one by one."""
  workdir, config = run
  written = scores.read(workdir / 'scores' / 'eval.txt')
  by_name = dict(
    zip(written.utterance.tolist(), written.scores.tolist(), strict=True)
  )
  source = pipeline.open_source(config.data.name, 'eval', quickstart_tiny)
  detector = Detector.load(workdir, batch=1)
  lengths = set()
  for record in [source[i] for i in range(0, len(source), 4)]:
    wave = audio.load(record['audio'])
    lengths.add(-(-min(len(wave), 40_000) // 16_000))
    expected = by_name[pipeline.text(record['utterance'])]
    np.testing.assert_allclose(detector.score([wave]), expected, atol=1e-5)
  assert len(lengths) > 1


def test_zeros_behind_a_clip_change_nothing(run):
  detector = Detector.load(run[0], batch=4)
  rng = np.random.default_rng(0)
  waves = [
    0.1 * rng.standard_normal(n).astype(np.float32) for n in (7_000, 20_000)
  ]
  together = detector.logits(waves)
  alone = np.concatenate([detector.logits([wave]) for wave in waves])
  np.testing.assert_allclose(together, alone, atol=1e-5)


def test_clips_too_short_for_the_network_are_repeated(run):
  detector = Detector.load(run[0], batch=1)
  wave = 0.1 * np.random.default_rng(0).standard_normal(200)
  wave = wave.astype(np.float32)
  assert len(wave) < detector.shortest
  repeated = np.resize(wave, detector.shortest)
  np.testing.assert_array_equal(
    detector.score([wave]), detector.score([repeated])
  )


def test_clips_of_one_length_are_for_models_that_need_them(run, tmp_path):
  values = run[1].to_dict()
  values['model'] = {'name': 'aasist_s'}
  values['loss'] = {'name': 'weighted_cross_entropy'}
  with pytest.raises(ValueError, match="data.padded is set, but model 'aasi"):
    train.train(values, tmp_path / 'aasist')


@pytest.mark.parametrize(
  ('section', 'field', 'value', 'message'),
  [
    ('loss', 'margin', 2.0, r'loss.margin=2.0: needs radians from 0 to pi / 2'),
    ('model', 'features', {'ceps': 90}, 'ceps=90: needs 1 to filters=80'),
    ('model', 'dropout', 1.0, r'dropout=1.0: needs a rate in \[0, 1\)'),
    ('data', 'samples', 300, r'data.samples=300: .* at least 320'),
  ],
)
def test_bad_values_are_refused_before_anything_is_written(
  run, tmp_path, section, field, value, message
):
  values = run[1].to_dict()
  values[section][field] = value
  with pytest.raises(ValueError, match=message):
    train.train(values, tmp_path / 'run')
  assert not (tmp_path / 'run').exists()
