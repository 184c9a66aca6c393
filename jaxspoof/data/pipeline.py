"""Batches of clips from a corpus: the only file that knows grain.

Every batch is a function of its number and the seed alone: which records it
holds, which epoch each of them is in, how each is augmented and cropped. So
worker processes, hosts and restarts change nothing, and the state of an
iterator is one integer.

Order: shuffle, repeat, batch (of record numbers), the rows of this process,
and only then read, decode, augment and crop, in threads or worker processes.
Host p of k holds rows p * b .. (p + 1) * b of each global batch: the global
batch is the same, row by row, for any number of hosts.

Clips are made to one length in one of two ways: repeated, for models that take
nothing else, or followed by zeros, with the number of valid samples beside
them. Then evaluation puts clips of about one length into a batch.
"""

import dataclasses
import functools
import gc
import os
import signal
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import grain
import numpy as np
from absl import flags

from jaxspoof import audio
from jaxspoof.data import features as features_lib
from jaxspoof.data import segments as segments_lib
from jaxspoof.data.conditions import Condition
from jaxspoof.data.source import (
  CorpusNotBuilt,
  Mixture,
  Source,
  Trials,
  apart,
  asv_scores,
  bona_fide,
  fingerprint,
  open_source,
  splits_of,
  spoofed,
  text,
  trials,
)

__all__ = [
  'CorpusNotBuilt',
  'Mixture',
  'Source',
  'Trials',
  'apart',
  'asv_scores',
  'bona_fide',
  'eval_batches',
  'fingerprint',
  'name_of',
  'open_source',
  'splits_of',
  'spoofed',
  'text',
  'eval_clips',
  'train_batches',
  'train_clips',
  'trials',
]

Batch = dict[str, np.ndarray]
Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def label_of(record: Mapping[str, Any]) -> int:
  """The label of a record for detection: 0 spoof, 1 bona fide."""
  return int(record['label'])


def train_batches(
  source: Sequence[Mapping[str, Any]],
  *,
  batch: int,
  samples: int,
  seed: int,
  workers: int = 0,
  process: tuple[int, int] = (0, 1),
  balanced: bool = False,
  transforms: Sequence[Transform] = (),
  shortest: int | None = None,
  label: Callable[[Mapping[str, Any]], int] = label_of,
  features: features_lib.Views | None = None,
  paired: bool = False,
  segments: bool = False,
) -> grain.IterDataset:
  """Endless training batches: each epoch in its own order, at random crops.

  A batch may hold the last clips of one epoch and the first of the next, so no
  clip is left out. The state of an iterator is the number of the next batch:
  it restores exactly, with any number of workers.

  Args:
    source: Records, from `open_source` or any sequence of such dictionaries.
    batch: Clips in a batch, over all processes.
    samples: Length of a crop at 16 kHz; shorter clips are repeated.
    seed: Of order, crops and transforms.
    workers: Worker processes; 0 decodes in threads of this one.
    process: This process and the number of them, as `jax.process_index()` and
      `jax.process_count()`.
    balanced: As many clips of each class, taken in turn; for detection every
      other one bona fide. A rare class is repeated more often: an epoch of it
      ends before that of another. So it is with the sources of a `Mixture`
      that has weights; with both, its weights hold within each class, among the
      sources that have it.
    transforms: Augmentations, each `(wave, rng) -> wave` on the whole clip
      (float32 [n] at 16 kHz) before it is cropped; numpy only, picklable.
      `rng` depends on seed, epoch and record alone, and crops do not change
      with the transforms.
    shortest: If given, short clips are padded with zeros to `samples` instead
      of repeated, once they have this many samples, which the model needs.
    label: Gives the class of a record; picklable.
    features: Features of the clips of `train_clips`, which take the place of
      waves; of more epochs than it has, the first ones come again.
    paired: Whether the clip without the transforms is wanted, too.
    segments: Whether labels of each 20 ms are wanted, which the records must
      have, see `data.segments`.

  Returns:
    `{'wave': float32 [b, samples], 'label': int32 [b]}`, b = batch / processes;
    with `segments` also `'moments': int32 [b, samples // audio.MOMENT]`, the
    labels of the same crops, -1 for padding; with `paired` also
    `'clean': float32 [b, samples]`, the same crops before the transforms; with
    `shortest` also `'samples': int32 [b]`, how many are valid. With `features`
    `'features': [b, frames, D]` and `'frames'` in place of `'wave'`
    and `'samples'`.

  Raises:
    ValueError: An empty source, a batch the processes cannot share, or
      `balanced` with one class only.
    AudioError: While iterating; names corpus, split and utterance.
  """
  rows = _rows(source, batch, process)
  classes = [np.arange(len(source))]
  if balanced:
    classes = _by_class(source, label)
  picks = _mixed(classes, source, seed)
  if features is not None:
    load = _TrainFeatures(source, rows, shortest is not None, label, features)
  else:
    load = _TrainLoader(
      source,
      samples,
      seed,
      rows,
      tuple(transforms),
      shortest,
      label,
      paired,
      segments,
    )
  return _Batches(picks.batch(batch).map(load), workers)


