"""A folder as users have them, scored, killed, and continued.

python benchmarks/mixed.py --files=1000 --hours=2

Makes a folder of good recordings and of everything that comes between: cut,
empty, words, wrong extensions, 8 and 192 kHz, six channels, 20 ms, a long one,
one that may not be read, unicode, newlines and no text at all in names, links
in loops, a pipe. `detect.py --out` scores it undisturbed; then again, killed
(SIGKILL) several times on the way and started again with the same command.
Printed is whether each file is accounted for exactly once, as it should be,
whether both tables are the same bytes, and the memory at the beginning and at
its highest.
"""

import argparse
import collections
import csv
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import numpy as np
import soundfile

RATE = 16_000
SCORED, FAILED, LEFT_OUT = 'scored', 'failed', 'left out'
# Before the command, where root runs it, who may read what nobody may.
WITHOUT_RIGHTS = 'setpriv', '--bounding-set=-dac_override,-dac_read_search'


def main(argv: list[str] | None = None) -> int:
  """Makes, scores, kills, compares; returns 1 if something is not as it should.

  Args:
    argv: the command line.
  """
  options = parser().parse_args(argv)
  with tempfile.TemporaryDirectory() as place:
    place = pathlib.Path(place)
    expected = make(place / 'in', options.files, options.hours * 3600)
    environment = os.environ | {
      'JAX_COMPILATION_CACHE_DIR': str(place / 'cache')
    }
    rights = WITHOUT_RIGHTS if os.geteuid() == 0 else ()
    good, bad = (
      Run(place, name, options.checkpoint, environment, rights)
      for name in ('undisturbed.csv', 'killed.csv')
    )
    good.follow()
    for part in range(1, options.kills + 1):
      bad.follow(kill_at=part * options.files // (options.kills + 1))
    bad.follow()
    wrong = problems(place / 'undisturbed.csv', expected)
    same = good.table.read_bytes() == bad.table.read_bytes()
    count = collections.Counter(expected.values())
    print(f'files: {dict(count)}')
    print(f'not accounted for as they should: {len(wrong)}')
    for line in wrong[:20]:
      print(f'  {line}')
    print(f'killed {options.kills} times, the same table: {same}')
    early, highest = good.memory()
    print(
      f'memory: {early:.0f} MiB after a tenth, {highest:.0f} at its highest'
    )
    print(f'{good.seconds:.0f} s undisturbed; exit status {good.status}')
  return 1 if wrong or not same or good.status != 1 else 0


class Run:
  """The command on the folder, as a process.

  Args:
    place: the folder that holds `in`; the table is written there.
    name: of the table.
    checkpoint: of the detector; None: the one that comes with the package.
    environment: of the process.
    before: the command that runs it.
  """

  def __init__(self, place, name, checkpoint, environment, before=()):
    self.table = place / name
    root = pathlib.Path(__file__).resolve().parents[1]
    self._command = [
      *before,
      *(sys.executable, root / 'detect.py', '--input', place / 'in'),
      *('--out', self.table),
      *(('--checkpoint', checkpoint) if checkpoint else ()),
    ]
    self._environment = environment | {'PYTHONPATH': str(root)}
    self._samples: list[tuple[int, float]] = []  # bytes of the table, MiB
    self.seconds, self.status = 0.0, None

  def follow(self, kill_at: int | None = None) -> None:
    """Runs it to its end, or kills it once there are so many rows."""
    start = time.perf_counter()
    process = subprocess.Popen(
      self._command,
      env=self._environment,
      stderr=subprocess.DEVNULL,
    )
    try:
      while process.poll() is None:
        time.sleep(0.05)
        if kill_at is not None and self._rows() >= kill_at:
          break
        self._sample(process.pid)
    finally:
      process.send_signal(signal.SIGKILL)  # nothing, if it has ended
      process.wait()
    self.seconds, self.status = time.perf_counter() - start, process.returncode

  def memory(self) -> tuple[float, float]:
    """MiB that it held after a tenth of the table, and at its highest."""
    whole = self._samples[-1][0]
    early = [m for size, m in self._samples if 0 < size <= whole / 10]
    return max(early, default=0.0), max(m for _, m in self._samples)

  def _rows(self) -> int:
    if not self.table.exists():
      return 0
    with self.table.open(newline='', errors='surrogateescape') as file:
      return max(sum(1 for _ in csv.reader(file)) - 1, 0)

  def _sample(self, pid: int) -> None:
    try:
      text = pathlib.Path(f'/proc/{pid}/status').read_text()
      held = next(x for x in text.splitlines() if x.startswith('VmRSS'))
      size = self.table.stat().st_size
    except (OSError, StopIteration):  # not begun, or ended meanwhile
      return
    self._samples.append((size, int(held.split()[1]) / 1024))


def problems(table: pathlib.Path, expected: dict[str, str]) -> list[str]:
  """What a table says of files that it should not.

  Args:
    table: written by `detect.py --out`.
    expected: `SCORED`, `FAILED` or `LEFT_OUT`, by path.
  """
  with table.open(newline='', errors='surrogateescape') as file:
    rows = list(csv.DictReader(file))
  count = collections.Counter(row['path'] for row in rows)
  found = {row['path']: FAILED if row['error'] else SCORED for row in rows}
  wrong = [f'{path!r}: {n} rows' for path, n in count.items() if n > 1]
  for path in sorted({*expected, *found}):
    should = expected.get(path, 'not there')
    is_ = found.get(path, LEFT_OUT)
    if is_ != should:
      wrong.append(f'{path!r}: {is_}, expected {should}')
  return wrong


# --------------------------------------------------------------- the folder ---
def make(folder: pathlib.Path, count: int, long: float) -> dict[str, str]:
  """Makes a folder of files of all kinds.

  Args:
    folder: made here.
    count: of files; at least one of each of `KINDS`.
    long: seconds of the one long file.

  Returns:
    What should become of each file, by its path.
  """
  folder.mkdir()
  expected, rng = {}, np.random.default_rng(0)
  single = [_long_file, _pipe, _forbidden, _loops]
  for number in range(count - len(single)):
    kind = KINDS[number % len(KINDS)]
    into = folder / f'{number % 7}'
    into.mkdir(exist_ok=True)
    path, should = kind(into, f'{number:04d}', speech(rng))
    expected[str(path)] = should
  for kind in single:
    path, should = kind(folder, 'one', speech(rng, long))
    expected[str(path)] = should
    long = 1.0
  return expected


def speech(rng: np.random.Generator, seconds: float = 1.0) -> np.ndarray:
  """Pulses through a resonance, and some noise: a second of them, repeated."""
  time_ = np.arange(RATE) / RATE
  pitch = rng.uniform(90, 220) * (1 + 0.1 * np.sin(2 * np.pi * 3 * time_))
  voice = np.sign(np.sin(np.cumsum(2 * np.pi * pitch / RATE)))
  wave = 0.1 * voice * (time_ % 0.3 > 0.06) + rng.normal(0, 0.005, RATE)
  return np.resize(wave, round(seconds * RATE)).astype(np.float32)


def _write(path, wave, rate=RATE, **how) -> pathlib.Path:
  soundfile.write(os.fsencode(path), wave, rate, **how)
  return path


def _good(into, name, wave):
  return _write(into / f'{name}.wav', wave), SCORED


def _flac(into, name, wave):
  return _write(into / f'{name}.flac', wave), SCORED


def _cut(into, name, wave):
  path = _write(into / f'{name}_cut.flac', wave)
  path.write_bytes(path.read_bytes()[:-2_000])
  return path, FAILED


def _empty(into, name, wave):
  path = into / f'{name}_empty.wav'
  path.touch()
  return path, FAILED


def _words(into, name, wave):
  path = into / f'{name}_words.wav'
  path.write_text('these are words\n' * 50)
  return path, FAILED


def _text(into, name, wave):
  path = into / f'{name}.txt'
  path.write_text('these are words\n' * 50)
  return path, LEFT_OUT


def _wrong_extension(into, name, wave):
  return _write(into / f'{name}_wav.mp3', wave, format='WAV'), SCORED


def _no_extension(into, name, wave):
  return _write(into / f'{name}_flac', wave, format='FLAC'), SCORED


def _telephone(into, name, wave):
  return _write(into / f'{name}_8k.wav', wave[::2], 8_000), SCORED


def _wide(into, name, wave):
  return _write(into / f'{name}_192k.wav', np.repeat(wave, 12), 192_000), SCORED


def _six(into, name, wave):
  waves = np.stack([wave * gain for gain in (1, 0.9, 0.5, 0.4, 0.3, 0.2)], 1)
  return _write(into / f'{name}_6.wav', waves), SCORED


def _short(into, name, wave):
  return _write(into / f'{name}_20ms.wav', wave[: RATE // 50]), FAILED


def _silent(into, name, wave):
  return _write(into / f'{name}_silent.wav', 0 * wave), FAILED


def _unicode(into, name, wave):
  return _write(into / f'{name} ünï 語音 🎙.wav', wave), SCORED


def _newline(into, name, wave):
  return _write(into / f'{name}\n"two", lines\r\n.wav', wave), SCORED


def _no_text(into, name, wave):
  return _write(
    into / os.fsdecode(name.encode() + b'\xff\xfe.wav'), wave
  ), SCORED


def _dangling(into, name, wave):
  path = into / f'{name}_link.wav'
  path.symlink_to(into / 'is not there.wav')
  return path, FAILED


KINDS = (
  _good, _flac, _good, _cut, _good, _empty, _flac, _words, _good, _text,
  _wrong_extension, _no_extension, _telephone, _wide, _six, _short, _silent,
  _unicode, _newline, _no_text, _dangling,
)  # fmt: skip


def _long_file(into, name, wave):
  return _write(into / f'{name}_long.wav', wave), SCORED


def _pipe(into, name, wave):
  path = into / f'{name}_pipe.wav'
  os.mkfifo(path)
  return path, FAILED


def _forbidden(into, name, wave):
  path = _write(into / f'{name}_forbidden.wav', wave)
  path.chmod(0)
  return path, FAILED


def _loops(into, name, wave):
  """A folder that holds itself, and links to files; each once."""
  inside = into / f'{name}_loop'
  inside.mkdir()
  (inside / 'again').symlink_to(inside)
  (inside / 'up').symlink_to(into)
  return _write(inside / 'inside.wav', wave), SCORED


def parser() -> argparse.ArgumentParser:
  """The command line."""
  made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  made.add_argument('--files', type=int, default=1_000, help='how many')
  made.add_argument('--hours', type=float, default=2.0, help='of the long one')
  made.add_argument('--kills', type=int, default=3, help='how many times')
  made.add_argument('--checkpoint', help='as for detect.py')
  return made


if __name__ == '__main__':
  sys.exit(main())
