"""Encoders that a run leaves as they are: read again, not copied.

The encoder of a self-supervised front end has up to two thousand million
values. Where a run freezes it, neither checkpoints nor `weights.npz` hold it:
it is read where the run read it, and known by its hash.
"""

import hashlib
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from flax import nnx

from jaxspoof import frontends
from jaxspoof.runs import names
from jaxspoof.tensors.unpickler import CheckpointError

Tree = Mapping[str, Any]

# Where the encoder is among the parameters of a system.
_FRONTEND, _ENCODER = 'frontend', 'encoder'


def is_from_file(frontend: Any, frozen: Tree) -> bool:
  """Whether a whole encoder is frozen that can be read again.

  Args:
    frontend: config of the front end.
    frozen: parameters that a run does not train.
  """
  if not isinstance(frontend, frontends.StatesConfig) or frontend.is_random:
    return False
  return is_whole(frontend, frozen)


def is_fixed(frontend: Any, frozen: Tree) -> bool:
  """Whether what an encoder makes of a clip stays the same in training."""
  if not isinstance(frontend, frontends.StatesConfig) or frontend.lora:
    return False
  return is_whole(frontend, frozen)


def is_whole(frontend: Any, frozen: Tree) -> bool:
  """Whether all of an encoder is frozen; arguments as above."""
  abstract = nnx.eval_shape(lambda: frontends.make(frontend, rngs=nnx.Rngs(0)))
  wanted = dict(_flat(_params(abstract.encoder)))
  return wanted.keys() == dict(_flat(_encoder_in(frozen))).keys()


def fingerprint(params: Tree) -> str:
  """SHA-256 over names and values of the encoder among parameters."""
  digest = hashlib.sha256()
  for name, value in _flat(_encoder_in(params)):
    array = np.ascontiguousarray(value)
    digest.update(f'{name} {array.dtype} {array.shape}'.encode())
    digest.update(array.reshape(-1).view(np.uint8))
  return digest.hexdigest()


def without(params: Tree) -> dict[str, Any]:
  """All parameters but those of the encoder."""
  inner = {k: v for k, v in params[_FRONTEND].items() if k != _ENCODER}
  rest = {k: v for k, v in params.items() if k != _FRONTEND}
  return {**rest, _FRONTEND: inner} if inner else rest


def completed(
  workdir: pathlib.Path,
  config: Mapping[str, Any],
  params: Tree,
  kept: Mapping[str, Any] | None = None,
) -> Tree:
  """All parameters of a run, with an encoder that it left out.

  Args:
    workdir: of the run.
    config: of the run, as it is kept.
    params: as they were kept.
    kept: what is known of the encoder; None takes what the workdir keeps.

  Raises:
    CheckpointError: the encoder is not where it was, or is another one.
  """
  if kept is None:
    kept = names.json_or_none(workdir / names.FROZEN) or {}
  wanted = kept.get('encoder_sha256')
  if wanted is None or _encoder_in(params):
    return params
  frontend = frontends.resolve(config['frontend'], frontends.SslConfig())
  where = (
    f'{workdir}: its frozen encoder is not kept in it, but read from '
    f'{frontend.weights}'
  )
  try:
    module = frontends.make(frontend, rngs=nnx.Rngs(0))
  except (ValueError, OSError) as error:
    raise CheckpointError(f'{where}: {error}') from error
  inner = {**params.get(_FRONTEND, {}), _ENCODER: _params(module.encoder)}
  whole = {**params, _FRONTEND: inner}
  if (found := fingerprint(whole)) != wanted:
    raise CheckpointError(
      f'{where}, where there is another one: expected SHA-256 {wanted}, got '
      f'{found}'
    )
  return whole


def _params(module: nnx.Module) -> Tree:
  return nnx.to_pure_dict(nnx.state(module, nnx.Param))


def _encoder_in(params: Tree) -> Tree:
  return params.get(_FRONTEND, {}).get(_ENCODER, {})


def _flat(tree: Tree, prefix: str = ''):
  """Names and arrays, in the order of names."""
  for name in sorted(tree):
    path = f'{prefix}/{name}'
    if isinstance(tree[name], Mapping):
      yield from _flat(tree[name], path)
    else:
      yield path, tree[name]