def train_clips(
  source: Sequence[Mapping[str, Any]],
  positions: Sequence[np.ndarray],
  *,
  batch: int,
  samples: int,
  seed: int,
  workers: int = 0,
  transforms: Sequence[Transform] = (),
  shortest: int | None = None,
) -> Iterator[Batch]:
  """Clips of certain epochs as `train_batches` gives them, each by its number.

  Args:
    source: As for `train_batches`.
    positions: Numbers of the clips of each batch: that of the record, plus the
      number of records times the epoch.
    batch: Clips in a batch; one of fewer is filled up with copies of its last.
    samples: As for `train_batches`, and so are the others.
    seed: Of crops and transforms.
    workers: Worker processes.
    transforms: Augmentations.
    shortest: If given, short clips are padded.

  Returns:
    Batches as those of `train_batches`.
  """
  load = _TrainLoader(
    source, samples, seed, slice(None), tuple(transforms), shortest, label_of
  )
  load = _Numbered(tuple(positions), batch, len(source), load)
  numbers = grain.MapDataset.range(len(positions))
  return iter(_Batches(numbers.map(load), workers))


def eval_batches(
  source: Sequence[Mapping[str, Any]],
  *,
  batch: int,
  samples: int,
  workers: int = 0,
  process: tuple[int, int] = (0, 1),
  bucket: int | None = None,
  shortest: int | None = None,
  condition: Condition | None = None,
  features: features_lib.Store | None = None,
  paired: bool = False,
) -> Iterator[Batch]:
  """Every trial exactly once, from its first samples.

  All processes get the same number of batches, of the same shapes. A batch
  that is not full is filled up with copies of its last trial, whose mask is
  False. Without `bucket` the trials come in their order.

  Args:
    source: As for `train_batches`.
    batch: Clips in a batch, over all processes.
    samples: Samples taken from the start of each clip; shorter ones are
      repeated.
    workers: As for `train_batches`.
    process: As for `train_batches`.
    bucket: If given, clips are not repeated but padded with zeros to a multiple
      of this many samples, at most `samples`. All clips of a batch get the same
      length. Every length that occurs is a shape, and is compiled once.
    shortest: With `bucket`, clips of fewer samples than the model needs, which
      is this many, are repeated to it before they are padded.
    condition: What is done to each whole clip before its first samples are
      taken; None for nothing.
    features: Features of the clips of `eval_clips`, which take the place of
      waves.
    paired: Whether the clip without the condition is wanted, too.

  Returns:
    `{'wave': float32 [b, samples], 'index': int32 [b], 'mask': bool [b]}`;
    index is the position of the trial in the source. With `paired` also
    `'clean': float32 [b, samples]`, the same samples without the condition.
    With `bucket` also
    `'samples': int32 [b]`, how many are valid. With `features`
    `'features': [b, frames, D]` and `'frames'` in place of `'wave'`
    and `'samples'`.

  Raises:
    ValueError: An empty source, or a batch the processes cannot share.
    AudioError: While iterating; names corpus, split and utterance.
  """
  rows = _rows(source, batch, process)
  plan = tuple(_plan(source, batch, samples, bucket, condition))
  if bucket is not None:
    shortest = shortest or 1
  if features is not None:
    load = _EvalFeatures(plan, batch, rows, shortest is not None, features)
  else:
    load = _EvalLoader(source, plan, batch, rows, shortest, condition, paired)
  numbers = grain.MapDataset.range(len(plan))
  return iter(_Batches(numbers.map(load), workers))


