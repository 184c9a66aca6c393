"""A day of traffic on the service, in minutes: does anything grow?

python benchmarks/traffic.py --minutes=10

Starts `detect.py --serve` as a process, and lets clients come to it as they do
over 24 hours: few at night, all by day, and a burst of `--burst` at once in
every hour of the day. They load the page, score recordings of several formats,
rates and lengths, as a body and as a form, with timeline and picture; send what
is empty, no audio, cut, too long, too large or a bomb; are slow, leave in the
middle of an upload or before the answer, and open connections on which nothing
comes. Each answer has to be one that belongs to what was asked.

Meanwhile memory, open files, threads and processes below the service are
counted. Printed are the medians of the first and the last tenth of the time,
the highest, and the slope of a line through the second half, in units of a day.
At noon and at midnight all clients go away for some seconds: what the service
then holds does not depend on who is there. Until noon it grows to its size;
what has grown between the two is what it keeps of traffic, or some % of the
memory that the allocator of the C library keeps, in steps.

The exit status is 1 if an answer was wrong, a file was left, or something was
more at midnight than at noon by more than `--allowed` %, and by two at least.
"""

import argparse
import collections
import contextlib
import http.client
import importlib.util
import io
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import NamedTuple

import numpy as np
import soundfile

from tfds_builders.quickstart import pack

ROOT = pathlib.Path(__file__).resolve().parents[1]
RATE = 16_000
# Share of the clients that are there, by hour of the day.
HOURS = (
  *(0.2, 0.1, 0.1, 0.1, 0.1, 0.2, 0.4, 0.6, 0.9, 1, 1, 1),
  *(0.8, 0.9, 1, 1, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3),
)
BUSY = range(8, 18)  # hours with a burst
GONE = 0  # in place of a status: the client did not wait for one
LATER = {429, 503}  # a service may be too busy
SCORE = '/v1/score'
PAGE = (
  '/', '/page.css', '/page.js', '/recorder.js', '/v1/detector', '/openapi.json',
)  # fmt: skip
MEASURES = 'service, MiB', 'below it, MiB', 'files', 'threads', 'processes'


def main(argv: list[str] | None = None) -> int:
  """Lets clients come, measures, prints; returns the exit status.

  Args:
    argv: the command line.
  """
  options = parser().parse_args(argv)
  with tempfile.TemporaryDirectory() as place:
    sounds = Sounds.make()
    with Service(pathlib.Path(place), options) as service:
      for path in (SCORE, f'{SCORE}?picture=true'):
        status = ask(service.port, 'POST', path, sounds.good[0])
        assert status == 200, status
      samples, idle = [], []
      answers: collections.Counter = collections.Counter()
      for first_hour in (0, 12):
        samples += half_a_day(service, sounds, options, first_hour, answers)
        time.sleep(min(8.0, 10 * options.minutes))  # for what is on its way
        idle.append(service.measure())
      said = list(service.said)
    left = service.left()
  count = sum(answers.values())
  print(f'{count} visits in {options.minutes:g} minutes')
  wrong = show_answers(answers)
  grown = show_growth(np.array(samples), *idle, options.allowed)
  print(f'files left: {len(left)} {left[:5] or ""}')
  print(f'lines on stderr: {len(said)} {said[-3:] or ""}')
  print(f'wrong answers: {wrong}; grown: {", ".join(grown) or "nothing"}')
  return 1 if wrong or left or grown else 0


# -------------------------------------------------------------- the service ---
class Service:
  """The process that serves, in a folder of its own.

  Attributes:
    port: where it listens.
    said: what it has written to stderr since it served.
  """

  def __init__(self, place: pathlib.Path, options):
    self._place, self.said = place, []
    for name in ('here', 'temporary'):
      (place / name).mkdir()
    words = [sys.executable, ROOT / 'detect.py', '--serve', '127.0.0.1:0']
    words += ['--limit_megabytes', '2', '--limit_seconds', '60']
    if options.checkpoint:
      words += ['--checkpoint', os.path.abspath(options.checkpoint)]
    self._process = subprocess.Popen(
      words,
      cwd=place / 'here',
      env=os.environ
      | {'PYTHONPATH': str(ROOT), 'TMPDIR': str(place / 'temporary')},
      stderr=subprocess.PIPE,
      text=True,
    )

  def __enter__(self) -> 'Service':
    for line in self._process.stderr:
      if found := re.search(r'serving on .*:(\d+)/', line):
        self.port = int(found[1])
        break
    else:
      raise RuntimeError(f'the service ended: {self._process.wait()}')
    self._reader = threading.Thread(
      target=lambda: self.said.extend(self._process.stderr)
    )
    self._reader.start()
    return self

  def __exit__(self, *_) -> None:
    self._process.send_signal(signal.SIGINT)
    try:
      self._process.wait(30)
    finally:
      self._process.kill()
      self._reader.join()
      self._process.stderr.close()

  def measure(self) -> tuple[float, ...]:
    """What `MEASURES` names, now."""
    own = self._process.pid
    below = list(descendants(own))
    status = pathlib.Path(f'/proc/{own}/status').read_text()
    return (
      resident(own),
      sum(map(resident, below)),
      len(os.listdir(f'/proc/{own}/fd')),
      int(re.search(r'Threads:\s+(\d+)', status)[1]),
      len(below),
    )

  def left(self) -> list[str]:
    """Files in its working folder and that of temporary files."""
    found = (path for path in self._place.rglob('*') if path.is_file())
    return sorted(map(str, found))


