"""Batches: the same for any workers, hosts and restarts; none lost."""

import gc
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from multiprocessing import resource_tracker

import grain
import numpy as np
import pytest
import soundfile

from jaxspoof import audio, losses
from jaxspoof import config as config_lib
from jaxspoof.data import augment, pipeline
from jaxspoof.data.rawboost import RawBoostConfig
from jaxspoof.training import setup, tasks
from tfds_builders import build

RATE = 16_000


def flac(wave):
  file = io.BytesIO()
  soundfile.write(file, wave, RATE, format='FLAC', subtype='PCM_16')
  return file.getvalue()


def corpus(count=11, bona_fide_every=3):
  """Clip i holds ramps: sample j of clip i is (1000 i + j) / 32768."""
  records = []
  for i in range(count):
    pcm = (1000 * i + np.arange(200 + 50 * (i % 4))).astype(np.int16)
    bona_fide = i % bona_fide_every == 0
    records.append(
      {
        'audio': flac(pcm),
        'label': int(bona_fide),
        'utterance': f'U{i:02d}'.encode(),
        'speaker': f'S{i % 4}'.encode(),
        'attack': b'-' if bona_fide else b'A07',
      }
    )
  return pipeline.Source(records, 'ramps', 'train')


def clip_of(wave):
  """Which clips the rows of a batch come from."""
  return np.rint(wave[:, 0] * 32768).astype(int) // 1000


def start_of(wave):
  return np.rint(wave[:, 0] * 32768).astype(int) % 1000


def take(batches, count):
  """The first batches; ends what computes them."""
  iterator = iter(batches)
  try:
    return [next(iterator) for _ in range(count)]
  finally:
    iterator.close()


def assert_same(left, right):
  assert len(left) == len(right)
  for one, other in zip(left, right, strict=True):
    assert one.keys() == other.keys()
    for name in one:
      np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def training(source=None, **options):
  defaults = {'batch': 4, 'samples': 100, 'seed': 5}
  source = corpus() if source is None else source
  return pipeline.train_batches(source, **{**defaults, **options})


def test_training_batches_have_shape_and_types():
  batch = take(training(), 1)[0]
  assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
    'wave': ((4, 100), np.float32),
    'label': ((4,), np.int32),
  }


def test_each_epoch_holds_every_clip_once_in_an_order_of_its_own():
  source = corpus()
  clips = np.concatenate(
    [clip_of(b['wave']) for b in take(training(source), 11)]
  )
  epochs = clips.reshape(4, 11)  # 11 batches of 4 are 4 epochs of 11
  for epoch in epochs:
    assert sorted(epoch) == list(range(11))
  assert len({tuple(epoch) for epoch in epochs}) == 4


def test_labels_belong_to_their_clips():
  for batch in take(training(), 6):
    np.testing.assert_array_equal(
      batch['label'], clip_of(batch['wave']) % 3 == 0
    )


def test_crops_are_contiguous_and_start_anywhere():
  starts = set()
  for batch in take(training(), 60):
    steps = np.diff(np.rint(batch['wave'] * 32768), axis=1)
    np.testing.assert_array_equal(steps, 1)
    start = start_of(batch['wave'])
    room = 100 + 50 * (clip_of(batch['wave']) % 4)
    assert (start <= room).all()
    starts |= set(start.tolist())
  assert len(starts) > 60  # of up to 251


def test_seed_changes_order_and_crops_and_nothing_else_does():
  first, again, other = (take(training(seed=seed), 3) for seed in (5, 5, 6))
  assert_same(first, again)
  assert not np.array_equal(first[0]['wave'], other[0]['wave'])


def test_neighbouring_seeds_do_not_share_orders():
  """grain's own shuffle would give seed 1, epoch 0 the order of 0, epoch 1."""
  by_seed = [
    [tuple(clip_of(b['wave'])) for b in take(training(seed=s, batch=11), 4)]
    for s in range(3)
  ]
  assert len({order for orders in by_seed for order in orders}) == 12


def test_workers_change_nothing():
  options = {'balanced': True, 'transforms': (flip, add_noise)}
  alone = take(training(**options), 6)
  assert_same(take(training(workers=2, **options), 6), alone)


@pytest.mark.parametrize('count', [2, 4])
def test_hosts_together_hold_the_batch_of_one(count):
  alone = take(training(batch=8), 4)
  parts = [take(training(batch=8, process=(p, count)), 4) for p in range(count)]
  for step, batch in enumerate(alone):
    for name, value in batch.items():
      together = np.concatenate([part[step][name] for part in parts])
      np.testing.assert_array_equal(together, value)


