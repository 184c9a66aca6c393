"""Reads the pack of human speech in `human/`."""

import csv
import dataclasses
import functools
import hashlib
import io
import pathlib
import zipfile

import numpy as np
import soundfile

HUMAN = pathlib.Path(__file__).parent / 'human'


@dataclasses.dataclass(frozen=True)
class Entry:
  """One line of `manifest.tsv`.

  Attributes:
    utterance: identifier, `<speaker>_<language>_<number>`.
    split: train, dev or eval; all clips of a speaker are in one split.
    speaker: the person.
    language: ISO 639 code.
    samples: length at 16 kHz.
    sha256: checksum of the FLAC file.
    licence: name of the archive that holds the clip.
    package: Debian package the recording comes from.
    version: version of that package.
    file: the recording's path in the package.
    transcript: what is said, empty where unknown.
  """

  utterance: str
  split: str
  speaker: str
  language: str
  samples: int
  sha256: str
  licence: str
  package: str
  version: str
  file: str
  transcript: str


def manifest() -> list[Entry]:
  """Returns the clips of the pack, in the file's order."""
  path = HUMAN / 'manifest.tsv'
  with path.open(encoding='utf-8', newline='') as file:
    rows = csv.DictReader(file, delimiter='\t')
    return [Entry(**{**row, 'samples': int(row['samples'])}) for row in rows]


def wave(entry: Entry) -> np.ndarray:
  """Returns a clip, float64 [samples] at 16 kHz.

  Raises:
    ValueError: the archive does not hold the clip the manifest speaks of.
  """
  data = _archive(entry.licence).read(f'{entry.utterance}.flac')
  if hashlib.sha256(data).hexdigest() != entry.sha256:
    raise ValueError(
      f'{HUMAN / entry.licence}.zip: {entry.utterance}.flac: the checksum '
      'differs from the one in manifest.tsv; expected the committed file'
    )
  return soundfile.read(io.BytesIO(data))[0]


@functools.cache
def _archive(licence: str) -> zipfile.ZipFile:
  return zipfile.ZipFile(HUMAN / f'{licence}.zip')
