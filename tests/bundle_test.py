"""Detector bundles: what is in them, calibration, domain, and bad ones."""

import dataclasses
import importlib.metadata
import io
import json
import math
import re
import shutil
import subprocess
import sys
import warnings
import zipfile

import jax
import numpy as np
import pytest
import safetensors.numpy
import soundfile

from jaxspoof import bundle, checkpoints
from jaxspoof.bundles import card as card_lib
from jaxspoof.bundles import store, verdict
from jaxspoof.detector import Detector
from jaxspoof.metrics import calibration
from jaxspoof.metrics.cllr import cllr
from jaxspoof.metrics.rates import error_rates
from jaxspoof.runs import weights_file
from jaxspoof.score_files import scores as scores_lib
from jaxspoof.training import state
from tests import small_detectors
from tests.small_detectors import RATE, SAMPLES, wave

pytestmark = pytest.mark.usefixtures('programs')


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """A workdir with random weights and the bundle that training leaves."""
  return small_detectors.write(tmp_path_factory.mktemp('runs') / 'small')


@pytest.fixture(scope='module')
def packed(run, tmp_path_factory):
  path = tmp_path_factory.mktemp('packed') / 'small.zip'
  assert bundle.main(['pack', str(run), str(path)]) == 0
  return path


# ------------------------------------------------------------ calibration ---
def llrs(count=20_000, mean=1.5, seed=0):
  """Scores that are log-likelihood ratios: of normal densities 2 m apart."""
  rng = np.random.default_rng(seed)
  labels = (np.arange(count) % 5 == 0).astype(int)
  x = rng.normal(np.where(labels == 1, mean, -mean), 1)
  return 2 * mean * x, labels


def test_calibration_finds_what_scores_were_made_from():
  llr, labels = llrs()
  found = calibration.fit(0.2 * (llr - 7), labels)
  assert found.slope == pytest.approx(5, rel=0.04)
  assert found.intercept == pytest.approx(7, rel=0.04)
  plain = calibration.fit(llr, labels)
  assert plain(llr[:5]) == pytest.approx(found(0.2 * (llr[:5] - 7)), abs=1e-5)
  assert cllr(found(0.2 * (llr - 7)), labels) <= cllr(llr, labels) + 1e-6
  # Scores of any scale, also of cosines and of large sums.
  for scale in (1e-4, 1e4):
    again = calibration.fit(scale * llr, labels)
    assert again(scale * llr[0]) == pytest.approx(plain(llr[0]), rel=1e-5)


def test_the_prior_is_where_the_fit_is_best():
  llr, labels = llrs(2_000)
  bent = np.where(llr > 0, llr, 3 * llr)  # no affine map mends this
  costs = {}
  for prior in (0.5, 0.99):
    fitted = calibration.fit(bent, labels, prior)
    weight = np.where(labels == 1, prior, 1 - prior)
    weight = weight / np.bincount(labels)[labels]
    sign = np.where(labels == 1, -1, 1)
    offset = math.log(prior / (1 - prior))
    costs[prior] = [
      float(weight @ np.logaddexp(0, sign * (one(bent) + offset)))
      for one in (fitted, calibration.fit(bent, labels, 0.5))
    ]
  assert costs[0.99][0] < costs[0.99][1]


def test_what_cannot_be_calibrated_far_is_calibrated_a_little():
  labels = np.arange(60) % 3 == 0
  apart = np.where(labels, 5.0, -5.0) + np.linspace(0, 1, 60)
  found = calibration.fit(apart, labels)
  llr = found(apart)
  # 20 bona fide and 40 spoof trials prove no more than about that.
  assert 2 < llr[labels].min() and llr[labels].max() < 8
  assert -8 < llr[~labels].min() and llr[~labels].max() < -2
  turned = calibration.fit(-apart, labels)
  assert turned.slope == 0 and abs(turned.intercept) < 0.05
  assert calibration.fit(np.ones(60), labels) == calibration.Affine(0.0, 0.0)
  with pytest.raises(ValueError, match='calibration: needs bona fide and sp'):
    calibration.fit(apart, np.ones(60, int))
  with pytest.raises(ValueError, match='prior=1'):
    calibration.fit(apart, labels, 1)