@pytest.mark.parametrize(
  ('before', 'after', 'transforms'),
  # RawBoost draws from its generator most of all.
  [(0, 0, 'none'), (1, 2, 'rawboost')],
)
def test_resumes_exactly_with_any_number_of_workers(before, after, transforms):
  options = {'transforms': augment.transforms(boosted(transforms))}
  straight = take(training(**options), 8)
  assert all(batch['wave'].dtype == np.float32 for batch in straight)
  iterator = iter(training(workers=before, **options))
  assert_same([next(iterator) for _ in range(3)], straight[:3])
  state = json.loads(json.dumps(iterator.get_state()))  # as a checkpoint does
  next(iterator)
  iterator.close()
  resumed = iter(training(workers=after, **options))
  resumed.set_state(state)
  assert resumed.get_state() == state
  rest = [next(resumed)]
  # Ctrl-C reaches workers, too, and is left to the program that has them.
  for worker in multiprocessing.active_children():
    os.kill(worker.pid, signal.SIGINT)
  rest += [next(resumed) for _ in range(4)]
  assert_same(rest, straight[3:])
  resumed.set_state(state)  # back again, in use
  assert_same([next(resumed)], straight[3:4])
  resumed.close()


def test_iterator_satisfies_grain():
  iterator = iter(training())
  assert isinstance(iterator, grain.DatasetIterator)
  next(iterator)
  iterator.close()
  with pytest.raises(ValueError, match='closed iterator'):
    next(iterator)


def test_balanced_batches_are_half_bona_fide():
  source = corpus(count=20, bona_fide_every=10)  # 2 bona fide, 18 spoof
  batches = take(training(source, batch=6, balanced=True), 12)
  spoofs = []
  for batch in batches:
    assert batch['label'].sum() == 3
    clips = clip_of(batch['wave'])
    np.testing.assert_array_equal(batch['label'], clips % 10 == 0)
    spoofs += clips[batch['label'] == 0].tolist()
  assert sorted(spoofs[:18]) == [i for i in range(20) if i % 10]
  for rank in (0, 1):
    halves = take(
      training(source, batch=8, balanced=True, process=(rank, 2)), 3
    )
    assert all(batch['label'].sum() == 2 for batch in halves)


def test_balanced_needs_both_classes():
  source = corpus(bona_fide_every=1)
  with pytest.raises(ValueError, match='bona fide first, 11, 0'):
    training(source, balanced=True)


def add_noise(wave, rng):
  return wave + rng.normal(0, 1e-3, wave.shape)


def flip(wave, rng):
  return -wave if rng.random() < 0.5 else wave


def test_transforms_depend_on_seed_epoch_and_record_alone():
  noisy = take(training(transforms=(flip, add_noise)), 6)
  assert all(batch['wave'].dtype == np.float32 for batch in noisy)
  plain = take(training(), 6)
  added = [
    np.minimum(np.abs(n['wave'] - p['wave']), np.abs(n['wave'] + p['wave']))
    for n, p in zip(noisy, plain, strict=True)
  ]
  # The same crops below the noise, and each epoch noise of its own.
  assert max(noise.max() for noise in added) < 1e-2
  by_clip = {}
  for batch, noise in zip(plain, added, strict=True):
    for clip, row in zip(clip_of(batch['wave']), noise, strict=True):
      by_clip.setdefault(clip, []).append(row)
  assert all(
    not np.array_equal(*rows[:2]) for rows in by_clip.values() if rows[1:]
  )


def drawn(wave, rng):
  return np.full_like(wave, rng.random())


def test_every_clip_of_every_epoch_has_chance_of_its_own():
  epochs = take(training(transforms=(drawn,), batch=11), 2)
  numbers = [batch['wave'][:, 0] for batch in epochs]
  assert len(np.unique(numbers)) == 2 * 11


def boosted(names='rawboost'):
  """A config with RawBoost, if it is named."""
  return config_lib.DataConfig(
    name='ramps',
    samples=100,
    batch=4,
    augment=names,
    rawboost=RawBoostConfig(algo=4),
  )


def test_the_job_augments_as_its_config_says():
  task = tasks.Detection()

  def first(data):
    config = config_lib.RunConfig(
      seed=3,
      epochs=1,
      model={},
      data=data,
      optim=None,
      loss=losses.LossConfig(),
      mesh=config_lib.MeshConfig(),
    )
    return take(
      setup.train_batches(config, corpus(), task, None, config.seed), 2
    )

  with_noise = boosted()
  without = config_lib.DataConfig(name='ramps', samples=100, batch=4)
  expected = training(seed=3, transforms=augment.transforms(with_noise))
  assert_same(first(with_noise), take(expected, 2))
  assert_same(first(without), take(training(seed=3), 2))


