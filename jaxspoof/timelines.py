"""Where in a long recording the speech is bona fide, and where it is not.

A recording is cut into windows of one length that overlap. Each window that
holds sound gets a log-likelihood ratio (LLR). A moment has the mean LLR of the
windows that it lies in; moments of one verdict in a row are a segment. The
whole has the mean LLR of its windows: not their sum, as windows that overlap or
have one speaker are no independent witnesses. Two rules stand above the mean:
what is bona fide as a whole is uncertain where a segment is a spoof, and
whatever it is, where most of its windows are outside the training domain.

A detector that localises gives an LLR for each 20 ms by itself. Its windows are
these moments; where one kind of speech ends and the other begins is the most
probable sequence of both, in which each change has a price.

Nothing here knows a model. Times are in seconds.
"""

import collections
import csv
import dataclasses
import io
import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np

from jaxspoof.audio import MOMENT, signal_checks
from jaxspoof.bundles import verdict as verdict_lib

SILENT = 'no sound'  # in place of a verdict
OUTSIDE = 0.5  # share of windows outside the domain that makes all uncertain
# Price in nats of a change between bona fide and spoofed moments: the LLRs of
# moments beside each other say nearly the same, and so their sum too much.
CHANGE = 3.0


@dataclasses.dataclass(frozen=True)
class Window:
  """A part of a recording that was scored.

  Attributes:
    start: in seconds.
    end: in seconds.
    llr: log-likelihood ratio of bona fide; None where there is no sound.
    p_spoof: probability of a spoof at the prior; None without sound.
    doubts: why it is outside the training domain, as sentences.
  """

  start: float
  end: float
  llr: float | None
  p_spoof: float | None
  doubts: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Segment:
  """Moments in a row with one verdict.

  Attributes:
    start: in seconds.
    end: in seconds.
    verdict: 'bona fide', 'spoof', 'uncertain' or 'no sound'.
    llr: mean over its moments; None without sound.
  """

  start: float
  end: float
  verdict: str
  llr: float | None


@dataclasses.dataclass(frozen=True)
class Timeline:
  """What a detector says of a recording over time.

  Attributes:
    path: the recording, as it was named.
    duration: in seconds.
    windows: in their order.
    segments: in their order; together they are the whole recording.
    verdict: of the whole: 'bona fide', 'spoof' or 'uncertain'.
    llr: mean over the windows with sound.
    p_spoof: of this mean, at the prior.
    prior: probability of a spoof before anything was heard.
    reasons: why the verdict is 'uncertain', as sentences.
    warnings: what is odd about the recording, as sentences.
  """

  path: str
  duration: float
  windows: tuple[Window, ...]
  segments: tuple[Segment, ...]
  verdict: str
  llr: float
  p_spoof: float
  prior: float
  reasons: tuple[str, ...] = ()
  warnings: tuple[str, ...] = ()


# What a window is judged by: waves to LLRs, and the doubts of each.
Judge = Callable[
  [Sequence[np.ndarray]], Sequence[tuple[float, tuple[str, ...]]]
]


def cut(
  blocks: Iterable[np.ndarray], samples: int, hop: int
) -> Iterator[tuple[int, np.ndarray]]:
  """Windows of a recording, as soon as they are there.

  Args:
    blocks: float32 [n] each, the recording in its order.
    samples: length of a window.
    hop: from the start of one to that of the next, at most `samples`.

  Yields:
    The first sample, and float32 [samples]. The last window ends with the
    recording; it overlaps the one before it by more. Of a recording that is
    shorter than a window there is one, as long as it.
  """
  kept = np.zeros(0, np.float32)
  first = start = total = 0  # of what is kept; of the next window; of all
  for block in blocks:
    kept = np.concatenate([kept, block])
    total += len(block)
    while start + samples <= total:
      yield start, kept[start - first :][:samples]
      start += hop
    # The last window may begin earlier than the next.
    needed = max(first, min(start, total - samples))
    kept, first = kept[needed - first :], needed
  if 0 < total < samples:
    yield 0, kept
  elif total and start - hop + samples < total:
    yield total - samples, kept[total - samples - first :]


