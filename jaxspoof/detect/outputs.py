"""What is said of each recording: a table, JSON, CSV, or a file of rows."""

import csv
import dataclasses
import io
import json
import os
import pathlib
import sys
from collections.abc import Iterable, Iterator

from jaxspoof.detector import Detection, Detector, Failure
from jaxspoof.machine.progress import Progress

COLUMNS = (
  'path', 'verdict', 'p_spoof', 'llr', 'prior', 'score', 'scored', 'duration',
  'model', 'reasons', 'warnings', 'error', 'detector',
)  # fmt: skip
_DIGITS = 6

Results = Iterable[Detection | Failure]


def show_json(results: Results, detector: Detector) -> int:
  """Prints one object a line, as results come; returns how many failed.

  `classes` says what the numbers of `logits` stand for.
  """
  failed = 0
  for result in results:
    if isinstance(result, Failure):
      failed += 1
      print(result.error, file=sys.stderr, flush=True)
    print(json.dumps(values_of(result, detector)), flush=True)
  return failed


def values_of(result: Detection | Failure, detector: Detector) -> dict:
  """What is said of a recording, for JSON; its numbers rounded."""
  values = dataclasses.asdict(result)
  if isinstance(result, Failure):
    return values
  values['logits'] = [round(value, _DIGITS) for value in values['logits']]
  for name in ('score', 'p_spoof', 'llr'):
    if values[name] is not None:
      values[name] = round(values[name], _DIGITS)
  return values | {'classes': outputs_of(detector)}


def show_csv(results: Results, detector: Detector, identity: str) -> int:
  """Prints rows of `COLUMNS`, as results come; returns how many failed."""
  failed = 0
  sys.stdout.write(line(COLUMNS))
  for result in results:
    if isinstance(result, Failure):
      failed += 1
      print(result.error, file=sys.stderr, flush=True)
    sys.stdout.write(line(row(result, identity)))
    sys.stdout.flush()
  return failed


def show_table(
  results: Results, paths: list[str], detector: Detector, explain: bool = True
) -> int:
  """Prints an aligned table, as results come; returns how many failed.

  Args:
    results: of the detector.
    paths: that there will be.
    detector: whose they are.
    explain: whether the columns are explained below it.
  """
  width = max([len('file'), *map(len, paths)])
  failed = 0
  kind = 'logits' if detector.loss.head == 'linear' else 'cosines'
  if detector.calibrated:
    said = f'{"verdict":<9}  {"P(spoof)":>8}  {"LLR":>7}'
  else:
    said = f'{"score":>9}'
  tail = '' if detector.calibrated else f'  {kind}'
  print(f'{"file":<{width}}  {said}  {"scored":>8}  {"of":>9}{tail}')
  for result in results:
    if not hasattr(result, 'score'):
      failed += 1
      print(result.error, file=sys.stderr, flush=True)
      continue
    if detector.calibrated:
      said = f'{result.verdict:<9}  {result.p_spoof:>8.2%}  {result.llr:>+7.2f}'
      outputs = f'  {"; ".join(result.reasons)}' if result.reasons else ''
    else:
      said = f'{result.score:>9.3f}'
      outputs = '  ' + ' '.join(f'{value:>8.3f}' for value in result.logits)
    outputs += ''.join(f'  warning: {text}' for text in result.warnings)
    print(
      f'{result.path:<{width}}  {said}  {result.scored:>6.2f} s'
      f'  {result.duration:>7.2f} s{outputs}',
      flush=True,
    )
  if explain:
    print(meaning(kind, detector))
  return failed


def meaning(kind: str, detector: Detector) -> str:
  """What the columns of the table say."""
  if not detector.calibrated:
    return (
      'score: higher = bona fide, lower = spoof; it is the '
      f'{detector.loss.meaning}. {kind}: {", ".join(outputs_of(detector))}. No '
      'threshold is calibrated, so there is no verdict.'
    )
  rule, card = detector.rule, detector.known.card
  how = 'a verdict needs a probability of 80 %'
  if rule.threshold is not None:
    how = f'bona fide from LLR {rule.threshold:+.2f} on, as --target_far asks'
  return (
    f'P(spoof): at a prior of {rule.prior:g}. LLR: log-likelihood ratio of '
    f'bona fide, calibrated on {card.calibration.fitted_on}; {how}. uncertain: '
    'undecided, or unlike the recordings that the detector knows.'
  )


