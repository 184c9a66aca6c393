"""Carries the plan out: every clip and every spoof, over all cores."""

import contextlib
import dataclasses
import multiprocessing
import os
from collections.abc import Iterator, Mapping

import numpy as np

from tfds_builders.quickstart import (
  attacks,
  conditioning,
  dsp,
  espeak,
  pack,
  recipe,
)

_ONE_THREAD = dict.fromkeys(
  ('OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'MKL_NUM_THREADS'), '1'
)


@dataclasses.dataclass(frozen=True)
class Trial:
  """One trial of the corpus; the fields are those of the records."""

  split: str
  utterance: str
  speaker: str
  attack: str
  audio: bytes


def render(
  tasks: list[recipe.Task], workers: int | None = None
) -> Iterator[list[Trial]]:
  """Yields the trials of each task: first of those that need no text.

  The same bytes for any number of workers: they compute with one thread each,
  nothing is drawn from a shared generator, and the synthetic voice, which has
  a memory, reads everything in one process in one order.

  Args:
    tasks: from `recipe.plan`.
    workers: processes, by default one for each core we may use.
  """
  workers = min(workers or cores(), len(tasks))
  with (
    _one_thread(),
    multiprocessing.get_context('spawn').Pool(workers) as pool,
  ):
    reading = pool.apply_async(read_aloud, (tasks,))
    # What needs no voice keeps the other cores busy meanwhile.
    yield from pool.imap(_trials, [(t, None) for t in tasks if not t.text])
    spoken = reading.get()
    jobs = [(t, spoken[t.entry.utterance]) for t in tasks if t.text]
    yield from pool.imap(_trials, jobs)


def cores() -> int:
  """Returns how many cores this process may use."""
  if hasattr(os, 'sched_getaffinity'):
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


@contextlib.contextmanager
def _one_thread():
  """Makes numpy in processes started meanwhile compute with one thread."""
  before = {name: os.environ.get(name) for name in _ONE_THREAD}
  os.environ.update(_ONE_THREAD)
  try:
    yield
  finally:
    for name, value in before.items():
      os.environ.pop(name) if value is None else os.environ.update(
        {name: value}
      )


def read_aloud(tasks: list[recipe.Task]) -> Mapping[str, np.ndarray]:
  """Returns a synthetic voice reading each task's text, by utterance."""
  return {
    task.entry.utterance: espeak.speak_for(
      task.text,
      task.entry.language,
      task.entry.samples / dsp.RATE,
      recipe.rng_for('voice', task.entry.utterance),
    )
    for task in tasks
    if task.text
  }


def _trials(job: tuple[recipe.Task, np.ndarray | None]) -> list[Trial]:
  task, spoken = job
  name = task.entry.utterance
  channel = conditioning.Channel.draw(recipe.rng_for('channel', name))
  clip = attacks.Clip(
    pack.wave(task.entry), spoken, tuple(pack.wave(e) for e in task.others)
  )
  done = {
    attack: _audio(clip, name, attack, channel)
    for attack in sorted({a for _, names in task.attacks for a in names})
  }
  return [
    Trial(
      split, _utterance(name, attack), task.entry.speaker, attack, done[attack]
    )
    for split, names in task.attacks
    for attack in names
  ]


def _utterance(name: str, attack: str) -> str:
  return name if attack == '-' else f'{name}_{attack}'


def _audio(
  clip: attacks.Clip, name: str, attack: str, channel: conditioning.Channel
) -> bytes:
  samples, wave = len(clip.wave), clip.wave
  if attack != '-':
    method = attacks.ATTACKS[attack]
    wave = method.make(clip, recipe.rng_for(attack, name))
    if method.speaks:
      samples = min(samples, len(wave))
    wave = dsp.equalised(wave, clip.colour)
  rng = recipe.rng_for('noise', attack, name)
  return conditioning.flac(conditioning.condition(wave, channel, samples, rng))