def test_a_fusion_is_the_best_weighted_sum():
  """Of two systems that each see half, one that sees nothing, one that errs."""
  rng = np.random.default_rng(6)
  labels = (np.arange(4000) % 4 == 0).astype(int)
  llr_Nx2 = rng.normal(size=(4000, 2)) * 2 + 2 * (2 * labels[:, None] - 1)
  columns = [llr_Nx2 * [1, 5], np.full((4000, 1), 3.0), -llr_Nx2[:, :1]]
  found = calibration.fuse(np.concatenate(columns, 1), labels)
  # Gaussians of variance 4 whose means are 4 apart: their ratio is the score.
  np.testing.assert_allclose(found.weights, [1, 0.2, 0, 0], atol=0.1)
  fused = found(np.concatenate(columns, 1))
  best = cllr(llr_Nx2.sum(1), labels)
  assert best - 0.01 < cllr(fused, labels) <= best + 0.005
  single = calibration.fuse(llr_Nx2[:, :1], labels)
  fitted = calibration.fit(llr_Nx2[:, 0], labels)
  assert (fitted.slope, fitted.intercept) == (
    single.weights[0],
    single.intercept,
  )
  with pytest.raises(ValueError, match='calibration: scores must be finite'):
    calibration.fuse(np.full((4, 2), np.nan), [0, 1, 0, 1])


def test_thresholds_by_hand():
  llr = np.array([-2.0, -1.0, 0.0, 1.0, 0.5, 2.0, 3.0, 4.0])
  labels = np.array([0, 0, 0, 0, 1, 1, 1, 1])
  half = calibration.threshold_of(llr, labels, 0.5)
  assert -1 < half.threshold < -0.999 and half.proven
  assert (half.miss, half.false_alarm) == (0, 0.5)
  quarter = calibration.threshold_of(llr, labels, 0.25)
  assert (quarter.miss, quarter.false_alarm) == (0, 0.25)
  few = calibration.threshold_of(llr, labels, 0.001)
  assert (few.miss, few.false_alarm) == (0.25, 0)
  assert not few.proven and 1 < few.threshold < 1.001
  with pytest.raises(ValueError, match='rate 1: expected'):
    calibration.threshold_of(llr, labels, 1)


def test_operating_points_hold_on_the_half_not_used():
  llr, labels = llrs()
  first = np.arange(len(llr)) % 10 < 5
  names = ['EER', 'minDCF', '1 % false alarm', '0.1 % false alarm']
  points = calibration.operating_points(llr[first], labels[first])
  assert [point.name for point in points] == names
  for point in points:
    rates = error_rates(llr[~first], labels[~first], point.threshold)
    assert rates.false_alarm == pytest.approx(point.false_alarm, abs=0.01)
    assert rates.miss == pytest.approx(point.miss, abs=0.03)
  assert points[0].miss == pytest.approx(points[0].false_alarm, abs=1e-3)
  assert points[2].false_alarm <= 0.01 < points[2].false_alarm + 2e-4


# --------------------------------------------------------------- verdicts ---
def test_verdicts():
  rule = verdict.Rule()
  assert rule.p_spoof(0.0) == 0.5
  assert rule.p_spoof(math.log(4)) == pytest.approx(0.2)
  assert rule.decide(1.4) == ('bona fide', None)
  assert rule.decide(-1.4) == ('spoof', None)
  assert rule.decide(1.3)[0] == 'uncertain'
  assert 'undecided' in rule.decide(1.3)[1]
  # One spoof in 20: P(spoof) at an LLR of 0 is the prior.
  rare = verdict.Rule(prior=0.05)
  assert rare.p_spoof(0.0) == pytest.approx(0.05)
  assert rare.decide(0.0)[0] == 'bona fide'
  strict = verdict.Rule(threshold=2.0)
  decided = [strict.decide(llr)[0] for llr in (2.0, 1.9, 0.1, -0.1)]
  assert decided == ['bona fide', 'uncertain', 'uncertain', 'spoof']
  lenient = verdict.Rule(threshold=-1.0)
  assert [lenient.decide(x)[0] for x in (-1, -1.1)] == ['bona fide', 'spoof']
  for one in (rule, rare, strict, lenient):
    low, high = one.undecided()
    for llr in np.linspace(-5, 5, 101):
      p_spoof = one.p_spoof(llr)
      decided = one.decide(llr)[0]
      if abs(p_spoof - low) > 1e-6 and abs(p_spoof - high) > 1e-6:
        assert (decided == 'uncertain') == (low < p_spoof < high)
  for llr in (1e9, -1e9):
    assert 0 <= rule.p_spoof(llr) <= 1
  with pytest.raises(ValueError, match='prior=0: expected the probability'):
    verdict.Rule(prior=0)


