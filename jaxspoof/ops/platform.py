"""The choice between the two forms of a kernel: for CPUs, and for the others.

XLA on CPU lacks fast paths that its GPU and TPU compilers have, and the other
way round, so several operations of this project are written in two forms that
compute the same. The choice is made when a program is lowered for a platform,
not when it is traced: one traced program can be lowered for any.
"""

import contextlib
from collections.abc import Callable, Iterator

import jax

_accelerator_form = False


def choose(*args, cpu: Callable, default: Callable):
  """Calls `cpu(*args)` in a program for a CPU, `default(*args)` in any other.

  Both must return arrays of the same shapes and dtypes.
  """
  if _accelerator_form:
    return default(*args)
  return jax.lax.platform_dependent(*args, cpu=cpu, default=default)


@contextlib.contextmanager
def accelerator_form() -> Iterator[None]:
  """Traces what is inside in the form for accelerators, on any platform.

  So a machine without a GPU can check what a GPU would compute. Programs that
  were traced before keep their form.
  """
  global _accelerator_form
  before, _accelerator_form = _accelerator_form, True
  try:
    yield
  finally:
    _accelerator_form = before
