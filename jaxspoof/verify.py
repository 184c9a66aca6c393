"""Checks that a finished run is what its files say.

  python -m jaxspoof.verify WORKDIR ...

The result is computed again from the score files, and the files are compared
with the hashes that the run wrote down when it ended. Nothing is trained and
no audio is read.
"""

import argparse
import hashlib
import json
import pathlib
import sys
from collections.abc import Iterator

from jaxspoof import scores as score_files
from jaxspoof.metrics import summary

HASHED = ('config.json', 'weights.npz')
TOLERANCE = 1e-9  # between platforms; a float32 score moves more than that


def fingerprint(workdir, results: dict[str, dict]) -> dict[str, str]:
  """What `verify` compares later: SHA-256 of files and of protocols.

  Args:
    workdir: folder of a run with config, weights and score files.
    results: summaries by split.

  Returns:
    SHA-256 in hexadecimal, by file and by `protocol of SPLIT`.
  """
  workdir = pathlib.Path(workdir)
  names = [*HASHED, *(f'scores/{split}.txt' for split in results)]
  hashes = {name: file_hash(workdir / name) for name in names}
  for split in results:
    read = score_files.read(workdir / 'scores' / f'{split}.txt')
    hashes[f'protocol of {split}'] = protocol_hash(read)
  return hashes


def file_hash(path: pathlib.Path) -> str:
  """SHA-256 of a file."""
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()


def protocol_hash(trials) -> str:
  """SHA-256 of who is what: utterance, attack and label, whatever the order.

  Args:
    trials: anything with the fields `utterance`, `attack` and `label`, [N].
  """
  columns = (trials.utterance, trials.attack, trials.label)
  lines = sorted(' '.join(map(str, row)) for row in zip(*columns, strict=True))
  return hashlib.sha256('\n'.join(lines).encode()).hexdigest()


def verify(workdir) -> list[str]:
  """Compares a run with its own record.

  Args:
    workdir: folder of a run that has ended.

  Returns:
    What does not agree, in sentences; empty if all is well.

  Raises:
    ValueError: not the folder of a finished run; names the file that lacks.
  """
  workdir = pathlib.Path(workdir)
  metrics = _json(workdir / 'metrics.json')
  if 'sha256' not in metrics:
    raise ValueError(f'{workdir / "metrics.json"}: lacks the field sha256')
  recorded = {metrics['split']: metrics, **metrics.get('further', {})}
  found = list(_differing_files(workdir, metrics['sha256']))
  for split, old in recorded.items():
    path = workdir / 'scores' / f'{split}.txt'
    try:
      trials = score_files.read(path)
    except (ValueError, OSError) as error:
      found.append(f'{path}: cannot be read: {error}')
      continue
    name = f'protocol of {split}'
    if protocol_hash(trials) != metrics['sha256'].get(name):
      found.append(f'{path}: other trials, attacks or labels than recorded')
    new = summary.summarise(
      *trials,
      **{k: old[k] for k in ('split', 'selected_on', 'corpus', 'seed')},
      resamples=old['resamples'],
    )
    found += [f'{path}: {line}' for line in _differences(old, new)]
  return found


def _differing_files(workdir, hashes: dict[str, str]) -> Iterator[str]:
  for name, recorded in hashes.items():
    path = workdir / name
    if name.startswith('protocol of '):
      continue
    if not path.is_file():
      yield f'{path}: missing'
    elif file_hash(path) != recorded:
      yield f'{path}: changed since the run ended'


def _differences(old: dict, new: dict, where: str = '') -> Iterator[str]:
  """Fields of a summary that come out differently from the scores."""
  for name, value in new.items():
    was, field = old.get(name), f'{where}{name}'
    if isinstance(value, dict) and isinstance(was, dict):
      yield from _differences(was, value, f'{field}.')
    elif not _equal(was, value):
      yield f'{field} is recorded as {was!r}, the scores give {value!r}'


def _equal(a, b) -> bool:
  if isinstance(a, list) and isinstance(b, list):
    return len(a) == len(b) and all(map(_equal, a, b))
  if isinstance(a, float) and isinstance(b, float):
    return abs(a - b) <= TOLERANCE * max(1, abs(a))
  return a == b


def _json(path: pathlib.Path) -> dict:
  try:
    return json.loads(path.read_text())
  except FileNotFoundError:
    raise ValueError(
      f'{path} not found: expected the workdir of a run that has ended'
    ) from None
  except ValueError as error:
    raise ValueError(f'{path}: not JSON: {error}') from None


def main(argv: list[str] | None = None) -> None:
  """Prints what each run's check gave; exits with 1 if one fails."""
  parser = argparse.ArgumentParser(
    prog='python -m jaxspoof.verify',
    description='Check finished runs against their own record.',
  )
  parser.add_argument('workdir', nargs='+', help='folder of a run')
  failed = False
  for workdir in parser.parse_args(argv).workdir:
    try:
      found = verify(workdir)
    except ValueError as error:
      found = [str(error)]
    failed |= bool(found)
    print(f'{workdir}: {"FAILED" if found else "verified"}')
    for line in found:
      print(f'  {line}')
  sys.exit(failed)


if __name__ == '__main__':
  main()
