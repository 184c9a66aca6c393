"""Features of frozen encoders: computed once, and the same as in every step."""

import functools
import hashlib
import io
import json

import jax
import numpy as np
import pytest
import soundfile

from jaxspoof import arithmetic, jobs, losses, models, optim, overrides
from jaxspoof import config as config_lib
from jaxspoof.data import features as features_lib
from jaxspoof.data import pipeline
from jaxspoof.data.source import Mixture, Source
from jaxspoof.jobs import train
from jaxspoof.training import features as features_cache
from jaxspoof.training import scoring, setup, sharding, steps, tasks
from jaxspoof.weights import frozen
from tests import pages

pytestmark = pytest.mark.usefixtures('programs')
# Padded clips, repeated ones, and a model that keeps statistics alone.
CONFIGS = ('ssl_mhfa', 'ssl_aasist', 'robust')


@pytest.fixture(autouse=True)
def standard_promotion(monkeypatch):
  """Optax multiplies by Python and integer scalars. Shards are small."""
  monkeypatch.setattr(features_cache, 'SHARD', 5)
  with jax.numpy_dtype_promotion('standard'):
    yield


def corpus(split, clips=11, seed=0):
  rng, records = np.random.default_rng(seed), []
  for i in range(clips):
    wave = rng.uniform(-0.5, 0.5, int(rng.integers(3_000, 14_000)))
    file = io.BytesIO()
    soundfile.write(file, wave, 16_000, format='WAV')
    records.append(
      {
        'audio': file.getvalue(),
        'label': i % 2,
        'utterance': f'{split}{i}',
        'speaker': 'A',
        'attack': '-' if i % 2 else 'A01',
      }
    )
  return Source(records, 'made', split)


def made(name, folder, **changes):
  """Config, a cache, and all that a step needs."""
  values = overrides.load(f'configs/{name}.py:smoke')
  changes = {f'data.{k}': v for k, v in changes.items()}
  values.update_from_flattened_dict(
    {
      **({} if name == 'robust' else {'frontend.weights': 'random:tiny'}),
      'data.features_cache': str(folder),
      'data.features_views': 2,
      'data.batch': 4,
      'data.eval_batch': 4,
      'data.bucket': 3_000,
      **changes,
    }
  )
  config = config_lib.run_config(values.to_dict())
  loss = losses.make(config.loss)
  system = models.system(config.model, config.frontend, head=loss.head)
  placed = sharding.make(1)
  tx = optim.make(config.optim, 20)
  graphdef, state = train.make_state(config, system, tx, placed)
  shortest = setup.shortest_clip(config)
  said = []
  cache = features_cache.Cache(
    config, system, graphdef, placed, shortest,
    frozen.fingerprint(state.frozen), said.append,
  )  # fmt: skip
  weights = state.whole(), state.batch_stats
  cache.train = functools.partial(_call, cache.train, weights)
  cache.evaluation = functools.partial(_call, cache.evaluation, weights)
  return config, cache, state, shortest, placed, (graphdef, tx, loss), said


def _call(function, weights, source):
  return function(source, *weights)


