"""Optimisers: an optax chain made from the `optim` section of a config."""

import dataclasses

import optax


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
  """

  learning_rate: float = 1e-4
  learning_rate_min: float = 5e-6
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  weight_decay: float = 1e-4
  warmup_steps: int = 0
  clip_norm: float = 0.0


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
  parts = [
    optax.add_decayed_weights(config.weight_decay),
    optax.adam(
      schedule(config, steps), b1=config.b1, b2=config.b2, eps=config.eps
    ),
  ]
  if config.clip_norm > 0:
    parts.insert(0, optax.clip_by_global_norm(config.clip_norm))
  return optax.chain(*parts)