# ----------------------------------------------------------------- scores ---
def test_a_bundle_scores_as_the_run_it_came_from(run, packed):
  waves = [wave(seed) for seed in range(100, 104)]
  expected = Detector.load(run, batch=4).score(waves)
  for place in (run / 'detector', packed):
    detector = Detector.load(place, 'aasist_l', batch=4)
    np.testing.assert_allclose(detector.score(waves), expected, atol=1e-6)
    assert detector.calibrated and detector.samples == SAMPLES
  card = store.read_card(run / 'detector')
  assert card.training['selected_on'] == 'the lowest EER'
  assert card.calibration.after['cllr'] < card.calibration.before['cllr']
  assert card.system.parameters == sum(
    x.size for x in jax.tree.leaves(weights_file.load(run)[1])
  )


def test_it_judges(run, tmp_path):
  detector = Detector.load(run, prior=0.2)
  path = tmp_path / 'a.wav'
  soundfile.write(path, wave(3), RATE, subtype='FLOAT')
  found = detector.score(path)
  again = detector.score(wave(3), RATE)
  assert again == dataclasses.replace(found, path='samples 0')
  affine = detector.known.calibration
  assert found.llr == pytest.approx(affine(found.score))
  odds = math.log(0.2 / 0.8) - found.llr
  assert found.p_spoof == pytest.approx(1 / (1 + math.exp(-odds)))
  assert found.prior == 0.2
  expected, why = detector.rule.decide(found.llr)
  assert (found.verdict, found.reasons) == (expected, (why,) if why else ())
  # Noise is nothing that it knows, whatever it scores.
  noise = np.random.default_rng(0).normal(0, 0.1, SAMPLES)
  found = detector.score(noise, RATE)
  assert found.verdict == 'uncertain'
  assert any('of the training domain' in reason for reason in found.reasons)


def test_rates_and_priors_need_a_calibration(run, tmp_path):
  strict = Detector.load(run, target_far=0.1)
  known = strict.known
  llr = known.calibration(known.dev_scores)
  passed = np.mean(llr[known.dev_labels == 0] >= strict.rule.threshold)
  assert 0 < passed <= 0.1
  plain = tmp_path / 'plain'
  shutil.copytree(run, plain, ignore=shutil.ignore_patterns('detector'))
  for options in ({'prior': 0.1}, {'target_far': 0.1}):
    with pytest.raises(ValueError, match='not calibrated.*means nothing'):
      Detector.load(plain, **options)
  with pytest.raises(ValueError, match='target_far=1: expected the share'):
    Detector.load(run, target_far=1)
  longer = Detector.load(run, seconds=1)
  assert 'scores are of 1 s, but were calibrated on 0.50 s' in longer.notes[-1]


def test_a_bundle_of_other_weights_than_the_run_is_refused(run, tmp_path):
  workdir = shutil.copytree(run, tmp_path / 'run')
  config, params, stats = weights_file.load(workdir)
  params = jax.tree.map(lambda x: x + 1, params)
  weights_file.save(workdir, params, stats)
  with pytest.raises(ValueError, match='detector: made of other weights than'):
    Detector.load(workdir)


def test_detection_needs_nothing_of_training(
  packed, repository, environment, tmp_path
):
  """In a process in which what it need not have cannot be imported."""
  path = tmp_path / 'a.wav'
  soundfile.write(path, wave(3), RATE, subtype='FLOAT')
  whole, small = (
    {
      line.partition('#')[0].strip()
      for line in (repository / name).read_text().splitlines()
    }
    for name in ('requirements.txt', 'requirements-detect.txt')
  )
  assert small < whole
  plain = lambda name: name.lower().replace('_', '-')
  others = {plain(re.match(r'[\w-]+', line)[0]) for line in whole - small}
  modules = importlib.metadata.packages_distributions()
  hidden = [m for m, found in modules.items() if others & {*map(plain, found)}]
  assert {'orbax', 'grain', 'librosa', 'ml_collections'} <= {*hidden}
  # What some of the others bring, and what only pictures need.
  hidden += ['array_record', 'torch', 'etils.epath', 'matplotlib']
  code = (
    'import sys\n'
    f'for name in {hidden}: sys.modules[name] = None\n'
    'from jaxspoof.detector import Detector\n'
    'found = Detector.load(sys.argv[1]).score(sys.argv[2])\n'
    'print(repr(found.score), found.verdict)\n'
  )
  done = subprocess.run(
    [sys.executable, '-c', code, packed, path],
    cwd=repository, env=environment, capture_output=True, text=True,
    timeout=200, check=False,
  )  # fmt: skip
  assert done.returncode == 0, done.stderr
  score, said = done.stdout.strip().split(' ', 1)
  found = Detector.load(packed).score(path)
  assert float(score) == pytest.approx(found.score, abs=1e-5)
  assert said == found.verdict


