"""What the benchmarks of models share: timing in turns, and the table."""

import statistics
import time

import jax

from jaxspoof.machine import huge_pages
from jaxspoof.training import cost


def measure(runs: dict, rounds: int) -> dict[str, list[float]]:
  """Seconds of each run in each round, steady state.

  Each turn calls twice and times the second: what ran before the first has
  emptied the caches and, on a virtual machine, has made the host take back
  memory that nobody used meanwhile.
  """
  seconds = {name: [] for name in runs}
  for _ in range(rounds):
    for name, call in runs.items():
      call()
      begin = time.perf_counter()
      call()
      seconds[name].append(time.perf_counter() - begin)
  return seconds


def heading(what: str, macs: int, rounds: int, torch_too: bool) -> str:
  """What is measured, on what, and the head of the table."""
  device = jax.devices()[0].device_kind
  lines = [
    f'{what}, {macs / 1e9:.2f} GMAC forward, {rounds} rounds, {device}, '
    f'jax {cost.versions()["jax"]}, huge pages '
    f'{"asked for" if huge_pages.asked() else "not asked for"}'
  ]
  if torch_too:
    import torch

    lines.append(
      f'PyTorch {torch.__version__}, {torch.get_num_threads()} threads'
    )
  lines.append(
    f'\n{"work":14} {"batch":>5}  {"what":22} {"min ms":>9} {"median":>9} '
    f'{"clips/s":>8} {"GMAC/s":>7} {"ratio":>6}'
  )
  return '\n'.join(lines)


def report(
  kind: str, batch: int, macs: int, seconds: dict, original: str
) -> None:
  """One line for each run; ratio: the original's fastest over this one's.

  Without the original it is empty.
  """
  macs *= batch * (1 if kind == 'forward' else 3)
  base = min(seconds[original]) if original in seconds else None
  for name, values in seconds.items():
    best = min(values)
    ratio = '' if base is None else f'{base / best:.2f}'
    print(
      f'{kind:14} {batch:>5}  {name:22} {1e3 * best:9.1f} '
      f'{1e3 * statistics.median(values):9.1f} {batch / best:8.2f} '
      f'{macs / best / 1e9:7.1f} {ratio:>6}',
      flush=True,
    )
