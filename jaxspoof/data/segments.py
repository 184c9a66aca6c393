"""Labels of each 20 ms of a clip, and where it is spoofed.

Corpora for localisation have in each record `segments`, a text with one
character for each 20 ms from the beginning: '1' bona fide, '0' spoofed if any
part is. Some also say the spoofed samples, in `ranges`: '5333-10666 12-200'.
"""

import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxspoof.audio import MOMENT, SAMPLE_RATE

UNKNOWN = -1  # label of a moment that is padding, or of which nothing is known

# Values of samples: the lowest of a moment is its label plus 1.
_UNKNOWN, _SPOOF, _BONA_FIDE = 0, 1, 2


def of_samples(
  record: Mapping[str, Any], samples: int, what: str
) -> np.ndarray:
  """What is known of each sample of a clip, to be cropped as the clip is.

  Args:
    record: of a corpus that has segments.
    samples: of the clip, at 16 kHz.
    what: the clip, as messages call it.

  Returns:
    uint8 [samples], for `labels`.

  Raises:
    ValueError: see `text_of`.
  """
  text = text_of(record, what)
  each = np.frombuffer(text.encode(), np.uint8) - ord('0') + _SPOOF
  found = np.zeros(samples, np.uint8)  # unknown
  known = np.repeat(each.astype(np.uint8), MOMENT)[:samples]
  found[: len(known)] = known
  return found


def labels(of_samples: np.ndarray) -> np.ndarray:
  """Labels of whole moments.

  Args:
    of_samples: uint8 [..., samples]; what is added to a clip is 0.

  Returns:
    int32 [..., samples // MOMENT]: 0 where any part is spoofed, 1 bona fide,
    `UNKNOWN` where of any part nothing is known.
  """
  count = of_samples.shape[-1] // MOMENT
  whole = of_samples[..., : count * MOMENT]
  shape = (*of_samples.shape[:-1], count, MOMENT)
  return whole.reshape(shape).min(-1).astype(np.int32) - 1


def spoofed(
  record: Mapping[str, Any], what: str
) -> tuple[list[tuple[float, float]], float]:
  """Where a clip is spoofed, as exactly as its corpus says.

  Returns:
    Start and end of each spoofed range in seconds, in their order; and up to
    where labels reach.

  Raises:
    ValueError: see `text_of`, or ranges that cannot be read.
  """
  text = text_of(record, what)
  known = len(text) * MOMENT / SAMPLE_RATE
  if 'ranges' not in record:
    found, at = [], 0
    for label, same in itertools.groupby(text):
      start, at = at, at + len(list(same))
      if label == '0':
        found.append((start, at))
    unit = MOMENT
  else:
    found, unit = [], 1
    for one in _text(record['ranges']).split():
      first, _, last = one.partition('-')
      if not (first.isdigit() and last.isdigit() and int(first) < int(last)):
        raise ValueError(f'{what}: field ranges: {one!r}, expected FIRST-LAST')
      found.append((int(first), int(last)))
  times = [(a * unit / SAMPLE_RATE, b * unit / SAMPLE_RATE) for a, b in found]
  return times, known


def text_of(record: Mapping[str, Any], what: str) -> str:
  """The field `segments`.

  Raises:
    ValueError: there is none, or it has other characters.
  """
  if 'segments' not in record:
    raise ValueError(
      f'{what}: its corpus has no labels of segments; expected one with the '
      "field segments, such as 'partialspoof' or 'spliced/quickstart'"
    )
  text = _text(record['segments'])
  if not text or set(text) - {'0', '1'}:
    raise ValueError(f'{what}: field segments: expected 0 and 1, {text!r:.40}')
  return text


def _text(value: Any) -> str:
  return value.decode() if isinstance(value, bytes) else str(value)
