"""Features of a frozen encoder, computed once for each split.

The encoder of a self-supervised front end takes most of the time of a step. If
it is frozen, what it makes of a clip is the same in every epoch, and for every
model that is trained on it.
"""

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxspoof import frontends, models
from jaxspoof.config import RunConfig
from jaxspoof.data import augment, pipeline
from jaxspoof.data import features as features_lib
from jaxspoof.data.source import Mixture
from jaxspoof.training import sharding as sharding_lib
from jaxspoof.training import state as state_lib

SHARD = 256  # clips
# Fields of a front end that change no value, or of which the encoder's hash
# tells more.
_NO_MATTER = ('weights', 'remat', 'output', 'layer', 'split', 'lora')


class Cache:
  """Features of the clips of a run, on disk."""

  def __init__(
    self,
    config: RunConfig,
    system: models.SystemConfig,
    graphdef: nnx.GraphDef,
    shardings: sharding_lib.Shardings,
    shortest: int | None,
    encoder: str,
    say: Callable[[str], None] = print,
  ):
    """Computes nothing yet.

    Args:
      config: of the run; `data.features_cache` is set.
      system: config of the model, the encoders of whose front end are frozen.
      graphdef: of the model.
      shardings: the devices that batches are divided over.
      shortest: samples that padded clips are repeated to; None where all clips
        have one length.
      encoder: hash of the encoders' weights.
      say: told how far it is.

    Raises:
      ValueError: there are several hosts.
    """
    if jax.process_count() > 1:
      raise ValueError('data.features_cache: needs one host')
    self.config, self.system = config, system
    self.shardings, self.shortest, self.say = shardings, shortest, say
    self.encoder, self._stores = encoder, {}

    def kept(params, batch_stats, batch):
      model = state_lib.merge(graphdef, params, batch_stats)
      wave, samples = batch['wave'], batch.get('samples')
      features, frames = state_lib.eval_view(model).kept(wave, samples)
      return features.astype(system.keeps(wave.shape[1]).dtype), frames

    self._kept = sharding_lib.jit(kept, shardings, replicated=2)

  def train(self, source, params, batch_stats) -> features_lib.Views:
    """Features of what the first `data.features_views` epochs train on.

    Each split of each corpus has its own, which other mixtures share.
    """
    whole = source.sources if isinstance(source, Mixture) else (source,)
    data_dir = self.config.data.data_dir
    parts = [part for s in whole for part in pipeline.apart(s, data_dir)]
    stores = [self._train(part, (params, batch_stats)) for part in parts]
    return features_lib.Views(tuple(stores), tuple(map(len, parts)))

  def _train(self, source, weights) -> features_lib.Store:
    data = self.config.data
    views = data.features_views or 1
    settings = {
      name: dataclasses.asdict(getattr(data, name))
      for name in augment.split(data.augment)
    }
    clips = {
      'epochs': views,
      'samples': data.samples,
      'seed': self.config.seed,
      'augment': data.augment,
      **settings,
    }
    items = views * len(source)
    store = self._store(source, clips, items, data.samples)

    def batches(positions):
      return pipeline.train_clips(
        source,
        positions,
        batch=data.batch,
        samples=data.samples,
        seed=self.config.seed,
        workers=data.workers,
        transforms=augment.transforms(data),
        shortest=self.shortest,
      )

    return self._filled(store, batches, data.batch, weights)

  def evaluation(self, source, params, batch_stats) -> features_lib.Store:
    """Features of what is scored of a split."""
    name = source.name, source.split
    if name not in self._stores:
      self._stores[name] = self._evaluation(source, (params, batch_stats))
    return self._stores[name]

  def _evaluation(self, source, weights) -> features_lib.Store:
    data = self.config.data
    bucket = None if self.shortest is None else data.bucket
    clips = {'samples': data.eval_samples, 'bucket': bucket}
    store = self._store(source, clips, len(source), data.eval_samples)

    def batches(positions):
      return pipeline.eval_clips(
        source,
        positions,
        batch=data.eval_batch,
        samples=data.eval_samples,
        workers=data.workers,
        bucket=bucket,
        shortest=self.shortest,
      )

    return self._filled(store, batches, data.eval_batch, weights)

  def _store(self, source, clips, items: int, samples: int):
    """Where features of a split are, or will be."""
    keeps = self.system.keeps(samples)
    key = {
      'encoder': self.encoder,
      'frontend': _recipe(self.system.frontend),
      'corpus': {'split': source.split, 'sha256': _digest(source)},
      'clips': {**clips, 'shortest': self.shortest},
      **keeps.of,
    }
    name = f'{source.name}-{source.split}'
    directory = features_lib.directory_of(
      self.config.data.features_cache, name, key
    )
    dtype = np.dtype(keeps.dtype)
    return features_lib.Store(
      directory, items, SHARD, keeps.features, keeps.frames, dtype
    )

  def _filled(self, store, batches, batch: int, weights):
    """The store, once all its shards are there."""
    if not store.missing():  # also where nobody may write
      return store
    with store.claimed():
      missing = store.missing()  # another process may have been here
      if not missing:
        return store
      done = store.items - sum(store.size(n) for n in missing)
      self.say(
        f'features of {store.items} clips, {done} of them kept before: '
        f'{store.directory}'
      )
      # A shard begins with a batch of its own, so that what was computed does
      # not depend on which shards were there before.
      plans = [
        np.arange(start, min(start + batch, n * SHARD + store.size(n)))
        for n in missing
        for start in range(n * SHARD, n * SHARD + store.size(n), batch)
      ]
      made = self._computed(zip(plans, batches(plans), strict=False), weights)
      for n in missing:
        store.write(n, itertools.islice(made, store.size(n)))
        done += store.size(n)
        self.say(f'features of {done} of {store.items} clips')
    return store

  def _computed(self, numbered, weights) -> Iterator[np.ndarray]:
    """Features of one clip after the other."""
    for numbers, batch in numbered:
      wanted = {k: batch[k] for k in ('wave', 'samples') if k in batch}
      placed = sharding_lib.put_batch(wanted, self.shardings)
      features, frames = jax.device_get(self._kept(*weights, placed))
      if not np.isfinite(features.astype(np.float32)).all():
        raise FloatingPointError('features of the encoder are not finite')
      for row in range(len(numbers)):
        yield features[row, : frames[row]]


def _recipe(frontend) -> dict[str, Any]:
  """What features depend on of the config of a front end."""
  if isinstance(frontend, frontends.JoinedConfig):
    return {place: _recipe(part) for place, part in frontend.named.items()}
  recipe = dataclasses.asdict(frontend)
  if isinstance(frontend, frontends.StatesConfig):
    output = 'all' if recipe['output'] == 'mix' else recipe['output']
    recipe = {k: v for k, v in recipe.items() if k not in _NO_MATTER}
    layer = frontend.layer if output == 'layer' else None
    recipe |= {'output': output, 'layer': layer}
  recipe.pop('weights', None)  # `encoder` says what they are
  return recipe


def _digest(source) -> str:
  """SHA-256 of the clips of a split, and of their names."""
  found = hashlib.sha256()
  for index in range(len(source)):
    record = source[index]
    found.update(f'{pipeline.text(record["utterance"])}\n'.encode())
    found.update(hashlib.sha256(record['audio']).digest())
  return found.hexdigest()
