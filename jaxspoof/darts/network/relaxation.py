"""From architecture parameters to weights of edges and operations.

Letters in names: E edges, in the order of `genotype.edges_of`, O operations.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxspoof.darts.network.cell import Edge, Mix
from jaxspoof.darts.spaces import Space
from jaxspoof.darts.spaces import genotype as genotype_lib
from jaxspoof.darts.spaces.genotype import KEPT


def operation_weights(
  alpha_ExO: jax.Array,
  temperature: float | jax.Array = 1.0,
  noise_ExO: jax.Array | None = None,
) -> jax.Array:
  """Softmax over the operations of each edge (arXiv 1806.09055, equation 2).

  Args:
    alpha_ExO: architecture parameters.
    temperature: below 1 sharpens, above 1 flattens.
    noise_ExO: Gumbel noise, which makes the softmax a sample (Jang et al.
      2017, arXiv 1611.01144).

  Returns:
    `[E, O]`, each row sums to 1.
  """
  logits_ExO = alpha_ExO if noise_ExO is None else alpha_ExO + noise_ExO
  return jax.nn.softmax(logits_ExO / temperature, axis=-1)


def edge_weights(beta_E: jax.Array, nodes: int) -> jax.Array:
  """Edge normalisation (Xu et al. 2020, arXiv 1907.05737, equation 3), times 2.

  Each node's weights sum to the number of edges that it will keep, where those
  of the paper sum to 1: a supernet whose architecture has become discrete is
  then equal to the derived network, in which both kept edges have weight 1.
  """
  return KEPT * jnp.exp(log_edge_weights(beta_E, nodes))


def log_edge_weights(beta_E: jax.Array, nodes: int) -> jax.Array:
  """Logarithm of the softmax over the edges of each node, [E]."""
  node_E = np.array([target - 2 for _, target in genotype_lib.edges_of(nodes)])
  logits = jnp.where(
    jnp.asarray(node_E[None] == np.arange(nodes)[:, None]),
    beta_E[None],
    -jnp.inf,
  )
  return jax.nn.log_softmax(logits, axis=1)[node_E, np.arange(len(node_E))]


def all_edges(space: Space, nodes: int) -> tuple[Edge, ...]:
  """The edges of a supernet's cell: every operation that can be chosen."""
  return tuple(
    Edge(source, target, operation)
    for source, target in genotype_lib.edges_of(nodes)
    for operation in space.choices
  )


def mix(
  space: Space,
  nodes: int,
  operation_ExO: jax.Array,
  edge_E: jax.Array | None,
) -> Mix:
  """Weights in the form that a cell takes.

  Args:
    space: the search space.
    nodes: intermediate nodes of the cell.
    operation_ExO: from `operation_weights`.
    edge_E: from `edge_weights`; None for 1.

  Returns:
    The weights of the operations, those of their edges multiplied in, and
    the weights of the edges.
  """
  order = genotype_lib.edges_of(nodes)
  by_source = np.array(sorted(range(len(order)), key=lambda i: order[i]))
  if edge_E is None:
    edge_E = jnp.ones((len(order),), operation_ExO.dtype)
  weight_ExO = (operation_ExO * edge_E[:, None])[by_source]
  return Mix(
    {
      name: weight_ExO[:, column]
      for column, name in enumerate(space.operations)
      if name != 'none'
    },
    {edge: edge_E[i] for i, edge in enumerate(order)},
  )
