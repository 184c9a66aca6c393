"""The CPU cores that a process may use, where the system tells them apart."""

import os


def own() -> list[int]:
  """Numbers of the cores that this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return sorted(os.sched_getaffinity(0))
  return list(range(os.cpu_count() or 1))


def keep_to(cores: list[int]) -> None:
  """Restricts this process to some cores, where the system can."""
  if hasattr(os, 'sched_setaffinity'):
    os.sched_setaffinity(0, cores)