@pytest.mark.parametrize('trials', [1, 3, 11, 12, 13])
@pytest.mark.parametrize(
  ('batch', 'count'), [(3, 1), (12, 4), (4, 4), (8, 2), (100, 4)]
)
def test_evaluation_scores_every_trial_exactly_once(trials, batch, count):
  source = corpus(trials)
  seen, lengths = [], set()
  for rank in range(count):
    batches = list(
      pipeline.eval_batches(
        source, batch=batch, samples=100, process=(rank, count)
      )
    )
    lengths.add(len(batches))
    for part in batches:
      assert part['wave'].shape == (batch // count, 100)
      assert part['mask'].shape == (batch // count,)
      assert part['index'].dtype == np.int32
      np.testing.assert_array_equal(clip_of(part['wave']), part['index'])
      np.testing.assert_array_equal(start_of(part['wave']), 0)
      seen += part['index'][part['mask']].tolist()
  assert sorted(seen) == list(range(trials))
  assert lengths == {-(-trials // batch)}  # every process: as many batches


def test_evaluation_is_the_same_with_workers_and_hosts():
  source = corpus(13)

  def run(**options):
    return list(pipeline.eval_batches(source, batch=4, samples=300, **options))

  alone = run()
  assert_same(run(workers=2), alone)
  halves = [run(process=(rank, 2)) for rank in (0, 1)]
  for whole, *parts in zip(alone, *halves, strict=True):
    for name in whole:
      together = np.concatenate([part[name] for part in parts])
      np.testing.assert_array_equal(together, whole[name])


def test_short_clips_are_repeated():
  batch = next(pipeline.eval_batches(corpus(1), batch=1, samples=450))
  pcm = np.rint(batch['wave'][0] * 32768)
  np.testing.assert_array_equal(pcm, np.resize(np.arange(200), 450))


def test_trials_read_everything_but_audio():
  trials = pipeline.trials(corpus(5))
  assert len(trials) == 5
  assert trials.utterance.tolist() == ['U00', 'U01', 'U02', 'U03', 'U04']
  assert trials.speaker.tolist() == ['S0', 'S1', 'S2', 'S3', 'S0']
  assert trials.attack.tolist() == ['-', 'A07', 'A07', '-', 'A07']
  assert trials.label.tolist() == [1, 0, 0, 1, 0]
  assert trials.label.dtype == np.int32


def test_a_damaged_record_is_named():
  source = corpus()
  source.records[7]['audio'] = source.records[7]['audio'][:-40]
  message = 'ramps train, utterance U07: truncated or damaged FLAC'
  for workers in (0, 2):
    with pytest.raises(audio.AudioError, match=message):
      take(training(source, workers=workers), 11)
  with pytest.raises(audio.AudioError, match=message):
    list(pipeline.eval_batches(source, batch=4, samples=100))


def test_batches_that_hosts_cannot_share():
  with pytest.raises(
    ValueError, match='batch=10 cannot be shared equally by 4'
  ):
    training(batch=10, process=(0, 4))
  with pytest.raises(ValueError, match='batch=0'):
    pipeline.eval_batches(corpus(), batch=0, samples=100)


def test_empty_source():
  empty = pipeline.Source([], 'ramps', 'train')
  with pytest.raises(ValueError, match='ramps train holds no records'):
    training(empty)
  with pytest.raises(ValueError, match='holds no records'):
    pipeline.eval_batches([], batch=1, samples=100)


BUILDER = """
  import functools
  import io
  import numpy as np
  import soundfile
  import tensorflow_datasets as tfds

  class PipelineProbe(tfds.core.ShardBasedBuilder):
    '''Five clips of a constant, for the tests of the pipeline.'''
    VERSION = tfds.core.Version('1.0.0')

    def _info(self):
      text = tfds.features.Text()
      return self.dataset_info_from_configs(
        features=tfds.features.FeaturesDict({
          'audio': tfds.features.Tensor(shape=(), dtype=np.object_),
          'label': tfds.features.ClassLabel(names=['spoof', 'bonafide']),
          'utterance': text, 'speaker': text, 'attack': text,
        })
      )

    def _shard_iterators_per_split(self, dl_manager):
      return {
        split: [functools.partial(self._examples, count)]
        for split, count in (('train', 3), ('dev', 2))
      }

    def _examples(self, count):
      for i in range(count):
        file = io.BytesIO()
        soundfile.write(
          file, np.full(500, i / 8), 16_000, format='FLAC', subtype='PCM_16'
        )
        yield f'P{i}', {
          'audio': file.getvalue(),
          'label': 'bonafide' if i == 0 else 'spoof',
          'utterance': f'P{i}',
          'speaker': 'Ada',
          'attack': '-' if i == 0 else 'A01',
        }
"""


@pytest.fixture
def probe(tmp_path, monkeypatch):
  """A real TFDS builder in a package of its own; returns its data_dir."""
  package = tmp_path / 'probe_builders'
  package.mkdir()
  (package / '__init__.py').write_text(textwrap.dedent(BUILDER))
  monkeypatch.syspath_prepend(tmp_path)
  monkeypatch.setitem(build.CORPORA, 'pipeline_probe', 'probe_builders')
  return tmp_path / 'data'


def test_open_source_reads_what_was_built(probe):
  with pytest.raises(pipeline.CorpusNotBuilt) as caught:
    pipeline.open_source('pipeline_probe', 'train', probe)
  command = f'python -m tfds_builders.build pipeline_probe --data_dir={probe}'
  assert str(caught.value).endswith(command)
  assert isinstance(caught.value, ValueError)
  assert build.main(command.split()[3:]) == 0  # the command, as it is given

  source = pipeline.open_source('pipeline_probe', 'train', probe)
  assert len(source) == 3
  trials = pipeline.trials(source)
  assert trials.label.tolist() == [1, 0, 0]
  assert trials.attack.tolist() == ['-', 'A01', 'A01']
  alone = list(pipeline.eval_batches(source, batch=2, samples=600))
  np.testing.assert_array_equal(alone[0]['wave'][:, 5], [0, 1 / 8])
  np.testing.assert_array_equal(alone[1]['mask'], [True, False])
  assert_same(take(training(source, workers=2), 3), take(training(source), 3))
  both = pipeline.open_source('pipeline_probe', 'train+dev', probe)
  assert len(both) == 5


def test_unknown_split_lists_the_splits(probe):
  build.build('pipeline_probe', probe)
  expected = "'pipeline_probe' has no split 'test'; it has dev, train"
  with pytest.raises(ValueError, match=expected) as caught:
    pipeline.open_source('pipeline_probe', 'test', probe)
  assert caught.value.__cause__ is not None


def test_unknown_corpus_lists_the_known():
  with pytest.raises(ValueError, match="'quickstrat'.*quickstart"):
    pipeline.open_source('quickstrat', 'train')


def test_embedded_corpus_that_is_not_built(tmp_path):
  command = f'python -m tfds_builders.build quickstart --data_dir={tmp_path}'
  with pytest.raises(pipeline.CorpusNotBuilt, match=command):
    pipeline.open_source('quickstart', 'train', tmp_path)


def test_no_semaphore_goes_while_those_of_new_workers_come(monkeypatch):
  """Python 3.12 and newer warn of that, whenever the collector does it."""
  coming, going, met = [], [], []

  def register(name, kind):
    before = len(going)
    gc.collect()
    coming.append(name)
    met.extend(going[before:])

  def unregister(name, kind):
    going.append(name)

  monkeypatch.setattr(resource_tracker, 'register', register)
  monkeypatch.setattr(resource_tracker, 'unregister', unregister)
  gc.freeze()  # so that collecting takes no time
  left = [iter(training(workers=1))]
  next(left[0])
  left.append(left)
  gc.disable()
  try:
    del left
    take(training(workers=1), 1)
  finally:
    gc.enable()
    gc.unfreeze()
  assert len(coming) > 20  # both have some
  assert going
  assert met == []


def test_workers_leave_no_shared_memory_behind(repository, tmp_path):
  """Endless batches that are left, a batch in hand, and an evaluation."""
  script = tmp_path / 'run.py'
  script.write_text(
    'import io, numpy, soundfile\n'
    'from jaxspoof.data import pipeline\n'
    'if __name__ == "__main__":\n'
    '  file = io.BytesIO()\n'
    '  soundfile.write(file, numpy.ones(4000) / 9, 16000, format="WAV")\n'
    '  record = {"audio": file.getvalue(), "label": 1, "utterance": b"u"}\n'
    '  options = dict(batch=2, samples=4000, workers=1)\n'
    '  left = iter(pipeline.train_batches([record] * 4, seed=0, **options))\n'
    '  held = next(left)\n'
    '  print(len(list(pipeline.eval_batches([record] * 4, **options))))\n'
  )
  done = subprocess.run(
    [sys.executable, script],
    env={**os.environ, 'PYTHONPATH': str(repository)},
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )
  assert (done.returncode, done.stdout, done.stderr) == (0, '2\n', '')