def outputs_of(detector: Detector) -> list[str]:
  """The class that each output of the model stands for."""
  first = -1 if detector.loss.head == 'one_class' else 0
  return list(detector.classes[first:])


# --------------------------------------------------------- a file of rows ---
def row(result: Detection | Failure, identity: str) -> list:
  """The cells of a result, in the order of `COLUMNS`."""
  values = dataclasses.asdict(result) | {'detector': identity}
  for name in ('reasons', 'warnings'):
    values[name] = '; '.join(values.get(name, ()))
  cells = [values.get(name) for name in COLUMNS]
  return [
    '' if c is None else round(c, _DIGITS) if isinstance(c, float) else c
    for c in cells
  ]


class Table:
  """A CSV file of results that goes on where it stopped.

  Rows are written as results come. A last row that was cut short, when the
  process was killed, is written again.

  Args:
    path: the file.
    identity: of the detector and its settings; rows of others are refused.

  Attributes:
    done: paths that have a row.
    failed: how many of them have an error.

  Raises:
    ValueError: the file is no such table, or of another detector.
  """

  def __init__(self, path: str | os.PathLike, identity: str):
    self.path, self.identity = pathlib.Path(path), identity
    self.done: set[str] = set()
    self.failed = 0
    whole = self._read() if self.path.exists() else 0
    self._file = self.path.open('r+b' if self.path.exists() else 'wb')
    self._file.truncate(whole)
    self._file.seek(whole)
    if not whole:
      self._file.write(line(COLUMNS).encode())

  def _read(self) -> int:
    """Takes in the rows that are there; returns where they end."""
    end = 0
    for number, (data, end_of) in enumerate(_records(self.path.read_bytes())):
      text = data.decode('utf-8', 'surrogateescape')
      cells = next(csv.reader(io.StringIO(text, newline='')), [])
      if number == 0 and tuple(cells) != COLUMNS:
        raise ValueError(
          f'{self.path}: not a table that this command has written; name '
          'another file'
        )
      if len(cells) != len(COLUMNS):
        raise ValueError(
          f'{self.path}: row {number + 1}: {len(cells)} columns, expected '
          f'{len(COLUMNS)}'
        )
      if number:
        found = dict(zip(COLUMNS, cells, strict=True))
        if found['detector'] != self.identity:
          raise ValueError(
            f'{self.path}: row {number + 1} is of another detector or other '
            f'settings ({found["detector"]}, not {self.identity}); name '
            'another file'
          )
        self.done.add(found['path'])
        self.failed += bool(found['error'])
      end = end_of
    return end

  def write(self, result: Detection | Failure) -> None:
    """Adds a row, and sees to it that it is in the file."""
    self.done.add(result.path)
    self.failed += isinstance(result, Failure)
    text = line(row(result, self.identity))
    self._file.write(text.encode('utf-8', 'surrogateescape'))
    self._file.flush()

  def close(self) -> None:
    """Closes the file."""
    self._file.close()


def write_table(results: Results, table: Table, total: int) -> int:
  """Writes results as they come, with progress on stderr.

  Returns:
    How many rows of the whole table have an error.
  """
  if total:
    progress = Progress('recordings', total, out=sys.stderr)
    for result in results:
      table.write(result)
      progress.step()
  table.close()
  print(
    f'{table.path}: {len(table.done):,} recordings, {table.failed:,} of them '
    'cannot be scored',
    file=sys.stderr,
  )
  return table.failed


def line(cells) -> str:
  """A row of CSV."""
  buffer = io.StringIO()
  csv.writer(buffer, lineterminator='\n').writerow(cells)
  return buffer.getvalue()


def _records(data: bytes) -> Iterator[tuple[bytes, int]]:
  """Whole records of a CSV file, and where each ends.

  A name may hold a newline; then it is between quotation marks.
  """
  start = end = quotes = 0
  while (at := data.find(b'\n', end)) >= 0:
    quotes += data.count(b'"', end, at)
    end = at + 1
    if quotes % 2 == 0:
      yield data[start:end], end
      start = end
