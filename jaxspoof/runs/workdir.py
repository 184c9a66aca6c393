"""Whose folder of a run it is, and what it keeps of data and model."""

import contextlib
import fcntl
import json
import os
import pathlib
import shutil
import socket
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxspoof import audio
from jaxspoof.audio import decoders
from jaxspoof.config_changes import differences
from jaxspoof.machine import files
from jaxspoof.runs import names
from jaxspoof.score_files import protocols, scores

DETECTION = ('spoof', 'bonafide')  # classes, in the order of the outputs


def claim(
  workdir: pathlib.Path,
  values: dict[str, Any],
  first: bool,
  settled: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> None:
  """Makes the workdir, or checks that it is of a run with this config.

  A start that was refused, a batch being too large say, has left nothing that
  another config could not go on from. Until `release`, or until this process
  ends in whatever way, no other process can claim the workdir.

  Args:
    workdir: folder of the run.
    values: the config.
    first: whether this process is the one that writes.
    settled: writes a config out in full, also one of an earlier version.

  Raises:
    ValueError: the run has another config, or is running in another process.
  """
  path = workdir / names.CONFIG
  if first:
    workdir.mkdir(parents=True, exist_ok=True)
    _lock(workdir)
  values = json.loads(json.dumps(settled(values)))
  if path.exists() and _begun(workdir):
    old = json.loads(json.dumps(settled(names.read_json(path))))
    if different := differences(old, values):
      raise ValueError(
        f'{workdir} is a run with another config: {"; ".join(different)}. '
        'Choose another --workdir, or remove this one'
      )
  elif first:
    files.write_json(path, values)


# Descriptors of the locks that this process holds, by workdir.
_HELD: dict[pathlib.Path, int] = {}


def _lock(workdir: pathlib.Path) -> None:
  """Holds the lock of a workdir; the system lets go of it with the process."""
  key = workdir.resolve()
  if key in _HELD:
    return
  try:
    descriptor = os.open(key / names.LOCK, os.O_RDWR | os.O_CREAT, 0o666)
  except OSError:  # nobody can write here, and so nobody is in the way
    return
  try:
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
  except BlockingIOError:
    who = os.read(descriptor, 200).decode(errors='replace').strip()
    os.close(descriptor)
    raise ValueError(
      f'{workdir} is in use by {who or "another process"}: wait until that '
      'run has ended, or choose another --workdir'
    ) from None
  except OSError:  # a file system without locks
    os.close(descriptor)
    return
  os.ftruncate(descriptor, 0)
  who = f'process {os.getpid()} on {socket.gethostname()}\n'
  os.write(descriptor, who.encode())
  _HELD[key] = descriptor


def release() -> None:
  """Lets other processes claim the workdirs of this one."""
  while _HELD:
    os.close(_HELD.popitem()[1])


def stopped(workdir: pathlib.Path) -> str:
  """Says where a run was interrupted, and from where it will go on."""
  step = None
  with contextlib.suppress(OSError, ValueError, IndexError, KeyError):
    lines = (workdir / names.PROGRESS).read_text().splitlines()
    step = json.loads(lines[-1])['step']
  saved = [
    int(path.name)
    for path in (workdir / names.CHECKPOINTS).glob('*')
    if path.name.isdigit()
  ]
  if (workdir / names.CELLS).is_dir():
    return f'interrupted; the same command goes on with what {workdir} has'
  said = 'interrupted' if step is None else f'interrupted after step {step}'
  if saved:
    return (
      f'{said}; start the same command again to go on from the checkpoint of '
      f'step {max(saved)} in {workdir}'
    )
  return f'{said}; no checkpoint yet: the same command begins anew'


def _begun(workdir: pathlib.Path) -> bool:
  """Whether there is more than what is written before the first step."""
  before = (names.CONFIG, names.CLASSES, names.LOCK, names.FROZEN)
  return any(p.name not in before for p in workdir.iterdir())


def keep_classes(workdir: pathlib.Path, classes: Sequence[str]) -> None:
  """Writes what the outputs of the run's model stand for, in their order."""
  files.write_json(workdir / names.CLASSES, {'classes': list(classes)})


def load_classes(workdir: pathlib.Path) -> tuple[str, ...]:
  """Names of the outputs of the run's model, in their order.

  Runs of earlier versions have no such file: they tell spoof from bona fide.
  """
  path = workdir / names.CLASSES
  if not path.is_file():
    return DETECTION
  return tuple(names.read_json(path)['classes'])


def keep_frozen(
  workdir: pathlib.Path,
  init: str,
  digest: str,
  first: bool,
  encoder: str | None = None,
) -> None:
  """Writes which weights checkpoints leave out, or checks that they are there.

  Args:
    workdir: folder of the run.
    init: the file, or the run, that gives the weights each time.
    digest: SHA-256 of these weights.
    first: whether this process writes.
    encoder: of these, SHA-256 of an encoder that `weights.npz` leaves out too,
      see `weights.frozen`.

  Raises:
    ValueError: they are others than when the run began.
  """
  path = workdir / names.FROZEN
  known = names.json_or_none(path)
  if known is None:
    if first:
      values = {'init': init, 'sha256': digest}
      if encoder is not None:
        values['encoder_sha256'] = encoder
      files.write_json(path, values)
  elif known['sha256'] != digest:
    raise ValueError(
      f'init={init}: its frozen weights are not those that {workdir} began '
      f'with: expected SHA-256 {known["sha256"]} of {path.name}, got {digest}'
    )


def keep_scores(
  workdir: pathlib.Path, split: str, trials, values, asv_file
) -> None:
  """Writes the scores of a split, and all that their metrics need besides.

  Args:
    workdir: folder of the run.
    split: its name.
    trials: `pipeline.Trials`.
    values: float [N], scores in the order of the trials.
    asv_file: verification scores of the split; None where there are none.
  """
  who, attack, label = trials.utterance, trials.attack, trials.label
  scores.write(names.scores(workdir, split), who, attack, label, values)
  protocols.write(
    names.protocol(workdir, split), who, trials.speaker, attack, label
  )
  if asv_file is not None:
    copy = names.asv_scores(workdir, split)
    copy.parent.mkdir(exist_ok=True)
    shutil.copyfile(asv_file, copy)


def keep_examples(workdir: pathlib.Path, source, trials) -> None:
  """Copies one clip of each class of a split, to try a detector on."""
  for label, name in enumerate(('spoof', 'bonafide')):
    found = np.flatnonzero(trials.label == label)
    if len(found):
      record = source[int(found[0])]
      # An utterance may be named by its path, and have a suffix or none.
      utterance = pathlib.PurePath(trials.utterance[found[0]]).name
      clip = f'{name}_{utterance}'
      if not clip.lower().endswith(audio.EXTENSIONS):
        clip += decoders.suffix(record['audio'])
      path = workdir / names.EXAMPLES / clip
      path.parent.mkdir(parents=True, exist_ok=True)
      path.write_bytes(record['audio'])
