"""Checkpoints: the only file that knows orbax.

A checkpoint holds the whole state and the position of the data iterator (of a
search: of both), so that a run that was killed goes on bitwise where it would
have been. Saving is asynchronous; at most one save is under way. Kept are the
latest two (to resume) and the one with the lowest error on dev (to evaluate).
"""

import dataclasses
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from orbax.checkpoint import v1 as ocp

from jaxspoof.runs import workdir as workdir_lib
from jaxspoof.training import state as state_lib

_policies = ocp.training.preservation_policies
WEIGHTS = 'weights.npz'
_AGAIN = 'Make room and start the same command again: it goes on from there.'


class CheckpointError(ValueError):
  """A checkpoint could not be written or does not fit."""


class Checkpoints:
  """The sequence of checkpoints of one run.

  Args:
    workdir: folder of the run; checkpoints lie below `checkpoints/`.
  """

  def __init__(self, workdir: str | os.PathLike):
    self.directory = pathlib.Path(workdir).absolute() / 'checkpoints'
    self._orbax = ocp.training.Checkpointer(
      self.directory,
      save_decision_policy=_Always(),
      preservation_policy=_policies.AnyPreservationPolicy(
        [
          _policies.LatestN(2),
          _policies.BestN(
            get_metric_fn=lambda metrics: metrics['dev_error'],
            reverse=True,
            n=1,
            keep_checkpoints_without_metrics=False,
          ),
        ]
      ),
      cleanup_tmp_directories=True,
    )
    self._pending = None

  def latest(self) -> int | None:
    """Step of the newest checkpoint, None where there is none."""
    found = self._orbax.latest
    return None if found is None else found.step

  def best(self) -> tuple[int, float] | None:
    """Step and dev error of the best checkpoint; of equals, the latest."""
    measured = [
      (found.metrics['dev_error'], -found.step)
      for found in self._orbax.checkpoints
      if found.metrics
    ]
    if not measured:
      return None
    dev_error, minus_step = min(measured)
    return -minus_step, dev_error

  def save(self, step: int, state, iterator, dev_error: float | None = None):
    """Starts to save; waits first for the save before it.

    Args:
      step: number of finished steps.
      state: the arrays to keep.
      iterator: data iterator, or several by name.
      dev_error: of the weights at this step; without it the checkpoint is kept
        only while it is one of the latest.

    Raises:
      CheckpointError: the save before it failed, the disk being full say.
    """
    self.wait()
    metrics = None if dev_error is None else {'dev_error': float(dev_error)}
    try:
      self._pending = self._orbax.save_checkpointables_async(
        step, {'state': _fields(state), **_named(iterator)}, metrics=metrics
      )
    except (OSError, ValueError) as error:
      raise self._failed(error) from error

  def wait(self):
    """Returns when the last save is on disk.

    Raises:
      CheckpointError: it failed; names the last checkpoint that is good.
    """
    pending, self._pending = self._pending, None
    if pending is None:
      return
    try:
      pending.result()
    except (OSError, ValueError, RuntimeError) as error:
      raise self._failed(error) from error

  def restore(self, step: int, state, iterator=None):
    """Loads a checkpoint into the placement and shapes of `state`.

    Args:
      step: one of the saved steps.
      state: the state of step 0 of the run, for its shapes and shardings.
      iterator: data iterator, or several by name, to be set to the saved
        position; None to load the state alone.

    Returns:
      The saved state.

    Raises:
      CheckpointError: the checkpoint is of another model.
    """
    wanted = {'state': jax.tree.map(_abstract, _fields(state))}
    if iterator is not None:
      wanted |= _named(iterator)
    try:
      found = self._orbax.load_checkpointables(step, wanted)['state']
      return dataclasses.replace(state, **found)
    except (ValueError, KeyError) as error:
      raise CheckpointError(
        f'{self.directory}: checkpoint {step} does not fit the model of this '
        f'config: {error}'
      ) from error

  def close(self):
    """Waits for the last save and lets go of the folder."""
    self.wait()
    self._orbax.close()

  def _failed(self, error: Exception) -> CheckpointError:
    good = max(
      (int(p.name) for p in self.directory.glob('[0-9]*') if p.name.isdigit()),
      default=None,
    )
    kept = (
      'no checkpoint was finished before'
      if good is None
      else f'the checkpoint of step {good} is good'
    )
    return CheckpointError(
      f'could not save a checkpoint in {self.directory}: {error}; {kept}. '
      + _AGAIN
    )


