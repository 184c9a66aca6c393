r"""How well does the timeline of a detector say where clips are spoofed?

python benchmarks/localisation.py runs/localise_quickstart
python benchmarks/localisation.py runs/ecapa_mfcc_quickstart --seconds=1 \
  --hop=0.25

Any calibrated detector, on clips of a corpus with labels over time. A moment of
20 ms has the LLR of the timeline: of a detector that localises its own, else
the mean of the windows that it lies in. Attacks that the train split of the
corpus has are left out, unless --seen. Printed are range EER and segment EERs;
the share of time with a wrong LLR, below or above 0; and of the segments of the
timeline how far their edges are from the true ones, in clips whose middle third
alone is spoofed and in all.

With --joints it is asked whether joints are taken for spoofs: into bona fide
clips stretches of other bona fide clips of the speaker are spliced, and printed
is how much of them, and of the rest of these clips, has an LLR below 0.
"""

import argparse
import sys

import numpy as np

from jaxspoof import audio, timelines
from jaxspoof.data import pipeline, segments
from jaxspoof.detector import Detector
from jaxspoof.machine import programs
from jaxspoof.metrics import localisation
from jaxspoof.metrics.localisation import Located
from tfds_builders import records
from tfds_builders.spliced import splice

SECONDS = audio.MOMENT / audio.SAMPLE_RATE
NEAR = (0.02, 0.04, 0.1, 0.2)  # seconds


def main(argv: list[str] | None = None) -> None:
  """Measures, and prints."""
  options = parser().parse_args(argv)
  programs.keep()
  detector = Detector.load(options.checkpoint, seconds=options.seconds)
  source = pipeline.open_source(options.corpus, options.split, options.data_dir)
  if options.joints:
    print(of_joints(detector, source, options))
    return
  known = set()
  if not options.seen:
    train = pipeline.open_source(options.corpus, 'train', options.data_dir)
    known = set(pipeline.trials(train).attack) - {'-'}
  attacks = pipeline.trials(source).attack
  chosen = np.flatnonzero(~np.isin(attacks, sorted(known)))
  if options.clips:
    chosen = chosen[np.linspace(0, len(chosen) - 1, options.clips).astype(int)]
  located, away = [], {'middle': [], 'all': []}
  for number in chosen:
    record = source[int(number)]
    found = detector.timeline(bytes(record['audio']), hop=options.hop)
    spoofed, known_to = segments.spoofed(record, 'clip')
    one = Located(
      moments(found), SECONDS, spoofed, min(known_to, found.duration)
    )
    located.append(one)
    form = pipeline.text(record.get('form', ''))
    for name in ('all', *(['middle'] if form == 'middle' else [])):
      away[name] += distances(found, one)
    print('.', end='', file=sys.stderr, flush=True)
  print(file=sys.stderr)
  print(
    f'{options.checkpoint}: {detector.model}, {len(located)} clips of '
    f'{options.corpus} {options.split}'
  )
  print('\n'.join(localisation.lines(localisation.figures(located))))
  wrong = localisation.at_threshold(located, 0.0)
  print(
    f'LLR 0: {wrong["miss"]:.1%} of bona fide time rejected, '
    f'{wrong["false_alarm"]:.1%} of spoofed time accepted'
  )
  for name, values in away.items():
    if values:
      near = ', '.join(
        f'{np.mean(np.array(values) <= limit + 1e-6):.0%} within '
        f'{1000 * limit:.0f} ms'
        for limit in NEAR
      )
      print(
        f'edges, {name}: {len(values)}, median '
        f'{1000 * np.median(values):.0f} ms away; {near}'
      )


def of_joints(detector: Detector, source, options) -> str:
  """How much genuine speech is rejected that was joined; see --joints."""
  trials = pipeline.trials(source)
  hosts = np.flatnonzero(trials.label == 1)
  joined = []
  for number in hosts[: options.clips]:
    speaker = hosts[trials.speaker[hosts] == trials.speaker[number]]
    others = speaker[speaker != number]
    if not len(others):
      continue
    rng = records.generator('joints', str(trials.utterance[number]))
    host, donor = (
      audio.load(source[int(n)]['audio'], 'clip').astype(np.float64)
      for n in (number, rng.choice(others))
    )
    places = splice.stretches(host, rng)
    wave, ranges = splice.splice(host, donor, places, False, rng)
    found = detector.timeline(wave, audio.SAMPLE_RATE, hop=options.hop)
    times = [(a / audio.SAMPLE_RATE, b / audio.SAMPLE_RATE) for a, b in ranges]
    joined.append(Located(moments(found), SECONDS, times, found.duration))
  if not joined:
    raise SystemExit(f'{options.corpus}: nobody speaks in two bona fide clips')
  wrong = localisation.at_threshold(joined, 0.0)
  return (
    f'{options.checkpoint}: {len(joined)} bona fide clips of {options.corpus} '
    f'{options.split} with bona fide stretches of others: '
    f'{1 - wrong["false_alarm"]:.1%} of the time of the stretches rejected, '
    f'{wrong["miss"]:.1%} of the rest'
  )


def moments(found: timelines.Timeline) -> np.ndarray:
  """The LLR of each 20 ms; where there is no sound it is 0."""
  count = max(1, round(found.duration / SECONDS))
  total, times = np.zeros(count), np.zeros(count)
  for window in found.windows:
    if window.llr is not None:
      first, last = np.round(np.array([window.start, window.end]) / SECONDS)
      part = slice(int(first), max(int(last), int(first) + 1))
      total[part] += window.llr
      times[part] += 1
  return total / np.maximum(times, 1)


def distances(found: timelines.Timeline, one: Located) -> list[float]:
  """How far each true edge is from the nearest that the segments have.

  An edge lies where the LLRs of two segments have different signs.
  """
  heard = [part for part in found.segments if part.llr is not None]
  edges = np.array([
    after.start
    for before, after in zip(heard[:-1], heard[1:], strict=True)
    if (before.llr > 0) != (after.llr > 0)
  ])  # fmt: skip
  return [
    float(np.abs(edges - edge).min(initial=one.duration))
    for ends in one.spoofed
    for edge in ends
    if 0 < edge < one.duration - 1e-6
  ]


def parser() -> argparse.ArgumentParser:
  """The command line."""
  made = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  made.add_argument('checkpoint', help='a run or a bundle, calibrated')
  made.add_argument(
    '--corpus', default='spliced/quickstart', help='with labels over time'
  )
  made.add_argument('--split', default='eval', help='of it')
  made.add_argument('--data_dir', help='where built corpora lie')
  made.add_argument('--seconds', type=float, help='length of a window')
  made.add_argument(
    '--hop', type=float, help='seconds from one window to the next'
  )
  made.add_argument(
    '--clips', type=int, help='so many of them, spread over the split'
  )
  made.add_argument(
    '--seen', action='store_true', help='also attacks that train has'
  )
  made.add_argument(
    '--joints', action='store_true', help='splice bona fide speech instead'
  )
  return made


if __name__ == '__main__':
  main()
