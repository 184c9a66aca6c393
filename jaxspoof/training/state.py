"""Training state as a value, and the only place that splits NNX modules.

A model enters a jitted step as `(graphdef, params, batch_stats)`: a static
description and two pure dictionaries of arrays. Inside the step
`nnx.merge` makes a module of them again. Modules never cross a jit boundary.
"""

import hashlib
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
    average: running mean of `params` over the chosen epochs, or `{}` where
      weight averaging is off.
    averaged: int32 scalar, number of weight sets in `average`.
  """

  step: jax.Array
  params: Tree
  batch_stats: Tree
  opt: optax.OptState
  average: Tree
  averaged: jax.Array


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
  """The same module in evaluation mode: no dropout, running statistics."""
  return nnx.view(model, deterministic=True, use_running_average=True)


def create(
  params: Tree,
  batch_stats: Tree,
  tx: optax.GradientTransformation,
  *,
  average: bool = False,
) -> TrainState:
  """State of step 0 with the weights of a freshly initialised module."""
  zeros = jax.tree.map(jnp.zeros_like, params)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    params=params,
    batch_stats=batch_stats,
    opt=tx.init(params),
    average=zeros if average else {},
    averaged=jnp.zeros((), jnp.int32),
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
