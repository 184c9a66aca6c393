"""Whether what is scored holds anything that a score could be of.

A model gives any input some score: silence may look bona fide, and a click
repeated to four seconds may look like anything. What holds no sound or is too
short is therefore refused, and what is doubtful gets a warning beside its
score. Detector and embeddings read their files through this.
"""

import os

import numpy as np

from jaxspoof import audio
from jaxspoof.audio.containers import AudioError

SHORTEST = 0.1  # seconds; of less nobody could judge
SHORT = 0.5  # seconds; of less a score is doubtful
SILENT = 1e-4  # of full scale (-80 dB); what moves less is no sound
QUIET = 1e-2  # of full scale (-40 dB); recordings of speech are louder
SOUND = 0.5  # share of what is scored that should not be silent

_FRAME = 0.02  # seconds over which sound is looked for
_SEARCHED = 600.0  # seconds in which the first sound is looked for


def read(
  source: str | os.PathLike | bytes | np.ndarray,
  name: str | None = None,
  *,
  samples: int,
  verify: bool = True,
  rate: int | None = None,
  channel: int | None = None,
) -> audio.Clip:
  """Reads the part of a file that is scored, and judges it.

  That is its beginning; where the beginning holds no sound at all, it is what
  follows the silence.

  Args:
    source: a path, the encoded file itself, or samples; see `audio.read`.
    name: what messages call it; the path by default.
    samples: how many samples are scored, at `audio.SAMPLE_RATE`.
    verify: also compare a FLAC with its MD5, as `audio.decode` does.
    rate: of samples, in Hz.
    channel: which channel is taken, the first being 1; None averages.

  Returns:
    The clip: at most `samples` of the wave, with all warnings.

  Raises:
    AudioError: it cannot be read, holds no sound, or is too short.
  """
  if not isinstance(source, bytes | np.ndarray):
    name = name or str(source)
  name = name or 'audio'
  options = {'verify': verify, 'given_rate': rate, 'channel': channel}
  clip = audio.read(source, name, samples=samples, **options)
  if len(clip.wave) < SHORTEST * audio.SAMPLE_RATE:
    raise AudioError(
      f'{name}: too short to judge ({1000 * clip.seconds:.4g} ms, expected at '
      f'least {1000 * SHORTEST:.0f})'
    )
  if not has_sound(clip.wave).any():
    clip = _after_silence(source, name, samples, options)
  return clip._replace(warnings=(*clip.warnings, *doubts(clip.wave)))


def has_sound(wave: np.ndarray) -> np.ndarray:
  """Which frames of 20 ms are not silent.

  Half the range of a frame counts, so that an offset is silence too.

  Args:
    wave: float32 [samples], at least one, at `audio.SAMPLE_RATE`.

  Returns:
    bool [frames]; the last frame may overlap the one before it.
  """
  size = min(round(_FRAME * audio.SAMPLE_RATE), len(wave))
  whole = wave[: len(wave) // size * size].reshape(-1, size)
  ranges = np.ptp(whole, axis=1)
  if len(wave) % size:
    ranges = np.append(ranges, np.ptp(wave[-size:]))
  return ranges > 2 * SILENT


def doubts(wave: np.ndarray) -> tuple[str, ...]:
  """What makes a score of a wave doubtful; nothing for most.

  Args:
    wave: float32 [samples] that are scored, at `audio.SAMPLE_RATE`.
  """
  found = []
  seconds = len(wave) / audio.SAMPLE_RATE
  if seconds < SHORT:
    found.append(f'only {seconds:.2f} s long')
  share = float(has_sound(wave).mean())
  if not share:
    return (*found, 'holds no sound')
  if share < SOUND:
    found.append(
      f'only {share * seconds:.2f} of the {seconds:.2f} s that are scored hold '
      'sound'
    )
  peak = float(np.ptp(wave)) / 2
  if peak < QUIET:
    found.append(
      f'very quiet: its peak is at {20 * np.log10(peak):.0f} dB of full scale, '
      'and scores depend on the level'
    )
  return tuple(found)


def _after_silence(
  source, name: str, samples: int, options: dict
) -> audio.Clip:
  """The clip from its first sound on, where its beginning holds none."""
  rate = audio.SAMPLE_RATE
  longer = audio.read(
    source, name, samples=round(_SEARCHED * rate) + samples, **options
  )
  frames = np.flatnonzero(has_sound(longer.wave))
  if not len(frames):
    raise AudioError(
      f'{name}: holds no sound in {len(longer.wave) / rate:.2f} s (nothing '
      f'above {20 * np.log10(SILENT):.0f} dB of full scale); nothing to score'
    )
  start = frames[0] * round(_FRAME * rate)
  return longer._replace(
    wave=longer.wave[start : start + samples],
    start=start / rate,
    warnings=(
      *longer.warnings,
      f'the first {start / rate:.2f} s hold no sound; what follows is scored',
    ),
  )
