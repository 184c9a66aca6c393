"""Decodes audio files to mono float32 at one sample rate, or says why not.

The container is told by its first bytes, never by the file name. Decoders
deliver the file's own rate, channels and precision; resampling and mixing down
happen here, where they can be seen.
"""

import os
import pathlib

import numpy as np
import soxr

from jaxspoof.data import decoders
from jaxspoof.data.decoders import AudioError

SAMPLE_RATE = 16_000
EXTENSIONS = ('.flac', '.mp3', '.oga', '.ogg', '.opus', '.wav')

_RATES = (1_000, 768_000)  # Hz; outside it the header is wrong, not the speech
_PEAK = 16.0  # lossy codecs overshoot 1.0 a little; integers in floats a lot


def decode(
  data: bytes, name: str, verify: bool = True
) -> tuple[np.ndarray, int]:
  """Decodes a whole file held in memory.

  A damaged or cut FLAC is always an error: each frame's checksum and the number
  of samples are compared with the header. So is a WAV or Ogg that ends before
  the length it declares. MP3 has no reliable length: a cut one decodes to what
  is there.

  Args:
    data: The encoded file.
    name: What error messages call it.
    verify: Also compare a FLAC's MD5 of all samples, where the file has one.

  Returns:
    float32 [samples] or [samples, channels], full scale 1.0 (16 and 24 bit
    integers are exact; lossy codecs may overshoot), and the rate in Hz.

  Raises:
    AudioError: Empty, damaged, truncated or not audio at all.
  """
  if not data:
    raise AudioError(f'{name}: the file is empty (0 bytes)')
  kind = decoders.sniff(data)
  wave, rate = decoders.read(kind, data, name, verify)
  if not len(wave):
    raise AudioError(f'{name}: the {kind} file holds no samples')
  if not _RATES[0] <= rate <= _RATES[1]:
    raise AudioError(
      f'{name}: sample rate {rate} Hz, expected {_RATES[0]} to {_RATES[1]} Hz'
    )
  _check_samples(wave, name)
  return (wave[:, 0] if wave.shape[1] == 1 else wave), rate


def load(
  source: str | os.PathLike | bytes,
  name: str | None = None,
  rate: int = SAMPLE_RATE,
  verify: bool = True,
) -> np.ndarray:
  """Loads audio as one channel at one rate.

  Channels are averaged; other rates are converted by soxr at its 'HQ' setting
  (20 bit precision, pass band to 0.91 of the lower Nyquist frequency), as
  librosa does by default. Audio at `rate` already is passed through untouched.

  Args:
    source: A path, or the encoded file itself.
    name: What error messages call it; the path by default.
    rate: Wanted sample rate in Hz.
    verify: See `decode`.

  Returns:
    float32 [samples], nominally in [-1, 1).

  Raises:
    AudioError: Missing, unreadable, or anything `decode` rejects.
  """
  if not isinstance(source, bytes):
    name = name or str(source)
    source = _read_file(pathlib.Path(source), name)
  name = name or 'audio'
  wave, source_rate = decode(source, name, verify)
  if wave.ndim == 2:
    wave = wave.mean(axis=1, dtype=np.float32)
  if source_rate != rate:
    wave = soxr.resample(wave, source_rate, rate, quality='HQ')
    if not len(wave):
      raise AudioError(f'{name}: too short to resample to {rate} Hz')
  return wave


def length(data: bytes, name: str) -> int:
  """About how many samples `load` would give, mostly from the header alone.

  Args:
    data: The encoded file.
    name: What error messages call it.

  Raises:
    AudioError: Empty, or not audio at all.
  """
  if not data:
    raise AudioError(f'{name}: the file is empty (0 bytes)')
  samples, rate = decoders.length(decoders.sniff(data), data, name)
  return -(-samples * SAMPLE_RATE // rate)


def find(directory: str | os.PathLike) -> list[str]:
  """Files with one of `EXTENSIONS` below a directory, in sorted order.

  Names that begin with a dot are left out: copies from some systems hold a
  `._clip.wav` that is no audio beside each `clip.wav`.
  """
  return sorted(
    os.path.join(folder, file)
    for folder, _, files in os.walk(directory)
    for file in files
    if file.lower().endswith(EXTENSIONS) and not file.startswith('.')
  )


def crop_or_repeat(
  wave: np.ndarray, samples: int, rng: np.random.Generator | None = None
) -> np.ndarray:
  """Cuts a clip to a fixed length, repeating it first where it is too short.

  Args:
    wave: float32 [n], n >= 1.
    samples: Wanted length.
    rng: Draws the start of the cut uniformly; without it the first samples are
      taken. A clip that is too short always starts at its beginning, as in the
      original AASIST.

  Returns:
    float32 [samples].
  """
  out = np.empty(samples, np.float32)
  fill(out, wave, rng)
  return out


def fill(
  out: np.ndarray, wave: np.ndarray, rng: np.random.Generator | None = None
) -> None:
  """As `crop_or_repeat`, into a float32 [samples] that is there already."""
  if not len(wave):
    raise ValueError('a clip of no samples cannot be repeated')
  extra = len(wave) - len(out)
  if extra >= 0:
    start = 0 if rng is None else int(rng.integers(extra + 1))
    out[:] = wave[start : start + len(out)]
    return
  out[: len(wave)] = wave
  done = len(wave)
  while done < len(out):  # what is there doubles
    more = min(done, len(out) - done)
    out[done : done + more] = out[:more]
    done += more


def pad(
  out: np.ndarray,
  wave: np.ndarray,
  shortest: int,
  rng: np.random.Generator | None = None,
) -> int:
  """As `fill`, but a short clip is followed by zeros.

  Clips of fewer than `shortest` samples are repeated to as many first.

  Returns:
    How many samples of `out` are the clip's.
  """
  count = min(max(len(wave), shortest), len(out))
  fill(out[:count], wave, rng)
  out[count:] = 0
  return count


def _read_file(path: pathlib.Path, name: str) -> bytes:
  if path.is_dir():
    raise AudioError(
      f'{name}: a directory, expected a file of {decoders.EXPECTED}'
    )
  try:
    return path.read_bytes()
  except FileNotFoundError as error:
    raise AudioError(f'{name}: no such file') from error
  except OSError as error:
    raise AudioError(f'{name}: cannot be read ({error.strerror})') from error


def _check_samples(wave: np.ndarray, name: str) -> None:
  peak = max(float(wave.max()), -float(wave.min()))  # NaN stays NaN
  if not np.isfinite(peak):
    raise AudioError(f'{name}: holds samples that are not finite numbers')
  if peak > _PEAK:
    raise AudioError(
      f'{name}: samples reach {peak:g}, expected full scale 1.0'
      ' (integers written as floats?)'
    )