# ----------------------------------------------------------------- others ---
def test_released_weights_make_an_uncalibrated_bundle(reference, tmp_path):
  weights = reference / 'aasist' / 'AASIST-L.pth'
  out = tmp_path / 'l.zip'
  assert bundle.main(['pack', str(weights), str(out)]) == 0
  card = store.read_card(out)
  assert card.calibration is None and card.domain is None
  assert 'not calibrated' in card.notes[-1]
  assert card.name == 'aasist_l' and card.input.samples == 64_600
  hashes = set()
  for place in (weights, out):
    _, module, options = checkpoints.open_checkpoint(place)
    assert options['samples'] == 64_600
    _, *tree = state.split(module)
    hashes.add(state.tree_hash(tree))
  assert len(hashes) == 1


def test_a_run_from_a_clone_that_is_not_installed_ends_with_a_bundle(
  run, tmp_path, monkeypatch
):
  version = importlib.metadata.version

  def without_ours(name):
    if name == 'jaxspoof':
      raise importlib.metadata.PackageNotFoundError(name)
    return version(name)

  monkeypatch.setattr(importlib.metadata, 'version', without_ours)
  workdir = shutil.copytree(run, tmp_path / 'run')
  assert bundle.of_run(workdir).made_by['jaxspoof'] == 'not installed'


def test_an_evaluation_of_a_bundle_knows_where_it_comes_from(run, packed):
  found = checkpoints.described(str(packed), 'aasist_l')
  assert found['sha256'] == store.read_card(packed).weights.sha256
  assert found['selected_on'] == 'the lowest EER'
  for place in (run, packed):
    said = checkpoints.used_before(place, 'own', ('dev', 'eval', 'train'))
    assert len(said) == 2
    assert 'selected on' in said[0] and 'trained on' in said[1]


def test_figures_of_evaluations_are_kept_with_their_weights(
  run, packed, tmp_path, capsys
):
  card = store.read_card(packed)
  work = tmp_path / 'evaluated'
  rng = np.random.default_rng(0)
  label = np.arange(40) % 2
  lines = [
    f'U{n} {"- bonafide" if label[n] else "A01 spoof"} {rng.normal():.4f}\n'
    for n in range(40)
  ]
  (work / 'scores').mkdir(parents=True)
  (work / 'scores' / 'eval@noise_10.txt').write_text(''.join(lines))
  metrics = {
    'name': 'eval@noise_10', 'split': 'eval', 'corpus': 'own', 'eer': 0.5,
    'eer_interval': [0.4, 0.6], 'trials': {'total': 40},
    'checkpoint': {'sha256': card.weights.sha256},
  }  # fmt: skip
  (work / 'metrics.json').write_text(json.dumps(metrics))
  out = tmp_path / 'out.zip'
  arguments = ['pack', str(packed), str(out), '--figures', str(work)]
  assert bundle.main(arguments) == 0
  (row,) = store.read_card(out).figures
  assert (row['split'], row['eer']) == ('eval@noise_10', 0.5)
  assert row['calibrated']['cllr'] > 0.5
  metrics['checkpoint']['sha256'] = 'another'
  (work / 'metrics.json').write_text(json.dumps(metrics))
  assert bundle.main(arguments) == 2
  assert 'an evaluation of other weights' in capsys.readouterr().err


def test_nothing_is_shipped_yet(monkeypatch, packed, tmp_path):
  monkeypatch.setattr(checkpoints, 'SHIPPED', tmp_path / 'detectors')
  with pytest.raises(ValueError, match='no checkpoint is named, and no detec'):
    Detector.load()
  (tmp_path / 'detectors').mkdir()
  shutil.copy(packed, tmp_path / 'detectors' / 'default.zip')
  assert Detector.load().calibrated
  assert Detector.load('default').model == 'aasist_l'


