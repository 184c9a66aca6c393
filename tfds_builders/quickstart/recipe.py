"""Which clip is spoofed by which attack: the plan of the corpus.

The plan depends only on the manifest and the constants here, every random
choice on the clip's name: a smaller corpus is a part of the larger. (Only the
synthetic voice remembers what it read before: its waves differ a little.)
"""

import dataclasses
import hashlib

import numpy as np

from tfds_builders.quickstart import attacks, pack
from tfds_builders.quickstart.sentences import SENTENCES

VOICE = 8  # other clips of the speaker that an attack may use


@dataclasses.dataclass(frozen=True)
class Part:
  """One split of the corpus.

  Attributes:
    source: split of the pack its speech comes from.
    attacks: the attacks that may occur.
    per_clip: how many of these attacks are drawn for each clip.
  """

  source: str
  attacks: tuple[str, ...]
  per_clip: int


SPLITS = {
  'train': Part('train', attacks.TRAIN, 5),
  'dev': Part('dev', attacks.TRAIN, 5),
  'eval': Part('eval', attacks.EVAL, 5),
  'eval_hard': Part('eval', attacks.HARD, 4),
}


@dataclasses.dataclass(frozen=True)
class Task:
  """One clip and what is to be made of it.

  Attributes:
    entry: the clip.
    attacks: attack identifiers by split; '-' is the clip itself.
    others: clips of the same speaker, for attacks that need a voice.
    text: what a synthetic voice reads, empty if no attack needs it.
  """

  entry: pack.Entry
  attacks: tuple[tuple[str, tuple[str, ...]], ...]
  others: tuple[pack.Entry, ...]
  text: str


def rng_for(*names: str) -> np.random.Generator:
  """Returns a generator seeded by names, the same on every machine."""
  digest = hashlib.sha256('/'.join(names).encode()).digest()
  return np.random.default_rng(np.frombuffer(digest, np.uint32))


def plan(limit: int | None = None) -> list[Task]:
  """Returns the tasks, one per clip of the pack.

  Args:
    limit: number of clips to take of each split of the pack; None takes all.
  """
  entries = pack.manifest()
  chosen = []
  for source in dict.fromkeys(part.source for part in SPLITS.values()):
    own = [entry for entry in entries if entry.split == source]
    if limit is not None:
      own = [own[i] for i in np.linspace(0, len(own) - 1, limit).astype(int)]
    chosen += own
  return [_task(entry, entries) for entry in chosen]


def _task(entry: pack.Entry, entries: list[pack.Entry]) -> Task:
  rng = rng_for('plan', entry.utterance)
  others = [
    other for other in entries
    if other.speaker == entry.speaker and other.utterance != entry.utterance
  ]  # fmt: skip
  text = _text(entry, rng)
  drawn = []
  for split, part in SPLITS.items():
    if part.source == entry.split:
      possible = [
        name for name in part.attacks
        if (text or not attacks.ATTACKS[name].speaks)
        and (len(others) >= 3 or not attacks.ATTACKS[name].needs_voice)
      ]  # fmt: skip
      order = rng.permutation(len(possible))[: part.per_clip]
      drawn.append((split, ('-', *(possible[i] for i in sorted(order)))))
  spoken = {a for _, names in drawn for a in names[1:]}
  needed = any(attacks.ATTACKS[name].speaks for name in spoken)
  picked = rng.permutation(len(others))[:VOICE]
  return Task(
    entry,
    tuple(drawn),
    tuple(others[i] for i in picked),
    text if needed else '',
  )


def _text(entry: pack.Entry, rng: np.random.Generator) -> str:
  """Returns the words, or a sentence of the language that takes as long."""
  if entry.transcript:
    return entry.transcript
  sentences = SENTENCES.get(entry.language)
  if not sentences:
    return ''
  offered = rng.choice(len(sentences), 4, replace=False)
  letters = 14 * entry.samples / 16_000  # speech has about 14 a second
  best = min(offered, key=lambda i: abs(len(sentences[i]) - letters))
  return sentences[best]