@pytest.mark.parametrize('name', CONFIGS)
def test_a_step_is_given_what_it_would_compute(name, tmp_path):
  config, cache, state, shortest, placed, parts, _ = made(name, tmp_path)
  source, task = corpus('train'), tasks.TASKS['detection']
  task = task.taught_by(source)
  store = cache.train(source)
  (kept_store,) = store.stores
  assert kept_store.shards == 5 and not kept_store.missing()
  assert (kept_store.frames == 1) == (name == 'robust')

  def stream(features):
    return iter(
      setup.train_batches(
        config, source, task, shortest, config.seed, features=features
      )
    )

  # As many views as epochs: batches hold the same clips, crops included.
  graphdef, tx, loss = parts
  for _, plain, kept in zip(
    range(5), stream(None), stream(store), strict=False
  ):
    np.testing.assert_array_equal(plain['label'], kept['label'])
    assert ('frames' in kept) == ('samples' in plain) == (name != 'ssl_aasist')
    wanted, frames = jax.device_get(
      cache._kept(state.whole(), state.batch_stats, sharding.put_batch(
        {k: v for k, v in plain.items() if k != 'label'}, placed
      ))
    )  # fmt: skip
    assert kept['features'].shape == wanted.shape
    for row, count in enumerate(frames):
      got = kept['features'][row].astype(np.float32)
      np.testing.assert_allclose(
        got[:count],
        wanted[row, :count].astype(np.float32),
        rtol=0.02,
        atol=0.02,
      )
      assert not got[count:].any()
      if 'frames' in kept:
        assert kept['frames'][row] == count
  if name == 'ssl_aasist':
    return
  # And a step does the same with either, but for bfloat16.
  step = steps.make_train_step(graphdef, tx, loss, 0, placed)
  results = []
  for batch in (plain, kept):
    placed_batch = sharding.put_batch(batch, placed)
    copy = jax.tree.map(lambda x: x.copy(), state)
    moved, metrics = step(copy, placed_batch)
    results.append(jax.device_get((metrics, moved.params)))
    cost = arithmetic.count(step.__wrapped__, state, placed_batch)
    results[-1] = (*results[-1], cost)
  (one, _, dear), (other, _, cheap) = results
  np.testing.assert_allclose(one['loss'], other['loss'], rtol=0.02)
  np.testing.assert_allclose(one['grad_norm'], other['grad_norm'], rtol=0.1)
  assert cheap.get('frontend', 0) < 0.02 * dear['frontend']


@pytest.mark.parametrize('name', CONFIGS)
def test_a_split_is_scored_as_without(name, tmp_path):
  config, cache, state, shortest, placed, parts, _ = made(name, tmp_path)
  source = corpus('dev')
  eval_step = steps.make_eval_step(parts[0], placed)

  def outputs(features):
    return scoring.outputs_of(
      eval_step, state.whole(), state.batch_stats, source, config.data,
      shortest, placed, features=features,
    )  # fmt: skip

  plain, kept = outputs(None), outputs(cache.evaluation(source))
  # Less than clips differ among themselves.
  assert np.abs(kept - plain).max() < 0.2 * np.abs(plain - plain[:1]).max()


def test_killed_and_continued(tmp_path):
  source = corpus('train')
  (store,) = made(CONFIGS[0], tmp_path / 'whole')[1].train(source).stores

  def hashes(of):
    return {
      path.name: hashlib.sha256(path.read_bytes()).hexdigest()
      for path in of.directory.glob('*.array_record')
    }

  whole = hashes(store)
  assert len(whole) == 5
  _, cache, *_, said = made(CONFIGS[0], tmp_path / 'killed')
  write = features_lib.Store.write

  def cut(clips):
    yield next(clips)
    raise KeyboardInterrupt

  def killed(self, number, clips):
    write(self, number, cut(clips) if number == 2 else clips)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(features_lib.Store, 'write', killed)
    with pytest.raises(KeyboardInterrupt):
      cache.train(source)
  # Another shard is lost, too.
  folder = next((tmp_path / 'killed').iterdir())
  sorted(folder.glob('*.array_record'))[0].unlink()
  said.clear()
  (again,) = cache.train(source).stores
  assert hashes(again) == whole
  assert said[0].startswith('features of 22 clips, 5 of them kept before')
  # Nothing is computed where all is there.
  _, cache, *_, said = made(CONFIGS[0], tmp_path / 'killed')
  cache._kept = None
  assert cache.train(source).stores == (again,) and not said


def test_what_features_are_of(tmp_path):
  source = corpus('train')
  folders = set()
  for changes in (
    {},
    {'samples': 6_000},
    {'features_views': 1},
    {'augment': 'rawboost'},
    {'padded': False},
  ):
    _, cache, *_ = made(CONFIGS[0], tmp_path, **changes)
    cache._filled = lambda store, *rest: store
    (store,) = cache.train(source).stores
    folders.add(store.directory)
    folders.add(cache.evaluation(source).directory)
  # Of evaluations three are the same.
  assert len(folders) == 5 + 2
  _, cache, *_ = made(CONFIGS[0], tmp_path)
  cache._filled = lambda store, *rest: store
  same = cache.train(source).stores[0].directory
  assert same in folders
  for other in (corpus('train', seed=1), corpus('train', clips=10)):
    assert cache.train(other).stores[0].directory not in folders
  cache.encoder = 'another'
  assert cache.train(source).stores[0].directory not in folders
  key = json.loads((same / 'key.json').read_text())
  assert key['clips']['samples'] == 8_000
  assert key['frontend']['output'] == 'all'


