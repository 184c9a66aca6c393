"""How long the bootstrap over speakers and attacks takes, and whether it holds.

  python benchmarks/bootstrap.py
  python benchmarks/bootstrap.py --protocol=EVAL.trl.txt --scores A.txt B.txt

Without score files two systems of the size of ASVspoof 2019 LA eval are
simulated. The coverage is that of tests whose speakers and attacks are drawn
from a population with a known EER: the share of 95 % intervals that hold it, as
plain percentiles and as `clustered.interval` gives them.
"""

import argparse
import statistics
import time

import numpy as np

from jaxspoof.metrics import clustered, clusters, table, tdcf
from jaxspoof.score_files import protocols, score_lists

# With the official verification system of ASVspoof 2019 LA eval.
METRICS = table.forms(tdcf.AsvRates(0.02458101, 0.02460467, 0.76065245))


def main():
  """Print both tables."""
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--scores', nargs='+')
  parser.add_argument('--protocol')
  parser.add_argument('--resamples', type=int, default=1_000)
  parser.add_argument('--tests', type=int, default=400, help='of the coverage')
  options = parser.parse_args()
  if options.scores:
    protocol = options.protocol and protocols.read(options.protocol)
    files = [score_lists.read(x, protocol or None) for x in options.scores]
    scores = [x.scores for x in files]
    trials = files[0].label, files[0].speaker, files[0].attack
  else:
    one, *trials = simulate(
      np.random.default_rng(0), 48, 13, bonafide=153, spoof=102
    )
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
    low, high = clustered.interval(
      found['eer'][0], clusters=clustered.clusters_of(label, **given)
    )
    print(
      f'  {name:22} {seconds:7.2f} s, {cpu:7.2f} s of CPU; EER of the first '
      f'[{low:.3%}, {high:.3%}]'
    )


def cover(tests: int):
  """Share of 95 % intervals that hold the true EER, and how wide they are."""
  print(
    f'{tests} tests each: how often a 95 % interval holds the true EER (median '
    'width)'
  )
  print(f'  {"":36}' + ''.join(f'{name:>24}' for name in KINDS))
  for speakers, attacks in ((20, 6), (48, 13)):
    for eer in (0.01, 0.2):
      found = coverage(speakers, attacks, eer, tests)
      cells = [f'{share:.1%} ({width:.2%})' for share, width in found]
      print(
        f'  {speakers} speakers, {attacks:2} attacks, EER {eer:5.1%}:   '
        + ''.join(f'{cell:>24}' for cell in cells),
        flush=True,
      )


# What is drawn, and whether percentiles are expanded for few clusters.
KINDS = {
  'trials': ((), False),
  'speakers': (('speaker',), False),
  'speakers and attacks': (('speaker', 'attack'), False),
  'the same, expanded': (('speaker', 'attack'), True),
}


def coverage(
  speakers: int,
  attacks: int,
  eer: float,
  tests: int,
  resamples: int = 1_000,
  kinds=tuple(KINDS),
) -> list[tuple[float, float]]:
  """Coverage and median width of intervals, of each of some `KINDS`.

  Which speakers and attacks each resample draws is the same in all tests, whose
  trials are independent of each other: it has to be worked out only once.
  """
  mean = mean_of(eer)
  _, label, *drawn = simulate(np.random.default_rng(0), speakers, attacks)
  columns = dict(zip(('speaker', 'attack'), drawn, strict=True))
  plans = {}
  for given in {KINDS[kind][0] for kind in kinds}:
    cells = clusters.make_cells(label, **{n: columns[n] for n in given})
    # Trials one by one are many cells.
    count = resamples if given else min(resamples, 200)
    plans[given] = cells, clusters.weights(cells, 0, np.arange(count))
  ends = {kind: [] for kind in kinds}
  for test in range(tests):
    random = np.random.default_rng([speakers, test])
    scores, *_ = simulate(random, speakers, attacks, mean)
    values = {
      given: clustered.drawn_metrics(scores, label, cells, weights)['eer']
      for given, (cells, weights) in plans.items()
    }
    for kind in kinds:
      given, expanded = KINDS[kind]
      number = None
      if expanded:
        number = clustered.clusters_of(label, **{n: columns[n] for n in given})
      ends[kind].append(clustered.interval(values[given], clusters=number))
  found = []
  for kind in kinds:
    low, high = np.array(ends[kind]).T
    inside = (low <= eer) & (eer <= high)
    found.append((inside.mean(), np.median(high - low)))
  return found


SPEAKER, ATTACK, TRIAL = 0.5, 0.7, 1.0  # deviations of scores


def simulate(random, speakers, attacks, mean=3.0, bonafide=20, spoof=3):
  """Scores with effects of speakers and attacks.

  Args:
    random: numpy generator.
    speakers: how many; each is spoofed by each attack.
    attacks: how many.
    mean: of bona fide trials; that of spoofs is 0.
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
  of_attack = np.append(ATTACK * random.normal(size=attacks), mean)
  scores = of_speaker[label, speaker] + of_attack[attack]
  return scores + TRIAL * random.normal(size=len(label)), label, speaker, attack


def mean_of(eer: float) -> float:
  """Mean with which the population of `simulate` has an EER."""
  bonafide = np.hypot(SPEAKER, TRIAL)
  spoof = np.hypot(bonafide, ATTACK)
  return -statistics.NormalDist().inv_cdf(eer) * (bonafide + spoof)


if __name__ == '__main__':
  main()
