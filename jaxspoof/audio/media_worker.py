"""The process behind `audio.media`: encoded files in, samples out.

It knows nothing of the rest of the package, so that it starts quickly and holds
little. A request is a line of JSON and the bytes of a file; an answer a line of
JSON and float32 samples.
"""

import io
import json
import resource
import signal
import sys

import av
import numpy as np

TOLERANCE = 0.2  # seconds that a file may be shorter than it says
# Containers that say how long they are.
DECLARED = ('mov', 'asf', 'wv', 'ape', 'avi')


def main(memory: int, longest: float, largest: int) -> None:
  """Answers requests until there are no more.

  Args:
    memory: bytes that this process may address.
    longest: seconds of a file that are decoded at most.
    largest: bytes of decoded samples at most.
  """
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent
  resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
  resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
  av.logging.set_level(av.logging.PANIC)
  while line := sys.stdin.buffer.readline():
    asked = json.loads(line)
    data = sys.stdin.buffer.read(asked['size'])
    wave = b''
    try:
      if asked['stream']:
        for part in stream(data, asked['demuxer']):
          send(*part)
        answer = {'end': True}
      else:
        answer, wave = decode(data, asked, longest, largest)
    except av.FFmpegError as error:
      answer = {'error': f'damaged or cut ({error.strerror})'}
    except (ValueError, EOFError) as error:
      answer = {'error': f'damaged or cut ({error})'}
    except MemoryError:
      answer = {'error': 'decoding it takes too much memory'}
    send(answer, wave)


def send(answer: dict, wave: bytes) -> None:
  """Writes an answer."""
  head = {**answer, 'size': len(wave)}
  sys.stdout.buffer.write(json.dumps(head).encode() + b'\n')
  sys.stdout.buffer.write(wave)
  sys.stdout.buffer.flush()


def stream(data: bytes, demuxer: str):
  """Yields answers and samples of blocks of a second or so.

  Raises:
    ValueError: the file holds no sound, changes within, or is cut.
  """
  with av.open(io.BytesIO(data), format=demuxer, mode='r') as file:
    if not file.streams.audio:
      raise ValueError('holds no sound')
    track = file.streams.audio[0]
    track.codec_context.thread_count = 1
    declared = seconds_of(file, track)
    warnings = extra_tracks(file)
    rate, channels, count, parts = 0, 0, 0, []
    for frame in file.decode(track):
      if not rate:
        rate, channels = frame.sample_rate, frame.layout.nb_channels
      if (frame.sample_rate, frame.layout.nb_channels) != (rate, channels):
        raise ValueError('its rate or channels change within the file')
      parts.append(samples_of(frame, channels))
      count += len(parts[-1])
      if sum(map(len, parts)) >= rate:
        answer = {'rate': rate, 'channels': channels, 'warnings': warnings}
        yield answer, np.concatenate(parts).tobytes()
        parts, warnings = [], []
    if parts:
      answer = {'rate': rate, 'channels': channels, 'warnings': warnings}
      yield answer, np.concatenate(parts).tobytes()
    if not count:
      raise ValueError('holds no samples')
    if declared is not None and demuxer in DECLARED:
      if count / rate < declared - TOLERANCE:
        raise ValueError(f'{count / rate:.2f} of {declared:.2f} s are there')


def extra_tracks(file) -> list[str]:
  """A warning where there are several sound tracks."""
  tracks = len(file.streams.audio)
  if tracks == 1:
    return []
  return [f'it has {tracks} sound tracks; the first is taken']


def decode(data: bytes, asked: dict, longest: float, largest: int):
  """The answer, and the samples as bytes; `error` says what is wrong."""
  with av.open(io.BytesIO(data), format=asked['demuxer'], mode='r') as file:
    if not file.streams.audio:
      return {'error': 'holds no sound'}, b''
    track = file.streams.audio[0]
    track.codec_context.thread_count = 1
    warnings = extra_tracks(file)
    declared = seconds_of(file, track)
    wanted = longest if asked['seconds'] is None else asked['seconds']
    wanted = min(wanted, longest)
    parts, rate, channels, count = [], 0, 0, 0
    for frame in file.decode(track):
      if frame.sample_rate and not rate:
        rate, channels = frame.sample_rate, frame.layout.nb_channels
      if (frame.sample_rate, frame.layout.nb_channels) != (rate, channels):
        return {'error': 'its rate or channels change within the file'}, b''
      if parts and count >= wanted * rate:
        break
      parts.append(samples_of(frame, channels))
      count += len(parts[-1])
      if 4 * count * channels > largest:
        return {'error': f'decodes to more than {largest:,} bytes'}, b''
  if not parts:
    return {'error': 'holds no samples'}, b''
  whole = count < wanted * rate
  if not whole and asked['seconds'] is None:
    return {'error': f'longer than {longest / 3600:.0f} hours'}, b''
  total = count if whole or declared is None else round(declared * rate)
  if whole and declared is not None and asked['demuxer'] in DECLARED:
    if count / rate < declared - TOLERANCE:
      return {
        'error': f'truncated or damaged ({count / rate:.2f} of '
        f'{declared:.2f} s are there)'
      }, b''
  wave = np.concatenate(parts)[: int(np.ceil(wanted * rate))]
  return {
    'rate': rate,
    'channels': channels,
    'total': max(total, len(wave)),
    'warnings': warnings,
  }, wave.tobytes()


def seconds_of(file, track) -> float | None:
  """How long a file says that its sound is; None where it does not."""
  if track.duration is not None and track.time_base is not None:
    return float(track.duration * track.time_base)
  return None if file.duration is None else file.duration / av.time_base


def samples_of(frame, channels: int) -> np.ndarray:
  """Float32 [samples, channels] of a frame of any format."""
  array = frame.to_ndarray()
  if frame.format.is_planar:
    array = array.T
  else:
    array = array.reshape(-1, channels)
  if array.dtype == np.uint8:
    return (array.astype(np.float32) - 128) / 128
  if np.issubdtype(array.dtype, np.integer):
    scale = -float(np.iinfo(array.dtype).min)
    return (array / scale).astype(np.float32)
  return array.astype(np.float32)