def follow(
  blocks: Iterable[np.ndarray],
  judge: Judge,
  rule: verdict_lib.Rule,
  *,
  samples: int,
  hop: int,
  rate: int,
  batch: int = 1,
) -> Iterator[Window]:
  """Scores windows as they come.

  Args:
    blocks: see `cut`.
    judge: gives the LLR and the doubts of waves.
    rule: makes probabilities of LLRs.
    samples: see `cut`.
    hop: see `cut`.
    rate: samples in a second.
    batch: how many windows with sound are judged at once; those before them
      wait for as long.

  Yields:
    Windows in their order.
  """
  waiting: list[tuple[int, np.ndarray, bool]] = []

  def judged() -> Iterator[Window]:
    found = iter(judge([wave for _, wave, sounds in waiting if sounds]))
    for start, wave, sounds in waiting:
      ends = start / rate, (start + len(wave)) / rate
      if not sounds:
        yield Window(*ends, None, None)
        continue
      llr, doubts = next(found)
      yield Window(*ends, llr, rule.p_spoof(llr), doubts)

  for start, wave in cut(blocks, samples, hop):
    share = signal_checks.has_sound(wave).mean()
    waiting.append((start, wave, bool(share >= signal_checks.SOUND)))
    if sum(sounds for _, _, sounds in waiting) >= batch or batch == 1:
      yield from judged()
      waiting = []
  yield from judged()


# What chunks are judged by whose moments are wanted: waves to LLRs [N] of their
# moments, and the doubts of each chunk.
MomentJudge = Callable[
  [Sequence[np.ndarray]], Sequence[tuple[np.ndarray, tuple[str, ...]]]
]


