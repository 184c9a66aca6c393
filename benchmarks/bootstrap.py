"""How long the bootstrap over speakers and attacks takes, and whether it holds.

  python benchmarks/bootstrap.py
  python benchmarks/bootstrap.py --protocol=EVAL.trl.txt --scores A.txt B.txt

Without score files two systems of the size of ASVspoof 2019 LA eval are
simulated. The coverage is that of tests whose speakers and attacks are drawn
from a population with a known EER: the share of 95 % intervals that hold it.
"""

import argparse
import statistics
import time

import numpy as np

from jaxspoof.metrics import clustered, table, tdcf
from jaxspoof.score_files import protocols, score_lists

# With the official verification system of ASVspoof 2019 LA eval.
METRICS = table.forms(tdcf.AsvRates(0.02458101, 0.02460467, 0.76065245))


def main():
  """Print both tables."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--scores', nargs='+')
  parser.add_argument('--protocol')
  parser.add_argument('--resamples', type=int, default=1_000)
  parser.add_argument('--tests', type=int, default=200, help='of the coverage')
  options = parser.parse_args()
  if options.scores:
    protocol = options.protocol and protocols.read(options.protocol)
    files = [score_lists.read(x, protocol or None) for x in options.scores]
    scores = [x.scores for x in files]
    trials = files[0].label, files[0].speaker, files[0].attack
  else:
    one, *trials = simulate(np.random.default_rng(0), 48, 13, 153, 102)
    noise = np.random.default_rng(1).normal(size=len(one))
    scores = [one, one + 0.5 * noise]
  time_it(np.stack(scores), *trials, options.resamples)
  if options.tests:
    cover(options.tests)


def time_it(scores_KxN, label, speaker, attack, resamples):
  """Times of drawing trials, speakers, and speakers and attacks."""
  systems, trials = scores_KxN.shape
  print(f'{systems} systems, {trials:,} trials, {resamples:,} resamples')
  for name, given in (
    ('trials', {}),
    ('speakers', dict(speaker=speaker)),
    ('speakers and attacks', dict(speaker=speaker, attack=attack)),
  ):
    begin, cpu = time.perf_counter(), time.process_time()
    found = clustered.resampled_metrics(
      scores_KxN,
      label,
      metrics=METRICS,
      resamples=resamples,
      **given,
    )
    seconds, cpu = time.perf_counter() - begin, time.process_time() - cpu
    low, high = clustered.interval(found['eer'][0])
    print(
      f'  {name:22} {seconds:7.2f} s, {cpu:7.2f} s of CPU; EER of the first '
      f'[{low:.3%}, {high:.3%}]'
    )


def cover(tests: int):
  """Share of 95 % intervals that hold the true EER."""
  print(f'coverage of 95 % intervals, {tests} tests:')
  for speakers, attacks in ((20, 6), (48, 13)):
    truth = true_eer()
    inside = {'trials': 0, 'speakers': 0, 'speakers and attacks': 0}
    for test in range(tests):
      random = np.random.default_rng([speakers, test])
      scores, label, speaker, attack = simulate(
        random, speakers, attacks, 20, 3
      )
      for name, given in (
        ('trials', {}),
        ('speakers', dict(speaker=speaker)),
        ('speakers and attacks', dict(speaker=speaker, attack=attack)),
      ):
        found = clustered.resampled_metrics(
          scores[None], label, resamples=200, seed=test, **given
        )
        low, high = clustered.interval(found['eer'][0])
        inside[name] += low <= truth <= high
    shares = ', '.join(f'{k} {v / tests:.1%}' for k, v in inside.items())
    print(f'  {speakers} speakers, {attacks} attacks: {shares}')


MEAN, SPEAKER, ATTACK, TRIAL = 3.0, 0.5, 0.7, 1.0  # mean and deviations


def simulate(random, speakers, attacks, bonafide, spoof):
  """Scores with effects of speakers and attacks.

  Args:
    random: numpy generator.
    speakers: how many; each is spoofed by each attack.
    attacks: how many.
    bonafide: trials per speaker.
    spoof: trials per speaker and attack.

  Returns:
    (scores, labels, speakers, attacks), vectors.
  """
  real = np.repeat(np.arange(speakers), bonafide)
  pairs = np.repeat(np.arange(speakers * attacks), spoof)
  speaker = np.concatenate([real, pairs // attacks])
  attack = np.concatenate([np.full(len(real), attacks), pairs % attacks])
  label = (attack == attacks).astype(np.int32)
  of_speaker = SPEAKER * random.normal(size=(2, speakers))
  of_attack = np.append(ATTACK * random.normal(size=attacks), MEAN)
  scores = of_speaker[label, speaker] + of_attack[attack]
  return scores + TRIAL * random.normal(size=len(label)), label, speaker, attack


def true_eer() -> float:
  """EER of the population that `simulate` draws from: both are normal."""
  bonafide = np.hypot(SPEAKER, TRIAL)
  spoof = np.hypot(bonafide, ATTACK)
  return statistics.NormalDist().cdf(-MEAN / (bonafide + spoof))


if __name__ == '__main__':
  main()
