"""Names of speakers, attacks and utterances; needs no TFDS."""

import re


def word(text: str) -> str:
  """Score files are separated by blanks: there are none in a name."""
  return re.sub(r'\s+', '_', text.strip())
