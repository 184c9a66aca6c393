"""What the published ASVspoof 2019 archives hold, and where they are.

Todisco et al., "ASVspoof 2019: Future horizons in spoofed and fake audio
detection", Interspeech 2019; https://doi.org/10.7488/ds/2555, ODC-By 1.0.
"""

import dataclasses
from collections.abc import Mapping

PAGE = 'https://datashare.ed.ac.uk/handle/10283/3336'
_FILES = 'https://datashare.ed.ac.uk/bitstream/handle/10283/3336'


@dataclasses.dataclass(frozen=True)
class Counts:
  """Trials of a split.

  Attributes:
    bona_fide: bona fide trials.
    spoof: spoofed trials.
    attacks: trials of each attack, where they are equally many.
    certain: counted in the published protocol; else only reported elsewhere,
      and no reason to reject an archive.
  """

  bona_fide: int
  spoof: int
  attacks: Mapping[str, int] | None = None
  certain: bool = True

  def __str__(self) -> str:
    total = self.bona_fide + self.spoof
    return f'{total:,} trials ({self.bona_fide:,} bona fide)'


@dataclasses.dataclass(frozen=True)
class Archive:
  """A published archive.

  Attributes:
    urls: where it is; each is tried.
    gigabytes: its size, for people.
    counts: trials, by split.
    size: bytes; None if not known.
    sha256: checksum; None if not known.
  """

  urls: tuple[str, ...]
  gigabytes: float
  counts: Mapping[str, Counts]
  size: int | None = None
  sha256: str | None = None


def _attacks(first: int, last: int, trials: int) -> dict[str, int]:
  return {f'A{number:02d}': trials for number in range(first, last + 1)}


ARCHIVES = {
  'LA': Archive(
    urls=(
      'https://datashare.ed.ac.uk/server/api/core/bitstreams/'
      'a9f87c35-f055-4015-80e2-2fdff0d46269/content',
      f'{_FILES}/LA.zip?sequence=3&isAllowed=y',
    ),
    gigabytes=7.6,
    counts={
      'train': Counts(2_580, 22_800, _attacks(1, 6, 3_800)),
      'dev': Counts(2_548, 22_296, _attacks(1, 6, 3_716)),
      'eval': Counts(7_355, 63_882, _attacks(7, 19, 4_914)),
    },
    size=7_640_952_520,
    sha256='208a7e4e3913f8c75ae1afd19bf32a5b29ae68435e9e30e23e5e98b6a155e4ec',
  ),
  'PA': Archive(
    urls=(f'{_FILES}/PA.zip?sequence=4&isAllowed=y',),
    gigabytes=16.4,
    counts={
      'train': Counts(5_400, 48_600, certain=False),
      'dev': Counts(5_400, 24_300, certain=False),
      'eval': Counts(18_090, 116_640, certain=False),
    },
  ),
}
