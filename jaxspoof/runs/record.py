"""The record of a finished run: hashes of its files, in `metrics.json`.

`python -m jaxspoof.verify` compares them.
"""

import hashlib
import pathlib
from collections.abc import Iterable

from jaxspoof.machine import files
from jaxspoof.runs import names

HASHED = (names.CONFIG, names.WEIGHTS)


def fingerprint(
  workdir: pathlib.Path,
  score_files: Iterable[str],
  hashed: Iterable[str] = HASHED,
) -> dict[str, str]:
  """Hashes of what a result follows from.

  Args:
    workdir: folder of a run that has written everything but its metrics.
    score_files: names of its score files.
    hashed: other files of the run.

  Returns:
    SHA-256 in hexadecimal of these other files and of each split's scores,
    protocol and verification scores, by the path of the file below the
    workdir.
  """
  paths = [workdir / name for name in hashed]
  for name in score_files:
    paths += [names.scores(workdir, name), names.protocol(workdir, name)]
    asv = names.asv_scores(workdir, name)
    paths += [asv] if asv.is_file() else []
  return {
    path.relative_to(workdir).as_posix(): file_hash(path) for path in paths
  }


def add(workdir: pathlib.Path, added: Iterable[str]) -> None:
  """Adds files of a job that goes on after the training to the record.

  Args:
    workdir: folder of a run that has written its metrics.
    added: paths of the files below it.
  """
  metrics = names.read_json(workdir / names.METRICS)
  metrics['sha256'] |= {name: file_hash(workdir / name) for name in added}
  files.write_json(workdir / names.METRICS, metrics)


def file_hash(path: pathlib.Path) -> str:
  """SHA-256 of a file, in hexadecimal."""
  with path.open('rb') as file:
    return hashlib.file_digest(file, 'sha256').hexdigest()
