"""Optimisers: an optax chain made from the `optim` section of a config.

Parameters that match a pattern of `optim.groups` are a group with settings of
its own. The path of a parameter is what `weights.npz` calls it, such as
`tdnn/block0/conv/kernel`.
"""

import dataclasses
import re
from typing import Any

import jax
import optax

Tree = Any


@dataclasses.dataclass(frozen=True)
class Group:
  """Parameters with settings of their own.

  Attributes:
    pattern: regular expression of which the whole path is a match.
    learning_rate_factor: by which the learning rate is multiplied.
    weight_decay: instead of that of the run; None: the same.
    frozen: leave them as they are: no gradient is computed and no optimiser
      state kept. Statistics of normalisation are no parameters and move on.
  """

  pattern: str
  learning_rate_factor: float = 1.0
  weight_decay: float | None = None
  frozen: bool = False


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  """Adam with coupled weight decay on a cosine schedule, as AASIST's.

  Attributes:
    learning_rate: at step 0, or after the warm-up.
    learning_rate_min: at the last step.
    b1: decay of the first moment.
    b2: decay of the second moment.
    eps: added to the root of the second moment.
    weight_decay: L2 coefficient, added to the gradient before Adam sees it
      (torch's `Adam(weight_decay=...)`, not AdamW).
    warmup_steps: steps of a linear rise from 0; the original has none.
    clip_norm: largest global norm of the gradient, 0 for no clipping.
    groups: pairs of a pattern and a dictionary of the other fields of a
      `Group`; a parameter is of the first whose pattern it matches.
  """

  learning_rate: float = 1e-4
  learning_rate_min: float = 5e-6
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  weight_decay: float = 1e-4
  warmup_steps: int = 0
  clip_norm: float = 0.0
  groups: tuple = ()

  def __post_init__(self):
    """Refuses groups that cannot be."""
    for i, _ in enumerate(self.groups):
      self.group(i)

  def group(self, index: int) -> Group:
    """One of the groups; raises ValueError for one that cannot be."""
    where, pair = f'optim.groups[{index}]', self.groups[index]
    try:
      pattern, settings = pair
      found = Group(pattern, **settings)
      re.compile(pattern)
    except (TypeError, ValueError, re.error) as error:
      known = [field.name for field in dataclasses.fields(Group)][1:]
      raise ValueError(
        f'{where}={pair!r}: expected a regular expression and a dictionary of '
        f'{", ".join(known)} ({error})'
      ) from error
    if not found.learning_rate_factor > 0:
      raise ValueError(
        f'{where}={pair!r}: expected a learning_rate_factor above 0; use '
        "{'frozen': True} for parameters that stay as they are"
      )
    return found

  def group_of(self, path: str) -> int | None:
    """Index of the group that a parameter is of; None for no group."""
    for i, (pattern, _) in enumerate(self.groups):
      if re.fullmatch(pattern, path):
        return i
    return None

  def frozen(self, path: str) -> bool:
    """Whether the parameter of this path is not trained."""
    found = self.group_of(path)
    return found is not None and self.group(found).frozen


def schedule(config: OptimConfig, steps: int) -> optax.Schedule:
  """Learning rate for each of `steps` steps, changed every step.

  Without warm-up: min + (max - min) * (1 + cos(pi * step / steps)) / 2.
  """
  if not 0 <= config.warmup_steps < steps:
    raise ValueError(
      f'optim.warmup_steps={config.warmup_steps} must be at least 0 and '
      f'below the {steps} steps of the run'
    )
  cosine = optax.cosine_decay_schedule(
    config.learning_rate,
    steps - config.warmup_steps,
    config.learning_rate_min / config.learning_rate,
  )
  if not config.warmup_steps:
    return cosine
  rise = optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps)
  return optax.join_schedules([rise, cosine], [config.warmup_steps])


def make(config: OptimConfig, steps: int) -> optax.GradientTransformation:
  """The update rule for a run of `steps` steps."""
  parts = _adam(config, steps, Group(''))
  if config.groups:
    groups = [config.group(i) for i, _ in enumerate(config.groups)]
    rules = {
      i: optax.chain(*_adam(config, steps, group))
      for i, group in enumerate([*groups, Group('')])
    }
    parts = [optax.partition(rules, lambda tree: _labels(config, tree))]
  if config.clip_norm > 0:
    parts.insert(0, optax.clip_by_global_norm(config.clip_norm))
  return optax.chain(*parts)


def check_groups(config: OptimConfig, params: Tree) -> None:
  """Raises ValueError for a group without parameters, or nothing to train.

  Args:
    config: with the groups.
    params: all parameters of the model.
  """
  paths = [path for path, _ in _flat(params)]
  met = {config.group_of(path) for path in paths}
  for i, (pattern, _) in enumerate(config.groups):
    if i not in met:
      taken = any(re.fullmatch(pattern, path) for path in paths)
      why = 'only what groups before it match' if taken else 'no parameter'
      raise ValueError(
        f'optim.groups[{i}]: {pattern!r} matches {why}; there are '
        f'{", ".join(sorted({path.split("/")[0] + "/.*" for path in paths}))}'
      )
  if all(map(config.frozen, paths)):
    raise ValueError('optim.groups freezes every parameter: nothing to train')


def _adam(config: OptimConfig, steps: int, group: Group) -> list:
  rate = schedule(config, steps)
  if group.learning_rate_factor != 1:
    plain = rate

    def rate(step):
      return group.learning_rate_factor * plain(step)

  decay = group.weight_decay
  return [
    optax.add_decayed_weights(config.weight_decay if decay is None else decay),
    optax.adam(rate, b1=config.b1, b2=config.b2, eps=config.eps),
  ]


def _labels(config: OptimConfig, params: Tree) -> Tree:
  """The group of each parameter; one more than the last for no group."""
  found = [config.group_of(path) for path, _ in _flat(params)]
  labels = [len(config.groups) if i is None else i for i in found]
  return jax.tree.unflatten(jax.tree.structure(params), labels)


def _flat(params: Tree) -> list[tuple[str, jax.Array]]:
  return [
    (jax.tree_util.keystr(path, simple=True, separator='/'), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  ]
