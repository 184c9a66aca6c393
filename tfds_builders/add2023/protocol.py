"""The lists of clips of ADD 2023, `label.txt` beside a folder `wav`.

Two columns, separated by blanks, no header:

  ADD2023_T1.2R2_E_00000003.wav genuine
  ADD2023_T3_E_00000008.wav 7

the file, and its label: genuine or fake (track 1.2), the number of the
algorithm (track 3). Nothing is said of speakers.
"""

import dataclasses
import re
from collections.abc import Mapping

from tfds_builders.errors import Problems

_FILE = r'[\w.-]+\.wav'


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
  """One clip; `attack` is '-' for bona fide speech."""

  file: str
  attack: str

  @property
  def utterance(self) -> str:
    """The file without its suffix."""
    return self.file.removesuffix('.wav')


def parse(data: bytes, attacks: Mapping[str, str], name: str) -> list[Line]:
  """Reads a list.

  Args:
    data: the file.
    attacks: what each label means.
    name: what messages call the list.

  Raises:
    BuildError: lines that are no clip, or a file listed twice; all of them, by
      number.
  """
  problems, seen, lines = Problems(name), {}, []
  text = data.decode('utf-8', errors='backslashreplace')
  for number, row in enumerate(text.splitlines(), 1):
    fields = row.split()
    if wrong := _wrong(fields, attacks):
      problems.add(f'line {number}: {row[:80]!r}: {wrong}')
      continue
    file, label = fields
    first = seen.setdefault(file, number)
    if first != number:
      problems.add(f'line {number}: {file} is on line {first} already')
    lines.append(Line(file, attacks[label]))
  if not text.strip():
    problems.add('no lines; expected one for each clip')
  problems.raise_if_any()
  return lines


def _wrong(fields: list[str], attacks: Mapping[str, str]) -> str:
  """Says what is wrong with a line, if anything."""
  if len(fields) != 2:
    return f'{len(fields)} columns, expected 2: FILE.wav LABEL'
  if not re.fullmatch(_FILE, fields[0], re.ASCII):
    return f'FILE {fields[0]!r}, expected the name of a .wav file'
  if fields[1] not in attacks:
    return f'LABEL {fields[1]!r}, expected {"|".join(attacks)}'
  return ''
