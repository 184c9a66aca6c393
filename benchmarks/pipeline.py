"""Clips a second of the input pipeline, with and without augmentation.

  python benchmarks/pipeline.py                        the quickstart corpus
  python benchmarks/pipeline.py --corpus NAME NAME     corpora that are built
  python benchmarks/pipeline.py --corpus synthetic     noise; needs no corpus

Each corpus is read as it is stored, and once more from memory as 16 bit WAV:
what is left there is everything but the decoding of FLAC. Where a corpus is
not built, clips of noise take its place, and the table says so. Waiting for
worker processes to start is not counted. A second table gives RawBoost alone,
on one core.
"""

import argparse
import io
import os
import time

import numpy as np
import soundfile

from jaxspoof import audio
from jaxspoof.config import DataConfig
from jaxspoof.data import augment, pipeline, rawboost

SECONDS = 4.0  # of a synthetic clip


def main() -> None:
  """Measures and prints both tables."""
  parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
  )
  parser.add_argument('--corpus', nargs='+', default=['quickstart'])
  parser.add_argument('--data_dir')
  parser.add_argument('--split', default='train')
  parser.add_argument('--clips', type=int, default=256, help='held in memory')
  parser.add_argument('--cores', type=int, default=2)
  parser.add_argument('--workers', type=int, nargs='+', default=[0, 1, 2])
  parser.add_argument('--algo', type=int, nargs='+', default=[0, 3, 5])
  parser.add_argument('--batch', type=int, default=32)
  parser.add_argument('--samples', type=int, default=64_600)
  parser.add_argument('--seconds', type=float, default=5.0, help='of each run')
  options = parser.parse_args()
  print(f'{keep_to(options.cores)} cores, batch {options.batch}')
  for name in options.corpus:
    for title, source in sources(name, options):
      print_pipeline(title, source, options)
  print_rawboost(options)


def keep_to(cores: int) -> int:
  """Uses no more than so many cores, workers included; returns how many."""
  if not hasattr(os, 'sched_setaffinity'):  # macOS, Windows
    return os.cpu_count()
  allowed = sorted(os.sched_getaffinity(0))[:cores]
  os.sched_setaffinity(0, allowed)
  return len(allowed)


# ----------------------------------------------------------------- sources ---
def sources(name: str, options):
  """Pairs of what the table says and a source, for one corpus."""
  try:
    if name == 'synthetic':
      raise pipeline.CorpusNotBuilt('clips of noise, as asked for')
    source = pipeline.open_source(name, options.split, options.data_dir)
    yield f'{name} {options.split}, as stored', source
  except pipeline.CorpusNotBuilt as reason:
    print(f'\n{reason}')
    name, source = 'synthetic', synthetic(options.clips)
    yield 'synthetic, FLAC in memory', source
  count = min(options.clips, len(source))
  yield (
    f'{name}, {count} clips as 16 bit WAV in memory',
    [reencoded(source[i], 'WAV') for i in range(count)],
  )


def synthetic(count: int) -> list[dict]:
  """Clips of noise with the spectrum and the loudness of speech, roughly."""
  rng = np.random.default_rng(0)
  waves = rng.normal(0, 0.02, (count, int(SECONDS * audio.SAMPLE_RATE)))
  waves = waves[:, 1:] + 0.9 * waves[:, :-1]
  return [
    {'audio': encoded(w, 'FLAC'), 'label': i % 2, 'utterance': f'N{i}'}
    for i, w in enumerate(waves)
  ]


def reencoded(record, kind: str) -> dict:
  """A record with its audio in another container."""
  wave = audio.load(record['audio'], str(record['utterance']))
  return {**record, 'audio': encoded(wave, kind)}


def encoded(wave: np.ndarray, kind: str) -> bytes:
  """A 16 bit file in memory."""
  file = io.BytesIO()
  soundfile.write(file, wave, audio.SAMPLE_RATE, 'PCM_16', format=kind)
  return file.getvalue()


# ----------------------------------------------------------------- measure ---
def print_pipeline(title: str, source, options) -> None:
  """One row for each augmentation, one column for each number of workers."""
  mean = np.mean([length(source[i]) for i in range(min(64, len(source)))])
  print(
    f'\n{title}: {len(source):,} clips of {mean:.1f} s,'
    f' crops of {options.samples / audio.SAMPLE_RATE:.2f} s; clips/s'
  )
  heads = ''.join(f'{f"{n} workers":>12}' for n in options.workers)
  print(f'{"":24}{heads}')
  for algo in options.algo:
    rates = [rate(source, algo, n, options) for n in options.workers]
    cells = ''.join(f'{r:12,.0f}' for r in rates)
    print(f'{f"RawBoost algo {algo}" if algo else "no augmentation":24}{cells}')


def length(record) -> float:
  """Seconds of a clip."""
  return len(audio.load(record['audio'], 'clip')) / audio.SAMPLE_RATE


def rate(source, algo: int, workers: int, options) -> float:
  """Clips a second that the pipeline yields when nothing else is done."""
  config = DataConfig(
    name='benchmark',
    augment='rawboost' if algo else 'none',
    rawboost=rawboost.RawBoostConfig(algo=algo),
  )
  batches = pipeline.train_batches(
    source,
    batch=options.batch,
    samples=options.samples,
    seed=0,
    workers=workers,
    transforms=augment.transforms(config),
  )
  iterator = iter(batches)
  try:
    for _ in range(2 * max(4, workers)):  # what was computed ahead meanwhile
      next(iterator)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < options.seconds:
      next(iterator)
      count += options.batch
    return count / (time.perf_counter() - begin)
  finally:
    iterator.close()


def print_rawboost(options, clips: int = 50) -> None:
  """Time of each setting for one crop, in this thread alone."""
  wave = np.random.default_rng(0).normal(0, 0.1, options.samples)
  wave, rng = wave.astype(np.float32), np.random.default_rng(1)
  seconds = options.samples / audio.SAMPLE_RATE
  print(f'\nRawBoost alone, one core, clips of {seconds:.2f} s')
  print(f'{"algo":>6}{"ms a clip":>12}{"clips/s":>10}   CPU time, median')
  for algo in range(1, 9):
    config = rawboost.RawBoostConfig(algo=algo)
    times = []
    for _ in range(clips):
      begin = time.process_time()
      rawboost.rawboost(wave, rng, config)
      times.append(time.process_time() - begin)
    median = np.median(times)
    print(f'{algo:6}{1e3 * median:12.2f}{1 / median:10,.0f}')


if __name__ == '__main__':
  main()