class _Always:
  """Save when told to: the loop knows the steps."""

  def should_save(self, step, previous_steps, *, context) -> bool:
    del step, previous_steps, context
    return True


def _named(iterator) -> dict[str, Any]:
  """Data iterators by the name of their part of a checkpoint."""
  if not isinstance(iterator, Mapping):
    return {'data': iterator}
  return {f'data_{name}': one for name, one in iterator.items()}


def _fields(state) -> dict[str, Any]:
  """What is kept of a state: a field that is empty where it is not used is not.

  Checkpoints of before there were frozen arrays have no such field.
  """
  found = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
  if not found.get('frozen', True):
    del found['frozen']
  return found


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def save_weights(workdir: str | os.PathLike, params, batch_stats) -> None:
  """Writes `weights.npz`: what a detector needs, readable by numpy alone.

  Raises:
    CheckpointError: the file could not be written.
  """
  workdir = pathlib.Path(workdir)
  arrays = {
    '/'.join(str(getattr(k, 'key', k)) for k in path): np.asarray(leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(
      jax.device_get({'params': params, 'batch_stats': batch_stats})
    )
  }
  partial = workdir / f'{WEIGHTS}.partial'
  try:
    with partial.open('wb') as file:
      np.savez(file, **arrays)
    os.replace(partial, workdir / WEIGHTS)
  except OSError as error:
    partial.unlink(missing_ok=True)
    raise CheckpointError(
      f'could not save the weights in {workdir / WEIGHTS}: {error}. {_AGAIN}'
    ) from error


def load_weights(workdir: str | os.PathLike) -> tuple[dict, Any, Any]:
  """Config and weights of the best checkpoint of a run.

  Returns:
    The run's config as a dictionary, the parameters and the BatchNorm
    statistics as pure dictionaries, as `state.split` gives them.

  Raises:
    CheckpointError: the folder is no run, the run has no weights yet, or a
      file of it is damaged or was copied in part.
  """
  workdir = pathlib.Path(workdir)
  if not (workdir / 'config.json').is_file():
    raise CheckpointError(
      f'{workdir} is not a run: expected the workdir of a run of run.py, '
      'with config.json in it'
    )
  if not (workdir / WEIGHTS).is_file():
    raise CheckpointError(
      f'{workdir} has no {WEIGHTS} yet: it is written after the first '
      'evaluation on the dev split'
    )
  config = workdir_lib.read_json(workdir / 'config.json')
  try:
    with (workdir / WEIGHTS).open('rb') as file, np.load(file) as arrays:
      tree = _unflatten({name: arrays[name] for name in arrays.files})
    params = tree['params']
  # Whatever zip, zlib and numpy raise for half a file.
  except Exception as error:
    raise CheckpointError(
      f'{workdir / WEIGHTS}: damaged or cut, as of a copy that was interrupted '
      f'({type(error).__name__}: {error}); copy it again'
    ) from error
  return config, params, tree.get('batch_stats', {})


def _unflatten(flat: dict[str, np.ndarray]) -> dict:
  tree: dict = {}
  for name, value in flat.items():
    *parents, last = (int(k) if k.isdigit() else k for k in name.split('/'))
    node = tree
    for key in parents:
      node = node.setdefault(key, {})
    node[last] = value
  return tree


def state_hash(state: state_lib.Tree) -> str:
  """SHA-256 of the whole state of a run: equal hashes, equal runs."""
  return state_lib.tree_hash(state)
