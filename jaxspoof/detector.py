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

from jaxspoof import audio, frontends, losses, models
from jaxspoof import config as config_lib
from jaxspoof.audio import signal_checks
from jaxspoof.runs import names, weights_file
from jaxspoof.runs import workdir as workdir_lib
from jaxspoof.training import state as state_lib
from jaxspoof.training import steps
from jaxspoof.weights import aasist as aasist_importer
from jaxspoof.weights import classifiers, frozen, ssl_detectors

# What the original scores of each clip: about four seconds.
ORIGINAL_SAMPLES = 64_600
# What is scored at most of a clip by models that take clips of any length: the
# attention of a minute takes 16 times the memory of that of 15 seconds.
LONGEST = 60 * audio.SAMPLE_RATE
BUCKET = 16_000  # samples; few lengths, few programs


@dataclasses.dataclass(frozen=True)
class Detection:
  """What a model says of one file.

  Attributes:
    path: the file, as it was named.
    logits: outputs of the model, one for each entry of `Detector.classes`:
      logits of (spoof, bona fide), or cosines if it was trained with a loss of
      cosines.
    score: higher means more like bona fide speech. For cross-entropy it is the
      logit of bona fide minus that of spoof; other losses define their own.
    scored: how many seconds of the file were scored.
    duration: length of the whole file in seconds.
    model: name of the model.
    warnings: reasons to doubt the score, as sentences; mostly there are none.
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
    sample_rate: sampling rate of the waves that it takes, in Hz.
    samples: how many samples of each wave are scored, from its start. A shorter
      wave is repeated, as in the evaluation at the end of training.
    batch: how many waves are scored at once.
    loss: the loss that the model was trained with; it defines the score.
    bucket: if the model takes clips of any length, a short wave is padded with
      zeros to a multiple of this many samples instead of repeated. None if it
      takes clips of one length.
    shortest: with `bucket`, waves shorter than this many samples are repeated
      to this length first, because the model needs as much.
    classes: name of the class that each output stands for, bona fide last.
    notes: sentences that a user of weights of others should read.
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
    notes: tuple[str, ...] = (),
  ):
    self.model = model
    self.sample_rate = audio.SAMPLE_RATE
    self.samples = samples
    self.batch = batch
    self.loss = loss
    self.bucket = bucket
    self.shortest = shortest
    self.classes = classes
    self.notes = notes
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
    bonafide_label: str | None = None,
  ) -> 'Detector':
    """Loads the best weights of a run, or released ones.

    Args:
      checkpoint: workdir of a run, a `.pth` of the original AASIST, or a
        directory of a sequence classifier of Hugging Face.
      model: name of the model that the checkpoint must be of, such as 'aasist';
        None accepts any.
      seconds: how much of each wave is scored; None takes as much as the
        evaluation of the run did, 64,600 samples for released weights.
      batch: how many waves are scored at once; None takes 16, but 1 on a CPU,
        where larger batches are no faster and the first results would wait.
      bonafide_label: which label of a classifier means bona fide speech, where
        its labels do not say so by their words.

    Raises:
      ValueError: there is no checkpoint, it is of another model, or the model
        needs more seconds.
    """
    name, module, options = open_checkpoint(
      checkpoint, model, seconds, bonafide_label
    )
    if batch is None:
      batch = 1 if jax.default_backend() == 'cpu' else 16
    return cls(name, *state_lib.split(module), batch=batch, **options)

  def logits(self, waves: Sequence[np.ndarray]) -> np.ndarray:
    """Computes the outputs of the model for waves.

    Args:
      waves: each float32 [n] at `sample_rate`, full scale 1.0, any n > 0.

    Returns:
      float32 [len(waves), K], in the order of `classes`: logits of spoof and
      bona fide, or cosines if the model was trained with a loss of cosines.
    """
    found = list(self._in_batches(self._logits, waves))
    return np.concatenate(found) if found else np.zeros((0, 2), np.float32)

  def embed(self, waves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Embeds waves, and scores them on the way.

    Args:
      waves: at least one, each as for `logits`.

    Returns:
      The embeddings, float32 [len(waves), D], which are the input of the last
      layer; and the outputs, as `logits` gives them.
    """
    embeddings, outputs = zip(
      *self._in_batches(self._embed, waves), strict=True
    )
    return np.concatenate(embeddings), np.concatenate(outputs)

  def score(self, waves: Sequence[np.ndarray]) -> np.ndarray:
    """Computes one score per wave, float32 [len(waves)].

    Higher means more like bona fide speech. The loss that the model was trained
    with defines the score, see `jaxspoof.losses`. Arguments are those of
    `logits`.
    """
    return np.asarray(self.loss.score(self.logits(waves)))

  def score_files(
    self, paths: Iterable[str | os.PathLike]
  ) -> Iterator[Detection | Failure]:
    """Scores files in their order; reads the next ones meanwhile.

    A file that cannot be read or scored becomes a `Failure` and does not stop
    the others. No more of a file is decoded than is scored.
    """
    paths = [os.fspath(path) for path in paths]
    chunks = [
      paths[start : start + self.batch]
      for start in range(0, len(paths), self.batch)
    ]
    # While the model scores one chunk, threads decode the next.
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
    """Puts waves into a batch of full size; missing rows are silence.

    Every shape is compiled anew, so there should be few of them.
    """
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
  bonafide_label: str | None = None,
) -> tuple[str, nnx.Module, dict[str, Any]]:
  """Reads the best weights of a run, or released ones.

  Args:
    checkpoint: workdir of a run, a `.pth` of the original AASIST, released
      weights of a detector on a self-supervised encoder, or a directory of a
      sequence classifier of Hugging Face.
    model: name of the model that the checkpoint must be of; None accepts any.
    seconds: how much of each wave is to be scored; None takes as much as the
      evaluation of the run did.
    bonafide_label: of a classifier, see `weights.classifiers.load`.

  Returns:
    The name of the model, the model with its weights, and keyword arguments for
    `Detector`: `samples` and `loss`, and for all but AASIST's files also
    `bucket`, `shortest` and `classes`, and for a classifier `notes`.

  Raises:
    ValueError: there is no checkpoint, it is of another model, or the model
      needs more seconds.
  """
  path = pathlib.Path(checkpoint)
  if model is not None:
    models.variant(model)  # an unknown name is an error of its own
  if classifiers.is_directory(path):
    name, module, options = _load_classifier(path, model, bonafide_label)
  elif bonafide_label is not None:
    raise ValueError(f'{path}: a bona fide label is for classifiers alone')
  elif path.is_dir() and not ssl_detectors.is_there(path):
    name, module, options = _load_run(path, model)
  elif path.is_dir():
    name, module, options = _load_release(path, model)
  elif path.is_file():
    name, module, options = _load_original(path, model)
  else:
    raise ValueError(
      f'{path}: no checkpoint there; expected the workdir of a run, a .pth'
      ' file of the original AASIST, or a directory of Hugging Face'
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
  """Reads the part of a file that is scored.

  Args:
    source: a path, or the encoded file itself.
    samples: how many samples are scored, at 16 kHz.
    name: what messages call the file; its path by default.
    verify: also compare a FLAC with the MD5 that it carries.

  Returns:
    The clip, or a sentence that says why the file cannot be scored.
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
  if ssl_detectors.is_there(path):
    return _load_release(path, model)
  module = aasist_importer.load(path, model)
  names = {known.config: name for name, known in models.VARIANTS.items()}
  options = {'samples': ORIGINAL_SAMPLES, 'loss': losses.CrossEntropy()}
  return names[module.config], module, options


def _load_release(
  path: pathlib.Path, model: str | None
) -> tuple[str, nnx.Module, dict]:
  """The same of a released detector on a self-supervised encoder."""
  module = ssl_detectors.load(path)
  name = next(n for n, (_, k) in models.MODELS.items() if k is type(module))
  if model not in (None, name):
    raise ValueError(
      f'{path}: checkpoint of another model: of {name!r}, not of {model!r}'
    )
  options = {
    'samples': ORIGINAL_SAMPLES,
    'loss': losses.CrossEntropy(),
    'notes': ssl_detectors.notes(path),
  }
  return name, module, options


def _load_classifier(
  path: pathlib.Path, model: str | None, bonafide_label: str | None
) -> tuple[str, nnx.Module, dict]:
  """Name and module of a classifier's directory, and options of `Detector`."""
  if model not in (None, 'mean'):
    raise ValueError(
      f"{path}: checkpoint of another model: a classifier ('mean'), not of"
      f' {model!r}'
    )
  found = classifiers.load(path, bonafide_label)
  options = {
    'samples': LONGEST,
    'bucket': BUCKET,
    'shortest': found.module.min_samples,
    'loss': losses.CrossEntropy(),
    'classes': found.classes,
    'notes': found.notes,
  }
  return 'mean', found.module, options


def _load_run(
  path: pathlib.Path, model: str | None
) -> tuple[str, nnx.Module, dict]:
  """Name and module of a run's best weights, and options of `Detector`."""
  config, params, batch_stats = weights_file.load(path)
  params = frozen.completed(path, config, params)
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
  # Abstract: the shapes are known without drawing a single weight.
  graphdef, *expected = state_lib.split(system.abstract())
  _check_weights(path, expected, [params, batch_stats])
  module = state_lib.merge(graphdef, params, batch_stats)
  if isinstance(system.frontend, frontends.StatesConfig):
    module.frontend.merge()
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
  """Raises ValueError unless all weights have the expected shapes."""
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
