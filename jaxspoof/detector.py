"""A trained countermeasure as one object: audio in, scores out.

Needs neither a corpus nor the training job: no TFDS, no grain. A checkpoint is
the workdir of a run of `run.py` or a `.pth` file of the original AASIST.
"""

import dataclasses
import itertools
import operator
import os
import pathlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from typing import Any

import jax
import numpy as np
from flax import nnx

from jaxspoof import audio, losses, models
from jaxspoof import config as config_lib
from jaxspoof.audio import signal_checks
from jaxspoof.runs import names, weights_file
from jaxspoof.runs import workdir as workdir_lib
from jaxspoof.training import state as state_lib
from jaxspoof.training import steps
from jaxspoof.weights import aasist as aasist_importer

# What the original scores of each clip: about four seconds.
ORIGINAL_SAMPLES = 64_600


@dataclasses.dataclass(frozen=True)
class Detection:
  """What a model says of one file.

  Attributes:
    path: the file, as it was named.
    logits: what the loss takes: for (spoof, bona fide) logits, or cosines
      where it is a loss of cosines.
    score: higher = bona fide; of logits their difference, else see the loss.
    scored: seconds of the file that the score is of.
    duration: seconds of the whole file.
    model: name of the model.
    warnings: why the score may mean little; mostly there are none.
  """

  path: str
  logits: tuple[float, ...]
  score: float
  scored: float
  duration: float
  model: str
  warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Failure:
  """A file that could not be scored, and why."""

  path: str
  error: str