# ---------------------------------------------------------------- command ---
def test_show_and_check(run, packed, capsys):
  assert bundle.main(['show', str(packed)]) == 0
  text = capsys.readouterr().out
  for words in (
    'aasist_l', '0.50 s', 'LLR = ', 'EER: bona fide from LLR',
    '40 clips of own', 'bandwidth: ', 'licence: ', 'too few spoofs',
  ):  # fmt: skip
    assert words in text
  assert bundle.main(['check', str(run)]) == 0
  assert 'whole, and agrees with itself' in capsys.readouterr().out
  assert bundle.main(['show', str(run / 'gone')]) == 2
  assert 'no bundle: expected' in capsys.readouterr().err


def test_check_finds_a_card_that_flatters(run, tmp_path, capsys):
  copy = shutil.copytree(run / 'detector', tmp_path / 'copy')
  values = json.loads((copy / 'card.json').read_text())
  values['calibration']['after']['cllr'] /= 2
  values['calibration']['operating_points'][0]['miss'] = 0.0
  (copy / 'card.json').write_text(json.dumps(values))
  assert bundle.main(['check', str(copy)]) == 1
  text = capsys.readouterr().out
  assert 'FAILED' in text and 'calibration.after.cllr is' in text
  assert 'operating_points do not follow' in text


def test_half_precision_is_half_as_large(run, tmp_path, capsys):
  out = tmp_path / 'half.zip'
  words = ['--licence=MIT', '--note', 'For tests.', 'For nothing else.']
  assert bundle.main(['pack', str(run), str(out), '--half', *words]) == 0
  whole, half = (store.read_card(p) for p in (run / 'detector', out))
  assert half.weights.bytes < 0.9 * whole.weights.bytes
  assert half.licence == 'MIT' != whole.licence
  assert half.notes[-2:] == ('For tests.', 'For nothing else.')
  # How they are kept is said where the bundle is shown, not with each answer.
  assert Detector.load(out).notes == (*whole.notes, *half.notes[-2:])
  assert 'note: weights in half precision' in bundle.lines(half)
  waves = [wave(seed) for seed in range(4)]
  scores = [Detector.load(p, batch=4).score(waves) for p in (run, out)]
  assert 0 < np.abs(scores[0] - scores[1]).max() < 0.05


def test_calibrate_on_own_recordings(run, tmp_path, capsys):
  plain = tmp_path / 'plain'
  shutil.copytree(run, plain, ignore=shutil.ignore_patterns('detector'))
  detector = Detector.load(plain, batch=4)
  waves = [wave(seed) for seed in range(24)]
  order = np.argsort(np.argsort(detector.score(waves)))
  rows = ['path,label,split']
  for i, samples in enumerate(waves):
    soundfile.write(tmp_path / f'{i}.wav', samples, RATE, subtype='FLOAT')
    real = (order[i] >= 12) != (i == 5)
    rows.append(f'{i}.wav,{"real" if real else "fake"},dev')
  soundfile.write(tmp_path / 'silent.wav', np.zeros(SAMPLES), RATE)
  rows.append('silent.wav,fake,dev')
  manifest = tmp_path / 'mine.csv'
  manifest.write_text('\n'.join(rows) + '\n')
  out = tmp_path / 'mine.zip'
  arguments = ['calibrate', str(plain), '--manifest', str(manifest)]
  arguments += ['--out', str(out), '--name', 'mine', '--split', 'dev']
  assert bundle.main(arguments) == 1  # the silent one
  output = capsys.readouterr()
  assert 'silent.wav: holds no sound' in output.err
  assert 'calibrated on mine.csv, split dev (1' in output.out
  found = Detector.load(out, batch=4)
  assert found.known.card.name == 'mine' and len(found.known.dev_scores) == 24
  scores = detector.score(waves)
  np.testing.assert_allclose(found.known.dev_scores, scores, atol=1e-5)
  # With scores of others it is these that are calibrated on, and the table
  # tells the domain alone.
  parts = [str(tmp_path / f'fold{k}.txt') for k in range(2)]
  for k, path in enumerate(parts):
    names = [f'{k}_{i}' for i in range(10)]
    labels = np.arange(10) % 2
    held = np.linspace(-1, 1, 10) + labels
    scores_lib.write(path, names, np.array(['-'] * 10), labels, held)
  assert bundle.main([*arguments, '--held_out', *parts]) == 1
  said = '20 recordings, each scored by a detector of the same recipe that was'
  assert f'calibrated on {said} not trained on it (2 in all)' in (
    capsys.readouterr().out
  )
  other = Detector.load(out, batch=4)
  np.testing.assert_allclose(other.known.dev_scores, [*held, *held], atol=1e-6)
  assert other.known.card.domain == found.known.card.domain
  assert bundle.main([*arguments, '--held_out', parts[0], parts[0]]) == 2
  assert '10 recordings are in two of them, such as 0_0' in (
    capsys.readouterr().err
  )
  assert bundle.main([*arguments[:-1], 'eval']) == 2
  assert "of split 'eval': a calibration needs both" in (
    capsys.readouterr().err
  )