def eval_clips(
  source: Sequence[Mapping[str, Any]],
  positions: Sequence[np.ndarray],
  *,
  batch: int,
  samples: int,
  workers: int = 0,
  bucket: int | None = None,
  shortest: int | None = None,
) -> Iterator[Batch]:
  """Trials as `eval_batches` gives them, each by its number in their order.

  Args:
    source: As for `eval_batches`.
    positions: Numbers of the trials of each batch, rising, in the order in
      which `eval_batches` has them.
    batch: Clips in a batch; one of fewer is filled up with copies of its last.
    samples: As for `eval_batches`, and so are the others.
    workers: Worker processes.
    bucket: If given, clips are padded and not repeated.
    shortest: With `bucket`, samples that the model needs.

  Returns:
    Batches as those of `eval_batches`.
  """
  sizes = _sizes(source, samples, bucket)
  order = np.argsort(sizes, kind='stable')
  plan = tuple(
    (order[numbers], int(sizes[order[numbers[-1]]])) for numbers in positions
  )
  if bucket is not None:
    shortest = shortest or 1
  load = _EvalLoader(source, plan, batch, slice(None), shortest, None)
  numbers = grain.MapDataset.range(len(plan))
  return iter(_Batches(numbers.map(load), workers))


def _plan(
  source,
  batch: int,
  samples: int,
  bucket: int | None,
  condition: Condition | None,
) -> list:
  """(record numbers, samples) of each batch of an evaluation."""
  if bucket is None:
    return _deal(np.arange(len(source)), batch, samples)
  return _bucketed(source, batch, samples, bucket, condition)


def name_of(source: Sequence) -> str:
  """What messages call a source: corpus and split."""
  if isinstance(source, Source | Mixture):
    return f'{source.name} {source.split}'
  return 'the source'


