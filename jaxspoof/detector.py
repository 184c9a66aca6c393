"""A trained countermeasure as one object: audio in, scores and verdicts out.

Needs neither a corpus nor the training job: no TFDS, no grain, no Orbax, no
ml_collections. A checkpoint is a bundle, see `jaxspoof.bundles`, the workdir of
a run of `run.py`, a `.pth` file of the original AASIST, or a directory of a
sequence classifier of Hugging Face.
"""

import dataclasses
import functools
import hashlib
import itertools
import math
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures
from typing import Any

import jax
import numpy as np

from jaxspoof import audio, explanations, frontends, losses, timelines
from jaxspoof.audio import measures, signal_checks, streams
from jaxspoof.bundles import verdict as verdict_lib
from jaxspoof.checkpoints import Known, open_checkpoint, shipped
from jaxspoof.metrics import calibration as calibration_lib
from jaxspoof.runs import workdir as workdir_lib
from jaxspoof.system import Attention
from jaxspoof.training import state as state_lib
from jaxspoof.training import steps


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
    verdict: 'bona fide', 'spoof' or 'uncertain'.
    p_spoof: probability of a spoof at the prior; None if not calibrated.
    llr: log-likelihood ratio of bona fide over spoof, in nats; None if not
      calibrated.
    prior: probability of a spoof before anything was heard; None if not
      calibrated.
    reasons: why the verdict is 'uncertain', as sentences.
  """

  path: str
  logits: tuple[float, ...]
  score: float
  scored: float
  duration: float
  model: str
  warnings: tuple[str, ...] = ()
  verdict: str = verdict_lib.UNCERTAIN
  p_spoof: float | None = None
  llr: float | None = None
  prior: float | None = None
  reasons: tuple[str, ...] = (verdict_lib.NOT_CALIBRATED,)


@dataclasses.dataclass(frozen=True)
class Explanation:
  """Which times and bands carried the score of a recording.

  Attributes:
    detection: what the detector says of it.
    start: where in the recording the part begins that was scored, in seconds.
    wave: that part, float32 [samples] at `audio.SAMPLE_RATE`.
    attribution: of tiles of time and frequency, in nats of the log-likelihood
      ratio, or in units of the score if the detector is not calibrated.
    regions: what carried most, strongest first.
    deletion: whether that is true of this recording: what silencing does.
    kept: which nodes of time and frequency AASIST's graphs keep of it, without
      the axis of clips; None of other systems. Where the wave is repeated, of
      the first time.
  """

  detection: Detection
  start: float
  wave: np.ndarray
  attribution: explanations.Attribution
  regions: tuple[explanations.Region, ...]
  deletion: explanations.Deletion
  kept: Attention | None = None


@dataclasses.dataclass(frozen=True)
class Failure:
  """A file that could not be scored, and why."""

  path: str
  error: str


# What can be scored: a path, an encoded file, samples [n] or [n, channels], or
# what was read of a file elsewhere, such as in another process.
Source = str | os.PathLike | bytes | np.ndarray | audio.Clip


# Longest window, in samples: models that take clips of any length would else
# be given a minute, and say nothing of where in it.
_WINDOW = 10 * audio.SAMPLE_RATE
# A recording, whatever its rate is.
_WHOLE = str | os.PathLike | bytes | audio.Clip


class Detector:
  """Scores speech with one trained model.

  Its methods may be called from several threads at once.

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
    known: what a bundle says of calibration and training domain; None where the
      checkpoint is none.
    rule: how verdicts are made of log-likelihood ratios.
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
    known: Known | None = None,
    rule: verdict_lib.Rule = verdict_lib.Rule(),  # noqa: B008 (frozen)
  ):
    self.model = model
    self.known, self.rule = known, rule
    self.sample_rate = audio.SAMPLE_RATE
    self.samples = samples
    self.batch = batch
    self.loss = loss
    self.bucket = bucket
    self.shortest = shortest
    self.classes = classes
    self.notes = notes
    self._weights = jax.device_put((params, batch_stats))

    # One program, whoever asks for what.
    self._answer = _answer_of(graphdef)

    def answer_moments(params, batch_stats, batch):
      module = state_lib.merge(graphdef, params, batch_stats)
      found = state_lib.eval_view(module).answer_moments(**steps.inputs(batch))
      return found.embedding, found.moments, found.count

    self._moments = jax.jit(answer_moments)

    def attention(params, batch_stats, batch):
      module = state_lib.merge(graphdef, params, batch_stats)
      return state_lib.eval_view(module).attention(**steps.inputs(batch))

    self._attention = jax.jit(attention)

    def score(wave, rest, weights):
      _, outputs = self._answer(*weights, {'wave': wave, **rest})
      scores = loss.score(outputs)
      return scores.sum(), scores

    self._gradient = jax.jit(jax.grad(score, has_aux=True))

  @classmethod
  def load(
    cls,
    checkpoint: str | os.PathLike | None = None,
    model: str | None = None,
    *,
    seconds: float | None = None,
    batch: int | None = None,
    bonafide_label: str | None = None,
    prior: float | None = None,
    target_far: float | None = None,
  ) -> 'Detector':
    """Loads a bundle, the best weights of a run, or released ones.

    Args:
      checkpoint: a bundle (a folder or one file), the workdir of a run, a
        `.pth` of the original AASIST, or a directory of a sequence classifier
        of Hugging Face. None takes the bundle that comes with the package.
      model: name of the model that the checkpoint must be of, such as 'aasist';
        None accepts any.
      seconds: how much of each wave is scored; None takes as much as the
        evaluation of the run did, 64,600 samples for released weights.
      batch: how many waves are scored at once; None takes 16, but 1 on a CPU,
        where larger batches are no faster and the first results would wait.
      bonafide_label: which label of a classifier, or number of an output of it
        or of a released detector, means bona fide speech, where labels do not
        say so by their words or are wrong.
      prior: probability of a spoof before anything was heard, in (0, 1); None
        takes 0.5. See `bundles.verdict.Rule`.
      target_far: speech is bona fide from the lowest threshold on at which at
        most this share of the spoofs, of those that the calibration was fitted
        on, passed. None decides by the probability alone.

    Raises:
      ValueError: there is no checkpoint, it is damaged or of another model, the
        model needs more seconds, or it is not calibrated and a prior or a rate
        is asked for.
    """
    checkpoint = shipped() if checkpoint is None else checkpoint
    name, module, options = open_checkpoint(
      checkpoint, model, seconds, bonafide_label
    )
    on_cpu = jax.default_backend() == 'cpu'
    if on_cpu:
      frontends.unstack(module)
    if batch is None:
      batch = 1 if on_cpu else 16
    rule = _rule(options.get('known'), checkpoint, prior, target_far)
    return cls(
      name, *state_lib.split(module), batch=batch, rule=rule, **options
    )

  @property
  def calibrated(self) -> bool:
    """Whether there are log-likelihood ratios, and so verdicts."""
    return self.known is not None and self.known.calibration is not None

  @property
  def localises(self) -> bool:
    """Whether there are log-likelihood ratios of each 20 ms."""
    return self.known is not None and self.known.moments is not None

  def identity(self, **settings) -> str:
    """What results depend on, in 12 characters: weights, rule, and settings."""
    if self.known is not None:
      weights = self.known.card.weights.sha256
    else:
      weights = state_lib.tree_hash(self._weights)
    parts = (weights, self.rule, self.samples, sorted(settings.items()))
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]

  def program(self, **batch: jax.Array) -> tuple[jax.Array, jax.Array]:
    """What the model computes, as a pure function: for `jax.export`.

    Args:
      **batch: `wave`, float32 [B, samples]; and, if `bucket` is not None,
        `samples`, int32 [B], how many of each are no padding.

    Returns:
      Embeddings [B, D], and outputs [B, K] in the order of `classes`.
    """
    return self._answer(*self._weights, batch)

  def logits(self, waves: Sequence[np.ndarray]) -> np.ndarray:
    """Computes the outputs of the model for waves.

    Args:
      waves: each float32 [n] at `sample_rate`, full scale 1.0, any n > 0.

    Returns:
      float32 [len(waves), K], in the order of `classes`: logits of spoof and
      bona fide, or cosines if the model was trained with a loss of cosines.
    """
    found = [outputs for _, outputs in self._in_batches(waves)]
    return np.concatenate(found) if found else np.zeros((0, 2), np.float32)

  def embed(self, waves: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Embeds waves, and scores them on the way.

    Args:
      waves: at least one, each as for `logits`.

    Returns:
      The embeddings, float32 [len(waves), D], which are the input of the last
      layer; and the outputs, as `logits` gives them.
    """
    embeddings, outputs = zip(*self._in_batches(waves), strict=True)
    return np.concatenate(embeddings), np.concatenate(outputs)

  def score(
    self,
    source: Source | Sequence[np.ndarray],
    sample_rate: int | None = None,
    *,
    channel: int | None = None,
  ) -> Detection | np.ndarray:
    """Scores one recording, or the scores of waves alone.

    Args:
      source: a path; an encoded file; samples [n] or [n, channels], floating
        point at full scale 1.0 or integers at the full scale of their type; or
        a `Clip` that `signal_checks.read` gave. A list of waves, each as for
        `logits`, gives one number for each instead.
      sample_rate: of samples, in Hz; needed with them.
      channel: which channel is scored, the first being 1; None mixes them down
        as `audio.read` does.

    Returns:
      The `Detection` of a recording. Of a list of waves, float32 [len(source)]:
      higher means more like bona fide speech, as the loss that the model was
      trained with defines it, see `jaxspoof.losses`.

    Raises:
      audio.AudioError (a ValueError): it cannot be read, or holds no sound.
      ValueError: samples of a wrong shape, or without their rate.
    """
    if isinstance(source, _WHOLE) or sample_rate is not None:
      (found,) = self.score_many([source], sample_rate, channel=channel)
      if isinstance(found, Failure):
        raise audio.AudioError(found.error)
      return found
    if isinstance(source, np.ndarray) and source.ndim == 1:
      raise ValueError('samples without their rate: give sample_rate in Hz')
    return np.asarray(self.loss.score(self.logits(source)))

  def score_many(
    self,
    sources: Iterable[Source],
    sample_rate: int | None = None,
    *,
    channel: int | None = None,
    names: Iterable[str] | None = None,
  ) -> Iterator[Detection | Failure]:
    """Scores recordings in their order; reads the next ones meanwhile.

    Args:
      sources: paths or samples, as for `score`; also one after another as they
        come.
      sample_rate: of samples, in Hz.
      channel: see `score`.
      names: what each is called in results; by default a path is called as it
        is, and others by their number.

    Yields:
      For each a `Detection`, or a `Failure` for one that cannot be read or
      scored; it does not stop the others. No more of a file is decoded than is
      scored.
    """

    def read_one(name: str, source: Source) -> audio.Clip | str:
      return read(source, self.samples, name, rate=sample_rate, channel=channel)

    if names is None:
      named = (
        (
          os.fspath(s) if isinstance(s, str | os.PathLike) else f'samples {i}',
          s,
        )
        for i, s in enumerate(sources)
      )
    else:
      named = zip(names, sources, strict=True)
    # While the model scores one chunk, threads measure it and decode the next.
    with futures.ThreadPoolExecutor(os.cpu_count()) as pool:
      ahead, paths = [], []
      while True:
        following = list(itertools.islice(named, self.batch))
        clips = [future.result() for future in ahead]
        clips = [(clip, self._measured(clip, pool)) for clip in clips]
        ahead = [pool.submit(read_one, *one) for one in following]
        yield from self._detect(paths, clips)
        paths = [name for name, _ in following]
        if not following:
          return

  def timeline(
    self,
    source: Source,
    sample_rate: int | None = None,
    *,
    hop: float | None = None,
    channel: int | None = None,
    name: str | None = None,
    watch: Callable[[np.ndarray], None] = lambda block: None,
  ) -> timelines.Timeline:
    """Says over time what a recording is; of any length, in constant memory.

    Args:
      source: a path, an encoded file or samples, as for `score`.
      sample_rate: of samples, in Hz.
      hop: seconds from one window to the next; None takes half a window, which
        is as long as what `score` scores. A detector that localises has windows
        of 20 ms, and no other hop.
      channel: see `score`.
      name: what it is called; the path by default.
      watch: is given each block of the recording, float32 [n] at
        `audio.SAMPLE_RATE`, before it is scored.

    Raises:
      audio.AudioError (a ValueError): it cannot be read, or holds no sound.
      ValueError: the detector is not calibrated, or the hop cannot be.
    """
    if name is None:
      whole = isinstance(source, str | os.PathLike)
      name = os.fspath(source) if whole else 'samples'
    warnings: list[str] = []
    source = _as_numpy(source)

    def blocks():
      found = streams.blocks(
        source, name, rate=sample_rate, channel=channel, heard=warnings.append
      )
      for block in found:
        watch(block)
        yield block

    windows = list(self.windows(blocks(), hop=hop, batch=self.batch))
    if not windows:
      raise audio.AudioError(f'{name}: holds no samples')
    shortest = signal_checks.SHORTEST
    if windows[-1].end < shortest:
      raise audio.AudioError(
        f'{name}: too short to judge ({1000 * windows[-1].end:.4g} ms, expected'
        f' at least {1000 * shortest:.0f})'
      )
    try:
      divide = timelines.segments_of_moments if self.localises else None
      return timelines.collect(name, windows, self.rule, warnings, divide)
    except ValueError as error:
      raise audio.AudioError(str(error)) from error

  def explain(
    self,
    source: Source,
    sample_rate: int | None = None,
    *,
    channel: int | None = None,
    name: str | None = None,
  ) -> 'Explanation':
    """Says which times and bands carried the score; see `explanations`.

    It is of the part of the recording that `score` scores, and takes some
    dozen times as long.

    Args:
      source: see `score`; one recording.
      sample_rate: of samples, in Hz.
      channel: see `score`.
      name: what it is called; the path by default.

    Raises:
      audio.AudioError (a ValueError): it cannot be read, or holds no sound.
    """
    if name is None:
      whole = isinstance(source, str | os.PathLike)
      name = os.fspath(source) if whole else 'samples'
    clip = read(source, self.samples, name, rate=sample_rate, channel=channel)
    if isinstance(clip, str):
      raise audio.AudioError(clip)
    found = self.score(clip)
    found = dataclasses.replace(found, path=name)
    slope, intercept = 1.0, 0.0
    if self.calibrated:
      slope, intercept = dataclasses.astuple(self.known.calibration)

    def scores(waves):
      return slope * self.score(waves) + intercept

    def gradients(waves):
      return (slope * gradient for _, gradient in self._gradients(waves))

    given = explanations.attribute(clip.wave, gradients, scores)
    regions = explanations.regions(given.tiles_TxF, clip.start)
    return Explanation(
      found,
      clip.start,
      clip.wave,
      given,
      explanations.measured(clip.wave, given, regions, scores, clip.start),
      explanations.deletion(clip.wave, given, scores),
      self._kept(clip.wave),
    )

  def _kept(self, wave: np.ndarray) -> Attention | None:
    """What the graphs of AASIST keep of a wave."""
    found = self._attention(*self._weights, self._batch([wave]))
    if found is None:
      return None
    times, bands, samples, edges = jax.device_get(found)
    first = -(-len(wave) // int(samples))
    return Attention(times[0, :first], bands[0], samples, edges)

  def _gradients(self, waves: Sequence[np.ndarray]) -> Iterator:
    """Scores of waves, and their gradients by the samples."""
    for first in range(0, len(waves), self.batch):
      part = waves[first : first + self.batch]
      rest = self._batch(part)
      padded = rest.pop('wave')
      # Where the samples of each row came from: a short wave is repeated.
      count = np.arange(1, len(part[0]) + 1, dtype=np.float32)
      origin = self._batch([count])['wave'][0].astype(int)
      gradients, scores = jax.device_get(
        self._gradient(padded, rest, self._weights)
      )
      for score, gradient in zip(scores, gradients[: len(part)], strict=False):
        summed = np.bincount(origin, gradient, len(count) + 1)
        yield float(score), summed[1:].astype(np.float32)

  def windows(
    self,
    blocks: Iterable[np.ndarray],
    *,
    hop: float | None = None,
    batch: int = 1,
  ) -> Iterator[timelines.Window]:
    """Scores a stream window by window, as soon as each is there.

    Args:
      blocks: float32 [n] each, at `audio.SAMPLE_RATE`, one after the other.
      hop: see `timeline`.
      batch: how many windows are scored at once.

    Raises:
      ValueError: the detector is not calibrated, or the hop cannot be.
    """
    if not self.calibrated:
      raise ValueError(
        'windows are judged by their log-likelihood ratios, and the detector '
        'is not calibrated; see python -m jaxspoof.bundle calibrate'
      )
    samples = min(self.samples, _WINDOW)
    if self.localises:
      if hop not in (None, audio.MOMENT / self.sample_rate):
        raise ValueError(
          f'hop={hop}: this detector says of each 20 ms what it is; leave the '
          'hop out'
        )
      return timelines.follow_moments(
        blocks,
        self._judge_moments,
        self.rule,
        samples=samples,
        rate=self.sample_rate,
        batch=batch,
      )
    step = samples // 2
    if hop is not None:
      step = round(hop * self.sample_rate) if math.isfinite(hop) else 0
    if not 1 <= step <= samples:
      raise ValueError(
        f'hop={hop}: expected more than 0 and at most '
        f'{samples / self.sample_rate:g} seconds, the length of a window'
      )
    return timelines.follow(
      blocks,
      self._judge_waves,
      self.rule,
      samples=samples,
      hop=step,
      rate=self.sample_rate,
      batch=batch,
    )

  def parts(self, blocks: Iterable[np.ndarray]) -> Iterator[timelines.Window]:
    """Judges a stream in lines for a person, as soon as each is there.

    Windows, as from `windows`; of a detector that localises the segments of
    the moments that come at once, since there are 50 of those in a second.

    Args:
      blocks: see `windows`.

    Raises:
      ValueError: the detector is not calibrated.
    """
    windows = self.windows(blocks)
    if not self.localises:
      return windows
    return timelines.parts(windows, self.rule, min(self.samples, _WINDOW))

  def _judge_waves(self, waves: Sequence[np.ndarray]):
    """LLRs and doubts of waves; see `timelines.Judge`."""
    if not waves:
      return []
    embeddings, outputs = self.embed(waves)
    llrs = self.known.calibration(np.asarray(self.loss.score(outputs)))
    domain = self.known.domain
    return [
      (
        float(llr),
        domain.doubts(measures.measure(wave), embedding) if domain else (),
      )
      for llr, wave, embedding in zip(llrs, waves, embeddings, strict=True)
    ]

  def _judge_moments(self, waves: Sequence[np.ndarray]):
    """LLRs of moments and doubts of waves; see `timelines.MomentJudge`."""
    domain, judged = self.known.domain, []
    for first in range(0, len(waves), self.batch):
      part = waves[first : first + self.batch]
      found = jax.device_get(self._moments(*self._weights, self._batch(part)))
      for wave, embedding, outputs, count in zip(part, *found, strict=False):
        scores = np.asarray(self.loss.score(outputs))[:count]
        doubts = ()
        if domain:
          doubts = domain.doubts(measures.measure(wave), embedding)
        judged.append((self.known.moments(scores), doubts))
    return judged

  def score_files(
    self, paths: Iterable[str | os.PathLike]
  ) -> Iterator[Detection | Failure]:
    """Scores files in their order, as `score_many` does."""
    return self.score_many(paths)

  def _measured(
    self, clip: audio.Clip | str, pool: futures.Executor
  ) -> futures.Future | None:
    """What will be measured of a clip; None if nothing is needed of it."""
    if isinstance(clip, str) or self.known is None or not self.known.domain:
      return None
    return pool.submit(measures.measure, clip.wave)

  def _detect(
    self, paths: Sequence[str], clips: Sequence[tuple]
  ) -> Iterator[Detection | Failure]:
    waves = [clip.wave for clip, _ in clips if not isinstance(clip, str)]
    found = iter(())
    if waves:
      embedding, outputs = self.embed(waves)
      scores = np.asarray(self.loss.score(outputs))
      found = zip(embedding, outputs, scores, strict=True)
    for path, (clip, measured) in zip(paths, clips, strict=True):
      if isinstance(clip, str):
        yield Failure(path, clip)
        continue
      embedding, outputs, score = next(found)
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
        **self._judge(float(score), measured and measured.result(), embedding),
      )

  def _judge(self, score: float, measured, embedding) -> dict[str, Any]:
    """The fields of a `Detection` from the verdict on."""
    reasons: tuple[str, ...] = ()
    if measured is not None:
      reasons = self.known.domain.doubts(measured, embedding)
    if not self.calibrated:
      return {'reasons': (verdict_lib.NOT_CALIBRATED, *reasons)}
    llr = float(self.known.calibration(score))
    decided, why = self.rule.decide(llr)
    reasons += () if why is None else (why,)
    return {
      'verdict': verdict_lib.UNCERTAIN if reasons else decided,
      'p_spoof': self.rule.p_spoof(llr),
      'llr': llr,
      'prior': self.rule.prior,
      'reasons': reasons,
    }

  def _in_batches(self, waves: Sequence[np.ndarray]) -> Iterator:
    """Yields embeddings and outputs of waves, batch by batch."""
    for wave in waves:
      if np.ndim(wave) != 1 or not len(wave):
        raise ValueError(
          f'a wave of shape {np.shape(wave)}: expected one channel, [samples]'
        )
    for start in range(0, len(waves), self.batch):
      part = waves[start : start + self.batch]
      found = jax.device_get(self._answer(*self._weights, self._batch(part)))
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


def _rule(
  known: Known | None, checkpoint, prior, target_far
) -> verdict_lib.Rule:
  """How to decide; see `Detector.load`."""
  given = {'prior': prior, 'target_far': target_far}
  asked = [name for name, value in given.items() if value is not None]
  if asked and (known is None or known.calibration is None):
    raise ValueError(
      f'{checkpoint}: it is not calibrated, so {asked[0]}={given[asked[0]]} '
      'means nothing; calibrate it on labelled recordings first: python -m '
      'jaxspoof.bundle calibrate'
    )
  threshold = None
  if target_far is not None:
    llr = known.calibration(known.dev_scores)
    if not 0 < target_far < 1:
      raise ValueError(
        f'target_far={target_far}: expected the share of spoofs that may '
        'pass, between 0 and 1'
      )
    point = calibration_lib.threshold_of(llr, known.dev_labels, target_far)
    threshold = point.threshold
  return verdict_lib.Rule(
    verdict_lib.PRIOR if prior is None else prior, threshold
  )


def _as_numpy(source: Source) -> Source:
  """Samples in an array of JAX, PyTorch or in a list, as an array of NumPy."""
  if isinstance(source, _WHOLE | np.ndarray):
    return source
  return np.asarray(source)


def read(
  source: Source,
  samples: int,
  name: str | None = None,
  verify: bool = True,
  *,
  rate: int | None = None,
  channel: int | None = None,
) -> audio.Clip | str:
  """Reads the part of a file that is scored.

  Args:
    source: a path, the encoded file itself, samples, or a clip, which is
      returned as it is.
    samples: how many samples are scored, at 16 kHz.
    name: what messages call the file; its path by default.
    verify: also compare a FLAC with the MD5 that it carries.
    rate: of samples, in Hz.
    channel: which channel is taken, the first being 1; None mixes them down.

  Returns:
    The clip, or a sentence that says why the file cannot be scored.
  """
  if isinstance(source, audio.Clip):
    return source
  source = _as_numpy(source)
  name = name or str(source)
  try:
    return signal_checks.read(
      source, name, samples=samples, verify=verify, rate=rate, channel=channel
    )
  except audio.AudioError as error:
    return str(error)
  # One file among thousands must not take the results of the others along.
  except Exception as error:
    return f'{name}: cannot be read ({type(error).__name__}: {error})'


@functools.lru_cache(8)
def _answer_of(graphdef):
  """The program of a kind of model: its detectors compile it once."""

  def answer(params, batch_stats, batch):
    module = state_lib.merge(graphdef, params, batch_stats)
    found = state_lib.eval_view(module).answer(**steps.inputs(batch))
    return found.embedding, found.outputs

  return jax.jit(answer)
