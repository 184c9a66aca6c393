"""The process behind `serve.decoding`: uploads in, samples out.

Requests and answers are those of `audio.workers`.
"""

import contextlib
import json
import os
import resource
import signal
import sys

import numpy as np

from jaxspoof import audio
from jaxspoof.audio import signal_checks, streams


class TooLong(Exception):
  """A recording is longer than is taken."""


def main(memory: int) -> None:
  """Answers requests until there are no more.

  Args:
    memory: bytes that this process may address.
  """
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
  # Soft, as decoders below this process set limits of their own.
  hard = resource.getrlimit(resource.RLIMIT_AS)[1]
  resource.setrlimit(resource.RLIMIT_AS, (memory, hard))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # nothing goes to disk
  answers = os.fdopen(os.dup(sys.stdout.fileno()), 'wb')
  # What libraries print must not get between the answers.
  os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
  while line := sys.stdin.buffer.readline():
    asked = json.loads(line)
    data = sys.stdin.buffer.read(asked['size'])
    waves = []
    try:
      answer, waves = decode(asked.get('path', data), asked)
    except TooLong as error:
      answer = {'error': str(error), 'too_long': True}
    except audio.AudioError as error:
      answer = {'error': str(error)}
    except MemoryError:
      answer = {'error': f'{asked["name"]}: decoding it takes too much memory'}
    except Exception as error:  # decoders in C have errors of all kinds
      why = f'{type(error).__name__}: {error}'
      answer = {'error': f'{asked["name"]}: cannot be read ({why})'}
    del data
    size = sum(wave.nbytes for wave in waves)
    answers.write(json.dumps({**answer, 'size': size}).encode() + b'\n')
    for wave in waves:
      answers.write(wave.tobytes())
    answers.flush()


def decode(data: bytes | str, asked: dict) -> tuple[dict, list[np.ndarray]]:
  """What is scored of a recording, and all of it if that is asked for.

  Raises:
    AudioError: it cannot be read, or holds no sound.
    TooLong: it lasts longer than `asked['longest']` seconds.
  """
  name, longest = asked['name'], asked['longest']
  options = {'channel': asked['channel']}
  clip = signal_checks.read(data, name, samples=asked['samples'], **options)
  check_length(name, clip.seconds, longest)
  heard: list[str] = []
  blocks, count = [], 0
  if asked['whole']:
    found = streams.blocks(data, name, heard=heard.append, **options)
    with contextlib.closing(found):
      for block in found:
        blocks.append(block)
        count += len(block)
        # Headers may lie.
        check_length(name, count / audio.SAMPLE_RATE, longest)
  answer = {
    'scored': len(clip.wave),
    'seconds': clip.seconds,
    'warnings': clip.warnings,
    'heard': heard,
  }
  return answer, [clip.wave, *blocks]


def check_length(name: str, seconds: float, longest: float) -> None:
  """Raises TooLong for more seconds than are taken."""
  # The filters of other rates add some samples.
  if seconds > longest + 0.1:
    raise TooLong(
      f'{name}: lasts {seconds:.0f} s or more, expected at most {longest:g} s'
    )
