"""What a builder says of input it cannot use."""

import itertools
from collections.abc import Iterator

SHOWN = 10


class BuildError(ValueError):
  """A corpus cannot be built; the message says what to do."""


class Problems:
  """Collects what is wrong with a file, to report it all at once.

  Args:
    of: the file or archive, as messages name it.
  """

  def __init__(self, of: object):
    self._of = of
    self._found: list[tuple[int, str]] = []

  def add(self, problem: str, at: int = 0) -> None:
    """Notes one problem, such as 'line 3: ...'.

    Args:
      problem: what is wrong, in words.
      at: place of the problem in the order in which they are told.
    """
    self._found.append((at, problem))

  def __len__(self) -> int:
    return len(self._found)

  def __iter__(self) -> Iterator[str]:
    found = sorted(self._found, key=lambda item: item[0])
    return iter([problem for _, problem in found])

  def raise_if_any(self) -> None:
    """Raises BuildError with the first ten problems and their number."""
    if not self._found:
      return
    count = len(self._found)
    lines = [f'{self._of}: {count} problem{"s" * (count > 1)}']
    lines += [f'  {problem}' for problem in itertools.islice(self, SHOWN)]
    if count > SHOWN:
      lines.append(f'  ... and {count - SHOWN} more')
    raise BuildError('\n'.join(lines))
