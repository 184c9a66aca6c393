"""Are explanations of detectors worth anything? Three tests on real clips.

python benchmarks/explain.py runs/aasist_quickstart --clips=40

1. Completeness: do the tiles sum to the falls of the score when each group of
   them is silenced?
2. Randomised weights (Adebayo et al. 2018, arXiv 1810.03292): does a network of
   the same shape that has learned nothing give another map? It is compared by
   the rank correlation of tiles.
3. Silencing: the twentieth of the tiles that speak most for the decision is
   lowered by 30 dB, then as many other tiles of the same energies, and as many
   at random. Which of them moves the score more? It holds where the first moves
   it against the decision, and more than the two others.

Clips are of a split of a corpus that is built, by default dev of `quickstart`.
"""

import argparse
import sys
from collections.abc import Iterator

import jax
import numpy as np
from scipy import stats as stats_lib

from jaxspoof import audio
from jaxspoof.checkpoints import open_checkpoint
from jaxspoof.data import pipeline
from jaxspoof.detector import Detector
from jaxspoof.machine import programs
from jaxspoof.training import state


def main(argv: list[str] | None = None) -> None:
  """Measures, and prints."""
  options = parser().parse_args(argv)
  programs.keep()
  name, module, given = open_checkpoint(options.checkpoint)
  graphdef, params, stats = state.split(module)
  detector, untrained = (
    Detector(name, graphdef, some, stats, batch=1, **given)
    for some in (params, shuffled(params))
  )
  rows = []
  for wave in waves(options, detector.samples):
    rows.append(measure(detector, untrained, wave))
    print('.', end='', file=sys.stderr, flush=True)
  print(file=sys.stderr)
  of = options.input or f'{options.corpus}, split {options.split}'
  print(f'{options.checkpoint}: {name}, {len(rows)} clips of {of}')
  print('medians, in nats of its LLR, or in units of a score without one')
  print(report(rows))


def waves(options, samples: int) -> Iterator[np.ndarray]:
  """Clips that are spread over a corpus, or over a folder."""
  if options.input:
    clips = audio.find(options.input).files
  else:
    source = pipeline.open_source(
      options.corpus, options.split, options.data_dir
    )
    clips = [(lambda n=n: source[n]['audio']) for n in range(len(source))]
  for n in np.linspace(0, len(clips) - 1, options.clips).astype(int):
    clip = clips[n] if options.input else clips[n]()
    yield audio.load(clip, 'clip')[:samples]


def shuffled(params):
  """Weights whose values are where they do not belong."""
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: rng.permuted(np.asarray(x).ravel()).reshape(x.shape), params
  )


def measure(
  detector: Detector, untrained: Detector, wave: np.ndarray
) -> dict[str, float]:
  """What the three tests give for a clip."""
  found = detector.explain(wave, audio.SAMPLE_RATE)
  other = untrained.explain(wave, audio.SAMPLE_RATE).attribution
  given = found.attribution
  return {
    'sum': abs(given.tiles_TxF.sum() + given.error),
    'turns': np.abs(given.tiles_TxF).sum(),
    'error': abs(given.error),
    'gradients': given.steps,
    'correlation': float(
      stats_lib.spearmanr(given.tiles_TxF, other.tiles_TxF, axis=None).statistic
    ),
    **vars(found.deletion),
    'holds': found.deletion.holds,
  }


def report(rows: list[dict[str, float]]) -> str:
  """The table."""
  of = {name: np.array([row[name] for row in rows]) for name in rows[0]}
  middle = {name: np.median(values) for name, values in of.items()}
  lines = [
    f'sum of the falls of the score                 {middle["sum"]:.2f}',
    f'sum of absolute values of all tiles           {middle["turns"]:.2f}',
    f'  missed by the sum of all tiles              {middle["error"]:.3f}',
    f'gradients                                     {middle["gradients"]:.0f}',
    f'rank correlation with shuffled weights        '
    f'{middle["correlation"]:+.3f} ({of["correlation"].min():+.3f} to '
    f'{of["correlation"].max():+.3f})',
    'silenced, the score moves against the decision by',
  ]
  for name in ('marked', 'as_loud', 'random'):
    lines.append(f'  {name.replace("_", " "):<10} {middle[name]:+.2f}')
  for name in ('as_loud', 'random'):
    more = (of['marked'] > of[name]).mean()
    far = (np.abs(of['marked']) > np.abs(of[name])).mean()
    lines.append(
      f'marked moves it more against it than {name.replace("_", " ")}: '
      f'{more:.0%} of the clips; more in either direction: {far:.0%}'
    )
  lines.append(f'it holds: {of["holds"].mean():.0%} of the clips')
  return '\n'.join(lines)


def parser() -> argparse.ArgumentParser:
  """The command line."""
  made = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  made.add_argument('checkpoint', help='as for detect.py')
  made.add_argument('--clips', type=int, default=40, help='how many')
  made.add_argument('--corpus', default='quickstart')
  made.add_argument('--split', default='dev')
  made.add_argument('--input', help='a folder of clips in place of a corpus')
  made.add_argument('--data_dir', help='where the corpus is built')
  return made


if __name__ == '__main__':
  main()