# -------------------------------------------------------------- bad cards ---
def edited(change):
  """Changes the values of a card."""

  def apply(folder):
    values = json.loads((folder / 'card.json').read_text())
    change(values)
    (folder / 'card.json').write_text(json.dumps(values))

  return apply


def text(old, new):
  def apply(folder):
    path = folder / 'card.json'
    found = path.read_text()
    assert old in found
    path.write_text(found.replace(old, new, 1))

  return apply


def weights(change):
  """Changes the tensors, and the card so that it names the new file."""

  def apply(folder):
    card, tensors = store.read(folder)
    change(tensors)
    store.write(folder, card, tensors)

  return apply


def lying_header(folder):
  """A tensor that claims a million million values, with a fitting hash."""
  name = 'params/position'
  header = {name: {'dtype': 'F32', 'shape': [10**12], 'data_offsets': [0, 4]}}
  written = json.dumps(header).encode()
  data = len(written).to_bytes(8, 'little') + written + b'\0' * 4
  (folder / 'weights.safetensors').write_bytes(data)
  digest = bundle.record.file_hash(folder / 'weights.safetensors')
  edited(lambda v: v.update(weights={'sha256': digest, 'bytes': len(data)}))(
    folder
  )


def pickled(folder):
  """A file that runs a command where pickles are loaded."""
  data = b"cos\nsystem\n(S'touch /tmp/owned'\ntR."
  (folder / 'weights.safetensors').write_bytes(data)
  digest = bundle.record.file_hash(folder / 'weights.safetensors')
  edited(lambda v: v.update(weights={'sha256': digest, 'bytes': len(data)}))(
    folder
  )


@pytest.mark.parametrize(
  ('change', 'words'),
  [
    (text('"format": 1', '"format": 2'), 'format 2, this version'),
    (text('"slope": ', '"slope": 1e999'), 'not JSON|not a finite number'),
    (text('"slope": ', '"slope": NaN, "x": '), 'NaN is no number'),
    (
      text('{', '{"a": ' + '[' * 3000 + ']' * 3000 + ','),
      'nested more|not JSON',
    ),
    (text('{', '{"a": ' + '[' * 200_000), 'not JSON'),
    (edited(lambda v: v['calibration'].update(slope=-1)), 'slope=-1: expected'),
    (edited(lambda v: v['calibration'].update(slope=1e39)), 'slope=.*expected'),
    (edited(lambda v: v['input'].update(samples=10**14)), 'input.samples=10+'),
    (edited(lambda v: v['input'].update(samples=10)), 'input.shortest='),
    (edited(lambda v: v['input'].update(samples=10**30)), 'is too large'),
    (edited(lambda v: v['input'].update(sample_rate=8000)), 'takes 8000 Hz'),
    (edited(lambda v: v['input'].update(colour='red')), 'input.colour'),
    (edited(lambda v: v.pop('system')), 'section system is missing'),
    (edited(lambda v: v['system'].pop('loss')), 'lacks loss'),
    (
      edited(lambda v: v['system']['model'].update(gat_dims=[4, 10**6])),
      'gat_dims=1000000: expected',
    ),
    (
      edited(lambda v: v['system']['model'].update(gat_dims=[4, 8])),
      'do not fit the model',
    ),
    (edited(lambda v: v['system']['model'].update(name='x')), "model 'x' is n"),
    (edited(lambda v: v['system']['model'].update(y=1)), 'describes no model'),
    (edited(lambda v: v['weights'].update(bytes=7)), 'expected 7: cut'),
    (edited(lambda v: v['weights'].update(bytes=10**12)), 'expected 1 to'),
    (edited(lambda v: v['weights'].update(sha256='0')), 'its SHA-256 is not'),
    (
      edited(lambda v: v['domain']['ranges'].update(level=[1, 0])),
      r'domain.ranges.level=1: expected',
    ),
    (
      edited(lambda v: v['domain']['ranges'].update(charm=[0, 1])),
      'charm is no measure',
    ),
    (weights(lambda t: t.pop('dev/label')), 'dev/label is missing'),
    (
      weights(lambda t: t.update({'domain/axes': np.ones((2, 3), np.float32)})),
      'do not belong together',
    ),
    (weights(lambda t: t.pop('params/position')), 'position.* is missing'),
    (lying_header, 'damaged or of unknown values'),
    (pickled, 'damaged or of unknown values'),
  ],
)
def test_bad_bundles_are_refused(run, tmp_path, change, words):
  folder = shutil.copytree(run / 'detector', tmp_path / 'bad')
  change(folder)
  with pytest.raises(ValueError, match=words) as error:
    Detector.load(folder)
  assert str(error.value).startswith(str(folder))


