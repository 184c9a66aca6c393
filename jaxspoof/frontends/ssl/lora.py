"""Low-rank adaptation (LoRA) of the layers of an encoder.

Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models", arXiv
2106.09685: to a kernel W of a frozen encoder the product of two thin matrices
is added, and these are trained.

Letters in names: L layers, I inputs, O outputs, R rank.
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
from flax import nnx

from jaxspoof.blocks import layers

TARGETS = ('query', 'key', 'value', 'out', 'feed1', 'feed2')


@dataclasses.dataclass(frozen=True)
class LoraConfig:
  """What is adapted, and how.

  Attributes:
    rank: of what is added to a kernel.
    alpha: what is added is multiplied by alpha / rank; None: by 1.
    targets: kernels of every layer that are adapted, of `TARGETS`.
  """

  rank: int = 8
  alpha: float | None = None
  targets: tuple[str, ...] = ('query', 'value')

  def __post_init__(self):
    """Turns a list into a tuple; raises ValueError for invalid values."""
    object.__setattr__(self, 'targets', tuple(self.targets))
    if self.rank < 1:
      raise ValueError(f'lora: rank={self.rank}: needs at least 1')
    if self.alpha is not None and not self.alpha > 0:
      raise ValueError(f'lora: alpha={self.alpha}: needs a value above 0')
    if not self.targets or not set(self.targets) <= set(TARGETS):
      raise ValueError(
        f'lora: targets={self.targets}: needs some of {", ".join(TARGETS)}'
      )

  @property
  def scale(self) -> float:
    """The factor on what is added."""
    return 1.0 if self.alpha is None else self.alpha / self.rank


class Lora(nnx.Module):
  """The thin matrices of all layers and targets; what they add is 0 at first.

  Each target has `a`, `[L, I, R]`, and `b`, `[L, R, O]`: W + scale a b.
  """

  def __init__(self, config: LoraConfig, architecture: Any, rngs: nnx.Rngs):
    """Draws `a` as PEFT does.

    Args:
      config: what is adapted.
      architecture: of the encoder; has `layers`, `width` and `inner`.
      rngs: random streams; `a` is drawn from `params`.
    """
    self.config = config
    width, inner = architecture.width, architecture.inner
    for name in config.targets:
      inputs = inner if name == 'feed2' else width
      outputs = inner if name == 'feed1' else width
      setattr(
        self, name, Pair(architecture.layers, inputs, outputs, config, rngs)
      )

  def weights(self) -> dict[str, dict[str, Any]]:
    """For each target `lora_a` and `lora_b`, the latter scaled."""
    found = {}
    for name in self.config.targets:
      pair = getattr(self, name)
      scaled = self.config.scale * pair.b[...]
      found[name] = {'lora_a': pair.a[...], 'lora_b': scaled}
    return found


class Pair(nnx.Module):
  """The two thin matrices of a target, stacked over layers."""

  def __init__(self, count, inputs, outputs, config, rngs):
    """Draws `a`; `b` is 0."""
    draw, rank = layers.uniform_of_fan_in(inputs), config.rank
    shape = (count, inputs, rank)
    self.a = nnx.Param(draw(rngs.params(), shape, jnp.dtype('float32')))
    self.b = nnx.Param(jnp.zeros((count, rank, outputs), jnp.float32))
