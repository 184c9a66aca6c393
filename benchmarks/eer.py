"""How long the EER and its bootstrap interval take.

  python benchmarks/eer.py [--trials=1000000]

Times are the best of several runs; compilation is shown apart.
"""

import argparse
import time

import jax
import numpy as np

from jaxspoof.metrics import clustered
from jaxspoof.metrics.eer import eer, eer_of

SPLITS = {
  'a quickstart eval split': (500, 1_000),
  'the ASVspoof 2019 LA eval split': (7_355, 63_882),
}


def main():
  """Print the table."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--trials', type=int, default=1_000_000)
  parser.add_argument('--resamples', type=int, default=1_000)
  arguments = parser.parse_args()
  print(f'device: {jax.devices()[0].device_kind}')

  scores, labels = normal_trials(
    arguments.trials // 10, arguments.trials - arguments.trials // 10
  )
  name = f'{arguments.trials:,} trials'
  measure(f'EER, host sort of float64, {name}', lambda: eer_of(scores, labels))
  on_device = jax.device_put((scores.astype(np.float32), labels))
  jitted = jax.jit(eer)
  measure(
    f'EER, all on the device, float32, {name}',
    lambda: jax.block_until_ready(jitted(*on_device)),
  )
  for split, counts in SPLITS.items():
    scores, labels = normal_trials(*counts)
    measure(
      f'interval, {arguments.resamples:,} resamples of {split}',
      lambda scores=scores, labels=labels: clustered.resampled_metrics(
        scores[None], labels, resamples=arguments.resamples
      ),
    )


def normal_trials(bonafide: int, spoof: int):
  """Two normal classes, two deviations apart."""
  labels = np.repeat(np.array([1, 0], np.int32), [bonafide, spoof])
  return np.random.default_rng(0).normal(size=len(labels)) + 2 * labels, labels


def measure(name: str, function, repeats: int = 3):
  """Print the first call's extra time and the best of the others."""
  seconds = []
  for _ in range(1 + repeats):
    begin = time.perf_counter()
    function()
    seconds.append(time.perf_counter() - begin)
  best = min(seconds[1:])
  print(f'{name:68} {best:7.3f} s  (+ {seconds[0] - best:.1f} s to compile)')


if __name__ == '__main__':
  main()
