"""Countermeasure protocols of ASVspoof 2019: what the trials are.

  LA_0039 LA_E_2834763 - A11 spoof
  LA_0070 LA_E_5464494 - - bonafide

`SPEAKER UTTERANCE ENVIRONMENT SYSTEM KEY`, separated by blanks, no header;
SYSTEM is the attack, '-' for bona fide.
"""

from typing import NamedTuple

import numpy as np

from jaxspoof.files import write_atomically
from jaxspoof.score_files import columns
from jaxspoof.score_files.scores import KEYS

FORMAT = 'lines SPEAKER UTTERANCE ENVIRONMENT SYSTEM KEY'


class Protocol(NamedTuple):
  """Trials in the order of the file; each field [N].

  Attributes:
    utterance: str, unique.
    speaker: str.
    attack: str, '-' for bona fide.
    label: int32, spoof 0, bona fide 1.
  """

  utterance: np.ndarray
  speaker: np.ndarray
  attack: np.ndarray
  label: np.ndarray


def read(path) -> Protocol:
  """Read a protocol; `.gz` is decompressed.

  Raises:
    ScoreFileError (a ValueError): lines that break the format or repeat an
      utterance, the first ten and the count.
    OSError: no such file.
  """
  problems, rows = columns.Problems(path, FORMAT), {}
  for number, fields in columns.read_rows(path):
    if len(fields) != 5:
      problems.at_line(number, f'{len(fields)} columns', fields)
      continue
    speaker, utterance, _, attack, key = fields
    label, wrong = columns.parse_key(key)
    if not wrong and utterance in rows:
      wrong = f'utterance {utterance} again'
    if wrong:
      problems.at_line(number, wrong, fields)
    rows[utterance] = speaker, attack, label
  problems.raise_if_any()
  speaker, attack, label = zip(*rows.values(), strict=True)
  return Protocol(
    np.array(list(rows)),
    np.array(speaker),
    np.array(attack),
    np.array(label, np.int32),
  )


def write(path, utterance, speaker, attack, label) -> None:
  """Write a protocol, its environments unknown ('-').

  Args:
    path: file to write; its folder is made.
    utterance: str [N], unique, without blanks.
    speaker: str [N], without blanks.
    attack: str [N], '-' for bona fide, without blanks.
    label: int [N], spoof 0, bona fide 1.
  """
  keys = {number: name for name, number in KEYS.items()}
  rows = zip(speaker, utterance, attack, label, strict=True)
  lines = [f'{s} {u} - {a} {keys[int(k)]}\n' for s, u, a, k in rows]
  write_atomically(path, ''.join(lines))
