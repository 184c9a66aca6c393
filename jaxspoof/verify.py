"""Checks that a finished run is what its files say.

  python -m jaxspoof.verify WORKDIR ...

The result is computed again from score files and protocols, and config,
weights, scores and protocols, of a run that names attacks its embeddings and
figures too, are compared with the hashes that the run wrote down when it ended.
Nothing is trained and no audio is read.
"""

import argparse
import pathlib
import sys
from collections.abc import Iterator

from jaxspoof.metrics import localisation, summary, table
from jaxspoof.runs import names, record
from jaxspoof.score_files import asv_scores, moments, protocols, score_lists

TOLERANCE = 1e-9  # between platforms; a float32 score moves more than that


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
  metrics = names.read_json(workdir / names.METRICS)
  if 'sha256' not in metrics:
    raise ValueError(f'{workdir / names.METRICS}: lacks the field sha256')
  recorded = {}
  if 'si_snr' not in metrics:  # of a job that scores nothing
    # An evaluation names its score files by split and condition.
    headline = metrics.get('name', metrics['split'])
    recorded = {headline: metrics, **metrics.get('further', {})}
  found = list(_differing_files(workdir, metrics['sha256']))
  for split, old in recorded.items():
    path = names.scores(workdir, split)
    try:
      new = _summary_again(workdir, split, old)
    except (ValueError, OSError) as error:
      found.append(f'{path}: cannot be measured: {error}')
      continue
    found += [
      f'{path}: {line}' for line in _differences(old, _of_then(old, new))
    ]
  for split, old in metrics.get('localisation', {}).items():
    path = names.moments(workdir, split)
    try:
      new = _localised_again(workdir, split, old)
    except (ValueError, OSError) as error:
      found.append(f'{path}: cannot be measured: {error}')
      continue
    found += [f'{path}: {line}' for line in _differences(old, new)]
  return found


def _localised_again(workdir: pathlib.Path, split: str, old: dict) -> dict:
  """The figures over time of a split, of all of its clips."""
  located = localisation.located_in(
    moments.read_scores(names.moments(workdir, split)),
    moments.read_ranges(names.ranges(workdir, split)),
  ).values()
  threshold = old['at_dev_threshold']['threshold']
  return {
    **localisation.figures(list(located)),
    'at_dev_threshold': localisation.at_threshold(list(located), threshold),
  }


def _summary_again(workdir: pathlib.Path, split: str, old: dict) -> dict:
  """The summary of a split from its scores, protocol and ASV scores."""
  protocol = protocols.read(names.protocol(workdir, split))
  trials = score_lists.read(names.scores(workdir, split), protocol)
  asv = names.asv_scores(workdir, split)
  return summary.summarise(
    trials.utterance,
    trials.attack,
    trials.label,
    trials.scores,
    speaker=trials.speaker,
    asv=asv_scores.read(asv) if asv.is_file() else None,
    **{k: old[k] for k in ('split', 'selected_on', 'corpus', 'seed')},
    resamples=old['resamples'],
    expanded='intervals' in old,  # not in records of before
  )


def _of_then(old: dict, new: dict) -> dict:
  """The new summary without the metrics that the table has gained since."""
  later = {name for name in table.METRICS if name not in old}
  later |= {f'{name}_interval' for name in later}
  if later:
    later.add('undefined')
  return {name: value for name, value in new.items() if name not in later}


def _differing_files(workdir, hashes: dict[str, str]) -> Iterator[str]:
  for name, recorded in hashes.items():
    path = workdir / name
    if not path.is_file():
      yield f'{path}: missing'
    elif record.file_hash(path) != recorded:
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
