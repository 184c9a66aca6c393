"""Speed of an answer: cold start, one clip, a folder; for each system.

  python benchmarks/detection.py
  python benchmarks/detection.py --checkpoints default AASIST.pth --clips=500

For each checkpoint, and for each model of `--models` with weights that are
drawn, since speed does not depend on them:

  cold start   `detect.py --input CLIP` as a process, from a filled cache of
               compiled programs: median of `--rounds`
  warm         `Detector.score` of one file of `--seconds`, loaded once: median
  clips/s      `Detector.score_many` of a folder of `--clips` such files, one
               after the other as on a CPU, decoded by threads meanwhile; and
               the share of the cores that was busy
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import soundfile
from flax import nnx

from jaxspoof import models
from jaxspoof.detector import Detector, Failure
from jaxspoof.machine import huge_pages, programs
from jaxspoof.runs import weights_file
from jaxspoof.training import state

RATE, WARM = 16_000, 20
ROOT = pathlib.Path(__file__).resolve().parents[1]
# 'default' is the bundle that comes with the package.
CHECKPOINTS = ('default',)
MODELS = ('aasist', 'aasist_l', 'ecapa', 'lcnn', 'rawnet2')


def main(argv: list[str] | None = None) -> None:
  """Measures and prints the table."""
  options = parser().parse_args(argv)
  programs.keep()
  print(
    f'{"system":<24}  {"cold start":>10}  {"warm":>9}  {"clips/s":>8}  '
    f'{"cores":>6}'
  )
  with tempfile.TemporaryDirectory() as place:
    place = pathlib.Path(place)
    clips = folder_of_clips(place / 'clips', options.clips, options.seconds)
    named = [(checkpoint, checkpoint) for checkpoint in options.checkpoints]
    named += [
      (f'{model} (drawn)', str(drawn(place / model, model, options.seconds)))
      for model in options.models
    ]
    for name, checkpoint in named:
      cold = cold_start(checkpoint, clips[0], options.rounds)
      warm, rate, busy = warm_speed(checkpoint, clips, options.warm)
      print(
        f'{name[-24:]:<24}  {cold:>8.2f} s  {1000 * warm:>6.1f} ms  '
        f'{rate:>8.1f}  {busy:>6.0%}',
        flush=True,
      )


def folder_of_clips(folder: pathlib.Path, count: int, seconds: float):
  """Paths of clips that differ, 16 kHz WAV."""
  folder.mkdir()
  rng = np.random.default_rng(0)
  paths = []
  for number in range(count):
    wave = rng.normal(0, 0.1, round(seconds * RATE))
    paths.append(str(folder / f'{number:04d}.wav'))
    soundfile.write(paths[-1], wave, RATE)
  return paths


def drawn(workdir: pathlib.Path, model: str, seconds: float) -> pathlib.Path:
  """A run whose weights are those before training."""
  system = models.system({'name': model})
  config = {
    'model': {'name': model},
    'data': {
      'eval_samples': round(seconds * RATE),
      'padded': system.kind.variable_length,
      'bucket': RATE,
    },
    'loss': {'name': 'weighted_cross_entropy'},
  }
  workdir.mkdir()
  (workdir / 'config.json').write_text(json.dumps(config))
  _, params, stats = state.split(system.make(nnx.Rngs(0)))
  weights_file.save(workdir, params, stats)
  return workdir


def cold_start(checkpoint: str, clip: str, rounds: int) -> float:
  """Seconds of the whole command; the first one fills the caches."""
  words = [sys.executable, str(ROOT / 'detect.py')]
  words += ['--checkpoint', checkpoint, '--input', clip]
  environment = os.environ | {'PYTHONPATH': str(ROOT)}
  # Where it is set, Python would compile the whole package at each start.
  environment.pop('PYTHONDONTWRITEBYTECODE', None)
  times = []
  for _ in range(rounds + 1):
    start = time.perf_counter()
    subprocess.run(
      words,
      check=True,
      env=environment,
      stdout=subprocess.DEVNULL,
    )
    times.append(time.perf_counter() - start)
  return statistics.median(times[1:])


def warm_speed(
  checkpoint: str, clips: list[str], warm: int
) -> tuple[float, float, float]:
  """Seconds of a clip, clips per second of a folder, and busy cores, 0 to 1."""
  detector = Detector.load(checkpoint)
  detector.score(clips[0])
  times = []
  for number in range(warm):
    start = time.perf_counter()
    detector.score(clips[number % len(clips)])
    times.append(time.perf_counter() - start)
  start, used = time.perf_counter(), time.process_time()
  found = list(detector.score_many(clips))
  seconds, used = time.perf_counter() - start, time.process_time() - used
  assert not any(isinstance(one, Failure) for one in found)
  cores = len(os.sched_getaffinity(0))
  return statistics.median(times), len(clips) / seconds, used / seconds / cores


def parser() -> argparse.ArgumentParser:
  """The command line."""
  made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  made.add_argument(
    '--checkpoints', nargs='*', default=CHECKPOINTS, help='as for detect.py'
  )
  made.add_argument(
    '--models', nargs='*', default=MODELS, help='with weights that are drawn'
  )
  made.add_argument('--clips', type=int, default=500, help='in the folder')
  made.add_argument('--seconds', type=float, default=4.0, help='of a clip')
  made.add_argument('--rounds', type=int, default=5, help='cold starts')
  made.add_argument('--warm', type=int, default=WARM, help='single clips')
  return made


if __name__ == '__main__':
  huge_pages.ensure()
  main()
