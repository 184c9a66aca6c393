"""The continuous form of an architecture: pure functions of its logits.

An architecture is a dictionary by cell, `{'normal': {'alpha': [E, O], 'beta':
[E]}, 'reduce': ...}`: alpha are the logits of the operations of each edge, beta
those of the edges that enter a node, where the supernet learns them (PC-DARTS,
Xu et al., ICLR 2020). Edges are in the order of `genotype.edges_of`.

Letters: E edges, O operations.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxspoof.darts.spaces import genotype

Arch = dict[str, dict[str, Any]]


def sharpened(arch: Arch, temperature) -> Arch:
  """Logits whose softmax over operations is that of alpha / temperature."""
  return {
    cell: {**logits, 'alpha': logits['alpha'] / temperature}
    for cell, logits in arch.items()
  }


def temperature_at(step, begin: int, end: int, first: float, last: float):
  """Temperature of a step: from `first` to `last` by a constant factor.

  Args:
    step: number of finished steps.
    begin: the step at which the architecture starts to move.
    end: the last step.
    first: temperature up to `begin`.
    last: temperature at `end`.
  """
  done = jnp.clip((step - begin) / max(end - begin, 1), 0, 1)
  return first * (last / first) ** done


def entropy(arch: Arch) -> jax.Array:
  """How undecided the edges are, from 0 to 1.

  It is 1 if all operations of every edge have equal weights, and 0 if each edge
  has chosen one of them: the entropy of the softmax over operations, averaged
  over the edges of both cells, divided by the entropy of equal weights.
  """
  values = []
  for _, logits in sorted(arch.items()):
    log_p_ExO = jax.nn.log_softmax(logits['alpha'])
    highest = np.log(log_p_ExO.shape[-1]).astype(log_p_ExO.dtype)
    values.append(-jnp.sum(jnp.exp(log_p_ExO) * log_p_ExO, -1) / highest)
  return jnp.concatenate(values).mean()


def shares(arch: Arch) -> dict[str, dict[str, np.ndarray]]:
  """Weights of operations and edges, on the host: softmaxes of the logits.

  Returns:
    By cell float64 `alpha` [E, O], whose rows have the sum 1, and `beta` [E],
    where the edges of each node have the sum 1; without beta all are alike.
  """
  found = {}
  for cell, logits in sorted(jax.device_get(arch).items()):
    alpha_ExO = np.asarray(logits['alpha'], np.float64)
    edges = len(alpha_ExO)
    beta_E = np.asarray(logits.get('beta', np.zeros(edges)), np.float64)
    parts = [_softmax(beta_E[own]) for own in _nodes(edges)]
    found[cell] = {'alpha': _softmax(alpha_ExO), 'beta': np.concatenate(parts)}
  return found


def as_lists(arch: Arch) -> dict[str, dict[str, list]]:
  """`shares` as nested lists with four digits, for a line of JSON.

  Cells whose edges have no weights of their own have no `beta`.
  """
  return {
    cell: {name: weights[name].round(4).tolist() for name in sorted(arch[cell])}
    for cell, weights in shares(arch).items()
  }


def leading(
  arch: Arch, operations: tuple[str, ...]
) -> dict[str, list[tuple[int, int, str, float, float]]]:
  """The operation of most weight on each edge.

  Returns:
    By cell rows (node, input, operation, its weight, the weight of the edge),
    in the order of edges.
  """
  rows: dict[str, list] = {}
  for cell, weights in shares(arch).items():
    ends, alpha_ExO = _ends(weights['alpha']), weights['alpha']
    edges = zip(ends, alpha_ExO, weights['beta'].tolist(), strict=True)
    rows[cell] = [
      (node, source, operations[int(w.argmax())], float(w.max()), edge)
      for (source, node), w, edge in edges
    ]
  return rows


def _nodes(edges: int) -> list[slice]:
  """Where the edges of each node lie."""
  targets = [node for _, node in _ends(range(edges))]
  starts = np.flatnonzero(np.diff(targets, prepend=0)).tolist()
  return [
    slice(a, b) for a, b in zip(starts, [*starts[1:], edges], strict=True)
  ]


def _ends(edges) -> list[tuple[int, int]]:
  """(input, node) of each edge of a cell with this number of edges."""
  return genotype.edges_of(genotype.nodes_of(len(edges)))


def _softmax(x: np.ndarray) -> np.ndarray:
  exponent = np.exp(x - x.max(-1, keepdims=True))
  return exponent / exponent.sum(-1, keepdims=True)
