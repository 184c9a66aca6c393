"""Encoders that a run leaves as they are: read again, not copied.

The encoder of a self-supervised front end has up to two thousand million
values. Where a run freezes it, neither checkpoints nor `weights.npz` hold it:
it is read where the run read it, and known by its hash.
"""

import hashlib
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from flax import nnx

from jaxspoof import frontends
from jaxspoof.runs import names
from jaxspoof.tensors.unpickler import CheckpointError

Tree = Mapping[str, Any]

# Where the encoder is among the parameters of a system.
_FRONTEND, _ENCODER = 'frontend', 'encoder'


# The place of the one encoder of a front end, see `frontends.encoders`.
ALONE = ('',)


def from_files(frontend: Any, frozen: Tree) -> tuple[str, ...]:
  """Which encoders are frozen whole and can be read again.

  Args:
    frontend: config of the front end.
    frozen: parameters that a run does not train.

  Returns:
    Their places, see `frontends.encoders`.
  """
  return tuple(
    place
    for place, part in frontends.encoders(frontend).items()
    if not part.is_random and _is_whole(place, part, frozen)
  )


def missing(frontend: Any, params: Tree) -> tuple[str, ...]:
  """Places of the encoders that parameters leave out."""
  return tuple(
    place
    for place in frontends.encoders(frontend)
    if not _encoder_in(params, place)
  )


def sources(frontend: Any, places: Iterable[str]) -> str:
  """Where the weights of some encoders of a front end come from, in words."""
  parts = frontends.encoders(frontend)
  return ' and '.join(parts[place].weights for place in places)


def is_fixed(frontend: Any, frozen: Tree) -> bool:
  """Whether what encoders make of a clip stays the same in training."""
  parts = frontends.encoders(frontend)
  if any(part.lora for part in parts.values()):
    return False
  return is_whole(frontend, frozen)


def is_whole(frontend: Any, frozen: Tree) -> bool:
  """Whether there are encoders, all of them frozen; arguments as above."""
  parts = frontends.encoders(frontend)
  return bool(parts) and all(
    _is_whole(place, part, frozen) for place, part in parts.items()
  )


def _is_whole(place: str, part: Any, frozen: Tree) -> bool:
  abstract = nnx.eval_shape(lambda: frontends.make(part, rngs=nnx.Rngs(0)))
  wanted = dict(_flat(_params(abstract.encoder)))
  return wanted.keys() == dict(_flat(_encoder_in(frozen, place))).keys()


def fingerprint(params: Tree, places: Iterable[str] = ALONE) -> str:
  """SHA-256 over names and values of encoders among parameters.

  Args:
    params: parameters of a system.
    places: of the encoders.
  """
  digest = hashlib.sha256()
  for place in places:
    encoder = _encoder_in(params, place)
    for name, value in _flat(encoder, f'/{place}' if place else ''):
      array = np.ascontiguousarray(value)
      digest.update(f'{name} {array.dtype} {array.shape}'.encode())
      digest.update(array.reshape(-1).view(np.uint8))
  return digest.hexdigest()


def without(params: Tree, places: Iterable[str] = ALONE) -> dict[str, Any]:
  """All parameters but those of encoders; arguments as above."""
  for place in places:
    params = _without(params, (_FRONTEND, *filter(None, (place,)), _ENCODER))
  return dict(params)


def _without(tree: Tree, path: tuple[str, ...]) -> dict[str, Any]:
  """A tree without what is at a path, nor what then would be empty."""
  name, *inner = path
  rest = {k: v for k, v in tree.items() if k != name}
  left = _without(tree[name], tuple(inner)) if inner else {}
  return {**rest, name: left} if left else rest


def completed(
  workdir: pathlib.Path,
  config: Mapping[str, Any],
  params: Tree,
  kept: Mapping[str, Any] | None = None,
) -> Tree:
  """All parameters of a run, with encoders that it left out.

  Args:
    workdir: of the run.
    config: of the run, as it is kept.
    params: as they were kept.
    kept: what is known of the encoders; None takes what the workdir keeps.

  Raises:
    CheckpointError: an encoder is not where it was, or is another one.
  """
  if kept is None:
    kept = names.json_or_none(workdir / names.FROZEN) or {}
  wanted = kept.get('encoder_sha256')
  if wanted is None:
    return params
  frontend = frontends.resolve(config['frontend'], frontends.SslConfig())
  places = missing(frontend, params)
  if not places:
    return params
  where = (
    f'{workdir}: its frozen encoder is not kept in it, but read from '
    f'{sources(frontend, places)}'
  )
  whole = params
  for place in places:
    part = frontends.encoders(frontend)[place]
    try:
      module = frontends.make(part, rngs=nnx.Rngs(0))
    except (ValueError, OSError) as error:
      raise CheckpointError(f'{where}: {error}') from error
    whole = _with_encoder(whole, place, _params(module.encoder))
  if (found := fingerprint(whole, places)) != wanted:
    raise CheckpointError(
      f'{where}, where there is another one: expected SHA-256 {wanted}, got '
      f'{found}'
    )
  return whole


def _params(module: nnx.Module) -> Tree:
  return nnx.to_pure_dict(nnx.state(module, nnx.Param))


def _encoder_in(params: Tree, place: str) -> Tree:
  inner = params.get(_FRONTEND, {})
  inner = inner.get(place, {}) if place else inner
  return inner.get(_ENCODER, {})


def _with_encoder(params: Tree, place: str, encoder: Tree) -> Tree:
  front = dict(params.get(_FRONTEND, {}))
  if place:
    front[place] = {**front.get(place, {}), _ENCODER: encoder}
  else:
    front[_ENCODER] = encoder
  return {**params, _FRONTEND: front}


def _flat(tree: Tree, prefix: str = ''):
  """Names and arrays, in the order of names."""
  for name in sorted(tree):
    path = f'{prefix}/{name}'
    if isinstance(tree[name], Mapping):
      yield from _flat(tree[name], path)
    else:
      yield path, tree[name]