def resident(process: int) -> float:
  """MiB that a process holds; 0 if it has ended."""
  try:
    pages = pathlib.Path(f'/proc/{process}/statm').read_text().split()[1]
  except OSError:
    return 0.0
  return int(pages) * os.sysconf('SC_PAGESIZE') / (1 << 20)


def descendants(process: int) -> Iterator[int]:
  """Processes below one."""
  for path in pathlib.Path(f'/proc/{process}/task').glob('*/children'):
    with contextlib.suppress(OSError):  # a thread has ended meanwhile
      for child in map(int, path.read_text().split()):
        yield child
        yield from descendants(child)


# -------------------------------------------------------------- the clients ---
class Sounds(NamedTuple):
  """Bodies of requests.

  Attributes:
    good: recordings.
    bad: no recordings, and the status that says so.
  """

  good: list[bytes]
  bad: list[tuple[bytes, int]]

  @classmethod
  def make(cls) -> 'Sounds':
    """Encodes human speech, and what is none."""
    speech = [pack.wave(one) for one in pack.manifest()[:6]]
    joined = np.concatenate(speech)
    good = [encoded(wave, format='FLAC') for wave in speech]
    good += [
      encoded(np.resize(joined, round(seconds * rate)), rate, **how)
      for seconds, rate, how in (
        (0.4, 16_000, {'format': 'WAV'}),
        (5.0, 8_000, {'format': 'WAV', 'subtype': 'ALAW'}),
        (10.0, 48_000, {'format': 'FLAC'}),
        (20.0, 16_000, {'format': 'OGG', 'subtype': 'VORBIS'}),
        (45.0, 44_100, {'format': 'MP3'}),
        (8.0, 48_000, {'format': 'OGG', 'subtype': 'OPUS'}),
      )
    ]
    good.append(encoded(np.stack([joined, joined[::-1]], 1), format='WAV'))
    if importlib.util.find_spec('av'):
      good.append(m4a(joined))
    silence = np.zeros(RATE * 600, np.int16)
    bad = [
      (b'', 400),
      (b'these are words ' * 500, 422),
      (good[0][: len(good[0]) // 2], 422),
      (encoded(np.zeros(RATE), format='WAV'), 422),
      (encoded(speech[0][:500], format='WAV'), 422),
      (encoded(np.resize(joined, 90 * RATE), format='OGG'), 413),
      (encoded(silence, format='FLAC'), 422),  # 19 MB in some kilobytes
      (bytes(2_100_000), 413),
    ]
    return cls(good, bad)


def encoded(wave: np.ndarray, rate: int = RATE, **how) -> bytes:
  """A file of samples."""
  file = io.BytesIO()
  soundfile.write(file, wave, rate, **how)
  return file.getvalue()


def m4a(wave: np.ndarray) -> bytes:
  """A file that goes through FFmpeg, in a process below that which decodes."""
  import av

  file = io.BytesIO()
  with av.open(file, 'w', format='ipod') as out:
    stream = out.add_stream('aac', rate=RATE, layout='mono')
    frame = av.AudioFrame.from_ndarray(
      wave[None].astype(np.float32), format='fltp', layout='mono'
    )
    frame.sample_rate = RATE
    form = av.AudioResampler(
      'fltp', 'mono', RATE, frame_size=stream.codec_context.frame_size or 1024
    )
    for part in [*form.resample(frame), *form.resample(None)]:
      out.mux(stream.encode(part))
    out.mux(stream.encode(None))
  return file.getvalue()


class Visit(NamedTuple):
  """What a client needs to know.

  Attributes:
    port: of the service.
    rng: its own.
    sounds: what it may send.
    over: set when the day is.
  """

  port: int
  rng: np.random.Generator
  sounds: Sounds
  over: threading.Event

  def good(self) -> bytes:
    """A recording."""
    return self.sounds.good[self.rng.integers(len(self.sounds.good))]


def ask(port: int, method: str, path: str, body=None, **headers) -> int:
  """The status of an answer, which is read to its end."""
  with contextlib.closing(
    http.client.HTTPConnection('127.0.0.1', port, timeout=200)
  ) as connection:
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    answer.read()
    return answer.status


def page(visit: Visit) -> int:
  """Loads the page, with all that belongs to it."""
  found = {ask(visit.port, 'GET', path) for path in PAGE}
  return max(found)


def health(visit: Visit) -> int:
  """Asks as those do who watch a service."""
  return max(ask(visit.port, 'GET', path) for path in ('/health', '/metrics'))


def nowhere(visit: Visit) -> int:
  """Looks for what is not there."""
  paths = ('/wp-login.php', '/../etc/passwd', '/v1/nothing', '/.env')
  return ask(visit.port, 'GET', visit.rng.choice(paths))


def body(visit: Visit) -> int:
  """Sends a recording."""
  return ask(visit.port, 'POST', f'{SCORE}?name=clip.wav', visit.good())


def form(visit: Visit) -> int:
  """Sends a recording as the field of a form."""
  head = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n'
  return ask(
    visit.port,
    'POST',
    SCORE,
    head + b'\r\n' + visit.good() + b'\r\n--x--\r\n',
    **{'content-type': 'multipart/form-data; boundary=x'},
  )


def timeline(visit: Visit) -> int:
  """Asks where."""
  return ask(visit.port, 'POST', f'{SCORE}?timeline=true', visit.good())


def picture(visit: Visit) -> int:
  """Asks for a picture."""
  return ask(visit.port, 'POST', f'{SCORE}?picture=true', visit.good())


def bad(visit: Visit) -> int:
  """Sends no recording; tells whether the answer is the one for it."""
  data, expected = visit.sounds.bad[visit.rng.integers(len(visit.sounds.bad))]
  status = ask(visit.port, 'POST', SCORE, data)
  return 400 if status == expected else status


def path_of_name(visit: Visit) -> int:
  """Calls a recording as a file elsewhere."""
  return ask(visit.port, 'POST', f'{SCORE}?name=../../a', visit.good())


def begun(visit: Visit, sent: float, size: int | None = None) -> socket.socket:
  """A connection on which a part of a request has come."""
  data = visit.good()
  head = f'POST {SCORE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: '
  head += f'{size or len(data)}\r\n\r\n'
  made = socket.create_connection(('127.0.0.1', visit.port), timeout=200)
  made.sendall(head.encode() + data[: round(sent * len(data))])
  return made


def slow(visit: Visit) -> int:
  """Sends a recording in ten parts."""
  data = visit.good()

  def parts():
    for start in range(0, len(data), len(data) // 10 + 1):
      visit.over.wait(visit.rng.uniform(0, 0.3))
      yield data[start : start + len(data) // 10 + 1]

  size = {'content-length': str(len(data))}
  return ask(visit.port, 'POST', SCORE, parts(), **size)


def breaks_off(visit: Visit) -> int:
  """Leaves in the middle of an upload."""
  with begun(visit, 0.5) as connection:
    visit.over.wait(visit.rng.uniform(0, 0.5))
    if visit.rng.random() < 0.5:  # a reset, as of a network that is gone
      now = b'\1\0\0\0\0\0\0\0'
      connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, now)
  return GONE


def leaves(visit: Visit) -> int:
  """Leaves when all is sent, before the answer."""
  with begun(visit, 1.0):
    visit.over.wait(visit.rng.uniform(0, 0.1))
  return GONE


def told(visit: Visit, connection: socket.socket) -> bytes:
  """What comes before the service ends a connection, or the day is over."""
  found = b''
  connection.settimeout(0.2)
  while not visit.over.is_set():
    try:
      part = connection.recv(1 << 16)
    except TimeoutError:
      continue
    except ConnectionError:
      break
    if not part:
      break
    found += part
  return found


def stalls(visit: Visit) -> int:
  """Sends half of a recording, and waits until it is told to go."""
  with begun(visit, 0.5) as connection:
    found = told(visit, connection)
  status = re.match(rb'HTTP/1.1 (\d+)', found)
  return int(status[1]) if status else GONE


def silent(visit: Visit) -> int:
  """Opens a connection, and begins a request at most."""
  with socket.create_connection(('127.0.0.1', visit.port)) as connection:
    if visit.rng.random() < 0.5:
      connection.sendall(b'POST /v1/score HTTP/1.1\r\nHost: loc')
    found = told(visit, connection)
  return 200 if found else GONE


class Kind(NamedTuple):
  """A kind of visit.

  Attributes:
    act: makes it, and returns a status.
    share: how often it comes, beside the others.
    right: statuses that it may end with.
  """

  act: Callable[[Visit], int]
  share: float
  right: set[int]


KINDS = (
  Kind(body, 30, {200, *LATER}),
  Kind(form, 15, {200, *LATER}),
  Kind(timeline, 6, {200, *LATER}),
  Kind(picture, 3, {200, *LATER}),
  Kind(page, 10, {200}),
  Kind(health, 10, {200}),
  Kind(nowhere, 4, {404}),
  Kind(bad, 10, {400, *LATER}),
  Kind(path_of_name, 2, {400, *LATER}),
  Kind(slow, 4, {200, *LATER}),
  Kind(breaks_off, 4, {GONE}),
  Kind(leaves, 4, {GONE}),
  Kind(stalls, 0.3, {408, GONE, *LATER}),
  Kind(silent, 1, {GONE}),
)


# ------------------------------------------------------------------ the day ---
def half_a_day(
  service: Service,
  sounds: Sounds,
  options,
  first_hour: int,
  answers: collections.Counter,
) -> list[tuple[float, ...]]:
  """12 hours of visits.

  Args:
    service: that is visited.
    sounds: what is sent to it.
    options: of the command line.
    first_hour: at which they begin, 0 or 12.
    answers: how many visits of which kind had which status, and whether that
      was right; these are added.

  Returns:
    What was measured, each time: (share of the day, *measures).
  """
  seconds = 30 * options.minutes
  start, over = time.monotonic(), threading.Event()
  lock = threading.Lock()

  def hour() -> float:
    gone = (time.monotonic() - start) / seconds
    return first_hour + 12 * min(gone, 0.999)

  def visit(number: int) -> None:
    rng = np.random.default_rng(number)
    shares = np.array([kind.share for kind in KINDS])
    kind = KINDS[rng.choice(len(KINDS), p=shares / shares.sum())]
    try:
      status = kind.act(Visit(service.port, rng, sounds, over))
    except (OSError, http.client.HTTPException) as error:
      status = type(error).__name__
    with lock:
      answers[kind.act.__name__, status, status in kind.right] += 1

  def client(number: int) -> None:
    rng = np.random.default_rng([first_hour, number])
    for count in range(1 << 30):
      if over.is_set():
        return
      if number < max(1, HOURS[int(hour())] * options.clients):
        visit((2 * number + first_hour // 12) * 1_000_000 + count)
      over.wait(rng.exponential(0.2))

  samples, bursts = [], set()
  with futures.ThreadPoolExecutor(options.clients + options.burst) as pool:
    made = [pool.submit(client, n) for n in range(options.clients)]
    try:
      while time.monotonic() - start < seconds:
        now = int(hour())
        if now in BUSY and now not in bursts:
          bursts.add(now)
          first = 10**9 + now * options.burst
          made += [pool.submit(visit, first + n) for n in range(options.burst)]
        samples.append((hour() / 24, *service.measure()))
        time.sleep(seconds / 300)
    finally:
      over.set()
  for one in made:
    one.result()
  return samples


def show_answers(answers: collections.Counter) -> int:
  """Prints how visits ended; returns how many ended wrongly."""
  wrong = 0
  print(f'{"visits":<14}  answers')
  for kind in KINDS:
    name = kind.act.__name__
    found = {
      (status, right): count
      for (of, status, right), count in answers.items()
      if of == name
    }
    words = [
      f'{"no answer asked" if status == GONE else status}'
      f'{"" if right else " (WRONG)"}: {count}'
      for (status, right), count in sorted(found.items(), key=str)
    ]
    wrong += sum(count for (_, right), count in found.items() if not right)
    print(f'{name:<14}  {", ".join(words)}')
  return wrong


def show_growth(samples, noon, midnight, allowed: float) -> list[str]:
  """Prints what was measured; returns what has grown."""
  at, values = samples[:, 0], samples[:, 1:]
  second = at >= 0.5
  grown = []
  print(
    f'{"":<14}  {"first tenth":>11}  {"last tenth":>10}  {"highest":>8}  '
    f'{"slope a day":>11}  {"at noon":>8}  {"midnight":>8}'
  )
  for i, name in enumerate(MEASURES):
    line = values[:, i]
    slope = np.polyfit(at[second], line[second], 1)[0]
    more = midnight[i] - noon[i]
    if more >= 2 and more > allowed / 100 * noon[i]:
      grown.append(name)
    print(
      f'{name:<14}  {np.median(line[at < 0.1]):>11.0f}  '
      f'{np.median(line[at >= 0.9]):>10.0f}  {line.max():>8.0f}  '
      f'{slope:>+11.1f}  {noon[i]:>8.0f}  {midnight[i]:>8.0f}'
    )
  return grown


def parser() -> argparse.ArgumentParser:
  """The command line."""
  made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  made.add_argument('--minutes', type=float, default=10.0, help='of the day')
  made.add_argument('--clients', type=int, default=12, help='by day')
  made.add_argument('--burst', type=int, default=100, help='visits at once')
  made.add_argument('--checkpoint', help='as for detect.py')
  made.add_argument('--allowed', type=float, default=10.0, help='growth, in %%')
  return made


if __name__ == '__main__':
  sys.exit(main())