def _rows(source, batch: int, process: tuple[int, int]) -> slice:
  """The rows of a global batch that this process holds."""
  index, count = process
  if not len(source):
    raise ValueError(f'{name_of(source)} holds no records')
  if batch < 1 or batch % count:
    raise ValueError(
      f'batch={batch} cannot be shared equally by {count} processes'
    )
  return slice(index * batch // count, (index + 1) * batch // count)


def _shuffled(
  records: np.ndarray, seed: int, stream: int = 0
) -> grain.MapDataset:
  """Endless {'record', 'epoch'}, each epoch in an order of its own."""
  # One word of a hash: grain adds the epoch to its seed, so that seeds 0 and 1
  # themselves would share all orders but the first.
  word = int(np.random.SeedSequence([seed, stream]).generate_state(1)[0])
  pick = functools.partial(_pick, len(records))
  ds = grain.MapDataset.source(records).shuffle(seed=word)
  return ds.repeat().map_with_index(pick)


def _pick(count: int, position: int, record: np.ndarray) -> dict:
  return {'record': int(record), 'epoch': position // count}


def _by_class(source, label) -> list[np.ndarray]:
  """Numbers of the records of each class."""
  labels = np.array([label(source[i]) for i in range(len(source))])
  # Bona fide, the last class, comes first.
  classes = [
    np.flatnonzero(labels == k) for k in range(max(labels.max(), 1), -1, -1)
  ]
  if not all(len(records) for records in classes):
    counts = ', '.join(str(len(records)) for records in classes)
    raise ValueError(
      'balanced batches need records of all classes; the source holds, bona'
      f' fide first, {counts}'
    )
  return classes


def _mixed(classes: list[np.ndarray], source, seed: int) -> grain.MapDataset:
  """Endless {'record', 'epoch'} of classes, and of sources by their weights."""
  # One record of each class in turn, so that every batch is balanced whose size
  # is a multiple of the number of classes.
  if not (isinstance(source, Mixture) and source.weights):
    return _in_turn([_shuffled(r, seed, i) for i, r in enumerate(classes)])
  weighted, stream = [], len(classes)
  for records in classes:
    streams, weights = [], []
    for number, weight in enumerate(source.weights):
      own = records[source.number_of(records) == number]
      if len(own):
        streams.append(_shuffled(own, seed, stream))
        weights.append(weight)
      stream += 1
    weighted.append(_in_turn(streams, weights))
  return _in_turn(weighted)


def _in_turn(streams: list, weights: list[float] | None = None):
  """Records of each stream in turn, as often as their weights say."""
  if len(streams) == 1:
    return streams[0]
  return grain.MapDataset.mix(streams, weights or [1] * len(streams))


def _deal(records: np.ndarray, batch: int, samples: int) -> list:
  """(record numbers, samples) of each batch of clips of one length."""
  return [
    (records[start : start + batch], samples)
    for start in range(0, len(records), batch)
  ]


def _bucketed(
  source,
  batch: int,
  samples: int,
  bucket: int,
  condition: Condition | None = None,
) -> list:
  """Batches of clips of similar length, the shortest first: see `_deal`."""
  sizes = _sizes(source, samples, bucket, condition)
  return [
    part
    for size in np.unique(sizes)
    for part in _deal(np.flatnonzero(sizes == size), batch, int(size))
  ]


def _sizes(
  source,
  samples: int,
  bucket: int | None,
  condition: Condition | None = None,
) -> np.ndarray:
  """The samples that each clip of an evaluation has, padding included."""
  if bucket is None:
    return np.full(len(source), samples)
  lengths = [_length(source, i) for i in range(len(source))]
  if condition is not None:  # one that trims does not say by how much
    lengths = [condition.samples(length) for length in lengths]
  lengths = np.array(lengths)
  return np.minimum(-(-lengths // bucket) * bucket, samples)


@dataclasses.dataclass(frozen=True)
class _TrainLoader:
  """Makes a training batch from record numbers and epochs."""

  source: Sequence[Mapping[str, Any]]
  samples: int
  seed: int
  rows: slice
  transforms: tuple[Transform, ...]
  shortest: int | None
  label: Callable[[Mapping[str, Any]], int]
  paired: bool = False
  segments: bool = False

  def __call__(self, picks: Batch) -> Batch:
    records, epochs = picks['record'][self.rows], picks['epoch'][self.rows]
    wave = np.empty((len(records), self.samples), np.float32)
    clean = np.empty_like(wave) if self.paired else [None] * len(wave)
    known = [None] * len(wave)
    if self.segments:
      known = np.empty(wave.shape, np.uint8)
    valid = np.empty(len(records), np.int32)
    label = np.empty(len(records), np.int32)
    for row, pick in enumerate(zip(records, epochs, strict=True)):
      valid[row], label[row] = self._fill(
        wave[row], clean[row], known[row], *map(int, pick)
      )
    batch = {'wave': wave, 'label': label}
    if self.paired:
      batch['clean'] = clean
    if self.segments:
      batch['moments'] = segments_lib.labels(known)
    return batch if self.shortest is None else {**batch, 'samples': valid}

  def _fill(
    self,
    out: np.ndarray,
    clean: np.ndarray | None,
    known: np.ndarray | None,
    index: int,
    epoch: int,
  ) -> tuple[int, int]:
    record = self.source[index]
    source = self.source
    if isinstance(source, Mixture):
      source = source.sources[int(source.number_of(index))]
    wave = untouched = _wave(source, record)
    # Transforms and crops have generators of their own (the last number), so
    # that the same clip is cropped alike with and without augmentation.
    if self.transforms:
      rng = np.random.default_rng([self.seed, epoch, index, 1])
      for transform in self.transforms:
        wave = np.asarray(transform(wave, rng), np.float32)
    crop = functools.partial(
      np.random.default_rng, [self.seed, epoch, index, 0]
    )
    if clean is not None or known is not None:
      _check_pair(untouched, wave, _what(source, record))
    if clean is not None:
      _put(clean, untouched, self.shortest, crop())
    if known is not None:
      what = _what(source, record)
      each = segments_lib.of_samples(record, len(wave), what)
      _put(known, each, self.shortest, crop())
    return _put(out, wave, self.shortest, crop()), self.label(record)


@dataclasses.dataclass(frozen=True)
class _Numbered:
  """Makes a training batch of clips that are told by their numbers."""

  plan: tuple[np.ndarray, ...]
  batch: int
  records: int
  load: _TrainLoader

  def __call__(self, number: int) -> Batch:
    numbers = self.plan[number]
    numbers = numbers[np.minimum(np.arange(self.batch), len(numbers) - 1)]
    epochs, records = np.divmod(numbers, self.records)
    return self.load({'record': records, 'epoch': epochs})


@dataclasses.dataclass(frozen=True)
class _EvalLoader:
  """Makes an evaluation batch from its number."""

  source: Sequence[Mapping[str, Any]]
  plan: tuple[tuple[np.ndarray, int], ...]
  batch: int
  rows: slice
  shortest: int | None
  condition: Condition | None
  paired: bool = False

  def __call__(self, number: int) -> Batch:
    records, samples = self.plan[number]
    row = np.arange(self.batch)[self.rows]
    # Rows that are left over in the last batch repeat its last trial.
    index = records[np.minimum(row, len(records) - 1)].astype(np.int32)
    wave = np.empty((len(index), samples), np.float32)
    clean = np.empty_like(wave)
    valid = np.empty(len(index), np.int32)
    for i, number in enumerate(index):
      record = self.source[int(number)]
      clip = untouched = _wave(self.source, record)
      if self.condition is not None:
        utterance = text(record['utterance'])
        clip = self.condition(clip, utterance, int(record['label']))
      if self.paired:
        _check_pair(untouched, clip, _what(self.source, record))
        _put(clean[i], untouched, self.shortest)
      valid[i] = _put(wave[i], clip, self.shortest)
    batch = {'wave': wave, 'index': index, 'mask': row < len(records)}
    if self.paired:
      batch['clean'] = clean
    return batch if self.shortest is None else {**batch, 'samples': valid}


@dataclasses.dataclass(frozen=True)
class _TrainFeatures:
  """Makes a training batch of features that were computed before."""

  source: Sequence[Mapping[str, Any]]
  rows: slice
  padded: bool
  label: Callable[[Mapping[str, Any]], int]
  features: features_lib.Views

  def __call__(self, picks: Batch) -> Batch:
    records, epochs = picks['record'][self.rows], picks['epoch'][self.rows]
    labels = [self.label(self.source[int(record)]) for record in records]
    made, frames = self.features.batch(records, epochs)
    batch = {'features': made, 'label': np.array(labels, np.int32)}
    return {**batch, 'frames': frames} if self.padded else batch


@dataclasses.dataclass(frozen=True)
class _EvalFeatures:
  """Makes an evaluation batch of features that were computed before."""

  plan: tuple[tuple[np.ndarray, int], ...]
  batch: int
  rows: slice
  padded: bool
  features: features_lib.Store

  def __call__(self, number: int) -> Batch:
    records, _ = self.plan[number]
    row = np.arange(self.batch)[self.rows]
    place = np.minimum(row, len(records) - 1)
    before = sum(len(others) for others, _ in self.plan[:number])
    made, valid = self.features.batch(before + place)
    index = records[place].astype(np.int32)
    batch = {'features': made, 'index': index, 'mask': place == row}
    return {**batch, 'frames': valid} if self.padded else batch


def _check_pair(clean: np.ndarray, changed: np.ndarray, what: str) -> None:
  """Raises ValueError where two waves are not sample for sample the same."""
  if len(clean) != len(changed):
    raise ValueError(
      f'{what}: {len(clean):,} samples became {len(changed):,}; expected as '
      'many, where a clip is to be compared with the clean one, or has labels '
      'over time'
    )


def _put(out, wave, shortest: int | None, rng=None) -> int:
  """Fills `out`; returns how many of its samples are valid."""
  if shortest is not None:
    return audio.pad(out, wave, shortest, rng)
  audio.fill(out, wave, rng)
  return len(out)


def _wave(source, record: Mapping[str, Any]) -> np.ndarray:
  """Decodes a record: float32 [n] at 16 kHz."""
  # A FLAC's frame checksums and length are compared here too; its MD5, which
  # would cost a third more time, is for the builder that stores the file.
  return audio.load(record['audio'], _what(source, record), verify=False)


def _length(source, index: int) -> int:
  """About how many samples at 16 kHz a record has."""
  record = source[index]
  return audio.length(record['audio'], _what(source, record))


def _what(source, record: Mapping[str, Any]) -> str:
  return f'{name_of(source)}, utterance {text(record["utterance"])}'


class _Batches(grain.IterDataset):
  """Iterates over numbered batches, computed ahead of their use."""

  def __init__(self, batches: grain.MapDataset, workers: int):
    super().__init__()
    self._batches = batches
    self._workers = workers

  def __iter__(self) -> grain.DatasetIterator:
    return _BatchIterator(self._batches, self._workers)


class _BatchIterator(grain.DatasetIterator):
  """Iterates over batches; its state is just the number of the next batch.

  grain's own state also holds the position of each worker process, so that a
  run could only go on with the same number of workers.
  """

  def __init__(self, batches: grain.MapDataset, workers: int):
    super().__init__()
    self._batches = batches
    self._workers = workers
    self._next = 0
    self._ahead = []  # started by the first use: workers are slow to start

  def __next__(self) -> Batch:
    self._assert_not_closed()
    self.start_prefetch()
    batch = next(self._ahead[0])
    self._next += 1
    if self._workers:
      # Batches of workers lie in shared memory, and whoever holds one when the
      # program ends leaks it: what is handed out is a copy.
      batch = {name: np.array(values) for name, values in batch.items()}
    return batch

  def start_prefetch(self) -> None:
    """Starts to compute the next batches in the background."""
    if not self._ahead:
      remaining = self._batches.slice(slice(self._next, None))
      if self._workers:
        # Semaphores of workers that ended lie in circles of references. Python
        # 3.12 and newer warn if the collector meets one while another is made.
        gc.collect()
      self._ahead.append(iter(_ahead(remaining, self._workers)))
      self._ahead[0].start_prefetch()
      # Endless iterators are left, not ended: without this their workers'
      # next batches would stay in shared memory.
      weakref.finalize(self, _close, self._ahead, self._workers)

  def get_state(self) -> dict[str, int]:
    return {'next_batch': self._next}

  def set_state(self, state: dict[str, int]) -> None:
    self._stop()
    self._next = int(state['next_batch'])

  def close(self) -> None:
    """Ends worker processes and threads."""
    super().close()
    self._stop()

  def _stop(self) -> None:
    if self._ahead:
      _close(self._ahead, self._workers)


def _close(ahead: list[grain.DatasetIterator], workers: int) -> None:
  """Ends what computes ahead, if it was started."""
  while ahead:
    ahead.pop().close()
    if workers:
      # The last batch is in a circle of references of grain's: it must go
      # while there is somebody to give its shared memory back.
      gc.collect()


def _ahead(batches: grain.MapDataset, workers: int) -> grain.IterDataset:
  """Computes batches ahead in threads (decoding frees the GIL) or workers."""
  threads = 1 if workers else min(4, os.cpu_count() or 1)
  ds = batches.to_iter_dataset(
    grain.ReadOptions(num_threads=threads, prefetch_buffer_size=2 * threads)
  )
  if not workers:
    return ds
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # grain 0.2.18 reads a flag outside absl.app
  options = grain.MultiprocessingOptions(
    num_workers=workers, per_worker_buffer_size=2
  )
  return ds.mp_prefetch(options, worker_init_fn=_leave_interrupts)


def _leave_interrupts(worker: int, workers: int) -> None:
  """Makes a worker leave Ctrl-C to the program, which ends it.

  A terminal sends it to both. A worker that it ends prints where it was, and
  nobody gives the memory of its next batches back.
  """
  del worker, workers
  signal.signal(signal.SIGINT, signal.SIG_IGN)
