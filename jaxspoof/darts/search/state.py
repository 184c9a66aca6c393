"""State of a search as a value; `training.state` for two levels."""

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from flax import nnx

from jaxspoof.darts.network.supernet import Arch
from jaxspoof.training.state import Tree


@flax.struct.dataclass
class SearchState:
  """Everything a search step reads and returns.

  Attributes:
    step: int32 scalar, number of finished steps.
    weights: pure dictionary of the supernet's trained arrays (`nnx.Param`).
    arch: pure dictionary of the logits of operations and edges (`Arch`).
    batch_stats: pure dictionary of BatchNorm statistics.
    w_opt: optax state of `weights`.
    a_opt: optax state of `arch`.
  """

  step: jax.Array
  weights: Tree
  arch: Tree
  batch_stats: Tree
  w_opt: optax.OptState
  a_opt: optax.OptState


def split(model: nnx.Module) -> tuple[nnx.GraphDef, Tree, Tree, Tree]:
  """Takes a supernet apart: graphdef, weights, architecture, statistics."""
  graphdef, *parts = nnx.split(model, nnx.Param, Arch, nnx.BatchStat)
  return graphdef, *map(nnx.to_pure_dict, parts)


def merge(graphdef: nnx.GraphDef, weights: Tree, arch: Tree, batch_stats: Tree):
  """Puts a supernet in training mode together again."""
  return nnx.merge(graphdef, weights, arch, batch_stats)


def create(
  weights: Tree,
  arch: Tree,
  batch_stats: Tree,
  *,
  w_tx: optax.GradientTransformation,
  a_tx: optax.GradientTransformation,
) -> SearchState:
  """State of step 0 with the weights of a freshly initialised supernet."""
  return SearchState(
    step=jnp.zeros((), jnp.int32),
    weights=weights,
    arch=arch,
    batch_stats=batch_stats,
    w_opt=w_tx.init(weights),
    a_opt=a_tx.init(arch),
  )


def make(model: nnx.Module, shardings: Any, **tx) -> tuple:
  """Static description of a supernet, and its state of step 0, placed."""
  graphdef, *parts = split(model)
  create_on = jax.jit(
    lambda *parts: create(*parts, **tx), out_shardings=shardings.replicated
  )
  return graphdef, create_on(*jax.device_get(parts))