def test_scores_that_hardly_differ_are_calibrated_as_well(run, tmp_path):
  """As those of a run that has learned next to nothing: the slope is steep."""
  folder = shutil.copytree(run / 'detector', tmp_path / 'steep')
  labels = np.arange(40) % 2
  fitted = calibration.fit(0.5 + 1e-7 * (labels + np.arange(40) % 3), labels)
  assert fitted.slope > 1e6
  edited(lambda v: v['calibration'].update(vars(fitted)))(folder)
  assert store.read_card(folder).calibration.slope == fitted.slope


@pytest.mark.parametrize(
  ('extra', 'words'),
  [
    ({'../evil.py': b'x'}, r"alone, found '\.\./evil\.py'"),
    ({'/etc/evil': b'x'}, "alone, found '/etc/evil'"),
    ({'model.pkl': b'x'}, "alone, found 'model.pkl'"),
    ({'card.json': b'{}'}, "alone, found 'one twice'"),
    (None, 'no weights.safetensors in it'),
  ],
)
def test_bad_zip_files_are_refused(packed, tmp_path, extra, words):
  path = tmp_path / 'bad.zip'
  with zipfile.ZipFile(packed) as old, zipfile.ZipFile(path, 'w') as new:
    new.writestr('card.json', old.read('card.json'))
    if extra is not None:
      new.writestr('weights.safetensors', old.read('weights.safetensors'))
      for name, data in extra.items():
        with warnings.catch_warnings(action='ignore'):  # of names twice
          new.writestr(name, data)
  with pytest.raises(ValueError, match=words):
    Detector.load(path)


def test_a_zip_bomb_and_a_cut_zip_are_refused(packed, tmp_path):
  path = tmp_path / 'bomb.zip'
  with zipfile.ZipFile(packed) as old:
    card = old.read('card.json')
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as new:
    new.writestr('card.json', card)
    new.writestr('weights.safetensors', bytes(50_000_000))
  assert path.stat().st_size < 100_000
  with pytest.raises(ValueError, match='50,000,000 bytes, expected'):
    Detector.load(path)
  with zipfile.ZipFile(path, 'w', zipfile.ZIP_DEFLATED) as new:
    new.writestr('card.json', b' ' * 50_000_000)
    new.writestr('weights.safetensors', b'')
  with pytest.raises(ValueError, match='50,000,000 bytes, expected at most'):
    Detector.load(path)
  cut = tmp_path / 'cut.zip'
  cut.write_bytes(packed.read_bytes()[:-500])
  with pytest.raises(ValueError, match='no bundle: expected a folder'):
    Detector.load(cut)


def test_the_same_bundle_is_packed_to_the_same_bytes(run, packed, tmp_path):
  again = tmp_path / 'again.zip'
  store.write(again, *store.read(run / 'detector'))
  assert again.read_bytes() == packed.read_bytes()
  buffer = io.BytesIO(packed.read_bytes())
  with zipfile.ZipFile(buffer) as found:
    assert found.namelist() == ['card.json', 'weights.safetensors']
    tensors = safetensors.numpy.load(found.read('weights.safetensors'))
  assert {name.partition('/')[0] for name in tensors} == {
    'params', 'batch_stats', 'dev', 'domain',
  }  # fmt: skip
  assert card_lib.FORMAT == 1
