"""Optimisers: an optax chain made from the `optim` section of a config.

`optim.groups` gives some parameters settings of their own, such as another
learning rate, or none at all. A group is chosen by a regular expression on the
path of a parameter: the name that it has in `weights.npz`, such as
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
    pattern: regular expression that has to match the whole path of a parameter.
    learning_rate_factor: factor on the learning rate of the run, above 0.
    weight_decay: L2 coefficient in place of that of the run; None keeps it.
    frozen: if True the parameters stay as they are: no gradient of them is
      computed and no optimiser state is kept. Running statistics of
      normalisation are no parameters and are still updated.
  """

  pattern: str
  learning_rate_factor: float = 1.0
  weight_decay: float | None = None
  frozen: bool = False


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  """Adam with L2 regularisation on a cosine schedule, as AASIST is trained.

  Attributes:
    learning_rate: the largest learning rate, at step 0 or after the warm-up.
    learning_rate_min: the learning rate that the last step approaches.
    b1: decay of Adam's first moment.
    b2: decay of Adam's second moment.
    eps: added to the root of the second moment.
    weight_decay: L2 coefficient: that many times the parameter is added to its
      gradient before Adam sees it, as torch's `Adam(weight_decay=...)` does.
      AdamW, which does not scale this term, is something else.
    warmup_steps: number of steps in which the learning rate rises linearly from
      0; the authors of AASIST have none.
    clip_norm: largest norm of the whole gradient; longer ones are scaled down.
      0 switches clipping off.
    groups: pairs of a pattern and a dictionary with the other fields of a
      `Group`. A parameter belongs to the first group whose pattern it matches.
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
    """Raises ValueError if a group cannot be read."""
    for i, _ in enumerate(self.groups):
      self.group(i)

  def group(self, index: int) -> Group:
    """Reads one of `groups`.

    Raises:
      ValueError: it is no pair of a regular expression and fields of `Group`,
        or its learning-rate factor is not above 0.
    """
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
    """Index of the group that a parameter belongs to; None if it is in none."""
    for i, (pattern, _) in enumerate(self.groups):
      if re.fullmatch(pattern, path):
        return i
    return None

  def frozen(self, path: str) -> bool:
    """Whether the parameter with this path is left untrained."""
    found = self.group_of(path)
    return found is not None and self.group(found).frozen


def schedule(config: OptimConfig, steps: int) -> optax.Schedule:
  """The learning rate as a function of the step, for a run of `steps` steps.

  Without warm-up it is
  `min + (max - min) * (1 + cos(pi * step / steps)) / 2`, which changes every
  step and not once per epoch.

  Raises:
    ValueError: the warm-up is as long as the run, or longer.
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
  """Makes the optimiser for a run of `steps` steps."""
  parts = _adam(config, steps, Group(''))
  # Parameters without a group get the settings of the run, as a last group.
  if config.groups:
    groups = [config.group(i) for i, _ in enumerate(config.groups)]
    rules = {
      i: optax.chain(*_adam(config, steps, group))
      for i, group in enumerate([*groups, Group('')])
    }
    parts = [optax.partition(rules, lambda tree: _labels(config, tree))]
  # Before the groups are told apart: it is the norm of the whole gradient.
  if config.clip_norm > 0:
    parts.insert(0, optax.clip_by_global_norm(config.clip_norm))
  return optax.chain(*parts)


def check_groups(config: OptimConfig, params: Tree) -> None:
  """Raises ValueError for a group without parameters, or if all are frozen.

  A pattern that matches nothing is mostly a misspelt one; going on would train
  something else than what was asked for.

  Args:
    config: whose `groups` are checked.
    params: all parameters of the model, as a pure dictionary.
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
  # The decay goes through Adam, as in torch's Adam; AdamW would add it behind.
  return [
    optax.add_decayed_weights(config.weight_decay if decay is None else decay),
    optax.adam(rate, b1=config.b1, b2=config.b2, eps=config.eps),
  ]


def _labels(config: OptimConfig, params: Tree) -> Tree:
  """The index of each parameter's group; `len(groups)` if it is in none."""
  found = [config.group_of(path) for path, _ in _flat(params)]
  labels = [len(config.groups) if i is None else i for i in found]
  return jax.tree.unflatten(jax.tree.structure(params), labels)


def _flat(params: Tree) -> list[tuple[str, jax.Array]]:
  return [
    (jax.tree_util.keystr(path, simple=True, separator='/'), leaf)
    for path, leaf in jax.tree_util.tree_leaves_with_path(params)
  ]