def test_several_corpora_have_features_of_their_own(tmp_path):
  one, other = corpus('train', 7), corpus('train', 6, seed=1)
  _, cache, *_, said = made(CONFIGS[0], tmp_path)
  alone = [cache.train(source).stores[0] for source in (one, other)]
  said.clear()
  views = cache.train(Mixture((one, other)))
  assert views.stores == tuple(alone) and not said
  # Records 2 and 7 + 4; epochs 1 and 2, which is 0 again.
  features, frames = views.batch(np.array([2, 11]), np.array([1, 2]))
  wanted = alone[0].read(7 + 2), alone[1].read(4)
  for row, count, of in zip(features, frames, wanted, strict=True):
    np.testing.assert_array_equal(row[:count], of)
    assert count == len(of) and not row[count:].any()


def test_splits_that_are_joined_share_theirs(quickstart_tiny, tmp_path):
  _, cache, *_, said = made(CONFIGS[0], tmp_path, data_dir=str(quickstart_tiny))
  whole = cache.train(open_tiny('train+dev', quickstart_tiny))
  said.clear()
  alone = [
    cache.train(open_tiny(split, quickstart_tiny)) for split in ('dev', 'train')
  ]
  assert [views.stores[0] for views in alone] == [*whole.stores][::-1]
  assert not said
  # In their order: the last record of all is the last of dev.
  names, first, second = (
    pipeline.trials(open_tiny(split, quickstart_tiny)).utterance.tolist()
    for split in ('train+dev', 'train', 'dev')
  )
  assert names == first + second
  sliced = open_tiny('train[:2]+dev', quickstart_tiny)
  assert len(cache.train(sliced).stores) == 1


def open_tiny(split, data_dir):
  return pipeline.open_source('quickstart/tiny', split, data_dir)


def test_a_damaged_shard(tmp_path):
  source = corpus('train')
  (store,) = made(CONFIGS[0], tmp_path)[1].train(source).stores
  path = store.path(1)
  path.write_bytes(path.read_bytes()[:-100])
  features_lib._opened.cache_clear()
  with pytest.raises(ValueError, match=f'{path.name}: damaged .*; delete it'):
    for number in range(store.items):
      store.read(number)


def test_what_cannot_be_kept(tmp_path):
  values = overrides.load('configs/ssl_mhfa.py:smoke')
  values.data.features_views = 0
  with pytest.raises(ValueError, match='features_views=0: needs at least 1'):
    config_lib.run_config(values.to_dict())
  values = overrides.load('configs/light_darts_search.py:smoke').to_dict()
  from jaxspoof.darts.search.config import search_config

  values.pop('job')
  values['data']['features_cache'] = 'x'
  with pytest.raises(ValueError, match="features_cache='x': a supernet"):
    search_config(values)


def test_a_run(quickstart_tiny, tmp_path, capsys):
  def run(workdir, **changes):
    values = overrides.load('configs/ssl_mhfa.py:smoke')
    values.update_from_flattened_dict(
      {
        'data.data_dir': str(quickstart_tiny),
        'data.features_cache': str(tmp_path / 'features'),
        'mesh.devices': 1,
        'resamples': 8,
        **changes,
      }
    )
    with pages.none():
      found = jobs.run(values, tmp_path / workdir)
    return found, capsys.readouterr().out

  first, said = run('first')
  assert said.count(' kept before: ') == 4
  names = sorted(p.name for p in (tmp_path / 'features').iterdir())
  assert [n.rpartition('-')[0] for n in names] == [
    f'quickstart-tiny-{split}'
    for split in ('dev', 'eval', 'eval-hard', 'train')
  ]
  second, said = run('second')
  assert ' kept before: ' not in said
  assert second['state_sha256'] == first['state_sha256']
  with pytest.raises(ValueError, match='features_cache is set: expected a fr'):
    run('third', **{'optim.groups': ()})
