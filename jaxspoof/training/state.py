"""Training state as a value, and the only place that splits NNX modules.

A model enters a jitted step as `(graphdef, params, batch_stats)`: a static
description and two pure dictionaries of arrays. Inside the step
`nnx.merge` makes a module of them again. Modules never cross a jit boundary.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

Tree = Any


@flax.struct.dataclass
class TrainState:
  """Everything a training step reads and returns.

  Attributes:
    step: int32 scalar, number of finished optimiser steps.
    params: pure dictionary of the trained arrays (`nnx.Param`).
    batch_stats: pure dictionary of BatchNorm statistics (`nnx.BatchStat`).
    opt: optax state of `params`.
    average: mean of `params` over the epochs that are averaged so far; `{}` if
      weights are not averaged.
    averaged: int32 scalar, number of epochs in `average`.
    frozen: pure dictionary of the arrays that are not trained, see
      `optim.Group`; `{}` if all are trained.
  """

  step: jax.Array
  params: Tree
  batch_stats: Tree
  opt: optax.OptState
  average: Tree
  averaged: jax.Array
  frozen: Tree = flax.struct.field(default_factory=dict)

  def whole(self, params: Tree | None = None) -> Tree:
    """All parameters of the model: trained and frozen ones together.

    Args:
      params: trained parameters to use in place of the state's own; None uses
        the state's.
    """
    return join(self.params if params is None else params, self.frozen)


def split(model: nnx.Module) -> tuple[nnx.GraphDef, Tree, Tree]:
  """Takes a module apart into graphdef, parameters and statistics."""
  graphdef, params, stats = nnx.split(model, nnx.Param, nnx.BatchStat)
  return graphdef, nnx.to_pure_dict(params), nnx.to_pure_dict(stats)


def merge(graphdef: nnx.GraphDef, params: Tree, batch_stats: Tree):
  """Puts a module in training mode together again."""
  return nnx.merge(graphdef, params, batch_stats)


def batch_stats_of(model: nnx.Module) -> Tree:
  """Statistics of a module after a call, as a pure dictionary."""
  return nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


def eval_view(model: nnx.Module) -> nnx.Module:
  """A view of a module in evaluation mode: no dropout, running statistics."""
  return nnx.view(model, deterministic=True, use_running_average=True)


def divide(
  params: Tree, frozen: Callable[[str], bool], prefix: str = ''
) -> tuple[Tree, Tree]:
  """Divides parameters into those that are trained and those that are frozen.

  Args:
    params: all parameters, as nested dictionaries.
    frozen: says whether the parameter at a path is frozen, such as
      'tdnn/block0/conv/kernel'.
    prefix: what paths begin with, for parameters that are a part of others.

  Returns:
    Two nested dictionaries, trained and frozen parameters.
  """
  parts: tuple[dict, dict] = ({}, {})
  for name, value in params.items():
    path = f'{prefix}{name}'
    if isinstance(value, dict):
      for part, inner in zip(
        parts, divide(value, frozen, f'{path}/'), strict=True
      ):
        if inner:
          part[name] = inner
    else:
      parts[frozen(path)][name] = value
  return parts


def join(params: Tree, frozen: Tree) -> Tree:
  """Puts the two parts together that `divide` made."""
  if not frozen:
    return params
  return {
    name: join(params.get(name, {}), frozen.get(name, {}))
    if isinstance(params.get(name, frozen.get(name)), dict)
    else params.get(name, frozen.get(name))
    for name in sorted({*params, *frozen})
  }


def create(
  params: Tree,
  batch_stats: Tree,
  tx: optax.GradientTransformation,
  *,
  average: bool = False,
  frozen: Callable[[str], bool] = lambda path: False,
) -> TrainState:
  """State of step 0 with the weights of a freshly initialised module.

  Args:
    params: all arrays that could be trained.
    batch_stats: BatchNorm statistics.
    tx: optimiser.
    average: keep a running mean of the weights.
    frozen: whether the parameter of a path is not trained.
  """
  params, rest = divide(params, frozen)
  zeros = jax.tree.map(jnp.zeros_like, params)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=batch_stats,
    opt=tx.init(params),
    average=zeros if average else {},
    averaged=jnp.zeros((), jnp.int32),
    frozen=rest,
  )


def count_parameters(params: Tree) -> int:
  """Number of trained values."""
  return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(params))


def tree_hash(tree: Tree) -> str:
  """SHA-256 over names, dtypes, shapes and bytes of all leaves."""
  digest = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
    array = np.asarray(jax.device_get(leaf))
    name = jax.tree_util.keystr(path)
    digest.update(f'{name} {array.dtype} {array.shape}'.encode())
    digest.update(np.ascontiguousarray(array).tobytes())
  return digest.hexdigest()
