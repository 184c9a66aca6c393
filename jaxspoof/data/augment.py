"""Augmentations of training clips, by name.

One more is a function `(wave, rng, config) -> wave` and a frozen dataclass: an
entry in `AUGMENTATIONS` and `CONFIGS` here, and a field of that name in
`config.DataConfig`. Functions take a whole clip (float32 [n] at 16 kHz) and
may change its length; numpy and scipy only, because worker processes call
them, and all chance comes from `rng`.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxspoof.data import rawboost
from jaxspoof.data.conditions import training

AUGMENTATIONS = {
  'conditions': training.random_condition,
  'rawboost': rawboost.rawboost,
}
CONFIGS = {
  'conditions': training.ConditionsConfig,
  'rawboost': rawboost.RawBoostConfig,
}

Transform = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def split(names: str) -> tuple[str, ...]:
  """Names of augmentations: 'none' is no name, 'a+b' is a and then b."""
  return () if names == 'none' else tuple(names.split('+'))


def transforms(config: Any) -> tuple[Transform, ...]:
  """The augmentations that a config asks for, in order.

  Args:
    config: has `augment`, names as for `split`, and for each of them a field of
      that name with its own config; a `config.DataConfig`.

  Returns:
    `(wave, rng) -> wave` functions that can be pickled, for
    `pipeline.train_batches`.

  Raises:
    ValueError: a condition that means nothing, or whose recordings or library
      are not on this machine.
  """
  if 'conditions' in split(config.augment):
    training.made(config.conditions)
  return tuple(
    functools.partial(AUGMENTATIONS[name], config=getattr(config, name))
    for name in split(config.augment)
  )
