"""All measurements on a GPU in one command, ordered by worth.

  python benchmarks/gpu.py OUT
  python benchmarks/gpu.py OUT --reference=AASIST --speechbrain=SPEECHBRAIN
  python benchmarks/gpu.py OUT --small         tries everything, on a CPU too
  python benchmarks/gpu.py OUT --parts card ours

AASIST is a clone of clovaai/aasist, SPEECHBRAIN one of speechbrain/speechbrain.
The part `ours` times AASIST; its original is prepared meanwhile and measured
between two parts. Each part is a process of its own with a limit of time; it
writes OUT/PART.json as soon as it knows something, and what it prints goes to
OUT/PART.txt. What is cut off loses only the rest of its part, and the end of
`--minutes` only the parts that had not begun. Golden data for `parity` are
looked for in `--golden`, by default beside the checkout
(`../shared/reference`).

A machine with JAX, Flax, Optax, Orbax, PyTorch, matplotlib and pyarrow for
Python 3.12 needs some packages more; `benchmarks/gpu_wheels.sh FOLDER` fetches
them where there is a network, and where there is none

  python -m pip install --no-index --no-deps --target SITE FOLDER/*.whl
  PYTHONPATH=SITE python benchmarks/gpu.py OUT

uses them.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent

# Part: most seconds that it may take. The first are worth most. Trying out
# algorithms of convolutions is what takes long: 45 s for a training step.
PARTS = {
  'card': 30,
  'ours': 150,
  'training': 100,
  'quickstart': 120,
  'parity': 240,
  'scoring': 60,
  'kernels': 30,
  'ecapa': 60,
  'search': 90,
}
# Their times do not matter, so they run side by side.
UNTIMED = ('quickstart', 'parity')
NEEDS_CORPUS = ('training', 'quickstart')
ORIGINAL_LIMIT = 240


def main() -> None:
  """Runs the parts and prints what they found; exit status 1: one failed."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('out', type=pathlib.Path)
  parser.add_argument('--reference', type=pathlib.Path)
  parser.add_argument('--speechbrain', type=pathlib.Path)
  parser.add_argument(
    '--golden', type=pathlib.Path, default=ROOT.parent / 'shared/reference'
  )
  parser.add_argument('--parts', nargs='*', choices=PARTS, default=[*PARTS])
  parser.add_argument('--minutes', type=float, default=8.0)
  parser.add_argument('--small', action='store_true')
  options = parser.parse_args()
  options.out = options.out.resolve()
  options.out.mkdir(parents=True, exist_ok=True)
  end = time.monotonic() + 60 * options.minutes
  rival = corpus = None
  if 'ours' in options.parts and options.reference:
    rival = Rival(options)
  if set(NEEDS_CORPUS) & set(options.parts):
    corpus = start('corpus', options)  # on the CPU, while others measure
  failed = []
  for parts in side_by_side(options.parts):
    if corpus and set(NEEDS_CORPUS) & set(parts):
      wait(corpus, end)
    failed += run(parts, options, end)
    if rival:
      # Alone on the card, at the first moment at which it can be.
      rival.measure(last=parts[-1] == options.parts[-1], end=end)
  if rival:
    rival.stop()
  summarise(options.out)
  if failed:
    sys.exit(f'failed: {", ".join(failed)}')


# ------------------------------------------------------------------- parts ---
def command(part: str, options) -> list[str]:
  """What a part is started with."""
  small = options.small
  if part == 'ecapa':
    sizes = '--channels=16 --frames=30' if small else '--channels=512'
    batches = '--forward 1 --train 2' if small else '--forward 1 64 --train 64'
    words = [f'{HERE}/ecapa.py', *sizes.split(), *batches.split()]
    words += ['--rounds=1' if small else '--rounds=10']
    if options.speechbrain:
      words.append(f'--reference={options.speechbrain}')
    return words
  if part == 'search':
    sizes = '--variant=smoke --rounds=1' if small else '--variant='
    return [f'{HERE}/search.py', '--orders', 'first', *sizes.split()]
  words = [f'{HERE}/gpu_parts/{part}.py', str(options.out)]
  if part == 'quickstart':
    words = [f'{HERE}/gpu_parts/training.py', str(options.out), '--quickstart']
  if part == 'original':
    words.append(f'--reference={options.reference}')
  if part == 'parity':
    words.append(f'--golden={options.golden}')
  return words + ['--small'] * small


