"""How fast a corpus of real size is built and read, and in what memory.

  python benchmarks/builders.py [--folder=/tmp] [--clips=25380]

Writes an archive laid out like LA.zip whose train split is as large as the real
one (1.3 GB), builds `asvspoof2019_la` from it in a process of its own, once
with the published FLAC files and once with 16-bit PCM, and reads batches from
both. Needs 6 GB of disk for a while.
"""

import argparse
import dataclasses
import io
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
import zipfile

import numpy as np
import soundfile

from jaxspoof.data import pipeline
from tfds_builders import build
from tfds_builders.asvspoof2019.builder import Asvspoof2019La
from tfds_builders.corpus import Counts

SECONDS, DISTINCT = 3.4, 100
LIMIT_MB = 500


def main() -> None:
  """Prints the table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--folder', type=pathlib.Path, help='for 6 GB of files')
  parser.add_argument('--clips', type=int, default=25_380)
  parser.add_argument('--batches', type=int, default=60, help='to read')
  parser.add_argument('--build', help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.build:
    build_one(arguments.build, arguments.folder, arguments.clips)
    return
  with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
    folder = pathlib.Path(name)
    path = write_archive(folder / 'LA.zip', arguments.clips)
    print(f'{path.name}: {path.stat().st_size / 1e9:.2f} GB', flush=True)
    for config in ('flac', 'int16'):
      command = [sys.executable, __file__, f'--build={config}']
      command += [f'--folder={folder}']
      subprocess.run([*command, f'--clips={arguments.clips}'], check=True)
      read(config, folder, arguments.batches)


def build_one(config: str, folder: pathlib.Path, clips: int) -> None:
  """Builds in this process, and prints what that took."""
  expect(clips)
  begin, busy = time.perf_counter(), time.process_time()
  build.build(f'asvspoof2019_la/{config}', folder / 'data', folder)
  seconds, busy = time.perf_counter() - begin, time.process_time() - busy
  # Kilobytes on Linux.
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
  total = sum(counts(clips).values())
  print(
    f'{config}: {total:,} clips built in {seconds:.1f} s, '
    f'{total / seconds:,.0f} clips/s, {1e3 * busy / total:.2f} ms of CPU a '
    f'clip, peak memory {peak:.0f} MB'
  )
  if peak > LIMIT_MB:
    sys.exit(f'error: expected less than {LIMIT_MB} MB')


def read(config: str, folder: pathlib.Path, batches: int) -> None:
  """Prints how fast training batches of 32 come, in threads."""
  source = pipeline.open_source(
    f'asvspoof2019_la/{config}', 'train', folder / 'data'
  )
  stream = iter(
    pipeline.train_batches(source, batch=32, samples=64_600, seed=0)
  )
  next(stream)
  begin = time.perf_counter()
  for _ in range(batches):
    next(stream)
  speed = 32 * batches / (time.perf_counter() - begin)
  print(f'{config}: {speed:,.0f} clips/s in training batches', flush=True)
  stream.close()


def counts(clips: int) -> dict[str, int]:
  """Trials by split."""
  return {'train': clips, 'dev': min(200, clips), 'eval': min(200, clips)}


def expect(clips: int) -> None:
  """Takes the archive of this benchmark for the published one."""
  la = Asvspoof2019La.CORPUS
  splits = {
    split: dataclasses.replace(la.splits[split], counts=Counts(count))
    for split, count in counts(clips).items()
  }
  Asvspoof2019La.CORPUS = dataclasses.replace(la, splits=splits)


def write_archive(path: pathlib.Path, clips: int) -> pathlib.Path:
  """Writes a zip like LA.zip, of some clips under many names."""
  rng = np.random.default_rng(0)
  audio = [flac(rng) for _ in range(DISTINCT)]
  with zipfile.ZipFile(path, 'w') as packed:
    for split, of in Asvspoof2019La.CORPUS.splits.items():
      lines = []
      for i in range(counts(clips)[split]):
        utterance = f'LA_{split[0].upper()}_{i:07d}'
        bona_fide = i < counts(clips)[split] // 10
        tail = '- bonafide' if bona_fide else 'A01 spoof'
        lines.append(f'LA_{i % 20:04d} {utterance} - {tail}\n')
        packed.writestr(
          f'LA/ASVspoof2019_LA_{split}/flac/{utterance}.flac',
          audio[i % DISTINCT],
        )
      packed.writestr(f'LA/{of.lists[0]}', ''.join(lines))
  return path


def flac(rng: np.random.Generator) -> bytes:
  """Noise that takes about one byte for a sample, as speech does."""
  pcm = rng.integers(-100, 100, int(SECONDS * 16_000)).astype(np.int16)
  file = io.BytesIO()
  soundfile.write(file, pcm, 16_000, format='FLAC', subtype='PCM_16')
  return file.getvalue()


if __name__ == '__main__':
  main()
