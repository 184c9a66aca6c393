"""Learning where speech is spoofed, and what the run is good for."""

import csv
import dataclasses
import functools
import importlib.util
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from jaxspoof import (
  audio,
  bundle,
  jobs,
  losses,
  models,
  overrides,
  timelines,
  verify,
)
from jaxspoof.bundles import card as card_lib
from jaxspoof.bundles import store
from jaxspoof.data import pipeline, segments
from jaxspoof.detect import command
from jaxspoof.detector import Detector
from jaxspoof.metrics import localisation as metrics_lib
from jaxspoof.models import localiser
from jaxspoof.runs import names
from jaxspoof.score_files import moments
from jaxspoof.training import localisation, sharding, state, steps
from tests import miniatures, pages
from tfds_builders import build

pytestmark = pytest.mark.usefixtures('programs')
SMALL = {
  'name': 'localiser', 'bottleneck': 8, 'hidden': 16, 'skip': 8, 'blocks': 2,
}  # fmt: skip


@pytest.fixture(scope='module', autouse=True)
def promotion():
  with jax.numpy_dtype_promotion('standard'):  # optax mixes its dtypes
    yield


def config(data_dir, **changes):
  values = overrides.load('configs/localise.py:smoke')
  values.data.data_dir = str(data_dir)
  values.data.build = False
  values.update(changes)
  return values


@pytest.fixture(scope='module')
def run(spliced_tiny, tmp_path_factory, programs, promotion):
  """A workdir and what the job returned."""
  workdir = tmp_path_factory.mktemp('localised') / 'w'
  with pages.unpainted():
    return workdir, jobs.run(config(spliced_tiny), workdir)


def test_a_run_says_where(run, spliced_tiny):
  workdir, result = run
  assert json.loads((workdir / 'metrics.json').read_text()) == result
  assert set(result['localisation']) == {'dev', 'eval'}
  assert "lowest range EER on split 'dev': " in result['selected_on']
  # The files say the same, and nobody has changed them.
  assert verify.verify(workdir) == []
  found = result['localisation']['eval']
  assert found['clips'] == result['trials']['total'] == 30
  assert set(found['per_attack']) == set(result['per_attack'])
  assert 'unseen' in found and 'unseen' not in result['localisation']['dev']
  both = found['unseen']['clips'] + found.get('seen', {'clips': 6})['clips']
  assert both == 30 + 6  # the bona fide clips are in both
  scores = moments.read_scores(names.moments(workdir, 'eval'))
  ranges = moments.read_ranges(names.ranges(workdir, 'eval'))
  source = pipeline.open_source('spliced/quickstart.tiny', 'eval', spliced_tiny)
  for n in range(len(source)):
    record = source[n]
    name = pipeline.text(record['utterance'])
    samples = len(audio.load(record['audio'], name))
    assert len(scores[name].scores) in (samples // 320, samples // 320 + 1)
    spoofed, _ = segments.spoofed(record, name)
    assert [(a, b) for a, b, label in ranges[name] if label == 0] == spoofed
    assert ranges[name][-1].end == samples / 16_000
  page = (workdir / 'report.html').read_text()
  for words in (
    'Where speech is spoofed',
    'eval, unseen attacks',
    f'{100 * found["range_eer"]:.2f}\N{NO-BREAK SPACE}%',
    'A few clips',
    'dev range EER, %',
  ):
    assert words in page, words
  # What was found at the threshold of dev is in a file of its own.
  told = moments.read_ranges(names.found_ranges(workdir, 'eval'))
  at, rejected = found['at_dev_threshold'], 0.0
  for name, reference in ranges.items():
    for a, b, label in reference:
      rejected += label * sum(
        max(0.0, min(b, d) - max(a, c)) for c, d, said in told[name] if not said
      )
  assert rejected / found['seconds']['bonafide'] == pytest.approx(at['miss'])


def test_a_run_that_was_stopped_ends_with_the_same_bits(
  run, spliced_tiny, tmp_path
):
  workdir, result = run
  copy = tmp_path / 'w'
  shutil.copytree(workdir, copy)
  last = max(int(p.name) for p in (copy / 'checkpoints').glob('[0-9]*'))
  shutil.rmtree(copy / 'checkpoints' / str(last))
  (copy / 'metrics.json').unlink()
  (copy / 'weights.npz').unlink()
  with pages.none():
    again = jobs.run(config(spliced_tiny), copy)
  assert again == result


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'model': {'name': 'mean'}}, "model.name='mean' has no outputs over time"),
    ({'average': 'swa'}, "average='swa': this job expects 'none'"),
    ({'data': {'padded': False}}, 'data.padded=False: this job expects True'),
    ({'data': {'dev': 'eval'}}, 'share eval: a result on it would be a leak'),
  ],
)
def test_what_cannot_work_is_said_at_the_start(
  changes, message, spliced_tiny, tmp_path
):
  values = config(spliced_tiny).to_dict()
  for name, value in changes.items():
    if name == 'data':
      value = {**values[name], **value}
    values[name] = value
  with pytest.raises(ValueError, match=message):
    jobs.JOBS['localise'](values, tmp_path / 'w')


