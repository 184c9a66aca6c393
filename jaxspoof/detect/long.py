"""Long recordings over time, and streams: the command's other two modes."""

import dataclasses
import json
import os
import pathlib
import sys
from collections.abc import Iterator, Sequence

from jaxspoof import audio, timelines
from jaxspoof.audio import streams
from jaxspoof.detect import inputs
from jaxspoof.detect.picture import Overview
from jaxspoof.detector import Detector, Failure
from jaxspoof.machine import files

# Of `--stream`: samples as arecord and ffmpeg give them by default.
STREAM = 's16le:16000:1'


def show(
  detector: Detector,
  paths: Sequence[str],
  problems: Sequence[Failure],
  options,
) -> int:
  """Scores recordings over time, and prints or writes what is asked for.

  Args:
    detector: calibrated.
    paths: recordings.
    problems: what named none.
    options: of the command line.

  Returns:
    How many failed.

  Raises:
    ValueError: a file that cannot be written as asked.
    OSError: likewise.
  """
  width = max([len('file'), *map(len, paths)])
  if not (options.json or options.csv):
    print(
      f'{"file":<{width}}  {"verdict":<9}  {"P(spoof)":>8}  {"LLR":>7}  '
      f'{"from":>9}  {"to":>9}'
    )
  done, failed = [], len(problems)
  for problem in problems:
    _fail(problem, options.json)
  overview = Overview() if options.picture else None
  for path in paths:
    data = inputs.from_stdin() if path == inputs.STDIN else path
    if isinstance(data, bytes):
      data, rate = audio.decode(data, path)
    else:
      rate = None
    try:
      found = detector.timeline(
        data,
        rate,
        hop=options.hop,
        channel=options.channel,
        name=path,
        watch=overview.add if overview else lambda block: None,
      )
    except audio.AudioError as error:
      failed += 1
      _fail(Failure(path, str(error)), options.json)
      continue
    done.append(found)
    if options.json:
      print(json.dumps(dataclasses.asdict(found)), flush=True)
    elif not options.csv:
      for line in lines(found, width):
        print(line, flush=True)
  if options.csv:
    sys.stdout.write(timelines.as_csv(done))
  if options.segments:
    write = timelines.FORMATS[pathlib.Path(options.segments).suffix]
    files.write_atomically(options.segments, write(done))
  if overview and done:
    files.write_atomically(options.picture, overview.svg(done[0]))
  return failed


def check(options, paths: Sequence[str], detector: Detector) -> None:
  """Raises ValueError for what cannot be asked for together."""
  if options.segments:
    suffix = pathlib.Path(options.segments).suffix
    if suffix not in timelines.FORMATS:
      raise ValueError(
        f'--segments {options.segments}: expected a name that ends in '
        f'{", ".join(timelines.FORMATS)}'
      )
  for name in ('segments', 'picture'):
    path = getattr(options, name)
    one = name == 'picture' or str(path).endswith('.txt')
    if path and one and len(paths) > 1:
      raise ValueError(
        f'--{name} {path}: is of one recording; {len(paths)} are named'
      )
  if options.picture and not options.picture.endswith('.svg'):
    raise ValueError(f'--picture {options.picture}: expected a name in .svg')
  detector.windows([], hop=options.hop)  # refuses before anything is read


def lines(found: timelines.Timeline, width: int) -> Iterator[str]:
  """Rows of the table: the whole, then its segments."""
  notes = '; '.join(found.reasons)
  notes = (f'  {notes}' if notes else '') + ''.join(
    f'  warning: {text}' for text in found.warnings
  )
  yield (
    f'{found.path:<{width}}  {found.verdict:<9}  {found.p_spoof:>8.2%}  '
    f'{found.llr:>+7.2f}  {0:>9.2f}  {found.duration:>9.2f}{notes}'
  )
  if len(found.segments) == 1:
    return
  for one in found.segments:
    llr = '' if one.llr is None else f'{one.llr:+.2f}'
    yield (
      f'{"":<{width}}  {one.verdict:<9}  {"":>8}  {llr:>7}  {one.start:>9.2f}  '
      f'{one.end:>9.2f}'
    )


def _fail(failure: Failure, as_json: bool) -> None:
  print(failure.error, file=sys.stderr, flush=True)
  if as_json:
    print(json.dumps(dataclasses.asdict(failure)), flush=True)


# ------------------------------------------------------------------ streams ---
def follow(detector: Detector, form: tuple[str, int, int], options) -> int:
  """Scores raw samples from standard input, a line for each window.

  A window is scored as soon as its last sample is there: the line comes at most
  one hop, and the time of one score, after what it says. A detector that
  localises has lines of segments, see `timelines.parts`.

  Args:
    detector: calibrated.
    form: from `parsed`.
    options: of the command line.

  Returns:
    0; the end of the stream is no error.

  Raises:
    AudioError (a ValueError): samples that cannot be.
  """
  kind, rate, channels = form
  descriptor = sys.stdin.fileno()
  found = streams.raw(
    lambda size: os.read(descriptor, size), kind, channels, rate
  )
  said = []
  mono = streams.mixed(found, 'stream', options.channel, said.append)
  blocks = streams.resampled(mono)
  if options.hop is None:
    windows = detector.parts(blocks)
  else:
    windows = detector.windows(blocks, hop=options.hop)
  for window in windows:
    while said:
      print(f'stream: {said.pop()}', file=sys.stderr, flush=True)
    verdict, why = 'no sound', None
    if window.llr is not None:
      verdict, why = detector.rule.decide(window.llr)
      if window.doubts:
        verdict = 'uncertain'
    reasons = [*window.doubts, *([why] if why else [])]
    if options.json:
      values = dataclasses.asdict(window) | {'verdict': verdict}
      del values['doubts']
      values['reasons'] = reasons
      print(json.dumps(values), flush=True)
      continue
    numbers = ' ' * 17
    if window.llr is not None:
      numbers = f'{window.p_spoof:>8.2%}  {window.llr:>+7.2f}'
    print(
      f'{window.start:>9.2f}  {window.end:>9.2f}  {verdict:<9}  {numbers}  '
      f'{"; ".join(reasons)}'.rstrip(),
      flush=True,
    )
  return 0


def parsed(form: str) -> tuple[str, int, int]:
  """The parts of `FORMAT:RATE:CHANNELS`; ValueError if they cannot be."""
  parts = form.split(':')
  known = len(parts) == 3 and parts[0] in streams.FORMATS
  if not (known and parts[1].isdigit() and parts[2].isdigit()):
    raise ValueError(
      f'--stream {form}: expected FORMAT:RATE:CHANNELS, such as {STREAM}; '
      f'formats are {", ".join(streams.FORMATS)}'
    )
  rate, channels = int(parts[1]), int(parts[2])
  audio.check_rate(rate, f'--stream {form}')
  if not 1 <= channels <= 64:
    raise ValueError(f'--stream {form}: expected 1 to 64 channels')
  return parts[0], rate, channels
