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
from orbax.checkpoint import v1 as ocp

from jaxspoof.runs import names
from jaxspoof.runs.names import RunError
from jaxspoof.training import state as state_lib

_policies = ocp.training.preservation_policies
# Devices that hold the same array each write a part of it, where it is large:
# what cuts a small one into parts is a program to compile for each shape.
_PARTS = ocp.options.ArrayOptions.Saving(
  min_slice_bytes_for_replica_parallel=2**22
)
_AGAIN = 'Make room and start the same command again: it goes on from there.'


class CheckpointError(RunError):
  """A checkpoint could not be written or does not fit."""


class Checkpoints:
  """The sequence of checkpoints of one run.

  Args:
    workdir: folder of the run; checkpoints lie below `checkpoints/`.
  """

  def __init__(self, workdir: str | os.PathLike):
    self.directory = pathlib.Path(workdir).absolute() / names.CHECKPOINTS
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
      context=ocp.Context(
        array_options=ocp.options.ArrayOptions(saving=_PARTS)
      ),
    )
    self._pending = None

  def latest(self) -> int | None:
    """Step of the newest checkpoint, None where there is none."""
    found = self._orbax.latest
    return None if found is None else found.step

  def best(self, last: bool = False) -> tuple[int, float] | None:
    """Step and dev error of the best checkpoint; of equals, the latest.

    Args:
      last: whether the latest that has an error is wanted instead.
    """
    # The step counts negatively: among equal errors `min` takes the latest.
    measured = [
      (0 if last else found.metrics['dev_error'], -found.step, found.metrics)
      for found in self._orbax.checkpoints
      if found.metrics
    ]
    if not measured:
      return None
    _, minus_step, metrics = min(measured, key=lambda one: one[:2])
    return -minus_step, metrics['dev_error']

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
    # Orbax starts no second save while one is under way.
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
  """The fields of a state that are saved: all but those that are empty.

  An unused field is left out so that checkpoints of earlier versions, whose
  states had no field of frozen arrays, still fit.
  """
  found = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
  if not found.get('frozen', True):
    del found['frozen']
  return found


def _abstract(leaf: jax.Array) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding)


def state_hash(state: state_lib.Tree) -> str:
  """SHA-256 of the whole state of a run: equal hashes, equal runs."""
  return state_lib.tree_hash(state)