def test_a_corpus_without_labels_over_time_is_refused(
  quickstart_tiny, tmp_path
):
  values = config(quickstart_tiny)
  values.data.name = 'quickstart/tiny'
  with pytest.raises(
    ValueError, match='no labels of segments; expected one wi'
  ):
    jobs.run(values, tmp_path / 'w')


# -------------------------------------------------------------------- data ---
def record(text, samples, **fields):
  return {
    'audio': samples, 'segments': text.encode(), 'label': 0,
    'utterance': b'u', **fields,
  }  # fmt: skip


@pytest.mark.parametrize('samples', [960, 1_600, 2_400])
@pytest.mark.parametrize('shortest', [None, 1])
def test_labels_are_those_of_the_crop(samples, shortest, monkeypatch):
  """Each sample of the wave is its own number: the crop can be told."""
  length, text = 1_700, '110011'
  wave = np.arange(length, dtype=np.float32)
  monkeypatch.setattr(pipeline, '_wave', lambda source, record: wave)
  source = [record(text, b'')] * 4
  options = dict(batch=4, samples=samples, seed=5, shortest=shortest)
  batches = iter(pipeline.train_batches(source, **options, segments=True))
  for _ in range(3):
    batch = next(batches)
    assert batch['moments'].shape == (4, samples // 320)
    for row, found in zip(batch['wave'], batch['moments'], strict=True):
      for n, label in enumerate(found):
        part = row[320 * n : 320 * (n + 1)].astype(int)
        there = batch.get('samples', np.full(4, samples))[0] - 320 * n
        if there < 320:
          assert label == segments.UNKNOWN
        else:
          assert label == min(int(text[i // 320]) for i in part)
  batches.close()


def test_labels_of_partialspoof_are_read(tmp_path, monkeypatch, capsys):
  miniatures.let_counts_differ(monkeypatch, 'partialspoof')
  made = miniatures.partialspoof()
  miniatures.write_tree(tmp_path / 'manual', made.files)
  build.build('partialspoof', tmp_path, tmp_path / 'manual')
  source = pipeline.open_source('partialspoof', 'dev', tmp_path)
  options = dict(batch=3, samples=1_280, seed=0, shortest=1, segments=True)
  batches = iter(pipeline.train_batches(source, **options))
  found = next(batches)['moments'].tolist()
  batches.close()
  # Clips of two and a half moments, of which '11', '1001' and '110' are known.
  assert sorted(found) == [[1, 0, -1, -1], [1, 1, -1, -1], [1, 1, -1, -1]]


def test_labels_where_nothing_is_known():
  each = segments.of_samples(record('10', b''), 1_000, 'a')
  assert segments.labels(each).tolist() == [1, 0, -1]
  found = segments.spoofed(record('1001101', b''), 'a')
  assert found == ([(0.02, 0.06), (0.1, 0.12)], 0.14)
  exact = record('1001', b'', ranges=b'330-900')
  assert segments.spoofed(exact, 'a') == ([(330 / 16e3, 900 / 16e3)], 0.08)
  with pytest.raises(
    ValueError, match="a: field ranges: '9-3', expected FIRST"
  ):
    segments.spoofed({**exact, 'ranges': b'9-3'}, 'a')
  with pytest.raises(
    ValueError, match="a: field segments: expected 0 and 1, '"
  ):
    segments.text_of(record('102', b''), 'a')
  with pytest.raises(ValueError, match="such as 'partialspoof'"):
    segments.text_of({}, 'a')


def test_clips_that_change_their_length_have_no_labels(monkeypatch):
  wave = np.zeros(1_700, np.float32)
  monkeypatch.setattr(pipeline, '_wave', lambda source, record: wave)
  batches = iter(
    pipeline.train_batches(
      [record('11', b'')] * 2, batch=2, samples=640, seed=0, segments=True,
      transforms=(lambda wave, rng: wave[1:],),
    )
  )  # fmt: skip
  with pytest.raises(ValueError, match='samples became .* or has labels over'):
    next(batches)


# ------------------------------------------------------------------- model ---
def test_the_loss_is_the_mean_over_known_moments():
  """By a loop; padding and what lies behind labels count for nothing."""
  rng = np.random.default_rng(0)
  system = models.system({**SMALL, 'dropout': 0.0})
  model = system.make(nnx.Rngs(0))
  batch = {
    'wave': jnp.asarray(rng.normal(0, 0.1, (3, 4_800)), jnp.float32),
    'samples': jnp.array([4_800, 1_000, 3_200], jnp.int32),
    'moments': jnp.asarray(rng.integers(-1, 2, (3, 14)), jnp.int32),
  }
  loss, weights = losses.CrossEntropy(), (0.2, 0.8)
  graphdef, arrays = nnx.split(model)

  @jax.jit
  def both(arrays, batch):
    model = nnx.merge(graphdef, arrays)
    total = localisation.total_loss(weights)(model, loss, batch, nnx.Rngs(0))
    return total, model.answer_moments(batch['wave'], batch['samples']).moments

  found, moments_BxNxK = jax.device_get(both(arrays, batch))
  total = weight = 0.0
  for outputs, labels in zip(moments_BxNxK, batch['moments'], strict=True):
    for output, label in zip(outputs, np.asarray(labels), strict=False):
      if label >= 0:
        total += weights[label] * (np.log(np.exp(output).sum()) - output[label])
        weight += weights[label]
  assert float(found) == pytest.approx(total / weight, rel=1e-5)


@pytest.mark.parametrize(
  ('channels', 'frontend', 'hop'),
  [
    ((4, 4), 'fbank80', 160),
    ((), {'name': 'whisper', 'weights': 'random:miniature'}, 320),
  ],
)  # fmt: skip
def test_a_padded_clip_says_what_it_says_alone(channels, frontend, hop):
  system = models.system({**SMALL, 'channels': channels}, frontend)
  assert system.frontend.hop_length == hop
  model = state.eval_view(system.make(nnx.Rngs(0)))
  rng = np.random.default_rng(0)
  wave = rng.normal(0, 0.1, (2, 6_400)).astype(np.float32)
  lengths = np.array([6_400, 2_500], np.int32)
  for row, length in enumerate(lengths):
    wave[row, length:] = 0
  graphdef, arrays = nnx.split(model)
  call = jax.jit(
    lambda arrays, *batch: nnx.merge(graphdef, arrays).answer_moments(*batch)
  )
  both = jax.device_get(call(arrays, wave, lengths))
  for row, length in enumerate(lengths):
    alone = jax.device_get(call(arrays, wave[row : row + 1, :length]))
    count = int(both.count[row])
    assert count == alone.moments.shape[1] and alone.count is None
    np.testing.assert_allclose(
      both.moments[row, :count], alone.moments[0], atol=2e-5
    )
    np.testing.assert_allclose(both.outputs[row], alone.outputs[0], atol=2e-5)
  # The clip's outputs follow from its moments.
  count = int(both.count[1])
  scores = both.moments[1, :count, 1] - both.moments[1, :count, 0]
  lowest = np.sort(scores)[:10].mean()
  found = float(both.outputs[1, 1] - both.outputs[1, 0])
  assert found == pytest.approx(lowest, abs=2e-5)


def test_a_moment_is_where_it_is():
  """A frame of sound moves the outputs around its own time alone."""
  h = np.arange(41, dtype=np.float32)[None, :, None]  # about samples 160 i
  at_moments = jax.jit(localiser.at_moments, static_argnums=2)
  found, count = at_moments(h, None, 160)
  assert count is None and found.shape == (1, 20, 1)
  np.testing.assert_array_equal(found[0, :, 0], 1 + 2 * np.arange(20))
  found, count = jax.device_get(at_moments(h, np.int32([10]), 160))
  assert count.tolist() == [5] and found[0, 4, 0] == 9
  system = models.system({**SMALL, 'blocks': 1}, {'normalise': 'none'})
  model = state.eval_view(system.make(nnx.Rngs(1)))
  wave = np.random.default_rng(0).normal(0, 0.01, 16_000).astype(np.float32)
  loud = wave.copy()
  loud[9_600:9_920] *= 30  # moment 30
  graphdef, arrays = nnx.split(model)
  call = jax.jit(
    lambda arrays, wave: nnx.merge(graphdef, arrays).answer_moments(wave)
  )
  outputs = np.asarray(call(arrays, np.stack([wave, loud])).moments)
  moved = np.abs(outputs[1] - outputs[0]).max(1)
  assert set(np.flatnonzero(moved > 0.01 * moved.max())) <= {*range(27, 34)}
  assert np.average(np.arange(50), weights=moved) == pytest.approx(30, abs=1)


def test_models_without_moments_say_so():
  system = models.system({'name': 'mean'})
  assert not system.kind.localises
  with pytest.raises(NotImplementedError, match='Mean does not localise'):
    system.make(nnx.Rngs(0)).answer_moments(jnp.zeros((1, 16_000)))


@pytest.mark.parametrize(
  ('field', 'value'),
  [('width', 4), ('dropout', 1.0), ('lowest', 0), ('channels', (0,))],
)
def test_fields_that_cannot_work_are_named(field, value):
  with pytest.raises(ValueError, match=re.escape(f'{field}={value}')):
    models.system({'name': 'localiser', field: value})


def test_it_learns():
  """Noise of another colour in the middle, by heart."""
  rng = np.random.default_rng(0)
  wave = rng.normal(0, 0.1, (4, 9_600))
  labels = np.ones((4, 30), np.int32)
  for row, at in enumerate((3, 9, 14, 20)):
    part = slice(320 * at, 320 * (at + 8))
    wave[row, part] = np.cumsum(wave[row, part]) * 0.3
    labels[row, at : at + 8] = 0
  batch = {
    'wave': wave.astype(np.float32),
    'samples': np.full(4, 9_600, np.int32),
    'moments': labels,
  }
  system = models.system({**SMALL, 'dropout': 0.0})
  loss, one = losses.CrossEntropy(), sharding.make(1)
  graphdef, params, stats = state.split(system.make(nnx.Rngs(0)))
  tx = optax.adam(1e-2)
  step = steps.make_train_step(
    graphdef, tx, loss, 0, one, total=localisation.total_loss(())
  )
  create = functools.partial(state.create, tx=tx)
  now = jax.jit(create, out_shardings=one.replicated)(params, stats)
  for _ in range(40):
    now, metrics = step(now, batch)
  assert float(metrics['loss']) < 0.15
  batch |= {'index': np.arange(4), 'mask': np.ones(4, bool)}
  say = localisation.make_eval_step(graphdef, one)
  _, _, clips, _, each, _, _ = say(now.params, now.batch_stats, batch)
  scores = np.asarray(loss.score(each.reshape(-1, 2))).reshape(4, -1)
  located = [
    metrics_lib.Located(row[:30], 0.02, [(0.02 * at, 0.02 * (at + 8))], 0.6)
    for row, at in zip(scores, (3, 9, 14, 20), strict=True)
  ]
  assert metrics_lib.range_eer(located).eer < 0.05
  # As a clip each is a spoof.
  assert np.asarray(loss.score(clips)).max() < 0


# ---------------------------------------------------------------- detector ---
def test_the_bundle_knows_its_moments(run, tmp_path, capsys, monkeypatch):
  workdir, _ = run
  card = store.read_card(workdir / 'detector')
  assert card.moments.trials['spoof'] > 100 and card.moments.slope >= 0
  assert 'says of each 20 ms what it is' in '\n'.join(bundle.lines(card))
  packed = tmp_path / 'a.zip'
  assert bundle.main(['pack', str(workdir), str(packed)]) == 0
  detector = Detector.load(packed)
  assert detector.localises and Detector.load(workdir).localises
  # It is computed again from what is kept; a card that flatters is found.
  place = workdir / 'detector'
  _, tensors = store.read(place)
  kept = len(tensors['dev/moment_score'])
  assert kept == sum(card.moments.trials.values()) > 100
  assert bundle.main(['check', str(packed)]) == 0
  after = {**card.moments.after, 'cllr': 0.5 * card.moments.after['cllr']}
  better = dataclasses.replace(card.moments, after=after)
  store.write(
    tmp_path / 'b', dataclasses.replace(card, moments=better), tensors
  )
  capsys.readouterr()
  assert bundle.main(['check', str(tmp_path / 'b')]) == 1
  assert 'moments.after.cllr is' in capsys.readouterr().out
  for name in ('dev/moment_score', 'dev/moment_label'):
    del tensors[name]
  store.write(tmp_path / 'c', card, tensors)
  assert bundle.main(['check', str(tmp_path / 'c')]) == 0
  assert 'moments cannot be checked' in capsys.readouterr().out
  monkeypatch.setattr(bundle, 'MOMENTS', 50)
  few = bundle._some(np.arange(1_001))
  assert len(few) == 50 and few[0] == 0 and few[-1] == 1_000
  # A bundle of before, and of others, has no such section.
  plain = dataclasses.replace(card, moments=None)
  assert 'moments' not in json.loads(plain.text())
  assert card_lib.parse(plain.text().encode(), 'x').moments is None


def test_a_timeline_of_moments(
  run, tmp_path, spliced_tiny, capsys, monkeypatch
):
  monkeypatch.setattr('jaxspoof.machine.programs.keep', lambda: None)
  workdir, _ = run
  source = pipeline.open_source('spliced/quickstart.tiny', 'eval', spliced_tiny)
  name = pipeline.text(source[0]['utterance'])
  scores = moments.read_scores(names.moments(workdir, 'eval'))[name].scores
  path = tmp_path / 'clip.flac'
  path.write_bytes(source[0]['audio'])
  detector = Detector.load(workdir)
  found = detector.timeline(path)
  llrs = [window.llr for window in found.windows]
  expected = detector.known.moments(scores)[: len(llrs)]
  np.testing.assert_allclose(llrs, expected, atol=1e-3)
  assert found.windows[1].start == 0.02
  assert found.windows[-1].end == found.duration
  ends = [0.0, *(one.end for one in found.segments)]
  assert ends[:-1] == [one.start for one in found.segments]
  # The clip's verdict is that of its worst moments.
  verdict = detector.score(path)
  lowest = np.sort(scores)[:10].mean()
  assert verdict.score == pytest.approx(lowest, abs=1e-3)
  # All outputs of the command.
  arguments = ['--checkpoint', str(workdir), '--input', str(path)]
  rttm, svg = tmp_path / 'a.rttm', tmp_path / 'a.svg'
  more = ['--segments', str(rttm), '--picture', str(svg)]
  assert command.main([*arguments, *more, '--csv']) == 0
  rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
  assert len(rows) == len(found.segments) and svg.is_file()
  assert 'SPEAKER' in rttm.read_text()
  assert command.main([*arguments, '--timeline', '--hop', '0.5']) == 2
  assert 'says of each 20 ms' in capsys.readouterr().err


def test_a_long_recording_is_one_grid(run):
  """Moments of chunks are those of the whole, but for what surrounds them."""
  detector = Detector.load(run[0])
  rng = np.random.default_rng(0)
  wave = rng.normal(0, 0.1, 11 * 16_000 + 123).astype(np.float32)
  wave[16_000 * 5 : 16_000 * 6] = 0
  blocks = np.split(wave, [7_000, 90_000])
  found = list(detector.windows(blocks))
  assert len(found) in (550, 551)
  starts = [window.start for window in found]
  np.testing.assert_allclose(starts, 0.02 * np.arange(len(found)))
  # For a person there are fewer lines, of the same moments.
  lines = list(detector.parts(blocks))
  assert len(lines) < len(found) / 5
  assert [lines[0].start, lines[-1].end] == [0.0, found[-1].end]
  for line in lines:
    inside = [x.llr for x in found if line.start <= x.start < line.end]
    assert line.llr is None or line.llr == pytest.approx(np.mean(inside))
    assert line.llr is not None or set(inside) == {None}
  assert found[-1].end == len(wave) / 16_000
  silent = [n for n, window in enumerate(found) if window.llr is None]
  assert silent == list(range(250, 300))
  assert [w for w in detector.windows(blocks, batch=3)] == found


def test_the_benchmark_measures_any_timeline(
  run, repository, spliced_tiny, capsys, monkeypatch
):
  monkeypatch.setattr('jaxspoof.machine.programs.keep', lambda: None)
  path = repository / 'benchmarks' / 'localisation.py'
  spec = importlib.util.spec_from_file_location('localisation_benchmark', path)
  script = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(script)
  script.main([
    str(run[0]), '--corpus=spliced/quickstart.tiny', '--clips=10',
    f'--data_dir={spliced_tiny}',
  ])  # fmt: skip
  said = capsys.readouterr().out
  assert '10 clips of spliced/quickstart.tiny eval' in said
  assert 'range EER  ' in said and 'edges, all: ' in said
  script.main([
    str(run[0]), '--corpus=spliced/quickstart.tiny', '--split=train',
    '--joints', f'--data_dir={spliced_tiny}',
  ])  # fmt: skip
  said = capsys.readouterr().out
  assert 'bona fide clips of spliced/quickstart.tiny train with bona' in said
  # Windows that overlap have their mean; edges are those of the segments.
  window, segment = timelines.Window, timelines.Segment
  found = timelines.Timeline(
    'a', 0.12, (window(0, 0.08, 2.0, 0.1), window(0.04, 0.12, -4.0, 0.9)),
    (segment(0, 0.04, 'bona fide', 2.0), segment(0.04, 0.12, 'spoof', -2.5)),
    'uncertain', -1.0, 0.7, 0.5,
  )  # fmt: skip
  assert script.moments(found).tolist() == [2, 2, -1, -1, -4, -4]
  one = metrics_lib.Located(np.zeros(6), 0.02, [(0.05, 0.12)], 0.12)
  assert script.distances(found, one) == [pytest.approx(0.01)]
