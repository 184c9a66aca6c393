"""Several detectors asked about the same recordings, side by side.

There is no verdict of all together: detectors that learned from the same
recordings err together, and their agreement is no second witness.
"""

import json
import os
import sys
from collections.abc import Iterator, Sequence

from jaxspoof.detect import inputs, outputs
from jaxspoof.detector import Detection, Detector, Failure

# Of CSV: `outputs.COLUMNS`, and which detector it is, as it was named.
COLUMNS = (*outputs.COLUMNS, 'checkpoint')
# Of the table, for each detector: a verdict or 'failed', P(spoof), LLR.
_WIDTH = 9 + 2 + 8 + 2 + 7
_GAP = '  | '

Results = tuple[Detection | Failure, ...]  # one of each detector


def show(
  detectors: Sequence[Detector],
  checkpoints: Sequence[str],
  paths: Sequence[str],
  problems: Sequence[Failure],
  options,
) -> int:
  """Scores recordings with each detector, and prints what all say.

  Args:
    detectors: loaded.
    checkpoints: what each was loaded from.
    paths: recordings.
    problems: what named none.
    options: of the command line.

  Returns:
    How many recordings failed with any of the detectors.
  """
  named = list(zip(checkpoints, detectors, strict=True))
  identities = [d.identity(channel=options.channel) for d in detectors]
  results = answers(detectors, paths, problems, options.channel)
  if not (options.json or options.csv):
    return _table(results, named, paths)
  if options.csv:
    sys.stdout.write(outputs.line(COLUMNS))
  failed = 0
  for found in results:
    failed += _complain(found)
    for (checkpoint, detector), identity, result in zip(
      named, identities, found, strict=True
    ):
      if options.csv:
        cells = [*outputs.row(result, identity), checkpoint]
        sys.stdout.write(outputs.line(cells))
        continue
      values = outputs.values_of(result, detector)
      values |= {'detector': identity, 'checkpoint': checkpoint}
      print(json.dumps(values))
    sys.stdout.flush()
  return failed


def answers(
  detectors: Sequence[Detector],
  paths: Sequence[str],
  problems: Sequence[Failure],
  channel: int | None,
) -> Iterator[Results]:
  """What each detector says of each recording, as soon as all have said it."""
  for problem in problems:
    yield (problem,) * len(detectors)
  # What comes from standard input can be read once.
  sources = [inputs.from_stdin() if p == inputs.STDIN else p for p in paths]
  yield from zip(
    *(
      detector.score_many(sources, channel=channel, names=paths)
      for detector in detectors
    ),
    strict=True,
  )


def _complain(found: Results) -> bool:
  """Says on stderr what went wrong, once; returns whether anything did."""
  errors = dict.fromkeys(r.error for r in found if isinstance(r, Failure))
  for error in errors:
    print(error, file=sys.stderr, flush=True)
  return bool(errors)


def labels(checkpoints: Sequence[str]) -> list[str]:
  """Short names of checkpoints, all different."""
  short = [os.path.basename(os.path.normpath(name)) for name in checkpoints]
  if len({*short}) == len(short):
    return short
  return [f'{number} {name}' for number, name in enumerate(short, 1)]


def _table(results: Iterator[Results], named, paths: Sequence[str]) -> int:
  """A row for each recording, a group of columns for each detector."""
  names = labels([checkpoint for checkpoint, _ in named])
  width = max([len('file'), *map(len, paths)])
  groups = [max(_WIDTH, len(name)) for name in names]
  print(_row('', width, names, groups))
  heads = [
    f'{"verdict":<9}  {"P(spoof)":>8}  {"LLR":>7}'
    if detector.calibrated
    else f'{"score":>9}'
    for _, detector in named
  ]
  print(_row('file', width, heads, groups))
  failed = 0
  for found in results:
    failed += _complain(found)
    if all(isinstance(result, Failure) for result in found):
      continue
    cells = [_cell(result) for result in found]
    print(_row(found[0].path, width, cells, groups))
    for name, result in zip(names, found, strict=True):
      if isinstance(result, Detection):
        for note in _notes(result):
          print(f'{"":<{width}}  {name}: {note}')
    sys.stdout.flush()
  for name, (_, detector) in zip(names, named, strict=True):
    kind = 'logits' if detector.loss.head == 'linear' else 'cosines'
    print(f'{name}: {outputs.meaning(kind, detector)}')
  return failed


def _row(first: str, width: int, cells, groups) -> str:
  shown = [f'{cell:<{size}}' for cell, size in zip(cells, groups, strict=True)]
  return f'{first:<{width}}  {_GAP.join(shown)}'.rstrip()


def _cell(result: Detection | Failure) -> str:
  if isinstance(result, Failure):
    return 'failed'
  if result.llr is None:
    return f'{result.score:>9.3f}'
  return f'{result.verdict:<9}  {result.p_spoof:>8.2%}  {result.llr:>+7.2f}'


def _notes(result: Detection) -> Iterator[str]:
  if result.llr is not None:
    yield from result.reasons
  yield from (f'warning: {text}' for text in result.warnings)