def follow_moments(
  blocks: Iterable[np.ndarray],
  judge: MomentJudge,
  rule: verdict_lib.Rule,
  *,
  samples: int,
  rate: int,
  batch: int = 1,
) -> Iterator[Window]:
  """Scores the moments of a recording.

  Chunks overlap by half, and a moment is judged in the chunk in whose middle
  half it lies, so that what surrounds it is known.

  Args:
    blocks: see `cut`.
    judge: gives LLRs of waves, one for each `audio.MOMENT` samples.
    rule: makes probabilities of LLRs.
    samples: length of a chunk; at least four moments.
    rate: samples in a second.
    batch: how many chunks are judged at once.

  Yields:
    A window for each moment, one after the other; the last also has what is
    left of the recording.

  Raises:
    ValueError: chunks of fewer than four moments.
  """
  quarter = samples // (4 * MOMENT)  # in moments
  if not quarter:
    raise ValueError(
      f'chunks of {samples} samples: expected at least {4 * MOMENT}'
    )
  waiting: list[tuple[int, np.ndarray]] = []
  at, rest, total = 0, [], 0  # moments that are out; those in hand; samples

  def judged() -> Iterator[Window]:
    nonlocal at, rest, total
    heard = [wave for _, wave in waiting if signal_checks.has_sound(wave).any()]
    found = iter(judge(heard))
    for start, wave in waiting:
      first, total = start // MOMENT, start + len(wave)
      sounds = signal_checks.has_sound(wave)
      llrs, doubts = np.zeros(max(1, len(wave) // MOMENT)), ()
      if sounds.any():
        llrs, doubts = next(found)
      made = [
        Window(
          (first + n) * MOMENT / rate,
          (first + n + 1) * MOMENT / rate,
          float(llr) if sound else None,
          rule.p_spoof(float(llr)) if sound else None,
          doubts if sound else (),
        )
        for n, (llr, sound) in enumerate(zip(llrs, sounds, strict=False))
      ]
      # Of what is shorter than that the last waits: it may be the end of all.
      until = min(first + 3 * quarter, first + len(made) - 1)
      yield from made[at - first : until - first]
      at, rest = max(at, until), made[max(at, until) - first :]

  for start, wave in cut(blocks, samples, 2 * quarter * MOMENT):
    # The last chunk begins anywhere: it goes on with the grid of the others.
    skipped = -start % MOMENT
    waiting.append((start + skipped, wave[skipped:]))
    if len(waiting) >= batch:
      yield from judged()
      waiting = []
  yield from judged()
  if rest:
    *others, last = rest
    yield from others
    yield dataclasses.replace(last, end=total / rate)


def together(samples: int) -> tuple[int, int]:
  """How many moments `follow_moments` gives at once: first, and then.

  Args:
    samples: length of a chunk.
  """
  quarter = samples // (4 * MOMENT)
  return 3 * quarter, 2 * quarter


def parts(
  moments: Iterable[Window], rule: verdict_lib.Rule, samples: int
) -> Iterator[Window]:
  """Segments of a stream of moments, as soon as their moments are there.

  A segment ends where its kind does, and where the moments do that come at
  once: who listens to a stream wants no line for each 20 ms, and not to wait.

  Args:
    moments: as from `follow_moments`.
    rule: makes verdicts of LLRs.
    samples: length of a chunk.

  Yields:
    A window for each segment, with the mean LLR of its moments.
  """
  left = iter(moments)
  first, following = together(samples)
  for count in itertools.chain([first], itertools.repeat(following)):
    some = list(itertools.islice(left, count))
    if not some:
      return
    for one in segments_of_moments(some, rule):
      inside = [m for m in some if one.start <= m.start < one.end]
      doubts = dict.fromkeys(doubt for m in inside for doubt in m.doubts)
      p_spoof = None if one.llr is None else rule.p_spoof(one.llr)
      yield Window(one.start, one.end, one.llr, p_spoof, tuple(doubts))


def segments_of_moments(
  windows: Sequence[Window], rule: verdict_lib.Rule, change: float = CHANGE
) -> tuple[Segment, ...]:
  """Segments of moments that each have an LLR of their own.

  The edges are those of the most probable sequence of bona fide and spoofed
  moments (Viterbi 1967), at the prior of the rule. The verdict on a segment is
  that on its mean LLR.

  Args:
    windows: moments, in their order.
    rule: makes verdicts of LLRs.
    change: price of each change from one to the other, in nats.
  """
  found: list[Segment] = []
  for sounds, group in itertools.groupby(windows, lambda w: w.llr is not None):
    part = list(group)
    if not sounds:
      found.append(Segment(part[0].start, part[-1].end, SILENT, None))
      continue
    llr = np.array([one.llr for one in part])
    odds = llr + np.log((1 - rule.prior) / rule.prior)
    edges = np.flatnonzero(np.diff(decoded(odds, change))) + 1
    for first, last in itertools.pairwise([0, *edges, len(part)]):
      mean = float(llr[first:last].mean())
      said = rule.decide(mean)[0]
      found.append(Segment(part[first].start, part[last - 1].end, said, mean))
  return tuple(found)


def decoded(odds: np.ndarray, change: float) -> np.ndarray:
  """The most probable sequence of two classes.

  >>> decoded(np.array([3.0, 2.0, -1.0, 2.0, -4.0, -5.0]), 2.0).astype(int)
  array([1, 1, 1, 1, 0, 0])

  Args:
    odds: float [N], log-odds of bona fide of each moment.
    change: price of a change, in nats.

  Returns:
    bool [N], True for bona fide.
  """
  stays = np.empty((len(odds), 2), bool)
  best = np.zeros(2)
  for n, value in enumerate(odds):
    other = best[::-1] - change
    stays[n] = best >= other
    best = np.maximum(best, other) + (0.0, value)
  state, found = int(best[1] >= best[0]), np.empty(len(odds), bool)
  for n in range(len(odds) - 1, -1, -1):
    found[n] = state
    state = state if stays[n, state] else 1 - state
  return found


def segments_of(
  windows: Sequence[Window], rule: verdict_lib.Rule
) -> tuple[Segment, ...]:
  """Segments of the moments of windows, from the first to the last."""
  edges = np.unique([x for w in windows for x in (w.start, w.end)])
  total, count = np.zeros(len(edges)), np.zeros(len(edges))
  for window in windows:
    if window.llr is None:
      continue
    first, last = np.searchsorted(edges, (window.start, window.end))
    total[first] += window.llr
    total[last] -= window.llr
    count[first] += 1
    count[last] -= 1
  total, count = np.cumsum(total)[:-1], np.round(np.cumsum(count)[:-1])
  found: list[list] = []  # start, end, verdict, LLR times seconds
  for at, (start, end) in enumerate(zip(edges[:-1], edges[1:], strict=True)):
    llr = total[at] / count[at] if count[at] else 0.0
    said = rule.decide(llr)[0] if count[at] else SILENT
    if found and found[-1][2] == said:
      found[-1][1] = end
      found[-1][3] += llr * (end - start)
    else:
      found.append([start, end, said, llr * (end - start)])
  return tuple(
    Segment(
      float(start),
      float(end),
      said,
      None if said == SILENT else float(weighted / (end - start)),
    )
    for start, end, said, weighted in found
  )


def collect(
  path: str,
  windows: Sequence[Window],
  rule: verdict_lib.Rule,
  warnings: Sequence[str] = (),
  divide: Callable[..., tuple[Segment, ...]] | None = None,
) -> Timeline:
  """The timeline of a recording.

  Args:
    path: the recording.
    windows: all of its windows, in their order.
    rule: makes verdicts of LLRs.
    warnings: what is odd about the recording.
    divide: makes segments of windows; `segments_of` by default.

  Raises:
    ValueError: no window holds sound.
  """
  heard = [window for window in windows if window.llr is not None]
  if not heard:
    raise ValueError(f'{path}: holds no sound; nothing to score')
  llr = float(np.mean([window.llr for window in heard]))
  segments = (divide or segments_of)(windows, rule)
  decided, why = rule.decide(llr)
  reasons = [] if why is None else [why]
  doubtful = [window for window in heard if window.doubts]
  if len(doubtful) > OUTSIDE * len(heard):
    first = collections.Counter(w.doubts[0].split(',')[0] for w in doubtful)
    reasons.append(
      f'{len(doubtful)} of {len(heard)} windows are outside the training '
      f'domain, such as: {first.most_common(1)[0][0]}'
    )
  spoofed = [one for one in segments if one.verdict == verdict_lib.SPOOF]
  if decided == verdict_lib.BONA_FIDE and spoofed:
    longest = max(spoofed, key=lambda one: one.end - one.start)
    seconds = sum(one.end - one.start for one in spoofed)
    reasons.append(
      f'{seconds:.1f} s of it are rather a spoof, such as from '
      f'{longest.start:.1f} to {longest.end:.1f} s'
    )
  return Timeline(
    path,
    windows[-1].end,
    tuple(windows),
    segments,
    verdict_lib.UNCERTAIN if reasons else decided,
    llr,
    rule.p_spoof(llr),
    rule.prior,
    tuple(reasons),
    tuple(warnings),
  )


# ------------------------------------------------------------------ formats ---
def as_json(timelines: Iterable[Timeline]) -> str:
  """All of it, as a list of objects."""
  return json.dumps([dataclasses.asdict(t) for t in timelines], indent=2) + '\n'


def as_csv(timelines: Iterable[Timeline]) -> str:
  """A row for each segment."""
  buffer = io.StringIO()
  writer = csv.writer(buffer, lineterminator='\n')
  writer.writerow(('path', 'start', 'end', 'verdict', 'llr'))
  for found in timelines:
    for one in found.segments:
      llr = '' if one.llr is None else f'{one.llr:.4f}'
      ends = f'{one.start:.3f}', f'{one.end:.3f}'
      writer.writerow((found.path, *ends, one.verdict, llr))
  return buffer.getvalue()


def as_rttm(timelines: Iterable[Timeline]) -> str:
  """Rich Transcription Time Marked; without what holds no sound.

  The class stands where the speaker does, and the LLR where the confidence is.
  """
  return ''.join(
    f'SPEAKER {"_".join(found.path.split())} 1 {one.start:.3f} '
    f'{one.end - one.start:.3f} <NA> <NA> {one.verdict.replace(" ", "_")} '
    f'{one.llr:.4f} <NA>\n'
    for found in timelines
    for one in found.segments
    if one.llr is not None
  )


def as_audacity(timelines: Iterable[Timeline]) -> str:
  """Labels that Audacity imports; times of several recordings overlap."""
  return ''.join(
    f'{one.start:.6f}\t{one.end:.6f}\t{one.verdict}'
    + ('' if one.llr is None else f' {one.llr:+.2f}')
    + '\n'
    for found in timelines
    for one in found.segments
  )


# By the suffix of a file.
FORMATS = {
  '.json': as_json,
  '.csv': as_csv,
  '.rttm': as_rttm,
  '.txt': as_audacity,
}
