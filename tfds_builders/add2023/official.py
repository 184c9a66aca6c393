"""What the published folders of ADD 2023 hold, and where they are.

Yi et al., "ADD 2023: the Second Audio Deepfake Detection Challenge", DADA
workshop 2023, arXiv 2305.13774; the analysis is arXiv 2408.04967. Licence
CC BY-NC-ND 4.0. The archives are multi-part: `x.tar.gz.00`, `x.tar.gz.01`, ...
"""

import dataclasses
from collections.abc import Mapping

from jaxspoof.classes import BONA_FIDE, UNKNOWN

PAGE = 'http://addchallenge.cn/downloadADD2023'
_RECORDS = 'https://zenodo.org/records'


@dataclasses.dataclass(frozen=True)
class Part:
  """One split.

  Attributes:
    folders: where it is below the track's folder; the first that is there.
    record: the page it is published on.
    attacks: what its labels mean: an attack, '-' for bona fide.
    clips: their published number; None if not known.
  """

  folders: tuple[str, ...]
  record: str
  attacks: Mapping[str, str]
  clips: int | None = None


# Track 1.2 says that a clip is fake, not how it was made.
_GENUINE_OR_FAKE = {'genuine': BONA_FIDE, 'fake': UNKNOWN}
# Track 3 numbers its algorithms; 0 is genuine speech, 7 whatever is in
# evaluation only.
_KNOWN = {'0': BONA_FIDE, **{str(n): str(n) for n in range(1, 7)}}

TRACKS: dict[str, dict[str, Part]] = {
  'Track1.2': {
    'train': Part(('train',), f'{_RECORDS}/12151404', _GENUINE_OR_FAKE),
    'dev': Part(('dev',), f'{_RECORDS}/12151404', _GENUINE_OR_FAKE),
    'eval_r1': Part(('testR1',), f'{_RECORDS}/12175884', _GENUINE_OR_FAKE),
    'eval_r2': Part(('testR2',), f'{_RECORDS}/12176326', _GENUINE_OR_FAKE),
  },
  'Track3': {
    'train': Part(('train',), f'{_RECORDS}/12179632', _KNOWN),
    'dev': Part(('dev',), f'{_RECORDS}/12179632', _KNOWN),
    'eval': Part(
      ('eval', 'test'),
      f'{_RECORDS}/12179884',
      {**_KNOWN, '7': UNKNOWN},
      clips=79_490,
    ),
  },
}