def start(part: str, options) -> subprocess.Popen:
  """Starts a part; what it prints goes to OUT/PART.txt."""
  environment = os.environ | {
    'PYTHONPATH': os.pathsep.join(
      filter(None, [str(ROOT), str(HERE), os.environ.get('PYTHONPATH')])
    ),
    'PYTHONUNBUFFERED': '1',
    # What was tried out once is not tried again, by another part or a rerun.
    'JAX_COMPILATION_CACHE_DIR': str(options.out / 'cache'),
    'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    # The rival's process has its arrays on the same card.
    'XLA_PYTHON_CLIENT_PREALLOCATE': 'false',
    'TF_CPP_MIN_LOG_LEVEL': os.environ.get('TF_CPP_MIN_LOG_LEVEL', '2'),
    'GLIBC_TUNABLES': os.environ.get(
      'GLIBC_TUNABLES', 'glibc.malloc.hugetlb=1'
    ),
  }
  if part == 'parity':
    # What is compared does not depend on which algorithm is fastest, and to
    # try them out for its many programs takes longer than the part may.
    flags = os.environ.get('XLA_FLAGS', ''), '--xla_gpu_autotune_level=0'
    environment['XLA_FLAGS'] = ' '.join(flags).strip()
  with open(options.out / f'{part}.txt', 'w') as log:
    return subprocess.Popen(
      [sys.executable, *command(part, options)],
      cwd=ROOT,
      env=environment,
      stdout=log,
      stderr=subprocess.STDOUT,
    )


def side_by_side(parts: list[str]) -> list[list[str]]:
  """The parts in their order, those that are not timed together."""
  found = []
  for part in parts:
    if found and part in UNTIMED and found[-1][-1] in UNTIMED:
      found[-1].append(part)
    else:
      found.append([part])
  return found


def run(parts: list[str], options, end: float) -> list[str]:
  """Runs parts at once, for as long as they may take; those that failed."""
  # A try-out on a slow CPU is not cut off.
  limit = max(PARTS[part] for part in parts) * (3 if options.small else 1)
  limit = min(limit, end - time.monotonic())
  if limit < 5:
    print(f'\n{", ".join(parts)}: left out, no time left', flush=True)
    return []
  begin, failed = time.monotonic(), []
  processes = {part: start(part, options) for part in parts}
  for part, process in processes.items():
    status = wait(process, begin + limit)
    print(f'\n----- {part}: {time.monotonic() - begin:.0f} s, {status}')
    print((options.out / f'{part}.txt').read_text().rstrip(), flush=True)
    if status.startswith('failed'):
      failed.append(part)
  return failed


def wait(process: subprocess.Popen, end: float) -> str:
  """Waits for a process until `end`, then ends it; how it ended, in words."""
  try:
    status = process.wait(max(0.1, end - time.monotonic()))
  except subprocess.TimeoutExpired:
    process.kill()
    process.wait()
    return 'stopped: no time left'
  return 'done' if not status else f'failed with exit status {status}'


class Rival:
  """The original AASIST in PyTorch, prepared while our parts are measured.

  `torch.compile` takes a minute or two, so it works beside the first parts.
  It measures when it is told to, while nothing else uses the card.
  """

  def __init__(self, options):
    """Starts it."""
    self._out = options.out
    for name in ('ready', 'go'):
      (self._out / f'original.{name}').unlink(missing_ok=True)
    self._begin = time.monotonic()
    self._process = start('original', options)
    self._done = False

  def measure(self, *, last: bool, end: float) -> None:
    """Lets it measure if it is ready; after the last part, waits for that."""
    end = min(end, self._begin + ORIGINAL_LIMIT)
    while last and not self._ready() and time.monotonic() < end:
      time.sleep(0.5)
    if self._done or not self._ready():
      return
    self._done = True
    (self._out / 'original.go').touch()
    status = wait(self._process, end)
    print(f'\n----- original: {status}')
    print((self._out / 'original.txt').read_text().rstrip(), flush=True)

  def stop(self) -> None:
    """Ends it where it still runs."""
    if self._process.poll() is None:
      self._process.kill()
      print('\noriginal: stopped, it was never ready', flush=True)

  def _ready(self) -> bool:
    return (
      self._process.poll() is not None
      or (self._out / 'original.ready').exists()
    )


# ----------------------------------------------------------------- summary ---
def summarise(out: pathlib.Path) -> None:
  """Prints AASIST beside its original: the table of docs/scaling.md."""
  rows = {}
  for name in ('ours', 'original'):
    path = out / f'{name}.json'
    if path.is_file():
      rows |= json.loads(path.read_text()).get('runs', {})
  if not rows:
    return
  print('\n----- AASIST and its original')
  print(f'{"work":14} {"batch":>5}  {"what":26} {"ms":>8} {"clips/s":>8}')
  for row in sorted(
    rows.values(), key=lambda r: (r['kind'], r['batch'], r['seconds'])
  ):
    print(
      f'{row["kind"]:14} {row["batch"]:>5}  {row["what"]:26} '
      f'{1e3 * row["seconds"]:8.2f} {row["batch"] / row["seconds"]:8.0f}'
    )
  shutil.rmtree(out / 'profile', ignore_errors=True)


if __name__ == '__main__':
  main()