class Detector:
  """Scores speech with one trained model.

  Attributes:
    model: name of the model.
    sample_rate: Hz of the waves it takes.
    samples: samples that are scored of each wave: the first ones, repeated
      where there are fewer, as in the evaluation of training.
    batch: waves scored at once.
    loss: that the model was trained with: it says what a score is.
    bucket: for models of clips of any length: short waves are not repeated,
      but padded to a multiple of so many samples; None for the others.
    shortest: for these, shorter waves are repeated to as many samples.
    classes: what the outputs stand for, bona fide last.
  """

  def __init__(
    self,
    model: str,
    graphdef,
    params,
    batch_stats,
    *,
    samples: int,
    batch: int,
    loss: losses.Loss,
    bucket: int | None = None,
    shortest: int = 1,
    classes: tuple[str, ...] = workdir_lib.DETECTION,
  ):
    self.model = model
    self.sample_rate = audio.SAMPLE_RATE
    self.samples = samples
    self.batch = batch
    self.loss = loss
    self.bucket = bucket
    self.shortest = shortest
    self.classes = classes
    self._weights = jax.device_put((params, batch_stats))

    def logits(params, batch_stats, batch):
      module = state_lib.merge(graphdef, params, batch_stats)
      return state_lib.eval_view(module)(**steps.inputs(batch))

    def embed(params, batch_stats, batch):
      module = state_lib.eval_view(
        state_lib.merge(graphdef, params, batch_stats)
      )
      answer = module.answer(**steps.inputs(batch))
      return answer.embedding, answer.outputs

    self._logits = jax.jit(logits)
    self._embed = jax.jit(embed)

  @classmethod
  def load(
    cls,
    checkpoint: str | os.PathLike,
    model: str | None = None,
    *,
    seconds: float | None = None,
    batch: int | None = None,
  ) -> 'Detector':
    """Loads the best weights of a run, or released ones.

    Args:
      checkpoint: workdir of a run, or a `.pth` of the original AASIST.
      model: name the checkpoint must have; None takes what it is.
      seconds: how much of each wave is scored; None takes what the evaluation
        of the run took, 64,600 samples for released weights.
      batch: waves scored at once; None takes 1 on a CPU, where more are no
        faster and few files would wait for a batch to be filled up, else 16.

    Raises:
      ValueError: No checkpoint there, one of another model, or too few
        seconds for it.
    """
    name, module, options = open_checkpoint(checkpoint, model, seconds)
    if batch is None:
      batch = 1 if jax.default_backend() == 'cpu' else 16
    return cls(name, *state_lib.split(module), batch=batch, **options)

  def logits(self, waves: Sequence[np.ndarray]) -> np.ndarray:
    """Scores waves.

    Args:
      waves: each float32 [n] at `sample_rate`, full scale 1.0, any n > 0.

    Returns:
      float32 [len(waves), K]: for cross-entropy logits of spoof and of bona
      fide, else what the loss takes.
    """
    found = list(self._in_batches(self._logits, waves))
    return np.concatenate(found) if found else np.zeros((0, 2), np.float32)

  def embed(self, waves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Embeds waves, and scores them on the way.

    Args:
      waves: at least one, each as for `logits`.

    Returns:
      (embeddings float32 [len(waves), D], what comes before the last layer;
      `logits` of the same waves).
    """
    embeddings, outputs = zip(
      *self._in_batches(self._embed, waves), strict=True
    )
    return np.concatenate(embeddings), np.concatenate(outputs)

  def score(self, waves: Sequence[np.ndarray]) -> np.ndarray:
    """As `logits`, but one score a wave: float32 [len(waves)].

    Higher = bona fide; the loss defines it, see `jaxspoof.losses`.
    """
    return np.asarray(self.loss.score(self.logits(waves)))

  def score_files(
    self, paths: Iterable[str | os.PathLike]
  ) -> Iterator[Detection | Failure]:
    """Scores files in their order; reads the next ones meanwhile.

    A file that cannot be read or scored becomes a `Failure` and does not
    stop the others. Of each no more is decoded than is scored.
    """
    paths = [os.fspath(path) for path in paths]
    chunks = [
      paths[start : start + self.batch]
      for start in range(0, len(paths), self.batch)
    ]
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      ahead = []
      for chunk, following in itertools.pairwise([[], *chunks, []]):
        clips = [future.result() for future in ahead]
        ahead = [pool.submit(read, path, self.samples) for path in following]
        yield from self._detect(chunk, clips)

  def _detect(
    self, paths: Sequence[str], clips: Sequence[audio.Clip | str]
  ) -> Iterator[Detection | Failure]:
    logits = self.logits([c.wave for c in clips if not isinstance(c, str)])
    found = iter(zip(logits, np.asarray(self.loss.score(logits)), strict=True))
    for path, clip in zip(paths, clips, strict=True):
      if isinstance(clip, str):
        yield Failure(path, clip)
        continue
      outputs, score = next(found)
      if not np.isfinite(score):
        yield Failure(path, f'{path}: its score is not a finite number')
        continue
      yield Detection(
        path,
        tuple(map(float, outputs)),
        float(score),
        len(clip.wave) / self.sample_rate,
        clip.seconds,
        self.model,
        clip.warnings,
      )

  def _in_batches(self, function, waves: Sequence[np.ndarray]) -> Iterator:
    """Calls a jitted function of weights and waves; yields what it returns."""
    for wave in waves:
      if np.ndim(wave) != 1 or not len(wave):
        raise ValueError(
          f'a wave of shape {np.shape(wave)}: expected one channel, [samples]'
        )
    for start in range(0, len(waves), self.batch):
      part = waves[start : start + self.batch]
      found = jax.device_get(function(*self._weights, self._batch(part)))
      first = slice(len(part))
      yield jax.tree.map(operator.itemgetter(first), found)

  def _batch(self, waves: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The batch is filled up with silence: few sizes, few programs."""
    samples = self.samples
    if self.bucket is not None:
      longest = max(map(len, waves))
      samples = min(-(-longest // self.bucket) * self.bucket, samples)
    batch = {'wave': np.zeros((self.batch, samples), np.float32)}
    if self.bucket is None:
      for row, wave in zip(batch['wave'], waves, strict=False):
        audio.fill(row, wave)
      return batch
    batch['samples'] = np.full(self.batch, samples, np.int32)
    for i, wave in enumerate(waves):
      batch['samples'][i] = audio.pad(batch['wave'][i], wave, self.shortest)
    return batch


def open_checkpoint(
  checkpoint: str | os.PathLike,
  model: str | None = None,
  seconds: float | None = None,
) -> tuple[str, nnx.Module, dict[str, Any]]:
  """Reads the best weights of a run, or released ones.

  Args:
    checkpoint: as for `Detector.load`.
    model: as for `Detector.load`.
    seconds: as for `Detector.load`.

  Returns:
    Name of the model, the model with its weights, and how it is used: of the
    attributes of `Detector` `samples` and `loss`, of a run also `bucket`,
    `shortest` and `classes`.

  Raises:
    ValueError: as for `Detector.load`.
  """
  path = pathlib.Path(checkpoint)
  if model is not None:
    models.variant(model)  # an unknown name is an error of its own
  if path.is_dir():
    name, module, options = _load_run(path, model)
  elif path.is_file():
    name, module, options = _load_original(path, model)
  else:
    raise ValueError(
      f'{path}: no checkpoint there; expected the workdir of a run, or a'
      ' .pth file of the original AASIST'
    )
  if seconds is not None:
    options['samples'] = _samples(seconds, module.min_samples, name)
  return name, module, options


def _samples(seconds: float, least: int, model: str) -> int:
  samples = round(seconds * audio.SAMPLE_RATE)
  if samples < least:
    raise ValueError(
      f'{seconds:g} seconds are too few for {model}: it needs'
      f' {least / audio.SAMPLE_RATE:.2f}'
    )
  return samples


def read(
  source: str | bytes,
  samples: int,
  name: str | None = None,
  verify: bool = True,
) -> audio.Clip | str:
  """What is scored of a file, or what is wrong with it.

  Args:
    source: a path, or the encoded file itself.
    samples: how many are scored.
    name: what messages call it; the path by default.
    verify: see `audio.decode`.
  """
  name = name or str(source)
  try:
    return signal_checks.read(source, name, samples=samples, verify=verify)
  except audio.AudioError as error:
    return str(error)
  # One file among thousands must not take the results of the others along.
  except Exception as error:
    return f'{name}: cannot be read ({type(error).__name__}: {error})'


def _load_original(
  path: pathlib.Path, model: str | None
) -> tuple[str, nnx.Module, dict]:
  """Name and module of a released `.pth` file, and options of `Detector`."""
  module = aasist_importer.load(path, model)
  names = {known.config: name for name, known in models.VARIANTS.items()}
  options = {'samples': ORIGINAL_SAMPLES, 'loss': losses.CrossEntropy()}
  return names[module.config], module, options


def _load_run(
  path: pathlib.Path, model: str | None
) -> tuple[str, nnx.Module, dict]:
  """The same of the best checkpoint of a run."""
  config, params, batch_stats = weights_file.load(path)
  if not {'model', 'data', 'loss'} <= config.keys():
    raise ValueError(
      f'{path / names.CONFIG}: expected the config of a training run, with '
      f'model, data and loss; found {", ".join(config) or "nothing"}'
    )
  name, data = config['model']['name'], config['data']
  if model not in (None, name):
    raise ValueError(
      f'{path}: checkpoint of another model: a run of {name!r}, not of'
      f' {model!r}'
    )
  classes = workdir_lib.load_classes(path)
  loss = losses.make(
    config_lib.section(losses.LossConfig, config['loss'], 'config.loss'),
    len(classes),
  )
  system = models.system(
    config['model'],
    config.get('frontend', ''),
    head=loss.head,
    classes=len(classes),
  )
  graphdef, *expected = state_lib.split(system.abstract())
  _check_weights(path, expected, [params, batch_stats])
  module = state_lib.merge(graphdef, params, batch_stats)
  bucket = data['bucket'] if data['padded'] else None
  options = {
    'samples': data['eval_samples'],
    'bucket': bucket,
    'shortest': system.min_samples,
    'loss': loss,
    'classes': classes,
  }
  return name, module, options


def _check_weights(path: pathlib.Path, expected: Any, found: Any) -> None:
  """Compares names and shapes of two trees of weights."""
  expected, found = (
    {
      jax.tree_util.keystr(keys[1:]): leaf.shape
      for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }
    for tree in (expected, found)
  )
  differing = [
    f'{name} is {found.get(name, "missing")}, expected'
    f' {expected.get(name, "no such weight")}'
    for name in sorted({*expected, *found})
    if expected.get(name) != found.get(name)
  ]
  if differing:
    raise ValueError(
      f'{path}: its weights do not fit the model of its config.json in'
      f' {len(differing)} places: {"; ".join(differing[:3])}'
    )
